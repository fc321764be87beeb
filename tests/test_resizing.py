"""Exact resizing equals Keras' in value, and has every derivative."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import maml_tf
from maml_tf.layers import resizing

INTERPOLATIONS = ("bilinear", "bicubic", "lanczos3", "lanczos5", "nearest")


def pairs():
    """Keras' layers and ours, with the same settings."""
    for interpolation in INTERPOLATIONS:
        for name, settings in (
            ("UpSampling2D", {"size": (3, 2)}),
            ("Resizing", {"height": 3, "width": 9}),
            ("Resizing", {"height": 2, "width": 3, "antialias": True}),
            ("Resizing", {"height": 2, "width": 9, "antialias": True}),
        ):
            yield name, {"interpolation": interpolation, **settings}
    yield "Resizing", {"height": 2, "width": 3, "interpolation": "area"}


def make(module, name, settings, dtype):
    return getattr(module, name)(**settings, dtype=dtype)


IMAGES = np.random.default_rng(0).standard_normal((2, 5, 6, 3))


@pytest.mark.parametrize(("name", "settings"), list(pairs()))
def test_layers_equal_keras(name, settings):
    images = tf.constant(IMAGES, tf.float32)
    theirs = make(keras.layers, name, settings, "float32")
    ours = make(resizing, name, settings, "float32")
    np.testing.assert_array_equal(ours(images), theirs(images))
    # In float64 by products of matrices.
    precise = make(resizing, name, settings, "float64")(IMAGES)
    assert precise.dtype == tf.float64
    np.testing.assert_allclose(precise, theirs(images), atol=2e-6)


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_gradient_and_second_derivative(interpolation, data_format):
    """Against Keras' gradient, and the closed form of a Hessian: 2 R'R."""
    settings = {"interpolation": interpolation, "data_format": data_format}
    images = tf.constant(IMAGES, tf.float32)
    if data_format == "channels_first":
        images = tf.transpose(images, [0, 3, 1, 2])
    direction = tf.reverse(images, [0])
    theirs = keras.layers.UpSampling2D(2, **settings)
    ours = resizing.UpSampling2D(2, **settings)

    def gradient(layer, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(tf.square(layer(x)))
        return tape.gradient(value, x)

    with tf.GradientTape() as tape:
        tape.watch(images)
        first = gradient(ours, images)
    second = tape.gradient(first, images, direction)
    np.testing.assert_allclose(first, gradient(theirs, images), atol=1e-4)
    np.testing.assert_allclose(second, gradient(theirs, direction), atol=1e-4)


def test_what_is_left_to_keras():
    whole = tf.constant(np.arange(16).reshape(1, 4, 4, 1), tf.uint8)
    settings = {"height": 2, "width": 3}
    for images, more in (
        (whole, {"dtype": "uint8"}),
        (tf.cast(whole[0], tf.float32), {}),
        (tf.cast(whole, tf.float32), {"crop_to_aspect_ratio": True}),
    ):
        theirs = keras.layers.Resizing(**settings, **more)
        ours = resizing.Resizing(**settings, **more)
        np.testing.assert_array_equal(ours(images), theirs(images))


def decoder():
    keras.utils.set_random_seed(2)
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Conv2D(2, 3, activation="tanh"),
            keras.layers.UpSampling2D(2, interpolation="bilinear"),
            keras.layers.Resizing(5, 4, "bicubic"),
            keras.layers.Conv2D(1, 3, activation="tanh"),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )


def test_the_meta_gradient_of_a_decoder_is_exact(tmp_path):
    model = decoder()
    rng = np.random.default_rng(1)
    batches = [
        maml_tf.Batch(
            rng.standard_normal((4, 6, 6, 2)).astype("f"),
            rng.standard_normal((4, 1)).astype("f"),
        )
        for _ in range(2)
    ]
    before = model(batches[0].inputs)
    learner = maml_tf.Learner(model, "mse")
    np.testing.assert_array_equal(model(batches[0].inputs), before)
    found = maml_tf.check_meta_gradient(
        model, keras.losses.MeanSquaredError(), maml_tf.Task(*batches), 0.1
    )
    assert found.second_order
    adapted = learner.adapt(*batches[0])
    adapted.save(tmp_path / "adapted.keras")
    plain = keras.models.load_model(tmp_path / "adapted.keras")
    assert type(plain.layers[1]) is keras.layers.UpSampling2D
    np.testing.assert_allclose(
        plain(batches[1].inputs),
        adapted.predict(batches[1].inputs),
        rtol=1e-5,
    )
    learner.save(tmp_path / "learner")
    loaded = maml_tf.Learner.load(tmp_path / "learner")
    assert type(loaded.model.layers[1]) is resizing.UpSampling2D
