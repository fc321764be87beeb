import numpy as np
import pytest
import tensorflow as tf

from maml_tf.rl.environments.base import EpisodicEnvironment, Step
from maml_tf.rl.policy import GaussianPolicy, policy_net
from maml_tf.rl.rollouts import sample_rollouts

HORIZON = 4


class Countdown(EpisodicEnvironment):
    """An episode lasts as many steps as its goal says; rewards are 1."""

    observation_dim, action_dim, task_dim = 2, 1, 1
    task_low, task_high = 1, HORIZON
    ends_early = True

    def goal_features(self, tasks):
        return tasks

    def _allocate(self, count):
        super()._allocate(count)
        self._ages = np.zeros(count)

    def _begin(self, rows, rng):
        self._ages[rows] = 0
        return self._see(rows)

    def _advance(self, rows, actions):
        self._ages[rows] += 1
        return Step(
            self._see(rows),
            np.ones(len(rows)),
            self._ages[rows] >= self._tasks[rows, 0],
            self._tasks[rows, 0] == 0,  # a goal of 0 breaks the simulation
        )

    def _see(self, rows):
        return np.stack([rows, self._ages[rows]], axis=1)


def sample(*lengths, rollouts=3):
    policy = GaussianPolicy(policy_net(2, 1))
    theta = [
        tf.stack([v.value] * len(lengths)) for v in policy.trainable_variables
    ]
    goals = np.repeat(np.array(lengths, float)[:, None, None], rollouts, axis=1)
    rng = np.random.default_rng(0)
    return sample_rollouts(Countdown(), policy, theta, goals, HORIZON, rng)


def test_short_episodes_are_repeated_until_the_share_is_full():
    rollouts = sample(4, 3, 1, 9)
    # 3 rollouts * horizon 4 = 12 transitions, in whole episodes
    np.testing.assert_array_equal(rollouts.num_episodes(), [3, 4, 12, 3])
    np.testing.assert_array_equal(rollouts.mask.sum(axis=1), [12, 12, 12, 12])
    np.testing.assert_array_equal(rollouts.mean_returns(), [4, 3, 1, 4])
    assert rollouts.observations.shape == (4, 16, 2)
    assert not rollouts.observations[~rollouts.mask].any()


def test_episodes_lie_whole_and_in_order():
    rollouts = sample(3, rollouts=2)
    # A row of 4 transitions takes two episodes of 3; the share of 8 is full
    # in the third episode, the first one of the second row.
    np.testing.assert_array_equal(
        rollouts.times[0, :9], [0, 1, 2, 0, 1, 2, 0, 1, 2]
    )
    np.testing.assert_array_equal(
        rollouts.observations[0, :9, 0], [0, 0, 0, 0, 0, 0, 1, 1, 1]
    )
    np.testing.assert_array_equal(np.flatnonzero(rollouts.ends[0]), [2, 5, 8])


def test_episodes_that_break_down_are_counted_and_left_out():
    rollouts = sample(0, 4)
    assert rollouts.unstable == 12
    np.testing.assert_array_equal(rollouts.num_episodes(), [0, 3])
    np.testing.assert_array_equal(rollouts.mean_returns(), [np.nan, 4])


def test_sampling_is_a_function_of_the_generator():
    first, second = sample(3, 2), sample(3, 2)
    np.testing.assert_array_equal(first.actions, second.actions)
    assert first.actions[first.mask].std() == pytest.approx(1, abs=0.4)
