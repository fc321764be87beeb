"""The interface of environments: rows stepped together, each with its goal."""

import abc
from typing import NamedTuple

import numpy as np


class Step(NamedTuple):
    """The outcome of one time step in each of E rows.

    Attributes:
        observations: float32 [E, observation_dim], always finite.
        rewards: float64 [E]; 0 in rows that were done before or are unstable.
        done: bool [E]: the row's episode has ended, in this step or before.
        unstable: bool [E]: the row's simulation broke down in this step, or
            its action was not finite. Such a row is also done.
    """

    observations: np.ndarray
    rewards: np.ndarray
    done: np.ndarray
    unstable: np.ndarray


class Environment(abc.ABC):
    """Many copies of an environment, the rows, stepped together.

    A task is a goal; each row has its own. A row whose episode has ended
    stays as it is until `restart` or `reset`.

    Attributes:
        observation_dim: size of an observation.
        action_dim: size of an action. Actions are in normalized units: the
            environment clips them to [-1, 1].
        task_dim: size of a goal.
        ends_early: whether episodes can end before the horizon, other than
            by a simulation that breaks down.
    """

    observation_dim: int
    action_dim: int
    task_dim: int
    ends_early: bool

    @abc.abstractmethod
    def sample_tasks(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Training goals: float64 [count, task_dim]."""

    @abc.abstractmethod
    def test_tasks(self, count: int) -> np.ndarray:
        """The first `count` held-out goals of a fixed sequence.

        Returns:
            float64 [count, task_dim]; in the paper's environments the first
            40 are the paper's.
        """

    @abc.abstractmethod
    def goal_features(self, tasks: np.ndarray) -> np.ndarray:
        """The goals as the oracle sees them: float32 [count, features]."""

    @property
    @abc.abstractmethod
    def poses(self) -> np.ndarray:
        """The current pose of each row, for figures: float [E, ...]."""

    @abc.abstractmethod
    def reset(self, tasks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Begins an episode in each of E new rows.

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
            rows: bool [E], the rows to restart.
            tasks: [E, task_dim]; read where `rows` is true.
            rng: draws the initial states of these rows.

        Returns:
            The current observations of all rows, float32
            [E, observation_dim].
        """

    @abc.abstractmethod
    def finish(self, rows: np.ndarray) -> None:
        """Marks some rows, bool [E], as done."""

    @abc.abstractmethod
    def step(self, actions: np.ndarray) -> Step:
        """Makes one time step, given unclipped actions [E, action_dim]."""


class EpisodicEnvironment(Environment):
    """An environment that keeps its rows' goals, episodes and observations.

    A subclass adds `goal_features`, `_begin` and `_advance`. The last two see
    live rows only: a row that is done is not simulated, so it costs no time
    and cannot break down.

    Attributes:
        task_low: lower bound of the uniform distribution of goals.
        task_high: its upper bound.
        test_seed: seed of numpy's RandomState for the held-out goals.
    """

    task_low: float
    task_high: float
    test_seed = 1

    def __init__(self) -> None:
        self._allocate(0)

    @abc.abstractmethod
    def _begin(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Sets initial states of rows (indices [n]); returns observations."""

    @abc.abstractmethod
    def _advance(self, rows: np.ndarray, actions: np.ndarray) -> Step:
        """Steps rows (indices [n]) by actions [n, action_dim] in [-1, 1].

        The other values of an unstable row are ignored.
        """

    def sample_tasks(self, rng, count):
        size = (count, self.task_dim)
        return rng.uniform(self.task_low, self.task_high, size)

    def test_tasks(self, count):
        random = np.random.RandomState(self.test_seed)
        size = (count, self.task_dim)
        return random.uniform(self.task_low, self.task_high, size)

    @property
    def poses(self):
        """The observations; a subclass may override this."""
        return self._observations.copy()

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
        """Drops all rows and makes `count` new ones."""
        self._tasks = np.zeros((count, self.task_dim))
        self._done = np.zeros(count, bool)
        self._observations = np.zeros((count, self.observation_dim), "float32")

    def _check(self, name: str, values: np.ndarray, size: int) -> None:
        expected = (len(self._done), size)
        if np.shape(values) != expected:
            raise ValueError(
                f"{type(self).__name__}: expected {name} of shape {expected}, "
                "a row for each goal given to reset(). Received: shape "
                f"{np.shape(values)}."
            )


class Wrapper(Environment):
    """Wraps another environment; subclasses change its behaviour."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self.observation_dim = environment.observation_dim
        self.action_dim = environment.action_dim
        self.task_dim = environment.task_dim
        self.ends_early = environment.ends_early

    def sample_tasks(self, rng, count):
        return self._environment.sample_tasks(rng, count)

    def test_tasks(self, count):
        return self._environment.test_tasks(count)

    def goal_features(self, tasks):
        return self._environment.goal_features(tasks)

    @property
    def poses(self):
        return self._environment.poses

    def reset(self, tasks, rng):
        return self._environment.reset(tasks, rng)

    def restart(self, rows, tasks, rng):
        return self._environment.restart(rows, tasks, rng)

    def finish(self, rows):
        self._environment.finish(rows)

    def step(self, actions):
        return self._environment.step(actions)


class WithGoal(Wrapper):
    """An environment that shows its goal: the oracle of section 5.3."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._features = self.goal_features(np.zeros((0, self.task_dim)))
        self.observation_dim += self._features.shape[1]

    def reset(self, tasks, rng):
        self._features = self.goal_features(tasks)
        return self._append(super().reset(tasks, rng))

    def restart(self, rows, tasks, rng):
        observations = super().restart(rows, tasks, rng)
        self._features[rows] = self.goal_features(tasks)[rows]
        return self._append(observations)

    def step(self, actions):
        step = super().step(actions)
        return step._replace(observations=self._append(step.observations))

    def _append(self, observations: np.ndarray) -> np.ndarray:
        return np.concatenate([observations, self._features], axis=1)
