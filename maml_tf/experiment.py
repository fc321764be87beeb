"""An experiment built from its settings: network, loss, tasks, phases."""

import dataclasses
import functools

import keras
import tensorflow as tf

from maml_tf.configs import SinusoidConfig
from maml_tf.losses import mean_squared_error
from maml_tf.maml import LossFn, joint_gradient, task_meta_gradient
from maml_tf.models import dense_net
from maml_tf.normalization import which_adapt
from maml_tf.sinusoid import Sinusoids
from maml_tf.training import Phase

HIDDEN_DIMS = (40, 40)
EVALUATION_SEED = 0  # the same held-out tasks for all runs


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What training and evaluation need, for one set of settings.

    Attributes:
        config: the settings.
        model: the network, at its initial values.
        loss: of (theta, batch).
        adapts: which of the model's trainable variables adapt.
    """

    config: SinusoidConfig
    model: keras.Model
    loss: LossFn
    adapts: list[bool]

    @classmethod
    def build(cls, config: SinusoidConfig) -> "Experiment":
        model = dense_net(
            _tasks(config, "train", config.num_shots).input_dim,
            HIDDEN_DIMS,
            1,
            config.norm,
            config.seed,
        )
        return cls(config, model, mean_squared_error(model), which_adapt(model))

    @property
    def variables(self) -> list[tf.Variable]:
        """The network's weights, as a checkpoint keeps them."""
        return [v.value for v in self.model.variables]

    def tasks(self, split: str, num_shots: int | None = None) -> Sinusoids:
        """The stream of tasks of a split."""
        return _tasks(
            self.config,
            split,
            self.config.num_shots if num_shots is None else num_shots,
        )

    def state(self, phases: list[Phase]) -> dict[str, list[tf.Variable]]:
        """All that training changes, by name, for checkpoints."""
        joint, meta = (
            [v.value for v in phase.optimizer.variables] for phase in phases
        )
        return {
            "weights": self.variables,
            "joint_optimizer": joint,
            "meta_optimizer": meta,
        }

    def phases(self) -> list[Phase]:
        """Joint training, then meta-training, each with Adam of its own."""
        config = self.config
        meta = functools.partial(
            task_meta_gradient,
            self.loss,
            alpha=config.alpha,
            num_steps=config.num_steps,
            adapts=self.adapts,
            first_order=config.first_order,
        )
        joint = functools.partial(joint_gradient, self.loss)
        return [
            Phase(config.pretrain_iterations, joint, self._adam()),
            Phase(config.metatrain_iterations, meta, self._adam()),
        ]

    def _adam(self) -> keras.optimizers.Optimizer:
        adam = keras.optimizers.Adam(self.config.beta, epsilon=1e-8)
        adam.build(self.model.trainable_variables)
        return adam


def _tasks(config: SinusoidConfig, split: str, num_shots: int) -> Sinusoids:
    return Sinusoids(
        num_shots,
        config.seed if split == "train" else EVALUATION_SEED,
        split,
        oracle=config.baseline == "oracle",
    )
