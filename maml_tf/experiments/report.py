"""Networks beside each other and beside the paper: table and figures."""

import json
import pathlib
import sys

import numpy as np
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from maml_tf.experiments.experiment import ImageExperiment
from maml_tf.experiments.figures.drawing import (
    network_label,
    plot_metric_by_updates,
)
from maml_tf.experiments.figures.images import plot_episode, plot_training
from maml_tf.experiments.figures.sinusoids import plot_fits
from maml_tf.experiments.paper import published
from maml_tf.experiments.results import NORM_BY, Evaluation, Results, as_json
from maml_tf.experiments.rl_config import RLConfig
from maml_tf.files import write_atomically
from maml_tf.learner.evaluation import ACCURACY, MEAN_SQUARED_ERROR, Summary

UPDATES_IN_TABLE = {"sinusoid": (0, 1, 5, 10), "images": (0, 1, 3, 5, 10)}
PAPER_ROW = "  paper"
FITS_SHOTS = (5, 10)  # of the paper's figure 2


def report(
    directory: pathlib.Path, networks: list[Results], console: Console
) -> None:
    """Prints the table, and writes table and figures.

    The files of several networks are called comparison..., those of a single
    one report..., so that neither replaces the other. comparison.json has
    all numbers of all networks.

    Args:
        directory: takes the files; the run directory of the first network.
        networks: in the order of the table's rows; the same evaluations each.
        console: to print on.
    """
    name = f"report{networks[0].tag}"
    if len(networks) > 1:
        name = f"comparison{networks[0].tag}"
        content = json.dumps([as_json(r) for r in networks], indent=2)
        write_atomically(directory / f"{name}.json", content)
    header, rows = table_header(networks), table_rows(networks)
    notes = table_notes(networks)
    _print(_title(networks[0]), header, rows, notes, console)
    write_atomically(directory / f"{name}.md", _markdown(header, rows, notes))
    if _policies(networks):
        # It imports TensorFlow Probability, which takes seconds.
        from maml_tf.experiments.figures.policies import plot_policies

        plot_policies(directory, name, networks)
        return
    shots = dict.fromkeys(e.num_shots for e in networks[0].evaluations)
    if isinstance(networks[0].experiment, ImageExperiment):
        plot_metric_by_updates(
            directory / f"{name}_accuracy_by_updates.png", networks
        )
        if (directory / "validation.csv").exists():
            plot_training(
                directory / f"{name}_training.png", directory, networks[0]
            )
        for num_shots in shots:
            plot_episode(
                directory / f"{name}_episode_K{num_shots}.png",
                networks[0],
                num_shots,
            )
        return
    plot_metric_by_updates(directory / f"{name}_mse_by_updates.png", networks)
    fitted = [r for r in networks if r.name not in ("oracle", "random")]
    for num_shots in shots:
        if fitted and num_shots in FITS_SHOTS:
            plot_fits(
                directory / f"{name}_fits_K{num_shots}.png", fitted, num_shots
            )


def table_header(networks: list[Results]) -> list[str]:
    """Titles of the columns."""
    statistics = ["norm by"] if _statistics(networks) else []
    network = "policy" if _policies(networks) else "network"
    return [network, "K", *statistics, "step"] + [
        f"{u} update" + ("s" if u != 1 else "") for u in _updates(networks)
    ]


def table_rows(networks: list[Results]) -> list[list[str]]:
    """Cells of the table: ours, and below it the paper's where it has one."""
    rows = []
    updates = _updates(networks)
    for key in networks[0].evaluations:
        for results in networks:
            evaluation = results.at(key.num_shots, key.statistics)
            statistics = (
                [NORM_BY[key.statistics]] if _statistics(networks) else []
            )
            rows.append(
                [
                    network_label(results.name),
                    str(key.num_shots),
                    *statistics,
                    _step_size(evaluation),
                    *(
                        _cell(evaluation.summaries[u], evaluation)
                        if u < len(evaluation.summaries)
                        else ""  # the oracle does not adapt
                        for u in updates
                    ),
                ]
            )
            points = published(
                results.name, results.experiment.config, key.num_shots
            )
            if points and key.statistics != "support":
                rows.append(
                    [
                        PAPER_ROW,
                        str(key.num_shots),
                        *("" for _ in statistics),
                        "",
                        *(
                            _paper_cell(points[u], evaluation)
                            if u in points
                            else ""
                            for u in updates
                        ),
                    ]
                )
    return rows


