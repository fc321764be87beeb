import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from maml_tf.core.conjugate_gradient import conjugate_gradient, flat, unflat
from maml_tf.rl.linearization import Linearization, adapted_surrogate_and_kl
from maml_tf.rl.losses import Experience, surrogate_and_kl
from maml_tf.rl.policy import GaussianPolicy
from maml_tf.rl.trpo import trpo_step

TASKS, SAMPLES, OBSERVATION, ACTION = 3, 30, 2, 2
ALPHA, MAX_KL = 0.3, 0.01


@functools.cache
def policy_in_float64(activation="tanh"):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
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
    keras.config.set_dtype_policy(before)
    policy.log_std.assign([-0.3, 0.2])
    return policy


def values(policy):
    return [tf.convert_to_tensor(v) for v in policy.trainable_variables]


def draw(seed, masked=4, padding=0.0):
    """Experience whose last `masked` samples of task 0 do not count."""
    rng = np.random.default_rng(seed)
    mask = np.ones((TASKS, SAMPLES))
    mask[0, SAMPLES - masked :] = 0

    def numbers(*dims):
        x = rng.normal(size=(TASKS, SAMPLES, *dims))
        x[mask == 0] = padding
        return tf.constant(x)

    return Experience(
        numbers(OBSERVATION), numbers(ACTION), numbers(), tf.constant(mask)
    )


OUTER = draw(1)


@functools.cache
def compiled_step(**options):
    """(theta, inner, outer) -> the result of trpo_step in float64."""
    policy = policy_in_float64()

    @tf.function(autograph=False)
    def step(theta, inner, outer):
        return trpo_step(policy, theta, inner, outer, ALPHA, MAX_KL, **options)

    return lambda inner, outer: step(values(policy), inner, outer)


def movement(step):
    return flat(step.theta) - flat(values(policy_in_float64()))


def cosine(a, b):
    return tf.reduce_sum(a * b) / (tf.norm(a) * tf.norm(b))


@pytest.mark.parametrize(
    ("activation", "num_updates"), [("tanh", 2), ("relu", 1)]
)
def test_derivatives_are_those_of_differentiating_all_of_it(
    activation, num_updates
):
    inner = [draw(10 + update) for update in range(num_updates)]
    policy = policy_in_float64(activation)
    theta = values(policy)
    size = flat(theta).shape
    vector = unflat(
        tf.constant(np.random.default_rng(2).normal(size=size)), theta
    )

    @tf.function(autograph=False)
    def both(theta):
        recorded = Linearization(policy, theta, inner, OUTER, ALPHA)
        objective = adapted_surrogate_and_kl(
            policy, inner, OUTER, recorded.reference, ALPHA
        )
        with tf.GradientTape() as second, tf.GradientTape(True) as first:
            second.watch(theta)
            first.watch(theta)
            surrogate, kl = objective(theta)
        with second:
            kl_gradient = flat(first.gradient(kl, theta))
            slope = tf.reduce_sum(kl_gradient * flat(vector))
        gradient, found = recorded.surrogate_gradient()
        return {
            "surrogate": (found, surrogate),
            "gradient": (
                flat(gradient),
                flat(first.gradient(surrogate, theta)),
            ),
            "product": (
                flat(recorded.kl_product(vector)),
                flat(second.gradient(slope, theta)),
            ),
            "kl": (kl, 0.0),
        }

    for found, expected in both(theta).values():
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("num_updates", [0, 1])
def test_a_step_lowers_the_loss_within_the_bound(num_updates):
    inner = [draw(10)] * num_updates
    step = compiled_step()(inner, OUTER)
    assert step.accepted == 1
    assert 0 < step.fraction <= 1
    assert step.surrogate_after < step.surrogate_before
    assert 0 < step.kl <= MAX_KL
    # Before the step all ratios are 1.
    mask = OUTER.mask.numpy()
    means = (OUTER.advantages.numpy() * mask).sum(axis=1) / mask.sum(axis=1)
    np.testing.assert_allclose(step.surrogate_before, -means.mean(), rtol=1e-12)


