"""Networks as training left them: of runs, or of the original code."""

import dataclasses
import pathlib

from maml_tf.datasets.registry import open_images
from maml_tf.errors import RunDirectoryError
from maml_tf.experiments.configs import ImageConfig, TrainingConfig
from maml_tf.experiments.experiment import (
    Experiment,
    ImageExperiment,
    build_experiment,
)
from maml_tf.experiments.original_checkpoint import OriginalNetwork
from maml_tf.experiments.run_directory import RunDirectory
from maml_tf.training.checkpoints import Checkpoints


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """An experiment whose network has the weights that training gave it.

    Attributes:
        name: what to call the network.
        experiment: the experiment.
        iteration: iterations of training.
        alpha: the step size of its meta-training; 0 for the oracle, which
            knows the task; None for another network that was not
            meta-trained.
    """

    name: str
    experiment: Experiment
    iteration: int
    alpha: float | None


def of_run(
    run: RunDirectory,
    data_dir: pathlib.Path,
    iteration: int | None = None,
    best: bool = False,
) -> TrainedNetwork:
    """The network of a run, from its directory alone.

    Args:
        run: the run.
        data_dir: where packed data sets lie.
        iteration: the checkpoint; None takes the newest.
        best: the weights that did best in validation, instead.

    Raises:
        ExperimentError: if there is no such checkpoint, it is damaged, or
            the data set cannot be used.
    """
    experiment = build_experiment(run.config, data_dir)
    directory = run.best if best else run.checkpoints
    checkpoints = Checkpoints(directory, {"weights": experiment.variables})
    if iteration is not None:
        checkpoints.restore(iteration)
    else:
        iteration = checkpoints.restore_latest()
    if iteration is None:
        raise RunDirectoryError(
            f"{directory} holds no checkpoint; "
            + ("leave out --test_best." if best else "train the run first.")
        )
    return TrainedNetwork(
        run.config.method, experiment, iteration, _step_size(run.config)
    )


def of_original(
    original: OriginalNetwork, config: ImageConfig, data_dir: pathlib.Path
) -> TrainedNetwork:
    """A network that the original code trained, as one of ours.

    Args:
        original: the network.
        config: its settings (`OriginalNetwork.config`).
        data_dir: where packed data sets lie.

    Raises:
        ExperimentError: if the settings are of another network, or the data
            set cannot be used.
    """
    experiment = ImageExperiment(
        config, open_images(config.datasource, data_dir)
    )
    original.assign_to(experiment.model)
    return TrainedNetwork(
        "original", experiment, original.iteration, config.alpha
    )


def _step_size(config: TrainingConfig) -> float | None:
    if config.metatrain_iterations:
        return config.alpha
    return 0.0 if config.baseline == "oracle" else None
