"""Examples of a task: the sets that losses are taken on."""

from typing import Any, NamedTuple

import tensorflow as tf


class Batch(NamedTuple):
    """Examples with their targets.

    Attributes:
        inputs: the model's inputs, a tensor or a structure of tensors, with
            examples along the first axis.
        targets: what the loss compares the outputs with.
    """

    inputs: Any
    targets: Any


class WeightedBatch(NamedTuple):
    """A `Batch` whose examples have weights.

    One of weight 0 might as well not be there: it fills up a set to the size of
    others.

    Attributes:
        inputs, targets: as in `Batch`.
        weights: [examples], at least 0: losses are means weighted by them.
            Batch normalization counts all alike whose weight is not 0.
    """

    inputs: Any
    targets: Any
    weights: Any


class Weighted(NamedTuple):
    """Inputs for `predict`; those of weight 0 are left out of statistics."""

    inputs: Any
    weights: tf.Tensor


def weights_of(batch: Batch | WeightedBatch) -> tf.Tensor | None:
    """The weights of the examples; None if all count alike."""
    return getattr(batch, "weights", None)


def inputs_of(batch: Batch | WeightedBatch) -> Any:
    """Inputs for `predict`, as a reference too."""
    weights = weights_of(batch)
    return batch.inputs if weights is None else Weighted(batch.inputs, weights)
