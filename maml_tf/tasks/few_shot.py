"""N-way K-shot tasks of labelled images: section 5.2 of the paper.

A task is N distinct classes, K support and Q query images of each, all
distinct. On Omniglot each class of a task is turned by a multiple of 90
degrees, its support and query images alike, in training, validation and test
(data_generator.py of the original).
"""

import dataclasses

import numpy as np

from maml_tf.core.batch import Batch
from maml_tf.core.maml import Task
from maml_tf.datasets.class_splits import SPLITS
from maml_tf.datasets.packed_images import ImageClasses
from maml_tf.errors import DataError
from maml_tf.tasks.labelled import LabelledBatches
from maml_tf.uniforms import uniforms

_OF_VALIDATION = (
    " Of data without folders train, val and test, 16 % of the classes are for "
    "validation."
)

_CLASS_STREAM, _IMAGE_STREAM = 0, 1


@dataclasses.dataclass(frozen=True, eq=False)
class Episodes:
    """A `TaskStream` of N-way K-shot image classification.

    Task i has the same classes, turned the same way, for any K and Q.

    Attributes:
        classes: classes to draw from; no other split may share them.
        num_ways: N, classes of a task.
        num_shots: K, support images of a class.
        num_queries: Q, query images of a class.
        seed: 0 <= seed < 2**64.
        split: `train`, `validation` or `test`: each a stream of its own.
        rotations: turn each class of a task by 0, 90, 180 or 270 degrees.
        num_query_sets: query sets of a task, one after another, each of Q
            images of a class.

    Raises:
        DataError: at construction, if there are too few classes or images.
    """

    classes: ImageClasses
    num_ways: int
    num_shots: int
    num_queries: int
    seed: int = 0
    split: str = "train"
    rotations: bool = False
    num_query_sets: int = 1

    def __post_init__(self):
        num_classes = len(self.classes.names)
        if num_classes < self.num_ways:
            raise DataError(
                f"A {self.num_ways}-way task needs {self.num_ways} classes; "
                f"the {self.split} split has {num_classes}. Set num_ways to "
                f"2 to {num_classes}, or bring more classes."
                f"{_OF_VALIDATION if self.split == 'validation' else ''}",
                "num_ways",
            )
        small = smaller_than(self._images_per_class, self.classes)
        if small:
            raise DataError(
                f"A task needs {self._images_per_class} images of a class "
                f"({self.num_shots} support and {self._queries} query); in "
                f"the {self.split} split {listed(small, num_classes)}. Lower "
                "num_shots; or num_queries.",
                "num_shots",
                "num_queries",
            )

    @property
    def num_classes(self) -> int:
        """Classes of `labelled_batches`: each quarter turn is one."""
        return self.labelled_batches(1).num_classes

    def labelled_batches(self, batch_size: int) -> LabelledBatches:
        """The stream of labelled batches of all its classes."""
        return LabelledBatches(
            self.classes.images,
            self.classes,
            batch_size,
            self.seed,
            self.split,
            scale=1 / 255,
            rotations=self.rotations,
            one_hot=True,
        )

    @property
    def _images_per_class(self) -> int:
        return self.num_shots + self._queries

    @property
    def _queries(self) -> int:
        """Query images of a class, in all query sets."""
        return self.num_query_sets * self.num_queries

    def tasks(self, first: int, count: int) -> Task:
        """Tasks first, ..., first + count - 1.

        Returns:
            A `Task` of `Batch`es: inputs float32 [count, N*K, height, width,
            channels] in [0, 1] (N*Q in a query set), the images of a class
            one after another; targets one-hot float32 [count, N*K, N].
        """
        chosen, turns = self._classes(first, count)
        images = self.classes.images[self._numbers(first, chosen)]
        if self.rotations:
            for turn in (1, 2, 3):
                turned = turns == turn
                images[turned] = np.rot90(images[turned], turn, axes=(2, 3))
        k = self.num_shots
        return Task(
            support=self._batch(images[:, :, :k], 1),
            query=self._batch(images[:, :, k:], self.num_query_sets),
        )

    def numbers(self, first: int, count: int) -> np.ndarray:
        """Indices of the images in tasks first, ..., first + count - 1.

        Returns:
            int64 [count, N, K + Q], indices into the array of images; those of
            query sets one after another.
        """
        chosen, _ = self._classes(first, count)
        return self._numbers(first, chosen)

    def class_names(self, index: int) -> list[str]:
        """Names of the classes of task `index`, in the order of its labels."""
        chosen, _ = self._classes(index, 1)
        return [self.classes.names[c] for c in chosen[0]]

    def _classes(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Classes and quarter turns of the tasks, int64 [count, N] each."""
        n = self.num_ways
        u = uniforms(
            self.seed, self._stream(_CLASS_STREAM), first, count, 2 * n
        )
        chosen = _without_replacement(u[:, :n], len(self.classes.names))
        return chosen, np.floor(4 * u[:, n:]).astype(np.int64)

    def _numbers(self, first: int, chosen: np.ndarray) -> np.ndarray:
        """`numbers` for tasks with the chosen classes, [count, N]."""
        per_class = self._images_per_class
        u = uniforms(
            self.seed,
            self._stream(_IMAGE_STREAM),
            first,
            len(chosen),
            self.num_ways * per_class,
        ).reshape(*chosen.shape, per_class)
        numbers = _without_replacement(u, self.classes.counts[chosen])
        return self.classes.firsts[chosen][..., None] + numbers

    def _batch(self, images: np.ndarray, num_sets: int) -> Batch:
        """Sets one after another, of images [count, N, in all sets, ...]."""
        count, n, per_class = images.shape[:3]
        image = images.shape[3:]
        sets = images.reshape(count, n, num_sets, -1, *image)
        inputs = sets.swapaxes(1, 2).reshape(count, n * per_class, *image)
        labels = np.repeat(np.eye(n), per_class // num_sets, axis=0)
        targets = np.tile(labels.astype(np.float32), (num_sets, 1))
        return Batch(
            inputs.astype(np.float32) / np.float32(255),
            np.broadcast_to(targets, (count, *targets.shape)),
        )

    def _stream(self, kind: int) -> int:
        return 2 * SPLITS.index(self.split) + kind


def smaller_than(needed: int, classes: ImageClasses) -> dict[str, int]:
    """The classes with fewer examples, and how many they have."""
    pairs = zip(classes.names, classes.counts.tolist(), strict=True)
    return {name: count for name, count in pairs if count < needed}


def listed(small: dict[str, int], total: int) -> str:
    """What `smaller_than` found among `total` classes, in words."""
    names = ", ".join(f"{name} ({count})" for name, count in small.items())
    return f"{len(small)} of {total} have fewer: {names}"


def _without_replacement(u: np.ndarray, sizes: np.ndarray | int) -> np.ndarray:
    """Ordered samples without replacement, one for each row of numbers.

    The j-th number chooses uniformly among the size - j remaining items.

    Args:
        u: uniform numbers [..., sample].
        sizes: each row samples from 0, ..., size - 1; [...] or a scalar.

    Returns:
        int64 [..., sample].
    """
    left = np.asarray(sizes)[..., None] - np.arange(u.shape[-1])
    ranks = np.floor(u * left).astype(np.int64)
    taken = np.empty_like(ranks)  # the items so far, ascending
    chosen = np.empty_like(ranks)
    for j in range(u.shape[-1]):
        item = ranks[..., j]
        for i in range(j):
            item = item + (item >= taken[..., i])
        chosen[..., j] = item
        taken[..., j] = item
        taken[..., : j + 1].sort(axis=-1)
    return chosen
