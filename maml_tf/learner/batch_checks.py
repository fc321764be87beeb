"""Checks of labelled batches, for methods that learn to classify them."""

import tensorflow as tf

from maml_tf.core.batch import weights_of
from maml_tf.core.maml import Task
from maml_tf.core.network import Network
from maml_tf.errors import DataError, first_lines
from maml_tf.learner.examples import Examples
from maml_tf.objectives.objective import CATEGORICAL, SPARSE, Objective
from maml_tf.tasks import batches


class BatchChecks:
    """Checks batches of examples with the number of their class among all."""

    def __init__(
        self,
        network: Network,
        objective: Objective,
        examples: Examples,
        num_classes: int | None,
    ):
        """
        Args:
            network: the model with its loss.
            objective: the loss, and what is known about it.
            examples: turns batches into arrays.
            num_classes: number of all classes.
        """
        self._network = network
        self._objective = objective
        self._examples = examples
        self._num_classes = num_classes
        self._known = False

    def stacked(self, tasks: Task, first: int) -> Task:
        """The batches as arrays.

        Args:
            tasks: stacked; the labelled batches are the support sets.
            first: number of the first, for messages.

        Raises:
            DataError: if they do not fit.
        """
        task = self._examples.tasks(tasks, None)
        if weights_of(task.support) is not None:
            raise DataError("Labelled batches cannot have weights.")
        batches.check_sizes(task.support, leading=2)
        targets = task.support.targets
        ranks = {SPARSE: 2, CATEGORICAL: 3}
        if targets.ndim != ranks.get(self._objective.kind or "", targets.ndim):
            raise DataError(
                f"The loss {self._objective.name} takes other labels. "
                f"Received: labels of shape {targets.shape[1:]} for a batch. "
                "Use 'sparse_categorical_crossentropy' for class numbers, "
                "'categorical_crossentropy' for one-hot labels."
            )
        self._objective.check_targets(targets, self._num_classes)
        if not self._known:
            self._check_inputs(task, first)
            self._known = True
        return task

    def _check_inputs(self, task: Task, first: int) -> None:
        one = tf.nest.map_structure(lambda x: x[0], task.support)
        batches.check_finite(one, f"batch {first}")
        inputs = tf.nest.map_structure(lambda x: x[:1], one.inputs)
        try:
            self._network.outputs(self._network.theta, inputs)
        except (ValueError, TypeError, tf.errors.OpError, LookupError) as e:
            shapes = [x.shape for x in tf.nest.flatten(inputs)]
            raise DataError(
                f"{self._network.model.name} cannot take these inputs: shapes "
                f"{shapes}. ({first_lines(e)})"
            ) from e
