"""Evaluating networks: of runs, of the original code, or as they are."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

from maml_tf.core.task_loops import loops_for
from maml_tf.errors import RunDirectoryError
from maml_tf.experiments.configs import ImageConfig, TrainingConfig
from maml_tf.experiments.experiment import (
    Experiment,
    SupervisedExperiment,
    build_experiment,
)
from maml_tf.experiments.original_checkpoint import OriginalNetwork
from maml_tf.experiments.results import Evaluation, Results, write_results
from maml_tf.experiments.run_directory import RunDirectory
from maml_tf.experiments.trained_networks import (
    TrainedNetwork,
    of_original,
    of_run,
)
from maml_tf.learner.evaluation import NUM_TASKS, Evaluator, search_step_size
from maml_tf.rl.environments.registry import environment_spec


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
    """What to evaluate; None stands for the standard evaluation.

    Attributes:
        split: `validation` or `test`.
        shots: numbers of support examples K.
        num_queries: query images of a class; None takes K.
        alpha: the step size. None takes that of meta-training; searches it
            on the validation tasks for a network that was not meta-trained;
            and leaves the oracle, which knows the task, as it is.
        statistics: as `Experiment.statistics`, one or more.
        iteration: the checkpoint; None takes the newest.
        best: the weights that did best in validation, instead.
        num_tasks: how many tasks; None takes those of the paper, 600, or 40
            goals.
    """

    split: str = "test"
    shots: Sequence[int] | None = None
    num_queries: int | None = None
    alpha: float | None = None
    statistics: Sequence[str] | None = None
    iteration: int | None = None
    best: bool = False
    num_tasks: int | None = None

    @property
    def tag(self) -> str:
        """Ends the names of files of anything but the standard evaluation."""
        parts = [] if self.split == "test" else [self.split]
        if self.shots is not None:
            parts.append("ubs" + "-".join(map(str, self.shots)))
        if self.num_queries is not None:
            parts.append(f"queries{self.num_queries}")
        if self.alpha is not None:
            parts.append(f"stepsize{self.alpha}")
        if self.statistics is not None:
            parts.append("-".join(self.statistics))
        if self.iteration is not None:
            parts.append(f"iteration{self.iteration}")
        if self.best:
            parts.append("best")
        if self.num_tasks is not None:
            parts.append(f"tasks{self.num_tasks}")
        return "".join(f"_{part}" for part in parts)


STANDARD = EvaluationSettings()


def check_evaluation(
    config: TrainingConfig,
    data_dir: pathlib.Path,
    settings: EvaluationSettings = STANDARD,
) -> None:
    """Sees before training that its result can be evaluated.

    Args:
        config: the settings of training.
        data_dir: where packed data sets lie.
        settings: what is to be evaluated.

    Raises:
        ExperimentError: if the data set cannot be used for that.
    """
    experiment = build_experiment(config, data_dir)
    if isinstance(experiment, SupervisedExperiment):
        for num_shots in settings.shots or experiment.evaluation_shots:
            experiment.tasks(settings.split, num_shots, settings.num_queries)


def evaluate_run(
    run: RunDirectory,
    data_dir: pathlib.Path,
    settings: EvaluationSettings = STANDARD,
) -> Results:
    """Evaluates a run from its directory alone, and writes the results there.

    Files of anything but the standard evaluation have names of their own.

    Args:
        run: the run.
        data_dir: where packed data sets lie.
        settings: what to evaluate.

    Raises:
        ExperimentError: if there is no such checkpoint, it is damaged, or
            the data set cannot be used.
    """
    network = of_run(run, data_dir, settings.iteration, settings.best)
    return _evaluate(network, run.path, settings)


def evaluate_original(
    original: OriginalNetwork,
    config: ImageConfig,
    directory: pathlib.Path,
    data_dir: pathlib.Path,
    settings: EvaluationSettings = STANDARD,
) -> Results:
    """Evaluates weights that the original code saved, as a run of ours.

    Args:
        original: the network.
        config: its settings (`OriginalNetwork.config`).
        directory: takes the results.
        data_dir: where packed data sets lie.
        settings: what to evaluate.

    Raises:
        ExperimentError: if the settings are of another network, or the data
            set cannot be used.
    """
    network = of_original(original, config, data_dir)
    directory.mkdir(parents=True, exist_ok=True)
    return _evaluate(network, directory, settings)


def evaluate_network(
    name: str,
    experiment: Experiment,
    iteration: int,
    settings: EvaluationSettings = STANDARD,
) -> Results:
    """Evaluates the weights that an experiment's network holds now.

    Args:
        name: what to call the network.
        experiment: the network and its tasks.
        iteration: iterations that it was trained for.
        settings: what to evaluate; step size None searches it on the
            validation tasks.
    """
    if isinstance(experiment, SupervisedExperiment):
        evaluations = _evaluate_supervised(experiment, settings)
    else:
        evaluations = [_evaluate_policy(experiment, settings)]
    return Results(
        name,
        experiment,
        iteration,
        evaluations,
        settings.split,
        settings.tag,
    )


def _evaluate_supervised(
    experiment: SupervisedExperiment, settings: EvaluationSettings
) -> list[Evaluation]:
    theta = experiment.model.trainable_variables
    statistics = settings.statistics or [experiment.statistics]

    def evaluate(num_shots: int) -> list[Evaluation]:
        num_queries = settings.num_queries or num_shots
        evaluator = Evaluator(
            experiment.loss(num_shots),
            experiment.adapts,
            [experiment.metric(s) for s in statistics],
            loops_for(experiment.model),
        )

        def tasks(split: str):
            return experiment.tasks(split, num_shots, num_queries)

        alpha = settings.alpha
        if alpha is None:
            alpha = search_step_size(
                evaluator, theta, tasks("validation"), experiment.reports
            )
        values = evaluator(
            theta,
            tasks(settings.split),
            alpha,
            settings.num_tasks or NUM_TASKS,
        )
        searched = settings.alpha is None
        return [
            Evaluation(
                num_shots,
                alpha,
                searched,
                v,
                experiment.reports,
                num_queries,
                s,
            )
            for v, s in zip(values, statistics, strict=True)
        ]

    return [
        evaluation
        for num_shots in settings.shots or experiment.evaluation_shots
        for evaluation in evaluate(num_shots)
    ]


def _evaluate_policy(
    experiment: Experiment, settings: EvaluationSettings
) -> Evaluation:
    # It imports TensorFlow Probability, which takes seconds.
    from maml_tf.rl import evaluation

    spec = environment_spec(experiment.config.datasource)
    num_rollouts, num_updates = (
        spec.evaluation_rollouts,
        spec.evaluation_updates,
    )
    if settings.shots is not None:
        (num_rollouts,) = settings.shots
    alpha = settings.alpha
    if alpha is None:
        alpha = evaluation.search_step_size(
            experiment, num_rollouts, num_updates
        )
    goals = experiment.environment.test_tasks(
        settings.num_tasks or evaluation.NUM_GOALS
    )
    found = evaluation.evaluate_policy(
        experiment, goals, num_rollouts, alpha, num_updates
    )
    return Evaluation(
        num_rollouts,
        alpha,
        alpha_searched=settings.alpha is None,
        values=found.returns,
        metric=experiment.reports,
        counts={
            "episodes": found.episodes.sum(axis=0).tolist(),
            "transitions_per_goal": num_rollouts * experiment.config.horizon,
            "unstable_episodes": found.unstable.tolist(),
        },
    )


def _evaluate(
    network: TrainedNetwork,
    directory: pathlib.Path,
    asked: EvaluationSettings,
) -> Results:
    """Evaluates a network and writes the results.

    Raises:
        RunDirectoryError: if the directory cannot be written.
    """
    if not os.access(directory, os.W_OK):
        raise RunDirectoryError(
            f"{directory} cannot be written, and the results go there. "
            "Evaluate a copy of it."
        )
    settings = asked
    if asked.alpha is None:
        settings = dataclasses.replace(asked, alpha=network.alpha)
    results = evaluate_network(
        network.name, network.experiment, network.iteration, settings
    )
    results = dataclasses.replace(results, tag=asked.tag)
    write_results(directory, results)
    return results
