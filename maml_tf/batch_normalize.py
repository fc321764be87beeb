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
need not be passed over at all. With P centered and C = P^T P / n,

    v = diag(W^T C W)  and  y gamma + beta = [P 1] [W s gamma; beta],

whose derivatives are again products of small matrices with [P 1].
"""

from typing import NamedTuple

import tensorflow as tf


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


def normalize_products(
    p: tf.Tensor, w: tf.Tensor, epsilon: float, gamma=None, beta=None
) -> Statistics:
    """Normalizes x = p w over examples, exactly to every derivative.

    Args:
        p: float [examples, elements], best no more elements than channels.
        w: [elements, channels].
        epsilon: added to the variance.
        gamma, beta: scale and offset of y, [channels] each, or None.

    Returns:
        Statistics of x, with y gamma + beta in place of y.
    """
    mean = _mean(p)
    p -= mean
    covariance = tf.matmul(p, p, transpose_a=True) * _share(p)
    variance = tf.reduce_sum(w * tf.matmul(covariance, w), 0, keepdims=True)
    scale = tf.math.rsqrt(variance + epsilon)
    folded = w * (scale if gamma is None else scale * gamma)
    if beta is not None:
        p = tf.pad(p, [[0, 0], [0, 1]], constant_values=1)
        folded = tf.concat([folded, beta[None]], axis=0)
    return Statistics(tf.matmul(mean, w), variance, scale, tf.matmul(p, folded))


def _statistics(x: tf.Tensor, epsilon: float) -> Statistics:
    mean = _mean(x)
    centered = x - mean
    variance = _mean(tf.square(centered))
    scale = tf.math.rsqrt(variance + epsilon)
    return Statistics(mean, variance, scale, centered * scale)


def _first(dy: tf.Tensor, found: Statistics) -> tf.Tensor:
    y = found.outputs
    return (dy - _mean(dy) - y * _mean(dy * y)) * found.scale


def _second(
    c: tf.Tensor, dy: tf.Tensor, found: Statistics
) -> tuple[tf.Tensor, tf.Tensor]:
    y, scale = found.outputs, found.scale
    c_y, dy_y = _mean(c * y), _mean(dy * y)
    rest = _mean(c * dy) - _mean(c) * _mean(dy) - c_y * dy_y
    to_dy = _first(c, found)
    to_x = tf.add_n(
        [
            y * (-rest * scale * scale),
            _first(dy, found) * (-c_y * scale),
            to_dy * (-dy_y * scale),
        ]
    )
    return to_dy, to_x


def _mean(x: tf.Tensor) -> tf.Tensor:
    """Over examples, [1, channels]; a product of matrices is fastest."""
    return tf.matmul(tf.fill([1, _count(x)], _share(x)), x)


def _count(x: tf.Tensor) -> int | tf.Tensor:
    return tf.shape(x)[0] if x.shape[0] is None else x.shape[0]


def _share(x: tf.Tensor) -> tf.Tensor:
    """Of one example in a mean."""
    return 1 / tf.cast(_count(x), x.dtype)
