"""From a trained network of an experiment to a SavedModel."""

import pathlib

from maml_tf.core.losses import cross_entropy_of_labels
from maml_tf.errors import ExportError
from maml_tf.experiments.rl_config import RLConfig
from maml_tf.experiments.trained_networks import TrainedNetwork
from maml_tf.export.saved_model import export_adaptation
from maml_tf.learner.evaluation import ACCURACY


def export_network(
    path: pathlib.Path,
    network: TrainedNetwork,
    alpha: float | None = None,
    statistics: str | None = None,
) -> None:
    """Writes the adaptation of a trained network as a SavedModel.

    Args:
        path: the directory to make.
        network: regresses sinusoids, classifies images or acts.
        alpha: the step size; None takes that of meta-training. A policy gets
            it at each call.
        statistics: as `Experiment.statistics`; None takes the experiment's.

    Raises:
        ExportError: if there is something at `path`, or no step size.
        OSError: if it cannot be written.
    """
    experiment = network.experiment
    if isinstance(experiment.config, RLConfig):
        # It imports TensorFlow Probability, which takes seconds.
        from maml_tf.rl.export import export_policy

        export_policy(path, experiment.policy)
        return
    alpha = network.alpha if alpha is None else alpha
    if alpha is None:
        raise ExportError(
            f"The {network.name} network was not meta-trained, so it has no "
            "step size of its own. Give one by --update_lr."
        )
    if experiment.reports is ACCURACY:
        kind = "classification"
        loss = cross_entropy_of_labels(
            experiment.model, experiment.config.num_ways
        )
    else:
        kind, loss = "regression", experiment.loss()
    export_adaptation(
        path,
        experiment.model,
        loss,
        alpha,
        kind=kind,
        adapts=experiment.adapts,
        statistics=statistics or experiment.statistics or "transductive",
    )
