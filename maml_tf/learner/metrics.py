"""Metrics, given by name or as functions."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from maml_tf.core.losses import hit_rate
from maml_tf.errors import ConfigError
from maml_tf.learner.objectives import (
    BINARY,
    ELEMENTWISE,
    Objective,
    kind_of,
    loss_by_name,
    name_of,
)


def as_metric(metric: Any, loss: Objective) -> Objective:
    """A metric given by name or as a function.

    Args:
        metric: "accuracy", the name of a Keras loss such as "mae", or a
            function of (targets, outputs).
        loss: determines what accuracy means.

    Raises:
        ConfigError: if it is neither.
    """
    if metric == "accuracy":
        if loss.kind == ELEMENTWISE:
            raise ConfigError(
                "accuracy is a metric of classification, but the loss is "
                f"{loss.name}. Use another metric, such as 'mae'."
            )
        return Objective("accuracy", _accuracy(loss), metric)
    if isinstance(metric, keras.metrics.Metric):
        raise ConfigError(
            f"A metric must be a name, such as 'accuracy' or 'mae', or a "
            f"function of (targets, outputs). {type(metric).__name__} objects "
            "keep a state, but many tasks are measured at once."
        )
    if isinstance(metric, str):
        function = loss_by_name(metric)
        kind = kind_of(function)
        return Objective(metric, function, metric, kind)
    if not callable(metric):
        raise ConfigError(
            "A metric must be a name or a function of (targets, outputs). "
            f"Received: {metric!r}"
        )
    return Objective(name_of(metric), metric, metric)


def names_of(objectives: Sequence[Objective]) -> list[str]:
    """Names of the loss and the metrics, all different.

    Raises:
        ConfigError: if two are the same.
    """
    names = ["loss", *(o.name for o in objectives[1:])]
    if len(set(names)) < len(names):
        raise ConfigError(f"Metrics need different names. Received: {names}")
    return names


def _accuracy(loss: Objective) -> Callable:
    def accuracy(targets, outputs) -> tf.Tensor:
        if loss.kind == BINARY:
            threshold = 0.0 if loss.from_logits else 0.5
            targets = tf.reshape(targets, tf.shape(outputs))
            hits = (outputs > threshold) == (tf.cast(targets, tf.float32) > 0.5)
            return tf.reduce_mean(tf.cast(hits, outputs.dtype))
        if len(targets.shape) == len(outputs.shape):  # one-hot
            targets = tf.argmax(targets, -1)
        return hit_rate(targets, outputs)

    return accuracy
