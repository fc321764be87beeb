"""2D navigation: a point that must find its goal (section 5.3).

The paper's text says that the reward is the negative squared distance. The
rollouts stored with the original code used the plain distance, which alone
explains the returns that the paper reports.
"""

import pathlib

import numpy as np

from maml_tf.rl.environments.base import EpisodicEnvironment, Step
from maml_tf.rl.environments.spec import Demonstration, EnvironmentSpec

MAX_MOVE = 0.1
ARRIVAL = 0.01


class Point(EpisodicEnvironment):
    """Position in the plane, moved by up to 0.1 along each axis per step.

    An observation is the position, at first (0, 0). The reward is the
    negative distance to the goal after the move. An episode ends when both
    coordinates are within 0.01 of the goal's.
    """

    observation_dim = 2
    action_dim = 2
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
        del rng  # Every episode starts at the same place.
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


def _draw(stem: pathlib.Path, shown: Demonstration) -> None:
    # Matplotlib takes a second to import.
    from maml_tf.rl.environments.paths import draw_paths

    draw_paths(stem, shown, reach=0.9)


# The settings are those of the original's script (docs/rl.md); the returns,
# figure 4 and the table of appendix C (see locomotion.py).
POINT = EnvironmentSpec(
    name="point",
    make=Point,
    joint_iterations=100,
    settings={
        "metatrain_iterations": 100,
        "meta_batch_size": 20,
        "alpha": 0.5,
        "horizon": 100,
    },
    evaluation_rollouts=40,
    evaluation_updates=4,
    published={
        "maml": (
            (-40.41, 4.06), (-11.68, 2.19), (-3.33, 0.56), (-3.23, 0.58),
            (-3.35, 0.60),
        ),
        "pretrained": (
            (-40.81, 4.09), (-19.73, 3.03), (-11.72, 1.67), (-8.47, 0.54),
            (-7.49, 0.38),
        ),
        "random": (
            (-82.66, 2.19), (-57.96, 1.86), (-53.84, 1.64), (-46.81, 1.30),
            (-42.91, 1.29),
        ),
        "oracle": ((-2.29, 0.14),),
    },
    draw=_draw,
)  # fmt: skip

SPECS = (POINT,)
