"""Losses of the paper as functions of (theta, batch): equations 2 and 3.

Metrics are functions of (theta, task): what to make of a query set may depend
on the support set.

Making a loss of a model exchanges Keras' normalization layers in it for exact
ones (normalization.py), so that no meta-gradient goes through theirs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from maml_tf.core.maml import LossFn, Params, Task
from maml_tf.layers.normalization import (
    statistics_of_first,
    use_exact_normalization,
)

MetricFn = Callable[[Params, Task], tf.Tensor]

# Whose mean and variance batch normalization uses on a query set: the query
# set's own, as the paper's networks do, or the support set's.
STATISTICS = ("transductive", "support")


class Batch(NamedTuple):
    """Examples with their targets.

    Attributes:
        inputs: what the model takes, a tensor or a structure of tensors,
            examples along the first axis.
        targets: what the loss compares its outputs with.
    """

    inputs: tf.Tensor
    targets: tf.Tensor


def predict(
    model: keras.Model,
    theta: Params,
    inputs,
    training: bool = True,
    reference=None,
) -> tf.Tensor:
    """The outputs of `model` with `theta` in place of its trainable variables.

    Does what `model.stateless_call` does, and also lets `training` reach the
    layers of a subclassed model whose `call` does not take it. Nothing is
    assigned: what layers would update is dropped. That is moving statistics,
    and the state of random generators: a dropout layer uses the same mask at
    every call.

    Args:
        model: a built Keras model.
        theta: one tensor for each of `model.trainable_variables`.
        inputs: the model's inputs.
        training: True normalizes a batch by its own statistics, as the
            paper's networks always do.
        reference: inputs by whose statistics batch normalization works
            instead; each output then depends on its own input alone. Needs
            the exact layers of normalization.py.

    Raises:
        ValueError: if theta does not fit the model.
    """
    return _call(model, theta, inputs, training, reference)[0]


def _call(
    model, theta, inputs, training=True, reference=None
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """The outputs, and the losses that layers and regularizers add."""
    state = list(zip(model.trainable_variables, theta, strict=True))
    with keras.StatelessScope(state, collect_losses=True) as scope:
        if reference is None:
            outputs = model(inputs, training=training)
        else:
            outputs = _with_reference(model, inputs, training, reference)
    regularization = [
        variable.regularizer(value)
        for variable, value in state
        if variable.regularizer is not None
    ]
    return outputs, [*map(tf.reduce_sum, scope.losses), *regularization]


def _with_reference(model, inputs, training, reference) -> tf.Tensor:
    num_reference = tf.shape(tf.nest.flatten(reference)[0])[0]
    both = tf.nest.map_structure(
        lambda *x: tf.concat(x, axis=0), reference, inputs
    )
    with statistics_of_first(num_reference):
        outputs = model(both, training=training)
    return tf.nest.map_structure(lambda y: y[num_reference:], outputs)


def mean_squared_error(model: keras.Model) -> LossFn:
    """Equation 2: the mean over the examples of (f(x) - y)^2.

    The batch is a `Batch` whose targets have the shape of the outputs.
    """
    use_exact_normalization(model)

    def loss(theta: Params, batch: Batch) -> tf.Tensor:
        outputs = predict(model, theta, batch.inputs)
        return tf.reduce_mean(tf.square(outputs - batch.targets))

    return loss


def supervised(
    model: keras.Model, loss: Callable[[Any, tf.Tensor], tf.Tensor]
) -> LossFn:
    """Any loss of (targets, outputs), such as Keras', averaged over examples.

    What layers add, by regularizers or `add_loss`, is added to it: it is what
    Keras would minimize. Inner updates and meta-gradient both descend it.

    The batch is a `Batch`; its targets and the outputs are what `loss` takes.

    Args:
        model: the network.
        loss: gives a scalar or one value for each example.
    """
    use_exact_normalization(model)

    def averaged(theta: Params, batch: Batch) -> tf.Tensor:
        outputs, added = _call(model, theta, batch.inputs)
        return tf.add_n([tf.reduce_mean(loss(batch.targets, outputs)), *added])

    return averaged


def cross_entropy(model: keras.Model, num_shots: int | tf.Tensor) -> LossFn:
    """Equation 3 with the original's scale: the sum over examples, over K.

    The original code divides each example's cross-entropy by the number of
    *support* examples of a class and differentiates the sum (`xent` in
    utils.py). On the N*K support examples this is N times the mean, on N*Q
    query examples N*Q/K times the mean; published values of alpha belong to
    this scale.

    The batch is a `Batch` of one-hot targets [examples, N]; the model gives
    logits of that shape.

    Args:
        model: the network.
        num_shots: K, support examples of each class.
    """
    use_exact_normalization(model)

    def loss(theta: Params, batch: Batch) -> tf.Tensor:
        logits = predict(model, theta, batch.inputs)
        per_example = tf.nn.softmax_cross_entropy_with_logits(
            batch.targets, logits
        )
        return tf.reduce_sum(per_example) / num_shots

    return loss


def cross_entropy_of_labels(model: keras.Model, num_ways: int) -> LossFn:
    """`cross_entropy` of class numbers, with K as the batch has it.

    The batch is a `Batch` whose targets are class numbers, int [examples]. K
    is their number over N, so that alpha means the same for any support set.

    Args:
        model: the network; gives logits [examples, N].
        num_ways: N.
    """
    use_exact_normalization(model)

    def loss(theta: Params, batch: Batch) -> tf.Tensor:
        one_hot = tf.one_hot(batch.targets, num_ways, dtype=theta[0].dtype)
        num_shots = tf.cast(tf.shape(one_hot)[0], one_hot.dtype) / num_ways
        batch = batch._replace(targets=one_hot)
        return cross_entropy(model, num_shots)(theta, batch)

    return loss


def accuracy(model: keras.Model, statistics: str = "transductive") -> MetricFn:
    """The share of a task's query examples whose class has the largest logit.

    Batches are those of `cross_entropy`. Logits that are not finite make it
    NaN, rather than a chance hit.

    Args:
        model: the network; gives logits [examples, N].
        statistics: one of `STATISTICS`.

    Raises:
        ValueError: if `statistics` is none of them.
    """
    if statistics not in STATISTICS:
        raise ValueError(
            f"statistics must be one of {STATISTICS}. Received: "
            f"statistics={statistics!r}"
        )
    use_exact_normalization(model)

    def share_of_hits(theta: Params, task: Task) -> tf.Tensor:
        reference = task.support.inputs if statistics == "support" else None
        logits = predict(model, theta, task.query.inputs, reference=reference)
        return hit_rate(tf.argmax(task.query.targets, -1), logits)

    return share_of_hits


def hit_rate(labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """The share of examples whose label's output is the largest.

    Args:
        labels: integers [examples].
        outputs: [examples, N]; if one is not finite the share is NaN.
    """
    hits = tf.argmax(outputs, -1) == tf.cast(labels, tf.int64)
    finite = tf.reduce_all(tf.math.is_finite(outputs))
    share = tf.reduce_mean(tf.cast(hits, outputs.dtype))
    return tf.where(finite, share, share * float("nan"))


def query_loss(loss: LossFn) -> MetricFn:
    """The loss on a task's query set."""
    return lambda theta, task: loss(theta, task.query)
