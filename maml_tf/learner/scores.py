"""Evaluation results: values of every task, and their summaries."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Summary:
    """A metric after some number of updates over many tasks.

    Attributes:
        update: number of updates.
        mean, ci95, sd: over the tasks that did not diverge; ci95 is
            1.96 sd / sqrt(tasks), sd the population's, as in the original.
            Infinite if there are none, ci95 also if there is one.
        median: over all tasks, with NaN at the worst end.
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
        worst: value that replaces NaN in the median.
    """
    summaries = []
    for update, column in enumerate(values.astype(np.float64).T):
        good = np.isfinite(column) & (column <= diverged_above)
        kept = column[good]
        mean, sd = (kept.mean(), kept.std()) if kept.size else (np.inf, np.inf)
        # One task says nothing about the spread.
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


@dataclasses.dataclass(frozen=True)
class Scores:
    """Loss and metrics on query sets after 0, 1, ..., n updates.

    Attributes:
        values: by name, of every task: float32 [num_tasks, n + 1].
        statistics: whose statistics normalized the query sets, one of
            `prediction.STATISTICS`; None without batch normalization.
    """

    values: dict[str, np.ndarray]
    statistics: str | None

    @property
    def summaries(self) -> dict[str, list[Summary]]:
        """By name, mean and 95 % interval after each number of updates.

        In the median a loss of NaN counts as infinite; other metrics' medians
        become NaN, since it is unknown which end is worse.
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
