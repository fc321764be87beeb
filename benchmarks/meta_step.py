"""Times a full meta-step of maml_tf and of its peers, side by side.

    python benchmarks/meta_step.py

Each implementation runs in a process of its own; the processes work in turn,
one at a time, so that what else the machine does hits all alike. README.md
says what is compared.
"""

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np
from absl import app, flags
from implementation import COMPARED_STEPS
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from workloads import WORKLOADS

FLAGS = flags.FLAGS
flags.DEFINE_multi_enum(
    "workload", list(WORKLOADS), list(WORKLOADS), "what to time; repeatable"
)
flags.DEFINE_integer("rounds", 5, "turns of each implementation", 1)
flags.DEFINE_float("seconds", 2.0, "about how long a turn is", 0.0)
flags.DEFINE_string("output", None, "also write the results here, as JSON")

HERE = pathlib.Path(__file__).resolve().parent
PACKAGES = ("tensorflow", "keras", "torch", "jax", "numpy")
# Keras keeps settings of Adam in single precision.
TOLERANCE_IN_DOUBLE = 1e-5
ONE_PER_OP = "one_per_op"
DEFAULT = "default"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A row of the table.

    Attributes:
        name: what it is called.
        package: what it needs, besides maml_tf's own requirements.
        module: the file with its classes.
        variants: (class, threads) to choose the fastest from.
        workloads: what it can do.
        compared: whether its losses can be had, for comparison.
        second_order: whether they must be those of the others.
    """

    name: str
    package: str
    module: str
    variants: tuple[tuple[str, str], ...]
    workloads: tuple[str, ...] = tuple(WORKLOADS)
    compared: bool = True
    second_order: bool = True


ENTRIES = (
    Entry(
        "maml_tf training loop",
        "tensorflow",
        "with_maml_tf",
        (("TrainingLoop", ONE_PER_OP),),
        compared=False,
    ),
    Entry(
        "maml_tf step", "tensorflow", "with_maml_tf", (("Step", ONE_PER_OP),)
    ),
    Entry(
        "maml_tf step, first order",
        "tensorflow",
        "with_maml_tf",
        (("FirstOrderStep", ONE_PER_OP),),
        second_order=False,
    ),
    Entry(
        "TF2, gradient outside map_fn",
        "tensorflow",
        "with_tensorflow",
        (("GradientOutsideMap", DEFAULT), ("GradientOutsideMap", ONE_PER_OP)),
    ),
    Entry(
        "PyTorch torch.func.vmap",
        "torch",
        "with_pytorch",
        (
            ("Vmap", DEFAULT),
            ("Vmap", ONE_PER_OP),
            ("VmapOfGradients", DEFAULT),
            ("VmapOfGradients", ONE_PER_OP),
        ),
    ),
    Entry(
        "PyTorch loop over tasks",
        "torch",
        "with_pytorch",
        (("Loop", DEFAULT), ("Loop", ONE_PER_OP)),
    ),
    Entry(
        "JAX jit(vmap)",
        "jax",
        "with_jax",
        (("Vmap", DEFAULT),),
        ("sinusoid",),
    ),
    Entry(
        "JAX jit(vmap), scan of 50",
        "jax",
        "with_jax",
        (("VmapScan", DEFAULT),),
        ("sinusoid",),
    ),
    Entry(
        "JAX jit, unrolled tasks",
        "jax",
        "with_jax",
        (("Unrolled", DEFAULT),),
        ("omniglot",),
    ),
)
OURS, REFERENCE = ENTRIES[0].name, ENTRIES[1].name

LEGEND = f"""
ms: per meta-step, median of the rounds. x ours: relative to the training
loop, which draws tasks, logs and saves, too. first s: seconds of building,
compiling and the first call. MB: peak memory of the process.
f32, f64: largest relative difference of the losses from those of
{REFERENCE}, in the first step as timed, and in {COMPARED_STEPS} steps on
a few tasks in double precision.
"""


class Worker:
    """A process that runs one implementation (worker.py)."""

    def __init__(
        self,
        module: str,
        variant: tuple[str, str],
        workload: str,
        precision: str,
    ):
        self.variant = variant
        # Open for as long as the process lives; `stop` closes it.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, HERE / "worker.py"]
            + [module, variant[0], workload, variant[1], precision],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            },
        )
        started = self._answer()
        self.first_call = started["first_call"]
        self.losses = self.ask("losses")
        self.count = started["window"]

    def set_turn(self, seconds: float) -> None:
        """Lets a turn be of about that length, and measures one."""
        self.seconds = self.ask("time_steps", self.count)
        windows = round(seconds / (self.seconds * self.count))
        if windows > 1:
            self.count *= windows
            self.seconds = self.ask("time_steps", self.count)

    def ask(self, method: str, *arguments: Any) -> Any:
        """Gives an order and waits for what it returns."""
        print(
            json.dumps([method, *arguments]),
            file=self._process.stdin,
            flush=True,
        )
        return self._answer()

    def stop(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._stderr.close()

    def _answer(self) -> Any:
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._stderr.seek(0)
        message = self._stderr.read().decode(errors="replace")
        sys.exit(f"{message}\nerror: {self.variant} ended; see above.")


def start_fastest(entry: Entry, workload: str) -> Worker:
    """A worker of the fastest variant, settled to turns of its own length."""
    fastest = None
    for variant in entry.variants:
        worker = Worker(entry.module, variant, workload, "float32")
        worker.set_turn(FLAGS.seconds)
        if fastest is None:
            fastest = worker
        elif worker.seconds < fastest.seconds:
            fastest.stop()
            fastest = worker
        else:
            worker.stop()
    return fastest


def losses_in_double(entry: Entry, workload: str) -> list:
    """The losses of a few tasks in double precision, of COMPARED_STEPS steps.

    There rounding is too small to hide that something else was computed.
    """
    worker = Worker(entry.module, entry.variants[0], workload, "float64")
    worker.stop()
    return worker.losses


def difference(losses: list, expected: list) -> float:
    """The largest relative difference of two lists of [pre, post]."""
    return float(np.max(np.abs(np.divide(losses, expected) - 1)))


def measure(workload: str, console: Console) -> list[dict[str, Any]]:
    """Times all implementations that can run: one result for each."""
    workers, singles, doubles = {}, {}, {}
    for entry in ENTRIES:
        if workload not in entry.workloads:
            continue
        if importlib.util.find_spec(entry.package) is None:
            console.print(
                f"Skipped {entry.name}: pip install -r "
                "benchmarks/requirements.txt",
                soft_wrap=True,
            )
            continue
        with console.status(f"{workload}: starting {entry.name}"):
            workers[entry] = start_fastest(entry, workload)
            if entry.compared:
                singles[entry.name] = workers[entry].losses[:1]
                doubles[entry.name] = losses_in_double(entry, workload)
    times = {entry: [] for entry in workers}
    for i in range(FLAGS.rounds):
        with console.status(f"{workload}: round {i + 1} of {FLAGS.rounds}"):
            for entry, worker in workers.items():
                times[entry].append(worker.ask("time_steps", worker.count))
    medians = {e.name: statistics.median(times[e]) for e in workers}
    results = []
    for entry, worker in workers.items():
        differences = {
            precision: difference(losses[entry.name], losses[REFERENCE])
            for precision, losses in (
                ("float32", singles),
                ("float64", doubles),
            )
            if entry.compared
        }
        results.append(
            {
                "name": entry.name,
                "variant": worker.variant,
                "choices": len(entry.variants),
                "ms_per_step": 1e3 * medians[entry.name],
                "times_ours": medians[entry.name] / medians[OURS],
                "first_call_s": worker.first_call,
                "peak_memory_mb": worker.ask("peak_memory") / 1e6,
                "loss_differences": differences,
                "second_order": entry.second_order,
                "ms_per_step_by_round": [1e3 * t for t in times[entry]],
                "steps_in_a_round": worker.count,
            }
        )
        worker.stop()
    return results


def show(
    workload: str, results: list[dict[str, Any]], console: Console
) -> None:
    """Prints the results as a table."""
    table = Table(
        title=workload, box=SIMPLE, title_justify="left", pad_edge=False
    )
    table.add_column("", no_wrap=True)
    for heading in ("ms", "x ours", "first s", "MB", "f32", "f64"):
        table.add_column(heading, justify="right", no_wrap=True)
    for r in results:
        table.add_row(
            r["name"],
            _milliseconds(r["ms_per_step"]),
            f"{r['times_ours']:.2f}",
            f"{r['first_call_s']:.1f}",
            f"{r['peak_memory_mb']:.0f}",
            *(f"{x:.0e}" for x in r["loss_differences"].values()),
        )
    console.print(table)
    for r in results:
        if r["choices"] > 1:
            class_name, threads = r["variant"]
            console.print(
                f"{r['name']}: fastest of {r['choices']} settings was "
                f"{class_name}, threads {threads}",
                highlight=False,
            )


def _milliseconds(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def disagreements(workload: str, results: list[dict[str, Any]]) -> list[str]:
    """Whose losses are not those of maml_tf's step, in words."""
    tolerances = {
        "float32": WORKLOADS[workload]().tolerance,
        "float64": TOLERANCE_IN_DOUBLE,
    }
    return [
        f"{workload}: the {precision} losses of {r['name']} differ by "
        f"{differ:.1e}, more than {tolerances[precision]}."
        for r in results
        if r["second_order"]
        for precision, differ in r["loss_differences"].items()
        if not differ <= tolerances[precision]  # NaN is not, either
    ]


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
        results = measure(workload, console)
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
