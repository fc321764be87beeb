"""The compiled meta-step: the same numbers however it is run."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from maml_tf.core.losses import mean_squared_error
from maml_tf.core.maml import MetaGradient, Task, task_meta_gradient
from maml_tf.core.meta_step import MetaStep
from maml_tf.core.prediction import predict
from maml_tf.layers.normalization import (
    BatchNormalization,
    use_exact_normalization,
)
from maml_tf.models import dense_net
from maml_tf.tasks.sinusoids import Sinusoids

BATCH = 4


def meta_batches(count, first=0):
    tasks = Sinusoids(5).tasks(first * BATCH, count * BATCH)
    return tf.nest.map_structure(
        lambda x: x.reshape(count, BATCH, *x.shape[1:]), tasks
    )


def make(**kwargs):
    model = dense_net(1, (8,), 1)
    for variable in model.trainable_variables:
        rng = np.random.default_rng(variable.shape[-1])
        variable.assign(rng.standard_normal(variable.shape))
    task_gradient = functools.partial(
        task_meta_gradient, mean_squared_error(model), alpha=0.01, num_steps=2
    )
    optimizer = keras.optimizers.Adam(0.01)
    example = tf.nest.map_structure(lambda x: x[0], meta_batches(1))
    return model, MetaStep(model, optimizer, task_gradient, example, **kwargs)


def run(step, num_steps):
    """Takes meta-steps through calls of whatever size the step has."""
    losses, done = [], 0
    while done < num_steps:
        count = min(step.steps_per_call, num_steps - done)
        tasks = meta_batches(step.steps_per_call, first=done)
        losses.append(step(tasks, count)["post_update"])
        done += count
    return np.concatenate(losses)


@pytest.fixture(scope="module")
def reference():
    model, step = make(task_loop="unrolled", jit_compile=False)
    return run(step, 60), model.get_weights()


@pytest.mark.parametrize(
    ("task_loop", "jit_compile"),
    [("vectorized", True), ("vectorized", False), ("mapped", False)],
)
def test_loops_and_compilers_agree(reference, task_loop, jit_compile):
    model, step = make(task_loop=task_loop, jit_compile=jit_compile)
    losses, weights = reference
    np.testing.assert_allclose(run(step, 60), losses, rtol=2e-3)
    for a, b in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3)


def test_a_call_may_take_fewer_steps_without_being_traced_again():
    model, step = make()
    assert (step.task_loop, step.jit_compile) == ("vectorized", True)
    full = meta_batches(step.steps_per_call)
    other_model, other = make()
    step(full, 7)
    for count in (3, 4):
        rest = meta_batches(other.steps_per_call, first=0 if count == 3 else 3)
        assert other(rest, count)["pre_update"].shape == (count,)
    for a, b in zip(
        model.get_weights(), other_model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert step.num_traces == other.num_traces == 1


def test_a_batch_is_not_taken_twice():
    _, step = make()
    with pytest.raises(ValueError, match="must be stacked 50"):
        step(meta_batches(1), 50)


def test_only_weights_and_optimizer_change():
    model = keras.Sequential(
        [
            keras.Input((1,)),
            keras.layers.Dense(4),
            BatchNormalization(),
            keras.layers.Dense(1),
        ]
    )
    moving = [v.numpy() for v in model.non_trainable_variables]
    before = [v.numpy() for v in model.trainable_variables]
    task_gradient = functools.partial(
        task_meta_gradient, mean_squared_error(model), alpha=0.1, num_steps=1
    )
    tasks = meta_batches(1)
    step = MetaStep(
        model,
        keras.optimizers.SGD(0.1),
        task_gradient,
        tf.nest.map_structure(lambda x: x[0], tasks),
        jit_compile=False,
    )
    step(tasks)
    for a, b in zip(moving, model.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.abs(before[0] - model.trainable_variables[0]).max() > 0


def test_normalization_without_a_second_derivative_is_refused():
    model = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(2, name="first"),
            keras.layers.BatchNormalization(name="inexact"),
        ]
    )
    spec = tf.TensorSpec((3, 4, 2))

    def loss(theta, batch):  # a user's own, not made by `supervised`
        return tf.reduce_mean(predict(model, theta, batch))

    arguments = (
        model,
        keras.optimizers.SGD(),
        functools.partial(task_meta_gradient, loss, alpha=0.1, num_steps=1),
        Task(spec, spec),
    )
    with pytest.raises(ValueError, match="inexact.*use_exact_normalization"):
        MetaStep(*arguments)
    use_exact_normalization(model)
    assert MetaStep(*arguments).task_loop == "vectorized"


def test_a_model_that_xla_cannot_compile_runs_without_it(caplog):
    model = dense_net(1, (4,), 1)

    def loss(theta, batch):
        strings = tf.strings.as_string(batch.targets[0, 0])  # not for XLA
        scale = tf.strings.to_number(strings) * 0 + 1
        return scale * mean_squared_error(model)(theta, batch)

    tasks = meta_batches(50)
    step = MetaStep(
        model,
        keras.optimizers.SGD(0.1),
        functools.partial(task_meta_gradient, loss, alpha=0.1, num_steps=1),
        tf.nest.map_structure(lambda x: x[0], tasks),
        task_loop="mapped",
        jit_compile=True,
    )
    losses = step(tasks, 50)
    assert not step.jit_compile
    assert np.isfinite(losses["post_update"]).all()
    assert "without it" in caplog.text


@pytest.mark.parametrize("first_order", [False, True])
def test_xla_is_left_out_of_second_derivatives_of_max_pooling(
    first_order, caplog
):
    model = keras.Sequential(
        [
            keras.Input((1,)),
            keras.layers.Dense(64, "tanh"),
            keras.layers.Reshape((16, 4)),
            keras.layers.MaxPooling1D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )
    step = MetaStep(
        model,
        keras.optimizers.SGD(0.1),
        functools.partial(
            task_meta_gradient,
            mean_squared_error(model),
            alpha=0.1,
            num_steps=1,
            first_order=first_order,
        ),
        tf.nest.map_structure(lambda x: x[0], meta_batches(1)),
    )
    assert (step.task_loop, step.jit_compile) == ("vectorized", first_order)
    assert ("max-pooling" in caplog.text) is not first_order
    losses = step(meta_batches(step.steps_per_call))
    assert np.isfinite(losses["post_update"]).all()


def test_more_variables_are_learned_behind_theta():
    model = dense_net(1, (4,), 1)
    size = keras.Variable(0.0)
    seen = []

    def task_gradient(parameters, task):
        seen.append(len(parameters))
        return MetaGradient(
            [tf.ones_like(p) for p in parameters],
            {"pre_update": tf.constant(0.0)},
        )

    tasks = Sinusoids(3).tasks(0, 2)
    step = MetaStep(
        model,
        keras.optimizers.SGD(0.5),
        task_gradient,
        example=tasks,
        more_variables=[size],
    )
    step(
        tf.nest.map_structure(
            lambda x: np.stack([x] * step.steps_per_call), tasks
        )
    )
    assert set(seen) == {5}
    assert float(size.value) == -0.5
