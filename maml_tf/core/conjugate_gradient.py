"""The method of conjugate gradients, for tensors as one vector."""

from collections.abc import Callable

import tensorflow as tf

from maml_tf.core.maml import Params

Product = Callable[[tf.Tensor], tf.Tensor]


def conjugate_gradient(
    product: Product, b: tf.Tensor, iterations: int, tolerance: float = 0.0
) -> tuple[tf.Tensor, tf.Tensor]:
    """Solves A x = b for a symmetric positive definite A, approximately.

    Args:
        product: v -> A v.
        b: float [n].
        iterations: the largest number of them.
        tolerance: squared residual at which to stop.

    Returns:
        x and A x, both [n].
    """

    def unfinished(i, x, residual, direction, squared):
        return (i < iterations) & (squared > tolerance)

    def body(i, x, residual, direction, squared):
        curved = product(direction)
        size = squared / tf.reduce_sum(direction * curved)
        x += size * direction
        residual -= size * curved
        left = tf.reduce_sum(tf.square(residual))
        direction = residual + left / squared * direction
        return i + 1, x, residual, direction, left

    start = (0, tf.zeros_like(b), b, b, tf.reduce_sum(tf.square(b)))
    _, x, residual, _, _ = tf.while_loop(unfinished, body, start)
    return x, b - residual


def flat(tensors: Params) -> tf.Tensor:
    """All elements in one vector."""
    return tf.concat([tf.reshape(t, [-1]) for t in tensors], axis=0)


def unflat(vector: tf.Tensor, like: Params) -> list[tf.Tensor]:
    """The inverse of `flat`, in the shapes of `like`."""
    sizes = [t.shape.num_elements() for t in like]
    return [
        tf.reshape(part, t.shape)
        for part, t in zip(tf.split(vector, sizes), like, strict=True)
    ]
