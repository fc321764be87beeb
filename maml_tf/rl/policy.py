"""The Gaussian policy of the paper's reinforcement learning experiments."""

import functools
import math

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from maml_tf.core.maml import Params
from maml_tf.core.prediction import predict
from maml_tf.errors import ConfigError

MIN_LOG_STD = math.log(1e-6)
HIDDEN_DIMS = (100, 100)  # of the paper, appendix A.2


class GaussianPolicy:
    """pi_theta(a | s) = N(mean(s), diag(std^2)), std the same in all states.

    theta holds the weights of the mean network and, last, the logarithm of
    std, which adapts like any other parameter.

    The methods take a theta for each task, stacked along a first axis
    [tasks, ...], and observations [tasks, samples, observation_dim].

    Attributes:
        mean: the network, observations to mean actions.
        log_std: [action_dim].
    """

    def __init__(self, mean: keras.Model):
        """
        Args:
            mean: a built network [samples, observation_dim] ->
                [samples, action_dim].

        Raises:
            ValueError: if its output has another rank.
        """
        if len(mean.output_shape) != 2 or mean.output_shape[-1] is None:
            raise ValueError(
                "The mean network of a policy must return [samples, "
                f"action_dim]. Received: output shape {mean.output_shape}."
            )
        self.mean = mean
        self.log_std = keras.Variable(
            tf.zeros(mean.output_shape[-1], mean.variable_dtype),
            name="log_std",
        )

    def check_fits(
        self, environment: str, observation_dim: int, action_dim: int
    ) -> None:
        """Checks that the policy can act in an environment.

        Args:
            environment: the name of the environment.
            observation_dim: size of its observations.
            action_dim: size of its actions.

        Raises:
            ConfigError: if the policy's input or output has another size.
        """
        expected = observation_dim, action_dim
        found = self.mean.input_shape[-1], self.mean.output_shape[-1]
        if found != expected:
            raise ConfigError(
                f"Expected a policy for {environment}, which takes "
                f"{expected[0]} numbers and returns {expected[1]}. Received: a "
                f"network that takes {found[0]} and returns {found[1]}."
            )

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """theta."""
        return [*self.mean.trainable_variables, self.log_std]

    def means(self, theta: Params, observations: tf.Tensor) -> tf.Tensor:
        """Mean actions, float32 [tasks, samples, action_dim]."""
        *weights, _ = theta
        if observations.shape[0] == 1:
            # vectorized_map would gather; gradients of that are not dense.
            only = predict(self.mean, [w[0] for w in weights], observations[0])
            return only[tf.newaxis]
        return tf.vectorized_map(
            lambda task: predict(self.mean, *task),
            (weights, observations),
            fallback_to_while_loop=False,
        )

    def distribution(
        self, theta: Params, observations: tf.Tensor
    ) -> tfp.distributions.Distribution:
        """The distribution of actions, batch shape [tasks, samples]."""
        return gaussian(self.means(theta, observations), log_std(theta))

    @functools.cached_property
    def act(self):
        """Compiled: (theta, observations, noise) -> actions.

        `noise` is standard normal, in the shape of the actions.
        """

        def act(theta, observations, noise):
            std = tf.exp(log_std(theta))[:, tf.newaxis]
            return self.means(theta, observations) + std * noise

        return tf.function(act, autograph=False, reduce_retracing=True)


def log_std(theta: Params) -> tf.Tensor:
    """The log standard deviations [tasks, action_dim] in theta."""
    return tf.maximum(theta[-1], MIN_LOG_STD)


def gaussian(
    means: tf.Tensor, log_stds: tf.Tensor
) -> tfp.distributions.Distribution:
    """N(means, exp(log_stds)^2): [tasks, samples, dim] and [tasks, dim]."""
    independent = tfp.distributions.Normal(
        means, tf.exp(log_stds)[:, tf.newaxis]
    )
    return tfp.distributions.Independent(
        independent, reinterpreted_batch_ndims=1
    )


def policy_net(
    observation_dim: int, action_dim: int, seed: int = 0
) -> keras.Model:
    """The paper's mean network: two layers of 100 ReLU units, linear output.

    Weights are Glorot uniform, biases 0.

    Args:
        observation_dim: inputs are [samples, observation_dim].
        action_dim: outputs are [samples, action_dim].
        seed: of the initial weights.
    """
    seeds = iter(range(1000 * seed, 1000 * seed + 1000))

    def glorot():
        return keras.initializers.GlorotUniform(seed=next(seeds))

    return keras.Sequential(
        [
            keras.Input((observation_dim,)),
            *(
                keras.layers.Dense(
                    units, activation="relu", kernel_initializer=glorot()
                )
                for units in HIDDEN_DIMS
            ),
            keras.layers.Dense(action_dim, kernel_initializer=glorot()),
        ]
    )
