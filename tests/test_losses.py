"""Losses against NumPy, at the original's scale."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from maml_tf.core.batch import Batch
from maml_tf.core.losses import (
    cross_entropy,
    cross_entropy_of_labels,
    hit_rate,
    mean_squared_error,
    squared_error,
    supervised,
)
from maml_tf.core.network import Network
from maml_tf.core.prediction import predict
from maml_tf.layers.normalization import BatchNormalization
from maml_tf.models import conv_net


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


@pytest.mark.parametrize("shots", [1, 2])
def test_cross_entropy_of_labels_takes_k_from_the_batch(linear, shots):
    model, kernel = linear
    x = np.random.default_rng(2).standard_normal((3 * shots, 2))
    labels = np.arange(3 * shots) % 3
    theta = [tf.constant(kernel)]
    assert float(
        cross_entropy_of_labels(model, 3)(theta, Batch(x, labels))
    ) == pytest.approx(
        float(cross_entropy(model, shots)(theta, Batch(x, np.eye(3)[labels])))
    )


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


def test_what_layers_add_is_added_to_keras_losses(float64):
    inputs = keras.Input((2,))
    outputs = keras.layers.Dense(
        3, use_bias=False, kernel_regularizer=keras.regularizers.L2(0.5)
    )(inputs)
    outputs = keras.layers.ActivityRegularization(l1=0.25)(outputs)
    model = keras.Model(inputs, outputs)
    kernel = np.random.default_rng(0).standard_normal((2, 3))
    x, y = np.ones((4, 2)), np.zeros((4, 3))
    loss = supervised(model, keras.losses.mean_squared_error)
    value = loss([tf.constant(kernel)], Batch(x, y))
    regularization = 0.5 * np.sum(kernel**2)
    activity = 0.25 * np.abs(x @ kernel).sum() / 4  # Keras': per example
    expected = np.mean((x @ kernel) ** 2) + regularization + activity
    assert float(value) == pytest.approx(expected)


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


def gradients(function, *arguments):
    with tf.GradientTape() as tape:
        tape.watch(arguments[0])
        value = function(*arguments)
    return tape.gradient(value, arguments[0])


@pytest.mark.parametrize(
    ("shots", "per_class"),
    [(1, 1), (4, 4), (1, 15), (5, 15)],
    ids=["1 shot", "4 shots", "query of 1 shot", "query of 5 shots"],
)
def test_gradients_of_cross_entropy_have_the_originals_scale(
    linear, shots, per_class
):
    """N times that of the mean on N*K examples, N*Q/K on N*Q."""
    model, kernel = linear
    theta = [tf.constant(kernel)]
    x = np.random.default_rng(3).standard_normal((3 * per_class, 2), "f")
    batch = Batch(x, np.eye(3)[np.arange(3 * per_class) % 3])
    mean = supervised(
        model, keras.losses.CategoricalCrossentropy(from_logits=True)
    )
    for ours, means in zip(
        gradients(cross_entropy(model, shots), theta, batch),
        gradients(mean, theta, batch),
        strict=True,
    ):
        np.testing.assert_allclose(
            ours, 3 * per_class / shots * means, rtol=1e-6
        )


LOGITS = np.array([[2, 1, 0], [-5, -3, -4], [0, 0, 1e-3], [0.1, 0, -9]])


@pytest.mark.parametrize(
    ("labels", "share"),
    [([0, 1, 2, 0], 1.0), ([0, 1, 2, 2], 0.75), ([1, 0, 1, 1], 0.0)],
)
def test_the_hit_rate_is_the_share_of_largest_outputs(labels, share):
    assert float(hit_rate(tf.constant(labels), tf.constant(LOGITS))) == share


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_finite_have_no_hit_rate(value):
    logits = np.concatenate([LOGITS[:3], [[value, 0, 0]]])
    found = hit_rate(tf.constant([0, 1, 2, 0]), tf.constant(logits))
    assert np.isnan(float(found))


def test_a_query_set_is_normalized_by_itself_or_by_a_reference():
    """A single example is normalized to 0 by its own statistics."""
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.BatchNormalization(scale=False)]
    )
    network = Network(model, squared_error)
    theta = [tf.constant([0.1, 0.0, 0.0])]
    support = 3 * np.eye(3, dtype="float32")
    query = np.array([[0, 5, 0]], "float32")
    alone = network.outputs(theta, query)
    np.testing.assert_allclose(alone, [[0.1, 0, 0]], atol=1e-6)
    mean, std = 1.0, np.sqrt(2 + 1e-3)
    expected = (query - mean) / std + [[0.1, 0, 0]]
    found = network.outputs(theta, query, support)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


class Normalized:
    """A network with two layers of batch normalization, and its inputs."""

    def __init__(self):
        rng = np.random.default_rng(4)
        self.model = keras.Sequential(
            [
                keras.Input((3,)),
                keras.layers.Dense(4),
                BatchNormalization(scale=False, epsilon=1e-3),
                keras.layers.ReLU(),
                keras.layers.Dense(2),
                BatchNormalization(epsilon=1e-2),
            ]
        )
        self.theta = [
            tf.constant(rng.standard_normal(v.shape))
            for v in self.model.trainable_variables
        ]
        # Keras' inputs are float32 whatever the policy.
        self.support = rng.standard_normal((6, 3), "f")
        self.query = rng.standard_normal((5, 3), "f")

    def predict(self, inputs, reference=None):
        outputs = predict(self.model, self.theta, inputs, reference=reference)
        return outputs.numpy()

    def by_hand(self):
        """Outputs for the query set by the statistics of the support set."""
        w1, b1, offset1, w2, b2, scale2, offset2 = map(np.array, self.theta)
        hidden = [x @ w1 + b1 for x in (self.support, self.query)]
        mean, variance = hidden[0].mean(0), hidden[0].var(0)
        outputs = [
            np.maximum((x - mean) / np.sqrt(variance + 1e-3) + offset1, 0) @ w2
            + b2
            for x in hidden
        ]
        mean, variance = outputs[0].mean(0), outputs[0].var(0)
        normalized = (outputs[1] - mean) / np.sqrt(variance + 1e-2)
        return normalized * scale2 + offset2


@pytest.fixture
def normalized(float64):
    return Normalized()


def test_a_reference_normalizes_by_its_statistics(normalized):
    outputs = normalized.predict(normalized.query, normalized.support)
    np.testing.assert_allclose(outputs, normalized.by_hand(), rtol=1e-10)
    transductive = normalized.predict(normalized.query)
    assert np.abs(outputs - transductive).min() > 1e-3


def test_with_a_reference_each_query_image_is_on_its_own(normalized):
    together = normalized.predict(normalized.query, normalized.support)
    assert together.shape == (5, 2)
    for i in range(5):
        alone = normalized.predict(
            normalized.query[i : i + 1], normalized.support
        )
        np.testing.assert_allclose(alone, together[i : i + 1], rtol=1e-10)


def test_inputs_as_their_own_reference_change_nothing(normalized):
    np.testing.assert_allclose(
        normalized.predict(normalized.query, normalized.query),
        normalized.predict(normalized.query),
        rtol=1e-10,
    )


def test_the_reference_holds_for_one_call_only(normalized):
    before = normalized.predict(normalized.query)
    normalized.predict(normalized.query, normalized.support)
    np.testing.assert_array_equal(normalized.predict(normalized.query), before)


def test_a_reference_serves_any_number_of_examples_when_compiled(normalized):
    sizes = tf.TensorSpec([None, 3], tf.float32)
    compiled = tf.function(
        lambda query, support: predict(
            normalized.model, normalized.theta, query, reference=support
        ),
        input_signature=[sizes, sizes],
    )
    expected = normalized.by_hand()
    for count in (1, 5):
        np.testing.assert_allclose(
            compiled(normalized.query[:count], normalized.support),
            expected[:count],
            rtol=1e-10,
        )


def test_a_reference_of_images(float64):
    model = conv_net((6, 6, 1), 3, 2)
    theta = [tf.convert_to_tensor(v) for v in model.trainable_variables]
    rng = np.random.default_rng(5)
    support = rng.random((4, 6, 6, 1), "f")
    query = rng.random((3, 6, 6, 1), "f")
    together = predict(model, theta, query, reference=support)
    alone = predict(model, theta, query[1:2], reference=support)
    np.testing.assert_allclose(alone, together[1:2], rtol=1e-9)
    both = predict(model, theta, support, reference=support)
    np.testing.assert_allclose(both, predict(model, theta, support), rtol=1e-9)
