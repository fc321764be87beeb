"""Batch normalization with its first two derivatives written out.

Let x be [examples, channels], m and v its mean and variance over examples,
s = 1 / sqrt(v + epsilon) and y = (x - m) s. With means over examples written
<.>, the gradient that y passes back is

    G(dy) = s (dy - <dy> - y <dy y>),

and what G(dy) in turn passes back of c is G(c) to dy, for G is symmetric, and

    -s (s (<c dy> - <c><dy> - <c y><dy y>) y + <c y> G(dy) + <dy y> G(c))

to x. TensorFlow's own derivatives of the same expression are equal but take
twice as many passes over the data, and MAML takes most of its elementwise
time here.

If x = P W with few columns in P, as after a network's first convolution, it
need not be passed over at all. With p the mean of P's rows and C their
covariance,

    v = diag(W^T C W),  y gamma + beta = (P - p) (W s gamma) + beta,

another convolution, whose kernel and offset come from small matrices.
"""

from typing import NamedTuple

import tensorflow as tf

from maml_tf.layers.patches import Convolution
from maml_tf.layers.row_moments import mean_of_rows


class Statistics(NamedTuple):
    """Of x [examples, channels].

    Attributes:
        mean, variance: [1, channels]; the population's variance.
        scale: s, [1, channels].
        outputs: y, of the shape of x.
    """

    mean: tf.Tensor
    variance: tf.Tensor
    scale: tf.Tensor
    outputs: tf.Tensor


def batch_normalize(x: tf.Tensor, epsilon: float) -> Statistics:
    """Normalizes over examples, exactly to every derivative.

    Args:
        x: float [examples, channels]; the number of channels is static.
        epsilon: added to the variance.

    Returns:
        Statistics; only `outputs` can be differentiated.
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
    convolution: Convolution, epsilon: float, gamma=None, beta=None
) -> Statistics:
    """Normalizes a convolution's products, exactly to every derivative.

    Args:
        convolution: of no more elements than filters, to be faster.
        epsilon: added to the variance.
        gamma, beta: scale and offset of y, float [filters] each, or None.

    Returns:
        Statistics of the products, with y gamma + beta in place of y.
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
    y = found.outputs
    return (dy - mean_of_rows(dy) - y * mean_of_rows(dy * y)) * found.scale


def _second(
    c: tf.Tensor, dy: tf.Tensor, found: Statistics
) -> tuple[tf.Tensor, tf.Tensor]:
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
