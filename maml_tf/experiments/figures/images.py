"""Figures of the image experiments, as PNG files."""

import pathlib

import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from maml_tf.core.batch import Batch
from maml_tf.experiments.figures.drawing import logarithmic
from maml_tf.experiments.images import ImageExperiment
from maml_tf.experiments.labels import color, network_label
from maml_tf.experiments.results import NORM_BY, Results
from maml_tf.plotting import write_figure
from maml_tf.training.logs import read_rows

MOST_CLASSES = 10  # in a contact sheet
MOST_LETTERS = 17  # in a line above one of its columns
RIGHT, WRONG = "#2f855a", "#c1272d"


def plot_episode(
    path: pathlib.Path,
    results: Results[ImageExperiment],
    num_shots: int,
    index: int = 0,
) -> None:
    """Draws a task, with predictions before and after adaptation.

    Args:
        path: the PNG file.
        results: of the network.
        num_shots: K; the first support and query image of a class are shown.
        index: of the task.
    """
    experiment = results.experiment
    evaluation = results.at(num_shots)
    stream = experiment.tasks(results.split, num_shots, evaluation.num_queries)
    task = stream.tasks(index, 1)
    support, query = (Batch(*(x[0] for x in b)) for b in task)
    learner = experiment.evaluated(num_shots)
    updates = max(
        results.published.get(num_shots, {}), default=learner.method.test_steps
    )
    statistics = evaluation.statistics or "transductive"
    said = []
    for num_updates in (0, updates):
        adapted = learner.adapt(*support, num_updates, evaluation.alpha)
        outputs = adapted.predict(query.inputs, statistics)
        said.append(outputs.argmax(-1).reshape(stream.num_ways, -1)[:, 0])
    num_classes = min(stream.num_ways, MOST_CLASSES)
    shown = [
        batch.inputs.reshape(stream.num_ways, -1, *batch.inputs.shape[1:])[:, 0]
        for batch in (support, query, query)
    ]
    titles = (
        "support" if num_shots == 1 else f"support,\n1 of K = {num_shots}",
        "query,\nbefore any update",
        f"query,\nafter {updates} update{'s' if updates > 1 else ''}",
    )

    def draw(figure: Figure) -> None:
        axes = figure.subplots(3, num_classes)
        for row, images, title in zip(axes, shown, titles, strict=True):
            for axis, image in zip(row, images[:num_classes], strict=True):
                _show(axis, image)
            row[0].set_ylabel(title, fontsize=9)
        for i, (axis, name) in enumerate(
            zip(axes[0], stream.class_names(index), strict=False)
        ):
            # A $ in a name does not start a formula.
            axis.set_title(
                f"class {i + 1}\n{short_name(name)}",
                fontsize=7,
                parse_math=False,
            )
        for row, guesses in zip(axes[1:], said, strict=True):
            for i, axis in enumerate(row):
                _mark(axis, guesses[i], guesses[i] == i)
        title = (
            f"{network_label(results.label)}, {results.split} task {index} of "
            f"{experiment.config.datasource}"
        )
        if evaluation.statistics not in (None, "transductive"):
            title += f", norm by: {NORM_BY[evaluation.statistics]}"
        figure.suptitle(title, fontsize=11)
        figure.tight_layout()

    write_figure(path, (1.15 * num_classes + 1.3, 4.8), draw)


def short_name(name: str) -> str:
    """A class name for a figure, with a line for each of its parts.

    Parts longer than `MOST_LETTERS` lose their middle; letters that the
    figures' font lacks become question marks.
    """
    font = get_font(findfont(FontProperties()))
    letters = "".join(
        x if x == "/" or font.get_char_index(ord(x)) else "?" for x in name
    )
    half = MOST_LETTERS // 2
    return "\n".join(
        x if len(x) <= MOST_LETTERS else f"{x[:half]}…{x[-half:]}"
        for x in letters.split("/")
    )


def _show(axis, image: np.ndarray) -> None:
    if image.shape[-1] == 1:
        axis.imshow(1 - image[..., 0], cmap="gray", vmin=0, vmax=1)
    else:
        axis.imshow(image)
    axis.set_xticks([])
    axis.set_yticks([])


def _mark(axis, guess: int, right: bool) -> None:
    """Draws a frame, and writes the class that the network predicts."""
    shade = RIGHT if right else WRONG
    for spine in axis.spines.values():
        spine.set(visible=True, color=shade, linewidth=2)
    axis.set_xlabel(f"says {guess + 1}", color=shade, fontsize=9)


def plot_training(
    path: pathlib.Path, run: pathlib.Path, results: Results
) -> None:
    """Plots loss and validation accuracy by iteration, from a run's logs.

    Args:
        path: the PNG file.
        run: the run directory.
        results: of its network.
    """
    losses = read_rows(run / "train.csv")
    accuracies = read_rows(run / "validation.csv")

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        for field, label, line, fill in (
            ("pre_update", "support set, before any update", "--", "none"),
            ("post_update", "query set, after adaptation", "-", "full"),
        ):
            rows = [row for row in losses if field in row]
            left.plot(
                [row["iteration"] for row in rows],
                [row[field] for row in rows],
                line,
                marker=_marker(rows),
                fillstyle=fill,
                lw=1,
                ms=4,
                color=color(results.label),
                label=label,
            )
        logarithmic(left)
        left.set_ylabel("training loss of a task")
        left.legend(fontsize=9)
        right.plot(
            [row["iteration"] for row in accuracies],
            [100 * row["accuracy"] for row in accuracies],
            marker=_marker(accuracies),
            lw=1,
            ms=4,
            color=color(results.label),
        )
        right.set_ylabel("validation accuracy in %")
        for axis in (left, right):
            axis.set_xlabel("iteration")
            axis.xaxis.get_major_locator().set_params(integer=True)
            axis.grid(alpha=0.25, which="both", lw=0.5)
        figure.tight_layout()

    write_figure(path, (9, 3.6), draw)


def _marker(rows: list) -> str:
    """Markers where the points are too few for a line to show them."""
    return "o" if len(rows) < 20 else ""
