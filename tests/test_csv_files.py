"""CSV files as they come: the right numbers, or one line that says where."""

import os

import numpy as np
import pytest

from maml_tf.errors import ConfigError, DataError
from maml_tf.tasks.csv_files import CsvFormat, read_csv
from maml_tf.tasks.sources import tasks_from_series

NAMES, VALUES = ["a", "a", "b"], [[1.5, 20.0], [2.5, -30.0], [0.25, 4e3]]
PLAIN = "id,x,y\na,1.5,20\na,2.5,-30\nb,0.25,4e3\n"
SEMICOLONS = PLAIN.replace(",", ";")
EUROPEAN = SEMICOLONS.replace(".", ",")
IN_ORDER = ("id", ["x"], ["y"])


def read(tmp_path, content, columns=None, **written):
    path = tmp_path / "points.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_csv(path, columns, CsvFormat(**written))


@pytest.mark.parametrize(
    ("content", "columns", "written"),
    [
        (PLAIN, None, {}),
        (PLAIN.rstrip("\n"), None, {}),
        (PLAIN.replace("\n", "\r\n"), None, {}),
        (PLAIN.replace("\n", "\r"), None, {}),
        (PLAIN.replace("\n", "\n\n"), None, {}),
        (PLAIN + ",,\n,,\n", None, {}),
        ("\n\n" + PLAIN, None, {}),
        (PLAIN.encode("utf-8-sig"), None, {}),
        (PLAIN.encode("utf-16"), None, {}),
        (PLAIN.encode("utf-32"), None, {}),
        (PLAIN.encode("utf-16-le"), None, {"encoding": "utf-16-le"}),
        (PLAIN.encode("cp1252"), None, {"encoding": "cp1252"}),
        (SEMICOLONS, None, {}),
        (PLAIN.replace(",", "\t"), None, {}),
        (PLAIN.replace(",", "|"), None, {}),
        (PLAIN.replace(",", ":"), None, {"delimiter": ":"}),
        (PLAIN.replace(",", " "), None, {"delimiter": " "}),
        (PLAIN.replace(",", ", "), None, {}),
        (PLAIN.replace(",", " , "), None, {}),
        ('"id","x","y"\n"a","1.5","20"\na,2.5,-30\nb,.25,4000.\n', None, {}),
        ('id, "x", "y"\na, "1.5", 20\na,2.5,-30\nb,0.25,4E+3\n', None, {}),
        ('"id";"x";"y"\n"a";"1,5";20\n"a";2,5;-30\n"b";,25;4e3\n', None, {}),
        ("sep=;\n" + SEMICOLONS, None, {}),
        ("sep=;\r\n" + EUROPEAN.replace("\n", "\r\n"), None, {}),
        (EUROPEAN, None, {}),
        (EUROPEAN.replace(";", "\t"), None, {}),
        (EUROPEAN.replace("y\n", "y, in m\n"), None, {}),
        (
            'id,x,y\na,"1,5",20\na,"2,5",-30\nb,"0,25",4e3\n',
            None,
            {"decimal": ","},
        ),
        ("id;x;y\na;+1,5;20\na;2,500;-30\nb;,25;4000,0\n", None, {}),
        ("y,x,id\n20,1.5,a\n-30,2.5,a\n4e3,.25,b\n", IN_ORDER, {}),
        ("y,x,id\n20,1.5,a\n-30,2.5,a\n4e3,.25,b\n", ("id", "x", "y"), {}),
        (
            'id,"x\nin m",y\na,1.5,20\na,2.5,-30\nb,0.25,4e3\n',
            ("id", "x in m", "y "),
            {},
        ),
        (PLAIN.replace("a,", "a\u00a0,\u00a0"), None, {}),
        (
            "n,id,x,,y\n1,a,1.5,,20\n2,a,2.5,?,-30\n3,b,.25,,4e3\n",
            IN_ORDER,
            {},
        ),
        (
            "id,x,y,note,note\na,1.5,20,,\na,2.5,-30,,\nb,0.25,4e3,,ok\n",
            IN_ORDER,
            {},
        ),
        (',id,x,y\n0,a,1.5,20\n1,a,2.5,-30\n2,b,.25,4e3\n', IN_ORDER, {}),
        ('id,x,y,"\n"\na,1.5,20,\na,2.5,-30,"\n"\nb,.25,4e3,\n', IN_ORDER, {}),
    ],
)  # fmt: skip
def test_what_is_read(tmp_path, content, columns, written):
    names, inputs, targets = read(tmp_path, content, columns, **written)
    assert names.tolist() == NAMES
    assert inputs.dtype == np.float64
    np.testing.assert_array_equal(np.hstack([inputs, targets]), VALUES)


