"""Meta-training without a run directory: what `Learner.fit` does."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from rich.console import Console

from maml_tf.core.maml import MetaGradientFn, Task
from maml_tf.core.meta_step import MetaStep
from maml_tf.errors import ConfigError, TrainingDivergedError, first_lines
from maml_tf.learner.scores import History
from maml_tf.learner.task_checks import CheckedTasks
from maml_tf.training.logs import RunningMeans
from maml_tf.training.loop import LOG_EVERY, meta_steps
from maml_tf.training.progress import TrainingProgress
from maml_tf.training.validation import VALIDATE_EVERY

_HINT = (
    "The weights are of no use now: make the model and its learner anew. Lower "
    "alpha or the optimizer's learning rate, or bring the data nearer to mean "
    "0 and variance 1."
)


class OuterLoop:
    """Takes meta-steps; keeps optimizers and compiled steps between calls.

    Attributes:
        iterations: meta-steps taken so far.
    """

    def __init__(
        self,
        model: keras.Model,
        task_gradient: MetaGradientFn,
        more_variables: Sequence[keras.Variable],
        iterations: int = 0,
    ):
        """
        Args:
            model, task_gradient, more_variables: as for `MetaStep`.
            iterations: meta-steps taken before.
        """
        self._model = model
        self._task_gradient = task_gradient
        self._more_variables = more_variables
        self.iterations = iterations
        self._optimizers: dict[Any, keras.optimizers.Optimizer] = {}
        self._steps: list[tuple[Any, MetaStep]] = []

    def run(
        self,
        stream: CheckedTasks,
        optimizer: str | keras.optimizers.Optimizer,
        iterations: int,
        meta_batch_size: int,
        validate: Callable[[], dict[str, float]] | None,
        progress: bool,
    ) -> History:
        """Takes `iterations` more meta-steps; as `Learner.fit`."""
        step = self._step(
            self._optimizer(optimizer), stream.tasks(0, meta_batch_size)
        )
        history, means = History(), RunningMeans()
        latest: dict[str, float] = {}
        start, end = self.iterations, self.iterations + iterations
        console = Console(quiet=not progress)
        with TrainingProgress(console, self._model.name, start, end) as bar:
            try:
                for done, losses in meta_steps(
                    step, stream, meta_batch_size, start, end, LOG_EVERY, _HINT
                ):
                    self.iterations = done
                    means.add(losses)
                    if done % LOG_EVERY == 0 or done == end:
                        row = means.take()
                        history.add(done, row)
                        latest |= row
                    if validate and (done % VALIDATE_EVERY == 0 or done == end):
                        row = validate()
                        history.validation.append({"iteration": done, **row})
                        latest |= {f"validation {k}": v for k, v in row.items()}
                    bar(done, latest)
            except TrainingDivergedError:
                stream.check_finite()  # or is it the data?
                raise
        return history

    def _optimizer(self, given: Any) -> keras.optimizers.Optimizer:
        """One given by name is made once; one that was used here goes on."""
        if given not in self._optimizers:
            try:
                optimizer = keras.optimizers.get(given)
            except ValueError as e:
                raise ConfigError(
                    "optimizer must be a Keras optimizer, or the name of one "
                    f"such as 'adam'. Received: optimizer={given!r}"
                ) from e
            learns = [*self._model.trainable_variables, *self._more_variables]
            if optimizer.built and [
                id(v) for v in optimizer._trainable_variables
            ] != [id(v) for v in learns]:
                raise ConfigError(
                    "The optimizer has learned with other variables; give "
                    "this learner one of its own."
                )
            self._optimizers[given] = optimizer
        return self._optimizers[given]

    def _step(
        self, optimizer: keras.optimizers.Optimizer, example: Task
    ) -> MetaStep:
        """The compiled step, made once for an optimizer and kind of tasks."""
        specs = tf.nest.map_structure(
            lambda x: tf.TensorSpec(x.shape, x.dtype), example
        )
        for known, step in self._steps:
            if known == (optimizer, specs):
                return step
        try:
            step = MetaStep(
                self._model,
                optimizer,
                self._task_gradient,
                example,
                more_variables=self._more_variables,
            )
        except LookupError as e:
            if "gradient registry" not in str(e):
                raise
            raise ConfigError(
                f"An operation of {self._model.name} or of the loss has no "
                "second derivative in TensorFlow; replace it, or use "
                f"first_order=True. ({first_lines(e)})"
            ) from e
        self._steps.append(((optimizer, specs), step))
        return step
