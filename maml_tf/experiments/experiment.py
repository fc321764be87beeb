"""The interface of all experiments."""

import abc
import pathlib
from collections.abc import Sequence
from typing import ClassVar

import tensorflow as tf
from rich.console import Console

from maml_tf.experiments.evaluation import Evaluation
from maml_tf.experiments.metric import Metric
from maml_tf.experiments.settings import EvaluationSettings
from maml_tf.training.config import TrainingConfig
from maml_tf.training.files import TrainingFiles


class Experiment(abc.ABC):
    """A network or policy, its tasks and its training, built from settings.

    Attributes:
        config: the settings.
        reports: the metric that evaluations report.
        example_call: an example call of a signature of its export.
        log_fields: names of the values in train.csv.
        statistics: whose statistics normalize a query set, one of
            `prediction.STATISTICS`, in the standard evaluation; None if there
            is no choice.
    """

    config: TrainingConfig
    reports: ClassVar[Metric]
    example_call: str
    log_fields: ClassVar[Sequence[str]]
    statistics: str | None = None

    @property
    @abc.abstractmethod
    def learned(self) -> dict[str, list[tf.Variable]]:
        """The variables that evaluation needs, by name; initialized."""

    @property
    @abc.abstractmethod
    def state(self) -> dict[str, list[tf.Variable]]:
        """All variables that training changes, by name, for checkpoints."""

    @abc.abstractmethod
    def check(self, settings: EvaluationSettings | None = None) -> None:
        """Checks that training, and evaluation if given, have what they need.

        Raises:
            ExperimentError: if not.
        """

    @abc.abstractmethod
    def train(self, files: TrainingFiles, start: int, console: Console) -> None:
        """Trains from iteration `start` to the last one.

        Args:
            files: keep state, logs and the best weights; already restored.
            start: iterations already done.
            console: for progress.

        Raises:
            TrainingDivergedError: if a loss, return or weight is not finite.
        """

    @abc.abstractmethod
    def evaluate(
        self, settings: EvaluationSettings, trained: bool
    ) -> list[Evaluation]:
        """Evaluates the current weights on held-out tasks.

        Args:
            settings: what to evaluate.
            trained: whether they were trained as `config` says; the step size
                of others is searched on validation tasks.
        """

    @abc.abstractmethod
    def export(
        self,
        path: pathlib.Path,
        alpha: float | None = None,
        statistics: str | None = None,
    ) -> None:
        """Writes the adaptation as a SavedModel.

        Args:
            path: the directory to create.
            alpha: the step size; None takes that of meta-training.
            statistics: whose statistics normalize a query set; None takes
                those of evaluation.

        Raises:
            ExportError: if `path` exists or cannot be written, or there is no
                step size.
        """
