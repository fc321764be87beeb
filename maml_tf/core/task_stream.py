"""Streams of tasks in which a task is a value.

Task i of a stream is a pure function of (seed, i): it is the same in whatever
order and however many at once tasks are read. A resumed run therefore sees
exactly the tasks that an uninterrupted one would.
"""

from typing import NamedTuple, Protocol

import numpy as np

from maml_tf.core.maml import Task


class NumberedTask(NamedTuple):
    """A task, or a batch of tasks, for a model that draws random numbers.

    Attributes:
        task: the data.
        number: that of the task in its stream, from which random numbers
            follow; an integer, of a batch [...].
    """

    task: Task
    number: np.ndarray


class TaskStream(Protocol):
    """A source of tasks."""

    def tasks(self, first: int, count: int) -> Task:
        """Tasks first, ..., first + count - 1, stacked: [count, ...]."""


class NumberedTasks:
    """A stream whose tasks know their numbers."""

    def __init__(self, stream: TaskStream):
        self._stream = stream

    def tasks(self, first: int, count: int) -> NumberedTask:
        """Tasks first, ..., first + count - 1, stacked: [count, ...]."""
        numbers = np.arange(first, first + count, dtype=np.int64)
        return NumberedTask(self._stream.tasks(first, count), numbers)
