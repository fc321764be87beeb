"""One evaluation of a network, and the paper's numbers beside it."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from maml_tf.experiments.metric import Metric
from maml_tf.learner.scores import Summary, summarize


class Published(NamedTuple):
    """A number of the paper; `ci95` is None where it gives no interval."""

    mean: float
    ci95: float | None = None


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One network on the held-out tasks with K examples each.

    Attributes:
        num_shots: K of the support set (of each class, in classification).
        alpha: the step size, of the first update where they differ; None
            where the method has none.
        alpha_searched: whether it was searched on the validation tasks.
        values: the metric on query sets, float32 [num_tasks, updates + 1].
        metric: what the values are.
        num_queries: Q of the query set (of each class, in classification);
            None for a policy.
        statistics: as `SupervisedExperiment.statistics`.
        counts: of a policy's rollouts, by name.
    """

    num_shots: int
    alpha: float | None
    alpha_searched: bool
    values: np.ndarray
    metric: Metric
    num_queries: int | None = None
    statistics: str | None = None
    counts: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def summaries(self) -> list[Summary]:
        return summarize(self.values, self.metric.largest, self.metric.worst)
