"""Figures of the sinusoid experiment, as PNG files."""

import io
import pathlib

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from maml_tf.files import write_atomically
from maml_tf.losses import predict
from maml_tf.maml import adapt
from maml_tf.paper import SINUSOID_MSE
from maml_tf.results import DIVERGED_ABOVE, Results
from maml_tf.sinusoid import INPUTS

STYLE = {
    "figure.dpi": 150,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "legend.frameon": False,
}
COLORS = {
    "maml": "#c1272d",
    "first-order": "#eb7f2a",
    "pretrained": "#2b6cb0",
    "oracle": "#2f855a",
    "random": "#8a8a8a",
}
UPDATES_SHOWN = {0: ":", 1: "--", 10: "-"}
CURVE_POINTS = 200


def network_label(name: str) -> str:
    """What a reader calls the network."""
    return {"maml": "MAML", "first-order": "first-order MAML"}.get(name, name)


def color(name: str) -> str:
    """The color of a network, by the first part of its name."""
    return COLORS.get(name.split(".")[0], "#444444")


def plot_fits(
    path: pathlib.Path, networks: list[Results], num_shots: int, tasks=(0, 1, 2)
) -> None:
    """Fitted curves before and after 1 and 10 updates: the paper's figure 2.

    Args:
        path: the PNG file.
        networks: one row of panels each.
        num_shots: K.
        tasks: indices of test tasks, one column each.
    """
    grid = np.linspace(*INPUTS, CURVE_POINTS)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.6 * len(tasks), 2.7 * len(networks) + 0.5))
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
            row[0].set_ylabel(
                f"{network_label(results.name)}\n"
                f"step size {results.at(num_shots).alpha:g}\n\ny"
            )
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
        _save(figure, path)


def _plot_fit(axis, results: Results, num_shots, index, grid) -> None:
    experiment = results.experiment
    stream = experiment.tasks(results.split, num_shots)
    curves = stream.curves(index, 1)
    dense = stream.batch(*curves, grid[None])
    support = _first(stream.tasks(index, 1).support)
    iterates = adapt(
        experiment.loss,
        [v.value for v in experiment.model.trainable_variables],
        [support] * max(UPDATES_SHOWN),
        results.at(num_shots).alpha,
        adapts=experiment.adapts,
    ).iterates
    axis.plot(
        grid, dense.targets[0, :, 0], color="black", lw=1.2, label="true curve"
    )
    for update, line in UPDATES_SHOWN.items():
        fitted = predict(experiment.model, iterates[update], dense.inputs[0])
        axis.plot(
            grid,
            fitted[:, 0],
            line,
            color=color(results.name),
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


def plot_learning_curves(
    path: pathlib.Path, networks: list[Results], shots: list[int]
) -> None:
    """Error against the number of updates: the paper's figure 3.

    Args:
        path: the PNG file.
        networks: one curve each, with its 95 % interval as a band.
        shots: one panel for each K.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.1 * len(shots), 3.9))
        axes = figure.subplots(1, len(shots), sharey=True)
        for axis, num_shots in zip(np.atleast_1d(axes), shots, strict=True):
            for results in networks:
                _plot_curve(axis, results, num_shots)
            for (name, k), points in SINUSOID_MSE.items():
                if k == num_shots:
                    axis.plot(
                        list(points),
                        list(points.values()),
                        "D",
                        color=color(name),
                        mec="black",
                        ms=7,
                        label=f"paper, {network_label(name)}",
                    )
            axis.set_yscale("log")
            axis.set_xlabel("number of updates")
            axis.set_title(f"K = {num_shots} points")
            axis.set_xticks(range(0, 11, 2))
            axis.grid(alpha=0.25, which="both", lw=0.5)
        first = np.atleast_1d(axes)[0]
        first.set_ylabel("mean squared error, 600 test tasks")
        labelled = {
            label: handle
            for axis in np.atleast_1d(axes)
            for handle, label in zip(
                *axis.get_legend_handles_labels(), strict=True
            )
        }
        figure.legend(
            labelled.values(),
            labelled.keys(),
            loc="lower center",
            ncols=len(labelled),
            fontsize=9,
        )
        figure.tight_layout(rect=(0, 0.08, 1, 1))
        _save(figure, path)


def _plot_curve(axis, results: Results, num_shots: int) -> None:
    summaries = results.at(num_shots).summaries
    updates = [s.update for s in summaries]
    mean = np.array([s.mean for s in summaries])
    half = np.array([s.ci95 for s in summaries])
    axis.plot(
        updates,
        mean,
        "-o",
        ms=3.5,
        color=color(results.name),
        label=network_label(results.name),
    )
    axis.fill_between(
        updates,
        np.maximum(mean - half, 1e-4),
        np.minimum(mean + half, DIVERGED_ABOVE),
        color=color(results.name),
        alpha=0.18,
        lw=0,
    )


def _save(figure: Figure, path: pathlib.Path) -> None:
    content = io.BytesIO()
    figure.savefig(content, format="png")
    write_atomically(path, content.getvalue())


def _first(batch):
    return type(batch)(*(x[0] for x in batch))
