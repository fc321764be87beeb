"""The step size for a network that was not meta-trained."""

from collections.abc import Callable, Sequence

import numpy as np


def best_step_size(
    candidates: Sequence[float],
    measure: Callable[[float], np.ndarray],
    better: Callable,
    worst: float,
) -> float:
    """The candidate that adapts best on validation tasks.

    Best is the best mean over the tasks and over the updates 1 to n: the area
    under the curve that the paper's figures show. The paper tuned this step
    size by hand.

    Args:
        candidates: the step sizes to try.
        measure: returns the metric for a step size, [tasks, updates + 1].
        better: of two values, `min` or `max`.
        worst: replaces values that are not finite.
    """

    def area(alpha: float) -> float:
        values = measure(alpha)[:, 1:]
        return np.where(np.isfinite(values), values, worst).mean()

    return better(candidates, key=area)
