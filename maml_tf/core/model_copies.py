"""Copies of users' models."""

from collections.abc import Callable
from typing import Any

import keras

from maml_tf.errors import first_lines
from maml_tf.layers.normalization import all_layers


def copy_model(
    model: keras.Model, change: Callable[[Any], Any] = lambda config: config
) -> keras.Model:
    """A model with the same configuration and weights.

    Args:
        model: a built model.
        change: maps the model's configuration to that of the copy.

    Raises:
        ValueError: if the model cannot be rebuilt from its configuration; says
            why in one line.
    """
    try:
        copy = keras.saving.deserialize_keras_object(
            change(keras.saving.serialize_keras_object(model)),
            custom_objects={
                type(x).__name__: type(x) for x in all_layers(model)
            },
            safe_mode=False,  # the configuration comes from the model itself
        )
        if not copy.built:
            copy.build(model.input_shape)
        copy.set_weights(model.get_weights())
    except (ValueError, TypeError, NotImplementedError, AttributeError) as e:
        raise ValueError(first_lines(e)) from e
    return copy
