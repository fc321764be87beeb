"""Losses of the paper as functions of (theta, batch): equations 2 and 3."""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from maml_tf.core.maml import LossFn, Params
from maml_tf.errors import ConfigError
from maml_tf.layers.normalization import (
    statistics_of_batch,
    statistics_of_counted,
    statistics_of_first,
    use_exact_normalization,
)
from maml_tf.layers.randomness import (
    check_own_generators,
    current_draws,
    generators_of,
)
from maml_tf.layers.resizing import use_exact_resizing

# (targets, outputs) -> a scalar, or one value for each example.
ObjectiveFn = Callable[[Any, Any], tf.Tensor]

# Whose mean and variance batch normalization uses on a query set: the query
# set's own, as in the paper; the support set's; those of the support set with
# one query appended, for each query; those of both sets together, for the
# support set, too; or the moving ones (population.py), for it, too.
STATISTICS = ("transductive", "support", "appended", "joint", "population")


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


class Jointly(NamedTuple):
    """A reference whose statistics are taken together with the inputs'."""

    inputs: Any


class Appended(NamedTuple):
    """A reference to which each of the inputs is appended on its own."""

    inputs: Any


# The reference that stands for the moving statistics.
POPULATION = "population"


class References(NamedTuple):
    """References of `predict`, for the sets of a task."""

    support: Any
    query: Any


def references(statistics: str, support: Any, query: Any) -> References:
    """What normalizes the sets of a task.

    Args:
        statistics: one of `STATISTICS`.
        support, query: inputs of the sets.
    """
    return {
        "transductive": References(None, None),
        "support": References(None, support),
        "appended": References(None, Appended(support)),
        "joint": References(Jointly(query), Jointly(support)),
        "population": References(POPULATION, POPULATION),
    }[statistics]


def predict(
    model: keras.Model,
    theta: Params,
    inputs: Any,
    training: bool = True,
    reference: Any = None,
) -> Any:
    """The outputs of `model` with `theta` in place of its trainable variables.

    Like `model.stateless_call`, but `training` also reaches the layers of a
    subclassed model whose `call` does not take it. Nothing is assigned: updates
    of moving statistics are dropped. Layers that draw random numbers do nothing
    except while a `MetaStep` trains (randomness.py).

    Args:
        model: a built Keras model.
        theta: one tensor for each of `model.trainable_variables`.
        inputs: the model's inputs, or `Weighted`; a reference must be, too.
        training: True normalizes a batch by its own statistics, as the
            paper's networks always do.
        reference: inputs whose statistics batch normalization uses instead;
            each output then depends on its own input alone. Needs the exact
            layers of normalization.py. Or `Jointly`, `Appended` or
            `POPULATION`.

    Raises:
        ValueError: if theta does not fit the model.
        ConfigError: if a layer draws from Keras' global seed generator.
    """
    return outputs_and_losses(model, theta, inputs, training, reference)[0]


def outputs_and_losses(
    model: keras.Model,
    theta: Params,
    inputs: Any,
    training: bool = True,
    reference: Any = None,
) -> tuple[Any, list[tf.Tensor]]:
    """The outputs, and the losses that layers and regularizers add.

    Args: as for `predict`.
    """
    weights = list(zip(model.trainable_variables, theta, strict=True))
    state = weights
    statistics: contextlib.AbstractContextManager = contextlib.nullcontext()
    if generators := generators_of(model):
        if draws := current_draws():
            state = [*weights, *draws.states(generators)]
        elif training and not isinstance(reference, str):
            # Only normalization is to work as in training.
            training, statistics = False, statistics_of_batch()
    with (
        keras.StatelessScope(state, collect_losses=True) as scope,
        statistics,
    ):
        if reference is None:
            outputs = _called(model, inputs, training)
        elif isinstance(reference, str):
            outputs = _called(model, inputs, False)
        elif isinstance(reference, Jointly):
            outputs = _first_of(model, inputs, training, reference.inputs)
        elif isinstance(reference, Appended):
            outputs = _one_by_one(model, inputs, training, reference.inputs)
        else:
            outputs = _with_reference(model, inputs, training, reference)
    check_own_generators(model, scope)
    if scope.losses and isinstance(inputs, Weighted):
        raise ConfigError(
            f"Layers of {model.name} add losses, such as activity "
            "regularizers, which cannot leave out examples of weight 0. Give "
            "all tasks the same number of examples, and no weights."
        )
    regularization = [
        variable.regularizer(value)
        for variable, value in weights
        if variable.regularizer is not None
    ]
    return outputs, [*map(tf.reduce_sum, scope.losses), *regularization]


def _called(model: keras.Model, inputs: Any, training: bool) -> Any:
    if not isinstance(inputs, Weighted):
        return model(inputs, training=training)
    with statistics_of_counted(tf.convert_to_tensor(inputs.weights) > 0):
        return model(inputs.inputs, training=training)


