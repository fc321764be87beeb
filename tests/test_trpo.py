import keras
import numpy as np
import pytest
import tensorflow as tf

from maml_tf.rl.linearization import (
    Linearization,
    adapted_surrogate_and_kl,
)
from maml_tf.rl.objectives import Experience
from maml_tf.rl.policy import GaussianPolicy
from maml_tf.rl.trpo import flat, unflat

TASKS, SAMPLES, OBSERVATION, ACTION = 3, 30, 2, 2
ALPHA, MAX_KL = 0.3, 0.01


def make_policy(activation="tanh"):
    keras.utils.set_random_seed(0)
    policy = GaussianPolicy(
        keras.Sequential(
            [
                keras.Input((OBSERVATION,)),
                keras.layers.Dense(7, activation),
                keras.layers.Dense(ACTION),
            ]
        )
    )
    policy.log_std.assign([-0.3, 0.2])
    return policy


def draw(seed, masked=4, padding=0.0):
    """Experience whose last `masked` samples of task 0 do not count."""
    rng = np.random.default_rng(seed)
    mask = np.ones((TASKS, SAMPLES))
    mask[0, SAMPLES - masked :] = 0

    def values(*dims):
        x = rng.normal(size=(TASKS, SAMPLES, *dims))
        x[mask == 0] = padding
        return tf.constant(x)

    return Experience(
        values(OBSERVATION), values(ACTION), values(), tf.constant(mask)
    )


@pytest.fixture(params=[1, 2], ids=["one update", "two updates"])
def inner(request):
    return [draw(10 + i) for i in range(request.param)]


@pytest.fixture
def double(float64):
    """A tanh policy in float64."""
    policy = make_policy()
    return policy, [tf.convert_to_tensor(v) for v in policy.trainable_variables]


def setting(policy, theta, inner, outer, **options):
    recorded = Linearization(policy, theta, inner, outer, ALPHA, **options)
    objective = adapted_surrogate_and_kl(
        policy, inner, outer, recorded.reference, ALPHA, **options
    )
    return recorded, objective


def test_surrogate_gradient_is_that_of_differentiating_all_of_it(double, inner):
    policy, theta = double
    recorded, objective = setting(policy, theta, inner, draw(1))
    with tf.GradientTape() as tape:
        tape.watch(theta)
        loss, _ = objective(theta)
    expected = flat(tape.gradient(loss, theta))
    gradient, surrogate = recorded.surrogate_gradient()
    np.testing.assert_allclose(flat(gradient), expected, atol=1e-12)
    np.testing.assert_allclose(surrogate, loss, rtol=1e-12)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_kl_product_is_the_hessian_of_the_kl(float64, inner, activation):
    policy = make_policy(activation)
    theta = [tf.convert_to_tensor(v) for v in policy.trainable_variables]
    recorded, objective = setting(policy, theta, inner, draw(1))
    vector = unflat(
        tf.constant(np.random.default_rng(2).normal(size=flat(theta).shape)),
        theta,
    )
    with tf.GradientTape() as outer_tape:
        outer_tape.watch(theta)
        with tf.GradientTape() as tape:
            tape.watch(theta)
            _, kl = objective(theta)
        gradient = tape.gradient(kl, theta)
        slope = tf.reduce_sum(flat(gradient) * flat(vector))
    expected = flat(outer_tape.gradient(slope, theta))
    product = flat(recorded.kl_product(vector))
    assert np.abs(product - expected).max() < 1e-6 * np.abs(expected).max()
    assert np.abs(expected).max() > 1e-2
