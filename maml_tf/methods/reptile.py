"""Reptile: move towards the weights that ordinary training on a task reaches.

"On First-Order Meta-Learning Algorithms", Nichol, Achiam and Schulman 2018
(https://arxiv.org/abs/1803.02999).
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import tensorflow as tf

from maml_tf.core.losses import Batch
from maml_tf.core.maml import MetaGradient, Params, StepSize, Task
from maml_tf.core.network import Network
from maml_tf.errors import ConfigError, check_whole_number
from maml_tf.methods.gradient import GradientMethod
from maml_tf.methods.method import State

INNER_OPTIMIZERS = ("sgd", "adam")
_BETA_2, _EPSILON = 0.999, 1e-8  # of Adam; its beta_1 is 0


class Iterate(NamedTuple):
    """State of the inner loop.

    Attributes:
        theta: the weights.
        squares: running means of squared gradients, for Adam.
        step: updates so far, int32.
    """

    theta: Params
    squares: Params
    step: tf.Tensor


@dataclasses.dataclass(frozen=True)
class Reptile(GradientMethod):
    """Algorithm 2 of the Reptile paper: theta += epsilon (theta_k - theta).

    The outer optimizer's learning rate is epsilon: the meta-gradient is theta
    - theta_k. The support set is split into mini-batches, shuffled by a fixed
    sequence of permutations, the same for all tasks, whose examples and order
    are random already.

    Attributes:
        alpha: the inner optimizer's learning rate.
        num_steps: k, mini-batches of a task.
        batch_size: examples of a mini-batch; None takes the whole support
            set.
        inner_optimizer: `adam`, with beta_1 = 0 as in the authors' code and
            moments that start at 0 for each task; or `sgd`.
    """

    name: ClassVar[str] = "reptile"
    outer_optimizer: ClassVar[str] = "sgd"
    differentiates_updates: ClassVar[bool] = False

    alpha: float = 0.001
    num_steps: int = 5
    batch_size: int | None = None
    inner_optimizer: str = "adam"

    def __post_init__(self):
        super().__post_init__()
        if self.batch_size is not None:
            check_whole_number("batch_size", self.batch_size, least=1)
        if self.inner_optimizer not in INNER_OPTIMIZERS:
            raise ConfigError(
                f"inner_optimizer must be one of {INNER_OPTIMIZERS}. "
                f"Received: inner_optimizer={self.inner_optimizer!r}"
            )

    def bind(self, network: Network) -> "Reptile":
        if self.adapts is not None:
            return super().bind(network)
        # Offsets and scales of normalization adapt, too.
        everything = (True,) * len(network.model.trainable_variables)
        return dataclasses.replace(self, adapts=everything)

    def begin(
        self, network: Network, params: Params, support: Batch
    ) -> Iterate:
        theta = super().begin(network, params, support)
        return Iterate(theta, [tf.zeros_like(t) for t in theta], tf.constant(0))

    def update(
        self, network: Network, state: State, support: Batch, alpha: StepSize
    ) -> tuple[Iterate, tf.Tensor]:
        theta, squares, step = state
        adapted = [
            t for t, moves in zip(theta, self.moves, strict=True) if moves
        ]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(adapted)
            loss = network.loss(theta, self._mini_batch(support, step))
        gradients = iter(
            tape.gradient(
                loss,
                adapted,
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )
        )
        moved = []
        for parameter, square, moves in zip(
            theta, squares, self.moves, strict=True
        ):
            if moves:
                gradient = tf.convert_to_tensor(next(gradients))
                moved.append(
                    self._step(parameter, square, gradient, alpha, step)
                )
            else:
                moved.append((parameter, square))
        theta, squares = (list(x) for x in zip(*moved, strict=True))
        return Iterate(theta, squares, step + 1), loss

    def task_gradient(
        self, network: Network, params: Params, task: Task
    ) -> MetaGradient:
        state = self.begin(network, params, task.support)
        losses = []
        for _ in range(self.num_steps):
            state, loss = self.update(network, state, task.support, self.alpha)
            losses.append(loss)
        return MetaGradient(
            [t - k for t, k in zip(params, state.theta, strict=True)],
            {
                "pre_update": losses[0],
                "post_update": network.loss(state.theta, task.query),
            },
        )

    def weights(self, state: State) -> Params:
        return state.theta

    def unpack(
        self, network: Network, params: Params, tensors: dict[str, tf.Tensor]
    ) -> Iterate:
        theta = super().unpack(network, params, tensors)
        return Iterate(theta, [tf.zeros_like(t) for t in theta], tf.constant(0))

    def _step(
        self,
        parameter: tf.Tensor,
        square: tf.Tensor,
        gradient: tf.Tensor,
        alpha: StepSize,
        step: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The inner optimizer's step, and its new running mean."""
        alpha = tf.cast(alpha, parameter.dtype)
        if self.inner_optimizer == "sgd":
            return parameter - alpha * gradient, square
        square = _BETA_2 * square + (1 - _BETA_2) * tf.square(gradient)
        count = tf.cast(step + 1, parameter.dtype)
        correction = tf.sqrt(1 - tf.cast(_BETA_2, parameter.dtype) ** count)
        change = correction * gradient / (tf.sqrt(square) + _EPSILON)
        return parameter - alpha * change, square

    def _mini_batch(self, support: Batch, step: tf.Tensor) -> Batch:
        """Examples step * batch_size, ... of the endlessly shuffled set."""
        size = self.batch_size
        known = tf.nest.flatten(support)[0].shape[0]
        if size is None or (known is not None and size >= known):
            return support
        num = tf.shape(tf.nest.flatten(support)[0])[0]
        places = step * size + tf.range(tf.minimum(size, num))
        rounds = places // num
        # A mini-batch no larger than the set spans at most two rounds.
        this = _permutation(num, rounds[0])
        following = _permutation(num, rounds[0] + 1)
        chosen = tf.where(
            rounds == rounds[0],
            tf.gather(this, places % num),
            tf.gather(following, places % num),
        )

        def choose(x: Any) -> tf.Tensor:
            return tf.gather(x, chosen)

        return tf.nest.map_structure(choose, support)


def _permutation(num: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
    """Permutation `number` of a fixed sequence, of 0, ..., num - 1."""
    draws = tf.random.stateless_uniform([num], tf.stack([0, number]))
    return tf.argsort(draws)
