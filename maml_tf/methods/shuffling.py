"""Orders of a support set's examples that depend on nothing but these.

Streams list a support set class by class. Where order matters, as in
mini-batches or to a recurrent layer, examples are ordered by a hash of their
inputs: at random, but the same again after a training was resumed, in an
exported model, and in whatever order and with whatever labels they are given.
"""

from typing import Any

import tensorflow as tf

_GOLDEN = 0x9E3779B9  # 2**32 over the golden ratio
_RESOLUTION, _RANGE = 2.0**20, 2.0**24


def order(inputs: Any, number: int | tf.Tensor = 0) -> tf.Tensor:
    """Permutation `number` of a sequence that the inputs define.

    Args:
        inputs: tensors [examples, ...]; equal ones keep their order.
        number: an integer.

    Returns:
        int32 [examples], a permutation of 0, 1, ...
    """
    shift = tf.cast(number, tf.uint32) * tf.constant(_GOLDEN, tf.uint32)
    hashes = _mixed(_hashes(inputs) + shift)
    return tf.argsort(tf.cast(hashes, tf.int64), stable=True)


def _hashes(inputs: Any) -> tf.Tensor:
    """uint32 [examples]."""
    total = tf.constant(0, tf.uint32)
    for place, x in enumerate(tf.nest.flatten(inputs)):
        flat = tf.reshape(tf.cast(x, tf.float32), [tf.shape(x)[0], -1])
        numbers = tf.range(tf.shape(flat)[1]) + 1
        weights = _mixed(tf.cast(numbers + 7919 * place, tf.uint32))
        # Exact, and unlike a bitcast possible for many tasks at once.
        bits = tf.math.floormod(tf.floor(flat * _RESOLUTION), _RANGE)
        bits = _mixed(tf.cast(bits, tf.uint32))
        total += tf.reduce_sum(_mixed(bits + weights), axis=1)
    return total


def _mixed(x: tf.Tensor) -> tf.Tensor:
    """The last step of MurmurHash3, elementwise: a bijection of uint32."""
    for factor, shift in ((0x85EBCA6B, 16), (0xC2B2AE35, 13)):
        x = tf.bitwise.bitwise_xor(x, _shifted(x, shift))
        x *= tf.constant(factor, tf.uint32)
    return tf.bitwise.bitwise_xor(x, _shifted(x, 16))


def _shifted(x: tf.Tensor, places: int) -> tf.Tensor:
    return tf.bitwise.right_shift(x, tf.constant(places, tf.uint32))
