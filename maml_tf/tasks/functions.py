"""Tasks from a function or from a `tf.data.Dataset`."""

import collections
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from maml_tf.core.losses import Batch
from maml_tf.core.maml import Task
from maml_tf.datasets.class_splits import SPLITS
from maml_tf.errors import DataError, reason
from maml_tf.tasks.arrays import as_array, map_arrays

_READERS = 2  # of a dataset at a time: training, and evaluation in between


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

    Who asks for tasks in their order, such as `fit` in pieces, reads each once,
    even if another one begins from the first task in between, such as
    validation. At its end the dataset starts over.
    """

    def __init__(self, dataset: tf.data.Dataset):
        """
        Args:
            dataset: its elements are (support, query), each (inputs,
                targets).
        """
        self._dataset = dataset
        # The most recently used last.
        self._readers: list[_Reader] = []
        self._said_end = False

    def tasks(self, first: int, count: int) -> Task:
        """Tasks first, ..., first + count - 1, stacked.

        Raises:
            DataError: if the dataset fails, is empty or cannot be read again.
        """
        able = [r for r in self._readers if r.first <= first]
        if able:
            reader = max(able, key=lambda r: r.first)
            self._readers.remove(reader)
        else:
            reader = _Reader(self._elements())
        self._readers = [*self._readers[-(_READERS - 1) :], reader]
        try:
            return stack(reader.tasks(first, count))
        except DataError:
            self._readers.remove(reader)  # it may have nothing more to read
            raise

    def _elements(self) -> Iterator[Any]:
        while True:
            count = 0
            try:
                for element in self._dataset.as_numpy_iterator():
                    yield element
                    count += 1
            except tf.errors.OpError as e:
                raise DataError(
                    f"The dataset of tasks failed at task {count}: {reason(e)}"
                ) from e
            if not count:
                raise DataError(
                    "The dataset of tasks is empty, or is made of what can be "
                    "read once only, such as a generator. Let it start over "
                    "each time it is read: from_generator takes a function "
                    "that makes a generator."
                )
            if not self._said_end:
                logging.warning(
                    "The dataset of tasks ended after %d, and starts over.",
                    count,
                )
                self._said_end = True


class _Reader:
    """Reads elements in order, and keeps the latest.

    Attributes:
        first: number of the first task that is kept.
    """

    def __init__(self, elements: Iterator[Any]):
        self._elements = elements
        self._held: collections.deque = collections.deque()
        self.first = 0

    def tasks(self, first: int, count: int) -> list[Any]:
        """Tasks first, ..., first + count - 1; `first` only grows."""
        while self.first < first:
            if self._held:
                self._held.popleft()
            else:
                next(self._elements)
            self.first += 1
        while len(self._held) < count:
            self._held.append(next(self._elements))
        return list(self._held)[:count]


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
