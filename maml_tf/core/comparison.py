"""Objectives of targets and outputs, in Keras' precision and with weights."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from maml_tf.core.prediction import mask_of, masked
from maml_tf.errors import ConfigError

# (targets, outputs) -> a scalar, or one value for each example.
ObjectiveFn = Callable[[Any, Any], tf.Tensor]


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
        return masked(tf.cast(x, dtype), mask_of(x))

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
