"""Tasks from a function or from a `tf.data.Dataset`."""

import collections
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from maml_tf.core.batch import Batch, WeightedBatch, weights_of
from maml_tf.core.maml import Task
from maml_tf.datasets.class_splits import SPLITS
from maml_tf.errors import DataError, reason
from maml_tf.tasks.arrays import as_array, map_arrays
from maml_tf.tasks.batches import alike, check_sizes

_READERS = 2  # of a dataset at a time: training, and evaluation in between


class FunctionTasks:
    """A `TaskStream` of tasks that a function makes, each from a seed."""

    def __init__(
        self,
        function: Callable[[int], Any],
        split: str,
        sizes: tuple[int, int] | None = None,
    ):
        """
        Args:
            function: maps a seed to (support, query), each (inputs, targets).
            split: each split has its own seeds.
            sizes: as for `stack`.
        """
        self._function = function
        self._sizes = sizes
        self._split = SPLITS.index(split)

    def tasks(self, first: int, count: int) -> Task:
        """Tasks first, ..., first + count - 1, stacked."""
        seeds = (
            len(SPLITS) * i + self._split for i in range(first, first + count)
        )
        return stack([self._function(seed) for seed in seeds], self._sizes)


class DatasetTasks:
    """A `TaskStream` of the elements of a dataset, one after the other.

    Who asks for tasks in their order, such as `fit` in pieces, reads each once,
    even if another one begins from the first task in between, such as
    validation. At its end the dataset starts over.
    """

    def __init__(
        self, dataset: tf.data.Dataset, sizes: tuple[int, int] | None = None
    ):
        """
        Args:
            dataset: its elements are (support, query), each (inputs,
                targets).
            sizes: as for `stack`.
        """
        self._dataset = dataset
        self._sizes = sizes
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
            return stack(reader.tasks(first, count), self._sizes)
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


def stack(tasks: Sequence[Any], sizes: tuple[int, int] | None = None) -> Task:
    """Stacks tasks.

    Args:
        tasks: pairs (support, query) of pairs (inputs, targets), or of triples
            (inputs, targets, weights).
        sizes: numbers of examples that support and query sets are filled up to,
            by examples of weight 0; None: they are of the same sizes.

    Raises:
        DataError: if they are not such pairs, or not of such sizes.
    """
    try:
        found = [Task(*map(_as_set, task)) for task in tasks]
    except (TypeError, ValueError) as e:
        raise DataError(
            "A task must be (support, query), each (inputs, targets) or "
            f"(inputs, targets, weights). Received: {type(tasks[0]).__name__}"
        ) from e
    if sizes is None:
        _check_same_sizes(found)
    else:
        found = [Task(*map(_filled_up, task, sizes)) for task in found]
    try:
        return tf.nest.map_structure(lambda *x: np.stack(x), *map(alike, found))
    except (TypeError, ValueError) as e:
        raise DataError(
            "The examples of tasks must all have the same shape and "
            f"structure, and weights if others have. ({e})"
        ) from e


def _as_set(parts: Any) -> Batch | WeightedBatch:
    arrays = [map_arrays(as_array, x) for x in parts]
    return Batch(*arrays) if len(arrays) < 3 else WeightedBatch(*arrays)


def _check_same_sizes(tasks: Sequence[Task]) -> None:
    for name, sets in zip(Task._fields, zip(*tasks, strict=True), strict=True):
        sizes = sorted({_size(batch) for batch in sets})
        if len(sizes) > 1:
            raise DataError(
                f"The {name} sets of these tasks have different numbers of "
                f"examples: {', '.join(map(str, sizes))}. Tasks are computed "
                "many at once: give the stream the largest numbers that "
                "support and query sets have, as max_examples=(support, "
                "query), and smaller sets are filled up."
            )


def _filled_up(batch: Batch | WeightedBatch, size: int) -> WeightedBatch:
    """A set of `size` examples; those that were added have weight 0.

    They repeat the first, so that whatever holds for the set's examples, such
    as which labels there are, still does.
    """
    check_sizes(batch)
    num = _size(batch)
    if num > size:
        raise DataError(
            f"A set has {num} examples, more than max_examples says: {size}. "
            "Raise it."
        )
    places = np.concatenate([np.arange(num), np.zeros(size - num, int)])
    weights = weights_of(batch)
    weights = np.ones(num, np.float32) if weights is None else weights
    weights = np.concatenate([weights, np.zeros(size - num, weights.dtype)])
    inputs, targets = tf.nest.map_structure(
        lambda x: x[places], (batch.inputs, batch.targets)
    )
    return WeightedBatch(inputs, targets, weights)


def _size(batch: Batch | WeightedBatch) -> int:
    return len(tf.nest.flatten(batch.inputs)[0])
