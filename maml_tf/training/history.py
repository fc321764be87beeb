"""Losses and validation results over a training."""

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass
class History:
    """The course of `Learner.fit`; it grows during training.

    Attributes:
        iterations: the meta-steps at which values were recorded.
        losses: by name, mean over the meta-steps since the previous value:
            `pre_update` on support sets before the first inner update,
            `post_update` on query sets after the last.
        validation: rows of `iteration` and the means of loss and metrics.
    """

    iterations: list[int] = dataclasses.field(default_factory=list)
    losses: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    validation: list[dict[str, float]] = dataclasses.field(default_factory=list)

    def add(self, iteration: int, losses: dict[str, float]) -> None:
        """Adds the mean losses up to an iteration."""
        self.iterations.append(iteration)
        for name, value in losses.items():
            self.losses.setdefault(name, []).append(value)

    def read(self, rows: Iterable[dict[str, float]]) -> None:
        """Adds the rows of a log."""
        for row in rows:
            losses = {k: v for k, v in row.items() if k != "iteration"}
            self.add(int(row["iteration"]), losses)

    def add_validation(self, iteration: int, row: dict[str, float]) -> None:
        """Adds the validation results of an iteration."""
        self.validation.append({"iteration": iteration, **row})

    def plot(self) -> "Figure":
        """Plots losses, and validation results if any, by iteration.

        Returns:
            A Matplotlib figure, which a notebook shows; write it with
            `savefig`.

        Raises:
            ImportError: if Matplotlib is not installed.
        """
        from matplotlib.figure import Figure  # slow to import

        measured = [
            name
            for name in (self.validation[0] if self.validation else {})
            if name != "iteration"
        ]
        panels = 1 + len(measured)
        figure = Figure(figsize=(4.5 * panels, 3.4), layout="constrained")
        first, *others = figure.subplots(1, panels, squeeze=False)[0]
        for name, values in self.losses.items():
            first.plot(self.iterations[-len(values) :], values, label=name)
        first.set_ylabel("loss")
        first.legend()
        for axis, name in zip(others, measured, strict=True):
            axis.plot(
                [row["iteration"] for row in self.validation],
                [row[name] for row in self.validation],
                "o-",
                ms=3,
            )
            axis.set_ylabel(f"validation {name}")
        for axis in (first, *others):
            axis.set_xlabel("iteration")
            axis.grid(alpha=0.25)
        return figure

    def __repr__(self) -> str:
        if not self.iterations:
            return "<History: nothing yet>"
        ends = ", ".join(
            f"{name} {values[0]:.4g} -> {values[-1]:.4g}"
            for name, values in self.losses.items()
        )
        return f"<History to iteration {self.iterations[-1]}: {ends}>"
