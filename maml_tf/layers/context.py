"""A context vector, concatenated to a network's inputs."""

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="maml_tf")
class Context(keras.layers.Layer):
    """Gives each example further channels, the same for all examples.

    Inputs [examples, ..., channels] become [examples, ..., channels + size].
    The context z [..., size] is a weight, zero at first. For images it is a
    map: normalization would cancel a value that is the same in all pixels.
    """

    def __init__(self, size: int, **kwargs):
        """
        Args:
            size: number of further channels.
            kwargs: as for any Keras layer.
        """
        super().__init__(**kwargs)
        self.size = size

    def build(self, input_shape):
        self.context = self.add_weight(
            shape=(*input_shape[1:-1], self.size),
            initializer="zeros",
            name="context",
        )

    def call(self, inputs):
        shape = tf.concat([tf.shape(inputs)[:-1], [self.size]], axis=0)
        context = tf.cast(self.context, inputs.dtype)
        return tf.concat([inputs, tf.broadcast_to(context, shape)], axis=-1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], input_shape[-1] + self.size)

    def get_config(self):
        return super().get_config() | {"size": self.size}


def with_context(model: keras.Sequential, size: int) -> keras.Sequential:
    """A network like `model` that begins with a `Context`.

    Initial values are drawn once more, for weights of other shapes.
    """
    layers = [
        type(x).from_config(_unbuilt(x.get_config())) for x in model.layers
    ]
    inputs = keras.Input(model.input_shape[1:])
    context = Context(size, name="context")
    return keras.Sequential([inputs, context, *layers])


def _unbuilt(config: Any) -> Any:
    """A configuration without the shapes that layers were built for."""
    if isinstance(config, dict):
        return {
            k: _unbuilt(x) for k, x in config.items() if k != "build_config"
        }
    if isinstance(config, list):
        return [_unbuilt(x) for x in config]
    return config
