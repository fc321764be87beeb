"""Samples trajectories: lines 5 and 8 of Algorithm 3.

Data is counted in transitions, as in the original: a task's share is
rollouts * horizon of them, in whole episodes. Where episodes can end early, a
row that is done starts a new one until its part of the share is full. So a
policy that arrives early is evaluated and updated on many more episodes than
one that never does.
"""

from typing import NamedTuple

import numpy as np

from maml_tf.core.maml import Params
from maml_tf.rl.environments.base import Environment
from maml_tf.rl.policy import GaussianPolicy


class Rollouts(NamedTuple):
    """Episodes of some tasks, one after the other along the second axis.

    Attributes:
        observations: float32 [tasks, samples, observation_dim].
        actions: float32 [tasks, samples, action_dim], as sampled.
        rewards: float64 [tasks, samples].
        times: int64 [tasks, samples], steps since the episode began.
        mask: bool [tasks, samples]; false after the last episode, where all
            else is 0.
        unstable: number of episodes left out because the simulation broke
            down or an action was not finite.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    times: np.ndarray
    mask: np.ndarray
    unstable: int

    @property
    def ends(self) -> np.ndarray:
        """bool [tasks, samples]: true at the last step of an episode."""
        following = np.zeros_like(self.times)
        following[:, :-1] = self.times[:, 1:]
        return self.mask & (following == 0)

    def mean_returns(self) -> np.ndarray:
        """Mean sum of rewards over a task's episodes, float64 [tasks].

        NaN for a task without episodes.
        """
        episodes = self.num_episodes()
        return np.where(
            episodes > 0,
            self.rewards.sum(axis=1) / np.maximum(episodes, 1),
            np.nan,
        )

    def num_episodes(self) -> np.ndarray:
        """Number of episodes of each task, int [tasks]."""
        return self.ends.sum(axis=1)


def sample_rollouts(
    environment: Environment,
    policy: GaussianPolicy,
    theta: Params,
    goals: np.ndarray,
    horizon: int,
    rng: np.random.Generator,
) -> Rollouts:
    """Samples rollouts * horizon transitions of each task, or a few more.

    Args:
        environment: runs all rollouts of all tasks together.
        policy: the policy.
        theta: its parameters for each task, stacked.
        goals: the goal of each rollout, [tasks, rollouts, task_dim].
        horizon: steps of the longest episode.
        rng: draws initial states and actions.

    Returns:
        Whole episodes; samples = rollouts * horizon, plus one horizon where
        episodes can end early.
    """
    num_tasks, num_rollouts = goals.shape[:2]
    rows = num_tasks * num_rollouts
    goals = goals.reshape(rows, -1)
    observations = environment.reset(goals, rng)
    times, counts = np.zeros(rows, int), np.zeros(rows, int)
    running = np.ones(rows, bool)
    steps = []
    while running.any():
        noise = rng.standard_normal(
            (num_tasks, num_rollouts, environment.action_dim), "float32"
        )
        seen = observations.reshape(num_tasks, num_rollouts, -1)
        actions = policy.act(theta, seen, noise).numpy().reshape(rows, -1)
        step = environment.step(actions)
        steps.append(
            (
                observations,
                actions,
                step.rewards,
                times,
                running,
                step.unstable,
            )
        )
        counts, times = counts + running, times + 1
        over = running & (step.done | (times == horizon))
        full = over & (counts >= horizon)
        environment.finish(full)
        running = running & ~full
        observations = step.observations
        restarted = over & running
        if restarted.any():
            times = np.where(restarted, 0, times)
            observations = environment.restart(restarted, goals, rng)
    share = num_rollouts * horizon
    samples = share + (horizon if environment.ends_early else 0)
    # [tasks, rows * steps, ...], the steps of a row together
    *columns, valid, unstable = (
        np.stack(column, axis=1).reshape(
            num_tasks, num_rollouts * len(steps), *column[0].shape[1:]
        )
        for column in zip(*steps, strict=True)
    )
    return _pack(columns, valid, unstable & valid, share, samples)


def _pack(
    columns: list[np.ndarray],
    valid: np.ndarray,
    unstable: np.ndarray,
    share: int,
    samples: int,
) -> Rollouts:
    """Puts whole episodes of each task one after the other.

    Args:
        columns: observations, actions, rewards and times, each
            [tasks, steps, ...].
        valid: bool [tasks, steps], which steps were made.
        unstable: bool [tasks, steps], where a simulation broke down.
        share: transitions of a task.
        samples: length of the result.
    """
    packed = [
        np.zeros((len(c), samples, *c.shape[2:]), c.dtype) for c in columns
    ]
    mask = np.zeros((len(valid), samples), bool)
    for task, steps in enumerate(valid):
        chosen = np.flatnonzero(steps)
        episodes = np.cumsum(columns[-1][task, chosen] == 0)
        broken = episodes[unstable[task, chosen]]
        chosen = chosen[~np.isin(episodes, broken)]
        times = columns[-1][task, chosen]
        # Where the data may be cut: where an episode starts, or at the end.
        cuts = np.append(np.flatnonzero(times == 0), chosen.size)
        enough = cuts[(cuts >= share) & (cuts <= samples)]
        cut = enough[0] if enough.size else cuts[cuts <= samples][-1]
        chosen = chosen[:cut]
        for target, column in zip(packed, columns, strict=True):
            target[task, :cut] = column[task, chosen]
        mask[task, :cut] = True
    observations, actions, rewards, times = packed
    return Rollouts(
        observations,
        actions,
        rewards,
        times,
        mask,
        int(np.count_nonzero(unstable)),
    )
