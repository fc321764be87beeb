"""What fitting and evaluating a learner give, in tables."""

import dataclasses

import numpy as np

from maml_tf.learner.evaluation import Summary, summarize


@dataclasses.dataclass
class History:
    """The course of `Learner.fit`.

    Attributes:
        iterations: the meta-steps at which there are values.
        losses: by name, mean over the meta-steps since the value before:
            `pre_update` on support sets before the first inner update,
            `post_update` on query sets after the last.
        validation: rows of `iteration` and the means of `Scores`.
    """

    iterations: list[int] = dataclasses.field(default_factory=list)
    losses: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    validation: list[dict[str, float]] = dataclasses.field(default_factory=list)

    def add(self, iteration: int, losses: dict[str, float]) -> None:
        """Notes the mean losses up to an iteration."""
        self.iterations.append(iteration)
        for name, value in losses.items():
            self.losses.setdefault(name, []).append(value)

    def __repr__(self) -> str:
        if not self.iterations:
            return "<History: nothing yet>"
        ends = ", ".join(
            f"{name} {values[0]:.4g} -> {values[-1]:.4g}"
            for name, values in self.losses.items()
        )
        return f"<History to iteration {self.iterations[-1]}: {ends}>"


@dataclasses.dataclass(frozen=True)
class Scores:
    """Loss and metrics on query sets after 0, 1, ..., n updates.

    Attributes:
        values: by name, of every task: float32 [num_tasks, n + 1].
        statistics: whose statistics normalized the query sets, one of
            `losses.STATISTICS`; None without batch normalization.
    """

    values: dict[str, np.ndarray]
    statistics: str | None

    @property
    def summaries(self) -> dict[str, list[Summary]]:
        """By name, mean and 95 % interval after each number of updates.

        A loss that is not a number counts as infinite in the median; other
        metrics' medians are NaN then, since which end is worse is not known.
        """
        return {
            name: summarize(
                values, np.inf, worst=np.inf if name == "loss" else np.nan
            )
            for name, values in self.values.items()
        }

    def mean(self, name: str = "loss", update: int = -1) -> float:
        """The mean over the tasks after `update` updates (-1: all)."""
        return self.summaries[name][update].mean

    def ci95(self, name: str = "loss", update: int = -1) -> float:
        """Half the width of the mean's 95 % confidence interval."""
        return self.summaries[name][update].ci95

    def __repr__(self) -> str:
        summaries = self.summaries
        num_tasks = len(next(iter(self.values.values())))
        lines = [
            f"{num_tasks} tasks, mean ± 95 % interval"
            + (
                f", batch norm by {self.statistics} statistics"
                if self.statistics
                else ""
            ),
            "updates" + "".join(f"{name:>22}" for name in summaries),
        ]
        for update, row in enumerate(zip(*summaries.values(), strict=True)):
            cells = (f"{s.mean:.4g} ± {s.ci95:.2g}" for s in row)
            lines.append(f"{update:7}" + "".join(f"{c:>22}" for c in cells))
            diverged = max(s.diverged for s in row)
            if diverged:
                lines[-1] += f"  ({diverged} tasks diverged, left out)"
        return "\n".join(lines)
