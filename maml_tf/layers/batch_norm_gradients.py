"""Batch normalization with its first two derivatives written out.

| symbol | meaning | shape |
|---|---|---|
| x | inputs | [examples, channels] |
| <.> | mean over examples | [1, channels] |
| m, v | <x>, <(x - m)^2> | [1, channels] |
| s | 1 / sqrt(v + epsilon) | [1, channels] |
| y | (x - m) s | [examples, channels] |
| dy | gradient w.r.t. y | [examples, channels] |
| c | gradient w.r.t. G(dy) | [examples, channels] |
| P | patches of the images | [examples, elements] |
| p, C | mean and covariance of P's rows | [1, elements], [elements, elements] |
| W | kernel | [elements, channels] |
| gamma, beta | scale and offset | [channels] |

The gradient with respect to x is

    G(dy) = s (dy - <dy> - y <dy y>).

G is symmetric, so the gradient of sum(c G(dy)) with respect to dy is G(c); that
with respect to x is

    -s (s (<c dy> - <c><dy> - <c y><dy y>) y + <c y> G(dy) + <dy y> G(c)).

TensorFlow derives the same values, but with twice as many passes over the data,
and MAML spends most of its elementwise time here. Third and higher derivatives
are TensorFlow's, of the last expression.

If x = P W and P has few columns, as after a network's first convolution, no
pass over x is needed:

    v = diag(W^T C W),  y gamma + beta = (P - p) (W s gamma) + beta,

another convolution, whose kernel and offset come from small matrices.
"""

from typing import NamedTuple

import tensorflow as tf

from maml_tf.layers.patches import Convolution, mean_of_rows


class Statistics(NamedTuple):
    """Statistics of x and the outputs normalized by them.

    Attributes:
        mean, variance: m and v, [1, channels].
        scale: s, [1, channels].
        outputs: y, or y gamma + beta, [examples, channels].
    """

    mean: tf.Tensor
    variance: tf.Tensor
    scale: tf.Tensor
    outputs: tf.Tensor


def batch_normalize(x: tf.Tensor, epsilon: float) -> Statistics:
    """Normalizes over examples, exact to every derivative.

    Args:
        x: float [examples, channels]; the number of channels is static.
        epsilon: added to the variance.

    Returns:
        Statistics with outputs y. Differentiate `outputs` only.
    """
    found = _statistics(x, epsilon)

    @tf.custom_gradient
    def normalize(x):
        return found.outputs, lambda dy: first(dy, x)

    @tf.custom_gradient
    def first(dy, x):
        return _first(dy, found), lambda c: second(c, dy, x)

    @tf.custom_gradient
    def second(c, dy, x):
        def gradient(*higher):
            with tf.GradientTape() as tape:
                tape.watch([c, dy, x])
                passed = _second(c, dy, _statistics(x, epsilon))
            return tape.gradient(passed, [c, dy, x], higher)

        return _second(c, dy, found), gradient

    return found._replace(outputs=normalize(x))


def normalize_convolution(
    convolution: Convolution,
    epsilon: float,
    gamma: tf.Tensor | None = None,
    beta: tf.Tensor | None = None,
) -> Statistics:
    """Normalizes a convolution's products, exact to every derivative.

    Args:
        convolution: its products are x. Faster than `batch_normalize` if it has
            no more elements than filters.
        epsilon: added to the variance.
        gamma, beta: float [filters]; None for 1 and 0.

    Returns:
        Statistics with outputs y gamma + beta.
    """
    w = tf.reshape(convolution.kernel, [-1, convolution.filters])
    patches = convolution.center_patches()
    variance = tf.reduce_sum(
        w * tf.matmul(patches.covariance, w), 0, keepdims=True
    )
    scale = tf.math.rsqrt(variance + epsilon)
    folded = w * (scale if gamma is None else scale * gamma)
    return Statistics(
        tf.matmul(patches.mean, w),
        variance,
        scale,
        patches.times(folded, beta),
    )


def _statistics(x: tf.Tensor, epsilon: float) -> Statistics:
    mean = mean_of_rows(x)
    centered = x - mean
    variance = mean_of_rows(tf.square(centered))
    scale = tf.math.rsqrt(variance + epsilon)
    return Statistics(mean, variance, scale, centered * scale)


def _first(dy: tf.Tensor, found: Statistics) -> tf.Tensor:
    """G(dy)."""
    y = found.outputs
    return (dy - mean_of_rows(dy) - y * mean_of_rows(dy * y)) * found.scale


def _second(
    c: tf.Tensor, dy: tf.Tensor, found: Statistics
) -> tuple[tf.Tensor, tf.Tensor]:
    """The gradients of sum(c G(dy)) with respect to dy and x."""
    y, scale = found.outputs, found.scale
    c_y, dy_y = mean_of_rows(c * y), mean_of_rows(dy * y)
    rest = (
        mean_of_rows(c * dy) - mean_of_rows(c) * mean_of_rows(dy) - c_y * dy_y
    )
    to_dy, minus = _first(c, found), -scale
    to_x = tf.add_n(
        [
            y * (rest * scale * minus),
            _first(dy, found) * (c_y * minus),
            to_dy * (dy_y * minus),
        ]
    )
    return to_dy, to_x
