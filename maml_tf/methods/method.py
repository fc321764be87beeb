"""What a method of meta-learning is.

A method says how the support set of a task is turned into predictions, and how
that is learned over many tasks. Training, evaluation, adapted models, export
and figures ask it and nothing else, so a new method is one file below this
package and one line in registry.py.

Methods are frozen dataclasses: their fields are their settings, by the names of
the command line's configuration and of saved learners. All functions are of
tensors and can be traced.
"""

import abc
import dataclasses
from typing import Any, ClassVar, Self

import keras
import tensorflow as tf

from maml_tf.core.losses import Batch
from maml_tf.core.maml import MetaGradient, Params, StepSize, Task
from maml_tf.core.network import Network

# What adaptation makes of a support set: adapted weights, prototypes, a
# memory. A structure of tensors that updates do not change the shapes of.
State = Any


@dataclasses.dataclass(frozen=True)
class Method(abc.ABC):
    """How a task becomes predictions, and how that is meta-learned.

    In what follows, `network` is the model with its loss, and `params` are the
    values of all that is meta-learned: theta, then those of `variables`.

    Attributes:
        name: its name in the registry.
        outer_optimizer: the Keras optimizer that is used if none is named.
        fixed_outputs: whether the model's outputs are the predictions, so
            that it decides the number of classes.
    """

    name: ClassVar[str]
    outer_optimizer: ClassVar[str] = "adam"
    fixed_outputs: ClassVar[bool] = True

    def __str__(self) -> str:
        return self.name

    @property
    def num_steps(self) -> int:
        """Updates in training; 0 where a support set is used at once."""
        return 0

    def bind(self, network: Network) -> Self:
        """The same method with all decided that depends on the network.

        Raises:
            ConfigError: if the method does not fit the network.
        """
        del network
        return self

    def variables(self, network: Network) -> list[keras.Variable]:
        """New variables that are meta-learned beside theta."""
        del network
        return []

    def step_size(self, network: Network, params: Params) -> StepSize | None:
        """The size of an update; None where there is none."""
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
            state: what adaptation made.
            inputs: the model's inputs.
            reference: inputs by whose statistics batch normalization works;
                None takes those of `inputs`.
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
        """The adapted weights of the model, where the state has them."""
        del state
        return None

    @abc.abstractmethod
    def pack(self, network: Network, state: State) -> dict[str, tf.Tensor]:
        """What predictions need of the state, as tensors by name."""

    @abc.abstractmethod
    def unpack(
        self, network: Network, params: Params, tensors: dict[str, tf.Tensor]
    ) -> State:
        """The state of which `pack` gave such tensors."""
