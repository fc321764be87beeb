import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from maml_tf.core.maml import inner_update
from maml_tf.errors import ConfigError
from maml_tf.rl.config import RLConfig
from maml_tf.rl.learner import PolicyLearner
from maml_tf.rl.losses import Experience, reinforce
from maml_tf.rl.policy import GaussianPolicy, policy_net


def stacked(policy, factors):
    return [
        tf.stack([f * v.value for f in factors])
        for v in policy.trainable_variables
    ]


@pytest.fixture
def policy():
    policy = GaussianPolicy(policy_net(3, 2))
    policy.log_std.assign([-1.0, 0.5])
    return policy


@pytest.mark.parametrize(
    ("dims", "count"), [((2, 2), 10604), ((20, 6), 12812), ((125, 8), 23516)]
)
def test_numbers_of_parameters_are_the_originals(dims, count):
    policy = GaussianPolicy(policy_net(*dims))
    assert sum(math.prod(v.shape) for v in policy.trainable_variables) == count


@pytest.mark.parametrize("factors", [(1.0,), (1.0, -2.0)])
def test_each_task_acts_by_its_own_parameters(policy, factors):
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(len(factors), 4, 3)).astype("float32")
    noise = rng.normal(size=(len(factors), 4, 2)).astype("float32")
    actions = policy.act(stacked(policy, factors), observations, noise)
    for task, factor in enumerate(factors):
        copy = keras.models.clone_model(policy.mean)
        copy.set_weights([factor * w for w in policy.mean.get_weights()])
        std = np.exp(factor * policy.log_std.numpy())
        np.testing.assert_allclose(
            actions[task],
            copy(observations[task]) + std * noise[task],
            rtol=2e-5,
            atol=1e-5,
        )


def test_reinforce_by_hand(policy):
    rng = np.random.default_rng(0)
    experience = Experience(
        tf.constant(rng.normal(size=(1, 3, 3)), tf.float32),
        tf.constant(rng.normal(size=(1, 3, 2)), tf.float32),
        tf.constant([[1.0, -2.0, 99.0]]),
        tf.constant([[1.0, 1.0, 0.0]]),
    )
    means = policy.mean(experience.observations[0]).numpy()
    std = np.exp([-1.0, 0.5])
    z = (experience.actions[0].numpy() - means) / std
    log_probs = (-(z**2) / 2 - np.log(std) - np.log(2 * np.pi) / 2).sum(axis=1)
    loss = reinforce(policy)(stacked(policy, [1.0]), experience)
    expected = -(log_probs[0] * 1.0 + log_probs[1] * -2.0) / 2
    np.testing.assert_allclose(loss, [expected], rtol=1e-5)


def test_updates_of_tasks_do_not_mix_and_move_the_deviation(policy):
    rng = np.random.default_rng(0)

    def draw(*shape):
        return tf.constant(rng.normal(size=shape), tf.float32)

    experience = Experience(
        draw(2, 5, 3), draw(2, 5, 2), draw(2, 5), tf.ones((2, 5))
    )
    loss = reinforce(policy)
    together, _ = inner_update(
        loss, stacked(policy, [1.0, 1.0]), experience, 0.1
    )
    for task in range(2):
        only = Experience(*(x[task : task + 1] for x in experience))
        alone, _ = inner_update(loss, stacked(policy, [1.0]), only, 0.1)
        for a, b in zip(together, alone, strict=True):
            np.testing.assert_allclose(a[task], b[0], rtol=1e-4, atol=1e-6)
    assert np.abs(together[-1] - policy.log_std).min() > 1e-4


def test_a_network_of_other_sizes_is_refused():
    config = RLConfig.for_environment("point")
    with pytest.raises(ConfigError, match="takes 2 numbers and returns 2"):
        PolicyLearner(config, policy_net(3, 2))
    with pytest.raises(ValueError, match="must return"):
        GaussianPolicy(
            keras.Sequential([keras.Input((4, 2)), keras.layers.Dense(2)])
        )
