"""The context vector: what adapts, closed forms, networks that have one."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import command, error_of
from test_maml_options import adapted, by_differences, one_task, query_losses

from maml_tf.core.losses import squared_error
from maml_tf.core.network import Network
from maml_tf.errors import ConfigError
from maml_tf.experiments.registry import find_source
from maml_tf.experiments.run_directory import RunDirectory
from maml_tf.layers.context import Context, with_context
from maml_tf.learner.learner import Learner
from maml_tf.methods.context import ContextVector, in_context
from maml_tf.models import conv_net


def network(hidden=True):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(3, "tanh")] if hidden else []
    model = keras.Sequential(
        [keras.Input((2,)), Context(2), *layers, keras.layers.Dense(1)]
    )
    return Network(model, squared_error)


def test_the_layer_gives_all_examples_the_same_channels():
    layer = Context(2)
    x = np.random.default_rng(0).normal(size=(3, 4, 5, 1)).astype("f")
    layer.build(x.shape)
    z = np.random.default_rng(1).normal(size=(4, 5, 2)).astype("f")
    layer.context.assign(z)
    y = layer(x).numpy()
    np.testing.assert_array_equal(y[..., :1], x)
    np.testing.assert_array_equal(y[..., 1:], [z] * 3)
    again = Context.from_config(layer.get_config())
    assert again.size == 2


def test_a_linear_network_by_hand(float64):
    """y = x w + z v + b: an update moves z along v times the mean error."""
    net, task = network(hidden=False), one_task()
    method = ContextVector(0.1, 1).bind(net)
    theta = net.theta
    kernel = theta[1].numpy()
    residuals = (
        task.support.inputs.numpy() @ kernel[:2] - task.support.targets.numpy()
    )
    found = adapted(method, net, theta, task, 1)
    np.testing.assert_allclose(
        found[0], -0.1 * 2 * np.mean(residuals) * kernel[2:, 0], rtol=1e-9
    )
    for before, after in zip(theta[1:], found[1:], strict=True):
        np.testing.assert_array_equal(before, after)


def test_weights_of_zero_for_the_context_leave_it(float64):
    net, task = network(), one_task()
    method = ContextVector(0.1, 2).bind(net)
    theta = net.theta
    theta[1] = tf.concat([theta[1][:2], tf.zeros((2, 3), "float64")], axis=0)
    for before, after in zip(
        theta, adapted(method, net, theta, task, 2), strict=True
    ):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("zero", [False, True])
def test_finite_differences(zero, float64):
    net, task = network(), one_task()
    method = ContextVector(0.1, 2, zero_context=zero).bind(net)
    theta = [tf.constant([0.3, -0.2], "float64"), *net.theta[1:]]
    by_differences(
        method,
        net,
        theta,
        task,
        lambda p: query_losses(method, net, p, task)[-1],
    )
    gradient = method.task_gradient(net, theta, task).gradient
    assert np.any(gradient[0]) != zero


def test_networks_of_images_have_a_map():
    model = with_context(conv_net((28, 28, 1), 5, 4), 3)
    assert model.trainable_variables[0].shape == (28, 28, 3)
    assert model.trainable_variables[1].shape == (3, 3, 4, 4)
    assert sum(in_context(model)) == 1
    source = find_source("glyphs")
    config = source.configure(method="context", num_filters=4)
    assert config.meta_method.context_size == 5
    experiment = source.build(config, None)
    assert isinstance(experiment.model.layers[0], Context)


def test_the_command_line_trains_and_exports_it(tmp_path):
    command(
        f"--logdir={tmp_path / 'logs'}",
        "--method=context",
        "--context_size=2",
        "--compare=False",
        "--metatrain_iterations=2",
        "--meta_batch_size=2",
        "--test_tasks=2",
        "--log=False",
    )
    (run,) = (tmp_path / "logs").iterdir()
    assert RunDirectory.open(run).config.method_settings["context_size"] == 2
    command(
        "--train=False",
        f"--run_dir={run}",
        f"--export_dir={tmp_path / 'exported'}",
    )
    served = tf.saved_model.load(tmp_path / "exported").signatures
    state = served["adapt"](
        support_inputs=tf.ones((3, 1)),
        support_targets=tf.ones((3, 1)),
        num_updates=tf.constant(1),
    )
    assert {name: x.shape for name, x in state.items()} == {
        "context_context": (2,)
    }


def test_a_network_without_context_is_refused():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    with pytest.raises(ConfigError, match=r"begin with maml_tf.Context\(size"):
        Learner(model, "mse", method=ContextVector())


def test_what_does_not_go_with_it_is_refused():
    assert "Leave out adapts, --head_only" in error_of(
        "--method=context", "--head_only"
    )
