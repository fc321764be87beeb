"""Figures of the reinforcement learning experiments, as PNG files."""

import copy
import pathlib

import numpy as np
from matplotlib.figure import Figure

from maml_tf.experiments.figures.drawing import (
    color,
    network_label,
    plot_metric_by_updates,
    write_figure,
)
from maml_tf.experiments.paper import published
from maml_tf.experiments.results import Results
from maml_tf.rl.environments.base import Environment, Step
from maml_tf.rl.evaluation import rollouts_by_updates
from maml_tf.rl.rendering import save_animation, save_strip
from maml_tf.training.logs import read_rows

GOALS_SHOWN = 3
PATHS_SHOWN = 6  # rollouts of a goal
UPDATES_SHOWN = 3


def plot_policies(
    directory: pathlib.Path, name: str, networks: list[Results]
) -> None:
    """All figures of a report.

    Args:
        directory: takes the files; the run directory of the first policy.
        name: how their names begin.
        networks: the policies.
    """
    plot_metric_by_updates(
        directory / f"{name}_return_by_updates.png", networks
    )
    if (directory / "train.csv").exists():
        plot_training(
            directory / f"{name}_training.png", directory, networks[0]
        )
    if networks[0].experiment.config.datasource == "point":
        plot_paths(directory / f"{name}_paths.png", networks[0])
    else:
        draw_runs(directory, name, networks[0])


def plot_training(
    path: pathlib.Path, directory: pathlib.Path, results: Results
) -> None:
    """Returns before and after adaptation, by iteration, and the paper's.

    Args:
        path: the PNG file.
        directory: the run directory.
        results: of that run.
    """
    rows = read_rows(directory / "train.csv")
    iterations = [row["iteration"] for row in rows]
    config = results.experiment.config
    points = published(results.name, config, config.num_shots)

    def draw(figure: Figure) -> None:
        axis = figure.subplots()
        for field, line, update, label in (
            ("pre_return", ":", 0, "before adaptation"),
            ("post_return", "-", config.num_steps, "after adaptation"),
        ):
            returns = [row[field] for row in rows]
            shade = color(results.name)
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


def draw_runs(directory: pathlib.Path, name: str, results: Results) -> None:
    """One rollout of the first held-out goal before and after adaptation.

    Args:
        directory: takes a strip of pictures and an animation of each.
        name: how their names begin.
        results: of a policy of a locomotion environment.
    """
    experiment = copy.copy(results.experiment)
    experiment.environment = Recording(experiment.environment)
    evaluation = results.evaluations[0]
    stages = rollouts_by_updates(
        experiment,
        experiment.environment.test_tasks(1),
        evaluation.num_shots,
        evaluation.alpha,
        num_updates=1,
    )
    for when, _ in zip(("before", "after"), stages, strict=False):
        positions = experiment.environment.take()
        model = experiment.environment.model
        path = directory / f"{name}_{when}.png"
        save_strip(path, model, positions)
        save_animation(path.with_suffix(".gif"), model, positions)


class Recording:
    """An environment that remembers the poses of its first row."""

    def __init__(self, environment: Environment):
        self._environment = environment
        self._poses = []

    def __getattr__(self, name: str):
        return getattr(self._environment, name)

    def step(self, actions: np.ndarray) -> Step:
        self._poses.append(self._environment.positions[0])
        return self._environment.step(actions)

    def take(self) -> np.ndarray:
        """The poses [steps, nq] since the last call."""
        poses, self._poses = self._poses, []
        return np.stack(poses[: self._environment.horizon])


def plot_paths(path: pathlib.Path, results: Results) -> None:
    """Paths in the plane before and after updates, as the paper's figure 4.

    Args:
        path: the PNG file.
        results: of a policy of the point environment.
    """
    experiment = results.experiment
    evaluation = results.evaluations[0]
    goals = experiment.environment.test_tasks(GOALS_SHOWN)
    stages = list(
        rollouts_by_updates(
            experiment,
            goals,
            evaluation.num_shots,
            evaluation.alpha,
            UPDATES_SHOWN,
        )
    )

    def draw(figure: Figure) -> None:
        axes = figure.subplots(
            GOALS_SHOWN, len(stages), sharex=True, sharey=True
        )
        for goal, line in zip(range(GOALS_SHOWN), axes, strict=True):
            for update, axis in enumerate(line):
                _draw_paths(axis, stages[update], goal, color(results.name))
                axis.plot(*goals[goal], "*", color="black", ms=9)
                axis.set_aspect("equal")
                axis.set(xlim=(-0.9, 0.9), ylim=(-0.9, 0.9))
                if goal == 0:
                    axis.set_title(
                        f"{update} update" + ("s" if update != 1 else "")
                    )
        figure.suptitle(
            f"{network_label(results.name)}: rollouts of {GOALS_SHOWN} "
            "held-out goals (stars)",
            fontsize=11,
        )
        figure.tight_layout()

    write_figure(path, (2.2 * len(stages), 2.2 * GOALS_SHOWN + 0.4), draw)


def _draw_paths(axis, rollouts, goal: int, shade: str) -> None:
    begins = np.flatnonzero(rollouts.mask[goal] & (rollouts.times[goal] == 0))
    ends = np.flatnonzero(rollouts.ends[goal])
    shown = list(zip(begins, ends, strict=True))[:PATHS_SHOWN]
    for begin, end in shown:
        positions = rollouts.observations[goal, begin : end + 1]
        axis.plot(positions[:, 0], positions[:, 1], lw=0.9, color=shade)
