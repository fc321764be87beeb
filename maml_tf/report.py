"""Networks beside each other and beside the paper: table and figures."""

import json
import pathlib

from rich import box
from rich.console import Console
from rich.table import Table

from maml_tf.evaluation import NUM_TASKS, Summary
from maml_tf.figures import (
    network_label,
    plot_fits,
    plot_learning_curves,
)
from maml_tf.files import write_atomically
from maml_tf.paper import SINUSOID_MSE
from maml_tf.results import Evaluation, Results, as_json

UPDATES_IN_TABLE = (0, 1, 5, 10)
PAPER_ROW = "  paper"
FITS_SHOTS = (5, 10)  # of the paper's figure 2

HEADER = ["network", "K", "step"] + [
    f"{u} update" + ("s" if u != 1 else "") for u in UPDATES_IN_TABLE
]


def report(
    directory: pathlib.Path, networks: list[Results], console: Console
) -> None:
    """Prints the table, and writes table and figures.

    The files of several networks are called comparison..., those of a single
    one report..., so that neither replaces the other. comparison.json has
    all numbers of all networks.

    Args:
        directory: takes the files.
        networks: in the order of the table's rows; the same shots each.
        console: to print on.
    """
    name = f"report{networks[0].tag}"
    if len(networks) > 1:
        name = f"comparison{networks[0].tag}"
        content = json.dumps([as_json(r) for r in networks], indent=2)
        write_atomically(directory / f"{name}.json", content)
    rows = table_rows(networks)
    notes = table_notes(networks)
    _print(rows, notes, console)
    write_atomically(directory / f"{name}.md", _markdown(rows, notes))
    shots = [e.num_shots for e in networks[0].evaluations]
    plot_learning_curves(
        directory / f"{name}_mse_by_updates.png", networks, shots
    )
    fitted = [r for r in networks if r.name not in ("oracle", "random")]
    for num_shots in shots:
        if fitted and num_shots in FITS_SHOTS:
            plot_fits(
                directory / f"{name}_fits_K{num_shots}.png", fitted, num_shots
            )


def table_rows(networks: list[Results]) -> list[list[str]]:
    """Cells of the table: ours, and below it the paper's where it has one."""
    rows = []
    for num_shots in [e.num_shots for e in networks[0].evaluations]:
        for results in networks:
            evaluation = results.at(num_shots)
            rows.append(
                [
                    network_label(results.name),
                    str(num_shots),
                    _step_size(evaluation),
                    *(_cell(evaluation.summaries[u]) for u in UPDATES_IN_TABLE),
                ]
            )
            published = SINUSOID_MSE.get((results.name, num_shots))
            if published:
                rows.append(
                    [
                        PAPER_ROW,
                        str(num_shots),
                        "",
                        *(
                            f"{published[u]:.2f}" if u in published else ""
                            for u in UPDATES_IN_TABLE
                        ),
                    ]
                )
    return rows


def table_notes(networks: list[Results]) -> list[str]:
    """What a reader of the table has to know."""
    notes = [
        f"Mean squared error on the query sets of {NUM_TASKS} "
        f"{networks[0].split} tasks, ± 95 % interval; 0 updates is the query "
        "set, too.",
    ]
    if any(e.alpha_searched for r in networks for e in r.evaluations):
        notes.append("* step size searched on validation tasks.")
    if any(
        evaluation.summaries[u].diverged
        for results in networks
        for evaluation in results.evaluations
        for u in UPDATES_IN_TABLE
    ):
        notes.append(
            "[n] n tasks diverged and are left out of the mean; the median, "
            "in the .json files, counts them."
        )
    notes += [
        f"{network_label(results.name)}: stopped early, at iteration "
        f"{results.iteration} of "
        f"{results.experiment.config.num_iterations}."
        for results in networks
        if results.name != "random" and not results.complete
    ]
    return notes


def _step_size(evaluation: Evaluation) -> str:
    if not evaluation.alpha:
        return "none"
    return f"{evaluation.alpha:g}" + ("*" if evaluation.alpha_searched else "")


def _cell(summary: Summary) -> str:
    diverged = f" [{summary.diverged}]" if summary.diverged else ""
    digits = 2 if summary.mean >= 0.1 else 3
    return f"{summary.mean:.{digits}f}±{summary.ci95:.{digits}f}{diverged}"


def _print(rows, notes, console: Console) -> None:
    table = Table(
        title="Sinusoid regression", box=box.SIMPLE, collapse_padding=True
    )
    for i, title in enumerate(HEADER):
        table.add_column(title, justify="left" if i == 0 else "right")
    for i, row in enumerate(rows):
        following = rows[i + 1] if i + 1 < len(rows) else row
        table.add_row(
            *(cell.replace("[", "\\[") for cell in row),
            style="dim" if row[0] == PAPER_ROW else None,
            end_section=row[1] != following[1],
        )
    console.print(table)
    for note in notes:
        console.print(note, markup=False, highlight=False)


def _markdown(rows, notes) -> str:
    lines = [HEADER, ["---"] * len(HEADER), *rows]
    table = "".join("| " + " | ".join(line) + " |\n" for line in lines)
    return table + "\n" + "".join(f"{note}\n" for note in notes)
