"""A model with its loss, on which methods operate."""

import re
from typing import Any

import keras
import tensorflow as tf

from maml_tf.core.comparison import ObjectiveFn
from maml_tf.core.losses import supervised
from maml_tf.core.maml import LossFn, Params
from maml_tf.core.prediction import predict
from maml_tf.layers.normalization import all_layers
from maml_tf.layers.normalized_convolution import NormalizedConv2D


class Network:
    """A model with its loss, as functions of theta.

    Attributes:
        model: a built Keras model; its `trainable_variables` are theta. Its
            normalization layers are replaced by exact ones, see
            `losses.supervised`.
        objective: the loss of (targets, outputs).
        loss: the loss of (theta, `Batch`): the objective plus the losses of
            layers, unless another one is given.
    """

    def __init__(
        self,
        model: keras.Model,
        objective: ObjectiveFn,
        loss: LossFn | None = None,
    ):
        self.model = model
        self.objective = objective
        self.loss = supervised(model, objective) if loss is None else loss

    @property
    def theta(self) -> list[tf.Tensor]:
        """The values of the model's trainable variables now."""
        return [tf.convert_to_tensor(v) for v in self.model.trainable_variables]

    def split(self, params: Params) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Theta, and what else a method learns."""
        count = len(self.model.trainable_variables)
        return list(params[:count]), list(params[count:])

    def outputs(self, theta: Params, inputs: Any, reference: Any = None) -> Any:
        """The model's outputs with weights theta.

        Args:
            theta: one tensor for each trainable variable.
            inputs: the model's inputs [examples, ...].
            reference: inputs whose statistics batch normalization uses; None
                uses those of `inputs`; see `prediction.predict` for others.
        """
        return predict(self.model, theta, inputs, reference=reference)


def weight_names(model: keras.Model) -> list[str]:
    """Names of the trainable variables, fit for tensors.

    A variable's Keras path without the names of the model and of each
    `NormalizedConv2D`, with an underscore for anything but letters and digits:
    `sequential/conv2d_1/kernel` is `conv2d_1_kernel`. A number at the end tells
    apart names that would be equal.
    """
    names: list[str] = []
    pairs = {x.name for x in all_layers(model) if type(x) is NormalizedConv2D}
    for variable in model.trainable_variables:
        path = variable.path.removeprefix(f"{model.name}/")
        path = "/".join(x for x in path.split("/") if x not in pairs)
        name = base = re.sub(r"\W", "_", path, flags=re.ASCII)
        number = 1
        while name in names:
            name, number = f"{base}_{number}", number + 1
        names.append(name)
    return names
