"""Convolutions whose gradients are fast on small images.

An inner update differentiates with respect to the kernels, and the
meta-gradient differentiates that gradient again: four kernel gradients per task
and layer. On a CPU, with a few small images, TensorFlow spends most of its time
on them. As matrix products they take half of it, and one matrix of patches
serves them all:

    P(x) w       the outputs,
    P(x)^T dy    the gradient w.r.t. the kernel,
    T(w, dy)     the gradient w.r.t. the images.

| symbol | meaning | shape |
|---|---|---|
| x | images | [examples, height, width, channels] |
| P(x) | patches: what the kernel sees at each pixel | [pixels, elements] |
| w | kernel | [elements, filters] |
| dy | gradient w.r.t. the outputs | [pixels, filters] |
| T | transposed convolution | that of x |

`pixels` counts the outputs' pixels of all examples, and `elements` is the
kernel's height * width * channels.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf


class CenteredPatches(NamedTuple):
    """Patches minus their mean over the pixels.

    Attributes:
        mean: the mean, [1, elements].
        covariance: population covariance over the pixels, [elements, elements].
        times: multiplies the centered patches by a kernel
            [elements, filters] and adds an offset [filters] unless None;
            returns [pixels, filters].
    """

    mean: tf.Tensor
    covariance: tf.Tensor
    times: Callable[[tf.Tensor, tf.Tensor | None], tf.Tensor]


@dataclasses.dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution by TensorFlow, computed lazily.

    Attributes:
        images: float [examples, height, width, channels].
        kernel: [kernel height, kernel width, channels, filters].
        strides: along rows and columns.
        padding: `SAME` or `VALID`.
    """

    images: tf.Tensor
    kernel: tf.Tensor
    strides: tuple[int, int]
    padding: str

    @property
    def elements(self) -> int:
        return int(np.prod(self.kernel.shape[:3]))

    @property
    def filters(self) -> int:
        return self.kernel.shape[3]

    @functools.cached_property
    def products(self) -> tf.Tensor:
        """The outputs without bias: [pixels, filters]."""
        return self._rows(self._convolve(self.images, self.kernel))

    def center_patches(self) -> CenteredPatches:
        """Patches to multiply by other kernels; cheap if elements are few."""
        mean_image = tf.reduce_mean(self.images, axis=0, keepdims=True)
        mean = tf.reduce_mean(
            self._convolve(mean_image, self._one_kernel_each), axis=[0, 1, 2]
        )[None]
        patches = self._convolve(self.images, self._one_kernel_each)
        centered = tf.nn.bias_add(patches, -tf.squeeze(mean, 0))

        def times(kernel, offset):
            shift = -tf.squeeze(tf.matmul(mean, kernel), 0)
            kernel = tf.reshape(kernel, self.kernel.shape)
            outputs = self._convolve(self.images, kernel)
            shift = shift if offset is None else shift + offset
            return self._rows(tf.nn.bias_add(outputs, shift))

        covariance = covariance_of_rows(self._rows(centered))
        return CenteredPatches(mean, covariance, times)

    @property
    def _one_kernel_each(self) -> tf.Tensor:
        """One filter per element that passes only this element."""
        each = tf.eye(self.elements, dtype=self.kernel.dtype)
        return tf.reshape(each, [*self.kernel.shape[:3], self.elements])

    def _convolve(self, images: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return tf.nn.conv2d(images, kernel, self.strides, self.padding)

    def _rows(self, outputs: tf.Tensor) -> tf.Tensor:
        return tf.reshape(outputs, [-1, outputs.shape[3]])


class ProductConvolution(Convolution):
    """A convolution as the product of patches and kernel, for small images."""

    @functools.cached_property
    def patches(self) -> tf.Tensor:
        """What the kernel sees at each pixel: [pixels, elements]."""
        return _patches(self.images, self._taps)

    @functools.cached_property
    def products(self) -> tf.Tensor:
        """The outputs without bias: [pixels, filters].

        The three functions with a gradient below are each other's
        derivatives, so derivatives of every order consist of them.
        """
        image_shape, kernel_shape = tf.shape(self.images), self.kernel.shape
        image_patches, taps = self.patches, self._taps

        def kernel_gradient(x_patches: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
            return tf.matmul(x_patches, dy, transpose_a=True)

        def image_gradient(w: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
            return tf.nn.conv2d_transpose(
                tf.reshape(dy, [-1, *taps.shape[:2], self.filters]),
                tf.reshape(w, kernel_shape),
                image_shape,
                self.strides,
                self.padding,
            )

        @tf.custom_gradient
        def products(x, w):
            def gradient(dy):
                return to_images(w, dy), to_kernel(x, dy)

            return tf.matmul(image_patches, w), gradient

        @tf.custom_gradient
        def to_kernel(x, dy):
            def gradient(dw):
                return to_images(dw, dy), products(x, dw)

            return kernel_gradient(image_patches, dy), gradient

        @tf.custom_gradient
        def to_images(w, dy):
            def gradient(dx):
                dx_patches = _patches(dx, taps)
                return (
                    kernel_gradient(dx_patches, dy),
                    tf.matmul(dx_patches, w),
                )

            return image_gradient(w, dy), gradient

        return products(
            self.images, tf.reshape(self.kernel, [-1, self.filters])
        )

    def center_patches(self) -> CenteredPatches:
        mean = mean_of_rows(self.patches)
        centered = self.patches - mean

        def times(kernel, offset):
            outputs = tf.matmul(centered, kernel)
            return (
                outputs if offset is None else tf.nn.bias_add(outputs, offset)
            )

        return CenteredPatches(mean, covariance_of_rows(centered), times)

    @property
    def _taps(self) -> np.ndarray:
        return _taps(
            self.images.shape[1:3],
            self.kernel.shape[:2],
            self.strides,
            self.padding,
        )


def _patches(images: tf.Tensor, taps: np.ndarray) -> tf.Tensor:
    """The patches of images: float [pixels, elements]."""
    height, width, channels = images.shape[1:]
    pixels = tf.reshape(images, [-1, height * width, channels])
    # One extra zero pixel stands for everything outside of the image.
    pixels = tf.concat([pixels, tf.zeros_like(pixels[:, :1])], axis=1)
    seen = np.where(taps < 0, height * width, taps).astype(np.int32)
    return tf.reshape(
        tf.gather(pixels, seen, axis=1), [-1, taps.shape[2] * channels]
    )


@functools.lru_cache
def _taps(
    image_size: tuple[int, int],
    kernel_size: tuple[int, int],
    strides: tuple[int, int],
    padding: str,
) -> np.ndarray:
    """The pixel under each kernel tap, for each output of one image.

    Returns:
        int64 [output height, output width, kernel height * kernel width]; -1
        is outside of the image.
    """
    rows, columns = (
        _taps_along(*dimension, padding)
        for dimension in zip(image_size, kernel_size, strides, strict=True)
    )
    outside = (rows < 0)[:, None, :, None] | (columns < 0)[None, :, None, :]
    pixels = rows[:, None, :, None] * image_size[1] + columns[None, :, None, :]
    pixels = np.where(outside, -1, pixels)
    return pixels.reshape(len(rows), len(columns), -1)


def _taps_along(
    size: int, kernel: int, stride: int, padding: str
) -> np.ndarray:
    """`_taps` in one dimension: [outputs, kernel]."""
    if padding == "SAME":
        outputs = -(-size // stride)
        before = max((outputs - 1) * stride + kernel - size, 0) // 2
    else:
        outputs, before = (size - kernel) // stride + 1, 0
    positions = np.arange(outputs)[:, None] * stride + np.arange(kernel)
    positions -= before
    return np.where(positions < size, positions, -1).clip(-1)


# On a CPU, matrix products are faster than TensorFlow's reductions.


def mean_of_rows(x: tf.Tensor) -> tf.Tensor:
    """The mean over rows of float [rows, columns], as [1, columns]."""
    return tf.matmul(tf.fill([1, _num_rows(x)], _weight_of_row(x)), x)


def covariance_of_rows(centered: tf.Tensor) -> tf.Tensor:
    """Population covariance of rows whose mean is 0.

    Args:
        centered: float [rows, columns].

    Returns:
        [columns, columns].
    """
    products = tf.matmul(centered, centered, transpose_a=True)
    return products * _weight_of_row(centered)


def _num_rows(x: tf.Tensor) -> int | tf.Tensor:
    return tf.shape(x)[0] if x.shape[0] is None else x.shape[0]


def _weight_of_row(x: tf.Tensor) -> tf.Tensor:
    """1 / rows, the weight of a row in a mean."""
    return 1 / tf.cast(_num_rows(x), x.dtype)
