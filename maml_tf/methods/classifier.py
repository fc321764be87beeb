"""Classifiers of all training classes, whose features serve new ones.

The two baselines of Ravi and Larochelle, "Optimization as a Model for Few-Shot
Learning", ICLR 2017, which the MAML paper quotes.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import keras
import numpy as np
import tensorflow as tf

from maml_tf.core.batch import Batch
from maml_tf.core.maml import (
    MetaGradient,
    Params,
    StepSize,
    Task,
    gradient_or_zeros,
)
from maml_tf.core.network import Network, weight_names
from maml_tf.core.prediction import outputs_and_losses
from maml_tf.errors import ConfigError, check_whole_number
from maml_tf.methods.embedding import (
    EmbeddingMethod,
    added_up,
    cosines,
    embedding_size,
    flattened,
    image_defaults,
    largest_of_class,
    one_hot,
)
from maml_tf.methods.method import Method, State, setting


@dataclasses.dataclass(frozen=True)
class Classifier(Method):
    """Learns to classify labelled batches of all training classes.

    The model gives features; a linear layer behind it, which is learned along
    with theta, has an output for each training class.

    Attributes:
        num_classes: training classes, `num_classes` of their stream.
        batch_size: examples of a labelled batch.
    """

    fixed_outputs: ClassVar[bool] = False
    mean_loss: ClassVar[bool] = True

    num_classes: int | None = None
    batch_size: int = setting(64, "examples of a labelled batch in training")

    def __post_init__(self):
        super().__post_init__()
        check_whole_number("batch_size", self.batch_size, least=1)
        if self.num_classes is not None:
            check_whole_number("num_classes", self.num_classes, least=2)

    @classmethod
    def defaults(
        cls, datasource: str, settings: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Ravi and Larochelle's, but for the length on glyphs."""
        found = image_defaults(datasource, settings)
        if datasource == "glyphs":
            return found
        return found | {"metatrain_iterations": 30_000}

    @property
    def train_batch_size(self) -> int:
        return self.batch_size

    def for_classes(self, num_classes: int) -> Self:
        return dataclasses.replace(self, num_classes=num_classes)

    def variables(self, network: Network) -> list[keras.Variable]:
        if self.num_classes is None:
            raise ConfigError(
                f"{self.name} learns to classify all training classes. Say how "
                "many there are: num_classes=train.num_classes."
            )
        size = embedding_size(network)
        dtype = network.theta[0].dtype.name
        kernel = keras.initializers.GlorotUniform(seed=0)(
            (size, self.num_classes), dtype=dtype
        )
        bias = np.zeros(self.num_classes, dtype)
        return [
            keras.Variable(kernel, name="kernel"),
            keras.Variable(bias, name="bias"),
        ]

    def task_gradient(
        self, network: Network, params: Params, task: Task
    ) -> MetaGradient:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(params)
            theta, (kernel, bias) = network.split(params)
            loss, total = linear_loss(
                network, theta, kernel, bias, task.support
            )
        return MetaGradient(
            gradient_or_zeros(tape, total, params), {"pre_update": loss}
        )


@dataclasses.dataclass(frozen=True)
class NearestNeighbor(Classifier, EmbeddingMethod):
    """Says the class of the nearest support example, by cosine of features.

    A logit is the largest cosine with the class' support examples. The state is
    the support set's features and labels.
    """

    name: ClassVar[str] = "nearest"
    statistics: ClassVar[str] = "population"

    def scores(
        self, own: Params, state: State, embeddings: tf.Tensor
    ) -> tf.Tensor:
        del own
        similarities = cosines(embeddings, state["embeddings"])
        return largest_of_class(similarities, state["labels"])


class Tuned(NamedTuple):
    """State of fine-tuning.

    Attributes:
        theta: the weights of the features.
        kernel: of the new last layer, [D, N].
        bias: [N].
        step: updates so far, int32.
    """

    theta: Params
    kernel: tf.Tensor
    bias: tf.Tensor
    step: tf.Tensor


