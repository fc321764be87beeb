"""A convolutional layer that is fast on small images."""

import keras
import numpy as np
import tensorflow as tf

from maml_tf.layers.patches import Convolution, ProductConvolution

# Larger patches no longer fit in a core's cache, and TensorFlow's own gradient
# is as fast in less memory.
MAX_PATCH_BYTES = 4 * 2**20
# Assumed number of examples when unknown at trace time.
TYPICAL_EXAMPLES = 16


@keras.saving.register_keras_serializable(package="maml_tf")
class Conv2D(keras.layers.Conv2D):
    """Keras' layer, computed as a matrix product where that is faster.

    Arguments, outputs and derivatives of every order are those of Keras'
    layer. Products are used for channels last, no dilation, one group, images
    whose size is known at trace time, and patches of at most
    `MAX_PATCH_BYTES`.
    """

    def call(self, inputs):
        convolution = self.plan(inputs)
        if convolution is None:
            return super().call(inputs)
        _, *image = self.compute_output_shape(inputs.shape)
        outputs = tf.reshape(convolution.products, [-1, *image])
        if self.use_bias:
            outputs += tf.convert_to_tensor(self.bias)
        return self.activation(outputs)

    def plan(self, inputs: tf.Tensor) -> Convolution | None:
        """The convolution of `inputs` before bias and activation.

        It is computed lazily.

        Args:
            inputs: float [examples, height, width, channels].

        Returns:
            The convolution, or None if the layer leaves these inputs to Keras.
        """
        if not self._is_plain(inputs):
            return None
        kind = ProductConvolution if self._pays(inputs) else Convolution
        return kind(
            tf.convert_to_tensor(inputs),
            tf.convert_to_tensor(self.kernel),
            self.strides,
            self.padding.upper(),
        )

    def _is_plain(self, inputs) -> bool:
        return (
            self.data_format == "channels_last"
            and self.dilation_rate == (1, 1)
            and self.groups == 1
            and inputs.shape[1:].is_fully_defined()
        )

    def _pays(self, inputs) -> bool:
        """Whether matrix products are faster."""
        examples, *image = inputs.shape
        outputs = self.compute_output_shape(
            (examples or TYPICAL_EXAMPLES, *image)
        )
        patches = np.prod([*outputs[:3], *self.kernel_size, image[-1]])
        return patches * inputs.dtype.size <= MAX_PATCH_BYTES
