"""A learner as a SavedModel."""

import os
from typing import Any

import tensorflow as tf

from maml_tf.core.losses import Batch
from maml_tf.core.maml import LossFn, Params
from maml_tf.errors import ConfigError
from maml_tf.export.saved_model import export_adaptation
from maml_tf.learner.objectives import CATEGORICAL, SPARSE


def export(learner: Any, path: str | os.PathLike, statistics: str) -> None:
    """Writes the adaptation of a `Learner` for deployment.

    A classifier of whole examples takes class numbers as targets, whatever
    it was fitted on; all others take what they were fitted on.

    Args:
        learner: has seen tasks or a support set.
        path: the directory to make.
        statistics: as for `AdaptedModel.predict`.

    Raises:
        ConfigError: if the learner has not seen data.
        ExportError: if there is something at `path`.
    """
    if learner.spec is None:
        raise ConfigError(
            "The learner does not know its data yet. Call fit, evaluate or "
            "adapt before export."
        )
    objective = learner.objectives[0]
    targets, loss = learner.spec.targets, learner.loss
    classifies = (objective.kind == SPARSE and targets.shape.rank == 1) or (
        objective.kind == CATEGORICAL and targets.shape.rank == 2
    )
    if classifies and objective.kind == CATEGORICAL:
        loss = _of_labels(loss, targets)
    export_adaptation(
        path,
        learner.model,
        loss,
        learner.alpha,
        kind="classification" if classifies else "regression",
        adapts=learner.adapts,
        statistics=statistics,
        from_logits=objective.from_logits is not False,
        inputs=learner.spec.inputs,
        targets=targets,
    )


def _of_labels(loss: LossFn, targets: tf.TensorSpec) -> LossFn:
    """A loss of one-hot targets as one of class numbers."""

    def of_labels(theta: Params, batch: Batch) -> tf.Tensor:
        one_hot = tf.one_hot(
            batch.targets, targets.shape[-1], dtype=targets.dtype
        )
        return loss(theta, batch._replace(targets=one_hot))

    return of_labels
