"""Exact layers equal Keras' in value and first, not in second derivative."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from maml_tf.core.prediction import predict
from maml_tf.layers import normalization
from maml_tf.layers.normalization import (
    EXACT_LAYERS,
    moments,
    use_exact_normalization,
    which_adapt,
)
from maml_tf.models import conv_net

SETTINGS = {
    "BatchNormalization": {"epsilon": 1e-3},
    "GroupNormalization": {"groups": 2},
    "LayerNormalization": {"axis": [1, -1]},
}


def pair(name):
    """Keras' layer and ours, with the same random scale and offset."""
    rng = np.random.default_rng(0)
    layers = []
    for module in (keras.layers, normalization):
        layer = getattr(module, name)(**SETTINGS[name])
        layer.build((None, 3, 4))
        layers.append(layer)
    theirs, ours = layers
    weights = [rng.standard_normal(w.shape) for w in theirs.trainable_variables]
    for layer in layers:
        for variable, value in zip(
            layer.trainable_variables, weights, strict=True
        ):
            variable.assign(value)
    return theirs, ours


@pytest.mark.parametrize("name", SETTINGS)
def test_only_the_second_derivative_of_keras_layer_is_wrong(float64, name):
    theirs, ours = pair(name)
    rng = np.random.default_rng(1)
    x = tf.constant(rng.standard_normal((5, 3, 4)))
    direction = tf.constant(rng.standard_normal((5, 3, 4)))
    np.testing.assert_allclose(
        in_training(ours, x), in_training(theirs, x), rtol=1e-9, atol=1e-12
    )
    step = 1e-6

    def difference(layer):
        plus = gradient_of(layer, x + step * direction)
        minus = gradient_of(layer, x - step * direction)
        return (plus - minus) / (2 * step)

    np.testing.assert_allclose(
        gradient_of(ours, x), gradient_of(theirs, x), rtol=1e-8, atol=1e-10
    )
    truth = difference(ours).numpy()
    right = hessian_vector(ours, x, direction)
    wrong = hessian_vector(theirs, x, direction)
    np.testing.assert_allclose(right, truth, rtol=1e-5, atol=1e-6)
    assert np.abs(wrong - truth).max() > 0.01 * np.abs(truth).max()


def test_one_trace_of_batch_normalization_serves_every_number(float64):
    _, layer = pair("BatchNormalization")
    direction = tf.constant(np.random.default_rng(1).standard_normal((3, 4)))

    def second(x):
        return hessian_vector(layer, x, direction)

    any_number = tf.function(
        second, input_signature=[tf.TensorSpec([None, 3, 4], tf.float64)]
    )
    for examples in (2, 5):
        x = np.random.default_rng(examples).standard_normal((examples, 3, 4))
        np.testing.assert_allclose(
            any_number(x), second(tf.constant(x)), rtol=1e-9, atol=1e-12
        )


def in_training(layer, x):
    """The layer's outputs, normalized by the statistics of x."""
    if isinstance(layer, keras.layers.BatchNormalization):
        return layer(x, training=True)
    return layer(x)


def gradient_of(layer, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = tf.reduce_sum(in_training(layer, x) ** 3)
    return tape.gradient(value, x)


def hessian_vector(layer, x, direction):
    with tf.GradientTape() as tape:
        tape.watch(x)
        slope = tf.reduce_sum(gradient_of(layer, x) * direction)
    return tape.gradient(slope, x)


def test_moments_are_numpys():
    x = np.random.default_rng(2).standard_normal((4, 3, 2))
    mean, variance = moments(tf.constant(x), [0, 1])
    np.testing.assert_allclose(mean, x.mean((0, 1)))
    np.testing.assert_allclose(variance, x.var((0, 1)))
    kept, _ = moments(tf.constant(x), [0], keepdims=True)
    assert kept.shape == (1, 3, 2)


class Subclassed(keras.Model):
    """A model that cannot be cloned, with a layer inside a layer."""

    def __init__(self):
        super().__init__()
        self.inner = keras.Sequential(
            [keras.layers.Dense(4), keras.layers.BatchNormalization()]
        )
        self.head = keras.layers.Dense(1)

    def call(self, x):
        return self.head(self.inner(x))


def functional():
    inputs = keras.Input((3,))
    x = keras.layers.Dense(4)(inputs)
    x = keras.layers.GroupNormalization(groups=2)(x)
    x = keras.layers.LayerNormalization()(x)
    return keras.Model(inputs, keras.layers.BatchNormalization()(x))


@pytest.mark.parametrize(("build", "count"), [(Subclassed, 1), (functional, 3)])
def test_exchange_keeps_weights_and_outputs(build, count):
    model = build()
    x = np.random.default_rng(3).standard_normal((6, 3)).astype("float32")
    before = model(x, training=False).numpy()
    weights = model.get_weights()
    exchanged = use_exact_normalization(model)
    assert len(exchanged) == count
    assert not any(
        type(layer) in EXACT_LAYERS for layer in normalization.all_layers(model)
    )
    for a, b in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(
        model(x, training=False), before, rtol=1e-5, atol=1e-6
    )
    assert use_exact_normalization(model) == []


def test_a_model_with_exact_layers_can_be_saved_and_loaded(tmp_path):
    model = functional()
    use_exact_normalization(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = np.ones((2, 3), "float32")
    np.testing.assert_allclose(loaded(x), model(x))
    assert use_exact_normalization(loaded) == []


def test_training_reaches_layers_of_a_model_whose_call_does_not_take_it():
    model = Subclassed()
    x = np.random.default_rng(4).standard_normal((6, 3)).astype("float32")
    model(x)
    theta = [tf.convert_to_tensor(v) for v in model.trainable_variables]
    trained = predict(model, theta, x, training=True)
    np.testing.assert_allclose(
        trained, model(x, training=True), rtol=1e-5, atol=1e-6
    )
    assert (
        np.abs(trained - predict(model, theta, x, training=False)).max() > 0.01
    )


def test_a_predicate_says_what_adapts():
    model = conv_net((28, 28, 1), 5)
    head = model.layers[-1].trainable_variables
    adapts = which_adapt(model, lambda v: any(v is w for w in head))
    assert adapts == [False] * 12 + [True, True]


def test_normalization_parameters_do_not_adapt_by_default():
    model = conv_net((28, 28, 1), 5)
    kinds = [v.name for v in model.trainable_variables]
    adapts = which_adapt(model)
    assert [k for k, a in zip(kinds, adapts, strict=True) if not a] == [
        "beta"
    ] * 4
    assert sum(adapts) == 10
