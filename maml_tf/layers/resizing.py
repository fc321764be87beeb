"""Image resizing that can be differentiated any number of times.

TensorFlow's kernels for the gradient of a resize have no gradient of their
own; that of bilinear resizing even counts as a constant, which makes a
meta-gradient wrong without an error. A resize is linear, so its gradient is a
product with two constant matrices, one for the rows and one for the columns.
The layers below are Keras' with that gradient.
"""

import functools
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from maml_tf.layers.normalization import all_layers

Resize = Callable[[tf.Tensor], tf.Tensor]


@keras.saving.register_keras_serializable(package="maml_tf")
class UpSampling2D(keras.layers.UpSampling2D):
    """Keras' layer, exact to every derivative.

    `nearest` is left to Keras, which repeats pixels and is exact.
    """

    def call(self, inputs):
        if self.interpolation == "nearest":
            return super().call(inputs)
        rows, columns = _spatial_axes(self.data_format)
        size = (
            _times(inputs.shape[rows], self.size[0]),
            _times(inputs.shape[columns], self.size[1]),
        )
        return _with_exact_gradient(
            super().call, inputs, size, self.data_format, self.interpolation
        )


@keras.saving.register_keras_serializable(package="maml_tf")
class Resizing(keras.layers.Resizing):
    """Keras' layer, exact to every derivative.

    Single images and those cropped or padded to an aspect ratio are left to
    Keras.
    """

    def _transform_images(self, images, transformation, interpolation):
        resize = functools.partial(
            super()._transform_images,
            transformation=transformation,
            interpolation=interpolation,
        )
        changes_aspect = self.crop_to_aspect_ratio or self.pad_to_aspect_ratio
        if changes_aspect or len(images.shape) != 4:
            return resize(images)
        return _with_exact_gradient(
            resize,
            images,
            (self.height, self.width),
            self.data_format,
            interpolation,
            self.antialias,
        )


EXACT_RESIZING = {
    keras.layers.UpSampling2D: UpSampling2D,
    keras.layers.Resizing: Resizing,
}


def use_exact_resizing(model: keras.Model) -> list[str]:
    """Replaces Keras' `UpSampling2D` and `Resizing` by exact layers.

    The layers stay the same objects, and the model computes the same; only
    their class changes, and with it the derivative. Subclasses of Keras' layers
    are left alone.

    Args:
        model: a Keras model; changed in place.

    Returns:
        Paths of the replaced layers.
    """
    exchanged = []
    for layer in all_layers(model):
        if type(layer) in EXACT_RESIZING:
            layer.__class__ = EXACT_RESIZING[type(layer)]
            exchanged.append(layer.path)
    return exchanged


def _spatial_axes(data_format: str) -> tuple[int, int]:
    return (2, 3) if data_format == "channels_first" else (1, 2)


def _times(length: int | None, factor: int) -> int | None:
    return None if length is None else length * factor


def _with_exact_gradient(
    resize: Resize,
    images: tf.Tensor,
    size: tuple[int | None, int | None],
    data_format: str,
    interpolation: str,
    antialias: bool = False,
) -> tf.Tensor:
    """`resize(images)`, with products of matrices as its gradient.

    Images of integers and those of unknown size are left as they are. In
    float64 the images are resized by the matrices, too: TensorFlow's kernels
    compute in float32.
    """
    axes = _spatial_axes(data_format)
    lengths = [images.shape[axis] for axis in axes]
    if not images.dtype.is_floating or None in (*lengths, *size):
        return resize(images)
    by_rows, by_columns = (
        _matrix(before, after, interpolation, antialias)
        for before, after in zip(lengths, size, strict=True)
    )
    small, large = ("nchw", "ncHW") if axes == (2, 3) else ("nhwc", "nHWc")

    def product(equation: str, x: tf.Tensor) -> tf.Tensor:
        return tf.einsum(
            equation,
            tf.cast(by_rows, x.dtype),
            tf.cast(by_columns, x.dtype),
            x,
        )

    @tf.custom_gradient
    def resized(x: tf.Tensor):
        y = resize(x)

        def gradient(dy: tf.Tensor) -> tf.Tensor:
            return tf.cast(product(f"Hh,Ww,{large}->{small}", dy), x.dtype)

        return y, gradient

    if images.dtype == tf.float64:
        return product(f"Hh,Ww,{small}->{large}", images)
    return resized(images)


@functools.lru_cache
def _matrix(
    before: int, after: int, interpolation: str, antialias: bool
) -> np.ndarray:
    """The resize of a line of pixels, float32 [after, before]."""
    pixels = np.eye(before, dtype=np.float32)[:, :, np.newaxis, np.newaxis]
    with tf.init_scope():
        lines = keras.ops.image.resize(
            pixels,
            (after, 1),
            interpolation=interpolation,
            antialias=antialias,
            data_format="channels_last",
        )
        return lines.numpy()[:, :, 0, 0].T
