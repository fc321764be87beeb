"""Normalization layers with correct second derivatives.

`tf.nn.moments`, which Keras' batch, group and layer normalization call,
computes the variance as mean((x - stop_gradient(m))^2), where m = mean(x).
The first derivative is unchanged, because the derivative with respect to m is
zero at the mean. The second derivative is not: it loses the term that comes
from m moving with x. MAML differentiates a gradient, so its meta-gradient
through these layers is wrong (see docs/normalization.md). The layers below
write the variance out and are otherwise Keras'.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf
from absl import logging

from maml_tf.errors import ConfigError
from maml_tf.layers.batch_norm_gradients import (
    Statistics,
    batch_normalize,
)

NORMALIZATION_LAYERS = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.RMSNormalization,
)


_num_reference: contextvars.ContextVar[int | None] = contextvars.ContextVar(
    "num_reference", default=None
)


@contextlib.contextmanager
def statistics_of_first(num_examples: int) -> Iterator[None]:
    """Within it, batch normalization takes statistics of the first examples.

    The other examples are normalized by these, so the network's outputs for
    each of them do not depend on the rest.

    Args:
        num_examples: number of leading examples that give mean and variance.
    """
    token = _num_reference.set(num_examples)
    try:
        yield
    finally:
        _num_reference.reset(token)


_by_batch: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "by_batch", default=False
)


@contextlib.contextmanager
def statistics_of_batch() -> Iterator[None]:
    """Within it, batch normalization works as in training, whatever is said."""
    token = _by_batch.set(True)
    try:
        yield
    finally:
        _by_batch.reset(token)


_counted: contextvars.ContextVar[tf.Tensor | None] = contextvars.ContextVar(
    "counted", default=None
)


@contextlib.contextmanager
def statistics_of_counted(counted: tf.Tensor) -> Iterator[None]:
    """Within it, batch normalization takes statistics of some examples alone.

    Args:
        counted: bool [examples], which give mean and variance.
    """
    token = _counted.set(counted)
    try:
        yield
    finally:
        _counted.reset(token)


def moments(
    x: tf.Tensor, axes: list[int], keepdims: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and population variance over `axes`, exact to every derivative."""
    mean = tf.reduce_mean(x, axes, keepdims=True)
    variance = tf.reduce_mean(tf.square(x - mean), axes, keepdims=keepdims)
    return (mean if keepdims else tf.squeeze(mean, axes)), variance


