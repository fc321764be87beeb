"""Base of the methods that adapt the model's weights by gradients."""

import dataclasses
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any, Self

import keras
import tensorflow as tf

from maml_tf.core.batch import Batch
from maml_tf.core.maml import Params, StepSize, inner_update
from maml_tf.core.network import Network, weight_names
from maml_tf.errors import ConfigError, check_whole_number
from maml_tf.layers.normalization import which_adapt
from maml_tf.methods.method import Method, State


@dataclasses.dataclass(frozen=True)
class GradientMethod(Method):
    """Adapts weights by gradient descent on the support set (equation 1).

    The state is theta', one tensor for each trainable variable.

    Attributes:
        alpha: size of an update.
        num_steps: updates in training.
        adapts: called with a trainable variable, says whether updates change
            it; None adapts all but the offsets and scales of normalization, as
            the paper does. Once bound, a bool for each trainable variable.
    """

    alpha: float = 0.01
    num_steps: int = 1
    adapts: Callable[[keras.Variable], bool] | Sequence[bool] | None = None

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.alpha, bool) or not (
            isinstance(self.alpha, numbers.Real) and 0 < self.alpha < math.inf
        ):
            raise ConfigError(
                "alpha must be a positive number. Received: "
                f"alpha={self.alpha!r}"
            )
        check_whole_number("num_steps", self.num_steps, least=1)
        # As Python's own numbers, which JSON takes, from NumPy's.
        object.__setattr__(self, "alpha", float(self.alpha))
        object.__setattr__(self, "num_steps", int(self.num_steps))

    @property
    def moves(self) -> Sequence[bool]:
        """For each trainable variable whether updates change it.

        Raises:
            ValueError: if the method was not bound to a network.
        """
        if not isinstance(self.adapts, tuple):
            raise ValueError(
                f"{self.name} must be bound to a network first: "
                "method.bind(network)."
            )
        return self.adapts

    @property
    def takes_weights(self) -> bool:
        return True

    def bind(self, network: Network) -> Self:
        adapts = self.adapts
        if adapts is None or callable(adapts):
            adapts = which_adapt(network.model, adapts)
        if not any(adapts):
            paths = (v.path for v in network.model.trainable_variables)
            raise ConfigError(
                "No variable adapts. Let `adapts` return True for some of: "
                f"{', '.join(paths)}"
            )
        return dataclasses.replace(self, adapts=tuple(map(bool, adapts)))

    def step_size(self, network: Network, params: Params) -> StepSize:
        del network, params
        return self.alpha

    def begin(
        self,
        network: Network,
        params: Params,
        support: Batch,
        reference: Any = None,
    ) -> State:
        del support, reference
        return network.split(params)[0]

    def update(
        self, network: Network, state: State, support: Batch, alpha: StepSize
    ) -> tuple[State, tf.Tensor]:
        return inner_update(
            network.loss, state, support, alpha, adapts=self.moves
        )

    def predict(
        self,
        network: Network,
        params: Params,
        state: State,
        inputs: Any,
        reference: Any = None,
    ) -> Any:
        del params
        return network.outputs(self.weights(state), inputs, reference)

    def weights(self, state: State) -> Params:
        return state

    def pack(self, network: Network, state: State) -> dict[str, tf.Tensor]:
        weights = self.weights(state)
        return {name: weights[i] for name, i in self._adapted(network)}

    def unpack(
        self, network: Network, params: Params, tensors: dict[str, tf.Tensor]
    ) -> State:
        theta, _ = network.split(params)
        for name, i in self._adapted(network):
            theta[i] = tensors[name]
        return theta

    def carries(self, network: Network) -> Sequence[bool]:
        """For each trainable variable, whether the state has its own value."""
        del network
        return self.moves

    def __str__(self) -> str:
        moving = "all"
        if isinstance(self.adapts, tuple):
            moving = f"{sum(self.adapts)} of {len(self.adapts)}"
        return (
            f"{self.name}, alpha {self.alpha:g}, {self.num_steps} updates of "
            f"{moving} variables"
        )

    def _adapted(self, network: Network) -> list[tuple[str, int]]:
        """Names of the weights that adapt, and their indices in theta."""
        names = weight_names(network.model)
        carries = self.carries(network)
        return [(name, i) for i, name in enumerate(names) if carries[i]]
