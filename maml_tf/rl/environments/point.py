"""2D navigation: a point that has to find its goal (section 5.3).

The paper's text says that the reward is the negative squared distance. The
rollouts stored with the original code were made with the plain distance, and
only it explains the returns that the paper reports.
"""

import numpy as np

from maml_tf.rl.environments.base import EpisodicEnvironment, Step

MAX_MOVE = 0.1
ARRIVAL = 0.01


class Point(EpisodicEnvironment):
    """Position in the plane, moved by up to 0.1 along each axis per step.

    An observation is the position, at first (0, 0). A reward is the negative
    distance to the goal after the move. An episode ends where both
    coordinates are closer than 0.01 to the goal's.
    """

    name = "point"
    observation_dim = 2
    action_dim = 2
    horizon = 100
    task_dim = 2
    ends_early = True
    task_low = -0.5
    task_high = 0.5

    def goal_features(self, tasks):
        return np.asarray(tasks, "float32")

    def _allocate(self, count):
        super()._allocate(count)
        self._positions = np.zeros((count, 2))

    def _begin(self, rows, rng):
        del rng  # Every episode begins at the same place.
        self._positions[rows] = 0.0
        return self._positions[rows]

    def _advance(self, rows, actions):
        self._positions[rows] += MAX_MOVE * actions
        offsets = self._positions[rows] - self._tasks[rows]
        return Step(
            observations=self._positions[rows],
            rewards=-np.hypot(offsets[:, 0], offsets[:, 1]),
            done=(np.abs(offsets) < ARRIVAL).all(axis=1),
            unstable=np.zeros(len(rows), bool),
        )
