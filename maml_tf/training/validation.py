"""Validation during training, and the checkpoint of the best weights."""

import math
from collections.abc import Callable

from maml_tf.training.checkpoints import Checkpoints
from maml_tf.training.logs import IterationLog

VALIDATE_EVERY = 500  # iterations, as in the original
VALIDATION_TASKS = 200


class Validation:
    """Measures the network, logs the values, keeps the best weights."""

    def __init__(
        self,
        measure: Callable[[], dict[str, float]],
        monitor: str,
        larger_is_better: bool,
        log: IterationLog | None = None,
        best: Checkpoints | None = None,
    ):
        """
        Args:
            measure: returns current means over validation tasks, by name.
            monitor: the name of the mean that decides which weights are best.
            larger_is_better: whether larger values of it are better.
            log: receives a row each time.
            best: keeps the weights that did best.
        """
        self._measure = measure
        self._monitor = monitor
        self._sign = 1.0 if larger_is_better else -1.0
        self._log = log
        self._best = best

    def start(self, iteration: int) -> list[dict[str, float]]:
        """Drops results after `iteration`; returns the rows up to it."""
        if not self._log:
            return []
        self._log.start(iteration)
        return self._log.rows()

    def __call__(self, iteration: int) -> dict[str, float]:
        """Validates, and keeps the weights if they are the best so far."""
        measured = self._measure()
        if self._best and self._log:
            earlier = map(self._goodness, self._log.rows())
            if self._goodness(measured) > max(earlier, default=-math.inf):
                self._best.save(iteration)
        if self._log:
            self._log.write(iteration, measured)
            self._log.flush()
        return measured

    def _goodness(self, row: dict[str, float]) -> float:
        """Larger is better; NaN, of a network that diverges, is worst."""
        value = self._sign * row.get(self._monitor, math.nan)
        return -math.inf if math.isnan(value) else value
