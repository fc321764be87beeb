"""Parameter averages: the paper's multi-task baselines, by closed forms."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import command
from test_methods import number, towards

from maml_tf.core.network import Network
from maml_tf.errors import ConfigError
from maml_tf.experiments.run_directory import RunDirectory
from maml_tf.methods.averages import ParameterAverages
from maml_tf.models import dense_net
from maml_tf.training.checkpoints import Checkpoints


@pytest.mark.parametrize(
    ("penalty", "expected"), [("none", 2.0), ("l2", 1.0), ("mean", 13 / 12)]
)
def test_optima_0_2_4(penalty, expected):
    """(theta - c)^2 and a penalty of strength 1; the mean of three networks."""
    network = number()
    method = ParameterAverages(
        penalty=penalty,
        penalty_strength=1.0,
        target_loss=0.0,
        fit_rate=0.02,
        most_updates=1500,
    ).bind(network)
    (initial,) = method.carried(network)
    step = tf.function(
        lambda theta, task, i: (
            method.task_gradient(
                network, [theta, initial.value], task, i
            ).gradient
        ),
        autograph=False,
    )
    rate = method.outer_rate(0.001)
    theta = tf.constant([[9.0]])
    for i, center in enumerate((0, 2, 4)):
        (gradient,) = step(theta, towards(center), tf.constant(i))
        theta -= rate(i) * gradient
    assert float(theta[0, 0]) == pytest.approx(expected, abs=2e-3)


def test_networks_begin_from_different_random_weights_and_stop_in_time():
    network = Network(
        dense_net(1, (4,), 1), lambda y, x: tf.reduce_mean(tf.square(y - x))
    )
    method = ParameterAverages(most_updates=1).bind(network)
    theta = network.theta
    params = [*theta, *[v.value for v in method.carried(network)]]
    starts = []
    for i in (0, 1, 1):
        found = method.task_gradient(
            network, params, towards(3), tf.constant(i)
        )
        for before, after in zip(params[4:], found.carried, strict=True):
            np.testing.assert_array_equal(before, after)
        starts.append((theta[2] - found.gradient[2]).numpy())  # after an update
        np.testing.assert_allclose(
            np.sort(starts[-1], axis=None),
            np.sort(theta[2], axis=None),
            atol=0.0021,
        )
    assert np.any(starts[0] != starts[1])
    np.testing.assert_array_equal(starts[1], starts[2])
    near = ParameterAverages(target_loss=1e9).bind(network)
    found = near.task_gradient(network, params, towards(3), tf.constant(0))
    assert found.losses["pre_update"] == found.losses["post_update"]


def test_settings_that_make_no_sense_are_refused():
    for settings in (
        {"penalty": "l1"},
        {"penalty_strength": 0.0},
        {"fit_rate": -1.0},
        {"most_updates": 0},
    ):
        with pytest.raises(ConfigError, match=next(iter(settings))):
            ParameterAverages(**settings)


def test_the_command_line_keeps_the_mean_and_goes_on(tmp_path):
    def train(logdir, iterations):
        command(
            f"--logdir={tmp_path / logdir}",
            "--method=averages",
            "--penalty=mean",
            "--most_updates=3",
            "--compare=False",
            f"--metatrain_iterations={iterations}",
            "--test_tasks=2",
            "--log=False",
        )
        (run,) = (tmp_path / logdir).iterdir()
        opened = RunDirectory.open(run)
        assert opened.config.meta_batch_size == 1
        experiment = opened.source.build(opened.config, run)
        Checkpoints(opened.checkpoints, experiment.learned).restore_latest()
        return experiment.model.get_weights()

    whole = train("a", 3)
    train("b", 2)
    for a, b in zip(whole, train("b", 3), strict=True):
        np.testing.assert_array_equal(a, b)
