"""Figures of the sinusoid experiment, as PNG files."""

import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from maml_tf.core.batch import Batch
from maml_tf.experiments.labels import color, network_label
from maml_tf.experiments.results import Results
from maml_tf.experiments.sinusoids import SinusoidExperiment
from maml_tf.plotting import write_figure
from maml_tf.tasks.sinusoids import INPUTS

UPDATES_SHOWN = {0: ":", 1: "--", 10: "-"}
CURVE_POINTS = 200


def plot_fits(
    path: pathlib.Path,
    networks: Sequence[Results[SinusoidExperiment]],
    num_shots: int,
    tasks=(0, 1, 2),
) -> None:
    """Plots fits before and after 1 and 10 updates: the paper's figure 2.

    Args:
        path: the PNG file.
        networks: one row of panels each.
        num_shots: K.
        tasks: indices of test tasks, one column each.
    """
    grid = np.linspace(*INPUTS, CURVE_POINTS)

    def draw(figure: Figure) -> None:
        axes = figure.subplots(
            len(networks),
            len(tasks),
            sharex=True,
            sharey="col",
            squeeze=False,
        )
        for row, results in zip(axes, networks, strict=True):
            for axis, index in zip(row, tasks, strict=True):
                _plot_fit(axis, results, num_shots, index, grid)
            alpha = results.at(num_shots).alpha
            step = "no updates" if alpha is None else f"step size {alpha:g}"
            row[0].set_ylabel(f"{network_label(results.label)}\n{step}\n\ny")
        for axis in axes[-1]:
            axis.set_xlabel("x")
        for axis, index in zip(axes[0], tasks, strict=True):
            axis.set_title(f"test task {index}, K = {num_shots}")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        legend = figure.legend(
            handles, labels, loc="lower center", ncols=len(labels), fontsize=9
        )
        for label, line in zip(labels, legend.get_lines(), strict=True):
            if label.endswith(("update", "updates")):
                line.set_color("dimgray")  # the rows have colors of their own
        figure.tight_layout(rect=(0, 0.07 if len(networks) > 1 else 0.1, 1, 1))

    write_figure(path, (3.6 * len(tasks), 2.7 * len(networks) + 0.5), draw)


def _plot_fit(
    axis, results: Results[SinusoidExperiment], num_shots, index, grid
) -> None:
    experiment = results.experiment
    stream = experiment.tasks(results.split, num_shots)
    curves = stream.curves(index, 1)
    dense = stream.batch(*curves, grid[None])
    support = _first(stream.tasks(index, 1).support)
    learner = experiment.evaluated(num_shots)
    evaluation = results.at(num_shots)
    measured = {summary.update for summary in evaluation.summaries}
    axis.plot(
        grid, dense.targets[0, :, 0], color="black", lw=1.2, label="true curve"
    )
    for update, line in UPDATES_SHOWN.items():
        if update not in measured:
            continue  # a method without updates has none but 0
        adapted = learner.adapt(*support, update, evaluation.alpha)
        fitted = adapted.predict(dense.inputs[0], "transductive")
        axis.plot(
            grid,
            fitted[:, 0],
            line,
            color=color(results.label),
            lw=1.8 if update == max(UPDATES_SHOWN) else 1.3,
            label={0: "before any update", 1: "1 update"}.get(
                update, f"{update} updates"
            ),
        )
    axis.plot(
        support.inputs[:, 0],
        support.targets[:, 0],
        "^",
        color="#6b46c1",
        ms=6,
        label="points seen",
    )


def _first(batch: Batch) -> Batch:
    return Batch(*(x[0] for x in batch))
