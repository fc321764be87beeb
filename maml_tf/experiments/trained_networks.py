"""Trained networks, of runs or of the original code."""

import dataclasses
import pathlib
from typing import Any

from maml_tf.errors import ConfigError, RunDirectoryError
from maml_tf.experiments.experiment import Experiment
from maml_tf.experiments.image_source import ImageSource
from maml_tf.experiments.images import ImageConfig
from maml_tf.experiments.original_checkpoint import OriginalNetwork
from maml_tf.experiments.registry import find_source
from maml_tf.experiments.run_directory import RunDirectory
from maml_tf.training.checkpoints import Checkpoints
from maml_tf.training.config import TrainingConfig


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """An experiment whose network has trained weights.

    Attributes:
        label: the name of the network.
        experiment: the experiment.
        iteration: iterations of training.
        trained_by: the stretches of its training (`RunDirectory.stretches`).
    """

    label: str
    experiment: Experiment
    iteration: int
    trained_by: list[dict[str, Any]] = dataclasses.field(default_factory=list)


def of_run(
    run: RunDirectory,
    data_dir: pathlib.Path,
    iteration: int | None = None,
    best: bool = False,
) -> TrainedNetwork:
    """The network of a run, from its directory alone.

    Args:
        run: the run.
        data_dir: directory of the packed data sets.
        iteration: the checkpoint; None takes the newest.
        best: the weights that did best in validation, instead.

    Raises:
        ExperimentError: if there is no such checkpoint, it is damaged, or
            the data set cannot be used.
    """
    experiment = run.source.build(run.config, data_dir)
    directory = run.best if best else run.checkpoints
    checkpoints = Checkpoints(directory, experiment.learned)
    if iteration is not None:
        checkpoints.restore(iteration)
    else:
        iteration = checkpoints.restore_latest()
    if iteration is None:
        raise RunDirectoryError(
            f"{directory} holds no checkpoint; "
            + ("leave out best." if best else "train the run first."),
            *(["best"] if best else []),
        )
    return TrainedNetwork(
        run.config.label, experiment, iteration, run.stretches
    )


def of_original(
    original: OriginalNetwork,
    config: TrainingConfig,
    data_dir: pathlib.Path | None,
) -> TrainedNetwork:
    """A network that the original code trained, as one of ours.

    Args:
        original: the network.
        config: its settings (`OriginalNetwork.settings` and others).
        data_dir: directory of the packed data sets; None leaves out the images,
            which an export does not need.

    Raises:
        ExperimentError: if the settings are of another network, or the data
            set cannot be used.
    """
    source = find_source(config.datasource)
    if not isinstance(source, ImageSource) or not isinstance(
        config, ImageConfig
    ):
        raise ConfigError(
            "The network of the original code is for images. Received: "
            f"datasource={config.datasource}. Name the data set of images "
            "that it was trained on.",
            "datasource",
        )
    if data_dir is None:
        experiment = source.build_without_images(config, original.image_shape)
    else:
        experiment = source.build(config, data_dir)
    original.assign_to(experiment.model)
    return TrainedNetwork("original", experiment, original.iteration)
