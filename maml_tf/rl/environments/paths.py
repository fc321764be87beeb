"""Figures of paths in the plane before and after updates (figure 4)."""

import pathlib

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from maml_tf.plotting import write_figure
from maml_tf.rl.environments.recording import Episode
from maml_tf.rl.environments.spec import Demonstration

GOALS_SHOWN = 3
PATHS_SHOWN = 6  # of a goal
UPDATES_SHOWN = 3


def draw_paths(stem: pathlib.Path, shown: Demonstration, reach: float) -> None:
    """Writes `<stem>_paths.png`: a line for each goal, a column per update.

    Args:
        stem: the start of the file's path.
        shown: a policy whose poses, [steps, 2 or more], start with x and y;
            so do its goals.
        reach: limit of the axes, to either side of 0.
    """
    goals = shown.environment.test_tasks(GOALS_SHOWN)
    stages = list(shown.episodes(goals, UPDATES_SHOWN))

    def draw(figure: Figure) -> None:
        axes = figure.subplots(
            len(goals), len(stages), sharex=True, sharey=True, squeeze=False
        )
        for update, (stage, column) in enumerate(
            zip(stages, axes.T, strict=True)
        ):
            title = f"{update} update" + ("s" if update != 1 else "")
            column[0].set_title(title)
            for goal, paths, axis in zip(goals, stage, column, strict=True):
                _draw_goal(axis, goal, paths, shown.color)
                axis.set_aspect("equal")
                axis.set(xlim=(-reach, reach), ylim=(-reach, reach))
        figure.suptitle(
            f"{shown.label}: rollouts of {len(goals)} held-out goals (stars)",
            fontsize=11,
        )
        figure.tight_layout()

    size = (2.2 * len(stages), 2.2 * len(goals) + 0.4)
    write_figure(stem.with_name(f"{stem.name}_paths.png"), size, draw)


def _draw_goal(
    axis: Axes, goal: np.ndarray, paths: list[Episode], color: str
) -> None:
    for path in paths[:PATHS_SHOWN]:
        axis.plot(path[:, 0], path[:, 1], lw=0.9, color=color)
    axis.plot(*goal[:2], "*", color="black", ms=9)
