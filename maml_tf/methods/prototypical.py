"""Prototypical networks: the nearest class mean in a learned embedding.

"Prototypical Networks for Few-shot Learning", Snell, Swersky and Zemel 2017
(https://arxiv.org/abs/1703.05175).
"""

import dataclasses
from typing import Any, ClassVar

import tensorflow as tf

from maml_tf.core.losses import Batch
from maml_tf.core.maml import MetaGradient, Params, Task, gradient_or_zeros
from maml_tf.core.network import Network
from maml_tf.methods.method import Method, State


@dataclasses.dataclass(frozen=True)
class PrototypicalNetworks(Method):
    """Logits are negative squared distances to prototypes (equation 2).

    The model embeds examples; its outputs are flattened to [examples, D]. The
    state is prototypes [N, D]: c_n, the mean embedding of class n's support
    examples (equation 1). Targets are one-hot [examples, N] or class numbers
    [examples], and a task may have any number of classes.
    """

    name: ClassVar[str] = "protonet"
    fixed_outputs: ClassVar[bool] = False

    def begin(self, network: Network, params: Params, support: Batch) -> State:
        embeddings = self._embed(network, params, support.inputs)
        return class_means(embeddings, support.targets)

    def predict(
        self,
        network: Network,
        params: Params,
        state: State,
        inputs: Any,
        reference: Any = None,
    ) -> tf.Tensor:
        embeddings = self._embed(network, params, inputs, reference)
        return -squared_distances(embeddings, state)

    def task_gradient(
        self, network: Network, params: Params, task: Task
    ) -> MetaGradient:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(params)
            state = self.begin(network, params, task.support)
            logits = self.predict(network, params, state, task.query.inputs)
            loss = tf.reduce_mean(network.objective(task.query.targets, logits))
        return MetaGradient(
            gradient_or_zeros(tape, loss, params), {"post_update": loss}
        )

    def pack(self, network: Network, state: State) -> dict[str, tf.Tensor]:
        del network
        return {"prototypes": state}

    def unpack(
        self, network: Network, params: Params, tensors: dict[str, tf.Tensor]
    ) -> State:
        del network, params
        return tensors["prototypes"]

    def _embed(
        self, network: Network, params: Params, inputs: Any, reference=None
    ) -> tf.Tensor:
        """Float [examples, D]."""
        outputs = network.outputs(params, inputs, reference)
        size = 1
        for length in outputs.shape[1:]:
            size *= length
        return tf.reshape(outputs, [-1, size])


def class_means(embeddings: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """The mean embedding of each class.

    Args:
        embeddings: float [examples, D].
        targets: one-hot [examples, N], or class numbers [examples], the largest
            being N - 1.

    Returns:
        float [N, D].
    """
    if len(targets.shape) == 1:
        targets = tf.one_hot(
            targets, tf.reduce_max(targets) + 1, dtype=embeddings.dtype
        )
    counts = tf.reduce_sum(targets, axis=0)[:, tf.newaxis]
    return tf.matmul(targets, embeddings, transpose_a=True) / counts


def squared_distances(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """|x_i - y_j|^2 of float [m, D] and [n, D]: [m, n]."""
    differences = x[:, tf.newaxis] - y[tf.newaxis]
    return tf.reduce_sum(tf.square(differences), axis=-1)
