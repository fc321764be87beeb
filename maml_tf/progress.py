"""Progress of a long loop: a bar on a terminal, lines in a file."""

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


# Losses and returns as they are shown: before adaptation on the support set,
# after it on the query set.
WORDS = {
    "pre_update": "support before",
    "post_update": "query after",
    "pre_return": "return before",
    "post_return": "after",
}


class TrainingProgress:
    """A context that shows iterations, rate, time left and running losses.

    The first iterations compile what later ones only run, so rate and time
    left are those since the first call.
    """

    def __init__(
        self,
        console: Console,
        name: str,
        start: int,
        total: int,
        beginning: str = "",
    ):
        """Makes the bar.

        Args:
            console: shows it.
            name: stands before it.
            start: iterations done before.
            total: iterations done at the end.
            beginning: shown until the first call.
        """
        self._console = console
        self._name = name
        self._total = total
        # Iterations and time at the end of the first call.
        self._compiled: tuple[int, float] | None = None
        self._next_line = time.monotonic() + LINE_EVERY
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
            name, completed=start, total=total, status=beginning
        )

    def __enter__(self) -> "TrainingProgress":
        self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        self._bar.stop()

    def __call__(self, iteration: int, losses: dict[str, float]) -> None:
        """Shows that `iteration` iterations are done."""
        now = time.monotonic()
        rate = self._rate(iteration, now)
        fields = [f"{rate:.4g} it/s"] if rate else []
        fields += [f"{WORDS.get(n, n)} {x:.2f}" for n, x in losses.items()]
        self._bar.update(
            self._task, completed=iteration, status=self._fitting(fields)
        )
        done = iteration == self._total
        if self._bar.disable and (done or now > self._next_line):
            self._next_line = now + LINE_EVERY
            if rate:
                left = (self._total - iteration) / rate
                fields.append(f"{left:.0f} s left")
            self._console.print(
                f"{self._name}: {iteration}/{self._total}  {'  '.join(fields)}",
                highlight=False,
            )

    def _rate(self, iteration: int, now: float) -> float:
        """Iterations in a second since the first call; 0 if not known yet."""
        if self._compiled is None:
            self._compiled = iteration, now
        first, then = self._compiled
        return (iteration - first) / max(now - then, 1e-9)

    def _fitting(self, fields: list[str]) -> str:
        """As many of them as fit on the terminal beside the bar."""
        counts = 2 * len(str(self._total)) + 1
        taken = len(self._name) + BAR + counts + len("0:00:00 left") + 6
        while fields and taken + len("  ".join(fields)) > self._console.width:
            fields = fields[:-1]
        return "  ".join(fields)
