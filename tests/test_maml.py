"""The inner loop and the meta-gradient against closed forms and differences."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from maml_tf.core.batch import Batch
from maml_tf.core.losses import cross_entropy, mean_squared_error
from maml_tf.core.maml import (
    Task,
    adapt,
    inner_update,
    joint_gradient,
    meta_gradient,
    task_meta_gradient,
)
from maml_tf.core.task_loops import TASK_LOOPS
from maml_tf.layers.normalization import (
    BatchNormalization,
    GroupNormalization,
    LayerNormalization,
    which_adapt,
)
from maml_tf.methods.meta_sgd import meta_sgd_gradient
from maml_tf.models import conv_net, dense_net


def quadratic(theta, center):
    """1/2 (theta - center)' A (theta - center), with A = diag(1, 3)."""
    difference = theta[0] - center
    return 0.5 * tf.reduce_sum(CURVATURE * tf.square(difference))


CURVATURE = np.array([1.0, 3.0])
THETA = np.array([0.7, -1.1])
SUPPORT, QUERY = np.array([0.2, 0.5]), np.array([-0.4, 0.9])
ALPHA = 0.1


def closed_form(num_steps: int, first_order: bool) -> np.ndarray:
    """theta' = c + (1 - alpha a)^S (theta - c), differentiated by hand."""
    decay = (1 - ALPHA * CURVATURE) ** num_steps
    theta_prime = SUPPORT + decay * (THETA - SUPPORT)
    gradient = CURVATURE * (theta_prime - QUERY)
    return gradient if first_order else decay * gradient


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("num_steps", [1, 3])
def test_meta_gradient_of_a_quadratic_is_the_closed_form(
    num_steps, first_order
):
    result = task_meta_gradient(
        quadratic,
        [tf.constant(THETA)],
        Task(tf.constant(SUPPORT), tf.constant(QUERY)),
        ALPHA,
        num_steps,
        first_order=first_order,
    )
    np.testing.assert_allclose(
        result.gradient[0], closed_form(num_steps, first_order), rtol=1e-14
    )


@pytest.mark.parametrize("first_order", [False, True])
def test_meta_sgd_differentiates_by_a_step_size_for_each_element(first_order):
    """theta' = c + (1 - alpha a)^2 (theta - c), d/d alpha by hand."""
    alphas = np.array([0.1, 0.2])
    result = meta_sgd_gradient(
        quadratic,
        [tf.constant(THETA), tf.constant(alphas)],
        Task(tf.constant(SUPPORT), tf.constant(QUERY)),
        2,
        adapts=[True],
        first_order=first_order,
    )
    decay = 1 - alphas * CURVATURE
    start = THETA - SUPPORT
    gradient = CURVATURE * (SUPPORT + decay**2 * start - QUERY)
    by_theta = gradient * (1 if first_order else decay**2)
    # First order: the two gradients of the support loss are constants.
    slope = -CURVATURE * start * (1 + decay if first_order else 2 * decay)
    np.testing.assert_allclose(result.gradient[0], by_theta)
    np.testing.assert_allclose(result.gradient[1], gradient * slope)


@pytest.mark.parametrize("sequence", [list, tuple])
def test_step_sizes_are_given_to_what_adapts(sequence):
    theta = [tf.constant([1.0]), tf.constant([1.0]), tf.constant([1.0])]
    adapted, _ = inner_update(
        lambda theta, _: tf.add_n(theta)[0],
        theta,
        None,
        sequence([0.5, 0.0, tf.constant([0.25])]),
        adapts=[True, False, True],
    )
    assert [float(t[0]) for t in adapted] == [0.5, 1.0, 0.75]


def test_losses_are_those_before_the_first_and_after_the_last_update():
    task = Task(tf.constant(SUPPORT), tf.constant(QUERY))
    result = task_meta_gradient(quadratic, [tf.constant(THETA)], task, ALPHA, 2)
    theta_prime = SUPPORT + (1 - ALPHA * CURVATURE) ** 2 * (THETA - SUPPORT)
    np.testing.assert_allclose(
        [result.losses["pre_update"], result.losses["post_update"]],
        [quadratic([THETA], SUPPORT), quadratic([theta_prime], QUERY)],
        rtol=1e-14,
    )


