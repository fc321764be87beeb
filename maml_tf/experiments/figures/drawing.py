"""Helpers of all figures, and figures of any experiment, as PNG files."""

import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from maml_tf.experiments.labels import color, network_label
from maml_tf.experiments.results import (
    NORM_BY,
    Evaluation,
    Results,
)
from maml_tf.plotting import write_figure


class _PlainNumbers(LogFormatter):
    """Matplotlib's choice of ticks to label, without powers of ten."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def logarithmic(axis: Axes) -> None:
    """Makes the y axis logarithmic, with plain numbers at its ticks."""
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(_PlainNumbers())
    axis.yaxis.set_minor_formatter(_PlainNumbers(minor_thresholds=(1, 0.4)))


def plot_metric_by_updates(
    path: pathlib.Path, networks: Sequence[Results]
) -> None:
    """Plots the metric against the number of updates, a panel for each K.

    Args:
        path: the PNG file.
        networks: all with the same K. Each gets a curve, for each of its
            statistics, with the 95 % interval as a band, and the paper's
            points.
    """
    shots = networks[0].shots

    def draw(figure: Figure) -> None:
        axes = figure.subplots(1, len(shots), sharey=True, squeeze=False)[0]
        for axis, num_shots in zip(axes, shots, strict=True):
            _plot_panel(axis, networks, num_shots)
        metric = networks[0].experiment.reports
        axes[0].set_ylabel(
            f"{metric.name}{metric.unit}, "
            f"{networks[0].num_tasks} {networks[0].split} tasks"
        )
        labelled = {
            label: handle
            for axis in axes
            for handle, label in zip(
                *axis.get_legend_handles_labels(), strict=True
            )
        }
        columns = len(labelled) if len(shots) > 2 else min(len(labelled), 2)
        figure.legend(
            labelled.values(),
            labelled.keys(),
            loc="lower center",
            ncols=columns,
            fontsize=9,
        )
        rows = -(-len(labelled) // columns)
        figure.tight_layout(rect=(0, 0.02 + 0.06 * rows, 1, 1))

    write_figure(path, (max(4.1 * len(shots), 4.8), 3.9), draw)


def _plot_panel(axis, networks: Sequence[Results], num_shots: int) -> None:
    metric = networks[0].experiment.reports
    for results in networks:
        for evaluation in results.evaluations:
            if evaluation.num_shots == num_shots:
                _plot_curve(axis, results, evaluation)
        points = results.published.get(num_shots, {})
        if points:
            axis.errorbar(
                list(points),
                [metric.scale * p.mean for p in points.values()],
                [metric.scale * (p.ci95 or 0) for p in points.values()],
                fmt="D--" if metric.curve else "D",
                color=color(results.label),
                mec="black",
                ecolor="black",
                ms=6,
                zorder=3,
                label=f"paper, {network_label(results.label)}",
            )
    if metric.logarithmic:
        logarithmic(axis)
    axis.set_xlabel("number of updates")
    axis.set_title(f"K = {num_shots}")
    updates = networks[0].evaluations[0].values.shape[1]
    axis.set_xticks(range(0, updates, 2 if updates > 6 else 1))
    axis.grid(alpha=0.25, which="both", lw=0.5)


def _plot_curve(axis, results: Results, evaluation: Evaluation) -> None:
    metric = evaluation.metric
    summaries = evaluation.summaries
    mean = metric.scale * np.array([s.mean for s in summaries])
    half = metric.scale * np.array([s.ci95 for s in summaries])
    half[~np.isfinite(half)] = np.nan  # no band
    label = network_label(results.label)
    several = {e.statistics for e in results.evaluations}
    if len(several) > 1:
        label += f", norm by {NORM_BY[evaluation.statistics]}"
    shade = color(results.label)
    if evaluation.statistics == "support":
        shade = "#2b6cb0"
    axis.plot(
        [s.update for s in summaries],
        mean,
        "-o",
        ms=3.5,
        color=shade,
        label=label,
    )
    axis.fill_between(
        [s.update for s in summaries],
        np.maximum(mean - half, metric.smallest_shown),
        np.minimum(mean + half, metric.scale * metric.largest),
        color=shade,
        alpha=0.18,
        lw=0,
    )
