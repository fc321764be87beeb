"""The outer step of Algorithm 3: TRPO on the adapted policies.

Schulman et al., "Trust Region Policy Optimization", ICML 2015, with the
constants of the original code: 10 iterations of conjugate gradients, damping
1e-5, and a line search of at most 15 steps with ratio 0.8.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from maml_tf.core.conjugate_gradient import conjugate_gradient, flat, unflat
from maml_tf.core.maml import Params
from maml_tf.rl.linearization import Linearization, adapted_surrogate_and_kl
from maml_tf.rl.losses import Experience
from maml_tf.rl.policy import GaussianPolicy

CG_ITERATIONS = 10
CG_TOLERANCE = 1e-10  # of the squared residual
DAMPING = 1e-5
BACKTRACKS = 15
BACKTRACK_RATIO = 0.8
# Step of the finite differences, relative to 1 / |theta|. (The original means
# 1e-8, but passes 1 to the constructor in its place.)
FINITE_DIFFERENCE_BASE = 1.0


class TrpoResult(NamedTuple):
    """The result of a step; all but theta are scalars.

    Attributes:
        theta: the new parameters; the old ones if no step was accepted.
        accepted: 1 if a step was accepted, else 0.
        fraction: the fraction of the full step that was taken; 0 if none.
        surrogate_before, surrogate_after: surrogate losses.
        kl: mean KL divergence from the old adapted policies to the new ones.
    """

    theta: list[tf.Tensor]
    accepted: tf.Tensor
    fraction: tf.Tensor
    surrogate_before: tf.Tensor
    surrogate_after: tf.Tensor
    kl: tf.Tensor


def trpo_step(
    policy: GaussianPolicy,
    theta: Params,
    inner: Sequence[Experience],
    outer: Experience,
    alpha: float,
    max_kl: float,
    *,
    first_order: bool = False,
    curvature: str = "exact",
    curvature_stride: int = 1,
) -> TrpoResult:
    """Makes one step on theta: line 10 of Algorithm 3.

    Args:
        policy: the policy; its variables do not change.
        theta: the parameters that sampled `inner[0]`.
        inner: the experience of each inner update, in order; empty for
            ordinary TRPO.
        outer: the experience of the adapted policies.
        alpha: the inner step size.
        max_kl: bound of the mean KL divergence.
        first_order: whether to take the identity for the Jacobian of the
            adaptation.
        curvature: `exact`, or `finite_differences` of the KL divergence's
            gradient, as in the original; these see the kinks of ReLU units,
            and no step size makes them exact in float32.
        curvature_stride: n, to use every n-th sample for the curvature; the
            gradient and the line search use all.
    """
    recorded = Linearization(policy, theta, inner, outer, alpha, first_order)
    objective = adapted_surrogate_and_kl(
        policy, inner, outer, recorded.reference, alpha, first_order
    )
    gradient, surrogate = recorded.surrogate_gradient()
    if curvature == "finite_differences":
        product = _difference_product(theta, lambda x: objective(x)[1])
    else:
        if curvature_stride > 1:
            recorded = Linearization(
                policy,
                theta,
                [experience.thinned(curvature_stride) for experience in inner],
                outer.thinned(curvature_stride),
                alpha,
                first_order,
            )
        product = recorded.kl_product

    def damped(vector: tf.Tensor) -> tf.Tensor:
        return flat(product(unflat(vector, theta))) + DAMPING * vector

    direction, curved = conjugate_gradient(
        damped, flat(gradient), CG_ITERATIONS, CG_TOLERANCE
    )
    quadratic = tf.reduce_sum(direction * curved)
    size = tf.sqrt(2 * max_kl / (quadratic + 1e-8))
    size = tf.where(tf.math.is_finite(size), size, 1.0)
    return _line_search(
        objective, theta, unflat(size * direction, theta), surrogate, max_kl
    )


def _line_search(
    objective, theta: Params, step: Params, surrogate: tf.Tensor, max_kl: float
) -> TrpoResult:
    """Takes the longest step that lowers the loss within the KL bound."""
    dtype = surrogate.dtype

    def unfinished(k, accepted, *_):
        return (k < BACKTRACKS) & ~accepted

    def body(k, *_):
        size = tf.cast(BACKTRACK_RATIO, dtype) ** tf.cast(k, dtype)
        loss, kl = objective(_moved(theta, step, size))
        return k + 1, (loss < surrogate) & (kl <= max_kl), size, loss, kl

    zero = tf.zeros_like(surrogate)
    _, accepted, size, loss, kl = tf.while_loop(
        unfinished, body, (0, False, zero, surrogate, zero)
    )
    taken = tf.cast(accepted, dtype)
    moved = _moved(theta, step, size)
    return TrpoResult(
        # A step of length 0 would be NaN if the direction is not finite.
        [tf.where(accepted, *pair) for pair in zip(moved, theta, strict=True)],
        taken,
        taken * size,
        surrogate,
        tf.where(accepted, loss, surrogate),
        tf.where(accepted, kl, zero),
    )


def _moved(theta: Params, step: Params, size: tf.Tensor) -> list[tf.Tensor]:
    return [t - size * s for t, s in zip(theta, step, strict=True)]


def _difference_product(
    theta: Params, kl: Callable[[Params], tf.Tensor]
) -> Callable[[Params], list[tf.Tensor]]:
    """The original's product: central differences of the KL's gradient."""
    size = FINITE_DIFFERENCE_BASE / (tf.norm(flat(theta)) + 1e-8)

    def gradient(at: Params) -> list[tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(at)
            value = kl(at)
        return tape.gradient(value, at)

    def product(vector: Params) -> list[tf.Tensor]:
        above = gradient(_moved(theta, vector, -size))
        below = gradient(_moved(theta, vector, size))
        return [(a - b) / (2 * size) for a, b in zip(above, below, strict=True)]

    return product
