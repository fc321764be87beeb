"""Records rollouts for figures."""

import numpy as np

from maml_tf.rl.environments.base import Environment, Wrapper

# Poses [steps, ...] before each step of one episode.
Episode = np.ndarray


class Recording(Wrapper):
    """An environment that records the poses of all rows."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._poses: list[list[list[np.ndarray]]] = []
        self._live = np.zeros(0, bool)

    def episodes(self) -> list[list[Episode]]:
        """The episodes of each row since `reset`, in order."""
        return [
            [np.stack(poses) for poses in row if poses] for row in self._poses
        ]

    def reset(self, tasks, rng):
        self._poses = [[[]] for _ in tasks]
        self._live = np.ones(len(tasks), bool)
        return super().reset(tasks, rng)

    def restart(self, rows, tasks, rng):
        for row in np.flatnonzero(rows):
            self._poses[row].append([])
        self._live = self._live | rows
        return super().restart(rows, tasks, rng)

    def finish(self, rows):
        self._live = self._live & ~rows
        super().finish(rows)

    def step(self, actions):
        poses = self.poses
        for row in np.flatnonzero(self._live):
            self._poses[row][-1].append(poses[row])
        step = super().step(actions)
        self._live = ~step.done
        return step
