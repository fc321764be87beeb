"""Times a full meta-step of maml_tf and of its peers, side by side.

    python benchmarks/meta_step.py

Each implementation runs in a process of its own; the processes take turns, one
at a time, so that other load on the machine affects all alike. README.md says
what is compared.
"""

import concurrent.futures
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import statistics
import sys
from typing import Any

import numpy as np
from absl import app, flags
from entries import ENTRIES, FIRST, LOOP, REFERENCE, SECOND, Entry
from rich.console import Console
from tables import LEGEND, disagreements, show
from worker_process import Worker
from workloads import WORKLOADS

FLAGS = flags.FLAGS
flags.DEFINE_multi_enum(
    "workload", list(WORKLOADS), list(WORKLOADS), "what to time; repeatable"
)
flags.DEFINE_multi_enum(
    "order",
    [SECOND, FIRST],
    [SECOND, FIRST],
    "second: with second derivatives; first: without; repeatable",
)
flags.DEFINE_integer("rounds", 5, "turns of each implementation", 1)
flags.DEFINE_float(
    "seconds", 1.0, "about how long a turn is, if the loop's is not longer", 0.0
)
flags.DEFINE_string("output", None, "also write the results here, as JSON")

PACKAGES = ("tensorflow", "keras", "torch", "jax", "numpy")
CHECKS_AT_ONCE = 2


def start_fastest(
    entry: Entry, workload: str, order: str, seconds: float
) -> Worker:
    """A worker of the fastest variant, set to turns of about `seconds`."""
    fastest, tried = None, {}
    for variant in entry.variants(workload, order):
        worker = Worker(entry, variant, workload, order, "float32")
        if entry.compared:
            worker.losses = worker.ask("losses", 1)
        worker.set_turn(seconds)
        tried[", ".join(variant)] = 1e3 * worker.seconds
        if fastest is None:
            fastest = worker
        elif worker.seconds < fastest.seconds:
            fastest.stop()
            fastest = worker
        else:
            worker.stop()
    fastest.tried = tried
    return fastest


def in_double(
    entry: Entry, variant: tuple[str, str], workload: str, order: str
) -> tuple[list, list]:
    """Losses of some steps in double precision, and their meta-gradients.

    There rounding is too small to hide a different computation.
    """
    worker = Worker(entry, variant, workload, order, "float64")
    losses = worker.ask("losses", WORKLOADS[workload].checked_steps)
    gradients = worker.ask("gradients")
    worker.stop()
    return losses, gradients


def all_in_double(
    workers: dict[Entry, Worker], workload: str, order: str
) -> dict[Entry, tuple[list, list]]:
    """`in_double` of all that can be compared, some at a time.

    Rows that differ in their threads share a check.
    """
    checks = {}
    with concurrent.futures.ThreadPoolExecutor(CHECKS_AT_ONCE) as pool:
        for entry, worker in workers.items():
            name = worker.variant[0]
            if entry.compared and name not in checks:
                checks[name] = pool.submit(
                    in_double, entry, worker.variant, workload, order
                )
    return {
        entry: checks[worker.variant[0]].result()
        for entry, worker in workers.items()
        if entry.compared
    }


def take_turns(
    workers: dict[Entry, Worker], seconds: float
) -> dict[Entry, list[float]]:
    """Seconds per step in each round.

    Implementations whose single step is longer than a turn of `seconds` sit out
    every other round.
    """
    times = {entry: [] for entry in workers}
    for i in range(FLAGS.rounds):
        for entry, worker in workers.items():
            if worker.seconds < seconds or i % 2 == 0:
                times[entry].append(worker.ask("time_steps", worker.count))
    return times


def measure(
    workload: str, order: str, console: Console
) -> list[dict[str, Any]]:
    """Times all implementations that can run: one result for each."""
    workers = {}
    seconds = FLAGS.seconds
    for entry in ENTRIES:
        if not entry.does(workload, order):
            continue
        if importlib.util.find_spec(entry.package) is None:
            console.print(
                f"Skipped {entry.name}: pip install -r "
                "benchmarks/requirements.txt",
                soft_wrap=True,
            )
            continue
        with console.status(f"{workload}, {order} order: {entry.name}"):
            worker = start_fastest(entry, workload, order, seconds)
        workers[entry] = worker
        if entry is LOOP:
            # The first of all. Its turns can be longer than asked for; the
            # others get turns of the same length, to be compared with it.
            seconds = max(seconds, worker.seconds * worker.count)
    with console.status(f"{workload}, {order} order: comparing"):
        doubles = all_in_double(workers, workload, order)
    with console.status(f"{workload}, {order} order: timing"):
        times = take_turns(workers, seconds)
    medians = {entry: statistics.median(times[entry]) for entry in workers}
    results = []
    for entry, worker in workers.items():
        differences = {}
        if entry.compared:
            (losses, gradients), expected = doubles[entry], doubles[REFERENCE]
            differences = {
                "float32": _difference(
                    worker.losses, workers[REFERENCE].losses
                ),
                "float64": _difference(losses, expected[0]),
                "gradient": _distance(gradients, expected[1]),
            }
        results.append(
            {
                "name": entry.name,
                "order": order,
                "variant": worker.variant,
                "ms_when_tried": worker.tried,
                "ms_per_step": 1e3 * medians[entry],
                "times_ours": medians[entry] / medians[REFERENCE],
                "first_call_s": worker.first_call,
                "peak_memory_mb": worker.ask("peak_memory") / 1e6,
                "differences": differences,
                "ms_per_step_by_round": [1e3 * t for t in times[entry]],
                "steps_in_a_round": worker.count,
            }
        )
        worker.stop()
    return results


def _difference(losses: list, expected: list) -> float:
    """The largest relative difference of two lists of [pre, post]."""
    return float(np.max(np.abs(np.divide(losses, expected) - 1)))


def _distance(gradients: list, expected: list) -> float:
    """The distance of two vectors, relative to the length of the second."""
    apart = np.linalg.norm(np.subtract(gradients, expected))
    return float(apart / np.linalg.norm(expected))


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {' '.join(argv[1:])}")
    console = Console()
    installed = {
        name: importlib.metadata.version(name)
        for name in PACKAGES
        if importlib.util.find_spec(name)
    }
    output = {
        "python": platform.python_version(),
        "packages": installed,
        "cores": os.cpu_count(),
        "workloads": {},
    }
    problems = []
    for workload in FLAGS.workload:
        results = []
        for order in FLAGS.order:
            results += measure(workload, order, console)
        show(workload, results, console)
        output["workloads"][workload] = results
        problems += disagreements(workload, results)
    if FLAGS.output:
        pathlib.Path(FLAGS.output).write_text(json.dumps(output, indent=2))
    console.print(LEGEND, highlight=False)
    versions = ", ".join(f"{n} {v}" for n, v in installed.items())
    console.print(
        f"Python {output['python']}, {versions}, {output['cores']} cores.",
        soft_wrap=True,
        highlight=False,
    )
    if problems:
        sys.exit("error: not the same computation.\n" + "\n".join(problems))


if __name__ == "__main__":
    app.run(main)
