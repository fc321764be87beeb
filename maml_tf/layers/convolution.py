"""A convolutional layer that is fast on small images, and before batch norm.

It computes what Keras' layer does. Batch normalization can use more of a
convolution than its values, and finds it by `convolution_of`.
"""

import keras
import numpy as np
import tensorflow as tf

from maml_tf.layers.patches import Convolution, ProductConvolution

# Beyond it the patches no longer fit into a core's cache, and TensorFlow's
# own gradient is as fast in less memory.
MAX_PATCH_BYTES = 4 * 2**20
# For which a number of examples that is not known when traced is taken.
TYPICAL_EXAMPLES = 16


def convolution_of(outputs: tf.Tensor) -> Convolution | None:
    """How `outputs` were made, if a `Conv2D` made them and nothing else."""
    return getattr(outputs, "_maml_tf_convolution", None)


@keras.saving.register_keras_serializable(package="maml_tf")
class Conv2D(keras.layers.Conv2D):
    """Keras' layer, by products of matrices where they pay.

    That is for channels last, no dilation, one group, images of a size known
    when traced, and patches of at most `MAX_PATCH_BYTES`. Batch normalization
    right behind it goes on from images and kernel, so in training a tape finds
    no gradient of what follows by this layer's outputs.
    """

    def call(self, inputs):
        if not self._is_plain(inputs):
            return super().call(inputs)
        bias = tf.convert_to_tensor(self.bias) if self.use_bias else None
        kind = ProductConvolution if self._pays(inputs) else Convolution
        convolution = kind(
            tf.convert_to_tensor(inputs),
            tf.convert_to_tensor(self.kernel),
            self.strides,
            self.padding.upper(),
            bias,
        )
        _, *image = self.compute_output_shape(inputs.shape)
        outputs = tf.reshape(convolution.products, [-1, *image])
        if bias is not None:
            outputs += bias
        if self.activation is keras.activations.linear:
            outputs._maml_tf_convolution = convolution
        return self.activation(outputs)

    def _is_plain(self, inputs) -> bool:
        return (
            self.data_format == "channels_last"
            and self.dilation_rate == (1, 1)
            and self.groups == 1
            and inputs.shape[1:].is_fully_defined()
        )

    def _pays(self, inputs) -> bool:
        examples, *image = inputs.shape
        outputs = self.compute_output_shape(
            (examples or TYPICAL_EXAMPLES, *image)
        )
        patches = np.prod([*outputs[:3], *self.kernel_size, image[-1]])
        return patches * inputs.dtype.size <= MAX_PATCH_BYTES
