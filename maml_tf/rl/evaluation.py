"""Returns on held-out goals after 0, 1, ... updates (section 5.3)."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from maml_tf.rl.experiment import PolicyExperiment
from maml_tf.rl.rollouts import Rollouts

NUM_GOALS = 40
EVALUATION_SEED = 0  # of the rollouts; the goals have their own
VALIDATION_SEED = 1_000_000  # of goals that are not among those of training

# Rollouts of a goal before and after each update: 4000 transitions, and twice
# that for ant_dir, as in the original.
ROLLOUTS = {"point": 40, "ant_dir": 40}
DEFAULT_ROLLOUTS = 20
UPDATES = {"point": 4}
DEFAULT_UPDATES = 3
# Candidates for fine-tuning a policy that was not meta-trained. The paper tuned
# its step size by hand.
STEP_SIZES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
NUM_VALIDATION_GOALS = 20

LATER_STEPS = 0.5  # step size of all updates but the first, relative to it


@dataclasses.dataclass(frozen=True, eq=False)
class Returns:
    """What a policy earned.

    Attributes:
        returns: undiscounted, mean over a goal's episodes: float64
            [goals, updates + 1].
        episodes: int [goals, updates + 1].
        unstable: int [updates + 1], episodes that were left out because the
            simulation broke down.
    """

    returns: np.ndarray
    episodes: np.ndarray
    unstable: np.ndarray


def protocol(environment: str) -> tuple[int, int]:
    """Rollouts of a goal and number of updates in the paper's evaluation."""
    return (
        ROLLOUTS.get(environment, DEFAULT_ROLLOUTS),
        UPDATES.get(environment, DEFAULT_UPDATES),
    )


def search_step_size(
    experiment: PolicyExperiment, num_rollouts: int, num_updates: int
) -> float:
    """The step size of `STEP_SIZES` that adapts best to validation goals.

    Best is the best mean return over goals and over the updates 1 to n. A goal
    whose episodes all broke down counts as worst.
    """
    goals = experiment.environment.sample_tasks(
        np.random.default_rng(VALIDATION_SEED), NUM_VALIDATION_GOALS
    )

    def area(alpha: float) -> float:
        returns = evaluate_policy(
            experiment, goals, num_rollouts, alpha, num_updates
        ).returns[:, 1:]
        return np.where(np.isfinite(returns), returns, -np.inf).mean()

    return max(STEP_SIZES, key=area)


def evaluate_policy(
    experiment: PolicyExperiment,
    goals: np.ndarray,
    num_rollouts: int,
    alpha: float,
    num_updates: int,
) -> Returns:
    """Returns by goal and number of updates.

    Args: as of `rollouts_by_updates`.
    """
    stages = list(
        rollouts_by_updates(experiment, goals, num_rollouts, alpha, num_updates)
    )
    return Returns(
        np.stack([r.mean_returns() for r in stages], axis=1),
        np.stack([r.num_episodes() for r in stages], axis=1),
        np.array([r.unstable for r in stages]),
    )


def rollouts_by_updates(
    experiment: PolicyExperiment,
    goals: np.ndarray,
    num_rollouts: int,
    alpha: float,
    num_updates: int,
) -> Iterator[Rollouts]:
    """Adapts a policy to each goal by policy gradients on fresh rollouts.

    Args:
        experiment: the policy and its environment.
        goals: [goals, task_dim].
        num_rollouts: for each goal, before and after each update.
        alpha: step size of the first update; `LATER_STEPS` of it for the
            others. 0 adapts nothing.
        num_updates: how many updates.

    Yields:
        The rollouts after 0, 1, ... updates.
    """
    rows = np.repeat(goals[:, np.newaxis], num_rollouts, axis=1)
    alphas = [alpha] + [LATER_STEPS * alpha] * (num_updates - 1)
    rng = np.random.default_rng((EVALUATION_SEED, experiment.config.seed))
    for rollouts, _ in experiment.adapt(rows, alphas if alpha else [], rng):
        yield rollouts
