"""Metrics, given by name, as Keras' objects or as functions."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from maml_tf.core.losses import hit_rate
from maml_tf.core.prediction import mask_of
from maml_tf.errors import ConfigError, first_lines
from maml_tf.objectives.keras_losses import (
    BINARY,
    CATEGORICAL,
    SIGNS,
    SPARSE,
    loss_object,
)
from maml_tf.objectives.objective import Objective, as_loss

_M = keras.metrics
# Keras' names of accuracy, and the kinds of targets that each is for.
_ACCURACIES = {
    "accuracy": (None, SPARSE, CATEGORICAL, BINARY, SIGNS),
    "acc": (None, SPARSE, CATEGORICAL, BINARY, SIGNS),
    "sparse_categorical_accuracy": (SPARSE,),
    "categorical_accuracy": (CATEGORICAL,),
    "binary_accuracy": (BINARY,),
}
_OF_PROBABILITIES = (
    _M.BinaryAccuracy,
    _M.BinaryCrossentropy,
    _M.BinaryIoU,
    _M.CategoricalCrossentropy,
    _M.SparseCategoricalCrossentropy,
    _M.KLDivergence,
    _M.AUC,
    _M.Precision,
    _M.Recall,
    _M.PrecisionAtRecall,
    _M.RecallAtPrecision,
    _M.SensitivityAtSpecificity,
    _M.SpecificityAtSensitivity,
    _M.TruePositives,
    _M.TrueNegatives,
    _M.FalsePositives,
    _M.FalseNegatives,
    _M.F1Score,
    _M.FBetaScore,
)


def as_metric(metric: Any, loss: Objective) -> Objective:
    """A metric given by name, as a Keras metric or loss, or as a function.

    Args:
        metric: "accuracy", a name that Keras knows such as "mae" or "auc", a
            Keras metric or loss, or a function of (targets, outputs).
        loss: determines what accuracy means, and whether outputs are logits.

    Raises:
        ConfigError: if it is none of these, or does not fit the loss.
    """
    if isinstance(metric, str) and metric in _ACCURACIES:
        if loss.kind not in _ACCURACIES[metric]:
            raise ConfigError(
                f"{metric} is a metric of classification, but the loss is "
                f"{loss.name}. Use another metric, such as 'mae'."
                if loss.kind not in _ACCURACIES["accuracy"]
                else f"{metric} does not fit targets of {loss.name}. Use "
                "'accuracy'."
            )
        return Objective(metric, _accuracy(loss), metric, weighs=True)
    found = _keras_metric(metric)
    if found is not None:
        told = isinstance(metric, keras.metrics.Metric)
        _check_keras_metric(found, loss, told)
        name = metric if isinstance(metric, str) else found.name
        function = _stateless(found, loss, told)
        return Objective(name, function, metric, weighs=True)
    if not (isinstance(metric, str) or callable(metric)):
        raise ConfigError(
            "A metric must be a name or a function of (targets, outputs). "
            f"Received: {metric!r}"
        )
    return as_loss(metric, loss.outputs_by)


def names_of(objectives: Sequence[Objective]) -> list[str]:
    """Names of the loss and the metrics, all different.

    Raises:
        ConfigError: if two are the same.
    """
    names = ["loss", *(o.name for o in objectives[1:])]
    if len(set(names)) < len(names):
        raise ConfigError(f"Metrics need different names. Received: {names}")
    return names


def check_metric(metric: Objective, targets: Any, outputs: Any) -> None:
    """Checks that a metric can be computed for examples.

    Raises:
        ConfigError: if it cannot.
    """
    metric.check_outputs(targets, outputs)
    try:
        value = metric(
            *tf.nest.map_structure(tf.convert_to_tensor, (targets, outputs))
        )
        tf.reduce_mean(value)
    except _REFUSALS as e:
        shapes = [x.shape for x in tf.nest.flatten((targets, outputs))]
        raise ConfigError(
            f"The metric {metric.name} cannot be computed for these targets "
            f"and outputs, of shapes {shapes}. ({first_lines(e)})"
        ) from e


_REFUSALS = (
    ValueError,
    TypeError,
    AttributeError,
    NotImplementedError,
    LookupError,
    tf.errors.OpError,
)


def _keras_metric(metric: Any) -> keras.metrics.Metric | None:
    """A Keras metric by name, as a class or as an object.

    None for anything else, such as losses and functions.

    Raises:
        ConfigError: if it is one that needs arguments.
    """
    found = metric
    if isinstance(metric, str):
        try:
            loss_object(metric)
        except ConfigError:
            known = {
                name: kind
                for kind in vars(_M).values()
                if inspect.isclass(kind)
                for name in (kind.__name__, kind.__name__.lower())
            }
            found = known.get(metric) or known.get(metric.replace("_", ""))
        else:
            return None
    if inspect.isclass(found) and issubclass(found, keras.metrics.Metric):
        try:
            found = found()
        except TypeError as e:
            raise ConfigError(
                f"The metric {metric!r} needs arguments ({first_lines(e)}). "
                "Give it as an object."
            ) from e
    return found if isinstance(found, keras.metrics.Metric) else None


def _check_keras_metric(
    metric: keras.metrics.Metric, loss: Objective, told: bool
) -> None:
    """Checks that a Keras metric means to these outputs what it says.

    Args:
        metric: the metric.
        loss: says what the outputs are.
        told: whether the user gave the metric its settings.
    """
    if type(metric) in (_M.Mean, _M.Sum, _M.Metric):
        raise ConfigError(
            f"{type(metric).__name__} is not a metric of targets and outputs. "
            "Give a function of (targets, outputs)."
        )
    if type(metric) is _M.Accuracy:
        raise ConfigError(
            "keras.metrics.Accuracy compares predicted class numbers, but "
            "networks give scores. Give 'accuracy'."
        )
    if type(metric) in (_M.IoU, _M.MeanIoU) and metric.sparse_y_pred:
        raise ConfigError(
            f"{metric.name} takes predicted class numbers, but networks give "
            "scores. Give it sparse_y_pred=False."
        )
    if not _expects_probabilities(metric):
        return
    if loss.from_logits and told:
        raise ConfigError(
            f"{metric.name} takes probabilities, but {loss.name} takes the "
            "outputs as logits. Give the metric by its name, or let the "
            "network end in a softmax or sigmoid."
        )
    by = loss.outputs_by
    if loss.from_logits is None and by not in ("softmax", "sigmoid", None):
        raise ConfigError(
            f"{metric.name} takes probabilities, but the outputs of "
            f"{loss.name} are not. Let the network end in a softmax or sigmoid."
        )


def _expects_probabilities(metric: keras.metrics.Metric) -> bool:
    if not isinstance(metric, _OF_PROBABILITIES):
        return False
    if any(getattr(metric, x, False) for x in ("from_logits", "_from_logits")):
        return False
    # Such a threshold can only be one of logits.
    threshold = getattr(metric, "_fn_kwargs", {}).get("threshold", 0.5)
    return bool(0 < threshold < 1)


def _stateless(
    metric: keras.metrics.Metric, loss: Objective, told: bool
) -> Callable:
    """A Keras metric as a function of one task's targets and outputs.

    And of weights of the examples, if they have any.
    """
    made = False
    to_probabilities = None
    if loss.from_logits and not told and _expects_probabilities(metric):
        binary = loss.kind == BINARY
        to_probabilities = tf.sigmoid if binary else tf.nn.softmax

    def measure(targets, outputs, weights=None) -> tf.Tensor:
        nonlocal made
        if len(targets.shape) == len(outputs.shape) - 1 and (
            outputs.shape[-1] == 1
        ):
            targets = tf.expand_dims(targets, -1)
        if to_probabilities is not None:
            outputs = to_probabilities(outputs)
        if not made:
            with tf.init_scope():  # where variables can be made
                metric.update_state(
                    *(
                        tf.zeros([2, *x.shape[1:]], x.dtype)
                        for x in (targets, outputs)
                    )
                )
            made = True
        variables = metric.stateless_reset_state()
        weighing = {} if weights is None else {"sample_weight": weights}
        if weighing and not tf.as_dtype(metric.dtype).is_floating:
            raise ConfigError(
                f"{metric.name} counts in {metric.dtype}, which rounds weights "
                "of examples. Give it as an object with dtype='float32'."
            )
        variables = metric.stateless_update_state(
            variables, targets, outputs, **weighing
        )
        return metric.stateless_result(variables)

    return measure


def _accuracy(loss: Objective) -> Callable:
    """The share of right predictions among what has a class."""

    def accuracy(targets, outputs, weights=None) -> tf.Tensor:
        counted = mask_of(outputs)
        binary = loss.kind == BINARY and loss.outputs_by != "softmax"
        if binary or loss.kind == SIGNS:
            middle = 0.0 if loss.from_logits or loss.kind == SIGNS else 0.5
            limit = 0.0 if loss.kind == SIGNS else 0.5
            targets = tf.reshape(targets, tf.shape(outputs))
            right = (outputs > middle) == (tf.cast(targets, tf.float32) > limit)
            right = tf.cast(right, outputs.dtype)
            return _share(right, _weighed(counted, weights, right))
        if len(targets.shape) == len(outputs.shape):  # one-hot
            has_class = tf.reduce_any(targets != 0, -1)
            counted = has_class if counted is None else counted & has_class
            targets = tf.argmax(targets, -1)
        if loss.ignored is not None:
            has_class = targets != tf.cast(loss.ignored, targets.dtype)
            counted = has_class if counted is None else counted & has_class
        counted = _weighed(counted, weights, outputs[..., 0])
        return hit_rate(targets, outputs, counted)

    return accuracy


def _weighed(
    counted: tf.Tensor | None, weights: tf.Tensor | None, values: tf.Tensor
) -> tf.Tensor | None:
    """How much each of `values` counts; None: all alike.

    Args:
        counted: bool, which count, with or without a last axis of `values`.
        weights: [examples].
        values: [examples, ...].
    """
    if weights is None:
        return counted
    found = tf.ones_like(values)
    for factor in (weights, counted):
        if factor is not None:
            axes = [1] * (len(values.shape) - len(factor.shape))
            shape = tf.concat([tf.shape(factor), axes], axis=0)
            found *= tf.reshape(tf.cast(factor, values.dtype), shape)
    return found


def _share(right: tf.Tensor, counted: tf.Tensor | None) -> tf.Tensor:
    """The mean over what is counted."""
    if counted is None:
        return tf.reduce_mean(right)
    weights = tf.cast(counted, right.dtype)
    while len(weights.shape) < len(right.shape):
        weights = tf.expand_dims(weights, -1)
    weights *= tf.ones_like(right)
    return tf.reduce_sum(right * weights) / tf.reduce_sum(weights)
