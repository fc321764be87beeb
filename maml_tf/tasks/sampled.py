"""Tasks drawn from groups of examples: classes, or series to regress."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from maml_tf.core.batch import Batch
from maml_tf.core.maml import Task
from maml_tf.datasets.class_splits import SPLITS, standard_splits
from maml_tf.datasets.image_preparation import ImagePreparation
from maml_tf.datasets.packed_images import ImageClasses
from maml_tf.errors import ConfigError, DataError, check_whole_number
from maml_tf.tasks.few_shot import Episodes, listed, smaller_than
from maml_tf.tasks.labelled import LabelledBatches


@dataclasses.dataclass(frozen=True, eq=False)
class SampledTasks:
    """A `TaskStream` of tasks drawn from groups of examples.

    Task i is a function of (seed, split, i). It has N distinct groups, and K
    support and Q query examples of each, all distinct.

    Attributes:
        inputs: an array [examples, ...] or a structure of them.
        targets: an array [examples, ...]; None labels the examples of a
            task's groups 0, ..., N - 1.
        groups: names of the groups, and the examples in each.
        num_ways: N.
        num_shots: K.
        num_queries: Q.
        seed: 0 <= seed < 2**64.
        split: the groups' split, one of `SPLITS`.
        scale: factor of the inputs.
        prepare: makes such inputs of further images, if they are images.
        drop_small: leave out groups with fewer than K + Q examples, rather
            than refuse them.
        left_out: those groups, and how many examples they have.
    """

    inputs: Any = dataclasses.field(repr=False)
    targets: np.ndarray | None = dataclasses.field(repr=False)
    groups: ImageClasses
    num_ways: int
    num_shots: int
    num_queries: int
    seed: int = 0
    split: str = "train"
    scale: float | None = None
    prepare: ImagePreparation | None = None
    drop_small: bool = False
    left_out: dict[str, int] = dataclasses.field(
        default_factory=dict, init=False
    )

    def __post_init__(self):
        for name, least in (
            ("num_ways", 1 if self.targets is not None else 2),
            ("num_shots", 1),
            ("num_queries", 1),
        ):
            check_whole_number(name, getattr(self, name), least)
        check_whole_number("seed", self.seed, least=0)
        if self.seed >= 2**64:
            raise ConfigError(
                f"seed must be below 2**64. Received: seed={self.seed}"
            )
        what = "classes" if self.targets is None else "series"
        self._check_sizes(what)
        num = len(self.groups.names)
        if num < self.num_ways:
            without = f" ({len(self.left_out)} left out)" * bool(self.left_out)
            raise DataError(
                f"A task needs {self.num_ways} {what}, but there are {num} to "
                f"draw from{without}. Lower num_ways, or bring more {what}."
            )

    def _check_sizes(self, what: str) -> None:
        """Leaves out groups that are too small, or refuses them."""
        needed = self.num_shots + self.num_queries
        small = smaller_than(needed, self.groups)
        if not small:
            return
        found = (
            f"A task needs {needed} examples of each of its {what} "
            f"(num_shots={self.num_shots}, num_queries={self.num_queries}); "
            f"{listed(small, len(self.groups.names))}."
        )
        if not self.drop_small:
            raise DataError(
                f"{found} Lower num_shots or num_queries, or leave them out: "
                "drop_small=True."
            )
        logging.warning("%s They are left out.", found)
        kept = [name for name in self.groups.names if name not in small]
        object.__setattr__(self, "groups", self.groups.select(kept))
        object.__setattr__(self, "left_out", small)

    def tasks(self, first: int, count: int) -> Task:
        """Tasks first, ..., first + count - 1.

        Returns:
            A `Task` of `Batch`es [count, N*K, ...] and [count, N*Q, ...], the
            examples of a group one after another.
        """
        numbers = self._episodes.numbers(first, count)
        k = self.num_shots
        return Task(
            self._batch(numbers[..., :k]), self._batch(numbers[..., k:])
        )

    @property
    def num_classes(self) -> int:
        """Number of all classes, or series."""
        return len(self.groups.names)

    def labelled_batches(self, batch_size: int) -> LabelledBatches:
        """The stream of labelled batches of all its classes.

        Raises:
            ConfigError: if the tasks are regression.
        """
        if self.targets is not None:
            raise ConfigError(
                "There are no classes in tasks of series. Use a method for "
                "regression, such as maml_tf.MAML."
            )
        return LabelledBatches(
            self.inputs,
            self.groups,
            batch_size,
            self.seed,
            self.split,
            self.scale,
        )

    def class_names(self, index: int) -> list[str]:
        """Names of the groups of task `index`, in the order of its labels."""
        return self._episodes.class_names(index)

    @property
    def _episodes(self) -> Episodes:
        return Episodes(
            self.groups,
            self.num_ways,
            self.num_shots,
            self.num_queries,
            self.seed,
            self.split,
        )

    def _batch(self, numbers: np.ndarray) -> Batch:
        count, n, each = numbers.shape
        flat = numbers.reshape(count, n * each)
        inputs = tf.nest.map_structure(lambda x: x[flat], self.inputs)
        if self.scale is not None:
            inputs = inputs.astype(np.float32) * np.float32(self.scale)
        if self.targets is not None:
            return Batch(inputs, self.targets[flat])
        labels = np.repeat(np.arange(n, dtype=np.int32), each)
        return Batch(inputs, np.broadcast_to(labels, flat.shape))


def in_groups(keys: np.ndarray) -> tuple[np.ndarray, ImageClasses]:
    """Sorts examples by group.

    Args:
        keys: the group of each example, integers or strings [examples].

    Returns:
        The order that brings examples of a group together, and the groups.
    """
    names, inverse, counts = np.unique(
        keys, return_inverse=True, return_counts=True
    )
    order = np.argsort(inverse, kind="stable")
    groups = ImageClasses(
        order,
        tuple(str(name) for name in names),
        np.cumsum(counts) - counts,
        counts,
    )
    return order, groups


def names_of_split(
    names: Sequence[str], split: str | None, what: str
) -> list[str]:
    """The names of one split, always the same.

    64 % are for training, 16 % for validation, 20 % for testing; at least one
    for each. None takes all.

    Args:
        names: of all groups.
        split: one of `SPLITS`, or None.
        what: what the groups are, for messages.

    Raises:
        ConfigError: if there is no such split.
        DataError: if there are too few groups.
    """
    check_split(split)
    if split is None:
        return list(names)
    num = len(names)
    if num < len(SPLITS):
        raise DataError(
            f"There are {num} {what}; at least {len(SPLITS)} are needed to "
            "split them. Bring more, or use split=None."
        )
    return standard_splits(names, what)[split]


def check_split(split: str | None) -> None:
    """Checks that `split` is one of `SPLITS` or None.

    Raises:
        ConfigError: if not.
    """
    if split is not None and split not in SPLITS:
        raise ConfigError(
            f"split must be one of {SPLITS} or None. Received: split={split!r}"
        )
