import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import command, train

from maml_tf.core.maml import inner_update
from maml_tf.rl.advantages import experience
from maml_tf.rl.config import RLConfig
from maml_tf.rl.export import export_policy
from maml_tf.rl.learner import PolicyLearner
from maml_tf.rl.linearization import stack
from maml_tf.rl.losses import Experience, reinforce

STEP_SIZE = 0.3


@pytest.fixture(scope="module")
def experiment():
    experiment = PolicyLearner(RLConfig.for_environment("point", horizon=30))
    experiment.policy.log_std.assign([-0.5, 0.2])
    return experiment


@pytest.fixture(scope="module")
def rollouts(experiment):
    # A goal so near that episodes end early, too.
    goals = np.full((1, 6, 2), 0.02)
    ((found, _),) = experiment.adapt(goals, [], np.random.default_rng(0))
    assert found.num_episodes()[0] > 6
    return found


@pytest.fixture(scope="module")
def path(experiment, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "policy"
    export_policy(path, experiment.policy)
    return path


def done(rollouts):
    mask = rollouts.mask[0]
    return {
        "observations": rollouts.observations[0, mask],
        "actions": rollouts.actions[0, mask],
        "rewards": rollouts.rewards[0, mask].astype("float32"),
        "times": rollouts.times[0, mask].astype("int32"),
        "step_size": np.float32(STEP_SIZE),
    }


def test_it_adapts_and_acts_like_the_experiment(experiment, rollouts, path):
    signatures = tf.saved_model.load(str(path)).signatures
    policy = experiment.policy
    data = Experience(*map(tf.constant, experience(rollouts)))
    theta = stack(experiment.theta, 1)
    weights = {}
    seen = rollouts.observations[0, :7]
    for name in ("adapt", "adapt_further"):
        theta, _ = inner_update(reinforce(policy), theta, data, STEP_SIZE)
        weights = signatures[name](**done(rollouts), **weights)
        found = signatures["act_adapted"](observations=seen, **weights)
        np.testing.assert_allclose(
            found["means"],
            policy.means(theta, seen[None])[0],
            rtol=1e-4,
            atol=1e-5,
        )
        np.testing.assert_allclose(
            found["stds"], np.exp(theta[-1][0]), rtol=1e-4
        )
    before = signatures["act"](observations=seen)
    np.testing.assert_allclose(before["stds"], np.exp([-0.5, 0.2]), rtol=1e-6)
    assert np.abs(before["means"] - found["means"]).max() > 1e-3


def test_it_needs_neither_maml_tf_nor_keras(experiment, path, tmp_path):
    script = """
import sys
for name in ("maml_tf", "keras", "tensorflow_probability"):
    sys.modules[name] = None
import tensorflow as tf
act = tf.saved_model.load(sys.argv[1]).signatures["act"]
print(act(observations=tf.constant([[0.1, -0.2]]))["means"].numpy().tolist())
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    means = experiment.policy.mean(np.array([[0.1, -0.2]], "float32"))
    np.testing.assert_allclose(
        json.loads(done.stdout.splitlines()[-1]), means, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"times": np.arange(1, 4, dtype="int32")}, "count the steps of whole"),
        ({"rewards": np.zeros(2, "float32")}, "as many samples"),
        ({"rewards": np.full(3, np.nan, "float32")}, "must be finite"),
        ({"observations": np.zeros((3, 5), "float32")}, "not compatible"),
    ],
)
def test_bad_data_is_refused_in_words(path, change, message):
    adapt = tf.saved_model.load(str(path)).signatures["adapt"]
    data = {
        "observations": np.zeros((3, 2), "float32"),
        "actions": np.zeros((3, 2), "float32"),
        "rewards": np.zeros(3, "float32"),
        "times": np.arange(3, dtype="int32"),
        "step_size": np.float32(0.1),
    }
    adapt(**data)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        adapt(**{n: tf.constant(x) for n, x in (data | change).items()})


def test_a_run_is_exported_from_the_command_line(tmp_path, capsys):
    flags = (
        "--datasource=point",
        "--horizon=5",
        "--meta_batch_size=2",
        "--update_batch_size=2",
        f"--logdir={tmp_path}",
    )
    train(tmp_path, *flags, "--outer_step=vpg", "--metatrain_iterations=1")
    exported = tmp_path / "exported"
    command(
        *flags, "--outer_step=vpg", "--train=False", f"--export_dir={exported}"
    )
    assert '["act"](observations=...)' in capsys.readouterr().out
    signatures = tf.saved_model.load(str(exported)).signatures
    assert set(signatures) == {
        "act",
        "adapt",
        "adapt_further",
        "act_adapted",
        "serving_default",
    }
    seen = tf.ones([3, 2])
    rows = signatures["serving_default"](observations=seen)
    found = signatures["act"](observations=seen)
    np.testing.assert_array_equal(rows["means"], found["means"])
    np.testing.assert_array_equal(rows["stds"], [found["stds"]] * 3)
