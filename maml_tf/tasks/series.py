"""Points of many series from arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from maml_tf.core.batch import Batch
from maml_tf.errors import DataError
from maml_tf.tasks.arrays import as_numbers


def concatenate(
    series: Sequence[tuple[Any, Any]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Puts series of arrays one after the other.

    Args:
        series: pairs (x, y) [points, ...].

    Returns:
        The series number of each point, and all inputs and targets.

    Raises:
        DataError: if they differ in more than the number of points.
    """
    try:
        batches = [Batch(as_numbers(x), as_numbers(y)) for x, y in series]
        sizes = [len(batch.inputs) for batch in batches]
        if sizes != [len(batch.targets) for batch in batches]:
            raise ValueError("a series has not as many y as x")
        inputs = np.concatenate([batch.inputs for batch in batches])
        targets = np.concatenate([batch.targets for batch in batches])
    except (TypeError, ValueError) as e:
        raise DataError(
            "Series must be pairs (x, y) of arrays [points, ...], alike but "
            f"for the number of points. ({e})"
        ) from e
    return np.repeat(np.arange(len(sizes)), sizes), inputs, targets
