"""Algorithm 3: the training loop of meta-reinforcement learning."""

from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from maml_tf.errors import TrainingDivergedError
from maml_tf.rl.learner import PolicyLearner
from maml_tf.rl.linearization import Linearization
from maml_tf.rl.losses import Experience
from maml_tf.rl.rollouts import Rollouts
from maml_tf.rl.trpo import trpo_step
from maml_tf.training.files import TrainingFiles
from maml_tf.training.history import History
from maml_tf.training.loop import Loop

# Returns before the first and after the last inner update; KL divergence and
# fraction of the outer step; mean standard deviation of the policy; number of
# episodes whose simulation broke down.
LOG_FIELDS = (
    "pre_return",
    "post_return",
    "kl",
    "fraction",
    "std",
    "unstable",
)
SHOWN = ("pre_return", "post_return", "kl", "fraction")
CHECKPOINT_EVERY = 5  # iterations


class PolicyTraining:
    """Trains a policy.

    Iteration i depends on the policy and on (seed, i) only: it draws goals,
    initial states and actions with its own generator. So a resumed run equals
    one that was never interrupted.

    Attributes:
        state: all variables that training changes, by name, for checkpoints.
    """

    def __init__(self, learner: PolicyLearner):
        """
        Args:
            learner: the policy and its environment.
        """
        self._learner = learner
        self._config = learner.config
        self._adam = keras.optimizers.Adam(self._config.beta)
        self._adam.build(learner.policy.trainable_variables)
        self._outer_step = tf.function(
            self._trpo if self._config.outer_step == "trpo" else self._vpg,
            autograph=False,
        )
        self.state = {
            "weights": learner.variables,
            "optimizer": [v.value for v in self._adam.variables],
        }

    def run(
        self,
        files: TrainingFiles,
        start: int,
        on_progress: Callable[[int, dict[str, float]], None],
    ) -> None:
        """Trains from iteration `start` to the last.

        Args:
            files: keep state, log and the policy with the best return; the
                caller has restored the state.
            start: number of iterations done.
            on_progress: called with the number of iterations done and some
                fields of the last logged row.

        Raises:
            TrainingDivergedError: if a return is not finite.
        """

        def show(done: int, row: dict[str, float]) -> None:
            on_progress(
                done, {name: row[name] for name in SHOWN if name in row}
            )

        loop = Loop(
            History(),
            show,
            log_every=1,
            steps_per_epoch=CHECKPOINT_EVERY,
            files=files,
        )
        loop.run(
            self._iterations(files, start), start, self._config.num_iterations
        )

    def _iterations(
        self, files: TrainingFiles, start: int
    ) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """Yields, after each, the number of iterations done and its log row."""
        best = max(
            (row["post_return"] for row in files.log.rows()), default=-np.inf
        )
        for iteration in range(start, self._config.num_iterations):
            stages = list(self._sample(iteration))
            row = _summary(iteration, [rollouts for rollouts, _ in stages])
            if row["post_return"] > best:
                best = row["post_return"]
                files.best.save(iteration)  # the policy that was sampled
            *inner, outer = (data for _, data in stages)
            row |= self._update(inner, outer)
            yield iteration + 1, {k: np.array([v]) for k, v in row.items()}

    def _sample(self, iteration: int):
        """Lines 3-9: goals, rollouts, adaptation, rollouts."""
        config, environment = self._config, self._learner.environment
        rng = np.random.default_rng((config.seed, iteration))
        goals = environment.sample_tasks(rng, config.meta_batch_size)
        goals = np.repeat(goals[:, np.newaxis], config.num_shots, axis=1)
        if iteration < config.pretrain_iterations:
            # All goals together are one task, without adaptation.
            goals = goals.reshape(1, -1, environment.task_dim)
            return self._learner.adapt(goals, [], rng)
        alphas = [config.alpha] * config.num_steps
        return self._learner.adapt(goals, alphas, rng)

    def _update(
        self, inner: list[Experience], outer: Experience
    ) -> dict[str, float]:
        """Makes the outer step (line 10) and returns its fields of the log."""
        theta, row = self._outer_step(self._learner.theta, inner, outer)
        for variable, value in zip(self._learner.variables, theta, strict=True):
            variable.assign(value)
        row["std"] = tf.reduce_mean(tf.exp(theta[-1]))
        return {name: float(value) for name, value in row.items()}

    def _trpo(self, theta, inner, outer):
        config = self._config
        result = trpo_step(
            self._learner.policy,
            theta,
            inner,
            outer,
            config.alpha,
            config.max_kl,
            first_order=config.first_order,
            curvature=config.curvature,
            curvature_stride=config.curvature_stride,
        )
        return result.theta, {"kl": result.kl, "fraction": result.fraction}

    def _vpg(self, theta, inner, outer):
        config, policy = self._config, self._learner.policy
        recorded = Linearization(
            policy, theta, inner, outer, config.alpha, config.first_order
        )
        gradient, _ = recorded.surrogate_gradient()
        self._adam.apply(gradient, policy.trainable_variables)
        return self._learner.theta, {}


def _summary(iteration: int, stages: list[Rollouts]) -> dict[str, float]:
    """Fields of the log: returns before and after adaptation, breakdowns.

    Raises:
        TrainingDivergedError: if a return is not finite.
    """
    pre, post = (
        float(rollouts.mean_returns().mean())
        for rollouts in (stages[0], stages[-1])
    )
    unstable = sum(rollouts.unstable for rollouts in stages)
    if not np.isfinite([pre, post]).all():
        raise TrainingDivergedError(
            f"A return is not finite at iteration {iteration + 1} (before "
            f"adaptation {pre}, after it {post}). In {unstable} episodes the "
            "simulation broke down. The last checkpoint is kept. Lower the "
            "step sizes (alpha, max_kl).",
            "alpha",
            "max_kl",
        )
    return {
        "pre_return": pre,
        "post_return": post,
        "unstable": unstable,
    }
