"""Losses of the paper as functions of (theta, batch): equations 2 and 3."""

import keras
import tensorflow as tf

from maml_tf.core.batch import Batch, inputs_of, weights_of
from maml_tf.core.comparison import ObjectiveFn, compared, weighted_mean
from maml_tf.core.maml import LossFn, Params
from maml_tf.core.prediction import outputs_and_losses
from maml_tf.layers.normalization import use_exact_normalization
from maml_tf.layers.resizing import use_exact_resizing


def supervised(model: keras.Model, objective: ObjectiveFn) -> LossFn:
    """Any loss of (targets, outputs), such as Keras', averaged over examples.

    Losses of layers, from regularizers or `add_loss`, are added, as in what
    Keras minimizes. Inner updates and meta-gradient both descend the sum.

    This is where a model enters the engine, and the one place that changes
    it: Keras' normalization and resizing layers are replaced by exact ones
    (normalization.py, resizing.py), so that no meta-gradient goes through
    theirs.

    Args:
        model: the network.
        objective: returns a scalar or one value for each example.

    Returns:
        A function of (theta, `Batch`), which calls `objective` with the batch's
        targets and the model's outputs. Of a `WeightedBatch` it is the weighted
        mean; the objective then has to return values for each example.
    """
    use_exact_normalization(model)
    use_exact_resizing(model)

    def loss(theta: Params, batch: Batch) -> tf.Tensor:
        outputs, added = outputs_and_losses(model, theta, inputs_of(batch))
        weights = weights_of(batch)
        if weights is None:
            value = tf.reduce_mean(compared(objective, batch.targets, outputs))
        else:
            weights = tf.convert_to_tensor(weights)
            value = weighted_mean(objective, batch.targets, outputs, weights)
        return tf.add_n([value, *(tf.cast(x, value.dtype) for x in added)])

    return loss


def mean_squared_error(model: keras.Model) -> LossFn:
    """Equation 2: the mean over the examples of (f(x) - y)^2.

    The batch is a `Batch` whose targets have the shape of the outputs.
    """
    return supervised(model, squared_error)


def cross_entropy(model: keras.Model, num_shots: int | tf.Tensor) -> LossFn:
    """Equation 3 with the original's scale: see `scaled_cross_entropy`.

    The batch is a `Batch` of one-hot targets [examples, N]; the model gives
    logits of that shape.

    Args:
        model: the network.
        num_shots: K, support examples of each class.
    """
    return supervised(model, scaled_cross_entropy(num_shots))


def cross_entropy_of_labels(model: keras.Model, num_ways: int) -> LossFn:
    """Equation 3 for class numbers: see `scaled_cross_entropy_of_labels`.

    The batch is a `Batch` whose targets are class numbers, int [examples].

    Args:
        model: the network; gives logits [examples, N].
        num_ways: N.
    """
    return supervised(model, scaled_cross_entropy_of_labels(num_ways))


def squared_error(targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """The mean of (outputs - targets)^2, a scalar."""
    return tf.reduce_mean(tf.square(outputs - targets))


def scaled_cross_entropy(num_shots: int | tf.Tensor) -> ObjectiveFn:
    """Cross-entropy, summed over examples and divided by K.

    The original code divides each example's cross-entropy by the number of
    *support* examples of a class and differentiates the sum (`xent` in
    utils.py). On the N*K support examples this is N times the mean, on N*Q
    query examples N*Q/K times the mean; published values of alpha assume this
    scale.

    Args:
        num_shots: K, support examples of each class.

    Returns:
        A function of one-hot targets and logits, both [examples, N], that
        returns a scalar.
    """

    def objective(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        per_example = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
        return tf.reduce_sum(per_example) / num_shots

    return objective


def scaled_cross_entropy_of_labels(num_ways: int) -> ObjectiveFn:
    """`scaled_cross_entropy` for class numbers, with K from the batch.

    K is the number of examples over N, so that alpha means the same for a
    support set of any size.

    Args:
        num_ways: N.

    Returns:
        A function of class numbers, int [examples], and logits [examples, N].
    """

    def objective(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        one_hot = tf.one_hot(targets, num_ways, dtype=logits.dtype)
        num_shots = tf.cast(tf.shape(one_hot)[0], one_hot.dtype) / num_ways
        return scaled_cross_entropy(num_shots)(one_hot, logits)

    return objective


def hit_rate(
    labels: tf.Tensor, outputs: tf.Tensor, counted: tf.Tensor | None = None
) -> tf.Tensor:
    """The share of examples whose largest output is that of their label.

    Args:
        labels: integers [examples].
        outputs: [examples, N]; if one is not finite, the share is NaN rather
            than a chance hit.
        counted: bool [examples], which examples count; None: all.
    """
    hits = tf.argmax(outputs, -1) == tf.cast(labels, tf.int64)
    hits = tf.cast(hits, outputs.dtype)
    if counted is None:
        share = tf.reduce_mean(hits)
    else:
        weights = tf.cast(counted, outputs.dtype)
        share = tf.reduce_sum(hits * weights) / tf.reduce_sum(weights)
    finite = tf.reduce_all(tf.math.is_finite(outputs))
    # 0 / 0 if they are not: a NaN in the graph would trip a search for NaNs.
    finite = tf.cast(finite, share.dtype)
    return share * finite / finite
