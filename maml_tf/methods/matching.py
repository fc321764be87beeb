"""Matching networks: a weighted vote of the support set.

"Matching Networks for One Shot Learning", Vinyals, Blundell, Lillicrap,
Kavukcuoglu and Wierstra 2016 (https://arxiv.org/abs/1606.04080). Full context
embeddings follow Ravi and Larochelle's code where the paper leaves them open.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from maml_tf.core.batch import Batch
from maml_tf.core.maml import Params
from maml_tf.core.network import Network
from maml_tf.errors import ConfigError, check_whole_number
from maml_tf.methods.embedding import (
    EmbeddingMethod,
    cosines,
    embedding_size,
    image_defaults,
    squared_distances,
)
from maml_tf.methods.method import State, setting
from maml_tf.methods.shuffling import order

SIMILARITIES = {
    "cosine": cosines,
    "squared_distance": lambda x, y: -squared_distances(x, y),
}


@dataclasses.dataclass(frozen=True)
class MatchingNetworks(EmbeddingMethod):
    """P(n | x) = sum of a(x, x_i) over class n's support examples (equation 1).

    a is the softmax over the support set of the similarity of embeddings.
    Logits are log P. The state is the support set's embeddings and labels.

    Attributes:
        similarity: `cosine`, or `squared_distance`, the negative of it.
        scale: factor of the similarity; the paper has none. Cosines of
            embeddings that end in ReLU lie in [0, 1], so that P cannot exceed
            e / (e + N - 1) at 1.
        full_context: embed examples in the context of the support set: it by a
            bidirectional LSTM, others by an LSTM that attends to it (section
            2.1.2). The support set is read in an order that depends on its
            inputs alone.
        reads: K, steps of the attending LSTM.
    """

    name: ClassVar[str] = "matching"

    similarity: str = setting(
        "cosine",
        "what compares embeddings: cosine or squared_distance",
        tuple(SIMILARITIES),
    )
    scale: float = setting(1.0, "factor of the similarity")
    full_context: bool = setting(
        False, "embed examples in the context of the support set"
    )
    reads: int = setting(3, "reads of the support set with full_context")

    def __post_init__(self):
        super().__post_init__()
        check_whole_number("reads", self.reads, least=1)
        if not 0 < self.scale < math.inf:
            raise ConfigError(
                f"scale must be a positive number. Received: "
                f"scale={self.scale!r}",
                "scale",
            )

    @classmethod
    def defaults(
        cls, datasource: str, settings: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Ravi and Larochelle's on mini-ImageNet; ours on the others."""
        found = image_defaults(datasource, settings)
        if datasource == "glyphs":
            return {**found, "num_queries": 5}
        if datasource == "omniglot":
            return found | {"num_queries": 15, "metatrain_iterations": 40_000}
        return found | {
            "num_queries": 15,
            "metatrain_iterations": 75_000,
            "beta": 0.0001,
        }

    def variables(self, network: Network) -> list[keras.Variable]:
        if not self.full_context:
            return []
        size = embedding_size(network)
        dtype = network.theta[0].dtype.name
        found = []
        # Forward and backward, of [g', h]; attending, of [f', h, r].
        for number, inputs in enumerate((2 * size, 2 * size, 3 * size)):
            kernel = keras.initializers.GlorotUniform(seed=number)
            bias = np.repeat([0.0, 1.0, 0.0, 0.0], size)  # of the forget gate
            found += [
                keras.Variable(
                    kernel((inputs, 4 * size), dtype=dtype), name="kernel"
                ),
                keras.Variable(bias.astype(dtype), name="bias"),
            ]
        return found

    def arrange(self, support: Batch) -> Batch:
        if not self.full_context:
            return support
        places = order(support.inputs)
        return tf.nest.map_structure(lambda x: tf.gather(x, places), support)

    def remember(
        self, own: Params, embeddings: tf.Tensor, targets: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        if self.full_context:
            embeddings = in_context(own[:4], embeddings)
        return super().remember(own, embeddings, targets)

    def scores(
        self, own: Params, state: State, embeddings: tf.Tensor
    ) -> tf.Tensor:
        support = state["embeddings"]
        if self.full_context:
            embeddings = attending(own[4:], embeddings, support, self.reads)
        similarities = SIMILARITIES[self.similarity](embeddings, support)
        return log_votes(self.scale * similarities, state["labels"])


def log_votes(similarities: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Logarithms of the classes' shares in the softmax of similarities.

    Args:
        similarities: [J, M].
        labels: one-hot [M, N].

    Returns:
        [J, N].
    """
    attention = tf.nn.log_softmax(similarities)[:, :, tf.newaxis]
    lowest = tf.constant(-math.inf, similarities.dtype)
    votes = tf.where(labels[tf.newaxis] > 0, attention, lowest)
    return tf.reduce_logsumexp(votes, axis=1)


def in_context(weights: Params, embeddings: tf.Tensor) -> tf.Tensor:
    """g_i = forward h_i + backward h_i + g'_i (appendix A.2).

    Args:
        weights: kernel and bias of the forward and of the backward LSTM.
        embeddings: g', [M, D], in the order in which they are read.
    """
    forward = _read(weights[:2], embeddings)
    backward = _read(weights[2:], embeddings[::-1])[::-1]
    return forward + backward + embeddings


def attending(
    weights: Params, embeddings: tf.Tensor, support: tf.Tensor, reads: int
) -> tf.Tensor:
    """f: `reads` steps of an LSTM that attends to the support set.

    Equations 3 to 6 of the paper; before the first step h and c are 0, and r is
    the mean of the support set.

    Args:
        weights: kernel and bias of the LSTM.
        embeddings: f', [J, D].
        support: g, [M, D].
        reads: K.
    """
    h = c = tf.zeros_like(embeddings)
    r = tf.zeros_like(embeddings) + tf.reduce_mean(support, axis=0)
    for _ in range(reads):
        h, c = lstm_step(weights, tf.concat([embeddings, h, r], axis=-1), c)
        h += embeddings
        attention = tf.nn.softmax(tf.matmul(h, support, transpose_b=True))
        r = tf.matmul(attention, support)
    return h


def lstm_step(
    weights: Params, inputs: tf.Tensor, c: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """One step of an LSTM: h and c.

    Args:
        weights: kernel [inputs, 4 D] and bias [4 D] of the gates: in, forget,
            candidate, out.
        inputs: [examples, inputs], with the h before.
        c: the cell's state before, [examples, D].
    """
    kernel, bias = weights
    gates = tf.split(tf.matmul(inputs, kernel) + bias, 4, axis=-1)
    into, forget, candidate, out = gates
    c = tf.sigmoid(forget) * c + tf.sigmoid(into) * tf.tanh(candidate)
    return tf.sigmoid(out) * tf.tanh(c), c


def _read(weights: Params, embeddings: tf.Tensor) -> tf.Tensor:
    """h of an LSTM after each of the embeddings, [M, D]."""
    start = tf.zeros_like(embeddings[:1])

    def step(state, x):
        h, c = state
        inputs = tf.concat([x[tf.newaxis], h], axis=-1)
        return lstm_step(weights, inputs, c)

    known = embeddings.shape[0]
    if known is None:
        h, _ = tf.scan(step, embeddings, (start, start))
        return h[:, 0]
    # Written out, it can run for many tasks at once.
    states = [(start, start)]
    for x in tf.unstack(embeddings):
        states.append(step(states[-1], x))
    return tf.concat([h for h, _ in states[1:]], axis=0)
