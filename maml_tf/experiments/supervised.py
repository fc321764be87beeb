"""Experiments with supervised tasks, built on `Learner`."""

import abc
import pathlib
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from maml_tf.core.comparison import ObjectiveFn
from maml_tf.core.network import Network
from maml_tf.core.task_stream import TaskStream
from maml_tf.datasets.class_splits import SPLITS
from maml_tf.errors import ExportError
from maml_tf.experiments.evaluation import Evaluation
from maml_tf.experiments.experiment import Experiment
from maml_tf.experiments.settings import EvaluationSettings
from maml_tf.export.saved_model import export_method
from maml_tf.learner.evaluation import NUM_TASKS
from maml_tf.learner.learner import Learner
from maml_tf.methods.method import Method
from maml_tf.methods.step_size import best_step_size
from maml_tf.training.config import TrainingConfig
from maml_tf.training.files import LOSSES, TrainingFiles

NUM_UPDATES = 10  # of evaluations, at least
EVALUATION_SEED = 0  # the same held-out tasks for all runs

# Candidates for fine-tuning a network that was not meta-trained.
STEP_SIZES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
SEARCH_TASKS = 100  # validation tasks for those of a method


class SupervisedExperiment(Experiment):
    """A network, its learner and its tasks.

    Attributes:
        learner: meta-trains the network.
        pretraining: trains it on all tasks jointly, before that.
        optimizers: the outer optimizers of joint training and meta-training.
        evaluation_shots: K of the standard evaluation.
        validates: whether training is validated, every `checkpoint_every`
            iterations.
        clip: bound of each element of the meta-gradient, or None.
    """

    log_fields = LOSSES
    checkpoint_every = 1000
    validates = False
    clip: float | None = None
    evaluation_shots: Sequence[int]

    def __init__(
        self,
        config: TrainingConfig,
        model: keras.Model,
        loss: ObjectiveFn,
        metrics: Sequence[str] = (),
        method: Method | None = None,
    ):
        """
        Args:
            config: the settings.
            model: the network, at its initial values.
            loss: of (targets, outputs), in training.
            metrics: as for `Learner`.
            method: of meta-training; None takes that of the settings.
        """
        self.config = config
        method = method or config.meta_method
        model = method.extended(model)
        self.learner = Learner(model, loss, method=method, metrics=metrics)
        self.pretraining = Learner(model, loss, method=config.joint_method)
        for learner in (self.learner, self.pretraining):
            learner.name = config.label
        updates = ", num_updates=..." if self.learner.method.test_steps else ""
        self.example_call = (
            '["adapt_and_predict"](support_inputs=..., support_targets=..., '
            f"query_inputs=...{updates})"
        )
        self.optimizers = (
            self._optimizer(self.pretraining, config.beta),
            self._optimizer(self.learner, config.outer_rate, self.clip),
        )

    @abc.abstractmethod
    def tasks(
        self,
        split: str,
        num_shots: int | None = None,
        num_queries: int | None = None,
    ) -> TaskStream:
        """The stream of tasks of a split.

        Args:
            split: `train`, `validation` or `test`.
            num_shots: K; None takes that of training.
            num_queries: Q; None takes that of training if `num_shots` is
                None, too, and else K.
        """

    def evaluated(self, num_shots: int) -> Learner:
        """The learner with the loss of tasks with K support examples."""
        del num_shots
        return self.learner

    def exported(self) -> tuple[str, ObjectiveFn]:
        """The kind of export, and the loss that its updates descend."""
        return "regression", self.learner.network.objective

    @property
    def model(self) -> keras.Model:
        """The network."""
        return self.learner.model

    @property
    def learned(self) -> dict[str, list[tf.Variable]]:
        found = {"weights": [v.value for v in self.model.variables]}
        if self.learner.method_variables:
            found["method"] = [v.value for v in self.learner.method_variables]
        return found

    @property
    def state(self) -> dict[str, list[tf.Variable]]:
        joint, meta = (
            [v.value for v in optimizer.variables]
            for optimizer in self.optimizers
        )
        return self.learned | {"joint_optimizer": joint, "meta_optimizer": meta}

    def check(self, settings: EvaluationSettings | None = None) -> None:
        for split in SPLITS:
            self.tasks(split)
        if settings is not None:
            for num_shots in settings.shots or self.evaluation_shots:
                self.tasks(settings.split, num_shots, settings.num_queries)

    def train(self, files: TrainingFiles, start: int, console: Console) -> None:
        """Joint training, then meta-training, each with its optimizer."""
        config = self.config
        end = 0
        for learner, optimizer, iterations in zip(
            (self.pretraining, self.learner),
            self.optimizers,
            (config.pretrain_iterations, config.metatrain_iterations),
            strict=True,
        ):
            first, end = end, end + iterations
            if start >= end or not iterations:
                continue
            learner.start_at(max(start, first))
            learner.fit(
                self.tasks("train"),
                end - learner.iterations,
                meta_batch_size=config.meta_batch_size,
                optimizer=optimizer,
                validation=(
                    self.tasks("validation") if self.validates else None
                ),
                statistics=self._validation_statistics,
                steps_per_epoch=self.checkpoint_every,
                directory=files,
                progress=console,
            )

    def evaluate(
        self, settings: EvaluationSettings, trained: bool
    ) -> list[Evaluation]:
        asked: Sequence[str | None] = settings.statistics or [self.statistics]
        if "population" in asked:
            self.learner.measure_population(self.tasks("train"))
        return [
            evaluation
            for num_shots in settings.shots or self.evaluation_shots
            for evaluation in self._evaluate(num_shots, settings, trained)
        ]

    def export(
        self,
        path: pathlib.Path,
        alpha: float | None = None,
        statistics: str | None = None,
    ) -> None:
        if alpha is None and not self.config.metatrain_iterations:
            if self.config.baseline != "oracle":
                raise ExportError(
                    f"The {self.config.label} network was not meta-trained, so "
                    "it has no step size of its own. Set alpha.",
                    "alpha",
                )
            alpha = 0.0
        if alpha is not None:
            self.learner.check_updates("alpha")
        statistics = statistics or self.statistics or "transductive"
        if statistics == "population":
            self.learner.measure_population(self.tasks("train"))
        kind, objective = self.exported()
        export_method(
            path,
            Network(self.model, objective),
            self.learner.method,
            self.learner.params,
            alpha=alpha,
            kind=kind,
            statistics=statistics,
        )

    @property
    def _validation_statistics(self) -> str:
        """Those of evaluation; those of the population come after training."""
        if self.statistics == "population":
            return "joint"
        return self.statistics or "transductive"

    def _evaluate(
        self, num_shots: int, settings: EvaluationSettings, trained: bool
    ) -> list[Evaluation]:
        learner = self.evaluated(num_shots)
        num_queries = settings.num_queries or num_shots
        num_updates = learner.method.test_steps
        if num_updates:
            num_updates = max(num_updates, NUM_UPDATES)
        shown: Sequence[str | None] = settings.statistics or [self.statistics]

        def measure(split, num_tasks, alpha, statistics) -> np.ndarray:
            scores = learner.evaluate(
                self.tasks(split, num_shots, num_queries),
                num_tasks,
                num_updates,
                alpha=alpha,
                statistics=statistics or "transductive",
            )
            return scores.values[self.reports.key]

        alpha, searched = settings.alpha, False
        if alpha is None and num_updates:
            candidates = learner.method.step_sizes
            if trained and self.config.metatrain_iterations and not candidates:
                alpha = self.config.alpha
            elif trained and self.config.baseline == "oracle":
                alpha = 0.0  # it knows the task
            else:
                num_tasks = SEARCH_TASKS if candidates else NUM_TASKS
                alpha = best_step_size(
                    candidates or STEP_SIZES,
                    lambda size: measure(
                        "validation", num_tasks, size, shown[0]
                    ),
                    self.reports.better,
                    self.reports.worst,
                )
                searched = True
        learned = settings.alpha is None and learner.method_variables
        return [
            Evaluation(
                num_shots,
                alpha,
                searched,
                measure(
                    settings.split,
                    settings.num_tasks or NUM_TASKS,
                    None if learned else alpha,
                    statistics,
                ),
                self.reports,
                num_queries,
                statistics,
            )
            for statistics in shown
        ]

    def _optimizer(
        self,
        learner: Learner,
        rate: float | keras.optimizers.schedules.LearningRateSchedule,
        clip: float | None = None,
    ) -> keras.optimizers.Optimizer:
        """The original's Adam, or the optimizer that the method takes."""
        if learner.method.outer_optimizer == "adam":
            optimizer = keras.optimizers.Adam(
                rate, epsilon=1e-8, clipvalue=clip
            )
        else:
            optimizer = keras.optimizers.get(learner.method.outer_optimizer)
            optimizer.learning_rate = rate
        return learner.trainer.optimizer(optimizer)
