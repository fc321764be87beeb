"""Compares networks with each other and with the paper: table and figures."""

import json
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from maml_tf.experiments.evaluation import Evaluation, Published
from maml_tf.experiments.labels import network_label
from maml_tf.experiments.registry import find_source
from maml_tf.experiments.reporter import Reporter
from maml_tf.experiments.results import (
    NORM_BY,
    Results,
    as_json,
)
from maml_tf.files import write_atomically
from maml_tf.learner.scores import Summary

PAPER_ROW = "  paper"


def report(
    directory: pathlib.Path, networks: list[Results], console: Console
) -> None:
    """Prints the table, and writes table and figures.

    The files of several networks are called comparison..., those of a single
    one report..., so that neither replaces the other. comparison.json has
    all numbers of all networks.

    Args:
        directory: takes the files; the run directory of the first network.
        networks: in the order of the table's rows; all with the same
            evaluations.
        console: to print on.
    """
    tag = networks[0].settings.tag
    name = f"report{tag}"
    if len(networks) > 1:
        name = f"comparison{tag}"
        content = json.dumps([as_json(r) for r in networks], indent=2)
        write_atomically(directory / f"{name}.json", content)
    header, rows = table_header(networks), table_rows(networks)
    notes = table_notes(networks)
    reporter = _reporter(networks)
    _print(reporter.title(networks[0]), header, rows, notes, console)
    write_atomically(directory / f"{name}.md", _markdown(header, rows, notes))
    reporter.draw(directory, name, networks)


def table_header(networks: list[Results]) -> list[str]:
    """Titles of the columns."""
    statistics = ["norm by"] if _statistics(networks) else []
    learns = _reporter(networks).learns
    return [learns, "K", *statistics, "step"] + [
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
                    network_label(results.label),
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
            points = results.published.get(key.num_shots)
            if points and key.statistics == results.experiment.statistics:
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
    """Notes below the table."""
    reporter = _reporter(networks)
    notes = reporter.notes(networks)
    queries = networks[0].evaluations[0].num_queries
    if queries is not None and not _with_k_queries(networks[0]):
        plural = "s" if queries > 1 else ""
        notes.append(
            f"The query sets have {queries} example{plural} per class."
        )
    if not _as_the_original(networks[0]):
        notes.append(
            "The original's code evaluates differently: on test tasks, with K "
            "query examples per class and the step size of training."
        )
    if _statistics(networks):
        notes.append(
            "norm by: whose mean and variance batch normalization uses, the "
            "query set's own (transductive, as in MAML's paper), the support "
            "set's (+ 1: with one query image), those of both jointly, or the "
            "training images' (population)."
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
        f"{network_label(results.label)}: weights of iteration "
        f"{results.iteration}, the best in {reporter.chosen_in}."
        if results.settings.best
        else f"{network_label(results.label)}: as of iteration "
        f"{results.iteration} of "
        f"{results.experiment.config.num_iterations}."
        for results in networks
        if results.label not in ("random", "original") and not results.complete
    ]
    return notes


def _updates(networks: list[Results]) -> Sequence[int]:
    return _reporter(networks).updates_in_table(networks[0])


def _reporter(networks: list[Results]) -> Reporter:
    return find_source(networks[0].experiment.config.datasource).reporter


def _statistics(networks: list[Results]) -> bool:
    """Whether the table shows the statistics of batch normalization."""
    return any(
        e.statistics not in (None, "transductive")
        for e in networks[0].evaluations
    )


def _with_k_queries(results: Results) -> bool:
    return all(
        e.num_queries in (None, e.num_shots) for e in results.evaluations
    )


def _as_the_original(results: Results) -> bool:
    """Whether numbers beside the paper's are measured as by its code."""
    if not any(results.published.values()):
        return True
    return (
        results.split == "test"
        and _with_k_queries(results)
        and results.settings.alpha in (None, results.experiment.config.alpha)
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
    digits = evaluation.metric.digits(mean)
    interval = f"±{ci95:.{digits}f}" if np.isfinite(ci95) else ""
    return f"{mean:.{digits}f}{interval}{diverged}"


def _paper_cell(point: Published, evaluation: Evaluation) -> str:
    metric = evaluation.metric
    digits = metric.published_digits
    shown = f"{metric.scale * point.mean:.{digits}f}"
    if point.ci95 is None:
        return shown
    return f"{shown}±{metric.scale * point.ci95:.{digits}f}"


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
