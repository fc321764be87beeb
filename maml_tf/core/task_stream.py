"""Streams of tasks in which a task is a value.

Task i of a stream is a pure function of (seed, i): it is the same in whatever
order and however many at once tasks are read. A resumed run therefore sees
exactly the tasks that an uninterrupted one would.
"""

from typing import Protocol

from maml_tf.core.maml import Task


class TaskStream(Protocol):
    """A source of tasks."""

    def tasks(self, first: int, count: int) -> Task:
        """Tasks first, ..., first + count - 1, stacked: [count, ...]."""
