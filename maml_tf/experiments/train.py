"""Trains runs in their directories."""

import dataclasses
import pathlib
import time
from collections.abc import Mapping

from rich.console import Console

from maml_tf.errors import RunDirectoryError
from maml_tf.experiments.registry import find_source
from maml_tf.experiments.run_directory import RunDirectory
from maml_tf.training.checkpoints import Checkpoints
from maml_tf.training.config import TrainingConfig
from maml_tf.training.files import TrainingFiles


def open_run(
    logdir: pathlib.Path,
    config: TrainingConfig,
    data_dir: pathlib.Path,
    resume: bool,
) -> RunDirectory:
    """Makes or finds a run's directory, and checks that it can be trained.

    Args:
        logdir: the directory of all runs.
        config: the settings.
        data_dir: directory of the packed data sets.
        resume: resume an existing run instead of starting another.

    Raises:
        ExperimentError: if it cannot be; then nothing is made.
    """
    find_source(config.datasource).build(config, data_dir).check()
    run = RunDirectory.for_training(logdir, config, resume)
    done = max(Checkpoints(run.checkpoints, {}).iterations(), default=0)
    if done > config.num_iterations:
        raise RunDirectoryError(
            f"{run.path} was already trained for {done} iterations, more than "
            f"the {config.num_iterations} asked for. Evaluate it "
            "(train=False), or choose another logdir or resume=False.",
            "train",
            "logdir",
            "resume",
        )
    return run


def train_run(
    run: RunDirectory,
    data_dir: pathlib.Path,
    log: bool,
    console: Console,
    names: Mapping[str, str],
) -> None:
    """Trains a run to its last iteration, from the last checkpoint.

    Args:
        run: the run.
        data_dir: directory of the packed data sets.
        log: write TensorBoard events.
        console: for progress.
        names: how to print a setting's name, where it is not to be as it is.

    Raises:
        ExperimentError: if it cannot be trained.
    """
    config = run.config

    def say(text: str) -> None:
        console.print(f"{config.label}: {text}", highlight=False)

    settings = dataclasses.asdict(config)
    del settings["method_settings"]
    settings |= config.changed
    shown = ((names.get(k, k), value) for k, value in settings.items())
    say(", ".join(f"{name} {value}" for name, value in shown))
    experiment = run.source.build(config, data_dir)
    files = TrainingFiles(
        run.path, experiment.state, experiment.log_fields, tensorboard=log
    )
    with files.locked():
        total = config.num_iterations
        start = files.restore(total)
        if start == total:
            say(f"already trained for {total} iterations.")
            return
        changed = run.begin_stretch(start)
        if start:
            say(f"resuming from iteration {start}.")
        if changed:
            say(f"earlier stretches used other code: {changed}.")
        began = time.monotonic()
        experiment.train(files, start, console)
        say(
            f"trained {total - start} iterations in "
            f"{time.monotonic() - began:.1f} s."
        )
