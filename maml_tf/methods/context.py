"""MAML that adapts a context vector and leaves the weights as they are.

The MAML paper compares with it (appendix C); "Fast Context Adaptation via
Meta-Learning", Zintgraf et al. 2019 (https://arxiv.org/abs/1810.03642), called
CAVIA, starts from zero in each task.
"""

import dataclasses
from typing import Any, ClassVar, Self

import keras

from maml_tf.core.batch import Batch
from maml_tf.core.maml import Params
from maml_tf.core.network import Network
from maml_tf.errors import ConfigError, check_whole_number
from maml_tf.layers.context import Context, with_context
from maml_tf.layers.normalization import all_layers
from maml_tf.methods.maml import MAML
from maml_tf.methods.method import State, setting


@dataclasses.dataclass(frozen=True)
class ContextVector(MAML):
    """Updates change the context z of the model's `Context` layer alone.

    Attributes:
        context_size: channels of z that the command line's networks have.
        zero_context: start each task from zero (CAVIA), not from a z that is
            meta-learned.
    """

    name: ClassVar[str] = "context"

    context_size: int = setting(5, "channels of the context")
    zero_context: bool = setting(False, "start from a context of zero")

    def __post_init__(self):
        super().__post_init__()
        check_whole_number("context_size", self.context_size, least=1)
        if self.head_only or self.zero_head or callable(self.adapts):
            raise ConfigError(
                "Only the context adapts. Leave out adapts, head_only and "
                "zero_head.",
                "head_only",
                "zero_head",
            )

    def extended(self, model: keras.Model) -> keras.Model:
        return with_context(model, self.context_size)

    def bind(self, network: Network) -> Self:
        adapts = in_context(network.model)
        if not any(adapts):
            raise ConfigError(
                f"{network.model.name} has no context that could adapt. Let it "
                "begin with maml_tf.Context(size)."
            )
        method = dataclasses.replace(self, adapts=adapts)
        return super(ContextVector, method).bind(network)

    def begin(
        self,
        network: Network,
        params: Params,
        support: Batch,
        reference: Any = None,
    ) -> State:
        if self.zero_context:
            pairs = zip(params, in_context(network.model), strict=False)
            theta = [0.0 * t if is_z else t for t, is_z in pairs]
            params = [*theta, *network.split(params)[1]]
        return super().begin(network, params, support, reference)


def in_context(model: keras.Model) -> list[bool]:
    """For each trainable variable, whether it is a context."""
    found = {
        id(layer.context)
        for layer in all_layers(model)
        if isinstance(layer, Context)
    }
    return [id(v) in found for v in model.trainable_variables]
