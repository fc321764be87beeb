"""Siamese networks: whether two examples are of the same class.

"Siamese Neural Networks for One-shot Image Recognition", Koch, Zemel and
Salakhutdinov, ICML deep learning workshop 2015.
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
from maml_tf.errors import ConfigError
from maml_tf.methods.embedding import (
    EmbeddingMethod,
    class_means,
    embedding_size,
    image_defaults,
    one_hot,
)
from maml_tf.methods.method import State, setting


@dataclasses.dataclass(frozen=True)
class SiameseNetworks(EmbeddingMethod):
    """p = sigmoid(b + sum_d a_d |e_d - e'_d|) that two are of one class.

    Training takes all pairs of a support and a query example of the task. Those
    of equal classes and those of different classes each make half of the loss.
    A logit is the mean of the pre-sigmoid scores with the class' support
    examples; the paper has one of each class and takes the largest p. The state
    is the support set's embeddings and labels.

    Attributes:
        weight_decay: factor of the sum of squares of all weights, a term of the
            loss.
    """

    name: ClassVar[str] = "siamese"

    weight_decay: float = setting(
        0.0, "factor of the sum of squares of all weights in the loss"
    )

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.weight_decay < math.inf:
            raise ConfigError(
                "weight_decay must be 0 or a positive number. Received: "
                f"weight_decay={self.weight_decay!r}",
                "weight_decay",
            )

    @classmethod
    def defaults(
        cls, datasource: str, settings: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Ours: the paper trains another network on pairs of 105x105 pixels."""
        found = image_defaults(datasource, settings)
        found |= {"train_ways": 20, "num_queries": 5}
        if datasource == "glyphs":
            return found
        return found | {"metatrain_iterations": 20_000}

    def variables(self, network: Network) -> list[keras.Variable]:
        size = embedding_size(network)
        dtype = network.theta[0].dtype.name
        draw = keras.initializers.RandomNormal(stddev=0.2, seed=0)
        return [
            keras.Variable(draw((size,), dtype=dtype), name="weights"),
            keras.Variable(np.zeros((), dtype), name="bias"),
        ]

    def scores(
        self, own: Params, state: State, embeddings: tf.Tensor
    ) -> tf.Tensor:
        pairs = pair_scores(own, embeddings, state["embeddings"])
        means = class_means(tf.transpose(pairs), state["labels"])
        return tf.transpose(means)

    def task_loss(
        self, network: Network, own: Params, state: State, query: Batch
    ) -> tf.Tensor:
        scores = pair_scores(own, query.inputs, state["embeddings"])
        labels = one_hot(query.targets, scores.dtype)
        same = tf.matmul(labels, state["labels"], transpose_b=True)
        return balanced_cross_entropy(same, scores)

    def penalty(self, params: Params) -> tf.Tensor:
        squares = [tf.reduce_sum(tf.square(p)) for p in params]
        return self.weight_decay * tf.add_n(squares)


def pair_scores(own: Params, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Pre-sigmoid scores of pairs of float [m, D] and [n, D]: [m, n].

    Args:
        own: a [D] and b [].
        x, y: embeddings.
    """
    weights, bias = own
    differences = tf.abs(x[:, tf.newaxis] - y[tf.newaxis])
    return tf.reduce_sum(weights * differences, axis=-1) + bias


def balanced_cross_entropy(same: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
    """Mean binary cross-entropy of equal and of different pairs, half each.

    Args:
        same: 1 for pairs of one class, else 0, of the shape of the scores.
        scores: pre-sigmoid.
    """
    losses = tf.nn.sigmoid_cross_entropy_with_logits(same, scores)
    means = [
        tf.reduce_sum(kind * losses) / tf.reduce_sum(kind)
        for kind in (same, 1 - same)
    ]
    return 0.5 * tf.add_n(means)
