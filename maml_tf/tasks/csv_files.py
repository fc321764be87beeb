"""Points of series in CSV files, as spreadsheets and programs write them.

A file is read in one way or not at all: what could mean two things, or stand in
the wrong column, is refused with its line and column.
"""

import codecs
import csv
import dataclasses
import io
import math
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

from maml_tf.errors import ConfigError, DataError, reason
from maml_tf.files import read_bytes

DELIMITERS = (",", ";", "\t", "|")
DECIMALS = (".", ",")

# Longer marks first: that of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NUMBER = {
    mark: re.compile(
        rf"[+-]?([0-9]+{re.escape(mark)}?[0-9]*|{re.escape(mark)}[0-9]+)"
        r"([eE][+-]?[0-9]+)?"
    )
    for mark in DECIMALS
}
# 1,234 or 1.234: thousands, where that is not the decimal mark.
_GROUPED = {
    mark: re.compile(rf"[+-]?[1-9][0-9]{{0,2}}{re.escape(mark)}[0-9]{{3}}")
    for mark in DECIMALS
}
_SEPARATOR = re.compile(r"sep=(.)(?=[\r\n])")  # Excel's own first line
_SPACES = " \t\n\u00a0"  # around fields; the last does not break a line
_FILL_IN = "Fill in a number such as 1.5, or remove the row."


@dataclasses.dataclass(frozen=True)
class Row:
    """The fields of a row, and the line of the file that it ends in."""

    line: int
    fields: list[str]


@dataclasses.dataclass(frozen=True)
class CsvFormat:
    """How a file is written; None finds it out or refuses the file.

    Attributes:
        encoding: a codec of Python; None: UTF-8, or as a byte order mark says.
        delimiter: one of `DELIMITERS`, or another character.
        decimal: one of `DECIMALS`.
    """

    encoding: str | None = None
    delimiter: str | None = None
    decimal: str | None = None

    def __post_init__(self):
        if self.encoding is not None:
            try:
                codecs.lookup(self.encoding)
            except (LookupError, TypeError) as e:
                raise ConfigError(
                    "encoding must be a codec of Python, such as 'cp1252'. "
                    f"Received: encoding={self.encoding!r}"
                ) from e
        known = isinstance(self.delimiter, str) and len(self.delimiter) == 1
        if self.delimiter is not None and (
            not known or self.delimiter in '"\r\n'
        ):
            raise ConfigError(
                "delimiter must be one character, such as ';'. Received: "
                f"delimiter={self.delimiter!r}"
            )
        if self.decimal not in (None, *DECIMALS):
            raise ConfigError(
                f"decimal must be one of {DECIMALS} or None. Received: "
                f"decimal={self.decimal!r}"
            )


