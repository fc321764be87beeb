"""Running bodies: rewards and observations, against MuJoCo step by step."""

import mujoco
import numpy as np
import pytest

from maml_tf.rl.environments import mujoco_models, runners
from maml_tf.rl.environments.registry import environment_spec

NAMES = ("cheetah_vel", "cheetah_dir", "ant_vel", "ant_dir")
MODELS = {"cheetah": mujoco_models.half_cheetah, "ant": mujoco_models.ant}
STEPS = 50


class Row:
    """One row as plain MuJoCo calls, written from the paper's definitions."""

    def __init__(self, name, goal, position, velocity):
        body, self.goal_is = name.split("_")
        self.is_ant = body == "ant"
        self.goal = goal
        self.model = MODELS[body]().physics
        self.data = mujoco.MjData(self.model)
        self.data.qpos[:], self.data.qvel[:] = position, velocity
        mujoco.mj_forward(self.model, self.data)

    def contacts(self):
        mujoco.mj_rnePostConstraint(self.model, self.data)
        return np.clip(self.data.cfrc_ext.ravel(), -1, 1)

    def observation(self):
        torso = self.data.body("torso")
        if not self.is_ant:
            parts = [self.data.qpos[1:], self.data.qvel, torso.subtree_com]
        else:
            parts = [
                self.data.qpos,
                self.data.qvel,
                self.contacts(),
                torso.xmat,
                torso.subtree_com,
            ]
        return np.concatenate(parts)

    def step(self, action):
        """Observation, reward, and whether the body has fallen."""
        action = np.clip(action, -1, 1)
        self.data.ctrl[:] = action
        mujoco.mj_step(self.model, self.data)
        mujoco.mj_forward(self.model, self.data)
        mujoco.mj_subtreeVel(self.model, self.data)
        speed = self.data.body("torso").subtree_linvel[0]
        if self.goal_is == "vel":
            reward = -abs(speed - self.goal)
        else:
            middle = 1.5 if self.is_ant else 1.0
            reward = speed if self.goal > middle else -speed
        effort = np.sum(action**2)
        if not self.is_ant:
            return self.observation(), reward - 0.05 * effort, False
        reward += 1.05 if self.goal_is == "vel" else 0.05
        reward -= 0.005 * effort + 0.0005 * np.sum(self.contacts() ** 2)
        height = self.data.qpos[2]
        return self.observation(), reward, not 0.2 <= height <= 1.0


def start(name, goals, seed=2):
    """An environment and its first observations."""
    environment = environment_spec(name).build()
    tasks = np.asarray(goals, float)[:, None]
    return environment, environment.reset(tasks, np.random.default_rng(seed))


@pytest.mark.parametrize("name", NAMES)
def test_batches_equal_plain_mujoco(name):
    """And show the state after a step, though sensors lag behind."""
    goals = [0.3, 1.9, 0.3]
    environment, first = start(name, goals, seed=2)
    model = MODELS[name.split("_")[0]]()
    # Positions, then velocities, with noise of 0.01 and 0.1.
    size = (len(goals), model.physics.nq + model.physics.nv)
    noise = np.random.default_rng(2).normal(size=size)
    rows = [
        Row(
            name,
            goal,
            model.start + 0.01 * noise[i, : model.physics.nq],
            0.1 * noise[i, model.physics.nq :],
        )
        for i, goal in enumerate(goals)
    ]
    np.testing.assert_array_equal(
        environment.poses, [row.data.qpos for row in rows]
    )
    np.testing.assert_allclose(
        first, [row.observation() for row in rows], rtol=1e-6, atol=1e-7
    )
    rng = np.random.default_rng(3)
    done = np.zeros(len(goals), bool)
    touched = False
    for _ in range(STEPS):
        actions = 0.7 * rng.normal(size=(len(goals), environment.action_dim))
        found = environment.step(actions)
        for i in np.flatnonzero(~done):
            observation, reward, done[i] = rows[i].step(actions[i])
            np.testing.assert_allclose(
                found.observations[i], observation, rtol=1e-6, atol=1e-7
            )
            np.testing.assert_allclose(found.rewards[i], reward, atol=1e-12)
            np.testing.assert_allclose(
                environment.poses[i], rows[i].data.qpos, atol=1e-12
            )
            touched = touched or rows[i].data.ncon > 0
        np.testing.assert_array_equal(found.done, done)
    assert touched


