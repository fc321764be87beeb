"""A convolution and the batch normalization after it, computed together.

In training the pair is cheaper than the two layers, because normalization may
start from images and kernel instead of feature maps:

* Normalization subtracts the mean, so the convolution's bias cancels: it is
  neither added nor differentiated.
* A kernel of no more elements than filters, as in a network's first layer, has
  small patches. Their mean and covariance give the mean and variance of the
  feature maps, and normalization becomes another convolution
  (`batch_norm_gradients.normalize_convolution`).
"""

import keras
import tensorflow as tf

from maml_tf.errors import ConfigError
from maml_tf.layers.batch_norm_gradients import normalize_convolution
from maml_tf.layers.convolution import Conv2D
from maml_tf.layers.normalization import BatchNormalization


@keras.saving.register_keras_serializable(package="maml_tf")
class NormalizedConv2D(keras.Sequential):
    """`Conv2D` followed by `BatchNormalization`, faster in training.

    A `keras.Sequential` of the two layers, with the same variables, order and
    names. Outputs, moving statistics and derivatives of every order are
    those of the two layers one after the other. In training the outputs do not
    depend on the convolution's bias, and a tape returns None for it.

    The layers run one after the other outside of training, with a mask, and if
    one of them leaves its inputs to Keras or has an activity regularizer.
    """

    def __init__(
        self,
        convolution: Conv2D,
        normalization: BatchNormalization,
        trainable: bool = True,
        name: str | None = None,
    ):
        """Joins two layers.

        Args:
            convolution: a layer with a linear activation.
            normalization: a layer whose axis is that of the filters.
            trainable, name: as for any Keras layer.

        Raises:
            ConfigError: if the layers are of another kind, if an activation
                stands between them, or if the normalized axis is not that of
                the filters.
        """
        _check(convolution, normalization)
        super().__init__([convolution, normalization], trainable, name)

    def add(self, layer, rebuild=True):
        if len(self.layers) == 2:
            raise ConfigError(
                f"{self.name} is a convolution and its normalization. Add "
                f"{getattr(layer, 'name', layer)} to the model behind it."
            )
        super().add(layer, rebuild)

    def build(self, input_shape=None):
        super().build(input_shape)
        # `call` bypasses the convolution's check of its inputs, so Keras makes
        # it here.
        self.input_spec = self.layers[0].input_spec

    def call(self, inputs, training=None, mask=None):
        convolution, normalization = self.layers
        plan = convolution.plan(inputs)
        if (
            plan is None
            or mask is not None
            or not normalization.uses_batch(inputs, training)
            or convolution.activity_regularizer is not None
            or normalization.activity_regularizer is not None
        ):
            return super().call(inputs, training=training, mask=mask)
        if plan.elements <= plan.filters:
            found = normalize_convolution(
                plan,
                normalization.epsilon,
                *normalization.scale_and_offset(inputs.dtype),
            )
        else:
            found = normalization.normalize(plan.products)
        mean = found.mean
        if convolution.use_bias:
            # The bias shifts the mean and nothing else.
            mean += tf.convert_to_tensor(convolution.bias)
        normalization.update_moving(mean, found.variance)
        _, *image = convolution.compute_output_shape(inputs.shape)
        return tf.reshape(found.outputs, [-1, *image])

    @classmethod
    def from_config(cls, config, custom_objects=None):
        # Keras would start from an empty model and add the layers one by one.
        convolution, normalization = (
            keras.saving.deserialize_keras_object(layer, custom_objects)
            for layer in config["layers"]
            if layer["class_name"] != "InputLayer"
        )
        return cls(
            convolution,
            normalization,
            trainable=config["trainable"],
            name=config["name"],
        )


def _check(convolution: Conv2D, normalization: BatchNormalization) -> None:
    # Overrides of a subclass would be ignored.
    for name, layer, expected in (
        ("convolution", convolution, Conv2D),
        ("normalization", normalization, BatchNormalization),
    ):
        if type(layer) is not expected:
            raise ConfigError(
                f"{name} must be a maml_tf.{expected.__name__}. Received: "
                f"{type(layer).__module__}.{type(layer).__name__}. Add other "
                "layers to the model one after the other."
            )
    if convolution.activation is not keras.activations.linear:
        raise ConfigError(
            "convolution must have no activation, because normalization "
            f"follows it. Received: activation="
            f"{keras.activations.serialize(convolution.activation)!r}. Put "
            "the activation behind the NormalizedConv2D, or use the layers "
            "one after the other."
        )
    filters_axis = 3 if convolution.data_format == "channels_last" else 1
    if normalization.axis % 4 != filters_axis:
        raise ConfigError(
            f"normalization must normalize axis {filters_axis}, that of the "
            f"convolution's filters. Received: axis={normalization.axis}"
        )
