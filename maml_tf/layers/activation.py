"""ReLU without ops for its second derivative, which is zero."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="maml_tf")
class ReLU(keras.layers.ReLU):
    """Keras' layer, faster when a gradient is differentiated again.

    TensorFlow computes the second derivative as zeros of the inputs' shape and
    adds them to the other terms; here there is nothing to add.
    """

    def call(self, inputs):
        plain = (self.negative_slope, self.threshold) == (0, 0)
        if self.max_value is None and plain:
            return relu(inputs)
        return super().call(inputs)


@tf.custom_gradient
def relu(x: tf.Tensor):
    """max(x, 0); the derivative at 0 is 0, as in TensorFlow."""
    y = tf.nn.relu(x)

    @tf.custom_gradient
    def gradient(dy: tf.Tensor):
        return tf.raw_ops.ReluGrad(gradients=dy, features=y), gradient

    return y, gradient
