"""Properties of every environment: rows, goals, names."""

import sys

import numpy as np
import pytest

from maml_tf.errors import ConfigError
from maml_tf.rl.environments.base import EpisodicEnvironment, Step, WithGoal
from maml_tf.rl.environments.recording import Recording
from maml_tf.rl.environments.registry import ENVIRONMENTS, environment_spec

GOALS = {
    "point": (2, -0.5, 0.5, 1),
    "cheetah_vel": (1, 0.0, 2.0, 1),
    "cheetah_dir": (1, 0.0, 2.0, 1),
    "ant_vel": (1, 0.0, 3.0, 1),
    "ant_dir": (1, 0.0, 3.0, 2),
}


def make_environment(name):
    return environment_spec(name).build()


@pytest.fixture
def rng():
    return np.random.default_rng(3)


class Counter(EpisodicEnvironment):
    """Counts actions up; breaks down above its goal, is done at it."""

    observation_dim = action_dim = task_dim = 1
    ends_early = True
    task_low, task_high = 1.0, 2.0

    def goal_features(self, tasks):
        return np.asarray(tasks, "float32")

    def _allocate(self, count):
        super()._allocate(count)
        self.counts = np.zeros(count)
        self.simulated = []

    def _begin(self, rows, rng):
        self.counts[rows] = rng.uniform(0.0, 0.1, len(rows))
        return self.counts[rows, None]

    def _advance(self, rows, actions):
        self.simulated.append(list(rows))
        self.counts[rows] += actions[:, 0]
        excess = self.counts[rows] - self._tasks[rows, 0]
        unstable = excess > 0.5
        self.counts[rows[unstable]] = np.nan
        return Step(self.counts[rows, None], -excess, excess >= 0.0, unstable)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_goals(name, rng):
    size, low, high, seed = GOALS[name]
    environment = make_environment(name)
    goals = environment.sample_tasks(rng, 1000)
    assert goals.shape == (1000, environment.task_dim) == (1000, size)
    width = high - low
    assert low <= goals.min() < low + 0.02 * width
    assert high - 0.02 * width < goals.max() <= high
    # numpy's legacy generator, as the original's evaluation seeds it.
    state = np.random.RandomState(seed)
    np.testing.assert_array_equal(
        environment.test_tasks(40), state.uniform(low, high, (40, size))
    )
    np.testing.assert_array_equal(
        environment.test_tasks(7), environment.test_tasks(40)[:7]
    )


def test_first_test_goals_of_the_point_are_known():
    # RandomState(1) begins with 0.417022, 0.720324.
    np.testing.assert_allclose(
        make_environment("point").test_tasks(1),
        [[-0.082978, 0.220324]],
        atol=1e-6,
    )


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_shapes_and_types(name, rng):
    environment = make_environment(name)
    tasks = environment.sample_tasks(rng, 3)
    shape = (3, environment.observation_dim)
    observations = environment.reset(tasks, rng)
    assert (observations.shape, observations.dtype) == (shape, np.float32)
    step = environment.step(np.zeros((3, environment.action_dim), "float32"))
    assert step.observations.shape == shape
    assert step.observations.dtype == np.float32
    assert step.rewards.shape == step.done.shape == step.unstable.shape == (3,)
    assert (step.done.dtype, step.unstable.dtype) == (bool, bool)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_actions_are_clipped(name, rng):
    found = []
    for scale in (1.0, 5.0):
        environment = make_environment(name)
        random = np.random.default_rng(8)
        environment.reset(environment.test_tasks(2), random)
        found.append(
            environment.step(np.full((2, environment.action_dim), scale))
        )
    np.testing.assert_array_equal(found[0].observations, found[1].observations)
    np.testing.assert_array_equal(found[0].rewards, found[1].rewards)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_restart_leaves_other_rows_untouched(name):
    """Two runs, one with a restart: rows that continue see no difference."""
    found = []
    for restarts in (False, True):
        environment = make_environment(name)
        tasks = environment.test_tasks(4)
        environment.reset(tasks, np.random.default_rng(5))
        random = np.random.default_rng(6)
        for _ in range(3):
            last = environment.step(
                0.1 * random.normal(size=(4, environment.action_dim))
            ).observations
        if restarts:
            rows = np.array([True, False, False, True])
            first = environment.restart(
                rows, tasks[::-1], np.random.default_rng(7)
            )
            np.testing.assert_array_equal(first[1:3], last[1:3])
            assert (first[[0, 3]] != last[[0, 3]]).any(axis=1).all()
        found.append(environment.step(np.zeros((4, environment.action_dim))))
    without, with_ = found
    for one, other in zip(without, with_, strict=True):
        np.testing.assert_array_equal(one[1:3], other[1:3])
    # The restarted rows have other goals, and start over.
    assert (without.rewards[[0, 3]] != with_.rewards[[0, 3]]).all()


