"""Checks that methods, models and losses can leave out examples of weight 0."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from maml_tf.core.batch import Weighted
from maml_tf.core.maml import Task
from maml_tf.core.network import Network
from maml_tf.errors import ConfigError, first_lines
from maml_tf.methods.method import Method
from maml_tf.objectives.objective import Objective

_REMEDY = "Give all tasks the same number of examples, and no weights."


def check_method(method: Method) -> None:
    """Checks that a method takes weights of examples.

    Raises:
        ConfigError: if it does not.
    """
    if not method.takes_weights:
        raise ConfigError(
            f"{method.name}, with these settings, takes no weights of "
            "examples, nor sets of different sizes, which it would need for "
            f"these tasks. {_REMEDY}"
        )


def check_weighing(
    network: Network, objectives: Sequence[Objective], tasks: Task
) -> None:
    """Checks that examples of weight 0 change nothing.

    Compares outputs, loss and metrics on the first support set with those where
    the query set is beside it, with weights of 0.

    Args:
        network: the model with its loss.
        objectives: the loss and the metrics.
        tasks: stacked, with weights.

    Raises:
        ConfigError: if they change something, or weights cannot be taken.
    """
    support, query = (
        tf.nest.map_structure(
            lambda x, counts=batch.weights[0] > 0: x[0][counts], batch
        )
        for batch in tasks
    )
    both = tf.nest.map_structure(
        lambda *x: tf.concat(x, axis=0), support, query
    )
    num = len(support.weights)
    weights = tf.cast(tf.range(len(both.weights)) < num, both.weights.dtype)
    expected = network.outputs(network.theta, support.inputs)
    outputs = network.outputs(network.theta, Weighted(both.inputs, weights))
    first = tf.nest.map_structure(lambda y: y[:num], outputs)
    pairs = zip(tf.nest.flatten(first), tf.nest.flatten(expected), strict=True)
    if not all(_close(x, y) for x, y in pairs):
        raise ConfigError(
            f"The outputs of {network.model.name} for an example depend on "
            "others of weight 0, which fill up sets, by way of a layer other "
            f"than maml_tf's normalization. {_REMEDY}"
        )
    for objective in objectives:
        try:
            found = objective.weighted_mean(both.targets, outputs, weights)
        except (ValueError, TypeError, LookupError, tf.errors.OpError) as e:
            raise ConfigError(
                f"{objective.name} cannot weigh examples ({first_lines(e)}). "
                f"{_REMEDY}"
            ) from e
        alone = tf.reduce_mean(objective(support.targets, expected))
        if not _close(found, alone):
            raise ConfigError(
                f"{objective.name} compares examples with each other, also "
                f"with those of weight 0, which fill up sets. {_REMEDY}"
            )


def _close(found: tf.Tensor, expected: tf.Tensor) -> bool:
    tolerance = 5e-2 if expected.dtype.size == 2 else 1e-4
    x, y = (np.asarray(v, np.float64) for v in (found, expected))
    largest: Any = np.abs(y).max(initial=1e-2)
    return np.allclose(x, y, rtol=0, atol=tolerance * largest, equal_nan=True)
