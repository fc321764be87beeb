"""Checks of labelled batches, for methods that learn to classify them."""

import numpy as np
import tensorflow as tf

from maml_tf.core.maml import Task
from maml_tf.core.network import Network
from maml_tf.errors import DataError, first_lines
from maml_tf.learner.objectives import CATEGORICAL, SPARSE, Objective
from maml_tf.tasks import batches


class BatchChecks:
    """Checks batches of examples with the number of their class among all."""

    def __init__(self, network: Network, objective: Objective):
        """
        Args:
            network: the model with its loss.
            objective: the loss, and what is known about it.
        """
        self._network = network
        self._objective = objective
        self._known = False

    def stacked(self, tasks: Task, first: int) -> Task:
        """The batches as arrays.

        Args:
            tasks: stacked; the labelled batches are the support sets.
            first: number of the first, for messages.

        Raises:
            DataError: if they do not fit.
        """
        task = batches.as_task(tasks, self._network.theta[0].dtype.name)
        batches.check_sizes(task.support, leading=2)
        rank = task.support.targets.ndim
        ranks = {SPARSE: 2, CATEGORICAL: 3}
        if rank != ranks.get(self._objective.kind or "", rank):
            raise DataError(
                f"The loss {self._objective.name} takes other labels. "
                f"Received: labels of shape {task.support.targets.shape[1:]} "
                "for a batch. Use 'sparse_categorical_crossentropy' for class "
                "numbers, 'categorical_crossentropy' for one-hot labels."
            )
        if not self._known:
            self._check_inputs(task, first)
        return task

    def _check_inputs(self, task: Task, first: int) -> None:
        one = tf.nest.map_structure(lambda x: x[0], task.support)
        batches.check_finite(one, f"batch {first}")
        inputs = tf.nest.map_structure(lambda x: np.array(x[:1]), one.inputs)
        try:
            self._network.outputs(self._network.theta, inputs)
        except (ValueError, TypeError, tf.errors.OpError, LookupError) as e:
            shapes = [x.shape for x in tf.nest.flatten(inputs)]
            raise DataError(
                f"{self._network.model.name} cannot take these inputs: shapes "
                f"{shapes}. ({first_lines(e)})"
            ) from e
        self._known = True
