"""Checks of a user's model, and plain copies of it."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from maml_tf.core.batch import Batch
from maml_tf.core.maml import Params
from maml_tf.core.model_copies import copy_model
from maml_tf.core.network import Network
from maml_tf.core.population import take_statistics
from maml_tf.errors import ConfigError, DataError, first_lines
from maml_tf.layers.activation import ReLU
from maml_tf.layers.convolution import Conv2D
from maml_tf.layers.normalization import (
    EXACT_LAYERS,
    BatchNormalization,
    all_layers,
)
from maml_tf.layers.normalized_convolution import NormalizedConv2D
from maml_tf.layers.randomness import generators_of
from maml_tf.layers.resizing import EXACT_RESIZING
from maml_tf.methods.method import Method

_PLAIN_LAYERS = {
    **{exact: plain for plain, exact in EXACT_LAYERS.items()},
    **{exact: plain for plain, exact in EXACT_RESIZING.items()},
    Conv2D: keras.layers.Conv2D,
    NormalizedConv2D: keras.Sequential,
    ReLU: keras.layers.ReLU,
}


def check_model(model: keras.Model) -> None:
    """Checks that a model has weights to learn.

    Raises:
        ConfigError: if it has not, or is not.
    """
    if not isinstance(model, keras.Model):
        raise ConfigError(
            f"model must be a keras.Model. Received: {type(model).__name__}"
        )
    if not model.built:
        raise ConfigError(
            f"{model.name} has no weights yet. Start it with a keras.Input, or "
            "call it once on a batch of examples."
        )
    if not model.trainable_variables:
        raise ConfigError(
            f"{model.name} has no trainable variables, so nothing can be "
            "learned. Give it layers with weights, or set trainable=True."
        )
    if not generators_of(model):
        return
    for layer in all_layers(model):
        if _is_own_batch_norm(layer) and type(layer) not in EXACT_LAYERS:
            raise ConfigError(
                f"{layer.path}, a {type(layer).__name__}, cannot be told from "
                "outside to normalize by the batch while layers that draw "
                "random numbers are off. Derive it from "
                "maml_tf.BatchNormalization, or take out the random layers."
            )


def check_normalization(model: keras.Model) -> None:
    """Checks that batch normalization can use other examples' statistics.

    Raises:
        ConfigError: if a layer of the user's own cannot.
    """
    for layer in all_layers(model):
        if _is_own_batch_norm(layer):
            raise ConfigError(
                f"{layer.path}, a {type(layer).__name__}, always normalizes a "
                "batch by its own statistics. Use statistics='transductive', "
                "or derive it from maml_tf.BatchNormalization."
            )


def outputs_on(
    network: Network, method: Method, params: Params, batch: Batch
) -> Any:
    """A method's predictions for the support set itself, as NumPy arrays.

    Raises:
        DataError: if the model cannot take the inputs.
    """
    try:
        state = method.begin(network, params, batch)
        outputs = method.predict(network, params, state, batch.inputs)
    except (ValueError, TypeError, tf.errors.OpError, LookupError) as e:
        model = network.model
        shapes = [x.shape for x in tf.nest.flatten(batch.inputs)]
        raise DataError(
            f"{model.name} cannot take these inputs: shapes {shapes}; it takes "
            f"{getattr(model, 'input_shape', 'others')}. ({first_lines(e)})"
        ) from e
    return tf.nest.map_structure(lambda y: y.numpy(), outputs)


def cancelled_biases(model: keras.Model, ignored: Sequence[bool]) -> list[bool]:
    """For each trainable variable, whether normalization cancels it.

    Args:
        model: the network.
        ignored: for each of its trainable variables, whether the loss does not
            depend on it.
    """
    unused = {
        id(v)
        for v, flag in zip(model.trainable_variables, ignored, strict=True)
        if flag
    }
    convolutions = [
        layer.layers[0]
        for layer in all_layers(model)
        if isinstance(layer, NormalizedConv2D)
    ]
    biases = {id(x.bias) for x in convolutions if id(x.kernel) not in unused}
    return [id(v) in biases & unused for v in model.trainable_variables]


def ignored_by(
    network: Network, method: Method, params: Params, batch: Batch
) -> list[bool]:
    """For each entry of theta, whether the loss does not depend on it.

    Raises:
        ConfigError: if the loss cannot be computed.
    """
    theta, others = network.split(params)
    try:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(theta)
            both = [*theta, *others]
            state = method.begin(network, both, batch)
            outputs = method.predict(network, both, state, batch.inputs)
            value = tf.reduce_mean(network.objective(batch.targets, outputs))
        gradients = tape.gradient(value, theta)
    except (
        ValueError,
        TypeError,
        AttributeError,
        NotImplementedError,
        tf.errors.OpError,
        LookupError,
    ) as e:
        raise ConfigError(
            "The loss cannot be computed for these targets and the network's "
            f"outputs: targets of shapes "
            f"{[x.shape for x in tf.nest.flatten(batch.targets)]}. "
            f"({first_lines(e)})"
        ) from e
    return [g is None for g in gradients]


def plain_copy(
    model: keras.Model, theta: Params, statistics_of=None
) -> keras.Model:
    """A copy with other weights, made only of Keras' and the user's layers.

    Args:
        model: the network.
        theta: values of its trainable variables.
        statistics_of: inputs whose mean and variance batch normalization
            takes as its moving ones; None keeps those of the model.

    Raises:
        ConfigError: if the model cannot be copied.
    """
    try:
        copy = copy_model(model)
    except ValueError as e:
        raise ConfigError(
            f"{model.name} cannot be copied ({e}). Give its layers a "
            "get_config, and use layers of your own in place of Lambda. "
            "Predictions do not need a copy."
        ) from e
    for variable, value in zip(copy.trainable_variables, theta, strict=True):
        variable.assign(value)
    if statistics_of is not None:
        take_statistics(copy, [statistics_of])
    for layer in all_layers(copy):
        layer.__class__ = _PLAIN_LAYERS.get(type(layer), type(layer))
    return copy


def _is_own_batch_norm(layer: keras.layers.Layer) -> bool:
    """Whether a layer is batch normalization of Keras' or the user's own."""
    return isinstance(
        layer, keras.layers.BatchNormalization
    ) and not isinstance(layer, BatchNormalization)


def named(flags: Sequence[bool], model: keras.Model) -> str:
    """Paths of the flagged trainable variables."""
    pairs = zip(flags, model.trainable_variables, strict=True)
    return ", ".join(v.path for flag, v in pairs if flag)
