"""Progress of a long loop: a bar on a terminal, lines in a file."""

import re
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

BAR = 12  # columns
LINE_EVERY = 10.0  # seconds, where there is no terminal


class TrainingProgress:
    """A context that shows iterations, rate, time left and running losses."""

    def __init__(self, console: Console, name: str, start: int, total: int):
        self._console = console
        self._name = name
        self._start = start
        self._total = total
        self._began = time.monotonic()
        self._next_line = self._began + LINE_EVERY
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=BAR),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
            TextColumn("{task.fields[status]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(
            name, completed=start, total=total, status=""
        )

    def __enter__(self) -> "TrainingProgress":
        self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        self._bar.stop()

    def __call__(self, iteration: int, losses: dict[str, float]) -> None:
        """Shows that `iteration` iterations are done."""
        now = time.monotonic()
        rate = (iteration - self._start) / max(now - self._began, 1e-9)
        fields = [
            f"{rate:.4g} it/s",
            *(
                f"{re.sub('_(update|return)$', '', name)} {loss:.2f}"
                for name, loss in losses.items()
            ),
        ]
        self._bar.update(
            self._task, completed=iteration, status=self._fitting(fields)
        )
        done = iteration == self._total
        if self._bar.disable and (done or now > self._next_line):
            self._next_line = now + LINE_EVERY
            left = (self._total - iteration) / rate
            self._console.print(
                f"{self._name}: {iteration}/{self._total}  "
                f"{'  '.join(fields)}  "
                f"{left:.0f} s left",
                highlight=False,
            )

    def _fitting(self, fields: list[str]) -> str:
        """As many of them as leave the bar its place on the terminal."""
        counts = 2 * len(str(self._total)) + 1
        taken = len(self._name) + BAR + counts + len("0:00:00 left") + 6
        while fields and taken + len("  ".join(fields)) > self._console.width:
            fields = fields[:-1]
        return "  ".join(fields)
