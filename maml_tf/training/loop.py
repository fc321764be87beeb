"""The training loop: tasks in, checkpoints, logs and progress out."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from maml_tf.core.maml import MetaGradientFn, Task
from maml_tf.core.meta_step import MetaStep
from maml_tf.errors import TrainingDivergedError
from maml_tf.tasks.stream import TaskStream
from maml_tf.training.checkpoints import Checkpoints
from maml_tf.training.logs import IterationLog, RunningMeans
from maml_tf.training.validation import VALIDATE_EVERY, Validation

LOG_FIELDS = ("pre_update", "post_update")  # losses
LOG_EVERY = 100  # iterations; the original's summary interval
CHECKPOINT_EVERY = 1000  # iterations, a multiple of LOG_EVERY
HINT = (
    "The last checkpoint before it stays. Lower the step sizes (--update_lr, "
    "--meta_lr)."
)


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


def train(
    model: keras.Model,
    phases: Sequence[Phase],
    stream: TaskStream,
    meta_batch_size: int,
    checkpoints: Checkpoints,
    start: int,
    log: IterationLog,
    on_progress: Callable[[int, dict[str, float]], None],
    validation: Validation | None = None,
) -> None:
    """Runs the phases one after the other: Algorithm 1 from `start` on.

    Iteration i sees tasks i * meta_batch_size, ... of the stream. Being killed
    and starting again with the newest checkpoint gives the same weights and
    log as running through. So does ending and going on to more iterations,
    but that the log and the validation have a row more: that of the end.

    Args:
        model: its trainable variables are theta.
        phases: what to do, in order; iterations count through.
        stream: the training tasks.
        meta_batch_size: tasks of one meta-step.
        checkpoints: where the state is saved; restored by the caller.
        start: iterations done already.
        log: takes the losses, averaged since the row before.
        on_progress: called with the number of iterations done and the latest
            losses and validation metric (empty before the first).
        validation: if there is one, it is made every `VALIDATE_EVERY`
            iterations and at the end, each time followed by a checkpoint.

    Raises:
        TrainingDivergedError: if a loss is not finite.
    """
    log.start(start)
    latest: dict[str, float] = {}
    checkpoint_every = CHECKPOINT_EVERY
    if validation:
        latest |= validation.start(start)
        checkpoint_every = VALIDATE_EVERY
    means = RunningMeans()
    end = 0
    last = sum(phase.iterations for phase in phases)
    for phase in phases:
        end += phase.iterations
        first = max(start, end - phase.iterations)
        if first >= end:
            continue
        step = MetaStep(
            model,
            phase.optimizer,
            phase.task_gradient,
            example=stream.tasks(0, meta_batch_size),
        )
        for iteration, losses in meta_steps(
            step, stream, meta_batch_size, first, end, LOG_EVERY
        ):
            means.add(losses)
            if iteration % LOG_EVERY == 0 or iteration == last:
                row = means.take()
                log.write(iteration, row)
                latest |= row
            if iteration % checkpoint_every == 0 or iteration == last:
                if validation:
                    latest |= validation(iteration)
                log.flush()  # rows before a checkpoint are not written again
                checkpoints.save(iteration)
            on_progress(iteration, latest)


def meta_steps(
    step: MetaStep,
    stream: TaskStream,
    meta_batch_size: int,
    first: int,
    last: int,
    pause_every: int,
    hint: str = HINT,
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Takes the meta-steps first, ..., last - 1, many in a call.

    Args:
        step: the compiled meta-step.
        stream: iteration i sees its tasks i * meta_batch_size, ...
        meta_batch_size: tasks of one meta-step.
        first: iterations done already.
        last: iterations done at the end.
        pause_every: no call goes beyond a multiple of it.
        hint: what to do if training diverges.

    Yields:
        After each call the number of iterations done, and the losses by name
        of those that it took.

    Raises:
        TrainingDivergedError: if a loss is not finite.
    """
    iteration = first
    while iteration < last:
        pause = (iteration // pause_every + 1) * pause_every
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
    stream: TaskStream, first: int, count: int, meta_batch_size: int
) -> Task:
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
            f"({values}). {hint}"
        )