def test_adapt_takes_other_data_at_each_step():
    centers = [tf.constant(SUPPORT), tf.constant(QUERY)]
    adaptation = adapt(quadratic, [tf.constant(THETA)], centers, ALPHA)
    one = THETA - ALPHA * CURVATURE * (THETA - SUPPORT)
    two = one - ALPHA * CURVATURE * (one - QUERY)
    np.testing.assert_allclose(adaptation.iterates[-1][0], two, rtol=1e-14)
    assert len(adaptation.iterates) == 3
    assert len(adaptation.losses) == 2


def test_what_does_not_adapt_stays_but_gets_a_meta_gradient():
    def loss(theta, center):
        return tf.reduce_sum(theta[1] * tf.square(theta[0] - center))

    theta = [tf.constant(THETA), tf.constant(2.0, tf.float64)]
    task = Task(tf.constant(SUPPORT), tf.constant(QUERY))
    theta_prime, _ = inner_update(
        loss, theta, task.support, ALPHA, adapts=[True, False]
    )
    assert theta_prime[1] is theta[1]
    assert np.abs(theta_prime[0] - theta[0]).min() > 0
    result = task_meta_gradient(
        loss, theta, task, ALPHA, 1, adapts=[True, False]
    )
    assert abs(float(result.gradient[1])) > 0


def test_a_parameter_that_the_loss_ignores_stays_and_has_gradient_zero():
    theta = [tf.constant(THETA), tf.constant(5.0, tf.float64)]
    task = Task(tf.constant(SUPPORT), tf.constant(QUERY))
    theta_prime, _ = inner_update(quadratic, theta, task.support, ALPHA)
    assert float(theta_prime[1]) == 5.0
    result = task_meta_gradient(quadratic, theta, task, ALPHA, 2)
    assert float(result.gradient[1]) == 0.0


def dense():
    return dense_net(2, (8, 8), 1), mean_squared_error, regression((2,))


def conv_batch_norm_max_pool():
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(4, 3, padding="same"),
            BatchNormalization(epsilon=1e-3),
            keras.layers.ReLU(),
            keras.layers.MaxPooling2D(2),
            keras.layers.Conv2D(4, 3, padding="same"),
            BatchNormalization(scale=False),
            keras.layers.ReLU(),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    return model, functools.partial(cross_entropy, num_shots=2), images()


def group_and_layer_norm():
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(4, 3, padding="same"),
            GroupNormalization(groups=2),
            keras.layers.ReLU(),
            keras.layers.Flatten(),
            keras.layers.Dense(6),
            LayerNormalization(),
            keras.layers.ReLU(),
            keras.layers.Dense(3),
        ]
    )
    return model, functools.partial(cross_entropy, num_shots=2), images()


def lstm():
    model = keras.Sequential(
        [keras.Input((4, 2)), keras.layers.LSTM(5), keras.layers.Dense(1)]
    )
    return model, mean_squared_error, regression((4, 2))


def embedding():
    model = keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            keras.layers.Embedding(7, 2),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )
    rng = np.random.default_rng(5)
    words = Task(
        *(
            Batch(rng.integers(0, 7, (5, 3)), rng.standard_normal((5, 1)))
            for _ in range(2)
        )
    )
    return model, mean_squared_error, words


def regression(shape, examples=5):
    rng = np.random.default_rng(1)
    return Task(
        *(
            Batch(
                rng.standard_normal((examples, *shape)),
                rng.standard_normal((examples, 1)),
            )
            for _ in range(2)
        )
    )


def images():
    rng = np.random.default_rng(2)
    labels = np.tile(np.eye(3), (2, 1))
    return Task(
        *(Batch(rng.standard_normal((6, 6, 6, 1)), labels) for _ in range(2))
    )


def in_float64(build):
    """Model, loss, task and random parameters of a size that matters."""
    model, make_loss, task = build()
    rng = np.random.default_rng(3)
    theta = [
        tf.constant(0.5 * rng.standard_normal(v.shape))
        for v in model.trainable_variables
    ]
    return (
        model,
        make_loss(model),
        tf.nest.map_structure(tf.constant, task),
        theta,
    )