def test_text_in_other_encodings(tmp_path):
    text = "Größe,x,y\nZürich,1,2\nZürich,3,4\n"
    for encoding in ("cp1252", "latin-1", "mac-roman", "utf-16-be"):
        names, *_ = read(tmp_path, text.encode(encoding), encoding=encoding)
        assert set(names) == {"Zürich"}


def test_times_in_seconds_keep_their_digits(tmp_path):
    text = "id,time,y\n" + "".join(
        f"s{i},{1700000000 + 60 * j}.25,{i + j}\n"
        for i in range(2)
        for j in range(4)
    )
    _, inputs, _ = read(tmp_path, text)
    expected = 1700000000.25 + 60 * np.arange(4)
    np.testing.assert_array_equal(inputs[:4, 0], expected)
    task = tasks_from_series(tmp_path / "points.csv", 2, 2).tasks(0, 1)
    times = np.hstack([task.support.inputs, task.query.inputs], dtype=float)
    np.testing.assert_array_equal(np.sort(times.ravel()), expected)


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        ("Zürich,x,y\na,1,2\n".encode("cp1252"), None, "line 1: byte 0xfc is"),
        (PLAIN.encode("utf-16-le"), None, "no text in UTF-8: it holds zero"),
        (b"PK\x03\x04\0\0", None, "a workbook of Excel is no CSV file"),
        (b"\xff\xfeab\x00", None, "not utf-16"),
        ("", None, "is empty"),
        ("\n\n", None, "is empty"),
        (b"\xef\xbb\xbf", None, "at least three columns"),
        ("id,y\na,1\n", None, "at least three columns"),
        ("id x y\na 1 2\n", None, "first line has 1: id x y"),
        ("id,x,y\n", None, "a first line, but no points"),
        (PLAIN, ("id", ["t"], ["y"]), "has no column t. It has: id, x, y"),
        ("a,1.5,20\nb,2.5,30\n", None, "line must name the columns"),
        (",x,y\n0,1,2\n", None, "line 1: column 1 of 3 has no name"),
        ("id,x,y,\na,1,2,\n", None, "line 1: column 4 of 4 has no name"),
        ("id,x,y\na,1,\x1c2\n", None, "line 2, column y: this is no number"),
        ('i,"x\n1"\n', None, "first line has 2: i, x 1"),
        ("id,x,x,y\na,1,2,3\n", None, "columns 2 and 3 are both called x"),
        ("id,x, x,y\na,1,2,3\n", None, "columns 2 and 3 are both called x"),
        ("id,x,y,y\na,1,2,3\n", IN_ORDER, "columns 3 and 4 are both called y"),
        ("id,x,y\na,1,2\nid,x,y\nb,1,2\n", None, "line 3: the first line is"),
        ("id,x,y\na,1,2\na,1\n", None, "line 3: 2 fields.*none for column y"),
        ("x,y,id\n1,2,a\n1,2\n", IN_ORDER, "line 3: 2 fields.*column id"),
        ("id,x,y\na,1,2\na,1,2,3\n", None, "line 3: 4 fields, .* has 3"),
        ("id,x,y\na,1,5,2\na,2,5,3\n", None, "line 2: 4 fields, .* has 3"),
        ("id,x,y\na,1,2,\n", None, "line 2: 4 fields, .* has 3"),
        ("id,x,y\na,1;2\n", None, "line 2: 2 fields"),
        ("id,x,y\na,1,2\na,,2\n", None, "line 3, column x: the cell is empty"),
        ("id,x,y\n,1,2\n", None, "line 2, column id: the cell is empty"),
        ("id,x,y\na,1,nan\n", None, r"line 2, column y: .*no number \('nan'"),
        ("id,x,y\na,1,N/A\n", None, r"line 2, column y: .*no number \('N/A'"),
        ("id,x,y\na,inf,1\n", None, "line 2, column x: this is no number"),
        ("id,x,y\na,1e999,1\n", None, "line 2, column x: too large a number"),
        ("id,x,y\na,1_000,1\n", None, "line 2, column x: this is no number"),
        ("id,x,y\na,1 000,1\n", None, "line 2, column x: this is no number"),
        ('id,x,y\na,"1,5",1\n', None, "line 2, column x: this is no number"),
        ('id,x,y\na,"1,000.5",1\n', None, "line 2, column x: this is no num"),
        ("id,x,y\na,5%,1\n", None, "line 2, column x: this is no number"),
        ("id,x,y\na,\u22121,1\n", None, "line 2, column x: this is no number"),
        ("id,x,y\na,\u0661,1\n", None, "line 2, column x: this is no number"),
        ("id,x,y\na,0x10,1\n", None, "line 2, column x: this is no number"),
        ("id,x,y\na,True,1\n", None, "line 2, column x: this is no number"),
        ("id,t,y\na,2024-01-31,1\n", None, "column t: .*'2024-01-31'"),
        ("id,x,y\n,s,m\na,1,1\n", None, "line 2, column id"),
        ("id;x;y\na;1,5;2\na;2.5;1\n", None, "line 2, column x: a comma, but "),
        ("id;x;y\na;1.234,5;2\n", None, "column x: a comma, but line 2 has a"),
        ("id\tx\ty\na\t1,234\t2\n", None, "comma can be a decimal mark or"),
        ("id;x;y\na;1.234;2\nb;-5.678;2\n", None, "point can be a decimal"),
        ("id;x;y\na;1,2,3;2\n", None, "line 2, column x: this is no number"),
        ('id,x,y\na,"1,2\nb,3,4\n', None, "line 3: the row cannot be read"),
        ('id,x,y\na,"1"5,2\n', None, "line 2: the row cannot be read"),
        (f"id,x,y\na,{'1' * 200000},2\n", None, "line 2: the row cannot be"),
        ("i,x;d;y,z\na,1;2;3,4\n", None, "with the delimiters ',' and ';'"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path, content, columns, message):
    with pytest.raises(DataError, match=message) as refusal:
        read(tmp_path, content, columns)
    assert "\n" not in str(refusal.value)
    assert "points.csv" in str(refusal.value)


