"""Base of the methods that compare embeddings; they have no updates."""

import abc
import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import tensorflow as tf

from maml_tf.core.batch import Batch
from maml_tf.core.maml import MetaGradient, Params, Task, gradient_or_zeros
from maml_tf.core.network import Network
from maml_tf.core.prediction import outputs_and_losses
from maml_tf.errors import ConfigError
from maml_tf.methods.method import Method, State


@dataclasses.dataclass(frozen=True)
class EmbeddingMethod(Method):
    """Classifies by a rule on embeddings, which the model gives.

    The model's outputs are flattened to [examples, D]. Targets are one-hot
    [examples, N] or class numbers [examples], and a task may have any number of
    classes. In training, support and query set are one batch, which batch
    normalization normalizes together.
    """

    fixed_outputs: ClassVar[bool] = False
    mean_loss: ClassVar[bool] = True
    statistics: ClassVar[str] = "population"

    def remember(
        self, own: Params, embeddings: tf.Tensor, targets: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """The state, tensors by name: embeddings and one-hot labels, or others.

        Args:
            own: values of `variables`.
            embeddings: of the support set, float [M, D].
            targets: of the support set.
        """
        del own
        return {
            "embeddings": embeddings,
            "labels": one_hot(targets, embeddings.dtype),
        }

    @abc.abstractmethod
    def scores(
        self, own: Params, state: State, embeddings: tf.Tensor
    ) -> tf.Tensor:
        """Logits [J, N] for embeddings [J, D]."""

    def arrange(self, support: Batch) -> Batch:
        """The support set in the order that `remember` shall see."""
        return support

    def task_loss(
        self, network: Network, own: Params, state: State, query: Batch
    ) -> tf.Tensor:
        """What training descends; inputs of `query` are embeddings [J, D]."""
        logits = self.scores(own, state, query.inputs)
        return tf.reduce_mean(network.objective(query.targets, logits))

    def penalty(self, params: Params) -> tf.Tensor:
        """A term of the loss that depends on the weights alone."""
        return tf.zeros([], params[0].dtype)

    def begin(
        self,
        network: Network,
        params: Params,
        support: Batch,
        reference: Any = None,
    ) -> State:
        theta, own = network.split(params)
        support = self.arrange(support)
        outputs = network.outputs(theta, support.inputs, reference)
        return self.remember(own, flattened(outputs, theta), support.targets)

    def predict(
        self,
        network: Network,
        params: Params,
        state: State,
        inputs: Any,
        reference: Any = None,
    ) -> tf.Tensor:
        theta, own = network.split(params)
        outputs = network.outputs(theta, inputs, reference)
        return self.scores(own, state, flattened(outputs, theta))

    def task_gradient(
        self, network: Network, params: Params, task: Task
    ) -> MetaGradient:
        support = self.arrange(task.support)
        num_support = tf.shape(tf.nest.flatten(support.inputs)[0])[0]
        both = tf.nest.map_structure(
            lambda *x: tf.concat(x, axis=0), support.inputs, task.query.inputs
        )
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(params)
            theta, own = network.split(params)
            outputs, added = outputs_and_losses(network.model, theta, both)
            embeddings = flattened(outputs, theta)
            state = self.remember(
                own, embeddings[:num_support], support.targets
            )
            query = Batch(embeddings[num_support:], task.query.targets)
            loss = self.task_loss(network, own, state, query)
            total = added_up(loss, self.penalty(params), *added)
        return MetaGradient(
            gradient_or_zeros(tape, total, params), {"post_update": loss}
        )

    def pack(self, network: Network, state: State) -> dict[str, tf.Tensor]:
        del network
        return state

    def unpack(
        self, network: Network, params: Params, tensors: dict[str, tf.Tensor]
    ) -> State:
        del network, params
        return tensors


def image_defaults(
    datasource: str, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """What methods with embeddings take for images: the four-block network.

    Blocks of 64 filters (32 on glyphs) that end in a max-pool, an episode a
    meta-step, gradients as they are.
    """
    found: dict[str, Any] = {"meta_batch_size": 1, "clip": None}
    if settings.get("conv", True):
        filters = 32 if datasource == "glyphs" else 64
        found |= {"max_pool": True, "num_filters": filters}
    return found


def embedding_size(network: Network) -> int:
    """D, numbers of an embedding.

    Raises:
        ConfigError: if the model does not say it.
    """
    shape = getattr(network.model, "output_shape", None)
    if not isinstance(shape, tuple) or None in shape[1:]:
        raise ConfigError(
            f"{network.model.name} must give embeddings of a fixed size. "
            f"Received: outputs of shape {shape}"
        )
    return math.prod(shape[1:])


def added_up(loss: tf.Tensor, *others: tf.Tensor) -> tf.Tensor:
    """The sum of a loss and others, such as layers', in its dtype."""
    return tf.add_n([loss, *(tf.cast(x, loss.dtype) for x in others)])


def flattened(outputs: tf.Tensor, theta: Params) -> tf.Tensor:
    """Outputs [examples, ...] as [examples, D], of the weights' dtype."""
    outputs = tf.cast(outputs, theta[0].dtype)
    return tf.reshape(outputs, [-1, math.prod(outputs.shape[1:])])


def one_hot(targets: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Float [examples, N], of one-hot targets or class numbers 0, ..., N - 1.

    N is the largest class number and one.
    """
    if len(targets.shape) > 1:
        return tf.cast(targets, dtype)
    return tf.one_hot(targets, tf.reduce_max(targets) + 1, dtype=dtype)


def class_means(values: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The mean over the examples of each class.

    Args:
        values: float [examples, D].
        labels: one-hot [examples, N].

    Returns:
        float [N, D].
    """
    counts = tf.reduce_sum(labels, axis=0)[:, tf.newaxis]
    return tf.matmul(labels, values, transpose_a=True) / counts


def squared_distances(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """|x_i - y_j|^2 of float [m, D] and [n, D]: [m, n]."""
    differences = x[:, tf.newaxis] - y[tf.newaxis]
    return tf.reduce_sum(tf.square(differences), axis=-1)


def cosines(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Cosines of the angles between float [m, D] and [n, D]: [m, n]."""
    x, y = (tf.math.l2_normalize(z, axis=-1, epsilon=1e-12) for z in (x, y))
    return tf.matmul(x, y, transpose_b=True)


def largest_of_class(scores: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The largest score of each class' examples.

    Args:
        scores: [J, M], of J examples for M of the support set.
        labels: one-hot [M, N].

    Returns:
        [J, N], minus infinity for a class without examples.
    """
    belongs = labels[tf.newaxis] > 0
    lowest = tf.constant(-math.inf, scores.dtype)
    return tf.reduce_max(
        tf.where(belongs, scores[:, :, tf.newaxis], lowest), axis=1
    )
