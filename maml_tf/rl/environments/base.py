"""Many environments of one family, stepped together."""

import abc
from typing import NamedTuple

import numpy as np

from maml_tf.errors import ConfigError

ENVIRONMENTS = ("point", "cheetah_vel", "cheetah_dir", "ant_vel", "ant_dir")


class Step(NamedTuple):
    """What one time step brought to each of the E rows.

    Attributes:
        observations: float32 [E, observation_dim], always finite.
        rewards: float64 [E]; 0 in rows that were done before or are unstable.
        done: bool [E], the row's episode has ended, in this step or before.
        unstable: bool [E], the simulation of the row broke down in this step,
            or its action was not finite. Such a row is also done.
    """

    observations: np.ndarray
    rewards: np.ndarray
    done: np.ndarray
    unstable: np.ndarray


class Environment(abc.ABC):
    """Many environments of one family, stepped together (rows).

    A task is a goal; every row may have another one. A row whose episode has
    ended is left alone until `restart` or `reset`.

    Attributes:
        name: the name in ENVIRONMENTS.
        observation_dim: size of an observation.
        action_dim: size of an action. Actions are in normalized units: the
            environment clips them to [-1, 1].
        horizon: default number of steps of a rollout.
        task_dim: size of a goal.
        ends_early: whether episodes can end before the horizon (but for
            simulations that break down).
    """

    name: str
    observation_dim: int
    action_dim: int
    horizon: int
    task_dim: int
    ends_early: bool

    @abc.abstractmethod
    def sample_tasks(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Training goals: float64 [count, task_dim]."""

    @abc.abstractmethod
    def test_tasks(self, count: int) -> np.ndarray:
        """The held-out goals: the first `count` of a fixed sequence.

        Returns:
            float64 [count, task_dim]. The first 40 are those of the paper.
        """

    @abc.abstractmethod
    def goal_features(self, tasks: np.ndarray) -> np.ndarray:
        """What the oracle sees of its goal: float32 [count, features]."""

    @abc.abstractmethod
    def reset(self, tasks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Begins an episode in each of E rows.

        Args:
            tasks: [E, task_dim], the goal of each row.
            rng: draws the initial states.

        Returns:
            The first observations, float32 [E, observation_dim].
        """

    @abc.abstractmethod
    def restart(
        self, rows: np.ndarray, tasks: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Begins an episode in some rows and leaves the others as they are.

        Args:
            rows: bool [E], which ones.
            tasks: [E, task_dim]; read where `rows` is true.
            rng: draws the initial states of these rows.

        Returns:
            The present observations of all rows, [E, observation_dim].
        """

    @abc.abstractmethod
    def finish(self, rows: np.ndarray) -> None:
        """Ends the episodes of some rows, bool [E]: they count as done."""

    @abc.abstractmethod
    def step(self, actions: np.ndarray) -> Step:
        """One time step, given actions [E, action_dim] not yet clipped."""


class EpisodicEnvironment(Environment):
    """Keeps goals, episodes and observations of the rows.

    A family of tasks adds `goal_features` and the two methods below, which
    are given the live rows alone: what is done is not simulated, so it can
    neither cost time nor break down.

    Attributes:
        task_low: lower bound of the uniform distribution of goals.
        task_high: its upper bound.
        test_seed: seed of numpy's RandomState for the held-out goals.
    """

    task_low: float
    task_high: float
    test_seed = 1

    def __init__(self):
        self._allocate(0)

    @abc.abstractmethod
    def _begin(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Sets initial states of rows (indices [n]); returns observations."""

    @abc.abstractmethod
    def _advance(self, rows: np.ndarray, actions: np.ndarray) -> Step:
        """Steps rows (indices [n]) by actions [n, action_dim] in [-1, 1].

        In rows it calls unstable the rest of the result may be anything.
        """

    def sample_tasks(self, rng, count):
        size = (count, self.task_dim)
        return rng.uniform(self.task_low, self.task_high, size)

    def test_tasks(self, count):
        random = np.random.RandomState(self.test_seed)
        size = (count, self.task_dim)
        return random.uniform(self.task_low, self.task_high, size)

    def reset(self, tasks, rng):
        self._allocate(len(tasks))
        return self.restart(np.ones(len(tasks), bool), tasks, rng)

    def restart(self, rows, tasks, rng):
        self._check("tasks", tasks, self.task_dim)
        indices = np.flatnonzero(rows)
        self._tasks[indices] = tasks[indices]
        self._done[indices] = False
        if indices.size:
            self._observations[indices] = self._begin(indices, rng)
        return self._observations.copy()

    def finish(self, rows):
        self._done |= rows

    def step(self, actions):
        actions = np.asarray(actions, "float64")
        self._check("actions", actions, self.action_dim)
        rewards = np.zeros(len(actions))
        unstable = ~self._done & ~np.isfinite(actions).all(axis=1)
        self._done |= unstable
        rows = np.flatnonzero(~self._done)
        if rows.size:
            moved = self._advance(rows, np.clip(actions[rows], -1.0, 1.0))
            unstable[rows] = moved.unstable
            self._done[rows] = moved.done | moved.unstable
            sound = ~moved.unstable
            rewards[rows[sound]] = moved.rewards[sound]
            self._observations[rows[sound]] = moved.observations[sound]
        return Step(
            self._observations.copy(), rewards, self._done.copy(), unstable
        )

    def _allocate(self, count: int) -> None:
        """Forgets all rows and makes room for `count` new ones."""
        self._tasks = np.zeros((count, self.task_dim))
        self._done = np.zeros(count, bool)
        self._observations = np.zeros((count, self.observation_dim), "float32")

    def _check(self, name: str, values: np.ndarray, size: int) -> None:
        expected = (len(self._done), size)
        if np.shape(values) != expected:
            raise ValueError(
                f"{self.name}: expected {name} of shape {expected}, a row for "
                "each goal that reset() was given. Received: shape "
                f"{np.shape(values)}."
            )


class WithGoal(Environment):
    """An environment that shows its goal: the oracle of section 5.3."""

    def __init__(self, environment: Environment):
        self._environment = environment
        self.name = environment.name
        self.action_dim = environment.action_dim
        self.horizon = environment.horizon
        self.task_dim = environment.task_dim
        self.ends_early = environment.ends_early
        self._features = self.goal_features(np.zeros((0, self.task_dim)))
        self.observation_dim = (
            environment.observation_dim + self._features.shape[1]
        )

    def sample_tasks(self, rng, count):
        return self._environment.sample_tasks(rng, count)

    def test_tasks(self, count):
        return self._environment.test_tasks(count)

    def goal_features(self, tasks):
        return self._environment.goal_features(tasks)

    def reset(self, tasks, rng):
        self._features = self.goal_features(tasks)
        return self._append(self._environment.reset(tasks, rng))

    def restart(self, rows, tasks, rng):
        observations = self._environment.restart(rows, tasks, rng)
        self._features[rows] = self.goal_features(tasks)[rows]
        return self._append(observations)

    def finish(self, rows):
        self._environment.finish(rows)

    def step(self, actions):
        step = self._environment.step(actions)
        return step._replace(observations=self._append(step.observations))

    def _append(self, observations: np.ndarray) -> np.ndarray:
        return np.concatenate([observations, self._features], axis=1)


def make_environment(name: str) -> Environment:
    """The environment of a name in ENVIRONMENTS.

    Raises:
        ConfigError: there is no such name, or MuJoCo or the model files of
            Gymnasium, which all but `point` need, are not installed.
    """
    if name not in ENVIRONMENTS:
        raise ConfigError(
            f"Expected an environment: one of {', '.join(ENVIRONMENTS)}. "
            f"Received: {name!r}."
        )
    if name == "point":
        from maml_tf.rl.environments.point import Point

        return Point()
    try:
        from maml_tf.rl.environments import locomotion
    except ModuleNotFoundError as error:
        if error.name != "mujoco":
            raise
        raise missing_package("mujoco") from error
    return locomotion.make(name)


def missing_package(package: str) -> ConfigError:
    """The error to raise where locomotion lacks a Python package."""
    return ConfigError(
        f"Expected the Python package {package}, which the environments of "
        "the cheetah and the ant need. It is not installed. Run `pip install "
        "-r requirements.txt`; the environment point works without it."
    )
