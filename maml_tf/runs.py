"""Training and evaluating a run in its directory."""

import dataclasses
import pathlib
import time
from collections.abc import Sequence

from rich.console import Console

from maml_tf.checkpoints import Checkpoints
from maml_tf.configs import SinusoidConfig
from maml_tf.errors import RunDirectoryError
from maml_tf.evaluation import Evaluator, held_out_tasks, search_step_size
from maml_tf.experiment import Experiment
from maml_tf.progress import TrainingProgress
from maml_tf.results import Evaluation, Results, write_results
from maml_tf.run_directory import RunDirectory
from maml_tf.training import TrainingLog, train

EVALUATION_SHOTS = (5, 10, 20)  # the paper's figure 3 and appendix


def open_run(
    logdir: pathlib.Path, config: SinusoidConfig, resume: bool
) -> RunDirectory:
    """Makes or finds a run's directory, and sees that it can be trained.

    Args:
        logdir: the directory of all runs.
        config: the settings.
        resume: go on with a run that is there, rather than begin anew.

    Raises:
        RunDirectoryError: if it cannot.
    """
    run = RunDirectory.for_training(logdir, config, resume)
    done = max(Checkpoints(run.checkpoints, {}).iterations(), default=0)
    if done > config.num_iterations:
        raise RunDirectoryError(
            f"{run.path} was already trained for {done} iterations, more than "
            f"the {config.num_iterations} asked for. Evaluate it "
            "(--train=False), or choose another --logdir or --resume=False."
        )
    return run


def train_run(run: RunDirectory, log: bool, console: Console) -> None:
    """Trains a run to its last iteration, from wherever it stands.

    Args:
        run: the run.
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
    with run.locked():
        experiment = Experiment.build(config)
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
                TrainingLog(
                    run.path / "train.csv",
                    run.path / "tensorboard" if log else None,
                ),
                bar,
            )
        console.print(
            f"{config.method}: trained {total - start} iterations in "
            f"{time.monotonic() - began:.1f} s."
        )


def evaluate_run(
    run: RunDirectory,
    iteration: int | None = None,
    split: str = "test",
    shots: Sequence[int] | None = None,
    alpha: float | None = None,
) -> Results:
    """Evaluates a run from its directory alone, and writes the results there.

    Files of anything but the standard evaluation have names of their own.

    Args:
        run: the run.
        iteration: the checkpoint; None takes the newest.
        split: `validation` or `test`.
        shots: numbers of points K; None takes `EVALUATION_SHOTS`.
        alpha: the step size. None takes that of meta-training; searches it
            on the validation tasks for a network that was not meta-trained;
            and leaves the oracle, which knows the task, as it is.

    Raises:
        RunDirectoryError: if there is no such checkpoint, or it is damaged.
    """
    experiment = Experiment.build(run.config)
    tag = _tag(iteration, split, shots, alpha)
    checkpoints = Checkpoints(
        run.checkpoints, {"weights": experiment.variables}
    )
    if iteration is not None:
        checkpoints.restore(iteration)
    else:
        iteration = checkpoints.restore_latest()
    if iteration is None:
        raise RunDirectoryError(
            f"{run.path} holds no checkpoint; train it first."
        )
    if alpha is None:
        alpha = _default_step_size(run.config)
    results = evaluate_network(
        run.config.method, experiment, iteration, split, shots, alpha
    )
    results = dataclasses.replace(results, tag=tag)
    write_results(run.path, results)
    return results


def _tag(iteration, split, shots, alpha) -> str:
    parts = [] if split == "test" else [split]
    if shots is not None:
        parts.append("ubs" + "-".join(map(str, shots)))
    if alpha is not None:
        parts.append(f"stepsize{alpha}")
    if iteration is not None:
        parts.append(f"iteration{iteration}")
    return "".join(f"_{part}" for part in parts)


def evaluate_network(
    name: str,
    experiment: Experiment,
    iteration: int,
    split: str = "test",
    shots: Sequence[int] | None = None,
    alpha: float | None = None,
) -> Results:
    """Evaluates the weights that an experiment's network holds now.

    Args:
        name: what to call the network.
        experiment: the network and its tasks.
        iteration: iterations that it was trained for.
        split, shots: as for `evaluate_run`.
        alpha: the step size; None searches it on the validation tasks.
    """
    evaluator = Evaluator(experiment.loss, experiment.adapts)
    theta = experiment.model.trainable_variables

    def evaluate(num_shots: int) -> Evaluation:
        step_size = alpha
        if alpha is None:
            step_size = search_step_size(
                evaluator,
                theta,
                held_out_tasks(experiment.tasks("validation", num_shots)),
            )
        tasks = held_out_tasks(experiment.tasks(split, num_shots))
        losses = evaluator(theta, tasks, step_size)
        return Evaluation(num_shots, step_size, alpha is None, losses)

    return Results(
        name,
        experiment,
        iteration,
        [evaluate(k) for k in shots or EVALUATION_SHOTS],
        split,
    )


def _default_step_size(config: SinusoidConfig) -> float | None:
    if config.metatrain_iterations:
        return config.alpha
    return 0.0 if config.baseline == "oracle" else None
