"""Validation during training, and the checkpoint that did best in it."""

import math
from collections.abc import Callable

from maml_tf.training.checkpoints import Checkpoints
from maml_tf.training.logs import IterationLog

FIELD = "validation"
VALIDATE_EVERY = 500  # iterations, as in the original
NUM_TASKS = 200


class Validation:
    """Measures the network, logs the value, keeps the best weights."""

    def __init__(
        self,
        measure: Callable[[], float],
        log: IterationLog,
        best: Checkpoints,
    ):
        """
        Args:
            measure: the metric on validation tasks now; larger is better.
            log: takes a row with the field `FIELD`.
            best: where the weights that did best are kept.
        """
        self._measure = measure
        self._log = log
        self._best = best

    def start(self, iteration: int) -> dict[str, float]:
        """Drops what lies after `iteration`; returns the last value."""
        self._log.start(iteration)
        rows = self._log.rows()
        return {FIELD: rows[-1][FIELD]} if rows else {}

    def __call__(self, iteration: int) -> dict[str, float]:
        """Validates, and keeps the weights if none did better before."""
        value = self._measure()
        earlier = [row[FIELD] for row in self._log.rows()]
        # NaN, the accuracy of a network that diverges, is worse than any.
        best = max((x for x in earlier if not math.isnan(x)), default=-math.inf)
        if value > best:
            self._best.save(iteration)
        self._log.write(iteration, {FIELD: value})
        self._log.flush()
        return {FIELD: value}
