"""Equation 4 and the objectives of the outer step, per task.

All are means over the time steps of a task. Steps outside the mask, such as
those after the last episode, change neither values nor gradients.
"""

from typing import NamedTuple

import tensorflow as tf

from maml_tf.core.maml import LossFn, Params
from maml_tf.rl.policy import GaussianPolicy, gaussian, log_std


class Experience(NamedTuple):
    """What a policy did in some tasks, in the form that the losses need.

    Attributes:
        observations: float32 [tasks, samples, observation_dim].
        actions: float32 [tasks, samples, action_dim], as sampled (before the
            environment clips them).
        advantages: float32 [tasks, samples].
        mask: float32 [tasks, samples], 1 for samples that count, else 0.
    """

    observations: tf.Tensor
    actions: tf.Tensor
    advantages: tf.Tensor
    mask: tf.Tensor

    @property
    def num_tasks(self) -> int:
        return self.mask.shape[0]

    def thinned(self, stride: int) -> "Experience":
        """Every `stride`-th sample."""
        return Experience(*(x[:, ::stride] for x in self))


def reinforce(policy: GaussianPolicy) -> LossFn:
    """Equation 4 by the policy gradient theorem: - mean(log pi * advantage).

    Returns:
        loss(theta, experience) -> float32 [tasks]. Its gradient with respect
        to theta, stacked over tasks, is that of each task.
    """

    def loss(theta: Params, experience: Experience) -> tf.Tensor:
        distribution = policy.distribution(theta, experience.observations)
        log_probs = distribution.log_prob(experience.actions)
        return -task_means(log_probs * experience.advantages, experience.mask)

    return loss


class Reference(NamedTuple):
    """The policies that sampled an experience, for comparison with others.

    Attributes:
        means: float32 [tasks, samples, action_dim].
        log_stds: float32 [tasks, action_dim].
    """

    means: tf.Tensor
    log_stds: tf.Tensor

    @classmethod
    def of(
        cls, policy: GaussianPolicy, theta: Params, experience: Experience
    ) -> "Reference":
        """Takes the policies theta, as constants."""
        means = policy.means(theta, experience.observations)
        return cls(tf.stop_gradient(means), tf.stop_gradient(log_std(theta)))


def surrogate_and_kl(
    policy: GaussianPolicy,
    theta: Params,
    experience: Experience,
    reference: Reference,
) -> tuple[tf.Tensor, tf.Tensor]:
    """TRPO's objective and constraint (Schulman et al. 2015, eq. 14).

    Args:
        policy: the policy.
        theta: the parameters of each task, stacked.
        experience: sampled by `reference`.
        reference: the policies to compare with.

    Returns:
        The surrogate loss - mean(pi / pi_reference * advantage), averaged
        over the tasks, and the KL divergence from the reference to pi,
        averaged over all samples of all tasks; two scalars.
    """
    new = policy.distribution(theta, experience.observations)
    old = gaussian(*reference)
    actions, mask = experience.actions, experience.mask
    ratio = tf.exp(new.log_prob(actions) - old.log_prob(actions))
    surrogate = -task_means(ratio * experience.advantages, mask)
    kl = tf.reduce_sum(old.kl_divergence(new) * mask) / tf.reduce_sum(mask)
    return tf.reduce_mean(surrogate), kl


def task_means(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Means over the samples that count: [tasks, samples] -> [tasks]."""
    return tf.reduce_sum(values * mask, axis=1) / tf.reduce_sum(mask, axis=1)
