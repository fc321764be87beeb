"""2D navigation, by hand."""

import numpy as np
import pytest

from maml_tf.rl.environments.point import Point


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_a_move_and_its_reward(rng):
    point = Point()
    first = point.reset(np.array([[0.3, -0.4], [0.35, 0.1]]), rng)
    np.testing.assert_array_equal(first, np.zeros((2, 2)))
    step = point.step(np.array([[0.0, 0.0], [0.5, -3.0]]))
    np.testing.assert_allclose(step.observations, [[0, 0], [0.05, -0.1]])
    # A right-angled triangle of 3 and 4; from (0.05, -0.1) to (0.35, 0.1).
    np.testing.assert_allclose(step.rewards, [-0.5, -np.sqrt(0.13)], rtol=1e-12)
    step = point.step(np.array([[1.0, -1.0], [0.5, 1.0]]))
    np.testing.assert_allclose(step.observations, [[0.1, -0.1], [0.1, 0.0]])
    np.testing.assert_allclose(
        step.rewards, [-np.sqrt(0.13), -np.sqrt(0.0725)], rtol=1e-12
    )
    assert not step.done.any()


def test_an_episode_ends_where_both_coordinates_arrive(rng):
    point = Point()
    goals = np.array([[0.109, 0.091], [0.111, 0.1], [0.1, 0.089]])
    point.reset(goals, rng)
    step = point.step(np.ones((3, 2)))
    assert step.done.tolist() == [True, False, False]
    # The arriving move is paid for like any other.
    np.testing.assert_allclose(step.rewards[0], -0.009 * np.sqrt(2), rtol=1e-9)
    assert point.step(np.ones((3, 2))).rewards[0] == 0.0


def test_staying_put_costs_a_hundred_mean_distances(rng):
    """The mean distance of the goals is 0.3826."""
    point = Point()
    point.reset(point.sample_tasks(rng, 5000), rng)
    returns = sum(point.step(np.zeros((5000, 2))).rewards for _ in range(100))
    assert abs(np.mean(returns) + 38.26) < 0.6  # 3 standard errors.


def test_a_policy_that_knows_the_goal_gets_there(rng):
    """The paper's oracle returns about -2.3; the best policy, no less."""
    point = Point()
    goals = point.test_tasks(40)
    observations = point.reset(goals, rng)
    returns = np.zeros(40)
    for _ in range(10):
        step = point.step((goals - observations) / 0.1)
        observations = step.observations
        returns += step.rewards
    assert step.done.all()
    assert -2.3 < returns.mean() < -0.5