@dataclasses.dataclass(frozen=True)
class FineTuning(Classifier):
    """Tunes all layers and a new last one by gradient descent.

    The new layer is one random draw, the same for all tasks. Batch
    normalization uses the support set's statistics in updates, and by default
    in predictions, as the moving averages that the authors' code gathers in
    its updates nearly do.

    Attributes:
        alpha: size of the first update; evaluation searches it among
            `step_sizes`.
        num_steps: updates of a new task.
        rate_decay: update t has the size alpha / (1 + rate_decay t).
    """

    name: ClassVar[str] = "finetuning"
    statistics: ClassVar[str] = "support"
    step_sizes: ClassVar[Sequence[float]] = (0.5, 0.1, 1e-2, 1e-3, 1e-4, 1e-5)

    alpha: float = 0.01
    num_steps: int = 15
    rate_decay: float = setting(
        0.0, "fine-tuning's update t has the size alpha / (1 + rate_decay t)"
    )

    def __post_init__(self):
        super().__post_init__()
        check_whole_number("num_steps", self.num_steps, least=1)
        if not 0 <= self.rate_decay < math.inf:
            raise ConfigError(
                "rate_decay must be 0 or a positive number. Received: "
                f"rate_decay={self.rate_decay!r}",
                "rate_decay",
            )

    @classmethod
    def defaults(
        cls, datasource: str, settings: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        found = super().defaults(datasource, settings)
        return {**found, "num_steps": cls.num_steps, "alpha": cls.alpha}

    def step_size(self, network: Network, params: Params) -> StepSize:
        del network, params
        return self.alpha

    def begin(
        self,
        network: Network,
        params: Params,
        support: Batch,
        reference: Any = None,
    ) -> Tuned:
        del reference
        theta, (kernel, _) = network.split(params)
        num_ways = tf.shape(one_hot(support.targets, kernel.dtype))[1]
        size = kernel.shape[0]
        bound = 1 / math.sqrt(size)
        draw = tf.random.stateless_uniform(
            tf.stack([size, num_ways]), [0, 0], -bound, bound, kernel.dtype
        )
        return Tuned(
            theta,
            tf.ensure_shape(draw, [size, None]),
            tf.zeros(num_ways[tf.newaxis], kernel.dtype),
            tf.constant(0),
        )

    def update(
        self, network: Network, state: State, support: Batch, alpha: StepSize
    ) -> tuple[Tuned, tf.Tensor]:
        parts = [*state.theta, state.kernel, state.bias]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(parts)
            loss, total = linear_loss(
                network, state.theta, state.kernel, state.bias, support
            )
        gradient = gradient_or_zeros(tape, total, parts)
        step = tf.cast(state.step, loss.dtype)
        size = tf.cast(alpha, loss.dtype) / (1 + self.rate_decay * step)
        *theta, kernel, bias = (
            part - size * g for part, g in zip(parts, gradient, strict=True)
        )
        return Tuned(theta, kernel, bias, state.step + 1), total

    def predict(
        self,
        network: Network,
        params: Params,
        state: State,
        inputs: Any,
        reference: Any = None,
    ) -> tf.Tensor:
        del params
        outputs = network.outputs(state.theta, inputs, reference)
        return linear(outputs, state.theta, state.kernel, state.bias)

    def pack(self, network: Network, state: State) -> dict[str, tf.Tensor]:
        names = weight_names(network.model)
        weights = dict(zip(names, state.theta, strict=True))
        return weights | {"new_kernel": state.kernel, "new_bias": state.bias}

    def unpack(
        self, network: Network, params: Params, tensors: dict[str, tf.Tensor]
    ) -> Tuned:
        del params
        theta = [tensors[name] for name in weight_names(network.model)]
        return Tuned(
            theta, tensors["new_kernel"], tensors["new_bias"], tf.constant(0)
        )


def linear(
    outputs: Any, theta: Params, kernel: tf.Tensor, bias: tf.Tensor
) -> tf.Tensor:
    """Logits [examples, N] of the last layer, for the model's outputs."""
    return tf.matmul(flattened(outputs, theta), kernel) + bias


def linear_loss(
    network: Network,
    theta: Params,
    kernel: tf.Tensor,
    bias: tf.Tensor,
    batch: Batch,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The mean loss of a batch's logits, and with that which layers add."""
    outputs, added = outputs_and_losses(network.model, theta, batch.inputs)
    logits = linear(outputs, theta, kernel, bias)
    loss = tf.reduce_mean(network.objective(batch.targets, logits))
    return loss, added_up(loss, *added)
