"""Points of many series, from a CSV file or from arrays."""

import csv
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from maml_tf.errors import DataError
from maml_tf.tasks.batches import as_batch


def read_csv(
    path: pathlib.Path, columns: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reads a file with a header and a row for each point.

    Args:
        path: the file.
        columns: names of the column of the series, of those of x and of those
            of y; None: the first, all between, and the last.

    Returns:
        The series of each row, and float32 inputs and targets [rows, ...].

    Raises:
        DataError: if columns or numbers are missing.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except OSError as e:
        raise DataError(f"{path} cannot be read ({e.strerror}).") from e
    header, rows = (rows[0], rows[1:]) if rows else ([], [])
    if columns is None:
        if len(header) < 3:
            raise DataError(
                f"{path} needs at least three columns: the series, x and y. "
                f"Its first line has {len(header)}: {', '.join(header)}"
            )
        columns = header[0], header[1:-1], header[-1:]
    name, inputs, targets = columns
    missing = [c for c in (name, *inputs, *targets) if c not in header]
    if missing:
        raise DataError(
            f"{path} has no column {', '.join(missing)}. It has: "
            f"{', '.join(header)}"
        )
    if not rows:
        raise DataError(f"{path} has a first line, but no points.")

    def numbers(names: Sequence[str]) -> np.ndarray:
        places = [header.index(n) for n in names]
        values = np.empty((len(rows), len(places)), np.float32)
        for i, row in enumerate(rows):
            try:
                values[i] = [float(row[place]) for place in places]
            except (ValueError, IndexError) as e:
                raise DataError(
                    f"{path}, point {i + 1}: a number is missing in columns "
                    f"{', '.join(names)}. The row is: {','.join(row)}"
                ) from e
        return values

    place = header.index(name)
    return (
        np.array([row[place] for row in rows]),
        numbers(inputs),
        numbers(targets),
    )


def concatenate(
    series: Sequence[tuple[Any, Any]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Puts series of arrays one after the other.

    Args:
        series: pairs (x, y) [points, ...].

    Returns:
        The series number of each point, and all inputs and targets.

    Raises:
        DataError: if they differ in more than the number of points.
    """
    try:
        batches = [as_batch(x, y, "float32") for x, y in series]
        sizes = [len(batch.inputs) for batch in batches]
        if sizes != [len(batch.targets) for batch in batches]:
            raise ValueError("a series has not as many y as x")
        inputs = np.concatenate([batch.inputs for batch in batches])
        targets = np.concatenate([batch.targets for batch in batches])
    except (TypeError, ValueError) as e:
        raise DataError(
            "Series must be pairs (x, y) of arrays [points, ...], alike but "
            f"for the number of points. ({e})"
        ) from e
    return np.repeat(np.arange(len(sizes)), sizes), inputs, targets
