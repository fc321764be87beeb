"""The choice of a loop over tasks."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from maml_tf.core.batch import Batch
from maml_tf.core.losses import mean_squared_error
from maml_tf.core.maml import Task, meta_gradient, task_meta_gradient
from maml_tf.core.task_loops import TASK_LOOPS, loops_for, trace_with_best_loop
from maml_tf.layers.convolution import Conv2D
from maml_tf.layers.normalization import BatchNormalization
from maml_tf.layers.normalized_convolution import NormalizedConv2D


def traced(model, *loops):
    loss = mean_squared_error(model)
    rng = np.random.default_rng(0)

    def batch():
        return Batch(
            rng.standard_normal((2, 3, *model.input_shape[1:])).astype("f"),
            rng.standard_normal((2, 3, 1)).astype("f"),
        )

    return trace_with_best_loop(
        lambda loop: (
            lambda theta, tasks: meta_gradient(
                lambda theta, task: task_meta_gradient(
                    loss, theta, task, 0.1, 1
                ),
                theta,
                tasks,
                loop.mean,
            )
        ),
        [tf.convert_to_tensor(v) for v in model.trainable_variables],
        Task(batch(), batch()),
        loops=loops or TASK_LOOPS,
    )


def sequential(shape, *layers):
    return keras.Sequential(
        [keras.Input(shape), *layers, keras.layers.Dense(1)]
    )


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (lambda: sequential((3,), keras.layers.Dense(4)), "vectorized"),
        (
            lambda: sequential((2, 3), keras.layers.GRU(4, unroll=True)),
            "vectorized",
        ),
        (lambda: sequential((4, 3), keras.layers.SimpleRNN(4)), "mapped"),
        (
            lambda: sequential(
                (4, 4, 1), keras.layers.Conv2D(2, 3), keras.layers.Flatten()
            ),
            "mapped",
        ),
    ],
)
def test_the_first_loop_that_traces_is_chosen(model, expected):
    assert traced(model()).name == expected


@pytest.mark.parametrize(
    "build",
    [
        lambda: Conv2D(2, 3, activation="relu"),
        lambda: NormalizedConv2D(Conv2D(2, 3), BatchNormalization()),
    ],
)
@pytest.mark.parametrize("depth", [0, 1])
def test_models_with_convolutions_are_never_vectorized(build, depth):
    # TensorFlow can batch these, as a chain of slow ops.
    layers = [build(), keras.layers.Flatten()]
    for _ in range(depth):
        layers = [keras.Sequential(layers)]
    model = sequential((4, 4, 1), *layers)
    assert traced(model).name == "vectorized"
    assert loops_for(model) == ["mapped", "unrolled"]
    assert loops_for(sequential((3,)))[0] == "vectorized"


def test_the_choice_can_be_overridden():
    model = sequential((3,), keras.layers.Dense(4))
    assert traced(model, "unrolled").name == "unrolled"


def test_an_unknown_loop_is_refused():
    with pytest.raises(ValueError, match="task_loop must be one of.*'threads'"):
        traced(sequential((3,)), "threads")


def test_a_loss_that_fails_raises_its_own_error():
    def build(loop):
        return lambda tasks: loop.each(lambda task: task["absent"], tasks)

    with pytest.raises(KeyError, match="absent"):
        trace_with_best_loop(build, {"x": tf.zeros([2, 3])})
