"""Meta-learning for a user's own model and tasks."""

import contextlib
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging
from rich.console import Console

from maml_tf.core.batch import Batch, weights_of
from maml_tf.core.maml import LossFn, Params, StepSize
from maml_tf.core.network import Network
from maml_tf.core.population import take_statistics
from maml_tf.core.task_stream import TaskStream
from maml_tf.datasets.image_preparation import ImagePreparation
from maml_tf.errors import ConfigError, check_whole_number
from maml_tf.layers.normalization import has_batch_norm
from maml_tf.learner import exporting, saving
from maml_tf.learner.adapted_model import AdaptedModel, check_statistics
from maml_tf.learner.batch_checks import BatchChecks
from maml_tf.learner.evaluation import NUM_TASKS, Evaluator
from maml_tf.learner.model_checks import check_model
from maml_tf.learner.scores import Scores
from maml_tf.learner.step_sizes import checked_step_size
from maml_tf.learner.task_checks import CheckedTasks, TaskChecks
from maml_tf.learner.trainer import Trainer
from maml_tf.methods.maml import MAML
from maml_tf.methods.meta_sgd import MetaSGD
from maml_tf.methods.method import Method
from maml_tf.objectives.keras_losses import activation_of
from maml_tf.objectives.metrics import as_metric, names_of
from maml_tf.objectives.objective import DISTANCES, as_loss, check_method
from maml_tf.training.files import TrainingFiles
from maml_tf.training.history import History
from maml_tf.training.validation import (
    VALIDATE_EVERY,
    VALIDATION_TASKS,
    Validation,
)

POPULATION_SIZE = 2000  # examples that `measure_population` takes
POPULATION_BATCH = 200  # of these at once


