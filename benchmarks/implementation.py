"""The interface of the implementations that the benchmark times."""

import abc
import time

import numpy as np
from workloads import Tasks, Workload


class Implementation(abc.ABC):
    """A way to take meta-steps; `__init__` builds network and step.

    Attributes:
        workload: what it works on.
        window: meta-steps are timed in multiples of it.
    """

    window = 1

    def __init__(self, workload: Workload):
        self.workload = workload

    @staticmethod
    @abc.abstractmethod
    def start(threads: str, precision: str) -> None:
        """Starts the framework, before timing.

        Args:
            threads: `default` for the framework's own choice, `one_per_op`
                for one thread in each operation.
            precision: `float32` or `float64`, of all arrays.
        """

    @abc.abstractmethod
    def first_call(self) -> None:
        """Takes the first steps, compiling whatever they need."""

    @abc.abstractmethod
    def time_steps(self, count: int) -> float:
        """Seconds per step of `count` warm steps, a multiple of `window`."""


class Stepper(Implementation):
    """An implementation that is given the tasks of each call."""

    def __init__(self, workload: Workload):
        super().__init__(workload)
        self._taken = 0

    @abc.abstractmethod
    def take_steps(self, tasks: Tasks) -> tuple[np.ndarray, np.ndarray]:
        """Takes `window` full meta-steps.

        Args:
            tasks: [window, meta_batch_size, ...], in NumPy.

        Returns:
            Losses before and after the inner updates, means over the tasks,
            on the host: [window] each.
        """

    @abc.abstractmethod
    def first_moments(self) -> list[np.ndarray]:
        """Adam's first moments, ordered and shaped like the workload's weights.

        They are sums of the meta-gradients so far, as the optimizer got them.
        """

    def first_call(self) -> None:
        self._first_losses = self._call()

    def losses(self, count: int) -> list[list[float]]:
        """[pre, post] of the first steps; call it right after `first_call`."""
        losses = self._first_losses
        while len(losses) < count:
            losses += self._call()
        return losses[:count]

    def gradients(self) -> list[float]:
        """All of `first_moments`, flat."""
        return np.concatenate(
            [m.ravel() for m in self.first_moments()]
        ).tolist()

    def time_steps(self, count: int) -> float:
        if count > self.window:  # a turn of one call is too long to need it
            self._call()
        calls = [self._next_tasks() for _ in range(count // self.window)]
        began = time.perf_counter()
        for tasks in calls:
            self.take_steps(tasks)
        return (time.perf_counter() - began) / count

    def _call(self) -> list[list[float]]:
        pre, post = self.take_steps(self._next_tasks())
        return np.stack([pre, post], axis=-1).tolist()

    def _next_tasks(self) -> Tasks:
        tasks = self.workload.batches(self._taken, self.window)
        self._taken += self.window
        return tasks
