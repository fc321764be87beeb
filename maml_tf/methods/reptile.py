"""Reptile: move towards the weights that ordinary training on a task reaches.

"On First-Order Meta-Learning Algorithms", Nichol, Achiam and Schulman 2018
(https://arxiv.org/abs/1803.02999), and the authors' code, supervised-reptile.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from maml_tf.core.batch import Batch
from maml_tf.core.maml import MetaGradient, Params, StepSize, Task
from maml_tf.core.network import Network
from maml_tf.errors import check_whole_number
from maml_tf.methods.gradient import GradientMethod
from maml_tf.methods.method import State, setting
from maml_tf.methods.shuffling import order

_BETA_2, _EPSILON = 0.999, 1e-8  # of Adam; its beta_1 is 0


class Iterate(NamedTuple):
    """State of the inner loop.

    Attributes:
        theta: the weights.
        squares: running means of squared gradients, for Adam.
        count: gradients in these means, a scalar of theta's dtype.
        step: updates so far, int32.
    """

    theta: Params
    squares: Sequence[tf.Tensor]
    count: tf.Tensor
    step: tf.Tensor


@dataclasses.dataclass(frozen=True)
class Reptile(GradientMethod):
    """Algorithm 2 of the Reptile paper: theta += epsilon (theta_k - theta).

    The outer optimizer's learning rate is epsilon: the meta-gradient is theta
    - theta_k. The support set is split into mini-batches, in an order that
    depends on its inputs alone. Training uses the query set only to report its
    loss.

    Attributes:
        alpha: the inner optimizer's learning rate.
        num_steps: k, mini-batches per task in training.
        inner_batch_size: examples per mini-batch in training; None takes the
            whole support set.
        inner_optimizer: `adam`, with beta_1 = 0 as in the authors' code, or
            `sgd`.
        keep_moments: whether Adam's moments pass from the training tasks of one
            meta-step to those of the next, and to new tasks, as in the authors'
            code; else they start at 0 for each task. The moments of a
            meta-step's tasks are averaged, where the authors' code runs one
            task after the other.
        decay_iterations: iterations in which epsilon falls linearly to 0; None
            keeps it.
        test_updates: mini-batches on a new task; None takes `num_steps`.
        test_batch_size: examples in each of these; None takes
            `inner_batch_size`.
    """

    name: ClassVar[str] = "reptile"
    outer_optimizer: ClassVar[str] = "sgd"
    mean_loss: ClassVar[bool] = True
    differentiates_updates: ClassVar[bool] = False

    alpha: float = 0.001
    num_steps: int = 5
    inner_batch_size: int | None = setting(
        None, "examples of a mini-batch of the support set; all if not given"
    )
    inner_optimizer: str = setting(
        "adam", "optimizer of the inner loop: adam or sgd", ("adam", "sgd")
    )
    keep_moments: bool = setting(
        True, "keep the inner Adam's moments from one task to the next"
    )
    decay_iterations: int | None = setting(
        None,
        "iterations in which the outer rate falls linearly to 0; images: all",
    )
    test_updates: int | None = setting(
        None, "updates on a new task, as many as in training if not given"
    )
    test_batch_size: int | None = setting(
        None, "examples of a mini-batch on a new task, else as in training"
    )

    def __post_init__(self):
        super().__post_init__()
        for name in (
            "inner_batch_size",
            "decay_iterations",
            "test_updates",
            "test_batch_size",
        ):
            value = getattr(self, name)
            if value is not None:
                check_whole_number(name, value, least=1)
                object.__setattr__(self, name, int(value))

    @classmethod
    def defaults(
        cls, datasource: str, settings: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """The authors' commands (supervised-reptile, README); ours on glyphs.

        Their evaluation has a query image of each class.
        """
        many = settings.get("num_ways", 5) > 5
        one_shot = settings.get("num_shots", 1) == 1
        found: dict[str, Any]
        if datasource in ("omniglot", "glyphs"):
            found = {
                "alpha": 0.0005 if many else 0.001,
                "num_steps": 10 if many else 5,
                "inner_batch_size": 20 if many else 10,
                "train_shots": 10,
                "test_batch_size": 10 if many else 5,
            }
        elif datasource == "miniimagenet":
            found = {
                "num_steps": 8,
                "alpha": 0.001,
                "inner_batch_size": 10,
                "train_shots": 15,
                "test_batch_size": 5 if one_shot else 15,
                "num_queries": 1,
                "clip": None,
            }
        else:
            return {}
        found |= {"meta_batch_size": 5, "beta": 1.0, "test_updates": 50}
        if datasource != "glyphs":
            found["metatrain_iterations"] = 200_000 if many else 100_000
        # As long as the training, of whatever length.
        length = {**settings, **found}["metatrain_iterations"]
        return {"decay_iterations": length, **found}

    @property
    def takes_weights(self) -> bool:
        return not (self.inner_batch_size or self.test_batch_size)

    @property
    def test_steps(self) -> int:
        return self.test_updates or self.num_steps

    def outer_rate(
        self, beta: float
    ) -> float | keras.optimizers.schedules.LearningRateSchedule:
        if self.decay_iterations is None:
            return beta
        return keras.optimizers.schedules.PolynomialDecay(
            beta, self.decay_iterations, end_learning_rate=0.0
        )

    def bind(self, network: Network) -> "Reptile":
        if self.adapts is not None:
            return super().bind(network)
        # Offsets and scales of normalization adapt, too.
        everything = (True,) * len(network.model.trainable_variables)
        return dataclasses.replace(self, adapts=everything)

    def carried(self, network: Network) -> list[keras.Variable]:
        if not self._carries:
            return []
        theta = network.model.trainable_variables
        values = [np.zeros((), theta[0].dtype)]
        values += [np.zeros(v.shape, v.dtype) for v in theta]
        return [keras.Variable(x, name="moment") for x in values]

    def begin(
        self,
        network: Network,
        params: Params,
        support: Batch,
        reference: Any = None,
    ) -> Iterate:
        theta = super().begin(network, params, support, reference)
        if not self._carries:
            return _without_moments(theta)
        count, *squares = network.split(params)[1]
        return Iterate(theta, squares, count, tf.constant(0))

    def update(
        self, network: Network, state: State, support: Batch, alpha: StepSize
    ) -> tuple[Iterate, tf.Tensor]:
        size = self.test_batch_size or self.inner_batch_size
        return self._update(network, state, support, alpha, size)

    def task_gradient(
        self, network: Network, params: Params, task: Task
    ) -> MetaGradient:
        state = self.begin(network, params, task.support)
        losses = []
        for _ in range(self.num_steps):
            state, loss = self._update(
                network, state, task.support, self.alpha, self.inner_batch_size
            )
            losses.append(loss)
        theta, _ = network.split(params)
        return MetaGradient(
            [t - k for t, k in zip(theta, state.theta, strict=True)],
            {
                "pre_update": losses[0],
                "post_update": network.loss(state.theta, task.query),
            },
            [state.count, *state.squares] if self._carries else [],
        )

    def weights(self, state: State) -> Params:
        return state.theta

    def unpack(
        self, network: Network, params: Params, tensors: dict[str, tf.Tensor]
    ) -> Iterate:
        return _without_moments(super().unpack(network, params, tensors))

    @property
    def _carries(self) -> bool:
        return self.keep_moments and self.inner_optimizer == "adam"

    def _update(
        self,
        network: Network,
        state: Iterate,
        support: Batch,
        alpha: StepSize,
        batch_size: int | None,
    ) -> tuple[Iterate, tf.Tensor]:
        """One step of the inner optimizer, and the loss before it."""
        batch = mini_batch(support, batch_size, state.step)
        adapted = [
            t for t, moves in zip(state.theta, self.moves, strict=True) if moves
        ]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(adapted)
            loss = network.loss(state.theta, batch)
        gradients = iter(
            tape.gradient(
                loss,
                adapted,
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )
        )
        count = state.count + 1
        moved = []
        for parameter, square, moves in zip(
            state.theta, state.squares, self.moves, strict=True
        ):
            if moves:
                gradient = tf.convert_to_tensor(next(gradients))
                moved.append(
                    self._step(parameter, square, gradient, alpha, count)
                )
            else:
                moved.append((parameter, square))
        theta, squares = (list(x) for x in zip(*moved, strict=True))
        return Iterate(theta, squares, count, state.step + 1), loss

    def _step(
        self,
        parameter: tf.Tensor,
        square: tf.Tensor,
        gradient: tf.Tensor,
        alpha: StepSize,
        count: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The inner optimizer's step, and its new running mean."""
        alpha = tf.cast(alpha, parameter.dtype)
        if self.inner_optimizer == "sgd":
            return parameter - alpha * gradient, square
        square = _BETA_2 * square + (1 - _BETA_2) * tf.square(gradient)
        count = tf.cast(count, parameter.dtype)
        correction = tf.sqrt(1 - tf.cast(_BETA_2, parameter.dtype) ** count)
        change = correction * gradient / (tf.sqrt(square) + _EPSILON)
        return parameter - alpha * change, square


def mini_batch(
    support: Batch, size: int | None, step: int | tf.Tensor
) -> Batch:
    """Mini-batch number `step` of the endlessly shuffled support set.

    Args:
        support: the set.
        size: examples of a mini-batch; None, or more than there are, takes the
            whole set.
        step: number of the mini-batch.
    """
    known = tf.nest.flatten(support)[0].shape[0]
    if size is None or (known is not None and size >= known):
        return support
    num = tf.shape(tf.nest.flatten(support)[0])[0]
    places = step * size + tf.range(tf.minimum(size, num))
    rounds = places // num
    # A mini-batch no larger than the set spans at most two rounds.
    this = order(support.inputs, rounds[0])
    following = order(support.inputs, rounds[0] + 1)
    chosen = tf.where(
        rounds == rounds[0],
        tf.gather(this, places % num),
        tf.gather(following, places % num),
    )
    return tf.nest.map_structure(lambda x: tf.gather(x, chosen), support)


def _without_moments(theta: Params) -> Iterate:
    return Iterate(
        theta,
        [tf.zeros_like(t) for t in theta],
        tf.zeros([], theta[0].dtype),
        tf.constant(0),
    )
