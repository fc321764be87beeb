"""The other end of worker.py: a process that runs one implementation."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

from entries import Entry

HERE = pathlib.Path(__file__).resolve().parent


class Worker:
    """A process that runs one implementation.

    Attributes:
        variant: its (class, threads).
        first_call: seconds of building, compiling and the first call.
        seconds: per step, as last measured by `set_turn`.
        count: steps of a turn.
        losses: of the first step.
        tried: milliseconds per step of the variants it was chosen from.
    """

    losses: list[list[float]]
    tried: dict[str, float]

    def __init__(
        self,
        entry: Entry,
        variant: tuple[str, str],
        workload: str,
        order: str,
        precision: str,
    ):
        self.variant = variant
        class_name, threads = variant
        # Open for as long as the process lives; `stop` closes it.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, HERE / "worker.py"]
            + [entry.module, class_name, workload, order, threads, precision],
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
        self.count = started["window"]

    def set_turn(self, seconds: float) -> None:
        """Measures a step, and sets turns to about that length."""
        self.seconds = self.ask("time_steps", self.count)
        windows = round(seconds / (self.seconds * self.count))
        if windows > 1:
            self.count *= windows
            self.seconds = self.ask("time_steps", self.count)

    def ask(self, method: str, *arguments: Any) -> Any:
        """Sends a request and waits for the answer."""
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