def test_a_step_uses_up_the_bound():
    policy, inner = policy_in_float64(), [draw(10)]
    step = compiled_step()(inner, OUTER)

    @tf.function(autograph=False)
    def check(theta, after, full):
        recorded = Linearization(policy, theta, inner, OUTER, ALPHA)
        objective = adapted_surrogate_and_kl(
            policy, inner, OUTER, recorded.reference, ALPHA
        )
        return objective(after), flat(recorded.kl_product(full))

    theta = values(policy)
    full = movement(step) / step.fraction
    found, product = check(theta, step.theta, unflat(full, theta))
    np.testing.assert_allclose(
        found, [step.surrogate_after, step.kl], rtol=1e-9
    )
    quadratic = float(tf.reduce_sum(full * product)) / 2
    assert quadratic == pytest.approx(MAX_KL, rel=0.01)


def test_without_advantage_theta_stays():
    outer = OUTER._replace(advantages=tf.zeros_like(OUTER.advantages))
    step = compiled_step()([draw(10)], outer)
    assert step.accepted == step.fraction == step.kl == 0
    assert not movement(step).numpy().any()


def test_without_a_finite_direction_theta_stays():
    advantages = OUTER.advantages.numpy()
    advantages[0, 0] = np.nan
    step = compiled_step()(
        [draw(10)], OUTER._replace(advantages=tf.constant(advantages))
    )
    assert step.accepted == 0
    assert not movement(step).numpy().any()


def test_padding_changes_nothing():
    plain, padded, other = (
        movement(compiled_step()([draw(10, **options)], draw(1, **options)))
        for options in ({}, {"padding": 7.0}, {"masked": 12})
    )
    np.testing.assert_allclose(padded, plain, atol=1e-12)
    assert np.abs(other - plain).max() > 1e-4


def test_finite_differences_give_nearly_the_same_step_without_kinks():
    exact = compiled_step()([draw(10)], OUTER)
    differences = compiled_step(curvature="finite_differences")(
        [draw(10)], OUTER
    )
    assert 0.9 < cosine(movement(exact), movement(differences)) < 1 - 1e-9


@pytest.mark.slow
def test_curvature_of_some_samples_gives_a_similar_step():
    exact = compiled_step()([draw(10)], OUTER)
    thinned = compiled_step(curvature_stride=2)([draw(10)], OUTER)
    assert 0.5 < cosine(movement(exact), movement(thinned)) < 1 - 1e-6
    assert thinned.kl <= MAX_KL


def test_first_order_takes_the_adaptation_for_a_shift():
    policy = policy_in_float64()

    @tf.function(autograph=False)
    def gradients(theta):
        first, second = (
            Linearization(
                policy, theta, [draw(10)], OUTER, ALPHA, first_order=order
            )
            for order in (True, False)
        )
        with tf.GradientTape() as tape:
            tape.watch(first.adapted)
            surrogate, _ = surrogate_and_kl(
                policy, first.adapted, OUTER, first.reference
            )
        shifted = tape.gradient(surrogate, first.adapted)
        return (
            flat([tf.reduce_sum(x, axis=0) for x in shifted]),
            *(flat(x.surrogate_gradient()[0]) for x in (first, second)),
        )

    shifted, first, second = gradients(values(policy))
    np.testing.assert_allclose(first, shifted, atol=1e-12)
    assert np.abs(first - second).max() > 1e-3


def test_conjugate_gradient_solves_a_system_of_its_size():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(6, 6))
    matrix, b = root @ root.T + np.eye(6), rng.normal(size=6)
    x, curved = conjugate_gradient(
        lambda v: tf.linalg.matvec(matrix, v), tf.constant(b), 6
    )
    np.testing.assert_allclose(x, np.linalg.solve(matrix, b), rtol=1e-5)
    np.testing.assert_allclose(curved, matrix @ x.numpy(), atol=1e-9)