def _moments_of_counted(
    x: tf.Tensor, axes: list[int], counted: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """`moments` of the examples that count; `axes` has theirs, 0."""
    counts = tf.cast(counted, x.dtype)
    shares = tf.reshape(
        counts / tf.reduce_sum(counts), [-1] + [1] * (len(x.shape) - 1)
    )

    def mean_of(values: tf.Tensor) -> tf.Tensor:
        within = [axis for axis in axes if axis != 0]
        each = tf.reduce_mean(values, within, keepdims=True)
        return tf.reduce_sum(shares * each, axis=0, keepdims=True)

    mean = mean_of(x)
    variance = mean_of(tf.square(x - mean))
    return tf.squeeze(mean, axes), tf.squeeze(variance, axes)


@keras.saving.register_keras_serializable(package="maml_tf")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' layer, exact to every derivative.

    Masked inputs, for which Keras is exact, and statistics synchronized over
    replicas are left to Keras.
    """

    def call(self, inputs, training=None, mask=None):
        training = training or _by_batch.get()
        if mask is not None or not self.uses_batch(inputs, training):
            return super().call(inputs, training=training, mask=mask)
        found = self.normalize(tf.reshape(inputs, [-1, inputs.shape[-1]]))
        self.update_moving(found.mean, found.variance)
        return tf.reshape(found.outputs, [-1, *inputs.shape[1:]])

    def uses_batch(self, inputs: tf.Tensor, training: bool | None) -> bool:
        """Whether all examples count and the written-out derivatives apply.

        Args:
            inputs: inputs of the layer, or of a preceding layer that keeps rank
                and dtype.
            training: as in `call`.
        """
        return (
            bool((training or _by_batch.get()) and self.trainable)
            and _num_reference.get() is None
            and _counted.get() is None
            and not (self.synchronized or self.renorm)
            and inputs.shape[1:].is_fully_defined()
            and inputs.dtype == self.compute_dtype
            and inputs.dtype in (tf.float32, tf.float64)
            and self.axis in (-1, len(inputs.shape) - 1)
        )

    def normalize(self, x: tf.Tensor) -> Statistics:
        """Normalizes float [examples, channels] over examples.

        Returns:
            Statistics, with outputs scaled and offset.
        """
        found = batch_normalize(x, self.epsilon)
        outputs = _scale_and_offset(
            found.outputs, *self.scale_and_offset(x.dtype), [x.shape[-1]]
        )
        return found._replace(outputs=outputs)

    def scale_and_offset(
        self, dtype: tf.DType
    ) -> tuple[tf.Tensor | None, tf.Tensor | None]:
        """gamma and beta [channels], cast to `dtype`; None for unused ones."""
        gamma, beta = (
            None if x is None else tf.cast(x, dtype)
            for x in (self.gamma, self.beta)
        )
        return gamma, beta

    def update_moving(self, mean: tf.Tensor, variance: tf.Tensor) -> None:
        """Moves the moving statistics towards those of a batch."""
        for moving, now in (
            (self.moving_mean, mean),
            (self.moving_variance, variance),
        ):
            now = tf.cast(tf.reshape(now, moving.shape), moving.dtype)
            moving.assign(moving * self.momentum + now * (1.0 - self.momentum))

    def _moments(self, inputs, mask):
        num_reference, counted = _num_reference.get(), _counted.get()
        if counted is not None and not counted.shape.is_compatible_with(
            inputs.shape[:1]
        ):
            raise ConfigError(
                f"{self.path} takes {inputs.shape[0]} inputs for "
                f"{counted.shape[0]} examples, so it cannot leave out those "
                "that do not count. Give all tasks the same number of "
                "examples, and no weights."
            )
        if num_reference is not None:
            inputs = inputs[:num_reference]
            mask = None if mask is None else mask[:num_reference]
            counted = None if counted is None else counted[:num_reference]
        if counted is not None and mask is None:
            return _moments_of_counted(inputs, self._reduction_axes, counted)
        if counted is not None:
            mask &= tf.reshape(counted, [-1] + [1] * (len(mask.shape) - 1))
        if mask is not None or self.synchronized:
            return super()._moments(inputs, mask)
        return moments(inputs, self._reduction_axes)


@keras.saving.register_keras_serializable(package="maml_tf")
class GroupNormalization(keras.layers.GroupNormalization):
    """Keras' layer, exact to every derivative.

    With `groups=1` it is the layer normalization of the original code: over
    all axes but the first, scale and offset per channel.
    """

    def _apply_normalization(self, reshaped_inputs, input_shape):
        x = _at_least_float32(reshaped_inputs)
        axes = list(range(1, len(x.shape)))
        axes.pop(-2 if self.axis == -1 else self.axis - 1)
        mean, variance = moments(x, axes, keepdims=True)
        outputs = (x - mean) * tf.math.rsqrt(variance + self.epsilon)
        shape = self._create_broadcast_shape(input_shape)
        return _scale_and_offset(outputs, self.gamma, self.beta, shape)


@keras.saving.register_keras_serializable(package="maml_tf")
class LayerNormalization(keras.layers.LayerNormalization):
    """Keras' layer, exact to every derivative.

    `rms_scaling` is left to Keras, which is exact in that case.
    """

    def call(self, inputs):
        if self.rms_scaling:
            return super().call(inputs)
        x = _at_least_float32(inputs)
        mean, variance = moments(x, self.axis, keepdims=True)
        outputs = (x - mean) * tf.math.rsqrt(variance + self.epsilon)
        axes = [axis % len(x.shape) for axis in self.axis]
        shape = [n if i in axes else 1 for i, n in enumerate(x.shape)]
        outputs = _scale_and_offset(outputs, self.gamma, self.beta, shape)
        return tf.cast(outputs, self.compute_dtype)


def _at_least_float32(x: tf.Tensor) -> tf.Tensor:
    return tf.cast(x, keras.backend.result_type(x.dtype, "float32"))


def _scale_and_offset(x: tf.Tensor, gamma, beta, shape: list[int]) -> tf.Tensor:
    """x * gamma + beta, where None leaves out a factor or term."""
    if gamma is not None:
        x *= tf.cast(tf.reshape(gamma, shape), x.dtype)
    if beta is not None:
        x += tf.cast(tf.reshape(beta, shape), x.dtype)
    return x


EXACT_LAYERS = {
    keras.layers.BatchNormalization: BatchNormalization,
    keras.layers.GroupNormalization: GroupNormalization,
    keras.layers.LayerNormalization: LayerNormalization,
}


def use_exact_normalization(model: keras.Model) -> list[str]:
    """Replaces Keras' batch, group and layer normalization by exact layers.

    The layers stay the same objects with the same variables and settings;
    only their class changes. This works for every model, even a subclassed
    one that cannot be cloned, and changes nothing but the second derivative.
    Subclasses of Keras' layers are left alone.

    Args:
        model: a Keras model; changed in place.

    Returns:
        Paths of the replaced layers, which are also logged.
    """
    exchanged = []
    for layer in inexact_layers(model):
        layer.__class__ = EXACT_LAYERS[type(layer)]
        exchanged.append(layer.path)
    if exchanged:
        logging.warning(
            "Exchanged Keras' normalization, whose second derivative is "
            "wrong, for maml_tf's in %d layer(s) of %s: %s. The model "
            "computes the same as before (docs/normalization.md).",
            len(exchanged),
            model.name,
            ", ".join(exchanged),
        )
    return exchanged


def inexact_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Keras' own normalization layers in a model, however deeply nested."""
    return [x for x in all_layers(model) if type(x) in EXACT_LAYERS]


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """The model and every layer in it, however deeply nested."""
    return list(model._flatten_layers(include_self=True, recursive=True))


def which_adapt(
    model: keras.Model,
    predicate: Callable[[keras.Variable], bool] | None = None,
) -> list[bool]:
    """Which of `model.trainable_variables` the inner updates change.

    Args:
        model: the network.
        predicate: whether a variable adapts. None is the paper's choice: all
            but the offsets and scales of normalization layers, which the
            original only meta-learns.

    Returns:
        One bool per trainable variable.
    """
    if predicate is None:
        kept = {
            id(variable)
            for layer in all_layers(model)
            if isinstance(layer, NORMALIZATION_LAYERS)
            for variable in layer.trainable_variables
        }
        return [id(v) not in kept for v in model.trainable_variables]
    return [bool(predicate(v)) for v in model.trainable_variables]


def has_batch_norm(model: keras.Model) -> bool:
    """Whether examples of a batch affect each other through normalization."""
    return any(
        isinstance(layer, keras.layers.BatchNormalization)
        for layer in all_layers(model)
    )
