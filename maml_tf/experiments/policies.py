"""Section 5.3: meta-reinforcement learning."""

import math
import pathlib

import tensorflow as tf
from rich.console import Console

from maml_tf.experiments.evaluation import Evaluation
from maml_tf.experiments.experiment import Experiment
from maml_tf.experiments.metric import Metric
from maml_tf.experiments.settings import EvaluationSettings
from maml_tf.progress import TrainingProgress
from maml_tf.rl import evaluation
from maml_tf.rl.config import RLConfig
from maml_tf.rl.environments.registry import environment_spec
from maml_tf.rl.export import export_policy
from maml_tf.rl.learner import PolicyLearner
from maml_tf.rl.training import LOG_FIELDS, PolicyTraining
from maml_tf.training.files import TrainingFiles

RETURN = Metric(
    "return",
    "return",
    max,
    largest=math.inf,
    measured_on="of rollouts with the updated policy",
    curve=True,
)


class PolicyExperiment(Experiment):
    """A policy, its environment and its training.

    Attributes:
        learner: the policy and its environment.
    """

    config: RLConfig
    reports = RETURN
    example_call = '["act"](observations=...)'
    log_fields = LOG_FIELDS

    def __init__(self, config: RLConfig):
        """
        Args:
            config: the settings.

        Raises:
            ConfigError: if the environment needs a package that is not
                installed.
        """
        self.config = config
        self.learner = PolicyLearner(config)
        self._training = PolicyTraining(self.learner)

    @property
    def learned(self) -> dict[str, list[tf.Variable]]:
        return {"weights": self.learner.variables}

    @property
    def state(self) -> dict[str, list[tf.Variable]]:
        return self._training.state

    def check(self, settings: EvaluationSettings | None = None) -> None:
        """Checks nothing: the environment exists, and no more is needed."""

    def train(self, files: TrainingFiles, start: int, console: Console) -> None:
        total = self.config.num_iterations
        label = self.config.label
        with TrainingProgress(console, label, start, total, "compiling") as bar:
            self._training.run(files, start, bar)

    def evaluate(
        self, settings: EvaluationSettings, trained: bool
    ) -> list[Evaluation]:
        spec = environment_spec(self.config.datasource)
        num_rollouts = spec.evaluation_rollouts
        num_updates = spec.evaluation_updates
        if settings.shots is not None:
            (num_rollouts,) = settings.shots
        alpha, searched = settings.alpha, False
        if alpha is None:
            if trained and self.config.metatrain_iterations:
                alpha = self.config.alpha
            elif trained and self.config.baseline == "oracle":
                alpha = 0.0  # it knows the goal
            else:
                alpha = evaluation.search_step_size(
                    self.learner, num_rollouts, num_updates
                )
                searched = True
        goals = self.learner.environment.test_tasks(
            settings.num_tasks or evaluation.NUM_GOALS
        )
        found = evaluation.evaluate_policy(
            self.learner, goals, num_rollouts, alpha, num_updates
        )
        counts = {
            "episodes": found.episodes.sum(axis=0).tolist(),
            "transitions_per_goal": num_rollouts * self.config.horizon,
            "unstable_episodes": found.unstable.tolist(),
        }
        return [
            Evaluation(
                num_rollouts,
                alpha,
                searched,
                found.returns,
                RETURN,
                counts=counts,
            )
        ]

    def export(
        self,
        path: pathlib.Path,
        alpha: float | None = None,
        statistics: str | None = None,
    ) -> None:
        """As `Experiment.export`; a policy takes its step size at each call."""
        del alpha, statistics
        export_policy(path, self.learner.policy)
