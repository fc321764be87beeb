"""The loss on held-out tasks after 0, 1, ..., n updates."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from maml_tf.maml import LossFn, Params, Task, adapt
from maml_tf.task_loops import trace_with_best_loop
from maml_tf.tasks import TaskStream

NUM_TASKS = 600  # of the paper's evaluations
NUM_UPDATES = 10

# Candidates for fine-tuning a network that was not meta-trained.
STEP_SIZES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


class Evaluator:
    """Adapts to tasks and measures the loss on their query sets.

    One update of all tasks is compiled, once for each shape of tasks, and
    called again for every further update.
    """

    def __init__(self, loss: LossFn, adapts: Sequence[bool]):
        self._loss = loss
        self._adapts = adapts
        self._step = None

    def __call__(
        self,
        theta: Params,
        tasks: Task,
        alpha: float,
        num_updates: int = NUM_UPDATES,
    ) -> np.ndarray:
        """Query losses of each task after each number of updates.

        Args:
            theta: the parameters before adaptation.
            tasks: [num_tasks, ...].
            alpha: the step size.
            num_updates: how many updates.

        Returns:
            float32 [num_tasks, num_updates + 1]; column 0 is the query set
            before adaptation (the original reports the support set there).
        """
        num_tasks = tf.nest.flatten(tasks)[0].shape[0]
        thetas = [
            tf.stack([tf.convert_to_tensor(t)] * num_tasks) for t in theta
        ]
        alpha = tf.constant(alpha, thetas[0].dtype)
        if self._step is None:
            self._step = trace_with_best_loop(
                self._build, thetas, tasks, alpha
            ).function
        losses = []
        for _ in range(num_updates + 1):
            loss, thetas = self._step(thetas, tasks, alpha)
            losses.append(loss)
        return tf.stack(losses, axis=1).numpy()

    def _build(self, loop):
        def evaluate_and_update(theta, task, alpha):
            adaptation = adapt(
                self._loss, theta, [task.support], alpha, adapts=self._adapts
            )
            return self._loss(theta, task.query), adaptation.iterates[-1]

        return lambda thetas, tasks, alpha: loop(
            lambda pair: evaluate_and_update(*pair, alpha), (thetas, tasks)
        )


@dataclasses.dataclass(frozen=True)
class Summary:
    """Losses after some number of updates over many tasks.

    Attributes:
        update: number of updates.
        mean, ci95, sd: over the tasks that did not diverge; ci95 is
            1.96 sd / sqrt(tasks), sd the population's, as in the original.
        median: over all tasks, diverged ones at their place at the top.
        diverged: tasks whose loss is not finite or above the bound.
    """

    update: int
    mean: float
    ci95: float
    sd: float
    median: float
    diverged: int


def summarize(losses: np.ndarray, diverged_above: float) -> list[Summary]:
    """Summaries for each number of updates.

    Args:
        losses: [num_tasks, num_updates + 1].
        diverged_above: a loss above it counts as diverged.
    """
    summaries = []
    for update, column in enumerate(losses.astype(np.float64).T):
        good = np.isfinite(column) & (column <= diverged_above)
        kept = column[good]
        mean, sd = (kept.mean(), kept.std()) if kept.size else (np.inf, np.inf)
        summaries.append(
            Summary(
                update,
                float(mean),
                float(1.96 * sd / np.sqrt(max(kept.size, 1))),
                float(sd),
                float(np.median(np.where(np.isnan(column), np.inf, column))),
                int((~good).sum()),
            )
        )
    return summaries


def search_step_size(
    evaluator: Evaluator, theta: Params, validation_tasks: Task
) -> float:
    """The step size of `STEP_SIZES` that fine-tunes best.

    Best is the smallest mean loss over the tasks and over the updates 1 to n
    (the area under the curve that the paper's figures show). The paper tuned
    this step size by hand.
    """

    def area(alpha: float) -> float:
        losses = evaluator(theta, validation_tasks, alpha)[:, 1:]
        return np.where(np.isfinite(losses), losses, np.inf).mean()

    return min(STEP_SIZES, key=area)


def held_out_tasks(stream: TaskStream) -> Task:
    """The tasks that every evaluation on this stream uses."""
    return stream.tasks(0, NUM_TASKS)
