"""Training a run in its directory."""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable
from typing import Protocol

import tensorflow as tf
from rich.console import Console

from maml_tf.core.task_loops import loops_for
from maml_tf.errors import RunDirectoryError
from maml_tf.experiments.configs import ImageConfig, TrainingConfig
from maml_tf.experiments.experiment import (
    SupervisedExperiment,
    build_experiment,
)
from maml_tf.experiments.run_directory import RunDirectory
from maml_tf.learner.evaluation import Evaluator
from maml_tf.training import validation
from maml_tf.training.checkpoints import Checkpoints
from maml_tf.training.logs import IterationLog
from maml_tf.training.loop import LOG_FIELDS, train
from maml_tf.training.progress import TrainingProgress
from maml_tf.training.validation import Validation


def open_run(
    logdir: pathlib.Path,
    config: TrainingConfig,
    data_dir: pathlib.Path,
    resume: bool,
) -> RunDirectory:
    """Makes or finds a run's directory, and sees that it can be trained.

    Args:
        logdir: the directory of all runs.
        config: the settings.
        data_dir: where packed data sets lie.
        resume: go on with a run that is there, rather than begin anew.

    Raises:
        ExperimentError: if it cannot; nothing is made then.
    """
    build_experiment(config, data_dir).check()
    run = RunDirectory.for_training(logdir, config, resume)
    done = max(Checkpoints(run.checkpoints, {}).iterations(), default=0)
    if done > config.num_iterations:
        raise RunDirectoryError(
            f"{run.path} was already trained for {done} iterations, more than "
            f"the {config.num_iterations} asked for. Evaluate it "
            "(--train=False), or choose another --logdir or --resume=False."
        )
    return run


def train_run(
    run: RunDirectory, data_dir: pathlib.Path, log: bool, console: Console
) -> None:
    """Trains a run to its last iteration, from wherever it stands.

    Args:
        run: the run.
        data_dir: where packed data sets lie.
        log: write TensorBoard events.
        console: for progress.

    Raises:
        ExperimentError: if it cannot be trained.
    """
    config = run.config
    settings = ", ".join(
        f"{name} {value}" for name, value in dataclasses.asdict(config).items()
    )
    console.print(f"{config.method}: {settings}", highlight=False)
    tensorboard = run.path / "tensorboard" if log else None
    with run.locked():
        training = _training(run, data_dir, tensorboard)
        checkpoints = Checkpoints(run.checkpoints, training.state)
        start = checkpoints.restore_latest() or 0
        total = config.num_iterations
        if start == total:
            console.print(
                f"{config.method}: {total} iterations were done before."
            )
            return
        run.write_config()
        if start:
            console.print(f"{config.method}: going on from iteration {start}.")
        began = time.monotonic()
        with TrainingProgress(console, config.method, start, total) as bar:
            training(checkpoints, start, bar)
        console.print(
            f"{config.method}: trained {total - start} iterations in "
            f"{time.monotonic() - began:.1f} s."
        )


class Training(Protocol):
    """How the network of a run is trained.

    Attributes:
        state: all that training changes, by name, for checkpoints.
    """

    state: dict[str, list[tf.Variable]]

    def __call__(
        self,
        checkpoints: Checkpoints,
        start: int,
        on_progress: Callable[[int, dict[str, float]], None],
    ) -> None:
        """Trains from iteration `start` to the last one."""


def _training(
    run: RunDirectory, data_dir: pathlib.Path, tensorboard: pathlib.Path | None
) -> Training:
    experiment = build_experiment(run.config, data_dir)
    if isinstance(experiment, SupervisedExperiment):
        return _SupervisedTraining(run, experiment, tensorboard)
    # It imports TensorFlow Probability, which takes seconds.
    from maml_tf.rl import training

    return training.PolicyTraining(
        experiment,
        IterationLog(run.path / "train.csv", training.LOG_FIELDS, tensorboard),
        Checkpoints(run.best, {"weights": experiment.variables}, keep=1),
    )


class _SupervisedTraining:
    """Training by `training.train`, with validation for images."""

    def __init__(
        self,
        run: RunDirectory,
        experiment: SupervisedExperiment,
        tensorboard: pathlib.Path | None,
    ):
        self._experiment = experiment
        self._phases = experiment.phases()
        self._log = IterationLog(
            run.path / "train.csv", LOG_FIELDS, tensorboard
        )
        self._validation = _validation(run, experiment, tensorboard)
        self.state = experiment.state(self._phases)

    def __call__(self, checkpoints, start, on_progress):
        train(
            self._experiment.model,
            self._phases,
            self._experiment.tasks("train"),
            self._experiment.config.meta_batch_size,
            checkpoints,
            start,
            self._log,
            on_progress,
            self._validation,
        )


def _validation(
    run: RunDirectory,
    experiment: SupervisedExperiment,
    tensorboard: pathlib.Path | None,
) -> Validation | None:
    """Accuracy after the updates of training, as the original measures it."""
    config = run.config
    if not isinstance(config, ImageConfig):
        return None
    evaluator = Evaluator(
        experiment.loss(),
        experiment.adapts,
        [experiment.metric()],
        loops_for(experiment.model),
    )
    measure = functools.partial(
        evaluator,
        experiment.model.trainable_variables,
        experiment.tasks("validation"),
        config.alpha,
        validation.NUM_TASKS,
        config.num_steps,
    )
    return Validation(
        lambda: float(measure()[0, :, -1].mean()),
        IterationLog(
            run.path / "validation.csv", [validation.FIELD], tensorboard
        ),
        Checkpoints(run.best, {"weights": experiment.variables}, keep=1),
    )