def _with_reference(
    model: keras.Model, inputs: Any, training: bool, reference: Any
) -> Any:
    num_reference = tf.shape(tf.nest.flatten(reference)[0])[0]
    both = tf.nest.map_structure(
        lambda *x: tf.concat(x, axis=0), reference, inputs
    )
    with statistics_of_first(num_reference):
        outputs = _called(model, both, training)

    def of_inputs(y: tf.Tensor) -> tf.Tensor:
        mask = mask_of(y)
        if mask is not None:
            mask = mask[num_reference:]
        return _masked(y[num_reference:], mask)

    return tf.nest.map_structure(of_inputs, outputs)


def mask_of(outputs: tf.Tensor) -> tf.Tensor | None:
    """Which outputs count in Keras' losses, as said by a masking layer."""
    return getattr(outputs, "_keras_mask", None)


def _masked(outputs: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    if mask is not None:
        outputs._keras_mask = mask
    return outputs


def compared(objective: ObjectiveFn, targets: Any, outputs: Any) -> tf.Tensor:
    """`objective(targets, outputs)`, computed in float32 or float64.

    Outputs of lower precision are cast to float32 first, as Keras does in
    `fit`. Unlike there, those in float64 are compared in float64.
    """
    function, targets, outputs = _in_precision(objective, targets, outputs)
    return function(targets, outputs)


def weighted_mean(
    objective: ObjectiveFn, targets: Any, outputs: Any, weights: tf.Tensor
) -> tf.Tensor:
    """The mean of `compared` over the examples, a scalar.

    Args:
        objective: returns a value or more for each example. One with a method
            `weighted_mean` of (targets, outputs, weights) is asked for it.
        targets, outputs: as for `compared`.
        weights: [examples], not all 0.

    Raises:
        ConfigError: if the objective gives one value for all examples.
    """
    own = getattr(objective, "weighted_mean", None)
    if own is not None:
        return own(targets, outputs, weights)
    function, targets, outputs = _in_precision(objective, targets, outputs)
    by_keras = isinstance(function, keras.losses.Loss)
    each = _changed(function, reduction=None) if by_keras else function
    values = tf.convert_to_tensor(each(targets, outputs))
    if not values.shape[:1].is_compatible_with(weights.shape):
        raise ConfigError(
            "Weights of examples, and sets of different sizes, need a loss "
            "and metrics that give a value for each example. Received: values "
            f"of shape {values.shape} for {weights.shape[0]} examples. Do not "
            "take the mean, or use one of Keras'."
        )
    weights = tf.cast(weights, values.dtype)
    weights = tf.reshape(weights, [-1] + [1] * (len(values.shape) - 1))
    weights *= tf.ones_like(values)
    if not by_keras or function.reduction in (None, "none"):
        return tf.reduce_sum(values * weights) / tf.reduce_sum(weights)
    if function.reduction != "sum":
        # It also leaves out what is masked, or ignored, from the divisor.
        function = _changed(function, reduction="mean_with_sample_weight")
    return function(targets, outputs, sample_weight=weights)


def _in_precision(
    objective: ObjectiveFn, targets: Any, outputs: Any
) -> tuple[Any, Any, Any]:
    """Objective, targets and outputs in the precision of `compared`."""

    def at_least_float32(x: Any) -> Any:
        if not (hasattr(x, "dtype") and tf.as_dtype(x.dtype).is_floating):
            return x
        dtype = keras.backend.result_type(tf.as_dtype(x.dtype).name, "float32")
        return _masked(tf.cast(x, dtype), mask_of(x))

    targets, outputs = tf.nest.map_structure(
        at_least_float32, (targets, outputs)
    )
    if isinstance(objective, keras.losses.Loss):
        # It casts to its own dtype, Keras' floatx unless given.
        dtype = keras.backend.result_type(
            objective.dtype, *(x.dtype.name for x in tf.nest.flatten(outputs))
        )
        if dtype != objective.dtype:
            objective = _changed(objective, _dtype=dtype)
    return objective, targets, outputs


def _changed(loss: keras.losses.Loss, **attributes: Any) -> keras.losses.Loss:
    # Not a copy by configuration, which lacks settings such as Huber's delta.
    other = object.__new__(type(loss))
    vars(other).update(vars(loss), **attributes)
    return other


def _first_of(
    model: keras.Model, inputs: Any, training: bool, others: Any
) -> Any:
    """Outputs for inputs that are normalized together with others."""
    num_inputs = tf.shape(tf.nest.flatten(inputs)[0])[0]
    both = tf.nest.map_structure(
        lambda *x: tf.concat(x, axis=0), inputs, others
    )
    outputs = _called(model, both, training)
    return tf.nest.map_structure(lambda y: y[:num_inputs], outputs)


def _one_by_one(
    model: keras.Model, inputs: Any, training: bool, others: Any
) -> Any:
    """Outputs for inputs that are each normalized together with others."""

    def output(x: Any) -> Any:
        alone = tf.nest.map_structure(lambda a: a[tf.newaxis], x)
        found = _first_of(model, alone, training, others)
        return tf.nest.map_structure(lambda y: y[0], found)

    first = output(tf.nest.map_structure(lambda a: a[0], inputs))
    specs = tf.nest.map_structure(
        lambda y: tf.TensorSpec(y.shape, y.dtype), first
    )
    inputs = tf.nest.map_structure(tf.convert_to_tensor, inputs)
    return tf.map_fn(output, inputs, fn_output_signature=specs)


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
