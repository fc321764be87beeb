"""Prototypical networks: the nearest class mean in a learned embedding.

"Prototypical Networks for Few-shot Learning", Snell, Swersky and Zemel 2017
(https://arxiv.org/abs/1703.05175), and the authors' code.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import keras
import tensorflow as tf

from maml_tf.core.maml import Params
from maml_tf.errors import check_whole_number
from maml_tf.methods.embedding import (
    EmbeddingMethod,
    class_means,
    image_defaults,
    one_hot,
    squared_distances,
)
from maml_tf.methods.method import State, setting


@dataclasses.dataclass(frozen=True)
class PrototypicalNetworks(EmbeddingMethod):
    """Logits are negative squared distances to prototypes (equation 2).

    The state is prototypes [N, D]: c_n, the mean embedding of class n's support
    examples (equation 1).

    Attributes:
        halving_iterations: iterations after which the outer rate halves, again
            and again; None keeps it.
    """

    name: ClassVar[str] = "protonet"

    halving_iterations: int | None = setting(
        None, "iterations after which the outer rate halves; images: 2000"
    )

    def __post_init__(self):
        super().__post_init__()
        if self.halving_iterations is not None:
            check_whole_number(
                "halving_iterations", self.halving_iterations, least=1
            )

    @classmethod
    def defaults(
        cls, datasource: str, settings: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Sections 3.1 and 3.2 of the paper; length and glyphs are ours."""
        found = image_defaults(datasource, settings)
        one_shot = settings.get("num_shots", 1) == 1
        if datasource == "glyphs":
            return {**found, "train_ways": 20, "num_queries": 5}
        found |= {"metatrain_iterations": 20_000, "halving_iterations": 2000}
        if datasource == "omniglot":
            return {**found, "train_ways": 60, "num_queries": 5}
        num_ways = 30 if one_shot else 20
        return {**found, "train_ways": num_ways, "num_queries": 15}

    def outer_rate(
        self, beta: float
    ) -> float | keras.optimizers.schedules.LearningRateSchedule:
        if self.halving_iterations is None:
            return beta
        return keras.optimizers.schedules.ExponentialDecay(
            beta, self.halving_iterations, 0.5, staircase=True
        )

    def remember(
        self, own: Params, embeddings: tf.Tensor, targets: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        del own
        labels = one_hot(targets, embeddings.dtype)
        return {"prototypes": class_means(embeddings, labels)}

    def scores(
        self, own: Params, state: State, embeddings: tf.Tensor
    ) -> tf.Tensor:
        del own
        return -squared_distances(embeddings, state["prototypes"])
