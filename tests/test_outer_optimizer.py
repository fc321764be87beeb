"""The outer optimizer does in `fit` what it does in Keras' own."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import optimizers

from maml_tf.core.batch import Batch
from maml_tf.core.maml import Task
from maml_tf.core.meta_step import MetaStep
from maml_tf.errors import ConfigError
from maml_tf.learner.learner import Learner
from maml_tf.learner.outer_optimizer import outer_optimizer

STEPS = 5
RNG = np.random.default_rng(0)
X = RNG.normal(size=(STEPS, 4, 3, 1)).astype("float32")
Y = X.sum(2) + RNG.normal(size=(STEPS, 4, 1)).astype("float32")
# With it, theta' is theta, so that MAML is ordinary training.
NO_UPDATE = 1e-30


class Batches:
    """The batches of ordinary training, one to a task."""

    def tasks(self, first, count):
        chosen = np.arange(first, first + count) % STEPS
        return ((X[chosen], Y[chosen]),) * 2


def net(policy=None):
    """A convolution keeps XLA away, which takes seconds to compile."""
    keras.utils.set_random_seed(3)
    layers = [
        keras.layers.Conv1D(2, 2, activation="tanh", dtype=policy),
        keras.layers.Flatten(dtype=policy),
        keras.layers.Dense(1, kernel_constraint="unit_norm", dtype=policy),
    ]
    return keras.Sequential([keras.Input((3, 1)), *layers])


def by_keras(optimizer, model):
    model.compile(optimizer, "mse", run_eagerly=True)
    data = tf.data.Dataset.from_tensor_slices((X, Y))
    model.fit(data, shuffle=False, verbose=0)
    return model.get_weights()


def fit(optimizer, model, steps=STEPS, **options):
    Learner(model, "mse", NO_UPDATE).fit(
        Batches(),
        steps,
        meta_batch_size=1,
        optimizer=optimizer,
        progress=False,
        **options,
    )
    return model.get_weights()


def no_decay_of_biases():
    optimizer = optimizers.SGD(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def of_two():
    return optimizers.MultiOptimizer(
        optimizers.OptimizerMap(
            optimizers.SGD(0.1, use_ema=True), {".*bias": optimizers.Adam(0.05)}
        )
    )


OPTIMIZERS = sorted(
    name
    for name, kind in vars(optimizers).items()
    if isinstance(kind, type)
    and issubclass(kind, optimizers.Optimizer)
    and name not in ("Optimizer", "LossScaleOptimizer", "MultiOptimizer")
)
OPTIONS = {
    "loss scale": lambda: optimizers.SGD(0.1, loss_scale_factor=1000.0),
    "dynamic loss scale": lambda: optimizers.LossScaleOptimizer(
        optimizers.Adam(0.05), dynamic_growth_steps=2
    ),
    "averages": lambda: optimizers.SGD(
        0.1, 0.9, use_ema=True, ema_momentum=0.8
    ),
    "averages now and then": lambda: optimizers.SGD(
        0.1, use_ema=True, ema_momentum=0.8, ema_overwrite_frequency=2
    ),
    "averages and loss scale": lambda: optimizers.LossScaleOptimizer(
        optimizers.SGD(0.1, use_ema=True, ema_momentum=0.8)
    ),
    "weight decay": no_decay_of_biases,
    "accumulation": lambda: optimizers.Adam(0.1, gradient_accumulation_steps=2),
    "norm": lambda: optimizers.SGD(0.1, clipnorm=0.1),
    "global norm": lambda: optimizers.SGD(0.1, global_clipnorm=0.1),
    "values": lambda: optimizers.SGD(0.1, clipvalue=0.05),
    "schedule": lambda: optimizers.Adam(
        optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
    ),
    "rate by a function": lambda: optimizers.SGD(lambda: 0.05),
    "two optimizers": of_two,
}


@pytest.mark.filterwarnings("ignore:.*`shuffle=True` was passed")
@pytest.mark.parametrize(
    "make",
    [
        *(
            pytest.param(
                getattr(optimizers, name), id=name, marks=pytest.mark.slow
            )
            for name in OPTIMIZERS
        ),
        *(pytest.param(make, id=name) for name, make in OPTIONS.items()),
    ],
)
def test_it_moves_the_weights_as_in_keras(make):
    before, expected = net().get_weights(), by_keras(make(), net())
    assert any((a != b).any() for a, b in zip(before, expected, strict=True))
    for found, value in zip(fit(make(), net()), expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-6)


def test_small_float16_gradients_vanish_unless_the_loss_is_scaled():
    model = net("mixed_float16")
    start = model.get_weights()
    scaled = optimizers.SGD(1e9, loss_scale_factor=2.0**20)

    def tiny(targets, outputs):
        return 1e-9 * tf.reduce_mean(tf.square(outputs - targets))

    learner = Learner(model, tiny, NO_UPDATE)
    task = Task(*(Batch(*part) for part in Batches().tasks(0, 1)))
    gradient = functools.partial(learner.method.task_gradient, learner.network)
    moved = []
    for optimizer in (
        optimizers.LossScaleOptimizer(optimizers.SGD(1e9), 1.0),
        scaled,
    ):
        model.set_weights(start)
        # Not by `fit`, which would add a scale to the second.
        step = MetaStep(model, optimizer, gradient, task)
        step(tf.nest.map_structure(lambda x: x[None], task))
        moved.append(np.abs(model.get_weights()[0] - start[0]).max())
    assert moved[0] == 0
    assert moved[1] > 1e-3


def test_averages_are_resumed_from_the_weights_themselves(tmp_path):
    def averaging():
        return optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9)

    whole = fit(averaging(), net())
    parts = net()
    for steps in (2, STEPS, STEPS):  # the last finds nothing left to do
        fit(averaging(), parts, steps, directory=tmp_path / "run")
    for found, value in zip(parts.get_weights(), whole, strict=True):
        np.testing.assert_array_equal(found, value)


def test_averages_are_validated_with_keras_callback():
    learner = Learner(net(), "mse", NO_UPDATE)
    history = learner.fit(
        Batches(),
        STEPS,
        meta_batch_size=1,
        optimizer=optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9),
        validation=Batches(),
        callbacks=[keras.callbacks.SwapEMAWeights()],
        progress=False,
    )
    after = learner.evaluate(Batches(), 200).mean()  # of the averages
    assert history.validation[-1]["loss"] == pytest.approx(after, rel=1e-4)


def test_float16_scales_the_loss_as_in_keras():
    policy = keras.DTypePolicy("mixed_float16")
    given, model = optimizers.SGD(0.1), net()
    wrapped = outer_optimizer(given, policy, model.trainable_variables)
    assert isinstance(wrapped, optimizers.LossScaleOptimizer)
    assert wrapped.inner_optimizer is given
    plain = optimizers.SGD(0.1)
    policy = keras.DTypePolicy("mixed_bfloat16")
    assert outer_optimizer(plain, policy, model.trainable_variables) is plain


@pytest.mark.parametrize(
    "given",
    [
        "sdg",
        "loss",
        {"class_name": "SGDD", "config": {}},
        {},
        3,
        optimizers.SGD,
        [1],
    ],
)
def test_what_is_no_optimizer(given):
    with pytest.raises(ConfigError, match="must be a Keras optimizer"):
        fit(given, net())


def test_a_configuration_is_kept_for_later_calls():
    learner = Learner(net(), "mse", NO_UPDATE)
    given = {"class_name": "SGD", "config": {"learning_rate": 0.1}}
    first = learner.trainer.optimizer(given)
    assert learner.trainer.optimizer(dict(given)) is first


def test_an_optimizer_that_keras_refuses_to_build():
    inner = optimizers.LossScaleOptimizer(optimizers.SGD())
    with pytest.raises(ConfigError, match="cannot be used .*MultiOptimizer"):
        fit(optimizers.MultiOptimizer(lambda variable: inner), net())
