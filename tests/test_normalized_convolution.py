"""Batch normalization of a convolution whose factors it can use."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from maml_tf.layers import convolution
from maml_tf.layers.convolution import Conv2D, convolution_of
from maml_tf.layers.normalization import BatchNormalization

FEW, MANY = 1, 3  # channels: the kernel has fewer elements than filters, more
FILTERS = 10


@pytest.fixture(params=["small", "large"], autouse=True)
def size(request, monkeypatch):
    """Images whose patches fit, and such that are left to TensorFlow."""
    if request.param == "large":
        monkeypatch.setattr(convolution, "MAX_PATCH_BYTES", 0)


def random(seed, *shape):
    return tf.constant(np.random.default_rng(seed).standard_normal(shape))


def block(channels, apart=False, **settings):
    """A convolution and its normalization; apart they do not meet."""
    norm = {"epsilon": 1e-3, "dtype": "float64"}
    norm |= {k: settings.pop(k) for k in ("scale", "center") if k in settings}
    reshape = keras.layers.Reshape((3, 3, FILTERS), dtype="float64")
    model = keras.Sequential(
        [
            keras.Input((6, 6, channels), dtype="float64"),
            Conv2D(FILTERS, 3, 2, "same", dtype="float64", **settings),
            *([reshape] if apart else []),
            BatchNormalization(**norm),
        ]
    )
    for i, variable in enumerate(model.trainable_variables):
        variable.assign(random(i, *variable.shape))
    return model


def derivatives(model, images, order):
    """Of a function of the outputs, by images and by the kernel."""
    kernel = model.layers[0].kernel

    def value(images, w, order):
        if order == 0:
            with keras.StatelessScope([(kernel, w)]):
                return tf.reduce_sum(tf.sin(model(images, training=True)))
        with tf.GradientTape() as tape:
            tape.watch([images, w])
            before = value(images, w, order - 1)
        gradients = tape.gradient(before, [images, w])
        return sum(tf.reduce_sum(tf.sin(g)) for g in gradients)

    w = tf.convert_to_tensor(kernel)
    with tf.GradientTape() as tape:
        tape.watch([images, w])
        before = value(images, w, order - 1)
    return tape.gradient(before, [images, w])


@pytest.mark.parametrize("channels", [FEW, MANY])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_derivatives_are_those_of_the_layers_apart(channels, order):
    x = random(9, 4, 6, 6, channels)
    together = derivatives(block(channels), x, order)
    apart = derivatives(block(channels, apart=True), x, order)
    for ours, theirs in zip(together, apart, strict=True):
        scale = float(tf.reduce_max(tf.abs(theirs)))
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-9 * scale)


@pytest.mark.parametrize("channels", [FEW, MANY])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_bias": False},
        {"scale": False},
        {"center": False},
        {"scale": False, "center": False},
        {"activation": "relu"},
    ],
    ids=str,
)
def test_outputs_and_moving_statistics_are_those_of_keras(channels, settings):
    ours = block(channels, **settings)
    theirs = keras.models.clone_model(
        ours,
        clone_function=lambda layer: type(layer).__base__.from_config(
            layer.get_config()
        ),
    )
    theirs.set_weights(ours.get_weights())
    for seed in (7, 8):
        x = random(seed, 4, 6, 6, channels)
        np.testing.assert_allclose(
            ours(x, training=True), theirs(x, training=True), rtol=1e-9
        )
    for a, b in zip(
        ours.non_trainable_variables,
        theirs.non_trainable_variables,
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-9)


@pytest.mark.parametrize("channels", [FEW, MANY])
@pytest.mark.parametrize("compiled", [False, True])
def test_layers_of_a_model_meet_and_a_bias_cancels(channels, compiled):
    model = block(channels)
    kernel, bias, gamma, beta = model.trainable_variables
    x = random(9, 4, 6, 6, channels)

    def bias_gradient():
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(tf.sin(model(x, training=True)))
        return tape.gradient(value, bias.value)

    run = tf.function(bias_gradient) if compiled else bias_gradient
    assert run() is None
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(tf.sin(model(x)))
    assert tape.gradient(value, bias.value) is not None


def test_an_activation_in_between_is_not_passed_over():
    x = random(0, 2, 6, 6, FEW)
    layer = Conv2D(FILTERS, 3, activation="relu", dtype="float64")
    assert convolution_of(layer(x)) is None


@pytest.mark.parametrize("channels", [FEW, MANY])
def test_one_trace_serves_every_number_of_examples(channels):
    model = block(channels)
    shape = [None, 6, 6, channels]
    second = tf.function(
        lambda x: derivatives(model, x, 2),
        input_signature=[tf.TensorSpec(shape, tf.float64)],
        autograph=False,
    )
    for examples in (2, 5):
        x = random(examples, examples, *shape[1:])
        for any_number, eager in zip(
            second(x), derivatives(model, x, 2), strict=True
        ):
            scale = float(tf.reduce_max(tf.abs(eager)))
            np.testing.assert_allclose(
                any_number, eager, rtol=1e-8, atol=1e-9 * scale
            )


def test_nearly_constant_images_stay_finite():
    x = tf.fill([3, 6, 6, FEW], tf.constant(1e3, tf.float64))
    outputs = block(FEW)(x + 1e-6 * random(0, *x.shape), training=True)
    assert np.isfinite(outputs).all()


def test_a_branch_may_normalize_what_another_does_too():
    conv, norm = block(FEW).layers
    x = random(9, 4, 6, 6, FEW)

    @tf.function(autograph=False)
    def normalized(normalizes):
        y = conv(x)
        in_branch = tf.cond(
            normalizes, lambda: norm(y, training=True), lambda: 2.0 * y
        )
        return in_branch, norm(y, training=True)

    in_branch, outside = normalized(tf.constant(True))
    np.testing.assert_array_equal(in_branch, outside)


def test_what_no_tape_saw_is_normalized_anew_for_one_that_looks():
    conv, norm = block(FEW).layers
    x = random(9, 4, 6, 6, FEW)

    def gradient(normalized_before):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = conv(x)
            if normalized_before:
                with tape.stop_recording():
                    norm(y, training=True)
            value = tf.reduce_sum(tf.sin(norm(y, training=True)))
        return tape.gradient(value, x)

    np.testing.assert_array_equal(gradient(True), gradient(False))
