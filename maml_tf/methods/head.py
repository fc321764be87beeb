"""The head of a network: its last layer with weights."""

import keras
import tensorflow as tf

from maml_tf.core.maml import Params
from maml_tf.errors import ConfigError


def in_head(model: keras.Model) -> list[bool]:
    """For each trainable variable, whether it belongs to the head.

    Raises:
        ConfigError: if the model is a head and nothing else.
    """
    layers = [v.path.rpartition("/")[0] for v in model.trainable_variables]
    found = [layer == layers[-1] for layer in layers]
    if all(found):
        raise ConfigError(
            f"{layers[-1]} is the only layer of {model.name} with weights; a "
            "head needs layers before it."
        )
    return found


def set_head_to_zero(model: keras.Model) -> None:
    """Assigns zeros to the head's weights."""
    for variable, is_head in zip(
        model.trainable_variables, in_head(model), strict=True
    ):
        if is_head:
            variable.assign(tf.zeros_like(variable))


def with_zero_head(theta: Params, model: keras.Model) -> list[tf.Tensor]:
    """Theta with zeros for the head.

    Derivatives with respect to the head are zero, too, but exist: the loss
    does not ignore it.
    """
    pairs = zip(theta, in_head(model), strict=True)
    return [0.0 * t if is_head else t for t, is_head in pairs]
