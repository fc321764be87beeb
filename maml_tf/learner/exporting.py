"""Exports a learner as a SavedModel."""

import os
from typing import Any

import tensorflow as tf

from maml_tf.core.comparison import ObjectiveFn
from maml_tf.core.network import Network
from maml_tf.errors import ConfigError
from maml_tf.export.saved_model import export_method
from maml_tf.objectives.keras_losses import CATEGORICAL, SPARSE
from maml_tf.objectives.objective import Objective


def export(
    learner: Any, path: str | os.PathLike, statistics: str, **options: Any
) -> None:
    """Writes the adaptation of a `Learner` for deployment.

    A classifier of whole examples takes class numbers as targets, whatever it
    was fitted on; all others take targets as in training.

    Args:
        learner: a `Learner` that has seen tasks or a support set.
        path: the directory to create; an empty one may exist.
        statistics: as for `AdaptedModel.predict`.
        options: as for `export_method`.

    Raises:
        ConfigError: if the learner has not seen data, or an option is invalid.
        ExportError: if the directory exists and is not empty.
    """
    if learner.spec is None:
        raise ConfigError(
            "The learner does not know its data yet. Call fit, evaluate or "
            "adapt before export."
        )
    objective = learner.objectives[0]
    targets = learner.spec.targets
    classified = classifies(objective, targets)
    function: ObjectiveFn = objective
    if classified and objective.kind == CATEGORICAL:
        function = _of_labels(objective, targets)
    export_method(
        path,
        Network(learner.model, function),
        learner.method,
        learner.params,
        kind="classification" if classified else "regression",
        statistics=statistics,
        from_logits=objective.from_logits is not False,
        inputs=learner.spec.inputs,
        targets=targets,
        **options,
    )


def classifies(objective: Objective, targets: Any) -> bool:
    """Whether whole examples have a class each.

    Args:
        objective: the loss.
        targets: `tf.TensorSpec`s of targets.
    """
    return (objective.kind == SPARSE and targets.shape.rank == 1) or (
        objective.kind == CATEGORICAL and targets.shape.rank == 2
    )


def _of_labels(objective: ObjectiveFn, targets: tf.TensorSpec) -> ObjectiveFn:
    """Turns a loss of one-hot targets into one of class numbers."""

    def of_labels(labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        one_hot = tf.one_hot(labels, targets.shape[-1], dtype=targets.dtype)
        return objective(one_hot, outputs)

    return of_labels
