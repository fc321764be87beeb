"""The training loop: meta-steps in, logs, checkpoints and progress out."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import tensorflow as tf

from maml_tf.core.maml import Task
from maml_tf.core.meta_step import MetaStep
from maml_tf.core.task_stream import (
    NumberedTask,
    NumberedTasks,
    TaskStream,
)
from maml_tf.errors import TrainingDivergedError
from maml_tf.training.callbacks import KerasCallbacks
from maml_tf.training.files import TrainingFiles
from maml_tf.training.history import History
from maml_tf.training.logs import RunningMeans
from maml_tf.training.validation import Validation

LOG_EVERY = 100  # iterations; the original's summary interval

# Iterations done so far, and the values by name of those since the previous
# item.
Steps = Iterable[tuple[int, dict[str, np.ndarray]]]


@dataclasses.dataclass
class Loop:
    """Logs, validates and saves around the iterations of a training.

    Resuming from the newest checkpoint after a kill gives the same weights and
    logs as an uninterrupted run. So does extending a finished run, except that
    logs and validation have one more row, that of its end.

    Attributes:
        history: receives the means since the previous row.
        on_progress: called with the number of iterations done and the latest
            means and validation (empty before the first).
        log_every: iterations between two rows of the history and the log.
        steps_per_epoch: iterations between two validations, each followed by a
            checkpoint. Both also happen at the end.
        files: where logs and checkpoints go; None writes none.
        validation: measures the network.
        callbacks: the user's callbacks.
        use_averages: puts the weights' averages, which the optimizer keeps, in
            their place; called at the end. None if it keeps none.
    """

    history: History
    on_progress: Callable[[int, dict[str, float]], None]
    log_every: int = LOG_EVERY
    steps_per_epoch: int = 1000
    files: TrainingFiles | None = None
    validation: Validation | None = None
    callbacks: KerasCallbacks | None = None
    use_averages: Callable[[], None] | None = None

    def run(self, steps: Steps, start: int, end: int) -> None:
        """Runs iterations start, ..., end - 1.

        Raises:
            TrainingDivergedError: if a value that would be saved is not
                finite.
            RunDirectoryError: if a checkpoint cannot be written.
        """
        latest: dict[str, float] = {}
        if self.files:
            self.files.log.start(start)
            self.history.read(self.files.log.rows())
        if self.validation:
            earlier = self.validation.start(start)
            self.history.validation += earlier
            latest |= _named(earlier[-1] if earlier else {})
        if self.callbacks:
            self.callbacks.begin(start)
        means, epoch = RunningMeans(), RunningMeans()
        for done, values in steps:
            means.add(values)
            epoch.add(values)
            if self.callbacks:
                self.callbacks.step(done, values)
            last = done == end or self._stopped()
            epoch_ends = last or done % self.steps_per_epoch == 0
            # No row spans a checkpoint: it could not be resumed.
            if epoch_ends or done % self.log_every == 0:
                latest |= self._log(done, means.take())
            if epoch_ends:
                latest |= self._end_epoch(done, epoch.take())
                last = last or self._stopped()
                # What callbacks change, such as the rate, is saved with it;
                # training resumes from the weights, not from their averages.
                if last and not self.use_averages:
                    self._end()
                if self.files:
                    self.files.checkpoints.save(done)
                if last and self.use_averages:
                    self._end()
            self.on_progress(done, latest)
            if last:
                return
        self._end()  # nothing was left to do

    def _end(self) -> None:
        if self.use_averages:
            self.use_averages()
        if self.callbacks:
            self.callbacks.end()

    def _stopped(self) -> bool:
        return self.callbacks is not None and self.callbacks.stopped

    def _log(self, done: int, row: dict[str, float]) -> dict[str, float]:
        self.history.add(done, row)
        if self.files:
            self.files.log.write(done, row)
        return row

    def _end_epoch(self, done: int, row: dict[str, float]) -> dict[str, float]:
        measured: dict[str, float] = {}
        if self.validation:
            with (
                self.callbacks.validating()
                if self.callbacks
                else contextlib.nullcontext()
            ):
                measured = self.validation(done)
            self.history.add_validation(done, measured)
        if self.files:
            self.files.log.flush()  # rows before a checkpoint stay
        if self.callbacks:
            self.callbacks.end_epoch(row, measured)
        return _named(measured)


def _named(measured: dict[str, float]) -> dict[str, float]:
    """Validation results, as named beside the losses."""
    return {
        f"validation {name}": x
        for name, x in measured.items()
        if name != "iteration"
    }


def meta_steps(
    step: MetaStep,
    stream: TaskStream | NumberedTasks,
    meta_batch_size: int,
    first: int,
    last: int,
    pauses: tuple[int, ...],
    hint: str,
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Takes the meta-steps first, ..., last - 1, many per call.

    Args:
        step: the compiled meta-step.
        stream: iteration i uses its tasks i * meta_batch_size, ...
        meta_batch_size: tasks of one meta-step.
        first: iterations already done.
        last: iterations done at the end.
        pauses: no call goes past a multiple of any of them.
        hint: what to do if training diverges.

    Yields:
        After each call, the number of iterations done, and the losses by name
        of those in the call.

    Raises:
        TrainingDivergedError: if a loss is not finite.
    """
    iteration = first
    while iteration < last:
        pause = min((iteration // every + 1) * every for every in pauses)
        count = min(step.steps_per_call, min(pause, last) - iteration)
        losses = step(
            _meta_batches(
                stream, iteration, step.steps_per_call, meta_batch_size
            ),
            count,
        )
        _check_finite(losses, iteration, hint)
        iteration += count
        yield iteration, losses


def _meta_batches(
    stream: TaskStream | NumberedTasks,
    first: int,
    count: int,
    meta_batch_size: int,
) -> Task | NumberedTask:
    """Tasks of `count` iterations: [count, meta_batch_size, ...]."""
    tasks = stream.tasks(first * meta_batch_size, count * meta_batch_size)
    return tf.nest.map_structure(
        lambda x: x.reshape(count, meta_batch_size, *x.shape[1:]), tasks
    )


def _check_finite(
    losses: dict[str, np.ndarray], iteration: int, hint: str
) -> None:
    finite = np.all([np.isfinite(x) for x in losses.values()], axis=0)
    if not finite.all():
        first = int(np.argmin(finite))
        values = ", ".join(f"{name} {x[first]}" for name, x in losses.items())
        raise TrainingDivergedError(
            f"The loss is not finite at iteration {iteration + first + 1} "
            f"({values}). {hint}",
            "alpha",
            "beta",
        )