def table_notes(networks: list[Results]) -> list[str]:
    """What a reader of the table has to know."""
    metric = networks[0].experiment.reports
    percent = " in %" if metric is ACCURACY else ""
    if _policies(networks):
        notes = _notes_on_rollouts(networks)
    else:
        notes = [
            f"{metric.name.capitalize()}{percent} on the query sets of "
            f"{networks[0].num_tasks} {networks[0].split} tasks, ± 95 % "
            "interval; 0 updates is the query set, too.",
        ]
    queries = networks[0].evaluations[0].num_queries
    if not _with_k_queries(networks[0]):
        plural = "s" if queries > 1 else ""
        notes.append(f"The query sets have {queries} example{plural} a class.")
    if not _as_the_original(networks[0]):
        notes.append(
            "The original's code evaluates otherwise: on test tasks, with K "
            "query examples a class and the step size of training."
        )
    if _statistics(networks):
        notes.append(
            "norm by: whose mean and variance batch normalization uses, the "
            "query set's own (transductive, as the paper) or the support set's."
        )
    if any(e.alpha_searched for r in networks for e in r.evaluations):
        notes.append("* step size searched on validation tasks.")
    if any(
        summary.diverged
        for results in networks
        for evaluation in results.evaluations
        for summary in evaluation.summaries
        if summary.update in _updates(networks)
    ):
        notes.append(
            "[n] n tasks diverged and are left out of the mean; the median, "
            "in the .json files, counts them."
        )
    notes += [
        f"{network_label(results.name)}: weights of iteration "
        f"{results.iteration}, the best in "
        f"{'training' if _policies(networks) else 'validation'}."
        if "best" in results.tag.split("_")
        else f"{network_label(results.name)}: as of iteration "
        f"{results.iteration} of "
        f"{results.experiment.config.num_iterations}."
        for results in networks
        if results.name not in ("random", "original") and not results.complete
    ]
    return notes


def _notes_on_rollouts(networks: list[Results]) -> list[str]:
    evaluation = networks[0].evaluations[0]
    transitions = evaluation.counts["transitions_per_goal"]
    notes = [
        "Return (sum of rewards, not discounted) with fresh data, K rollouts "
        f"or {transitions} transitions of each goal, on "
        f"{networks[0].num_tasks} "
        "held-out goals, ± 95 % interval over the goals. The step size is that "
        "of the first update, half of it of the others.",
    ]
    unstable = {
        network_label(results.name): sum(
            results.evaluations[0].counts["unstable_episodes"]
        )
        for results in networks
    }
    notes += [
        f"{name}: the simulation broke down in {count} episodes, which are "
        "left out."
        for name, count in unstable.items()
        if count
    ]
    return notes


def _title(results: Results) -> str:
    experiment = results.experiment
    if isinstance(experiment, ImageExperiment):
        config = experiment.config
        return f"{config.datasource}, {config.num_ways}-way classification"
    if isinstance(experiment.config, RLConfig):
        return f"{experiment.config.datasource}, reinforcement learning"
    return "Sinusoid regression"


def _updates(networks: list[Results]) -> tuple[int, ...]:
    if _policies(networks):
        return tuple(range(networks[0].evaluations[0].values.shape[1]))
    images = isinstance(networks[0].experiment, ImageExperiment)
    return UPDATES_IN_TABLE["images" if images else "sinusoid"]


def _policies(networks: list[Results]) -> bool:
    return isinstance(networks[0].experiment.config, RLConfig)


