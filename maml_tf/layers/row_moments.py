"""Mean and covariance over the rows of a matrix, by products of matrices.

On a CPU these are faster than TensorFlow's reductions.
"""

import tensorflow as tf


def mean_of_rows(x: tf.Tensor) -> tf.Tensor:
    """Of float [rows, columns]: [1, columns]."""
    return tf.matmul(tf.fill([1, _count(x)], _share(x)), x)


def covariance_of_rows(centered: tf.Tensor) -> tf.Tensor:
    """The population's, of float [rows, columns] of mean 0.

    Returns:
        [columns, columns].
    """
    return tf.matmul(centered, centered, transpose_a=True) * _share(centered)


def _count(x: tf.Tensor) -> int | tf.Tensor:
    return tf.shape(x)[0] if x.shape[0] is None else x.shape[0]


def _share(x: tf.Tensor) -> tf.Tensor:
    """Of one row in a mean."""
    return 1 / tf.cast(_count(x), x.dtype)
