"""A convolution whose gradients are fast on small images.

Each inner update differentiates with respect to the kernels, and the
meta-gradient differentiates that gradient again: four kernel gradients for
each task and layer. On a CPU, and on few small images, TensorFlow takes
longest over just those. As a product of matrices,

    outputs = patches(images) kernel,
    d kernel = patches(images)^T d outputs,

they take half the time, and the patches are made once for all of them.
Nothing else differs from Keras' layer.

Batch normalization can use more of a product than its values: it finds it
with `convolution_of`.
"""

import functools
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

# Beyond it the patches no longer fit into a core's cache, and TensorFlow's
# own gradient is as fast in less memory.
MAX_PATCH_BYTES = 4 * 2**20
# For which a number of examples that is not known when traced is taken.
TYPICAL_EXAMPLES = 16


class Convolution(NamedTuple):
    """A convolution as a product of matrices: its factors and the result.

    Attributes:
        patches: what the kernel sees for each pixel of the outputs, float
            [examples * pixels, kernel height * width * channels].
        kernel: [kernel height * width * channels, filters].
        products: patches kernel, [examples * pixels, filters].
        bias: [filters], to be added to the products; or None.
    """

    patches: tf.Tensor
    kernel: tf.Tensor
    products: tf.Tensor
    bias: tf.Tensor | None = None


def convolution_of(outputs: tf.Tensor) -> Convolution | None:
    """How `outputs` were made, if a `Conv2D` made them as a product."""
    return getattr(outputs, "_maml_tf_convolution", None)


@keras.saving.register_keras_serializable(package="maml_tf")
class Conv2D(keras.layers.Conv2D):
    """Keras' layer, by products of matrices where they pay.

    That is for channels last, no dilation, one group, images of a size known
    when traced, and patches of at most `MAX_PATCH_BYTES`.
    """

    def call(self, inputs):
        if not self._fits(inputs):
            return super().call(inputs)
        convolution = self._convolve(inputs, self.kernel)
        outputs = self._outputs(inputs, convolution)
        if self.use_bias:
            bias = tf.convert_to_tensor(self.bias)
            outputs += bias
            convolution = convolution._replace(bias=bias)
        if self.activation is keras.activations.linear:
            outputs._maml_tf_convolution = convolution
        return self.activation(outputs)

    def convolution_op(self, inputs, kernel):
        if not self._fits(inputs):
            return super().convolution_op(inputs, kernel)
        return self._outputs(inputs, self._convolve(inputs, kernel))

    def _convolve(self, inputs, kernel) -> Convolution:
        return _convolve(
            tf.convert_to_tensor(inputs),
            tf.convert_to_tensor(kernel),
            self.strides,
            self.padding.upper(),
        )

    def _outputs(self, inputs, convolution: Convolution) -> tf.Tensor:
        _, *image = self.compute_output_shape(inputs.shape)
        return tf.reshape(convolution.products, [-1, *image])

    def _fits(self, inputs) -> bool:
        if (
            self.data_format != "channels_last"
            or self.dilation_rate != (1, 1)
            or self.groups != 1
            or not inputs.shape[1:].is_fully_defined()
        ):
            return False
        examples, *image = inputs.shape
        outputs = self.compute_output_shape(
            (examples or TYPICAL_EXAMPLES, *image)
        )
        patches = np.prod([*outputs[:3], *self.kernel_size, image[-1]])
        return patches * inputs.dtype.size <= MAX_PATCH_BYTES


def _convolve(
    images: tf.Tensor, kernel: tf.Tensor, strides: tuple, padding: str
) -> Convolution:
    """`tf.nn.conv2d`, computed otherwise.

    The three functions with a gradient below are each other's derivatives, so
    derivatives of any order stay among them.
    """
    image_shape, kernel_shape = tf.shape(images), kernel.shape
    filters = kernel_shape[3]
    taps = _taps(images.shape[1:3], kernel_shape[:2], strides, padding)

    def patches(x: tf.Tensor) -> tf.Tensor:
        """float [examples * outputs, kernel height * width * channels]."""
        height, width, channels = x.shape[1:]
        pixels = tf.reshape(x, [-1, height * width, channels])
        # Outside of the image is one more pixel, all zero.
        outside = tf.zeros_like(pixels[:, :1])
        pixels = tf.concat([pixels, outside], axis=1)
        seen = np.where(taps < 0, height * width, taps)
        return tf.reshape(
            tf.gather(pixels, seen.astype(np.int32), axis=1),
            [-1, np.prod(kernel_shape[:3])],
        )

    def kernel_gradient(x_patches: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
        return tf.matmul(x_patches, dy, transpose_a=True)

    def image_gradient(w: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
        return tf.nn.conv2d_transpose(
            tf.reshape(dy, [-1, *taps.shape[:2], filters]),
            tf.reshape(w, kernel_shape),
            image_shape,
            strides,
            padding,
        )

    images_patches = patches(images)

    @tf.custom_gradient
    def products(x, w):
        def gradient(dy):
            return to_images(w, dy), to_kernel(x, dy)

        return tf.matmul(images_patches, w), gradient

    @tf.custom_gradient
    def to_kernel(x, dy):
        def gradient(dw):
            return to_images(dw, dy), products(x, dw)

        return kernel_gradient(images_patches, dy), gradient

    @tf.custom_gradient
    def to_images(w, dy):
        def gradient(dx):
            dx_patches = patches(dx)
            return (
                kernel_gradient(dx_patches, dy),
                tf.matmul(dx_patches, w),
            )

        return image_gradient(w, dy), gradient

    kernel = tf.reshape(kernel, [-1, filters])
    return Convolution(images_patches, kernel, products(images, kernel))


@functools.lru_cache
def _taps(
    image_size: tuple[int, int],
    kernel_size: tuple[int, int],
    strides: tuple[int, int],
    padding: str,
) -> np.ndarray:
    """Which pixel each kernel element sees for each output of one image.

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


def _taps_along(size: int, kernel: int, stride: int, padding: str):
    """The same in one dimension: [outputs, kernel]."""
    if padding == "SAME":
        outputs = -(-size // stride)
        before = max((outputs - 1) * stride + kernel - size, 0) // 2
    else:
        outputs, before = (size - kernel) // stride + 1, 0
    positions = np.arange(outputs)[:, None] * stride + np.arange(kernel)
    positions -= before
    return np.where(positions < size, positions, -1).clip(-1)
