"""Outer losses other than the loss of one query set after the last update."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from maml_tf.core.batch import Batch
from maml_tf.core.maml import LossFn, MetaGradient, Params
from maml_tf.errors import ConfigError

# The share of an even weight that a query loss before the last one keeps.
LEAST = 0.03


def mean_over_sets(
    loss: LossFn, theta: Params, query: Batch, num_sets: int
) -> tf.Tensor:
    """The mean loss of query sets, each normalized by itself.

    Args:
        loss: of (theta, batch).
        theta: the weights.
        query: the sets one after another, of equal sizes.
        num_sets: how many there are.

    Raises:
        ConfigError: if they cannot be of equal sizes.
    """
    if num_sets == 1:
        return loss(theta, query)
    size, rest = divmod(tf.nest.flatten(query)[0].shape[0], num_sets)
    if rest:
        raise ConfigError(
            f"A query set of {num_sets * size + rest} examples cannot be "
            f"divided into train_query_sets={num_sets} of equal sizes."
        )

    def part(i: int) -> Any:
        return tf.nest.map_structure(
            lambda x: x[i * size : (i + 1) * size], query
        )

    return tf.reduce_mean(
        tf.stack([loss(theta, part(i)) for i in range(num_sets)])
    )


def step_weights(
    num_steps: int, progress: tf.Tensor, least: float = LEAST
) -> tf.Tensor:
    """Weights of the query losses after each update, [num_steps].

    They begin equal and sum to 1; all but the last fall linearly, to 3 % of
    that (MAML++, `get_per_step_loss_importance_vector` of the authors' code,
    which takes them in steps of an epoch).

    Args:
        num_steps: number of updates.
        progress: the share of the iterations over which they fall, in [0, 1).
        least: the 3 %.
    """
    early = tf.maximum(1 - progress, least) / num_steps
    weights = tf.fill([num_steps - 1], early)
    return tf.concat([weights, [1 - (num_steps - 1) * early]], axis=0)


def before(
    end: int,
    iteration: tf.Tensor | None,
    gradient: Callable[[bool], MetaGradient],
) -> MetaGradient:
    """gradient(True) before iteration `end`, then gradient(False).

    Args:
        end: 0 for never.
        iteration: the outer optimizer's; None: after the end.
        gradient: computes the meta-gradient.
    """
    if end == 0 or iteration is None:
        return gradient(False)
    known = tf.get_static_value(iteration)
    if known is not None:
        return gradient(bool(known < end))
    return tf.cond(
        iteration < end, lambda: gradient(True), lambda: gradient(False)
    )
