"""Rows of numbers by iteration, as CSV and for TensorBoard."""

import csv
import io
import pathlib
import types
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from maml_tf.files import write_atomically


class IterationLog:
    """A CSV file with rows for some iterations, ascending."""

    def __init__(
        self,
        path: pathlib.Path,
        fields: Sequence[str],
        tensorboard: pathlib.Path | None = None,
        renamed: Mapping[str, str] = types.MappingProxyType({}),
    ):
        """
        Args:
            path: the CSV file.
            fields: columns besides the iteration.
            tensorboard: directory of event files, or None for none.
            renamed: fields of older files, with their current names.
        """
        self._path = path
        self._fields = ("iteration", *fields)
        self._tensorboard = tensorboard
        self._renamed = renamed
        self._writer = None

    def start(self, iteration: int) -> None:
        """Drops rows after `iteration`, which training will write again."""
        if self._tensorboard:
            self._writer = tf.summary.create_file_writer(str(self._tensorboard))
        lines = []
        if self._path.exists():
            # A kill can leave half a row at the end.
            lines = self._path.read_text().splitlines(keepends=True)
            lines = [line for line in lines if line.endswith("\n")]
        kept = io.StringIO()
        writer = csv.DictWriter(
            kept, self._fields, extrasaction="ignore", lineterminator="\n"
        )
        writer.writeheader()
        for row in csv.DictReader(lines):
            number = row["iteration"]
            if number.isdigit() and int(number) <= iteration:
                writer.writerow(
                    {self._renamed.get(k, k): x for k, x in row.items()}
                )
        write_atomically(self._path, kept.getvalue())

    def rows(self) -> list[dict[str, float]]:
        """The rows so far."""
        return read_rows(self._path)

    def write(self, iteration: int, values: dict[str, float]) -> None:
        """Appends a row; fields without a value stay empty."""
        with open(self._path, "a", newline="") as file:
            row = {"iteration": iteration, **values}
            csv.DictWriter(file, self._fields, lineterminator="\n").writerow(
                row
            )
        if self._writer:
            with self._writer.as_default(step=iteration):
                for name, value in values.items():
                    tf.summary.scalar(f"{self._path.stem}/{name}", value)

    def flush(self) -> None:
        """Flushes the events of the rows so far to disk."""
        if self._writer:
            self._writer.flush()


def read_rows(path: pathlib.Path) -> list[dict[str, float]]:
    """Rows of such a file, without their empty fields."""
    with open(path, newline="") as file:
        return [
            {name: float(value) for name, value in row.items() if value}
            for row in csv.DictReader(file)
        ]


class RunningMeans:
    """Means over the iterations since they were last taken."""

    def __init__(self):
        self._window: dict[str, list[np.ndarray]] = {}

    def add(self, values: dict[str, np.ndarray]) -> None:
        """Adds the values of some iterations."""
        for name, column in values.items():
            self._window.setdefault(name, []).append(column)

    def take(self) -> dict[str, float]:
        """Returns the means and starts over."""
        means = {
            name: float(np.concatenate(columns).mean())
            for name, columns in self._window.items()
        }
        self._window = {}
        return means
