"""The check finds what is wrong, and says so."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from maml_tf.core.batch import Batch
from maml_tf.core.gradient_check import check_meta_gradient
from maml_tf.core.maml import Task
from maml_tf.errors import ConfigError
from maml_tf.layers.normalization import use_exact_normalization
from maml_tf.models import conv_net


@keras.saving.register_keras_serializable(package="test")
class Gate(keras.layers.Layer):
    """A gate that gradients do not see."""

    def call(self, x):
        return x * tf.stop_gradient(tf.nn.sigmoid(x))


@tf.custom_gradient
def once(x):
    def gradient(upstream):
        return tf.stop_gradient(2 * x) * upstream

    return x * x, gradient


@keras.saving.register_keras_serializable(package="test")
class OnceDifferentiable(keras.layers.Layer):
    """x^2 with a right first and a missing second derivative."""

    def call(self, x):
        return once(x)


def model(*layers):
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, activation="tanh"),
            keras.layers.Dense(4),
            *layers,
            keras.layers.Dense(1),
        ]
    )


@pytest.fixture
def task():
    rng = np.random.default_rng(0)
    return Task(
        *(
            Batch(
                rng.standard_normal((6, 3)).astype("f"),
                rng.standard_normal((6, 1)).astype("f"),
            )
            for _ in range(2)
        )
    )


LOSS = keras.losses.MeanSquaredError()


@pytest.mark.parametrize("num_steps", [1, 3])
def test_a_plain_model_is_second_order(task, num_steps):
    plain = model()
    before = plain.get_weights()
    found = check_meta_gradient(plain, LOSS, task, 0.1, num_steps)
    assert found.second_order
    assert found.relative_error < 1e-6 < found.first_order_error
    assert str(found).startswith("The meta-gradient is second order")
    for a, b in zip(before, plain.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_keras_normalization_is_found_and_fixed(task):
    with_norm = model(keras.layers.BatchNormalization())
    found = check_meta_gradient(with_norm, LOSS, task, 0.1)
    assert not found.second_order
    assert found.relative_error > 0.001
    assert "NOT the second-order" in str(found)
    assert "use_exact_normalization(model) mends it" in str(found)
    assert any("StopGradient" in o for o in found.obstacles)
    use_exact_normalization(with_norm)
    assert check_meta_gradient(with_norm, LOSS, task, 0.1).second_order


def test_the_image_network_is_second_order():
    rng = np.random.default_rng(0)
    images = rng.random((2, 4, 8, 8, 1), dtype="float32")
    labels = np.eye(2)[[0, 1, 0, 1]]
    task = Task(*(Batch(x, labels) for x in images))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    network = conv_net((8, 8, 1), 2, 10)
    assert check_meta_gradient(network, loss, task, 0.4).second_order


@pytest.mark.parametrize("layer", [Gate, OnceDifferentiable])
def test_a_stopped_gradient_is_found(task, layer):
    found = check_meta_gradient(model(layer()), LOSS, task, 0.1)
    assert not found.second_order
    assert "StopGradient in" in str(found)


def test_the_op_that_stops_the_gradient_is_named(task):
    found = check_meta_gradient(model(Gate(name="my_gate")), LOSS, task, 0.1)
    assert "StopGradient in" in str(found)
    assert "my_gate" in str(found)


@keras.saving.register_keras_serializable(package="test")
class ResponseNormalization(keras.layers.Layer):
    """An op of TensorFlow's that can be differentiated only once."""

    def call(self, x):
        single = tf.cast(x, tf.float32)[:, None, None]  # it knows no float64
        normalized = tf.nn.local_response_normalization(single)
        return tf.cast(normalized[:, 0, 0], x.dtype)


def test_an_op_without_a_second_derivative_is_named(task):
    found = check_meta_gradient(model(ResponseNormalization()), LOSS, task, 0.1)
    assert not found.second_order
    assert found.relative_error is None
    assert found.by_variable == {}
    assert "LRNGrad" in str(found)
    assert "first_order=True" in str(found)


def test_an_op_without_any_derivative_is_named(task):
    layer = keras.layers.Resizing(1, 1, interpolation="area")
    images = keras.layers.Reshape((2, 2, 1))
    with pytest.raises(ConfigError, match="no gradient to check.*ResizeArea"):
        check_meta_gradient(
            model(keras.layers.Dense(4), images, layer, keras.layers.Flatten()),
            LOSS,
            task,
        )


def test_a_model_without_weights_is_refused(task):
    empty = keras.Sequential([keras.Input((3,)), keras.layers.ReLU()])
    with pytest.raises(ValueError, match="no trainable variables"):
        check_meta_gradient(empty, LOSS, task)


def test_a_model_that_cannot_be_rebuilt_is_refused(task):
    class Local(keras.Model):
        def __init__(self, size):
            super().__init__()
            self.dense = keras.layers.Dense(size)

        def call(self, x):
            return self.dense(x)

        def get_config(self):
            raise NotImplementedError("Local has no get_config")

    local = Local(1)
    local(task.support.inputs)
    with pytest.raises(ValueError, match="cannot be rebuilt in float64"):
        check_meta_gradient(local, LOSS, task)


def test_a_lambda_that_loses_its_globals_is_refused(task):
    layer = keras.layers.Lambda(lambda x: tf.nn.relu(x))
    with pytest.raises(ValueError, match="'tf' is not defined.*Lambda"):
        check_meta_gradient(model(layer), LOSS, task)
