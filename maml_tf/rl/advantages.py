"""Advantages from a linear baseline and generalized advantage estimation.

Duan et al., "Benchmarking Deep Reinforcement Learning", ICML 2016, for the
baseline's features; Schulman et al., "High-Dimensional Continuous Control
Using Generalized Advantage Estimation", ICLR 2016.
"""

import functools

import numpy as np
from threadpoolctl import ThreadpoolController

from maml_tf.rl.losses import Experience
from maml_tf.rl.rollouts import Rollouts

GAMMA = 0.99
LAMBDA = 1.0
TIME_UNIT = 100.0  # steps; the unit of time in the baseline's features
RIDGE = 1e-5
RIDGE_TRIES = 5


def experience(rollouts: Rollouts) -> Experience:
    """Rollouts in the form that the losses need, with standardized advantages.

    For each task, the baseline is fitted to the discounted returns of the
    task's own samples and then predicts them.
    """
    ends = rollouts.ends
    returns = discounted_sums(rollouts.rewards, ends, GAMMA)
    values = np.zeros_like(returns)
    tasks = np.flatnonzero(rollouts.mask.any(axis=1))
    # Beside TensorFlow's threads those of BLAS wait for each other, and cost
    # more than the small products here.
    with _blas().limit(limits=1, user_api="blas"):
        for task in tasks:
            mask = rollouts.mask[task]
            features = baseline_features(
                rollouts.observations[task, mask], rollouts.times[task, mask]
            )
            weights = fit_baseline(features, returns[task, mask])
            values[task, mask] = features @ weights
    advantages = generalized_advantages(rollouts.rewards, values, ends)
    for task in tasks:
        mask = rollouts.mask[task]
        advantages[task, mask] = standardized(advantages[task, mask])
    return Experience(
        rollouts.observations,
        rollouts.actions,
        advantages.astype("float32"),
        rollouts.mask.astype("float32"),
    )


@functools.cache
def _blas() -> ThreadpoolController:
    """Controls the threads of NumPy's BLAS."""
    return ThreadpoolController()


def discounted_sums(
    values: np.ndarray, ends: np.ndarray, discount: float
) -> np.ndarray:
    """Discounted sums from each step to the end of its episode.

    Args:
        values: float [..., samples], episodes one after the other.
        ends: bool [..., samples], true at the last step of an episode.
        discount: factor for each step.

    Returns:
        Sums of the shape and type of `values`.
    """
    sums = np.zeros_like(values)
    later = np.zeros(values.shape[:-1])
    for t in reversed(range(values.shape[-1])):
        later = values[..., t] + discount * np.where(ends[..., t], 0.0, later)
        sums[..., t] = later
    return sums


def baseline_features(
    observations: np.ndarray, times: np.ndarray
) -> np.ndarray:
    """[o, o^2, t, t^2, t^3, 1], o clipped to [-10, 10] and t in 100 steps.

    Args:
        observations: [samples, observation_dim].
        times: [samples], steps since the episode began.

    Returns:
        float64 [samples, 2 * observation_dim + 4].
    """
    o = np.clip(observations.astype(np.float64), -10, 10)
    t = times[:, np.newaxis] / TIME_UNIT
    return np.concatenate([o, o**2, t, t**2, t**3, np.ones_like(t)], axis=1)


def fit_baseline(features: np.ndarray, returns: np.ndarray) -> np.ndarray:
    """Weights of ridge regression: [samples, n], [samples] -> [n].

    The ridge grows until the solution is finite. If it never is, the weights
    are 0.
    """
    gram, moment = features.T @ features, features.T @ returns
    for attempt in range(RIDGE_TRIES):
        ridge = RIDGE * 10**attempt * np.eye(len(gram))
        try:
            weights = np.linalg.solve(gram + ridge, moment)
        except np.linalg.LinAlgError:
            continue
        if np.isfinite(weights).all():
            return weights
    return np.zeros_like(moment)


def generalized_advantages(
    rewards: np.ndarray, values: np.ndarray, ends: np.ndarray
) -> np.ndarray:
    """GAE(GAMMA, LAMBDA) of episodes one after the other: [..., samples].

    The value after an episode's last step counts as 0, even at the horizon.
    """
    following = np.zeros_like(values)
    following[..., :-1] = values[..., 1:]
    following[ends] = 0.0
    errors = rewards + GAMMA * following - values
    return discounted_sums(errors, ends, GAMMA * LAMBDA)


def standardized(advantages: np.ndarray) -> np.ndarray:
    """Advantages shifted and scaled to mean 0 and standard deviation 1."""
    return (advantages - advantages.mean()) / (advantages.std() + 1e-8)