@pytest.mark.parametrize(
    ("name", "low", "high", "effort", "survival"),
    [
        ("cheetah_dir", 0.99, 1.01, 0.05 * 6, 0.0),
        ("ant_dir", 1.49, 1.51, 0.005 * 8, 0.05),
    ],
)
def test_opposite_ways_share_all_but_the_sign_of_speed(
    name, low, high, effort, survival
):
    rewards = []
    for goal in (low, high):
        environment, _ = start(name, [goal])
        actions = np.full((1, environment.action_dim), 3.0)  # Clipped to 1.
        step = environment.step(actions)
        rewards.append(step.rewards[0])
    # None in the cheetah, where the slice is empty.
    contacts = 0.0005 * np.sum(step.observations[:, 29:113] ** 2.0)
    assert rewards[0] != rewards[1]
    np.testing.assert_allclose(
        sum(rewards), 2 * (survival - effort - contacts), atol=1e-8
    )


def test_the_reward_of_a_speed():
    """Goals far above the speed v: the reward is v - goal."""
    environment, first = start("cheetah_vel", [1.6, 1.9])
    step = environment.step(np.zeros((2, environment.action_dim)))
    moved = step.observations[:, -3] - first[:, -3]  # Centre of mass, x.
    speed = moved / 0.01
    np.testing.assert_allclose(step.rewards, speed - [1.6, 1.9], atol=0.02)


@pytest.mark.parametrize("height", [0.15, 1.05])
def test_an_ant_off_its_heights_has_fallen(height, monkeypatch):
    pose = list(mujoco_models.ANT_START)
    pose[2] = height
    monkeypatch.setattr(mujoco_models, "ANT_START", pose)
    environment, _ = start("ant_vel", [1.0])
    step = environment.step(np.zeros((1, 8)))
    assert step.done.all()
    assert not step.unstable.any()
    # The last step is paid like any other.
    assert step.rewards[0] != 0.0


@pytest.mark.parametrize("name", ["cheetah_vel", "ant_dir"])
@pytest.mark.parametrize("speed", [1e5, 1e8, 1e12])
def test_a_body_that_breaks_down_is_done_and_alone(name, speed, monkeypatch):
    """Other rows do not depend on it."""
    goals = np.array([[0.5], [1.0], [1.5]])
    broken = np.array([False, True, False])
    found = []
    for noise in (runners.VELOCITY_NOISE, speed):
        environment, _ = start(name, goals[:, 0])
        with monkeypatch.context() as patch:
            patch.setattr(runners, "VELOCITY_NOISE", noise)
            environment.restart(broken, goals, np.random.default_rng(0))
        pose = environment.poses[1]
        rng = np.random.default_rng(1)
        actions = rng.normal(size=(4, 3, environment.action_dim))
        found.append([environment.step(a) for a in actions])
    for sound, hurt in zip(*found, strict=True):
        for one, other in zip(sound, hurt, strict=True):
            np.testing.assert_array_equal(one[~broken], other[~broken])
    steps = found[1]
    assert steps[0].unstable.tolist() == broken.tolist()
    assert not any(step.unstable.any() for step in steps[1:])
    for step in steps:
        assert step.done[1]
        assert step.rewards[1] == 0.0
        assert np.isfinite(step.observations).all()
    np.testing.assert_array_equal(environment.poses[1], pose)
    again = environment.restart(broken, goals, np.random.default_rng(0))
    assert np.abs(again[1]).max() < 2.0
    assert not environment.step(actions[0]).done.any()


def test_mujoco_keeps_quiet(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runners, "VELOCITY_NOISE", 1e12)
    environment, _ = start("ant_vel", [1.0])
    assert environment.step(np.zeros((1, 8))).unstable.all()
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
