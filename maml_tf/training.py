"""The training loop: tasks in, checkpoints, logs and progress out."""

import csv
import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from maml_tf.checkpoints import Checkpoints
from maml_tf.errors import TrainingDivergedError
from maml_tf.files import write_atomically
from maml_tf.maml import MetaGradientFn, Task
from maml_tf.meta_step import MetaStep
from maml_tf.tasks import TaskStream

LOG_EVERY = 100  # iterations; the original's summary interval
CHECKPOINT_EVERY = 1000  # iterations, a multiple of LOG_EVERY


@dataclasses.dataclass(frozen=True)
class Phase:
    """A stretch of training with one objective and an optimizer of its own.

    Attributes:
        iterations: how many meta-steps.
        task_gradient: gradient and losses of one task.
        optimizer: the outer optimizer.
    """

    iterations: int
    task_gradient: MetaGradientFn
    optimizer: keras.optimizers.Optimizer


class TrainingLog:
    """Losses averaged over the iterations since the row before, as CSV."""

    FIELDS = ("iteration", "pre_update", "post_update")

    def __init__(self, path: pathlib.Path, tensorboard: pathlib.Path | None):
        """
        Args:
            path: the CSV file.
            tensorboard: directory of event files, or None for none.
        """
        self._path = path
        self._writer = (
            tf.summary.create_file_writer(str(tensorboard))
            if tensorboard
            else None
        )
        self._window: dict[str, list[np.ndarray]] = {}

    def start(self, iteration: int) -> None:
        """Drops rows after `iteration`, which training will write again."""
        kept = [",".join(self.FIELDS)]
        if self._path.exists():
            for line in self._path.read_text().splitlines(keepends=True)[1:]:
                # A kill can leave half a row at the end.
                number = line.split(",")[0]
                if (
                    line.endswith("\n")
                    and number.isdigit()
                    and int(number) <= iteration
                ):
                    kept.append(line.rstrip("\n"))
        write_atomically(self._path, "\n".join(kept) + "\n")

    def add(self, losses: dict[str, np.ndarray]) -> None:
        """Notes the losses of some iterations."""
        for name, values in losses.items():
            self._window.setdefault(name, []).append(values)

    def write_row(self, iteration: int) -> dict[str, float]:
        """Writes the means of what was noted, and forgets it."""
        means = {
            name: float(np.concatenate(values).mean())
            for name, values in self._window.items()
        }
        self._window = {}
        with open(self._path, "a", newline="") as file:
            row = {"iteration": iteration, **means}
            csv.DictWriter(file, self.FIELDS, lineterminator="\n").writerow(row)
        if self._writer:
            with self._writer.as_default(step=iteration):
                for name, mean in means.items():
                    tf.summary.scalar(f"loss/{name}", mean)
        return means

    def flush(self) -> None:
        """Brings the events of the rows so far to the disk."""
        if self._writer:
            self._writer.flush()


def train(
    model: keras.Model,
    phases: Sequence[Phase],
    stream: TaskStream,
    meta_batch_size: int,
    checkpoints: Checkpoints,
    start: int,
    log: TrainingLog,
    on_progress: Callable[[int, dict[str, float]], None],
) -> None:
    """Runs the phases one after the other: Algorithm 1 from `start` on.

    Iteration i sees tasks i * meta_batch_size, ... of the stream. Ending,
    being killed and starting again with the newest checkpoint gives the same
    weights and log as running through.

    Args:
        model: its trainable variables are theta.
        phases: what to do, in order; iterations count through.
        stream: the training tasks.
        meta_batch_size: tasks of one meta-step.
        checkpoints: where the state is saved; restored by the caller.
        start: iterations done already.
        log: takes the losses.
        on_progress: called with the number of iterations done and the latest
            row of the log (empty before the first).

    Raises:
        TrainingDivergedError: if a loss is not finite.
    """
    log.start(start)
    latest: dict[str, float] = {}
    iteration, end = start, 0
    last = sum(phase.iterations for phase in phases)
    for phase in phases:
        end += phase.iterations
        if iteration >= end:
            continue
        step = MetaStep(
            model,
            phase.optimizer,
            phase.task_gradient,
            example=stream.tasks(0, meta_batch_size),
        )
        while iteration < end:
            row_due = (iteration // LOG_EVERY + 1) * LOG_EVERY
            count = min(step.steps_per_call, min(row_due, end) - iteration)
            losses = step(
                _meta_batches(
                    stream, iteration, step.steps_per_call, meta_batch_size
                ),
                count,
            )
            _check_finite(losses, iteration)
            log.add(losses)
            iteration += count
            if iteration in (row_due, last):
                latest = log.write_row(iteration)
            if iteration % CHECKPOINT_EVERY == 0 or iteration == last:
                log.flush()  # rows before a checkpoint are not written again
                checkpoints.save(iteration)
            on_progress(iteration, latest)


def _meta_batches(
    stream: TaskStream, first: int, count: int, meta_batch_size: int
) -> Task:
    """Tasks of `count` iterations: [count, meta_batch_size, ...]."""
    tasks = stream.tasks(first * meta_batch_size, count * meta_batch_size)
    return tf.nest.map_structure(
        lambda x: x.reshape(count, meta_batch_size, *x.shape[1:]), tasks
    )


def _check_finite(losses: dict[str, np.ndarray], iteration: int) -> None:
    finite = np.all([np.isfinite(x) for x in losses.values()], axis=0)
    if not finite.all():
        first = int(np.argmin(finite))
        values = ", ".join(f"{name} {x[first]}" for name, x in losses.items())
        raise TrainingDivergedError(
            f"The loss is not finite at iteration {iteration + first + 1} "
            f"({values}). The last checkpoint before it stays. Lower the "
            "step sizes (--update_lr, --meta_lr)."
        )