def test_a_comma_that_is_said_to_be_decimal(tmp_path):
    text = "id\tx\ty\na\t1,234\t2\n"
    _, inputs, _ = read(tmp_path, text, decimal=",")
    assert inputs.tolist() == [[1.234]]
    with pytest.raises(DataError, match="column x: this is no number"):
        read(tmp_path, text, decimal=".")


def test_three_decimals_behind_a_point(tmp_path):
    text = "id;x;y\na;1.234;2\n"
    _, inputs, _ = read(tmp_path, text, decimal=".")
    assert inputs.tolist() == [[1.234]]
    _, inputs, _ = read(tmp_path, text.replace(";", "\t"))
    assert inputs.tolist() == [[1.234]]
    _, inputs, _ = read(tmp_path, text + "b;0.250;3\n")
    assert inputs.tolist() == [[1.234], [0.25]]


def test_no_file(tmp_path):
    with pytest.raises(DataError, match="cannot be read .*null byte"):
        tasks_from_series("a\0b.csv", 1)
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match="not a regular file"):
        tasks_from_series(tmp_path / "pipe.csv", 1)
    with pytest.raises(DataError, match="cannot be read"):
        tasks_from_series(tmp_path / "none.csv", 1)
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory"):
        tasks_from_series(tmp_path, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"encoding": "latin-99"}, "encoding must be a codec"),
        ({"delimiter": ";;"}, "delimiter must be one character"),
        ({"delimiter": '"'}, "delimiter must be one character"),
        ({"decimal": "'"}, "decimal must be one of"),
        ({"columns": "id"}, "columns must be the name"),
        ({"columns": ("id", ["x"])}, "columns must be the name"),
        ({"columns": ("id", [], ["y"])}, "columns must be the name"),
        ({"columns": (0, [1], [2])}, "columns must be the name"),
    ],
)
def test_arguments_that_make_no_sense(tmp_path, arguments, message):
    (tmp_path / "points.csv").write_text(PLAIN)
    with pytest.raises(ConfigError, match=message):
        tasks_from_series(tmp_path / "points.csv", 1, **arguments)