def read_csv(
    path: pathlib.Path, columns: Any, written: CsvFormat
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reads a file with a header and a row for each point.

    Args:
        path: the file.
        columns: names of the column of the series, of those of x and of those
            of y; None: the first, all between, and the last.
        written: how the file is written.

    Returns:
        The series of each row, and float64 inputs and targets [rows, ...].

    Raises:
        ConfigError: if `columns` is not as above.
        DataError: if columns or numbers are missing, or can be misread.
    """
    wanted = None if columns is None else _wanted(columns)
    text = _decode(path, written.encoding)
    delimiter = written.delimiter
    separator = _SEPARATOR.match(text)
    if separator:
        delimiter = delimiter or separator[1]
        text = text[separator.end() :]
    if delimiter is None:
        delimiter = _find_delimiter(path, text, wanted)
    rows = list(_rows(path, text, delimiter))
    header, rows = (rows[0], rows[1:]) if rows else (Row(1, []), [])
    header = Row(header.line, list(map(_one_line, header.fields)))
    if wanted is None:
        wanted = _all_columns(path, header)
    name, inputs, targets = wanted
    places = _places(path, header, [name, *inputs, *targets])
    if not rows:
        raise DataError(f"{path} has a first line, but no points.")
    _check_lengths(path, header, rows)
    table = _Table(path, header.fields, rows)
    names = table.names(places[0])
    decimal = written.decimal or table.find_decimal(places[1:], delimiter)
    values = table.numbers(places[1:], decimal)
    return names, values[:, : len(inputs)], values[:, len(inputs) :]


def _wanted(columns: Any) -> tuple[str, list[str], list[str]]:
    """The names in `columns`; a name alone counts as a list of one."""
    try:
        series, *others = columns
        inputs, targets = (
            [names] if isinstance(names, str) else list(names)
            for names in others
        )
    except (TypeError, ValueError):
        inputs, targets, series = [], [], None
    texts = [series, *inputs, *targets]
    if not (inputs and targets and all(isinstance(x, str) for x in texts)):
        raise ConfigError(
            "columns must be the name of the column of the series, the names "
            "of those of x and the names of those of y, as in ('id', ['time'], "
            f"['y']). Received: columns={columns!r}"
        )
    return (
        _one_line(series),
        list(map(_one_line, inputs)),
        list(map(_one_line, targets)),
    )


def _one_line(name: str) -> str:
    """A column's name, which a spreadsheet may have broken into lines."""
    return " ".join(name.split())


def _decode(path: pathlib.Path, encoding: str | None) -> str:
    try:
        data = read_bytes(path)
    except (OSError, ValueError) as e:  # ValueError: the path holds a zero byte
        raise DataError(f"{path} cannot be read ({reason(e)}).") from e
    if not data.strip():
        raise DataError(f"{path} is empty.")
    if encoding is None:
        marked = (codec for mark, codec in _MARKS if data.startswith(mark))
        encoding = next(marked, None)
    if encoding is None and b"\0" in data:
        raise DataError(
            f"{path} is no text in UTF-8: it holds zero bytes. Save it as CSV "
            "UTF-8; a workbook of Excel is no CSV file."
        )
    try:
        return data.decode(encoding or "utf-8")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise DataError(
            f"{path}, line {line}: byte 0x{data[e.start]:02x} is not "
            f"{encoding or 'UTF-8'}. Save the file as CSV UTF-8, or give its "
            "encoding: encoding='cp1252' is that of Excel in western Europe."
        ) from e
    except (UnicodeError, LookupError, AssertionError) as e:
        raise DataError(f"{path} is not in encoding {encoding}. ({e})") from e


def _rows(path: pathlib.Path, text: str, delimiter: str) -> Iterator[Row]:
    """All rows that are not blank, their fields without outer spaces."""
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        skipinitialspace=delimiter != " ",
        strict=True,
    )
    try:
        for fields in reader:
            stripped = [field.strip(_SPACES) for field in fields]
            if any(stripped):
                yield Row(reader.line_num, stripped)
    except csv.Error as e:
        raise DataError(
            f"{path}, line {reader.line_num}: the row cannot be read ({e}). A "
            "quotation mark may be open, or the file is no CSV file."
        ) from e


def _find_delimiter(
    path: pathlib.Path,
    text: str,
    wanted: tuple[str, list[str], list[str]] | None,
) -> str:
    """The delimiter by which the header has the columns and all rows fit it."""
    headers = {d: _header(path, text, d) for d in DELIMITERS}
    if wanted is None:
        fitting = [d for d, header in headers.items() if len(header) >= 3]
    else:
        names = {wanted[0], *wanted[1], *wanted[2]}
        fitting = [d for d, header in headers.items() if names <= set(header)]
    if len(fitting) > 1:
        whole = [d for d in fitting if _is_regular(path, text, d)]
        if len(whole) > 1:
            raise DataError(
                f"{path} can be read with the delimiters "
                f"{' and '.join(map(repr, whole))}. Say which it is: "
                f"delimiter={whole[0]!r}"
            )
        fitting = whole or fitting
    # If none has the columns, the error that follows shows the longest header.
    return max(fitting or DELIMITERS, key=lambda d: len(headers[d]))


def _header(path: pathlib.Path, text: str, delimiter: str) -> list[str]:
    """The first row; nothing if it cannot be read."""
    try:
        first = next(_rows(path, text, delimiter), Row(1, []))
    except DataError:
        return []
    return list(map(_one_line, first.fields))


def _is_regular(path: pathlib.Path, text: str, delimiter: str) -> bool:
    """Whether all rows have as many fields as the first."""
    try:
        lengths = {len(r.fields) for r in _rows(path, text, delimiter)}
    except DataError:
        return False
    return len(lengths) == 1


def _all_columns(
    path: pathlib.Path, first: Row
) -> tuple[str, list[str], list[str]]:
    """The first column, all between, and the last."""
    header = first.fields
    if len(header) < 3:
        raise DataError(
            f"{path} needs at least three columns: the series, x and y. "
            f"Its first line has {len(header)}: {', '.join(header)}"
        )
    for place, name in enumerate(header):
        if not name:
            raise DataError(
                f"{path}, line {first.line}: column {place + 1} of "
                f"{len(header)} has no name; it may be an index. Name it, or "
                "choose columns=(series, [x, ...], [y, ...])."
            )
    if all(
        any(number.fullmatch(name) for number in _NUMBER.values())
        for name in header[1:]
    ):
        raise DataError(
            f"{path}: the first line must name the columns. It holds numbers: "
            f"{', '.join(header)}. Put a line of names above it, or choose "
            "columns=(series, [x, ...], [y, ...]) if these are names."
        )
    return header[0], header[1:-1], header[-1:]


