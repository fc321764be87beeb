"""Derivatives through the adaptation of a policy, recorded once.

For task t let phi_t = theta - alpha grad L_t(theta) be the adapted parameters
and J_t = d phi_t / d theta. At one theta the outer step needs many products
with J_t and with the Fisher information F_t of the adapted policy. Persistent
tapes record the adaptation, so that each product costs backward passes only.

J_t = I - alpha (Hessian of L_t) is symmetric; after several updates it is a
product of such factors. So one backward pass through an update gives J_t v as
well as J_t^T v.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

from maml_tf.core.maml import Params, adapt
from maml_tf.rl.losses import (
    Experience,
    Reference,
    reinforce,
    surrogate_and_kl,
)
from maml_tf.rl.policy import GaussianPolicy, log_std

_ZERO = tf.UnconnectedGradients.ZERO


class Linearization:
    """The adaptation of all tasks at theta.

    Attributes:
        adapted: phi, stacked over the tasks.
        inner_losses: the loss before each update, each [tasks].
        reference: the policies phi on the outer experience, as constants.
    """

    def __init__(
        self,
        policy: GaussianPolicy,
        theta: Params,
        inner: Sequence[Experience],
        outer: Experience,
        alpha: float,
        first_order: bool = False,
    ):
        """
        Args:
            policy: the policy.
            theta: the parameters before adaptation, not stacked.
            inner: the experience of each inner update, in order.
            outer: the experience of the adapted policies.
            alpha: the step size.
            first_order: whether to take J_t = I.
        """
        self._policy, self._outer = policy, outer
        with tf.GradientTape(persistent=True) as self._inner_tape:
            stacked = stack(theta, outer.num_tasks)
            self._inner_tape.watch(stacked)
            adaptation = adapt(
                reinforce(policy),
                stacked,
                inner,
                alpha,
                first_order=first_order,
            )
        self._iterates = adaptation.iterates
        self.inner_losses = adaptation.losses
        self.adapted = [tf.stop_gradient(x) for x in adaptation.iterates[-1]]
        self.reference = Reference.of(policy, self.adapted, outer)
        self._record_means()

    def surrogate_gradient(self) -> tuple[list[tf.Tensor], tf.Tensor]:
        """d surrogate / d theta, not stacked, and the surrogate, a scalar."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self.adapted)
            surrogate, _ = surrogate_and_kl(
                self._policy, self.adapted, self._outer, self.reference
            )
        gradient = tape.gradient(surrogate, self.adapted)
        return self._transposed_adaptation(gradient), surrogate

    def kl_product(self, vector: Params) -> list[tf.Tensor]:
        """The Hessian of the mean KL divergence times a vector, not stacked.

        This is sum_t J_t F_t J_t v, exact at theta, where the KL divergence
        and its gradient are 0.
        """
        moved = stack(vector, self._outer.num_tasks)
        for update in range(len(self._iterates) - 1):
            moved = self._through_update(update, moved)
        return self._transposed_adaptation(self._fisher_product(moved))

    def _through_update(self, update: int, vector: Params) -> list[tf.Tensor]:
        before, after = self._iterates[update : update + 2]
        return self._inner_tape.gradient(
            after,
            before,
            output_gradients=vector,
            unconnected_gradients=_ZERO,
        )

    def _transposed_adaptation(self, vector: Params) -> list[tf.Tensor]:
        for update in reversed(range(len(self._iterates) - 1)):
            vector = self._through_update(update, vector)
        return [tf.reduce_sum(x, axis=0) for x in vector]

    def _record_means(self) -> None:
        """Records means(phi) for products with its Jacobian, both ways.

        The backward pass is linear in the vector that it multiplies, so its
        derivative with respect to that vector is the Jacobian itself.
        """
        weights = self.adapted[:-1]
        self._cotangent = tf.zeros_like(self.reference.means)
        with tf.GradientTape(persistent=True) as self._forward_tape:
            self._forward_tape.watch(self._cotangent)
            with tf.GradientTape(persistent=True) as self._backward_tape:
                self._backward_tape.watch(weights)
                self._means = self._policy.means(
                    self.adapted, self._outer.observations
                )
            self._pulled_back = self._backward_tape.gradient(
                self._means, weights, output_gradients=self._cotangent
            )

    def _fisher_product(self, vector: Params) -> list[tf.Tensor]:
        """F_t v for each task, weighted by the task's share of all samples."""
        *weights, deviation = vector
        means = self._forward_tape.gradient(
            self._pulled_back, self._cotangent, output_gradients=weights
        )
        shares = self._outer.mask / tf.reduce_sum(self._outer.mask)
        precision = tf.exp(-2 * log_std(self.adapted))[:, tf.newaxis]
        pulled_back = self._backward_tape.gradient(
            self._means,
            self.adapted[:-1],
            output_gradients=means * precision * shares[..., tf.newaxis],
        )
        task_share = tf.reduce_sum(shares, axis=1, keepdims=True)
        return [*pulled_back, 2 * task_share * deviation]


def stack(theta: Params, num_tasks: int) -> list[tf.Tensor]:
    """A copy of theta for each task."""
    return [tf.repeat(t[tf.newaxis], num_tasks, axis=0) for t in theta]


def adapted_surrogate_and_kl(
    policy: GaussianPolicy,
    inner: Sequence[Experience],
    outer: Experience,
    reference: Reference,
    alpha: float,
    first_order: bool = False,
) -> Callable[[Params], tuple[tf.Tensor, tf.Tensor]]:
    """Surrogate and KL divergence after adaptation, as functions of theta.

    Args:
        policy, inner, outer, alpha, first_order: as in `Linearization`.
        reference: the policies that sampled `outer`.
    """

    def objective(theta: Params) -> tuple[tf.Tensor, tf.Tensor]:
        adaptation = adapt(
            reinforce(policy),
            stack(theta, outer.num_tasks),
            inner,
            alpha,
            first_order=first_order,
        )
        return surrogate_and_kl(
            policy, adaptation.iterates[-1], outer, reference
        )

    return objective
