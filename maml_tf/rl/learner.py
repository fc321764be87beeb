"""A policy in its environment: sampling and adapting to tasks."""

import functools
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from maml_tf.core.maml import Params, inner_update
from maml_tf.rl.advantages import experience
from maml_tf.rl.config import RLConfig
from maml_tf.rl.environments.base import WithGoal
from maml_tf.rl.environments.registry import environment_spec
from maml_tf.rl.linearization import stack
from maml_tf.rl.losses import Experience, reinforce
from maml_tf.rl.policy import GaussianPolicy, policy_net
from maml_tf.rl.rollouts import Rollouts, sample_rollouts


class PolicyLearner:
    """A policy that adapts, and the environment of its tasks (section 5.3).

    Attributes:
        config: the settings.
        environment: runs the rollouts of all tasks together.
        policy: the policy, at its initial values.
    """

    def __init__(self, config: RLConfig, mean: keras.Model | None = None):
        """
        Args:
            config: the settings.
            mean: the policy's network; None takes the paper's.

        Raises:
            ConfigError: if the environment needs a package that is not
                installed, or the network does not fit the environment.
        """
        self.config = config
        environment = environment_spec(config.datasource).build()
        if config.baseline == "oracle":
            environment = WithGoal(environment)
        self.environment = environment
        dims = environment.observation_dim, environment.action_dim
        if mean is None:
            mean = policy_net(*dims, config.seed)
        self.policy = GaussianPolicy(mean)
        self.policy.check_fits(config.datasource, *dims)

    @property
    def variables(self) -> list[tf.Variable]:
        """The policy's parameters."""
        return [v.value for v in self.policy.trainable_variables]

    @property
    def theta(self) -> list[tf.Tensor]:
        """The current values of the policy's parameters."""
        return [tf.convert_to_tensor(v) for v in self.variables]

    def adapt(
        self,
        goals: np.ndarray,
        alphas: Sequence[float],
        rng: np.random.Generator,
    ) -> Iterator[tuple[Rollouts, Experience]]:
        """Samples with the policy, updates it on the samples, and so on.

        Lines 4-8 of Algorithm 3; evaluation uses it, too. The policy itself
        does not change.

        Args:
            goals: the goal of each rollout, [tasks, rollouts, task_dim].
            alphas: the step size of each update.
            rng: draws initial states and actions.

        Yields:
            The rollouts after 0, 1, ... updates, and the same in the form
            that the losses need.
        """
        theta = stack(self.theta, len(goals))
        for alpha in [*alphas, None]:
            rollouts = sample_rollouts(
                self.environment,
                self.policy,
                theta,
                goals,
                self.config.horizon,
                rng,
            )
            data = experience(rollouts)
            yield rollouts, data
            if alpha is not None:
                theta = self._update(theta, data, tf.constant(alpha))

    @functools.cached_property
    def _update(self):
        """Compiled `inner_update` of all tasks, each with its own theta:
        (stacked theta, experience, alpha) -> stacked theta."""
        loss = reinforce(self.policy)

        def update(
            theta: Params, experience: Experience, alpha: tf.Tensor
        ) -> Params:
            return inner_update(loss, theta, experience, alpha)[0]

        return tf.function(update, autograph=False)
