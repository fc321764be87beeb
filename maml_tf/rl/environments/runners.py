"""The half-cheetah and the ant, running at a goal speed or in a goal direction.

Section 5.3 of the paper; observations, rewards and ends of episodes are those
of the environments that the original code adds to rllab. Speed means that of
the centre of mass of the whole body along x, after the step.
"""

import abc
import os

import mujoco
import numpy as np
from mujoco.rollout import Rollout

from maml_tf.rl.environments import mujoco_models
from maml_tf.rl.environments.base import EpisodicEnvironment, Step

POSITION_NOISE = 0.01
VELOCITY_NOISE = 0.1
SURVIVAL = 0.05
CONTACT_COST = 0.0005
MIN_HEIGHT, MAX_HEIGHT = 0.2, 1.0
# Bound of a position or velocity (m, rad, s); beyond it the simulation has
# broken down. Motors at full power reach about 30. MuJoCo's own limit is 1e10,
# but the reward of such a body would drown all others of its batch.
MAX_STATE = 1e3


class Runner(EpisodicEnvironment):
    """A body that runs along x; MuJoCo simulates all rows at once.

    Attributes:
        control_cost: factor of the sum of squares of a clipped action.
    """

    task_dim = 1
    task_low = 0.0
    control_cost: float

    def __init__(self, model: mujoco_models.Model, goal_is_direction: bool):
        self._goal_is_direction = goal_is_direction
        self._model = model.physics
        self._sensing = model.sensing
        self._start = model.start
        # A state of MuJoCo is (time, positions, velocities).
        self._qpos = slice(1, 1 + self._model.nq)
        self._qvel = slice(
            1 + self._model.nq, 1 + self._model.nq + self._model.nv
        )
        threads = os.cpu_count() or 1
        self._rollout = Rollout(nthread=threads)
        self._data = [mujoco.MjData(self._model) for _ in range(threads)]
        super().__init__()

    @property
    def poses(self):
        """Generalized positions, float64 [E, nq]."""
        return self._states[:, self._qpos].copy()

    @abc.abstractmethod
    def _observe(self, states: np.ndarray, readings: np.ndarray) -> np.ndarray:
        """Observations [n, observation_dim] from states and sensor readings."""

    @abc.abstractmethod
    def _survival(
        self, observations: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Reward [n] for not falling, and which rows [n] have fallen."""

    def goal_features(self, tasks):
        goals = np.asarray(tasks, "float32")
        return self._direction(goals) if self._goal_is_direction else goals

    def _allocate(self, count):
        super()._allocate(count)
        self._states = np.zeros((count, self._qvel.stop))

    def _begin(self, rows, rng):
        noise = rng.normal(size=(len(rows), self._model.nq + self._model.nv))
        states = np.zeros((len(rows), self._qvel.stop))
        states[:, self._qpos] = (
            self._start + POSITION_NOISE * noise[:, : self._model.nq]
        )
        states[:, self._qvel] = VELOCITY_NOISE * noise[:, self._model.nq :]
        self._states[rows] = states
        rest = np.zeros((len(rows), self.action_dim))
        return self._observe(states, self._measure(states, rest))

    def _advance(self, rows, actions):
        states, _ = self._simulate(self._model, self._states[rows], actions)
        # A comparison with NaN is false.
        unstable = ~(np.abs(states[:, 1:]) < MAX_STATE).all(axis=1)
        states[unstable] = self._states[rows[unstable]]
        self._states[rows] = states
        readings = self._measure(states, actions)
        observations = self._observe(states, readings)
        survival, fallen = self._survival(observations)
        speed = readings[:, mujoco_models.COM_VELOCITY.start]
        goals = self._tasks[rows, 0]
        progress = (
            self._direction(goals) * speed
            if self._goal_is_direction
            else -np.abs(speed - goals)
        )
        effort = self.control_cost * np.square(actions).sum(axis=1)
        return Step(
            observations, progress - effort + survival, fallen, unstable
        )

    def _direction(self, goals: np.ndarray) -> np.ndarray:
        """-1 for the lower half of the goals, 1 for the upper half."""
        middle = (self.task_low + self.task_high) / 2
        return np.where(goals < middle, -1, 1).astype(goals.dtype)

    def _measure(self, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Readings [n, sensors] in the states that the actions led to."""
        _, readings = self._simulate(self._sensing, states, actions)
        return readings

    def _simulate(self, model, states, actions):
        """States after one step, and sensor readings before it."""
        states, readings = self._rollout.rollout(
            model, self._data, states, actions[:, None]
        )
        return states[:, 0], readings[:, 0]


class Cheetah(Runner):
    """The half-cheetah.

    Goals are from U(0, 2): the speed to run at, or the direction, backward
    below 1. An observation is the positions except x, the velocities, and the
    centre of mass. Episodes do not end early.
    """

    observation_dim = 20
    action_dim = 6
    ends_early = False
    task_high = 2.0
    control_cost = 0.05

    def __init__(self, goal_is_direction: bool) -> None:
        super().__init__(mujoco_models.half_cheetah(), goal_is_direction)

    def _observe(self, states, readings):
        return np.concatenate(
            [states[:, 2:], readings[:, mujoco_models.COM]], axis=1
        )

    def _survival(self, observations):
        count = len(observations)
        return np.zeros(count), np.zeros(count, bool)


class Ant(Runner):
    """The ant.

    Goals are from U(0, 3): the speed to run at, or the direction, backward
    below 1.5. An observation is the positions, the velocities, the torques and
    forces of contacts on each body, clipped to [-1, 1], the rotation matrix of
    the torso, and the centre of mass. An episode ends when the torso is lower
    than 0.2 m or higher than 1 m.
    """

    observation_dim = 125
    action_dim = 8
    ends_early = True
    task_high = 3.0
    control_cost = 0.005

    _HEIGHT = 2
    _CONTACTS = slice(29, 113)

    def __init__(self, goal_is_direction: bool) -> None:
        super().__init__(mujoco_models.ant(), goal_is_direction)
        if goal_is_direction:
            self.test_seed = 2
            self._survival_reward = SURVIVAL
        else:
            self._survival_reward = SURVIVAL + 1.0

    def _observe(self, states, readings):
        count = len(states)
        contacts = mujoco_models.contact_forces(readings)
        axes = readings[:, mujoco_models.AXES].reshape(count, 3, 3)
        return np.concatenate(
            [
                states[:, 1:],
                np.clip(contacts.reshape(count, -1), -1.0, 1.0),
                axes.swapaxes(1, 2).reshape(count, 9),
                readings[:, mujoco_models.COM],
            ],
            axis=1,
        )

    def _survival(self, observations):
        contacts = np.square(observations[:, self._CONTACTS]).sum(axis=1)
        height = observations[:, self._HEIGHT]
        return (
            self._survival_reward - CONTACT_COST * contacts,
            (height < MIN_HEIGHT) | (height > MAX_HEIGHT),
        )
