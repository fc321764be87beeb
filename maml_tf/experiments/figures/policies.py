"""Figures of the reinforcement learning experiments, as PNG files."""

import copy
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure

from maml_tf.experiments.figures.drawing import plot_metric_by_updates
from maml_tf.experiments.labels import color, network_label
from maml_tf.experiments.policies import PolicyExperiment
from maml_tf.experiments.results import Results
from maml_tf.plotting import write_figure
from maml_tf.rl.environments.recording import Episode, Recording
from maml_tf.rl.environments.registry import environment_spec
from maml_tf.rl.environments.spec import Demonstration
from maml_tf.rl.evaluation import rollouts_by_updates
from maml_tf.training.logs import read_rows


def plot_policies(
    directory: pathlib.Path,
    name: str,
    networks: Sequence[Results[PolicyExperiment]],
) -> None:
    """Draws all figures of a report.

    Args:
        directory: takes the files; the run directory of the first policy.
        name: prefix of their names.
        networks: the policies.
    """
    plot_metric_by_updates(
        directory / f"{name}_return_by_updates.png", networks
    )
    if (directory / "train.csv").exists():
        plot_training(
            directory / f"{name}_training.png", directory, networks[0]
        )
    spec = environment_spec(networks[0].experiment.config.datasource)
    if spec.draw is not None:
        spec.draw(directory / name, demonstration(networks[0]))


def plot_training(
    path: pathlib.Path, directory: pathlib.Path, results: Results
) -> None:
    """Plots returns before and after adaptation by iteration, and the paper's.

    Args:
        path: the PNG file.
        directory: the run directory.
        results: of that run.
    """
    rows = read_rows(directory / "train.csv")
    iterations = [row["iteration"] for row in rows]
    config = results.experiment.config
    points = results.published.get(results.shots[0], {})

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        for field, line, update, label in (
            ("pre_return", ":", 0, "before adaptation"),
            ("post_return", "-", config.num_steps, "after adaptation"),
        ):
            returns = [row[field] for row in rows]
            shade = color(results.label)
            axis.plot(iterations, returns, line, color=shade, label=label)
            if update in points and config.metatrain_iterations:
                axis.axhline(
                    points[update].mean,
                    ls=line,
                    lw=0.8,
                    color="black",
                    label=f"paper's policy, {label}",
                )
        axis.set_xlabel("iteration")
        axis.set_ylabel("return on training goals")
        axis.grid(alpha=0.25, lw=0.5)
        figure.legend(loc="lower center", ncols=2, fontsize=9)
        figure.tight_layout(rect=(0, 0.12, 1, 1))

    write_figure(path, (5.6, 4.2), draw)


def demonstration(results: Results[PolicyExperiment]) -> Demonstration:
    """The policy of these results, for figures of its environment."""
    learner = results.experiment.learner
    evaluation = results.evaluations[0]
    alpha = evaluation.alpha or 0.0

    def episodes(
        goals: np.ndarray, num_updates: int
    ) -> Iterator[list[list[Episode]]]:
        recorded = copy.copy(learner)
        recording = recorded.environment = Recording(learner.environment)
        rollouts = evaluation.num_shots
        for _ in rollouts_by_updates(
            recorded, goals, rollouts, alpha, num_updates
        ):
            rows = recording.episodes()
            yield [
                sum(rows[i * rollouts : (i + 1) * rollouts], [])
                for i in range(len(goals))
            ]

    return Demonstration(
        network_label(results.label),
        color(results.label),
        learner.environment,
        episodes,
    )
