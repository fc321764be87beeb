"""A metric on held-out tasks after 0, 1, ..., n updates."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from maml_tf.core.losses import MetricFn
from maml_tf.core.maml import LossFn, Params, StepSize, Task, adapt
from maml_tf.core.task_loops import TASK_LOOPS, trace_with_best_loop
from maml_tf.tasks.stream import TaskStream

NUM_TASKS = 600  # of the paper's evaluations
NUM_UPDATES = 10
CHUNK = 50  # tasks that are adapted at once: bounds memory

# Candidates for fine-tuning a network that was not meta-trained.
STEP_SIZES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


@dataclasses.dataclass(frozen=True)
class Metric:
    """What an evaluation reports of a task.

    Attributes:
        name: in words.
        better: of two values, `min` or `max`.
        largest: larger values, and those that are not finite, count as
            diverged.
        scale: factor from a value to what tables and figures show.
        measured_on: what of a task, in words.
    """

    name: str
    better: Callable
    largest: float
    scale: float = 1.0
    measured_on: str = "on the query set"

    @property
    def worst(self) -> float:
        """What a value that is not a number counts as, where it counts."""
        return np.inf if self.better is min else -np.inf


# Predicting 0 costs at most 25 on a sinusoid of amplitude 5.
MEAN_SQUARED_ERROR = Metric("mean squared error", min, largest=100.0)
ACCURACY = Metric("accuracy", max, largest=1.0, scale=100.0)  # shown in %


class Evaluator:
    """Adapts to tasks and measures what it makes of their query sets.

    All updates of `CHUNK` tasks are one compiled call, the same for any number
    of updates.
    """

    def __init__(
        self,
        loss: LossFn,
        adapts: Sequence[bool],
        metrics: Sequence[MetricFn],
        loops: Sequence[str] = tuple(TASK_LOOPS),
    ):
        """
        Args:
            loss: the inner updates descend it on the support set.
            adapts: which parameters they change.
            metrics: of an updated network on a task.
            loops: ways through the tasks to try (`loops_for` a model).
        """
        self._loss = loss
        self._adapts = adapts
        self._metrics = metrics
        self._loops = loops
        self._measure = None

    def __call__(
        self,
        theta: Params,
        stream: TaskStream,
        alpha: StepSize,
        num_tasks: int = NUM_TASKS,
        num_updates: int = NUM_UPDATES,
    ) -> np.ndarray:
        """The metrics of each task after each number of updates.

        Args:
            theta: the parameters before adaptation.
            stream: its first tasks are evaluated.
            alpha: the step size, or a list of them (`inner_update`).
            num_tasks: how many tasks.
            num_updates: how many updates.

        Returns:
            [num_metrics, num_tasks, num_updates + 1], of the dtype of theta;
            column 0 is the query set before adaptation (the original reports
            the support set there).
        """
        values = []
        for first in range(0, num_tasks, CHUNK):
            count = min(CHUNK, num_tasks - first)
            tasks = stream.tasks(first, count)
            values.append(
                self._evaluate(theta, tasks, count, alpha, num_updates)
            )
        return np.concatenate(values, axis=1)

    def _evaluate(
        self,
        theta,
        tasks: Task,
        num_tasks: int,
        alpha: StepSize,
        num_updates: int,
    ) -> np.ndarray:
        alpha = tf.nest.map_structure(
            lambda a: tf.convert_to_tensor(a, theta[0].dtype), alpha
        )
        thetas = [
            tf.stack([tf.convert_to_tensor(t)] * num_tasks) for t in theta
        ]
        arguments = thetas, tasks, alpha, tf.constant(num_updates)
        if self._measure is None:
            self._measure = trace_with_best_loop(
                self._build, *arguments, loops=self._loops
            ).function
        return self._measure(*arguments).numpy().transpose(1, 2, 0)

    def _build(self, loop):
        def metrics_of(theta, task):
            return tf.stack(
                [
                    tf.cast(metric(theta, task), theta[0].dtype)
                    for metric in self._metrics
                ]
            )

        def update_and_measure(theta, task, alpha):
            (_, theta), _ = adapt(
                self._loss, theta, [task.support], alpha, adapts=self._adapts
            )
            return theta, metrics_of(theta, task)

        def measure(thetas, tasks, alpha, num_updates):
            def body(i, thetas, values):
                thetas, metrics = loop.each(
                    lambda pair: update_and_measure(*pair, alpha),
                    (thetas, tasks),
                )
                return i + 1, thetas, values.write(i, tf.transpose(metrics))

            before = loop.each(lambda pair: metrics_of(*pair), (thetas, tasks))
            columns = num_updates + 1
            values = tf.TensorArray(thetas[0].dtype, columns)
            _, _, values = tf.while_loop(
                lambda i, *_: i < columns,
                body,
                (1, thetas, values.write(0, tf.transpose(before))),
            )
            return values.stack()

        return measure


@dataclasses.dataclass(frozen=True)
class Summary:
    """A metric after some number of updates over many tasks.

    Attributes:
        update: number of updates.
        mean, ci95, sd: over the tasks that did not diverge; ci95 is
            1.96 sd / sqrt(tasks), sd the population's, as in the original.
            Infinite for no task, ci95 for fewer than two.
        median: over all tasks, those without a number at the worst end.
        diverged: tasks whose value is not finite or above the bound.
    """

    update: int
    mean: float
    ci95: float
    sd: float
    median: float
    diverged: int


def summarize(
    values: np.ndarray, diverged_above: float, worst: float
) -> list[Summary]:
    """Summaries for each number of updates.

    Args:
        values: [num_tasks, num_updates + 1].
        diverged_above: a value above it counts as diverged.
        worst: what the median takes NaN for.
    """
    summaries = []
    for update, column in enumerate(values.astype(np.float64).T):
        good = np.isfinite(column) & (column <= diverged_above)
        kept = column[good]
        mean, sd = (kept.mean(), kept.std()) if kept.size else (np.inf, np.inf)
        # One task says nothing of how they spread.
        ci95 = 1.96 * sd / np.sqrt(kept.size) if kept.size > 1 else np.inf
        summaries.append(
            Summary(
                update,
                float(mean),
                float(ci95),
                float(sd),
                float(np.median(np.where(np.isnan(column), worst, column))),
                int((~good).sum()),
            )
        )
    return summaries


def search_step_size(
    evaluator: Evaluator, theta: Params, validation: TaskStream, metric: Metric
) -> float:
    """The step size of `STEP_SIZES` that fine-tunes best.

    Best is the best mean over the tasks and over the updates 1 to n (the area
    under the curve that the paper's figures show). The paper tuned this step
    size by hand.
    """

    def area(alpha: float) -> float:
        values = evaluator(theta, validation, alpha)[0, :, 1:]
        return np.where(np.isfinite(values), values, metric.worst).mean()

    return metric.better(STEP_SIZES, key=area)
