"""Meta-training of a learner, for `Learner.fit`."""

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from rich.console import Console

from maml_tf.core.maml import MetaGradient, Task
from maml_tf.core.meta_step import MetaStep
from maml_tf.core.task_stream import NumberedTask, NumberedTasks, TaskStream
from maml_tf.errors import TrainingDivergedError
from maml_tf.layers.randomness import generators_of
from maml_tf.learner.outer_optimizer import keeps_averages, outer_optimizer
from maml_tf.learner.task_checks import CheckedTasks
from maml_tf.progress import TrainingProgress
from maml_tf.training.callbacks import KerasCallbacks
from maml_tf.training.files import TrainingFiles
from maml_tf.training.history import History
from maml_tf.training.loop import LOG_EVERY, Loop, meta_steps
from maml_tf.training.validation import Validation

_LOST = (
    "The weights are no longer usable: rebuild the model and the learner. "
    "Lower alpha or the optimizer's learning rate, or scale the data to about "
    "mean 0 and variance 1."
)
_KEPT = "The last checkpoint is kept. Lower the step sizes alpha and beta."


class Trainer:
    """Takes meta-steps; keeps optimizers and compiled steps between calls.

    Attributes:
        iterations: meta-steps taken so far.
        history: of the latest training.
    """

    def __init__(
        self,
        model: keras.Model,
        task_gradient: Callable[..., MetaGradient],
        more_variables: Sequence[keras.Variable],
        carried: Sequence[keras.Variable] = (),
        by_iteration: bool = False,
        differentiates_updates: bool = True,
    ):
        """
        Args:
            model, task_gradient, more_variables, carried, by_iteration,
                differentiates_updates: as for `MetaStep`.
        """
        self._model = model
        self._task_gradient = task_gradient
        self._more_variables = more_variables
        self._carried = carried
        self._by_iteration = by_iteration
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
        start = self.iterations
        numbered: TaskStream | NumberedTasks = stream
        if generators_of(self._model):
            numbered = NumberedTasks(stream)
        # The next tasks; for earlier ones a dataset would have to start over.
        example = numbered.tasks(start * meta_batch_size, meta_batch_size)
        step = self._step(optimizer, example)
        self.history = History()
        called = None
        if callbacks:
            called = KerasCallbacks(
                callbacks, self._model, optimizer, end, steps_per_epoch
            )

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
            TrainingProgress(console, name, start, end, "compiling") as bar,
            called.attached() if called else contextlib.nullcontext(),
        ):
            loop = Loop(
                self.history,
                bar,
                steps_per_epoch=steps_per_epoch,
                files=files,
                validation=validation,
                callbacks=called,
                use_averages=(
                    functools.partial(
                        optimizer.finalize_variable_values, self._learned
                    )
                    if keeps_averages(optimizer)
                    else None
                ),
            )
            try:
                loop.run(steps(), start, end)
            except TrainingDivergedError:
                stream.check_finite()  # the data may be the cause
                raise
        return self.history

    def optimizer(self, given: Any) -> keras.optimizers.Optimizer:
        """An optimizer; one given by name is created once, and kept.

        Raises:
            ConfigError: if it is not one, or belongs to other variables.
        """
        is_optimizer = isinstance(given, keras.optimizers.Optimizer)
        key = given if is_optimizer else repr(given)
        if key not in self._optimizers:
            self._optimizers[key] = outer_optimizer(
                given, self._model.dtype_policy, self._learned
            )
        return self._optimizers[key]

    @property
    def _learned(self) -> list[keras.Variable]:
        return [*self._model.trainable_variables, *self._more_variables]

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
            carried=self._carried,
            by_iteration=self._by_iteration,
            differentiates_updates=self._differentiates_updates,
        )
        self._steps.append(((optimizer, specs), step))
        return step
