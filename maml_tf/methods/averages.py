"""The mean of networks that were each trained on one task.

The multi-task baselines of the MAML paper's appendix C.1.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import keras
import tensorflow as tf

from maml_tf.core.batch import Batch
from maml_tf.core.maml import MetaGradient, Params, Task, gradient_or_zeros
from maml_tf.core.network import Network
from maml_tf.errors import ConfigError, check_whole_number
from maml_tf.methods.gradient import GradientMethod
from maml_tf.methods.method import setting

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8  # of Adam


@dataclasses.dataclass(frozen=True)
class ParameterAverages(GradientMethod):
    """Theta is the mean of networks, each trained on a task; tuned to new ones.

    Each network begins from random weights: those of the model before
    training, each tensor's shuffled. Adam trains it on all examples of its task
    until the loss is small. The meta-gradient is theta - theta_i, so gradient
    descent of rate 1 / (i + 1), `outer_rate`, keeps theta at the mean. Take one
    task for each meta-step; tasks of one share the random weights.

    Attributes:
        penalty: `none`; `l2`, added to the loss: strength |theta_i|^2; or
            `mean`, strength |theta_i - theta|^2, with the mean so far.
        penalty_strength: the strength; the paper does not give it.
        target_loss: train until the loss, without penalty, is below it.
        fit_rate: Adam's rate.
        most_updates: give up after so many updates.
    """

    name: ClassVar[str] = "averages"
    outer_optimizer: ClassVar[str] = "sgd"
    differentiates_updates: ClassVar[bool] = False
    step_sizes: ClassVar[tuple[float, ...]] = (
        0.001,
        0.002,
        0.005,
        0.01,
        0.02,
        0.05,
        0.1,
    )

    penalty: str = setting(
        "none",
        "of the networks that are averaged: none, l2 or mean",
        ("none", "l2", "mean"),
    )
    penalty_strength: float = setting(0.001, "its factor")
    target_loss: float = setting(0.02, "train each until its loss is below it")
    fit_rate: float = setting(0.001, "Adam's rate in this")
    most_updates: int = setting(20_000, "the largest number of its updates")

    def __post_init__(self):
        super().__post_init__()
        for name in ("penalty_strength", "fit_rate", "target_loss"):
            value = getattr(self, name)
            least = name == "target_loss" and value == 0
            if not (0 < value < math.inf or least):
                raise ConfigError(
                    f"{name} must be a positive number. Received: "
                    f"{name}={value!r}",
                    name,
                )
        check_whole_number("most_updates", self.most_updates, least=1)

    @classmethod
    def defaults(
        cls, datasource: str, settings: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """The paper's 500 networks, and points of ours: it gives no number."""
        del settings
        if datasource != "sinusoid":
            return {}
        return {
            "metatrain_iterations": 500,
            "meta_batch_size": 1,
            "num_shots": 100,
        }

    @property
    def anneals(self) -> bool:
        return True

    def outer_rate(
        self, beta: float
    ) -> keras.optimizers.schedules.LearningRateSchedule:
        """1 / (i + 1), whatever beta is."""
        del beta
        return keras.optimizers.schedules.InverseTimeDecay(1.0, 1, 1.0)

    def carried(self, network: Network) -> list[keras.Variable]:
        """The weights before training."""
        return [
            keras.Variable(v.numpy(), name="initial")
            for v in network.model.trainable_variables
        ]

    def task_gradient(
        self,
        network: Network,
        params: Params,
        task: Task,
        iteration: tf.Tensor | None = None,
    ) -> MetaGradient:
        iteration = tf.constant(0) if iteration is None else iteration
        theta, initial = network.split(params)
        both = tf.nest.map_structure(
            lambda *x: tf.concat(x, axis=0), task.support, task.query
        )
        start = [
            _shuffled(t, tf.stack([tf.cast(iteration, tf.int32), i]))
            for i, t in enumerate(initial)
        ]
        strength, center = self._pull(theta, iteration)
        found, before, after = self._fit(network, start, both, strength, center)
        return MetaGradient(
            [t - x for t, x in zip(theta, found, strict=True)],
            {"pre_update": before, "post_update": after},
            initial,
        )

    def _pull(
        self, theta: Params, iteration: tf.Tensor
    ) -> tuple[tf.Tensor | float, Params]:
        """The penalty's strength and center."""
        if self.penalty == "none":
            return 0.0, theta
        if self.penalty == "l2":
            return self.penalty_strength, [tf.zeros_like(t) for t in theta]
        later = tf.cast(iteration > 0, theta[0].dtype)  # at first, no mean
        return self.penalty_strength * later, theta

    def _fit(
        self,
        network: Network,
        start: Params,
        batch: Batch,
        strength: tf.Tensor | float,
        center: Params,
    ) -> tuple[Params, tf.Tensor, tf.Tensor]:
        """Adam from `start`; the weights, and the loss before and after."""

        def gradients(theta: Params) -> tuple[tf.Tensor, list[tf.Tensor]]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(theta)
                loss = network.loss(theta, batch)
            found = gradient_or_zeros(tape, loss, theta)
            return loss, [
                g + 2 * strength * (t - c)
                for g, t, c in zip(found, theta, center, strict=True)
            ]

        def unfinished(step, loss, *_):
            return (step < self.most_updates) & (loss >= self.target_loss)

        def body(step, _, theta, means, squares):
            _, found = gradients(theta)
            count = tf.cast(step + 1, theta[0].dtype)
            one, two = 1 - _BETA_1**count, tf.sqrt(1 - _BETA_2**count)
            means = [
                _BETA_1 * m + (1 - _BETA_1) * g
                for m, g in zip(means, found, strict=True)
            ]
            squares = [
                _BETA_2 * s + (1 - _BETA_2) * tf.square(g)
                for s, g in zip(squares, found, strict=True)
            ]
            theta = [
                t - self.fit_rate * two / one * m / (tf.sqrt(s) + _EPSILON)
                for t, m, s in zip(theta, means, squares, strict=True)
            ]
            return step + 1, network.loss(theta, batch), theta, means, squares

        zeros = [tf.zeros_like(t) for t in start]
        before = network.loss(start, batch)
        _, after, theta, _, _ = tf.while_loop(
            unfinished, body, (tf.constant(0), before, start, zeros, zeros)
        )
        return theta, before, after


def _shuffled(x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """The elements in another order, by operations that XLA has."""
    flat = tf.reshape(x, [-1])
    order = tf.argsort(tf.random.stateless_uniform(flat.shape, seed))
    return tf.reshape(tf.gather(flat, order), x.shape)
