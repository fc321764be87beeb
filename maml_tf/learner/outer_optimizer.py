"""The outer optimizer, as Keras' trainer would use it."""

import copy
from collections.abc import Sequence
from typing import Any

import keras

from maml_tf.errors import ConfigError, first_lines


def outer_optimizer(
    given: Any, policy: Any, variables: Sequence[keras.Variable]
) -> keras.optimizers.Optimizer:
    """A built optimizer of these variables.

    As in Keras' `compile`, that of a model with the policy `mixed_float16`
    scales the loss.

    Args:
        given: a Keras optimizer, its name or its configuration.
        policy: the model's dtype policy.
        variables: what is meta-learned.

    Raises:
        ConfigError: if it is not an optimizer, or belongs to other variables.
    """
    try:
        # Keras edits a configuration.
        optimizer = keras.optimizers.get(
            copy.deepcopy(given) if isinstance(given, dict) else given
        )
    except (ValueError, TypeError, KeyError) as e:
        raise ConfigError(
            "optimizer must be a Keras optimizer, or the name of one "
            f"such as 'adam'. Received: optimizer={given!r}"
        ) from e
    ours = [id(v) for v in variables]
    for used in (optimizer, getattr(optimizer, "inner_optimizer", optimizer)):
        if used.built and [id(v) for v in used._trainable_variables] != ours:
            raise ConfigError(
                "The optimizer was used with other variables; give "
                "this learner one of its own."
            )
    scales = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    if policy.name == "mixed_float16" and not scales:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    if not optimizer.built:
        try:
            optimizer.build(list(variables))
        except (ValueError, TypeError) as e:
            raise ConfigError(
                f"The optimizer {optimizer.name} cannot be used "
                f"({first_lines(e)}). Take another one, such as 'adam'."
            ) from e
    return optimizer


def keeps_averages(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether an optimizer averages the weights (Keras' `use_ema`)."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return any(one.use_ema for one in getattr(inner, "optimizers", [inner]))
