"""Meta-training of a learner: what `Learner.fit` does."""

import contextlib
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from rich.console import Console

from maml_tf.core.maml import MetaGradientFn, Task
from maml_tf.core.meta_step import MetaStep
from maml_tf.core.task_stream import NumberedTask, NumberedTasks, TaskStream
from maml_tf.errors import ConfigError, TrainingDivergedError
from maml_tf.layers.randomness import generators_of
from maml_tf.learner.task_checks import CheckedTasks
from maml_tf.progress import TrainingProgress
from maml_tf.training.callbacks import KerasCallbacks
from maml_tf.training.files import TrainingFiles
from maml_tf.training.history import History
from maml_tf.training.loop import LOG_EVERY, Loop, meta_steps
from maml_tf.training.validation import Validation

_LOST = (
    "The weights are of no use now: rebuild the model and the learner. Lower "
    "alpha or the optimizer's learning rate, or bring the data nearer to mean "
    "0 and variance 1."
)
_KEPT = "The last checkpoint before it stays. Lower the step sizes alpha, beta."


class Trainer:
    """Takes meta-steps; keeps optimizers and compiled steps between calls.

    Attributes:
        iterations: meta-steps taken so far.
        history: of the latest training.
    """

    def __init__(
        self,
        model: keras.Model,
        task_gradient: MetaGradientFn,
        more_variables: Sequence[keras.Variable],
        differentiates_updates: bool = True,
    ):
        """
        Args:
            model, task_gradient, more_variables, differentiates_updates: as
                for `MetaStep`.
        """
        self._model = model
        self._task_gradient = task_gradient
        self._more_variables = more_variables
        self._differentiates_updates = differentiates_updates
        self.iterations = 0
        self.history = History()
        self._optimizers: dict[Any, keras.optimizers.Optimizer] = {}
        self._steps: list[tuple[Any, MetaStep]] = []

    def run(
        self,
        stream: CheckedTasks,
        optimizer: keras.optimizers.Optimizer,
        end: int,
        meta_batch_size: int,
        *,
        steps_per_epoch: int,
        validation: Validation | None = None,
        files: TrainingFiles | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        console: Console,
        name: str,
    ) -> History:
        """Takes meta-steps until `end` were taken in all."""
        numbered: TaskStream | NumberedTasks = stream
        if generators_of(self._model):
            numbered = NumberedTasks(stream)
        step = self._step(optimizer, numbered.tasks(0, meta_batch_size))
        self.history = History()
        called = None
        if callbacks:
            called = KerasCallbacks(
                callbacks, self._model, optimizer, end, steps_per_epoch
            )
        start = self.iterations

        def steps():
            for done, losses in meta_steps(
                step,
                numbered,
                meta_batch_size,
                start,
                end,
                (LOG_EVERY, steps_per_epoch),
                _KEPT if files else _LOST,
            ):
                self.iterations = done
                yield done, losses

        with (
            TrainingProgress(console, name, start, end) as bar,
            called.attached() if called else contextlib.nullcontext(),
        ):
            loop = Loop(
                self.history,
                bar,
                steps_per_epoch=steps_per_epoch,
                files=files,
                validation=validation,
                callbacks=called,
            )
            try:
                loop.run(steps(), start, end)
            except TrainingDivergedError:
                stream.check_finite()  # the data may be the cause
                raise
        return self.history

    def optimizer(self, given: Any) -> keras.optimizers.Optimizer:
        """Creates one given by name once; continues with one used before.

        Raises:
            ConfigError: if it is not one, or belongs to other variables.
        """
        if given not in self._optimizers:
            try:
                optimizer = keras.optimizers.get(given)
            except ValueError as e:
                raise ConfigError(
                    "optimizer must be a Keras optimizer, or the name of one "
                    f"such as 'adam'. Received: optimizer={given!r}"
                ) from e
            learned = [*self._model.trainable_variables, *self._more_variables]
            if optimizer.built and [
                id(v) for v in optimizer._trainable_variables
            ] != [id(v) for v in learned]:
                raise ConfigError(
                    "The optimizer has learned with other variables; give "
                    "this learner one of its own."
                )
            if not optimizer.built:
                optimizer.build(learned)
            self._optimizers[given] = optimizer
        return self._optimizers[given]

    def _step(
        self,
        optimizer: keras.optimizers.Optimizer,
        example: Task | NumberedTask,
    ) -> MetaStep:
        """The compiled step, made once per optimizer and kind of tasks."""
        specs = tf.nest.map_structure(
            lambda x: tf.TensorSpec(x.shape, x.dtype), example
        )
        for known, step in self._steps:
            if known == (optimizer, specs):
                return step
        step = MetaStep(
            self._model,
            optimizer,
            self._task_gradient,
            example,
            more_variables=self._more_variables,
            differentiates_updates=self._differentiates_updates,
        )
        self._steps.append(((optimizer, specs), step))
        return step
