"""Training a run in its directory."""

import dataclasses
import functools
import pathlib
import time

from rich.console import Console

from maml_tf import validation
from maml_tf.checkpoints import Checkpoints
from maml_tf.configs import ImageConfig, TrainingConfig
from maml_tf.errors import RunDirectoryError
from maml_tf.evaluation import Evaluator
from maml_tf.experiment import Experiment, build_experiment
from maml_tf.logs import IterationLog
from maml_tf.progress import TrainingProgress
from maml_tf.run_directory import RunDirectory
from maml_tf.tasks import SPLITS
from maml_tf.training import LOG_FIELDS, train
from maml_tf.validation import Validation


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
    experiment = build_experiment(config, data_dir)
    for split in SPLITS:
        experiment.tasks(split)
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
        experiment = build_experiment(config, data_dir)
        phases = experiment.phases()
        checkpoints = Checkpoints(run.checkpoints, experiment.state(phases))
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
            train(
                experiment.model,
                phases,
                experiment.tasks("train"),
                config.meta_batch_size,
                checkpoints,
                start,
                IterationLog(run.path / "train.csv", LOG_FIELDS, tensorboard),
                bar,
                _validation(run, experiment, tensorboard),
            )
        console.print(
            f"{config.method}: trained {total - start} iterations in "
            f"{time.monotonic() - began:.1f} s."
        )


def _validation(
    run: RunDirectory, experiment: Experiment, tensorboard: pathlib.Path | None
) -> Validation | None:
    """Accuracy after the updates of training, as the original measures it."""
    config = run.config
    if not isinstance(config, ImageConfig):
        return None
    evaluator = Evaluator(
        experiment.loss(), experiment.adapts, [experiment.metric()]
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
