import numpy as np

from maml_tf.rl import advantages
from maml_tf.rl.rollouts import Rollouts


def test_discounted_sums_stop_at_the_end_of_an_episode():
    rewards = np.array([[1.0, 2.0, 4.0, 8.0]])
    ends = np.array([[False, True, False, True]])
    sums = advantages.discounted_sums(rewards, ends, 0.5)
    np.testing.assert_array_equal(sums, [[2.0, 2.0, 8.0, 8.0]])


def test_features_by_hand():
    features = advantages.baseline_features(
        np.array([[2.0, -20.0]], "float32"), np.array([50])
    )
    expected = [[2, -10, 4, 100, 0.5, 0.25, 0.125, 1]]
    np.testing.assert_array_equal(features, expected)


def test_baseline_finds_returns_that_are_linear_in_the_features():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 3))
    weights = advantages.fit_baseline(features, features @ [1.0, -2.0, 3.0])
    np.testing.assert_allclose(weights, [1, -2, 3], rtol=1e-5)


def test_baseline_of_repeated_features_is_finite():
    features = np.ones((5, 2))
    weights = advantages.fit_baseline(features, np.full(5, 3.0))
    np.testing.assert_allclose(features @ weights, 3, rtol=1e-5)


def test_generalized_advantages_are_return_minus_prediction_at_lambda_1():
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, 6))
    ends = np.array([False, False, True, False, False, True])
    returns = advantages.discounted_sums(rewards, ends, advantages.GAMMA)
    found = advantages.generalized_advantages(rewards, values, ends)
    np.testing.assert_allclose(found, returns - values, rtol=1e-12)


def test_generalized_advantages_of_several_tasks_are_those_of_each():
    rng = np.random.default_rng(1)
    rewards, values = rng.normal(size=(2, 3, 8))
    ends = np.zeros((3, 8), bool)
    ends[0, [3, 7]] = ends[1, [0, 5]] = ends[2, 7] = True
    rewards[1, 6:] = values[1, 6:] = 0.0  # after the last episode
    expected = np.zeros_like(values)
    for task, t in np.ndindex(3, 8):
        following = t
        while True:
            last = ends[task, following] or following == 7
            expected[task, t] += advantages.GAMMA ** (following - t) * (
                rewards[task, following]
                + (
                    0
                    if last
                    else advantages.GAMMA * values[task, following + 1]
                )
                - values[task, following]
            )
            if last:
                break
            following += 1
    np.testing.assert_allclose(
        advantages.generalized_advantages(rewards, values, ends),
        expected,
        rtol=1e-12,
        atol=1e-12,
    )


def test_experience_standardizes_each_task_and_pads_with_zeros():
    rng = np.random.default_rng(0)
    mask = np.ones((2, 30), bool)
    mask[1, 20:] = False
    rollouts = Rollouts(
        rng.normal(size=(2, 30, 2)).astype("float32") * mask[..., None],
        rng.normal(size=(2, 30, 1)).astype("float32") * mask[..., None],
        np.exp(rng.normal(size=(2, 30))) * mask * [[1], [100]],
        np.tile(np.arange(10), (2, 3)) * mask,
        mask,
        0,
    )
    found = advantages.experience(rollouts)
    for task in range(2):
        counted = found.advantages[task, mask[task]]
        np.testing.assert_allclose(counted.mean(), 0, atol=1e-6)
        np.testing.assert_allclose(counted.std(), 1, rtol=1e-5)
    assert not found.advantages[~mask].any()
    np.testing.assert_array_equal(found.mask, mask)
    # Scaling a task's rewards changes nothing, and tasks do not mix.
    scaled = advantages.experience(
        rollouts._replace(rewards=rollouts.rewards * [[10], [1]])
    )
    np.testing.assert_allclose(
        scaled.advantages, found.advantages, rtol=1e-3, atol=1e-4
    )
