"""Labelled batches of all classes, for plain classification."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from maml_tf.core.batch import Batch
from maml_tf.core.maml import Task
from maml_tf.datasets.class_splits import SPLITS
from maml_tf.datasets.packed_images import ImageClasses
from maml_tf.uniforms import uniforms

_BATCH_STREAM = 2 * len(SPLITS)  # after those of `few_shot.Episodes`
TURNS = 4  # quarter turns of an image


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledBatches:
    """A `TaskStream` whose support sets are batches of examples of all classes.

    Batch i is a function of (seed, split, i); its examples are drawn one by
    one, with replacement. Query sets are the same batches.

    Attributes:
        inputs: an array [examples, ...] or a structure of them.
        classes: the classes, and the examples in each.
        batch_size: examples of a batch.
        seed: 0 <= seed < 2**64.
        split: one of `SPLITS`: each a stream of its own.
        scale: factor of the inputs.
        rotations: whether the four quarter turns of a class' images are
            classes of their own.
        one_hot: labels as float32 [examples, classes], not int32 [examples].
    """

    inputs: Any
    classes: ImageClasses
    batch_size: int
    seed: int = 0
    split: str = "train"
    scale: float | None = None
    rotations: bool = False
    one_hot: bool = False

    @property
    def num_classes(self) -> int:
        return len(self.classes.names) * (TURNS if self.rotations else 1)

    def tasks(self, first: int, count: int) -> Task:
        """Batches first, ..., first + count - 1, [count, batch_size, ...]."""
        u = uniforms(
            self.seed,
            _BATCH_STREAM + SPLITS.index(self.split),
            first,
            count,
            2 * self.batch_size,
        ).reshape(count, 2, self.batch_size)
        ends = np.cumsum(self.classes.counts)
        chosen = np.floor(u[:, 0] * ends[-1]).astype(np.int64)
        labels = np.searchsorted(ends, chosen, side="right")
        numbers = chosen - (ends - self.classes.counts)[labels]
        index = self.classes.firsts[labels] + numbers
        inputs = tf.nest.map_structure(lambda x: x[index], self.inputs)
        if self.rotations:
            turns = np.floor(TURNS * u[:, 1]).astype(np.int64)
            for turn in range(1, TURNS):
                turned = turns == turn
                inputs[turned] = np.rot90(inputs[turned], turn, axes=(1, 2))
            labels = TURNS * labels + turns
        if self.scale is not None:
            inputs = inputs.astype(np.float32) * np.float32(self.scale)
        if self.one_hot:
            targets = np.eye(self.num_classes, dtype=np.float32)[labels]
        else:
            targets = labels.astype(np.int32)
        batch = Batch(inputs, targets)
        return Task(batch, batch)
