"""Evaluates runs, networks of the original code, and untrained networks."""

import pathlib

from maml_tf.errors import RunDirectoryError
from maml_tf.experiments.original_checkpoint import OriginalNetwork
from maml_tf.experiments.registry import find_source
from maml_tf.experiments.results import Results, write_results
from maml_tf.experiments.run_directory import RunDirectory
from maml_tf.experiments.settings import STANDARD, EvaluationSettings
from maml_tf.experiments.trained_networks import (
    TrainedNetwork,
    of_original,
    of_run,
)
from maml_tf.files import can_write_to
from maml_tf.training.config import TrainingConfig


def check_evaluation(
    config: TrainingConfig,
    data_dir: pathlib.Path,
    settings: EvaluationSettings = STANDARD,
) -> None:
    """Checks before training that its result can be evaluated.

    Args:
        config: the settings of training.
        data_dir: directory of the packed data sets.
        settings: what to evaluate.

    Raises:
        ExperimentError: if the data set cannot be used for that.
    """
    experiment = find_source(config.datasource).build(config, data_dir)
    experiment.check(settings)


def evaluate_run(
    run: RunDirectory,
    data_dir: pathlib.Path,
    settings: EvaluationSettings,
    directory: pathlib.Path,
) -> Results:
    """Evaluates a run from its directory alone, and writes the results.

    All but the standard evaluation write files with names of their own.

    Args:
        run: the run.
        data_dir: directory of the packed data sets.
        settings: what to evaluate.
        directory: takes the results; that of the run, or any other.

    Raises:
        ExperimentError: if there is no such checkpoint, it is damaged, the
            data set cannot be used, or the results cannot be written.
    """
    network = of_run(run, data_dir, settings.iteration, settings.best)
    return _evaluate_there(network, directory, settings)


def evaluate_original(
    original: OriginalNetwork,
    config: TrainingConfig,
    directory: pathlib.Path,
    data_dir: pathlib.Path,
    settings: EvaluationSettings = STANDARD,
) -> Results:
    """Evaluates weights that the original code saved, like a run of ours.

    Args:
        original: the network.
        config: its settings.
        directory: takes the results.
        data_dir: directory of the packed data sets.
        settings: what to evaluate.

    Raises:
        ExperimentError: if the settings are of another network, or the data
            set cannot be used.
    """
    network = of_original(original, config, data_dir)
    return _evaluate_there(network, directory, settings)


def evaluate_random(
    config: TrainingConfig, settings: EvaluationSettings
) -> Results:
    """A network at its initial weights, with its best step size.

    Args:
        config: of an experiment that needs no data set.
        settings: split and number of tasks are taken from it.
    """
    experiment = find_source(config.datasource).build(config, pathlib.Path())
    settings = EvaluationSettings(settings.split, num_tasks=settings.num_tasks)
    network = TrainedNetwork("random", experiment, iteration=0)
    return _evaluate(network, settings, trained=False)


def _evaluate_there(
    network: TrainedNetwork,
    directory: pathlib.Path,
    settings: EvaluationSettings,
) -> Results:
    """Evaluates a network and writes the results.

    Raises:
        RunDirectoryError: if the directory cannot be made or written.
    """
    if not can_write_to(directory):
        raise RunDirectoryError(
            f"The results cannot be written to {directory}. Name another "
            "directory by output_dir.",
            "output_dir",
        )
    results = _evaluate(network, settings, trained=True)
    write_results(directory, results)
    return results


def _evaluate(
    network: TrainedNetwork, settings: EvaluationSettings, trained: bool
) -> Results:
    config = network.experiment.config
    evaluations = network.experiment.evaluate(settings, trained)
    source = find_source(config.datasource)
    return Results(
        network.label,
        network.experiment,
        network.iteration,
        evaluations,
        settings,
        network.trained_by,
        {
            e.num_shots: source.published(network.label, config, e.num_shots)
            for e in evaluations
        },
    )
