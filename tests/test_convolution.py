"""Kernel gradients as matrix products: the same derivatives of any order."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from maml_tf.layers import convolution
from maml_tf.layers.convolution import Conv2D

SLOW_OP = "Conv2DBackpropFilter"


def random(seed, *shape):
    return tf.constant(np.random.default_rng(seed).standard_normal(shape))


def images_and_layer(shape, *args, **settings):
    """float64 inputs of a shape, and a layer of 6 filters for them."""
    layer = Conv2D(6, *args, dtype="float64", **settings)
    layer.build(shape)
    layer.kernel.assign(random(1, *layer.kernel.shape))
    return random(0, *shape), layer


def by(layer):
    """The layer as a function of images and kernel; its bias is 0."""

    def convolve(x, w):
        with keras.StatelessScope([(layer.kernel, w)]):
            return layer(x)

    return convolve


def derivatives(convolve, x, w, order):
    """With respect to x and w, of a function in which none is constant."""
    if order == 0:
        return tf.sin(convolve(x, w))
    with tf.GradientTape() as tape:
        tape.watch([x, w])
        before = tf.nest.flatten(derivatives(convolve, x, w, order - 1))
        value = sum(tf.reduce_sum(tf.sin(d)) for d in before)
    return tape.gradient(value, [x, w])


def assert_close(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        scale = float(tf.reduce_max(tf.abs(b)))
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11 * scale)


def gradient_ops(layer, shape):
    """Types of the ops of a second-order gradient; it is not computed."""
    w = tf.convert_to_tensor(layer.kernel)
    traced = tf.function(
        lambda x: derivatives(by(layer), x, w, 2), autograph=False
    ).get_concrete_function(tf.TensorSpec(shape, tf.float64))
    graph = traced.graph.as_graph_def()
    bodies = [graph.node, *(f.node_def for f in graph.library.function)]
    return {node.op for nodes in bodies for node in nodes}


SHAPES = [
    # height, width, kernel, strides
    (6, 6, (3, 3), (2, 2)),
    (7, 5, (3, 3), (2, 2)),
    (5, 6, (3, 3), (1, 1)),
    (7, 7, (2, 2), (1, 1)),  # even
    (6, 8, (4, 2), (2, 3)),
    (8, 7, (1, 2), (3, 3)),  # smaller than the stride: pixels unseen
    (5, 5, (5, 5), (1, 1)),  # as large as the image
    (6, 5, (3, 2), (1, 2)),
    (1, 4, (1, 3), (1, 1)),
]


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("height", "width", "kernel", "strides"), SHAPES)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_derivatives_are_tensorflows(
    height, width, kernel, strides, padding, order
):
    def of_tensorflow(x, w):
        return tf.nn.conv2d(x, w, strides, padding.upper())

    shape = (2, height, width, 3)
    x, layer = images_and_layer(shape, kernel, strides, padding)
    w = tf.convert_to_tensor(layer.kernel)
    assert_close(
        derivatives(by(layer), x, w, order),
        derivatives(of_tensorflow, x, w, order),
    )


def test_a_kernel_larger_than_the_image_sees_the_padding():
    x, layer = images_and_layer((2, 2, 3, 1), (5, 4), padding="same")
    w = tf.convert_to_tensor(layer.kernel)
    assert_close(
        derivatives(by(layer), x, w, 2),
        derivatives(lambda x, w: tf.nn.conv2d(x, w, 1, "SAME"), x, w, 2),
    )


def test_compiled_derivatives_are_the_eager_ones():
    x, layer = images_and_layer((2, 6, 6, 3), 3, 2, "same")
    w = tf.convert_to_tensor(layer.kernel)

    def third(x, w):
        return derivatives(by(layer), x, w, 3)

    assert_close(tf.function(third, autograph=False)(x, w), third(x, w))


@pytest.mark.parametrize(
    "settings",
    [
        {"strides": 2, "padding": "same"},
        {"strides": (2, 1), "padding": "valid", "use_bias": False},
        {"activation": "relu", "padding": "same"},
        {"dilation_rate": 2},
        {"groups": 3},
    ],
)
def test_outputs_are_those_of_keras_layer(settings):
    x, ours = images_and_layer((4, 7, 6, 3), 3, **settings)
    theirs = keras.layers.Conv2D(6, 3, dtype="float64", **settings)
    theirs.build(x.shape)
    theirs.set_weights(ours.get_weights())
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-9, atol=1e-9)
    assert ours.compute_output_shape(x.shape) == ours(x).shape


def test_gradients_with_respect_to_variables_are_those_of_keras_layer():
    x, ours = images_and_layer((4, 7, 6, 3), 3, 2, "same")
    theirs = keras.layers.Conv2D(6, 3, 2, "same", dtype="float64")
    theirs.build(x.shape)
    theirs.set_weights(ours.get_weights())

    def gradients(layer):
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(tf.sin(layer(x)))
        return tape.gradient(value, [v.value for v in layer.variables])

    expected = gradients(theirs)
    assert_close(gradients(ours), expected)
    assert_close(tf.function(lambda: gradients(ours))(), expected)


def test_a_model_with_it_can_be_cloned_saved_and_loaded(tmp_path):
    model = keras.Sequential(
        [keras.Input((6, 6, 2)), Conv2D(3, 3, 2, "same", activation="relu")]
    )
    x = tf.cast(random(0, 4, 6, 6, 2), "float32")
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for other in (clone, loaded):
        assert type(other.layers[0]) is Conv2D
        assert other.layers[0].get_config() == model.layers[0].get_config()
        np.testing.assert_array_equal(other(x), model(x))


@pytest.mark.parametrize("examples", [2, None])
def test_the_second_derivative_has_no_kernel_gradient_of_tensorflow(examples):
    _, layer = images_and_layer((2, 6, 6, 3), 3, 2, "same")
    assert SLOW_OP not in gradient_ops(layer, (examples, 6, 6, 3))


@pytest.mark.parametrize("settings", [(3, 2, "same"), ((2, 3), 1, "valid")])
def test_one_trace_serves_every_number_of_examples(settings):
    _, layer = images_and_layer((2, 6, 5, 3), *settings)
    w = tf.convert_to_tensor(layer.kernel)

    def second(x):
        return derivatives(by(layer), x, w, 2)

    any_number = tf.function(
        second, input_signature=[tf.TensorSpec([None, 6, 5, 3], tf.float64)]
    )
    for examples in (1, 4):
        x = random(examples, examples, 6, 5, 3)
        assert_close(any_number(x), second(x))


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({"dilation_rate": 2}, (2, 6, 6, 3)),
        ({"groups": 3}, (2, 6, 6, 3)),
        # A CPU cannot run it.
        ({"data_format": "channels_first"}, (2, 3, 6, 6)),
        ({}, (2, None, 6, 3)),
        ({}, (None, 40, 40, 3)),  # 16 such images
    ],
)
def test_what_does_not_fit_is_left_to_tensorflow(settings, shape):
    layer = Conv2D(6, 3, dtype="float64", **settings)
    layer.build(shape)
    assert SLOW_OP in gradient_ops(layer, shape)


def test_large_patches_are_left_to_tensorflow(monkeypatch):
    x, layer = images_and_layer((2, 6, 6, 3), 3, 2, "same")
    patch_bytes = (2 * 3 * 3) * (3 * 3 * 3) * 8
    monkeypatch.setattr(convolution, "MAX_PATCH_BYTES", patch_bytes)
    assert SLOW_OP not in gradient_ops(layer, x.shape)
    monkeypatch.setattr(convolution, "MAX_PATCH_BYTES", patch_bytes - 1)
    assert SLOW_OP in gradient_ops(layer, x.shape)
