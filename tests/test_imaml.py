"""iMAML: closed forms on quadratics, finite differences through the minimum."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_maml_options import by_differences, one_task, small
from test_methods import blobs

from maml_tf.core.losses import squared_error
from maml_tf.core.network import Network
from maml_tf.errors import ConfigError
from maml_tf.learner.learner import Learner
from maml_tf.methods.imaml import ImplicitMAML


def with_ones(x):
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def test_least_squares(float64):
    """L is quadratic: the minimum and its derivative are known."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    network, task = Network(model, squared_error), one_task()
    method = ImplicitMAML(0.25, 80, strength=2.0, cg_steps=3).bind(network)
    theta = [tf.constant([[1.0], [-2.0]], "float64"), tf.ones(1, "float64")]
    start = np.array([[1.0], [-2.0], [1.0]])
    x, y = with_ones(task.support.inputs), task.support.targets.numpy()
    system = 2 / 4 * x.T @ x + 2.0 * np.eye(3)
    minimum = np.linalg.solve(system, 2 / 4 * x.T @ y + 2.0 * start)
    state = method.begin(network, theta, task.support)
    for _ in range(80):
        state, _ = method.update(network, state, task.support, 0.25)
    found = np.concatenate([state.theta[0], state.theta[1][None]])
    np.testing.assert_allclose(found, minimum, rtol=1e-8)
    x, y = with_ones(task.query.inputs), task.query.targets.numpy()
    slope = 2 / 4 * x.T @ (x @ minimum - y)
    expected = 2.0 * np.linalg.solve(system, slope)
    result = method.task_gradient(network, theta, task)
    found = np.concatenate([result.gradient[0], result.gradient[1][None]])
    np.testing.assert_allclose(found, expected, rtol=1e-7)
    loss = float(result.losses["post_update"])
    assert loss == pytest.approx(np.mean((x @ minimum - y) ** 2))


@pytest.mark.parametrize("head_alone", [True, False])
def test_finite_differences_through_the_minimum(head_alone, float64):
    """Weights that do not adapt move the minimum, too."""
    network, task = small(), one_task()
    method = ImplicitMAML(
        0.2,
        80,
        adapts=lambda v: not head_alone or v.shape[-1] == 1,
        strength=4.0,
        cg_steps=13,
    ).bind(network)
    by_differences(
        method,
        network,
        network.theta,
        task,
        lambda p: method.task_gradient(network, p, task).losses["post_update"],
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strength": 0.0}, "strength must be a positive number"),
        ({"cg_steps": 0}, "cg_steps must be a whole number"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        ImplicitMAML(**settings)


def classifier():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Reshape((1, 1, 2)),
            keras.layers.Conv2D(8, 1, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )


def test_it_learns_is_saved_and_exported(tmp_path):
    learner = Learner(
        classifier(),
        "sparse_categorical_crossentropy",
        method=ImplicitMAML(0.2, 5, strength=1.0),
        metrics=["accuracy"],
    )
    learner.fit(
        blobs(3),
        40,
        meta_batch_size=2,
        optimizer=keras.optimizers.Adam(0.01),
        progress=False,
    )
    accuracies = learner.evaluate(blobs(3), 20).values["accuracy"].mean(axis=0)
    assert accuracies[-1] > accuracies[0] + 0.2
    learner.save(tmp_path / "saved")
    learner.export(tmp_path / "exported")
    loaded = Learner.load(tmp_path / "saved")
    assert loaded.method == learner.method
    task = tf.nest.map_structure(lambda x: x[0], blobs(3).tasks(0, 1))
    expected = learner.adapt(*task.support).predict(task.query.inputs)
    np.testing.assert_array_equal(
        loaded.adapt(*task.support).predict(task.query.inputs), expected
    )
    served = tf.saved_model.load(tmp_path / "exported").signatures
    state = served["adapt"](
        support_inputs=tf.constant(task.support.inputs),
        support_targets=tf.constant(task.support.targets, tf.int32),
        num_updates=tf.constant(5),
    )
    found = served["predict_adapted"](
        **state, query_inputs=tf.constant(task.query.inputs)
    )
    np.testing.assert_allclose(found["logits"], expected, rtol=1e-3, atol=1e-4)