def _statistics(networks: list[Results]) -> bool:
    """Whether the table tells statistics of batch normalization apart."""
    return any(
        e.statistics not in (None, "transductive")
        for e in networks[0].evaluations
    )


def _with_k_queries(results: Results) -> bool:
    return all(
        e.num_queries in (None, e.num_shots) for e in results.evaluations
    )


def _as_the_original(results: Results) -> bool:
    """Whether what stands beside the paper is measured as its code does."""
    if not any(
        published(results.name, results.experiment.config, e.num_shots)
        for e in results.evaluations
    ):
        return True
    alpha = results.experiment.config.alpha
    return (
        results.split == "test"
        and _with_k_queries(results)
        and (
            "_stepsize" not in results.tag
            or all(e.alpha == alpha for e in results.evaluations)
        )
    )


def _step_size(evaluation: Evaluation) -> str:
    if not evaluation.alpha:
        return "none"
    return f"{evaluation.alpha:g}" + ("*" if evaluation.alpha_searched else "")


def _cell(summary: Summary, evaluation: Evaluation) -> str:
    diverged = f" [{summary.diverged}]" if summary.diverged else ""
    mean, ci95 = (
        evaluation.metric.scale * x for x in (summary.mean, summary.ci95)
    )
    digits = 1
    if evaluation.metric is MEAN_SQUARED_ERROR:
        digits = 2 if mean >= 0.1 else 3
    interval = f"±{ci95:.{digits}f}" if np.isfinite(ci95) else ""
    return f"{mean:.{digits}f}{interval}{diverged}"


def _paper_cell(point, evaluation: Evaluation) -> str:
    scale = evaluation.metric.scale
    if evaluation.metric is MEAN_SQUARED_ERROR:
        return f"{point.mean:.2f}"
    interval = "" if point.ci95 is None else f"±{scale * point.ci95:.1f}"
    return f"{scale * point.mean:.1f}{interval}"


def _print(title, header, rows, notes, console: Console) -> None:
    console.print(_fitting_table(title, header, rows, console))
    for note in notes:
        console.print(note, markup=False, highlight=False)


def _fitting_table(title, header, rows, console: Console) -> Table:
    """As wide as the console at most; cells break between words.

    Rich would cut words, and so the last digits of numbers.
    """
    columns = list(zip(header, *rows, strict=True))
    longest = [max(map(len, column)) for column in columns]
    shortest = [
        max(len(word) for cell in column for word in cell.split())
        for column in columns
    ]

    def table(widths, gap) -> tuple[Table, int]:
        made = _table(title, header, rows, widths, gap)
        unlimited = console.options.update(max_width=sys.maxsize)
        wide = Measurement.get(console, unlimited, made).maximum
        return made, console.width - wide

    for widths, gap in ((longest, 1), (shortest, 1), (shortest, 0)):
        made, left = table(widths, gap)
        if left >= 0:
            break
    first = min(longest[0], widths[0] + max(left, 0))
    return table([first, *widths[1:]], gap)[0]


def _table(title, header, rows, widths, gap: int) -> Table:
    table = Table(
        title=title,
        box=box.SIMPLE,
        collapse_padding=True,
        pad_edge=False,
        show_edge=gap > 0,
        padding=(0, gap),
    )
    for i, (heading, width) in enumerate(zip(header, widths, strict=True)):
        table.add_column(
            heading, justify="left" if i == 0 else "right", width=width
        )
    for i, row in enumerate(rows):
        following = rows[i + 1] if i + 1 < len(rows) else row
        table.add_row(
            *(cell.replace("[", "\\[") for cell in row),
            style="dim" if row[0] == PAPER_ROW else None,
            end_section=row[1] != following[1],
        )
    return table


def _markdown(header, rows, notes) -> str:
    lines = [header, ["---"] * len(header), *rows]
    table = "".join("| " + " | ".join(line) + " |\n" for line in lines)
    return table + "\n" + "".join(f"{note}\n" for note in notes)
