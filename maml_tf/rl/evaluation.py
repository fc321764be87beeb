"""Returns on held-out goals after 0, 1, ... updates (section 5.3)."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from maml_tf.methods.step_size import best_step_size
from maml_tf.rl.learner import PolicyLearner
from maml_tf.rl.rollouts import Rollouts

NUM_GOALS = 40
EVALUATION_SEED = 0  # of the rollouts; the goals have their own
VALIDATION_SEED = 1_000_000  # of goals that training never sees

# Candidates for a policy that was not meta-trained. The paper tuned its step
# size by hand.
STEP_SIZES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
NUM_VALIDATION_GOALS = 20

LATER_STEPS = 0.5  # step size of later updates, relative to the first


@dataclasses.dataclass(frozen=True, eq=False)
class Returns:
    """Returns of a policy by goal and number of updates.

    Attributes:
        returns: mean undiscounted return over a goal's episodes, float64
            [goals, updates + 1].
        episodes: number of episodes, int [goals, updates + 1].
        unstable: number of episodes left out because the simulation broke
            down, int [updates + 1].
    """

    returns: np.ndarray
    episodes: np.ndarray
    unstable: np.ndarray


def search_step_size(
    learner: PolicyLearner, num_rollouts: int, num_updates: int
) -> float:
    """The step size of `STEP_SIZES` that adapts best to validation goals.

    The best has the highest mean return over goals and over updates 1 to n. A
    goal whose episodes all broke down counts as -inf.
    """
    goals = learner.environment.sample_tasks(
        np.random.default_rng(VALIDATION_SEED), NUM_VALIDATION_GOALS
    )

    def returns(alpha: float) -> np.ndarray:
        return evaluate_policy(
            learner, goals, num_rollouts, alpha, num_updates
        ).returns

    return best_step_size(STEP_SIZES, returns, max, -np.inf)


def evaluate_policy(
    learner: PolicyLearner,
    goals: np.ndarray,
    num_rollouts: int,
    alpha: float,
    num_updates: int,
) -> Returns:
    """Returns by goal and number of updates.

    Takes the arguments of `rollouts_by_updates`.
    """
    stages = list(
        rollouts_by_updates(learner, goals, num_rollouts, alpha, num_updates)
    )
    return Returns(
        np.stack([r.mean_returns() for r in stages], axis=1),
        np.stack([r.num_episodes() for r in stages], axis=1),
        np.array([r.unstable for r in stages]),
    )


def rollouts_by_updates(
    learner: PolicyLearner,
    goals: np.ndarray,
    num_rollouts: int,
    alpha: float,
    num_updates: int,
) -> Iterator[Rollouts]:
    """Adapts a policy to each goal with policy gradients on fresh rollouts.

    Args:
        learner: the policy and its environment.
        goals: [goals, task_dim].
        num_rollouts: rollouts of each goal before and after each update.
        alpha: step size of the first update; later ones take `LATER_STEPS`
            of it. 0 does not adapt: rollouts after 0 updates only.
        num_updates: number of updates.

    Yields:
        Rollouts after 0, 1, ... updates.
    """
    goals = np.repeat(goals[:, np.newaxis], num_rollouts, axis=1)
    alphas = [alpha] + [LATER_STEPS * alpha] * (num_updates - 1)
    rng = np.random.default_rng((EVALUATION_SEED, learner.config.seed))
    for rollouts, _ in learner.adapt(goals, alphas if alpha else [], rng):
        yield rollouts
