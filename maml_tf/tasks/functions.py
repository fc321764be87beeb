"""Tasks from a function or from a `tf.data.Dataset`."""

import collections
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from maml_tf.core.losses import Batch
from maml_tf.core.maml import Task
from maml_tf.datasets.class_splits import SPLITS
from maml_tf.errors import DataError
from maml_tf.tasks.arrays import as_array, map_arrays


class FunctionTasks:
    """A `TaskStream` of tasks that a function makes, each from a seed."""

    def __init__(self, function: Callable[[int], Any], split: str):
        """
        Args:
            function: maps a seed to (support, query), each (inputs, targets).
            split: each split has its own seeds.
        """
        self._function = function
        self._split = SPLITS.index(split)

    def tasks(self, first: int, count: int) -> Task:
        """Tasks first, ..., first + count - 1, stacked."""
        seeds = (
            len(SPLITS) * i + self._split for i in range(first, first + count)
        )
        return stack([self._function(seed) for seed in seeds])


class DatasetTasks:
    """A `TaskStream` of the elements of a dataset, one after the other.

    The latest tasks are kept; asking for earlier ones reads the dataset from
    its beginning. At its end it starts over.
    """

    def __init__(self, dataset: tf.data.Dataset):
        """
        Args:
            dataset: its elements are (support, query), each (inputs,
                targets).
        """
        self._dataset = dataset
        self._restart()

    def tasks(self, first: int, count: int) -> Task:
        """Tasks first, ..., first + count - 1, stacked."""
        if first < self._first:
            self._restart()
        while self._first < first and self._held:
            self._held.popleft()
            self._first += 1
        while self._first < first:
            next(self._elements)
            self._first += 1
        while len(self._held) < count:
            self._held.append(next(self._elements))
        return stack(list(self._held)[:count])

    def _restart(self) -> None:
        self._elements = self._read()
        self._held: collections.deque = collections.deque()
        self._first = 0  # number of the first task that is kept

    def _read(self) -> Iterator[Any]:
        while True:
            empty = True
            for element in self._dataset.as_numpy_iterator():
                empty = False
                yield element
            if empty:
                raise DataError("The dataset of tasks is empty.")


def stack(tasks: Sequence[Any]) -> Task:
    """Stacks tasks of the same sizes.

    Args:
        tasks: pairs (support, query) of pairs (inputs, targets).

    Raises:
        DataError: if they are not such pairs, or of different sizes.
    """
    try:
        pairs = [
            Task(
                *(Batch(*(map_arrays(as_array, x) for x in part)) for part in t)
            )
            for t in tasks
        ]
    except (TypeError, ValueError) as e:
        raise DataError(
            "A task must be (support, query), each a pair (inputs, targets). "
            f"Received: {type(tasks[0]).__name__}"
        ) from e
    for name, sets in zip(Task._fields, zip(*pairs, strict=True), strict=True):
        sizes = sorted({len(tf.nest.flatten(s.inputs)[0]) for s in sets})
        if len(sizes) > 1:
            raise DataError(
                f"The {name} sets of these tasks have different numbers of "
                f"examples: {', '.join(map(str, sizes))}. Tasks are computed "
                "many at once, so all need the same number: draw as many "
                "examples of each task, or fit one stream after the other."
            )
    try:
        return tf.nest.map_structure(lambda *x: np.stack(x), *pairs)
    except (TypeError, ValueError) as e:
        raise DataError(
            "The examples of tasks must all have the same shape and "
            f"structure. ({e})"
        ) from e