def test_rows_that_are_done_are_left_alone(rng):
    environment = Counter()
    environment.reset(np.array([[1.0], [2.0]]), rng)
    first = environment.step(np.array([[1.0], [1.0]]))
    second = environment.step(np.array([[1.0], [0.5]]))
    assert first.done.tolist() == second.done.tolist() == [True, False]
    assert first.rewards[0] != 0.0
    assert second.rewards[0] == 0.0
    np.testing.assert_array_equal(first.observations[0], second.observations[0])
    assert environment.simulated == [[0, 1], [1]]
    restarted = environment.restart(second.done, np.array([[2.0], [9.0]]), rng)
    assert restarted[0] < 0.1
    third = environment.step(np.array([[1.0], [0.5]]))
    assert third.done.tolist() == [False, True]  # Row 1 kept its goal, 2.


def test_rows_that_are_finished_are_left_alone(rng):
    environment = Counter()
    environment.reset(np.array([[9.0], [9.0]]), rng)
    environment.finish(np.array([True, False]))
    step = environment.step(np.array([[1.0], [1.0]]))
    assert step.done.tolist() == [True, False]
    assert environment.simulated == [[1]]


def test_a_broken_row_is_done_and_shows_its_last_state(rng):
    environment = Counter()
    before = environment.reset(np.array([[0.2], [5.0]]), rng)
    step = environment.step(np.ones((2, 1)))
    assert step.unstable.tolist() == step.done.tolist() == [True, False]
    assert step.rewards[0] == 0.0
    assert step.observations[0] == before[0]
    after = environment.step(np.ones((2, 1)))
    assert after.unstable.tolist() == [False, False]
    assert after.done.tolist() == [True, False]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_action_that_is_no_number_ends_its_episode_only(value, rng):
    environment = make_environment("point")
    environment.reset(np.full((2, 2), 0.4), rng)
    step = environment.step(np.array([[0.5, value], [0.5, 0.5]]))
    assert step.unstable.tolist() == step.done.tolist() == [True, False]
    np.testing.assert_allclose(step.observations, [[0, 0], [0.05, 0.05]])
    assert step.rewards[0] == 0.0


def test_wrong_shapes_are_named(rng):
    environment = make_environment("point")
    with pytest.raises(ValueError, match=r"tasks .*\(3, 2\).*\(3, 1\)"):
        environment.reset(np.zeros((3, 1)), rng)
    environment.reset(np.zeros((3, 2)), rng)
    with pytest.raises(ValueError, match=r"actions .*\(3, 2\).*\(2, 2\)"):
        environment.step(np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("point", [[-0.4, 0.1], [0.2, 0.3]]),
        ("cheetah_vel", [[0.4], [1.7]]),
        ("cheetah_dir", [[-1.0], [1.0]]),
        ("ant_vel", [[0.4], [1.7]]),
        ("ant_dir", [[-1.0], [1.0]]),
    ],
)
def test_the_oracle_sees_its_goal(name, features, rng):
    plain = make_environment(name)
    tasks = np.array(features if name == "point" else [[0.4], [1.7]])
    oracle = WithGoal(make_environment(name))
    size = plain.observation_dim
    assert oracle.observation_dim == size + tasks.shape[1]
    first = oracle.reset(tasks, np.random.default_rng(4))
    np.testing.assert_allclose(first[:, size:], features, rtol=1e-6)
    np.testing.assert_array_equal(
        first[:, :size], plain.reset(tasks, np.random.default_rng(4))
    )
    step = oracle.step(np.zeros((2, plain.action_dim)))
    assert step.observations.dtype == np.float32
    np.testing.assert_allclose(step.observations[:, size:], features, rtol=1e-6)
    restarted = oracle.restart(np.array([True, False]), tasks[::-1], rng)
    np.testing.assert_allclose(
        restarted[:, size:], [features[1], features[1]], rtol=1e-6
    )


def test_a_recording_holds_the_episodes_of_each_row(rng):
    recording = Recording(Counter())
    tasks = np.array([[0.5], [9.0]])
    first = recording.reset(tasks, rng)
    steps = [recording.step(np.full((2, 1), 0.25)) for _ in range(3)]
    assert steps[-1].done.tolist() == [True, False]
    again = recording.restart(steps[-1].done, tasks, rng)
    recording.step(np.full((2, 1), 0.25))
    recording.finish(np.array([False, True]))
    recording.step(np.full((2, 1), 0.25))
    one, other = recording.episodes()
    # Poses before each step: none after the last, none of a row at rest.
    assert [len(episode) for episode in one] == [2, 2]
    assert [len(episode) for episode in other] == [4]
    assert one[0][0] == first[0]
    assert one[0][1] == steps[0].observations[0]
    assert one[1][0] == again[0]
    assert other[0][3] == again[1]


@pytest.mark.parametrize("package", ["mujoco", "gymnasium"])
def test_a_missing_package_is_named(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    assert make_environment("point").task_dim == 2
    with pytest.raises(ConfigError) as caught:
        make_environment("ant_vel")
    assert "the environment ant_vel needs" in str(caught.value)
    assert f"Run `pip install {package}`." in str(caught.value)
