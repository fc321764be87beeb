"""Losses against NumPy, at the original's scale."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from maml_tf.losses import Batch, cross_entropy, mean_squared_error, supervised
from maml_tf.normalization import BatchNormalization


@pytest.fixture
def linear(float64):
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(3, use_bias=False)]
    )
    return model, np.random.default_rng(0).standard_normal((2, 3))


def test_mean_squared_error(linear):
    model, kernel = linear
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((4, 2)), rng.standard_normal((4, 3))
    loss = mean_squared_error(model)([tf.constant(kernel)], Batch(x, y))
    assert float(loss) == pytest.approx(np.mean((x @ kernel - y) ** 2))


@pytest.mark.parametrize(("shots", "examples"), [(1, 3), (2, 6), (2, 9)])
def test_cross_entropy_is_summed_over_examples_and_divided_by_k(
    linear, shots, examples
):
    model, kernel = linear
    x = np.random.default_rng(2).standard_normal((examples, 2))
    labels = np.arange(examples) % 3
    logits = x @ kernel
    log_softmax = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = -log_softmax[np.arange(examples), labels].sum() / shots
    loss = cross_entropy(model, shots)(
        [tf.constant(kernel)], Batch(x, np.eye(3)[labels])
    )
    assert float(loss) == pytest.approx(expected)


@pytest.mark.parametrize(
    "loss", [keras.losses.mean_squared_error, keras.losses.MeanSquaredError()]
)
def test_keras_losses_are_averaged(linear, loss):
    model, kernel = linear
    rng = np.random.default_rng(1)
    batch = Batch(rng.standard_normal((4, 2)), rng.standard_normal((4, 3)))
    value = supervised(model, loss)([tf.constant(kernel)], batch)
    expected = mean_squared_error(model)([tf.constant(kernel)], batch)
    assert float(value) == pytest.approx(float(expected), rel=1e-6)


def test_parameters_that_do_not_fit_are_refused(linear):
    model, _ = linear
    with pytest.raises(ValueError, match="longer|shorter"):
        mean_squared_error(model)([], Batch(np.ones((1, 2)), np.ones((1, 3))))


def test_making_a_loss_makes_normalization_exact():
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.BatchNormalization()]
    )
    mean_squared_error(model)
    assert type(model.layers[0]) is BatchNormalization
