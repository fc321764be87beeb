"""Agreement with what the original graph computed (tests/parity/README.md)."""

import functools
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import SHARED

from maml_tf.core.batch import Batch
from maml_tf.core.losses import cross_entropy, mean_squared_error
from maml_tf.core.maml import (
    Task,
    joint_gradient,
    meta_gradient,
    task_meta_gradient,
)
from maml_tf.core.task_loops import TASK_LOOPS
from maml_tf.layers.normalization import which_adapt
from maml_tf.models import conv_net, dense_net

HERE = pathlib.Path(__file__).parent / "parity"
OMNIGLOT = SHARED / "reference" / "parity" / "c.npz"

DENSE_NAMES = ["w1", "b1", "w2", "b2", "w3", "b3"]
CONV_NAMES = [
    name for k in "1234" for name in (f"conv{k}", f"b{k}", f"beta{k}")
] + ["w5", "b5"]


class Case:
    """One file of the original's numbers, with our model set up the same."""

    def __init__(self, path):
        self.data = dict(np.load(path))
        self.num_steps = int(self.data["config/num_updates"])
        alpha = float(self.data["config/update_lr"])
        if str(self.data["config/datasource"]) == "omniglot":
            self.model = conv_net((28, 28, 1), 5)
            loss = cross_entropy(self.model, num_shots=1)
            self.names = CONV_NAMES
        else:
            self.model = dense_net(1, (40, 40), 1)
            loss = mean_squared_error(self.model)
            self.names = DENSE_NAMES
        for variable, name in zip(
            self.model.trainable_variables, self.names, strict=True
        ):
            variable.assign(self.data[f"init/{name}"])
        self.tasks = Task(self.batch("a"), self.batch("b"))
        if bool(self.data["config/pretrain"]):
            self.task_gradient = functools.partial(joint_gradient, loss)
        else:
            self.task_gradient = functools.partial(
                task_meta_gradient,
                loss,
                alpha=alpha,
                num_steps=self.num_steps,
                adapts=which_adapt(self.model),
                first_order=bool(self.data["config/stop_grad"]),
            )

    def batch(self, letter):
        inputs = self.data[f"batch/input{letter}"].astype("float64")
        inputs = inputs.reshape(*inputs.shape[:2], *self.model.input_shape[1:])
        targets = self.data[f"batch/label{letter}"].astype("float64")
        return Batch(tf.constant(inputs), tf.constant(targets))

    def compute(self):
        theta = [
            tf.convert_to_tensor(v) for v in self.model.trainable_variables
        ]
        return tf.function(
            lambda theta, tasks: meta_gradient(
                self.task_gradient, theta, tasks, TASK_LOOPS["mapped"].mean
            ),
            autograph=False,
        ).get_concrete_function(theta, self.tasks)

    def original(self, key):
        return self.data[f"f64/{key}"]


FILES = [HERE / f"{name}.npz" for name in "abj"] + [
    pytest.param(
        OMNIGLOT,
        marks=pytest.mark.skipif(
            not OMNIGLOT.exists(), reason="needs the reference data"
        ),
    )
]


@pytest.mark.parametrize("path", FILES, ids=["a", "b", "j", "c"])
def test_losses_gradients_and_adam_steps_are_the_originals(path, float64):
    case = Case(path)
    compute = case.compute()
    # The original's float64 run took Adam's constants as float32.
    beta_1, beta_2, epsilon = (float(np.float32(x)) for x in (0.9, 0.999, 1e-8))
    adam = keras.optimizers.Adam(1e-3, beta_1, beta_2, epsilon)
    for step in (1, 2, 3):
        result = compute(
            [tf.convert_to_tensor(v) for v in case.model.trainable_variables],
            case.tasks,
        )
        if step == 1:
            check_first(case, result)
        adam.apply(result.gradient, case.model.trainable_variables)
        if step in (1, 3):
            check_weights(case, f"adam{step}")


def check_first(case, result):
    losses = result.losses
    np.testing.assert_allclose(
        losses["pre_update"], case.original("total_loss1"), rtol=1e-6
    )
    if "post_update" in losses:
        np.testing.assert_allclose(
            losses["post_update"], case.original("meta_objective"), rtol=1e-6
        )
    for gradient, name in zip(result.gradient, case.names, strict=True):
        expected = case.original(f"grad/{name}")
        scale = np.abs(expected).max()
        np.testing.assert_allclose(
            gradient, expected, rtol=1e-6, atol=max(1e-6 * scale, 1e-12)
        )


def check_weights(case, tag):
    for variable, name in zip(
        case.model.trainable_variables, case.names, strict=True
    ):
        np.testing.assert_allclose(
            variable, case.original(f"{tag}/{name}"), rtol=1e-6, atol=1e-7
        )