@pytest.mark.parametrize("num_steps", [1, 2])
@pytest.mark.parametrize(
    "build",
    [dense, conv_batch_norm_max_pool, group_and_layer_norm, lstm, embedding],
)
def test_meta_gradient_matches_finite_differences(float64, build, num_steps):
    model, loss, task, theta = in_float64(build)
    alpha, adapts = 0.05, which_adapt(model)
    compute = tf.function(
        lambda theta: task_meta_gradient(
            loss, theta, task, alpha, num_steps, adapts=adapts
        ),
        autograph=False,
    ).get_concrete_function(theta)
    gradient = compute(theta).gradient
    rng = np.random.default_rng(4)
    step = 1e-6  # kinks of ReLU and max-pool spoil larger ones
    for _ in range(3):
        direction = [rng.standard_normal(t.shape) for t in theta]

        def objective(h, direction=direction):
            moved = [t + h * d for t, d in zip(theta, direction, strict=True)]
            return float(compute(moved).losses["post_update"])

        difference = (objective(step) - objective(-step)) / (2 * step)
        slope = sum(
            float(tf.reduce_sum(g * d))
            for g, d in zip(gradient, direction, strict=True)
        )
        assert slope == pytest.approx(difference, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("build", [dense, conv_batch_norm_max_pool])
def test_first_order_is_the_gradient_at_theta_prime(float64, build):
    model, loss, task, theta = in_float64(build)
    first, second = (
        task_meta_gradient(loss, theta, task, 0.05, 2, first_order=order)
        for order in (True, False)
    )
    theta_prime = adapt(loss, theta, [task.support] * 2, 0.05).iterates[-1]
    at_theta_prime = joint_gradient(loss, theta_prime, Task(task.query, None))
    for a, b in zip(first.gradient, at_theta_prime.gradient, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    change = max(
        np.abs(a - b).max()
        for a, b in zip(first.gradient, second.gradient, strict=True)
    )
    assert change > 1e-3


def test_batch_norm_makes_the_meta_gradient_of_biases_before_it_zero(float64):
    model = conv_net((28, 28, 1), 5, num_filters=8)
    loss = cross_entropy(model, 1)
    rng = np.random.default_rng(5)
    batch = Batch(
        tf.constant(rng.random((5, 28, 28, 1))), tf.eye(5, dtype="float64")
    )
    theta = [tf.convert_to_tensor(v) for v in model.trainable_variables]
    gradient = task_meta_gradient(
        loss, theta, Task(batch, batch), 0.4, 1, adapts=which_adapt(model)
    ).gradient
    biases = [g for g in gradient[:-2] if g.shape.rank == 1][::2]
    assert len(biases) == 4
    for bias in biases:
        assert np.abs(bias).max() < 1e-10
    assert np.abs(gradient[0]).max() > 1e-2


def test_gradients_of_an_embedding_are_tensors(float64):
    _, loss, task, theta = in_float64(embedding)
    joint = joint_gradient(loss, theta, task).gradient
    meta = task_meta_gradient(loss, theta, task, 0.0, 1).gradient
    for t, *gradients in zip(theta, joint, meta, strict=True):
        assert [g.shape for g in gradients] == [t.shape, t.shape]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("task_loop", TASK_LOOPS)
def test_task_loops_eager_and_compiled_agree(task_loop, compiled, float64):
    model, loss, task, theta = in_float64(dense)
    rng = np.random.default_rng(6)
    tasks = tf.nest.map_structure(
        lambda x: tf.constant(rng.standard_normal((3, *x.shape))), task
    )

    def compute(theta, tasks):
        return meta_gradient(
            lambda theta, task: task_meta_gradient(loss, theta, task, 0.05, 2),
            theta,
            tasks,
            TASK_LOOPS[task_loop].mean,
        )

    if compiled:
        compute = tf.function(compute, autograph=False)
    result = compute(theta, tasks)
    one_by_one = [
        task_meta_gradient(
            loss,
            theta,
            tf.nest.map_structure(lambda x, i=i: x[i], tasks),
            0.05,
            2,
        ).gradient
        for i in range(3)
    ]
    for k, gradient in enumerate(result.gradient):
        mean = np.mean([g[k] for g in one_by_one], axis=0)
        np.testing.assert_allclose(gradient, mean, rtol=1e-9, atol=1e-12)


def test_adaptation_leaves_the_model_untouched(float64):
    model, loss, task, _ = in_float64(conv_batch_norm_max_pool)
    theta = [tf.convert_to_tensor(v) for v in model.trainable_variables]
    before = model.get_weights()
    task_meta_gradient(loss, theta, task, 0.5, 3)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_alpha_zero_gives_the_gradient_of_joint_training(float64):
    _, loss, task, theta = in_float64(dense)
    meta = task_meta_gradient(loss, theta, task, 0.0, 3)
    joint = joint_gradient(loss, theta, Task(task.query, None))
    for a, b in zip(meta.gradient, joint.gradient, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14)
