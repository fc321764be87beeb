"""The metrics that evaluations report."""

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Metric:
    """A number that an evaluation reports for each task.

    Attributes:
        name: its name in tables and figures.
        key: its name among `Scores.values`.
        better: of two values, `min` or `max`.
        largest: larger values, and those that are not finite, count as
            diverged.
        scale: factor from a value to what tables and figures show.
        unit: text after the name, such as " in %".
        digits: decimals of a value as shown.
        published_digits: decimals of the paper's values.
        measured_on: the part of a task, as results.json describes it.
        logarithmic: whether figures show it on a logarithmic axis.
        curve: whether the paper reports it after every update.
        smallest_shown: where intervals in figures are cut.
    """

    name: str
    key: str
    better: Callable
    largest: float
    scale: float = 1.0
    unit: str = ""
    digits: Callable[[float], int] = lambda value: 1
    published_digits: int = 1
    measured_on: str = "on the query set"
    logarithmic: bool = False
    curve: bool = False
    smallest_shown: float = -np.inf

    @property
    def worst(self) -> float:
        """Value substituted for NaN in the median."""
        return np.inf if self.better is min else -np.inf


def _digits_of_error(value: float) -> int:
    return 2 if value >= 0.1 else 3


# Predicting 0 costs at most 25 on a sinusoid of amplitude 5.
MEAN_SQUARED_ERROR = Metric(
    "mean squared error",
    "loss",
    min,
    largest=100.0,
    digits=_digits_of_error,
    published_digits=2,
    logarithmic=True,
    smallest_shown=1e-4,
)
ACCURACY = Metric(
    "accuracy", "accuracy", max, largest=1.0, scale=100.0, unit=" in %"
)