def _places(path: pathlib.Path, first: Row, names: Sequence[str]) -> list[int]:
    """Where the columns with these names are."""
    header = first.fields
    missing = [name for name in names if name not in header]
    if missing:
        raise DataError(
            f"{path} has no column {', '.join(missing)}. It has: "
            f"{', '.join(header)}"
        )
    for name in names:
        places = [i + 1 for i, other in enumerate(header) if other == name]
        if len(places) > 1:
            raise DataError(
                f"{path}, line {first.line}: columns "
                f"{' and '.join(map(str, places))} are both called {name}. "
                "Give each a name of its own."
            )
    return [header.index(name) for name in names]


def _check_lengths(path: pathlib.Path, first: Row, rows: list[Row]) -> None:
    header = first.fields
    for row in rows:
        if _one_line(row.fields[0]) == header[0] and header == list(
            map(_one_line, row.fields)
        ):
            raise DataError(
                f"{path}, line {row.line}: the first line is repeated. Remove "
                "it, or read one file for each."
            )
        if len(row.fields) != len(header):
            where = ""
            if len(row.fields) < len(header):
                where = f"; none for column {header[len(row.fields)]}"
            raise DataError(
                f"{path}, line {row.line}: {len(row.fields)} fields, but the "
                f"first line has {len(header)}{where}. A field that holds the "
                "delimiter or a decimal comma must be quoted."
            )


@dataclasses.dataclass(frozen=True)
class _Table:
    """Rows of as many fields as the header has."""

    path: pathlib.Path
    header: list[str]
    rows: list[Row]

    def names(self, place: int) -> np.ndarray:
        """The texts of a column, none empty."""
        for row in self.rows:
            if not row.fields[place]:
                self._refuse(
                    row, place, "the cell is empty", "Name the series."
                )
        return np.array([row.fields[place] for row in self.rows])

    def find_decimal(self, places: Sequence[int], delimiter: str) -> str:
        """The decimal mark of all numbers in these columns."""
        if delimiter == ",":
            return "."
        first: dict[str, tuple[Row, int]] = {}
        grouped = dict.fromkeys(DECIMALS, True)
        for row in self.rows:
            for place in places:
                field = row.fields[place]
                for mark in DECIMALS:
                    if mark in field:
                        first.setdefault(mark, (row, place))
                        if not _GROUPED[mark].fullmatch(field):
                            grouped[mark] = False
        if len(first) == 2:
            self._refuse(
                *first[","],
                f"a comma, but line {first['.'][0].line} has a point",
                "Write all numbers with points, none with separated thousands.",
            )
        for mark, (row, place) in first.items():
            # Programs separate by semicolons where the comma is decimal.
            if grouped[mark] and (mark == "," or delimiter == ";"):
                name = {",": "comma", ".": "point"}[mark]
                self._refuse(
                    row,
                    place,
                    f"the {name} can be a decimal mark or separate thousands",
                    f"Say decimal={mark!r} if it is the decimal mark; else "
                    "remove it.",
                )
        return "," if "," in first else "."

    def numbers(self, places: Sequence[int], decimal: str) -> np.ndarray:
        """The numbers of these columns, float64 [rows, columns]."""
        number = _NUMBER[decimal]
        values = np.empty((len(self.rows), len(places)))
        for i, row in enumerate(self.rows):
            for j, place in enumerate(places):
                field = row.fields[place]
                if not number.fullmatch(field):
                    why = "this is no number" if field else "the cell is empty"
                    self._refuse(row, place, why, _FILL_IN)
                values[i, j] = float(field.replace(decimal, "."))
                if math.isinf(values[i, j]):
                    self._refuse(row, place, "too large a number", _FILL_IN)
        return values

    def _refuse(self, row: Row, place: int, why: str, remedy: str) -> NoReturn:
        field = row.fields[place]
        shown = f" ({field[:40]!r})" if field else ""
        raise DataError(
            f"{self.path}, line {row.line}, column {self.header[place]}: "
            f"{why}{shown}. {remedy}"
        )
