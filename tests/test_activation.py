"""ReLU: Keras' values and gradient, and no second derivative."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from maml_tf.layers.activation import ReLU

X = tf.constant([-2.0, -0.0, 0.0, 0.5, 3.0])
SCALE = tf.constant([1.0, 2.0, 3.0, 4.0, 5.0])


def gradient_of_gradient(layer, compiled):
    """y, dy/dx for weights that depend on s, and its derivatives."""

    def compute(x, s):
        with tf.GradientTape(persistent=True) as outer:
            outer.watch([x, s])
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x)
                value = tf.reduce_sum(y * s * s)
            gradient = tape.gradient(value, x)
        to_s = outer.gradient(gradient, s)
        return y, gradient, to_s, outer.gradient(gradient, x)

    if compiled:
        compute = tf.function(compute, autograph=False)
    return compute(X, SCALE)


@pytest.mark.parametrize("compiled", [False, True])
def test_it_is_keras_layer_without_zeros(compiled):
    y, gradient, to_s, to_x = gradient_of_gradient(ReLU(), compiled)
    np.testing.assert_array_equal(y, [0, 0, 0, 0.5, 3])
    np.testing.assert_array_equal(gradient, [0, 0, 0, 16, 25])
    np.testing.assert_array_equal(to_s, [0, 0, 0, 8, 10])
    assert to_x is None
    theirs = gradient_of_gradient(keras.layers.ReLU(), compiled)
    for a, b in zip((y, gradient, to_s), theirs[:3], strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(theirs[3], np.zeros(5))


@pytest.mark.parametrize(
    "settings",
    [{"max_value": 1.0}, {"negative_slope": 0.5}, {"threshold": 0.4}],
)
def test_other_settings_are_keras(settings):
    expected = keras.layers.ReLU(**settings)(X)
    np.testing.assert_array_equal(ReLU(**settings)(X), expected)


def test_it_is_saved_by_name():
    layer = ReLU(max_value=6.0)
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(layer)
    )
    assert type(again) is ReLU
    assert again.max_value == 6.0
