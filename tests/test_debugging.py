"""TensorFlow's switches for debugging, and threads that are set too late."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

import maml_tf
from maml_tf.core.losses import hit_rate
from maml_tf.errors import ConfigError
from maml_tf.runtime import start_tensorflow


@pytest.fixture
def check_numerics():
    tf.debugging.enable_check_numerics()
    yield
    tf.debugging.disable_check_numerics()


@pytest.fixture
def run_eagerly():
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def task(seed):
    x = np.random.default_rng(seed).normal(size=(2, 4, 2))
    labels = np.array([0, 1, 0, 1])
    return (x[0], labels), (x[1], labels)


def results():
    """Weights and scores of a short training."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    learner = maml_tf.Learner(
        model, "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    stream = maml_tf.tasks_from_function(task)
    learner.fit(stream, 2, meta_batch_size=2, progress=False)
    scores = learner.evaluate(stream, 3).values
    return [*model.get_weights(), scores["loss"], scores["accuracy"]]


@pytest.fixture(scope="module")
def expected():
    return results()


@pytest.mark.parametrize("switch", ["check_numerics", "run_eagerly"])
def test_switches_for_debugging_change_nothing(expected, request, switch):
    request.getfixturevalue(switch)
    for found, wanted in zip(results(), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_hit_rate_is_checked_for_what_the_network_gives(check_numerics):
    labels = tf.constant([0, 1])
    rate = tf.function(hit_rate)
    assert float(rate(labels, tf.constant([[1.0, 0.0], [2.0, 0.0]]))) == 0.5
    with pytest.raises(tf.errors.InvalidArgumentError, match="NaN"):
        rate(labels, tf.constant([[1.0, np.nan], [2.0, 0.0]]))


def test_threads_that_are_set_too_late_are_said_in_words():
    start_tensorflow()  # as before: nothing to change
    if os.cpu_count() == 1:
        pytest.skip("there is nothing to split over")
    with pytest.raises(ConfigError, match="too late.*Call it right after"):
        start_tensorflow(large_ops=True)
