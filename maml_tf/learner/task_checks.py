"""Checks that a learner's examples fit its model and loss."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from maml_tf.core.batch import Batch, WeightedBatch, weights_of
from maml_tf.core.maml import Data, Params, Task
from maml_tf.core.network import Network
from maml_tf.core.task_stream import TaskStream
from maml_tf.errors import ConfigError, DataError
from maml_tf.learner.batch_checks import BatchChecks
from maml_tf.learner.examples import Examples
from maml_tf.learner.model_checks import (
    cancelled_biases,
    ignored_by,
    named,
    outputs_on,
)
from maml_tf.learner.weight_checks import check_method, check_weighing
from maml_tf.methods.method import Method
from maml_tf.objectives.keras_losses import CATEGORICAL, SPARSE
from maml_tf.objectives.metrics import check_metric
from maml_tf.objectives.objective import Objective
from maml_tf.tasks import batches


class TaskChecks:
    """Checks the first examples closely; later ones must be like them.

    Attributes:
        examples: makes arrays of what users give.
        spec: a `Batch` of `tf.TensorSpec`s, of any number of examples; None
            before the first.
        num_outputs: the last axis of the model's outputs; None before the first
            examples, and if it depends on the task.
    """

    def __init__(
        self,
        network: Network,
        method: Method,
        objectives: Sequence[Objective],
        params: Callable[[], Params],
    ):
        """
        Args:
            network: the model with its loss.
            method: bound to the network.
            objectives: the loss and the metrics, and what is known of them.
            params: returns the current values of everything meta-learned.
        """
        self._network = network
        self._method = method
        self._objective, *self._metrics = objectives
        self._params = params
        self.examples = Examples(network.model, self._objective.kind)
        self.spec: Batch | None = None
        self.num_outputs: int | None = None
        self._weighs = False  # whether it was checked to take weights

    def support(
        self, inputs: Any, targets: Any, weights: Any = None
    ) -> tuple[Data, tuple[str, ...] | None]:
        """A support set as arrays, and the classes that its text names.

        Examples of weight 0 are left out.

        Raises:
            ConfigError, DataError: if it does not fit.
        """
        batch, classes = self.examples.support(
            inputs, targets, self.spec, weights
        )
        batches.check_sizes(batch)
        if isinstance(batch, WeightedBatch):
            check_method(self._method)
            counts = batch.weights > 0
            batch = tf.nest.map_structure(lambda x: x[counts], batch)
        batches.check_finite(batch, "the support set")
        known = self._known_spec(batch)
        batch = self.examples.like(batch, known)
        _check_specs(batch, known, leading=1)
        self._check_labels(batch.targets, known, "The support set")
        return batch, classes

    def stacked(self, tasks: Any, first: int) -> Task:
        """A stream's tasks as arrays.

        Args:
            tasks: stacked support and query sets.
            first: number of the first task, for messages.

        Raises:
            ConfigError, DataError: if they do not fit.
        """
        task = self.examples.tasks(tasks, self.spec)
        if weights_of(task.support) is not None:
            check_method(self._method)
        for batch in task:
            batches.check_sizes(batch, leading=2)
        one = tf.nest.map_structure(lambda x: x[0], task.support)
        if self.spec is None:
            batches.check_finite(one, f"task {first}")
        known = self._known_spec(one)
        task = Task(*(self.examples.like(x, known, leading=2) for x in task))
        for batch in task:
            _check_specs(batch, known, leading=2)
        num_classes = self._check_labels(
            task.support.targets,
            known,
            f"A task's support set (task {first} or one after it)",
        )
        if self._objective.kind is not None:
            self._objective.check_targets(
                task.query.targets, num_classes, leading=2
            )
        if weights_of(task.support) is not None and not self._weighs:
            check_weighing(
                self._network, (self._objective, *self._metrics), task
            )
            self._weighs = True
        return task

    def _known_spec(self, batch: Batch | WeightedBatch) -> Batch:
        """`spec`, from this batch if it is the first."""
        if self.spec is not None:
            return self.spec
        batch = Batch(batch.inputs, batch.targets)
        network, method, params = self._network, self._method, self._params()
        if not method.fixed_outputs:
            batch = self._without_column(batch, 1)
        outputs = outputs_on(network, method, params, batch)
        if isinstance(outputs, np.ndarray):
            batch = self._without_column(batch, outputs.ndim - 1)
        self._objective.check_outputs(batch.targets, outputs)
        if self._objective.kind is not None:
            if method.fixed_outputs:
                self.num_outputs = outputs.shape[-1]
            self._objective.check_targets(batch.targets, self.num_outputs)
        for metric in self._metrics:
            check_metric(metric, batch.targets, outputs)
        ignored = ignored_by(network, method, params, batch)
        if all(ignored):
            raise ConfigError(
                "The loss does not depend on any of the network's weights. Use "
                "a differentiable function of the outputs."
            )
        cancelled = cancelled_biases(network.model, ignored)
        ignored = [i and not c for i, c in zip(ignored, cancelled, strict=True)]
        if any(ignored):
            logging.warning(
                "The loss ignores some variables, whose gradient counts as "
                "zero: %s",
                named(ignored, network.model),
            )
        self.spec = batches.spec_of(batch)
        if not method.fixed_outputs and self._objective.kind == CATEGORICAL:
            any_ways = [*self.spec.targets.shape[:-1], None]
            self.spec = self.spec._replace(
                targets=tf.TensorSpec(any_ways, self.spec.targets.dtype)
            )
        return self.spec

    def _without_column(self, batch: Batch, rank: int) -> Batch:
        """Labels [examples, 1] as [examples], where these have that rank."""
        labels = batch.targets
        if self._objective.kind != SPARSE or not hasattr(labels, "ndim"):
            return batch
        if labels.ndim == rank + 1 and labels.shape[-1] == 1:
            return batch._replace(targets=labels[..., 0])
        return batch

    def _check_labels(
        self, targets: np.ndarray, known: Batch, what: str
    ) -> int | None:
        """Checks that labels are in range, of two classes or more in a task.

        Returns:
            The number of classes; None if neither model nor labels tell.
        """
        kind = self._objective.kind
        if kind is None:
            return self.num_outputs
        leading = targets.ndim - len(known.targets.shape) + 1
        self._objective.check_targets(targets, self.num_outputs, leading)
        if kind not in (SPARSE, CATEGORICAL):
            return self.num_outputs
        labels = targets.argmax(-1) if kind == CATEGORICAL else targets
        # Of the pixels of an image, all may well be of one class.
        if labels.ndim == leading:
            ignored = self._objective.ignored
            void = False if ignored is None else labels == ignored
            low = np.where(void, labels.max(), labels).min(-1)
            high = np.where(void, labels.min(), labels).max(-1)
            if (low == high).any():
                raise DataError(
                    f"{what} has examples of one class only. Give examples of "
                    "at least two classes."
                )
        if self._method.fixed_outputs:
            return self.num_outputs
        one_hot = kind == CATEGORICAL
        num_classes = targets.shape[-1] if one_hot else int(labels.max()) + 1
        for task in labels.reshape(-1, labels.shape[-1]):
            missing = sorted(set(range(num_classes)) - set(task.tolist()))
            if missing:
                raise DataError(
                    f"{what} has no example of class {missing[0]}, though "
                    f"there are {num_classes} classes. Give an example of each "
                    "class, and number the classes of a task 0, 1, ..."
                )
        return num_classes


class CheckedTasks:
    """A `TaskStream` whose tasks are checked before they are used."""

    def __init__(
        self,
        tasks: TaskStream,
        checks: TaskChecks | BatchChecks,
        finite: bool = False,
    ):
        """
        Args:
            tasks: the user's stream.
            checks: checks of their examples.
            finite: check that all values are finite, not only the first task's.

        Raises:
            ConfigError: if it is not a stream of tasks.
        """
        if not callable(getattr(tasks, "tasks", None)):
            raise ConfigError(
                "tasks must be a stream of tasks, such as tasks_from_folder "
                f"returns. Received: {type(tasks).__name__}"
            )
        self._tasks = tasks
        self._checks = checks
        self._finite = finite
        self._last: Task | None = None
        self._shapes: Any = None

    def tasks(self, first: int, count: int) -> Task:
        """Tasks first, ..., first + count - 1, checked."""
        self._last = self._checks.stacked(
            self._tasks.tasks(first, count), first
        )
        shapes = [x.shape[1:] for x in tf.nest.flatten(self._last)]
        self._shapes = self._shapes or shapes
        if shapes != self._shapes:
            raise DataError(
                "Tasks of one stream must all have the same sizes. Shapes so "
                f"far: {self._shapes}; of tasks {first}, ...: {shapes}. Draw "
                "the same number of examples for each task."
            )
        if self._finite:
            self.check_finite()
        return self._last

    def check_finite(self) -> None:
        """Checks that the tasks read last hold finite values.

        Raises:
            DataError: if one is not.
        """
        if self._last is None:
            return
        for name, batch in zip(Task._fields, self._last, strict=True):
            batches.check_finite(batch, f"a {name} set")


def _check_specs(
    batch: Batch | WeightedBatch, known: Batch, leading: int
) -> None:
    found = batches.spec_of(batch, leading)
    batches.check_spec(found.inputs, known.inputs, "inputs")
    batches.check_spec(found.targets, known.targets, "targets")
