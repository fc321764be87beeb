"""The interface of meta-learning methods.

A method defines how the support set of a task turns into predictions, and how
that is learned over many tasks. Training, evaluation, adapted models, export
and figures know methods only by this interface, so a new method is one file in
this package and one line in registry.py.

Methods are frozen dataclasses: their fields are their settings, with the names
that the command line's configuration and saved learners use. All functions work
on tensors and can be traced.
"""

import abc
import dataclasses
from typing import Any, ClassVar, Self

import keras
import tensorflow as tf

from maml_tf.core.losses import Batch
from maml_tf.core.maml import MetaGradient, Params, StepSize, Task
from maml_tf.core.network import Network

# The result of adaptation: adapted weights, prototypes, a memory. A structure
# of tensors whose shapes updates do not change.
State = Any


@dataclasses.dataclass(frozen=True)
class Method(abc.ABC):
    """How a task becomes predictions, and how that is meta-learned.

    Below, `network` is the model with its loss, and `params` are the values of
    everything that is meta-learned: theta, then those of `variables`.

    Attributes:
        name: its name in the registry.
        outer_optimizer: name of the default Keras optimizer.
        fixed_outputs: whether the model's outputs are the predictions, so that
            it fixes the number of classes.
        differentiates_updates: whether `task_gradient` is the derivative of
            the last loss that it returns, and not merely computed from the
            gradients of updates.
    """

    name: ClassVar[str]
    outer_optimizer: ClassVar[str] = "adam"
    fixed_outputs: ClassVar[bool] = True
    differentiates_updates: ClassVar[bool] = True

    def __str__(self) -> str:
        return self.name

    @property
    def num_steps(self) -> int:
        """Updates in training; 0 for a method without updates."""
        return 0

    def bind(self, network: Network) -> Self:
        """The same method, with what depends on the network resolved.

        Raises:
            ConfigError: if the method does not fit the network.
        """
        del network
        return self

    def variables(self, network: Network) -> list[keras.Variable]:
        """New variables that are meta-learned in addition to theta."""
        del network
        return []

    def step_size(self, network: Network, params: Params) -> StepSize | None:
        """The size of an update; None for a method without updates."""
        del network, params
        return None

    @abc.abstractmethod
    def begin(self, network: Network, params: Params, support: Batch) -> State:
        """The state before any update."""

    def update(
        self,
        network: Network,
        state: State,
        support: Batch,
        alpha: StepSize,
    ) -> tuple[State, tf.Tensor]:
        """The state after one more update, and the loss before it."""
        raise NotImplementedError(f"{self.name} has no updates.")

    @abc.abstractmethod
    def predict(
        self,
        network: Network,
        params: Params,
        state: State,
        inputs: Any,
        reference: Any = None,
    ) -> Any:
        """Outputs for inputs [examples, ...] of the task.

        Args:
            network, params: as above.
            state: the result of adaptation.
            inputs: the model's inputs.
            reference: inputs whose statistics batch normalization uses; None
                uses those of `inputs`.
        """

    @abc.abstractmethod
    def task_gradient(
        self, network: Network, params: Params, task: Task
    ) -> MetaGradient:
        """The meta-gradient of one task: one tensor for each of `params`.

        Its losses are named `pre_update`, on the support set before any
        update, and `post_update`, on the query set at the end; a method may
        leave one out.
        """

    def weights(self, state: State) -> Params | None:
        """The adapted weights of the model; None if it does not adapt them."""
        del state
        return None

    @abc.abstractmethod
    def pack(self, network: Network, state: State) -> dict[str, tf.Tensor]:
        """The parts of the state that predictions need, as tensors by name."""

    @abc.abstractmethod
    def unpack(
        self, network: Network, params: Params, tensors: dict[str, tf.Tensor]
    ) -> State:
        """The state, from the tensors that `pack` returned."""