class Learner:
    """Trains a model over many tasks to adapt to a new one from few examples.

    Attributes:
        model: the user's model. `fit` changes its weights; its normalization
            layers were replaced by exact ones (docs/batch_norm.md).
        method: how it learns and adapts.
        network: the model with its loss.
        name: label of the progress display.
    """

    def __init__(
        self,
        model: keras.Model,
        loss: Any,
        alpha: float | None = None,
        num_steps: int | None = None,
        *,
        method: Method | None = None,
        adapts: Callable[[keras.Variable], bool] | None = None,
        first_order: bool = False,
        metrics: Sequence[Any] = (),
        learn_alpha: bool = False,
    ):
        """
        Args:
            model: any built Keras model. Dropout and other layers that draw
                random numbers do so in `fit` only.
            loss: the name of a Keras loss, a Keras loss, or a function of
                (targets, outputs). A cross-entropy given by name takes outputs
                as logits, unless the network ends in softmax or sigmoid. Losses
                of layers (regularizers) are added to it.
            alpha: inner step size; None: 0.01.
            num_steps: inner updates; None: 1.
            method: a method other than MAML, such as `maml_tf.Reptile()`. It
                has settings of its own, in place of `alpha`, `num_steps`,
                `adapts`, `first_order` and `learn_alpha`.
            adapts: called with a trainable variable, says whether inner updates
                change it; None adapts all but the offsets and scales of
                normalization, as in the paper. All are meta-learned.
            first_order: leave out second derivatives: faster, less exact.
            metrics: "accuracy", names of Keras losses or metrics, such objects,
                or functions of (targets, outputs).
            learn_alpha: meta-learn a step size for each element that adapts,
                starting from `alpha` (Li et al. 2017).

        Raises:
            ConfigError: if an argument is invalid.
        """
        check_model(model)
        given: dict[str, Any] = {
            name: value
            for name, value in (
                ("alpha", alpha),
                ("num_steps", num_steps),
                ("adapts", adapts),
                ("first_order", first_order or None),
            )
            if value is not None
        }
        if method is None:
            method = MetaSGD(**given) if learn_alpha else MAML(**given)
        elif given or learn_alpha:
            raise ConfigError(
                f"{', '.join(given) or 'learn_alpha'} does not go with method; "
                "pass settings to the method, as in method=maml_tf.MAML("
                "alpha=0.1)."
            )
        objective = as_loss(
            loss, activation_of(model) if method.fixed_outputs else DISTANCES
        )
        check_method(objective, method)
        self.objectives = [objective]
        self.objectives += [as_metric(metric, objective) for metric in metrics]
        self._names = names_of(self.objectives)
        self.model = model
        self.name = model.name
        self.network = Network(model, objective)
        self.method = method.bind(self.network)
        self._descended = self.method.variables(self.network)
        self._carried = self.method.carried(self.network)
        self.checks = TaskChecks(
            self.network, self.method, self.objectives, lambda: self.params
        )
        self.trainer = self._new_trainer()
        self._evaluators: dict[str, Evaluator] = {}
        # Iterations after which the population's statistics were measured.
        self.population_of: int | None = None

    @functools.cached_property
    def _outer_optimizer(self) -> keras.optimizers.Optimizer:
        optimizer = keras.optimizers.get(self.method.outer_optimizer)
        rate = self.method.outer_rate(float(optimizer.learning_rate))
        optimizer.learning_rate = rate
        return optimizer

    @property
    def method_variables(self) -> list[keras.Variable]:
        """What the method learns or carries along beside theta."""
        return [*self._descended, *self._carried]

    @property
    def loss(self) -> LossFn:
        """The loss of a task, a function of (theta, batch)."""
        return self.network.loss

    @property
    def iterations(self) -> int:
        """Meta-steps taken so far."""
        return self.trainer.iterations

    @property
    def history(self) -> History:
        """The course of the latest `fit`, even if it was interrupted."""
        return self.trainer.history

    @property
    def spec(self) -> Batch | None:
        """`tf.TensorSpec`s of the examples; None before the first ones."""
        return self.checks.spec

    @property
    def alpha(self) -> StepSize | None:
        """The step size; a list of them, one for each variable, if learned."""
        return self.method.step_size(self.network, self.params)

    @property
    def theta(self) -> list[tf.Tensor]:
        """The values of the model's trainable variables now."""
        return self.network.theta

    @property
    def params(self) -> Params:
        """Everything that is meta-learned: theta, then the method's own."""
        more = [tf.convert_to_tensor(v) for v in self.method_variables]
        return [*self.theta, *more]

    def fit(
        self,
        tasks: TaskStream,
        iterations: int,
        *,
        meta_batch_size: int = 16,
        optimizer: str | dict | keras.optimizers.Optimizer | None = None,
        validation: TaskStream | None = None,
        statistics: str = "support",
        steps_per_epoch: int = VALIDATE_EVERY,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        directory: str | os.PathLike | TrainingFiles | None = None,
        progress: bool | Console = True,
    ) -> History:
        """Meta-trains the model: Algorithm 1, with any method.

        Continues where the previous call ended, with the next tasks. With a
        directory, it resumes where training stopped there, for whatever reason,
        and ends with the same weights as an uninterrupted run.

        Args:
            tasks: the training tasks. Methods that learn to classify batches
                of all classes make these of the stream.
            iterations: meta-steps to take; with a directory, the total to be
                taken there, so that the same call resumes after a stop.
            meta_batch_size: tasks per meta-step.
            optimizer: the outer optimizer, by its name, its configuration or
                itself; None takes the method's, usually Adam, at Keras'
                learning rate, which falls if the method says so. One given by
                name is kept for later calls. As in Keras' `fit`, it scales the
                loss, decays weights, and at the end replaces the weights with
                their averages.
            validation: 200 of these tasks are evaluated at the end of each
                epoch.
            statistics: as for `evaluate`, in validation.
            steps_per_epoch: meta-steps per epoch, which ends in validation, a
                checkpoint and the callbacks' `on_epoch_end`.
            callbacks: Keras callbacks. Their batch is a call of the compiled
                step, which takes up to 50 meta-steps of small models; logs are
                the mean losses, and `val_loss`, `val_<name>` of validation.
            directory: keeps checkpoints of everything that training changes,
                the weights that did best in validation (by accuracy if that is
                measured, else by loss), logs as CSV and for TensorBoard.
            progress: whether to show it, or the console to show it on.

        Returns:
            The course of training, which is also in `history`.

        Raises:
            ConfigError, DataError: if tasks and model do not fit.
            RunDirectoryError: if the directory cannot be used.
            TrainingDivergedError: if a loss is not finite.
        """
        for name, value in (
            ("iterations", iterations),
            ("meta_batch_size", meta_batch_size),
            ("steps_per_epoch", steps_per_epoch),
        ):
            check_whole_number(name, value, least=1)
        # Python's own integers, which JSON takes.
        iterations, meta_batch_size = int(iterations), int(meta_batch_size)
        steps_per_epoch = int(steps_per_epoch)
        stream = self._training_stream(tasks)
        outer = self.trainer.optimizer(
            self._outer_optimizer if optimizer is None else optimizer
        )
        end = self.iterations + iterations
        with contextlib.ExitStack() as stack:
            files: TrainingFiles | None
            if directory is None or isinstance(directory, TrainingFiles):
                files = directory
            else:
                files = TrainingFiles(directory, self.state(outer))
                stack.enter_context(files.locked())
                end = iterations
                start = self.trainer.iterations = files.restore(end)
                changed = files.begin_stretch(start) if start < end else ""
                if changed:
                    logging.warning(
                        "Earlier stretches in %s used other code: %s.",
                        directory,
                        changed,
                    )
            return self.trainer.run(
                stream,
                outer,
                end,
                meta_batch_size,
                steps_per_epoch=steps_per_epoch,
                validation=self._validation(validation, statistics, files),
                files=files,
                callbacks=callbacks,
                console=(
                    progress
                    if isinstance(progress, Console)
                    else Console(quiet=not progress)
                ),
                name=self.name,
            )

    def with_loss(self, loss: Any) -> "Learner":
        """A learner with another loss that shares everything learned."""
        other = Learner(
            self.model,
            loss,
            method=self.method,
            metrics=[metric.given for metric in self.objectives[1:]],
        )
        other._descended, other._carried = self._descended, self._carried
        other.trainer = other._new_trainer()
        other.start_at(self.iterations)
        other.population_of = self.population_of
        return other

    def start_at(self, iteration: int) -> None:
        """Counts `iteration` meta-steps as taken, and their tasks as used."""
        self.trainer.iterations = iteration

    def check_updates(self, name: str) -> None:
        """Checks that a setting of updates, by name, has an effect.

        Raises:
            ConfigError: if the method has no updates.
        """
        if not self.method.test_steps:
            raise ConfigError(
                f"{self.method.name} has no updates. Leave out {name}.", name
            )

    def state(
        self, optimizer: keras.optimizers.Optimizer
    ) -> dict[str, list[tf.Variable]]:
        """Everything that `fit` changes, by name, for checkpoints."""
        return {
            "weights": [v.value for v in self.model.variables],
            "method": [v.value for v in self.method_variables],
            "optimizer": [v.value for v in optimizer.variables],
        }

    def evaluate(
        self,
        tasks: TaskStream,
        num_tasks: int = NUM_TASKS,
        num_steps: int | None = None,
        *,
        alpha: StepSize | None = None,
        statistics: str = "support",
    ) -> Scores:
        """Loss and metrics on query sets after 0, 1, ..., n updates.

        Args:
            tasks: held-out tasks; the first `num_tasks` are used.
            num_tasks: number of tasks.
            num_steps: n; None: the method's, for MAML as in training.
            alpha: size of an update; None: as in training.
            statistics: as for `AdaptedModel.predict`.

        Raises:
            ConfigError, DataError: if tasks and model do not fit each other.
        """
        self.check_statistics(statistics)
        check_whole_number("num_tasks", num_tasks, least=1)
        num_tasks = int(num_tasks)
        num_steps = self._updates(num_steps)
        if statistics not in self._evaluators:
            self._evaluators[statistics] = Evaluator(
                self.network, self.method, self.objectives, statistics
            )
        values = self._evaluators[statistics](
            self.params,
            CheckedTasks(tasks, self.checks, finite=True),
            self._step_size(alpha),
            num_tasks,
            num_steps,
        )
        return Scores(
            dict(zip(self._names, values, strict=True)),
            statistics if has_batch_norm(self.model) else None,
        )

    def measure_population(
        self, tasks: TaskStream, num_images: int = POPULATION_SIZE
    ) -> None:
        """Takes the moving statistics of batch normalization from examples.

        `statistics="population"` uses them. `fit` changes the weights and not
        these statistics, so measure again after it.

        Args:
            tasks: training tasks; the support sets of the first are used.
            num_images: examples to use, at least.

        Raises:
            ConfigError, DataError: if tasks and model do not fit each other.
        """
        check_whole_number("num_images", num_images, least=1)
        stream = CheckedTasks(tasks, self.checks)
        size = len(tf.nest.flatten(stream.tasks(0, 1).support)[0][0])
        together = max(1, POPULATION_BATCH // size)

        def batches():
            first = taken = 0
            while taken < num_images:
                support = stream.tasks(first, together).support
                inputs = tf.nest.map_structure(
                    lambda x: x.reshape(-1, *x.shape[2:]), support.inputs
                )
                weights = weights_of(support)
                if weights is not None:
                    places = np.flatnonzero(weights)
                    inputs = tf.nest.map_structure(
                        lambda x, places=places: x[places], inputs
                    )
                first += together
                taken += len(tf.nest.flatten(inputs)[0])
                yield inputs

        take_statistics(self.model, batches())
        self.population_of = self.iterations

    def check_statistics(self, statistics: str) -> None:
        """Checks that batch normalization can use such statistics.

        Raises:
            ConfigError: if it cannot.
        """
        check_statistics(self.model, statistics, self._knows_population)

    def adapt(
        self,
        support_x: Any,
        support_y: Any,
        num_steps: int | None = None,
        alpha: StepSize | None = None,
        *,
        sample_weight: Any = None,
    ) -> AdaptedModel:
        """Adapts to a task; the learner and its model do not change.

        Args:
            support_x: inputs [examples, ...], or a structure of them.
            support_y: targets [examples, ...]. Labels may be text, which is
                numbered in alphabetical order.
            num_steps: updates; None: the method's, for MAML as in training.
            alpha: size of a step; None: as in training.
            sample_weight: weights [examples], by which the loss is a weighted
                mean; None: examples count alike.

        Raises:
            ConfigError, DataError: if examples and model do not fit.
        """
        support, classes = self.checks.support(
            support_x, support_y, sample_weight
        )
        alpha = self._step_size(alpha)
        params = self.params
        state = self.method.begin(self.network, params, support)
        losses = []
        for _ in range(self._updates(num_steps)):
            state, loss = self.method.update(
                self.network, state, support, alpha
            )
            losses.append(float(loss))
        return AdaptedModel(
            self.network,
            self.method,
            params,
            state,
            support,
            losses,
            self.objectives,
            self.checks.examples,
            classes,
            self._knows_population,
        )

    def export(
        self,
        path: str | os.PathLike,
        *,
        statistics: str = "support",
        num_steps: int | None = None,
        images: ImagePreparation | None = None,
        class_names: Sequence[str] | None = None,
        version: int | None = None,
    ) -> None:
        """Writes a SavedModel that adapts, for deployment (docs/serving.md).

        It needs neither maml_tf nor Keras. A classifier takes class numbers.
        `AdaptedModel.export` writes one that is adapted.

        Args:
            path: the directory to create; an empty one may exist.
            statistics: as for `AdaptedModel.predict`.
            num_steps: updates of `serving_default`; None: as in `adapt`.
            images: adds signatures that take JPEG and PNG files; `prepare` of
                the tasks that `tasks_from_folder` gives.
            class_names: the names of classes 0, 1, ..., which answers then
                hold, if all tasks have the same.
            version: writes to a directory of this number in `path`, as
                TensorFlow Serving wants it.

        Raises:
            ConfigError: if the learner has not seen data yet, or an argument is
                invalid.
            ExportError: if the directory exists and is not empty.
        """
        self.check_statistics(statistics)
        exporting.export(
            self,
            path,
            statistics,
            num_updates=self._updates(num_steps),
            images=images,
            class_names=class_names,
            version=version,
        )

    def save(self, path: str | os.PathLike) -> None:
        """Saves the learner to a directory, without the optimizer's state.

        Raises:
            ConfigError: if it cannot be saved there.
        """
        saving.save(self, path)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike,
        *,
        loss: Any = None,
        metrics: Sequence[Any] | None = None,
        custom_objects: dict[str, Any] | None = None,
        safe_mode: bool = True,
    ) -> "Learner":
        """Loads a learner that `save` wrote.

        Args:
            path: the directory.
            loss, metrics: must be given again if they were functions.
            custom_objects: the user's own layers and functions, by name.
            safe_mode: whether to refuse a model that holds Python code, such as
                the lambda of a Lambda layer.

        Raises:
            ConfigError: if the learner cannot be restored.
        """
        return saving.load(cls, path, loss, metrics, custom_objects, safe_mode)

    def __repr__(self) -> str:
        return (
            f"<Learner of {self.model.name}: {self.method}, loss "
            f"{self.objectives[0].name}, {self.iterations} iterations>"
        )

    def _new_trainer(self) -> Trainer:
        return Trainer(
            self.model,
            functools.partial(self.method.task_gradient, self.network),
            self._descended,
            self._carried,
            self.method.anneals,
            self.method.differentiates_updates,
        )

    @property
    def _knows_population(self) -> bool:
        return self.population_of == self.iterations

    def _training_stream(self, tasks: TaskStream) -> CheckedTasks:
        if self.method.train_batch_size is None:
            return CheckedTasks(tasks, self.checks)
        if not hasattr(tasks, "labelled_batches"):
            raise ConfigError(
                f"{self.method.name} trains on labelled batches of all "
                "classes, and this stream has none. Use tasks_from_arrays or "
                "tasks_from_folder, or give your stream a method "
                "labelled_batches(batch_size)."
            )
        return CheckedTasks(
            tasks.labelled_batches(self.method.train_batch_size),
            BatchChecks(
                self.network,
                self.objectives[0],
                self.checks.examples,
                self.method.num_classes,
            ),
        )

    def _step_size(self, alpha: StepSize | None) -> StepSize | None:
        if alpha is None:
            return self.alpha
        self.check_updates("alpha")
        return checked_step_size(alpha, self.model.trainable_variables)

    def _updates(self, num_steps: int | None) -> int:
        if num_steps is None:
            return self.method.test_steps
        check_whole_number("num_steps", num_steps, least=0)
        if num_steps:
            self.check_updates("num_steps")
        return int(num_steps)

    def _validation(
        self,
        tasks: TaskStream | None,
        statistics: str,
        files: TrainingFiles | None,
    ) -> Validation | None:
        if tasks is None:
            return None
        accuracy = "accuracy" in self._names
        return Validation(
            functools.partial(self._validate, tasks, statistics),
            "accuracy" if accuracy else "loss",
            larger_is_better=accuracy,
            log=files.validation_log(self._names) if files else None,
            best=files.best if files else None,
        )

    def _validate(self, tasks: TaskStream, statistics: str) -> dict[str, float]:
        scores = self.evaluate(tasks, VALIDATION_TASKS, statistics=statistics)
        return {
            name: float(values[:, -1].mean(dtype=np.float64))
            for name, values in scores.values.items()
        }
