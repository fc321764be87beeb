"""The interface of meta-learning methods.

A method defines how the support set of a task turns into predictions, and how
that is learned over many tasks. Training, evaluation, adapted models, export
and figures know methods only by this interface, so a new method is one file in
this package and one line in registry.py.

Methods are frozen dataclasses: their fields are their settings, with the names
that the command line's configuration and saved learners use. Fields made by
`setting` are a method's own; the command line has a flag for each. All
functions work on tensors and can be traced.
"""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import keras
import tensorflow as tf

from maml_tf.core.batch import Batch
from maml_tf.core.maml import MetaGradient, Params, StepSize, Task
from maml_tf.core.network import Network
from maml_tf.errors import ConfigError

# The result of adaptation: adapted weights, prototypes, a memory. A structure
# of tensors whose shapes updates do not change.
State = Any


def setting(
    default: Any, about: str, choices: Sequence[Any] | None = None
) -> Any:
    """A field of a method for a setting of its own.

    Its type must be bool, int, float or str, or one of these or None.

    Args:
        default: its default.
        about: what it is, in a line of help.
        choices: the values it may have; None leaves checks to the method.
    """
    return dataclasses.field(
        default=default, metadata={"about": about, "choices": choices}
    )


@dataclasses.dataclass(frozen=True)
class Method(abc.ABC):
    """How a task becomes predictions, and how that is meta-learned.

    Below, `network` is the model with its loss, and `params` are the values of
    everything that is meta-learned: theta, then those of `variables` and of
    `carried`.

    Attributes:
        name: its name in the registry.
        outer_optimizer: name of the default Keras optimizer.
        fixed_outputs: whether the model's outputs are the predictions, so that
            it fixes the number of classes.
        statistics: whose statistics normalize query sets in its paper's
            evaluation, one of `prediction.STATISTICS`.
        step_sizes: candidates for the step size on new tasks, of a method whose
            training takes no updates.
        mean_loss: whether its paper takes the mean loss of the examples, where
            MAML's code takes the sum over them, divided by K.
        differentiates_updates: whether `task_gradient` is the derivative of
            the last loss that it returns, and not merely computed from the
            gradients of updates.
    """

    name: ClassVar[str]
    outer_optimizer: ClassVar[str] = "adam"
    fixed_outputs: ClassVar[bool] = True
    statistics: ClassVar[str] = "transductive"
    step_sizes: ClassVar[Sequence[float]] = ()
    mean_loss: ClassVar[bool] = False
    differentiates_updates: ClassVar[bool] = True

    def __post_init__(self):
        for field in dataclasses.fields(self):
            choices = field.metadata.get("choices")
            value = getattr(self, field.name)
            if choices is not None and value not in choices:
                raise ConfigError(
                    f"{field.name} must be one of {tuple(choices)}. Received: "
                    f"{field.name}={value!r}",
                    field.name,
                )

    def __str__(self) -> str:
        return self.name

    @classmethod
    def defaults(
        cls, datasource: str, settings: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """What it takes for a data set where nothing else is asked for.

        Args:
            datasource: the data set.
            settings: those of the experiment otherwise.

        Returns:
            Settings of the method and of the experiment, by name.
        """
        del datasource, settings
        return {}

    @property
    def train_batch_size(self) -> int | None:
        """Examples of a labelled batch; None for a method that learns tasks.

        A method that learns by classifying gets labelled batches of all
        classes in place of support sets, in `task_gradient`.
        """
        return None

    @property
    def num_classes(self) -> int | None:
        """Number of all classes of the labelled batches; None without."""
        return None

    def for_classes(self, num_classes: int) -> Self:
        """The same method, for so many classes of labelled batches."""
        del num_classes
        return self

    @property
    def num_steps(self) -> int:
        """Updates in training; 0 for a method without updates."""
        return 0

    @property
    def anneals(self) -> bool:
        """Whether `task_gradient` changes in the course of training.

        It then takes, after the task, how many steps the outer optimizer has
        taken, an integer scalar.
        """
        return False

    @property
    def takes_weights(self) -> bool:
        """Whether examples of a `batch.WeightedBatch` of weight 0 do nothing.

        `update` and `task_gradient` then see a set by its loss alone, and
        `predict` takes `batch.Weighted` inputs.
        """
        return False

    @property
    def test_steps(self) -> int:
        """Updates on a new task, where no other number is asked for."""
        return self.num_steps

    def outer_rate(
        self, beta: float
    ) -> float | keras.optimizers.schedules.LearningRateSchedule:
        """The outer optimizer's learning rate, which begins at `beta`."""
        return beta

    def extended(self, model: keras.Model) -> keras.Model:
        """The command line's network with what the method needs in it."""
        return model

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

    def carried(self, network: Network) -> list[keras.Variable]:
        """New variables that training carries along and does not descend.

        `task_gradient` gives their new values (`MetaGradient.carried`).
        """
        del network
        return []

    def step_size(self, network: Network, params: Params) -> StepSize | None:
        """The size of an update; None for a method without updates."""
        del network, params
        return None

    @abc.abstractmethod
    def begin(
        self,
        network: Network,
        params: Params,
        support: Batch,
        reference: Any = None,
    ) -> State:
        """The state before any update.

        Args:
            network, params: as above.
            support: the support set.
            reference: as for `predict`; of use to methods that embed the
                support set here.
        """

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
                uses those of `inputs` (`prediction.predict` has more).
        """

    @abc.abstractmethod
    def task_gradient(
        self, network: Network, params: Params, task: Task
    ) -> MetaGradient:
        """The meta-gradient of one task, and new values of what is carried.

        It has one tensor for each of `params` but the carried ones.

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
