"""MAML for a user's own model and tasks: fit, evaluate, adapt, save."""

import functools
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from maml_tf.core import maml
from maml_tf.core.losses import Batch, supervised
from maml_tf.core.maml import StepSize
from maml_tf.core.task_loops import loops_for
from maml_tf.errors import ConfigError, check_whole_number
from maml_tf.layers.normalization import which_adapt
from maml_tf.learner import files, meta_sgd, serving
from maml_tf.learner.adapted_model import AdaptedModel, check_statistics
from maml_tf.learner.evaluation import NUM_TASKS, Evaluator
from maml_tf.learner.metrics import as_metric, names_of, on_query_set
from maml_tf.learner.model_checks import (
    check_adapts,
    check_model,
    has_batch_norm,
)
from maml_tf.learner.objectives import as_loss
from maml_tf.learner.outer_loop import OuterLoop
from maml_tf.learner.scores import History, Scores
from maml_tf.learner.task_checks import CheckedTasks, TaskChecks
from maml_tf.tasks.stream import TaskStream
from maml_tf.training.validation import NUM_TASKS as VALIDATION_TASKS


class Learner:
    """A model that learns, over many tasks, to adapt to one from few examples.

    Attributes:
        model: the user's model. `fit` changes its weights; its normalization
            layers were exchanged for exact ones (docs/batch_norm.md).
        loss: the loss of a task, a function of (theta, batch), with theta the
            values of `model.trainable_variables`.
        adapts: for each of these whether inner updates change it.
        num_steps: inner updates.
        first_order: whether meta-gradients leave out second derivatives.
        learn_alpha: whether step sizes are learned, too (Meta-SGD).
    """

    def __init__(
        self,
        model: keras.Model,
        loss: Any,
        alpha: float = 0.01,
        num_steps: int = 1,
        *,
        adapts: Callable[[keras.Variable], bool] | None = None,
        first_order: bool = False,
        metrics: Sequence[Any] = (),
        learn_alpha: bool = False,
    ):
        """
        Args:
            model: any built Keras model without random layers.
            loss: the name of a Keras loss, a Keras loss, or a function of
                (targets, outputs). A cross-entropy that is given by name
                takes outputs as logits, unless the network ends in softmax or
                sigmoid. What layers add (regularizers) is added to it.
            alpha: size of an inner step.
            num_steps: inner updates.
            adapts: says of a trainable variable whether inner updates change
                it; None adapts all but the offsets and scales of
                normalization, as the paper. All are meta-learned.
            first_order: leave out second derivatives: faster, less exact.
            metrics: "accuracy", names of Keras losses, or functions of
                (targets, outputs).
            learn_alpha: meta-learn a step size for each element of what
                adapts, beginning with `alpha` (Li et al. 2017).

        Raises:
            ConfigError: if something makes no sense.
        """
        check_model(model)
        if not (isinstance(alpha, int | float) and 0 < alpha < math.inf):
            raise ConfigError(
                f"alpha must be a positive number. Received: alpha={alpha!r}"
            )
        check_whole_number("num_steps", num_steps, least=1)
        self.model = model
        self.num_steps = num_steps
        self.first_order = first_order
        self.learn_alpha = learn_alpha
        self.adapts = which_adapt(model, adapts)
        check_adapts(model, self.adapts)
        objective = as_loss(loss, model)
        self.objectives = [objective]
        self.objectives += [as_metric(metric, objective) for metric in metrics]
        self._names = names_of(self.objectives)
        self.loss = supervised(model, objective)
        self.initial_alpha = float(alpha)
        learning = [learn_alpha and moves for moves in self.adapts]
        self.alphas = meta_sgd.initial_step_sizes(model, learning, alpha)
        self.checks = TaskChecks(model, self.loss, objective)
        self.outer_loop = OuterLoop(model, self._task_gradient, self.alphas)
        self._evaluators: dict[str, Evaluator] = {}

    @property
    def iterations(self) -> int:
        """Meta-steps taken so far."""
        return self.outer_loop.iterations

    @property
    def spec(self) -> Batch | None:
        """`tf.TensorSpec`s of the examples, any number; None before any."""
        return self.checks.spec

    @property
    def alpha(self) -> StepSize:
        """The step size; a list of them, one for each variable, if learned."""
        if not self.learn_alpha:
            return self.initial_alpha
        values = [tf.convert_to_tensor(a) for a in self.alphas]
        return meta_sgd.step_sizes(values, self.adapts)

    @property
    def theta(self) -> list[tf.Tensor]:
        """The values of the model's trainable variables now."""
        return [tf.convert_to_tensor(v) for v in self.model.trainable_variables]

    def fit(
        self,
        tasks: TaskStream,
        iterations: int,
        *,
        meta_batch_size: int = 16,
        optimizer: str | keras.optimizers.Optimizer = "adam",
        validation: TaskStream | None = None,
        progress: bool = True,
    ) -> History:
        """Meta-trains the model: Algorithm 1.

        Goes on where the call before ended, with the next tasks.

        Args:
            tasks: the training tasks.
            iterations: meta-steps to take.
            meta_batch_size: tasks of a meta-step.
            optimizer: the outer optimizer; one by name is kept for later.
            validation: 200 of these tasks are evaluated every 500 meta-steps
                and at the end.
            progress: show it.

        Raises:
            ConfigError, DataError: if tasks and model do not fit.
            TrainingDivergedError: if a loss is not finite.
        """
        check_whole_number("iterations", iterations, least=1)
        check_whole_number("meta_batch_size", meta_batch_size, least=1)
        return self.outer_loop.run(
            CheckedTasks(tasks, self.checks),
            optimizer,
            iterations,
            meta_batch_size,
            validation and functools.partial(self._validate, validation),
            progress,
        )

    def evaluate(
        self,
        tasks: TaskStream,
        num_tasks: int = NUM_TASKS,
        num_steps: int | None = None,
        *,
        statistics: str = "support",
    ) -> Scores:
        """Loss and metrics on query sets after 0, 1, ..., n updates.

        Args:
            tasks: held-out tasks; the first of them are taken.
            num_tasks: how many.
            num_steps: n; None: as in training.
            statistics: as for `AdaptedModel.predict`.

        Raises:
            ConfigError, DataError: if tasks and model do not fit each other.
        """
        check_statistics(self.model, statistics)
        check_whole_number("num_tasks", num_tasks, least=1)
        num_steps = self._updates(num_steps)
        if statistics not in self._evaluators:
            metrics = on_query_set(
                self.model, self.objectives, statistics == "support"
            )
            self._evaluators[statistics] = Evaluator(
                self.loss, self.adapts, metrics, loops_for(self.model)
            )
        values = self._evaluators[statistics](
            self.theta,
            CheckedTasks(tasks, self.checks, finite=True),
            self.alpha,
            num_tasks,
            num_steps,
        )
        return Scores(
            dict(zip(self._names, values, strict=True)),
            statistics if has_batch_norm(self.model) else None,
        )

    def adapt(
        self,
        support_x: Any,
        support_y: Any,
        num_steps: int | None = None,
        alpha: float | None = None,
    ) -> AdaptedModel:
        """Adapts to a task; the learner and its model do not change.

        Args:
            support_x: inputs [examples, ...], or a structure of them.
            support_y: targets [examples, ...].
            num_steps: updates; None: as in training.
            alpha: size of a step; None: as in training.

        Raises:
            ConfigError, DataError: if examples and model do not fit.
        """
        support = self.checks.support(support_x, support_y)
        adaptation = maml.adapt(
            self.loss,
            self.theta,
            [support] * self._updates(num_steps),
            self.alpha if alpha is None else alpha,
            adapts=self.adapts,
        )
        return AdaptedModel(
            self.model,
            adaptation.iterates[-1],
            support,
            [float(loss) for loss in adaptation.losses],
            self.objectives,
            self.spec,
        )

    def export(
        self, path: str | os.PathLike, *, statistics: str = "support"
    ) -> None:
        """Writes a SavedModel that adapts, for deployment (docs/serving.md).

        It needs neither maml_tf nor Keras. A classifier takes class numbers.

        Args:
            path: the directory to make.
            statistics: as for `AdaptedModel.predict`.

        Raises:
            ConfigError: if the learner has not seen data yet.
            ExportError: if there is something at `path`.
        """
        check_statistics(self.model, statistics)
        serving.export(self, path, statistics)

    def save(self, path: str | os.PathLike) -> None:
        """Saves the learner to a directory, without the optimizer's state.

        Raises:
            ConfigError: if it cannot be saved there.
        """
        files.save(self, path)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike,
        *,
        loss: Any = None,
        metrics: Sequence[Any] | None = None,
        custom_objects: dict[str, Any] | None = None,
    ) -> "Learner":
        """Loads what `save` saved.

        Args:
            path: the directory.
            loss, metrics: given again if they were functions.
            custom_objects: by name, the user's own layers and functions.

        Raises:
            ConfigError: if that does not do.
        """
        return files.load(cls, path, loss, metrics, custom_objects)

    def __repr__(self) -> str:
        size = "learned" if self.learn_alpha else f"{self.initial_alpha:g}"
        return (
            f"<Learner of {self.model.name}: loss {self.objectives[0].name}, "
            f"alpha {size}, {self.num_steps} updates of {sum(self.adapts)} of "
            f"{len(self.adapts)} variables, {self.iterations} iterations>"
        )

    def _task_gradient(
        self, parameters: maml.Params, task: maml.Task
    ) -> maml.MetaGradient:
        options = {"adapts": self.adapts, "first_order": self.first_order}
        if self.learn_alpha:
            return meta_sgd.meta_sgd_gradient(
                self.loss, parameters, task, self.num_steps, **options
            )
        return maml.task_meta_gradient(
            self.loss,
            parameters,
            task,
            self.initial_alpha,
            self.num_steps,
            **options,
        )

    def _updates(self, num_steps: int | None) -> int:
        if num_steps is None:
            return self.num_steps
        check_whole_number("num_steps", num_steps, least=0)
        return num_steps

    def _validate(self, tasks: TaskStream) -> dict[str, float]:
        scores = self.evaluate(tasks, VALIDATION_TASKS)
        return {name: scores.mean(name) for name in self._names}
