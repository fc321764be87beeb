"""The benchmark's output: tables, the loop's ratio, disagreements."""

from typing import Any

from entries import FIRST, LOOP, REFERENCE, SECOND
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from workloads import WORKLOADS

Results = list[dict[str, Any]]

TOLERANCE_IN_DOUBLE = 1e-9
CHECKS = ("float32", "float64", "gradient")

LEGEND = f"""
ms: per meta-step, median of the rounds. x ours: relative to {REFERENCE.name},
of the same order. first s: seconds of building, compiling and the first call.
MB: peak memory of the process. Largest relative difference from
{REFERENCE.name}: f32, of the losses of the first step as timed; f64, of the
losses of some steps with a few tasks in double precision; grad, of the
meta-gradients of those.
"""


def show(workload: str, results: Results, console: Console) -> None:
    """Prints the results as a table."""
    table = Table(
        title=workload, box=SIMPLE, title_justify="left", pad_edge=False
    )
    table.add_column("", max_width=24)  # all numbers fit into 80 columns
    for heading in ("ms", "x ours", "first s", "MB", "f32", "f64", "grad"):
        table.add_column(heading, justify="right", no_wrap=True)
    for order, heading in ((SECOND, None), (FIRST, "first order:")):
        rows = [r for r in results if r["order"] == order]
        if heading and rows:
            table.add_section()
            table.add_row(heading)
        for r in rows:
            differences = r["differences"]
            table.add_row(
                r["name"],
                _milliseconds(r["ms_per_step"]),
                f"{r['times_ours']:.2f}",
                f"{r['first_call_s']:.1f}",
                f"{r['peak_memory_mb']:.0f}",
                *(f"{differences[c]:.0e}" for c in CHECKS if differences),
            )
    console.print(table)
    for r in results:
        if len(r["ms_when_tried"]) > 1:
            tried = "; ".join(
                f"{variant} {_milliseconds(ms)}"
                for variant, ms in r["ms_when_tried"].items()
            )
            console.print(
                f"{r['name']}, {r['order']} order, tried (ms): {tried}",
                highlight=False,
                soft_wrap=True,
            )
    for r in results:
        if r["name"] == LOOP.name:
            ratio = r["times_ours"]
            console.print(
                f"{workload}: the training loop takes {ratio:.3f} times as "
                "long as the bare step",
                highlight=False,
                soft_wrap=True,
            )


def disagreements(workload: str, results: Results) -> list[str]:
    """Describes who does not compute what maml_tf's step does."""
    tolerances = {c: TOLERANCE_IN_DOUBLE for c in CHECKS}
    tolerances["float32"] = WORKLOADS[workload].tolerance
    return [
        f"{workload}, {r['order']} order: {r['name']} differs by "
        f"{differs:.1e} ({check}), more than {tolerances[check]}."
        for r in results
        for check, differs in r["differences"].items()
        if not differs <= tolerances[check]  # NaN is not, either
    ]


def _milliseconds(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
