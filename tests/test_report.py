"""The table that a run prints."""

import io

import pytest
from rich.console import Console

from maml_tf.experiments.report import _print

HEADER = ["network", "K", "norm by", "step"]
HEADER += [f"{u} updates" for u in (0, 1, 3, 5, 10)]


@pytest.mark.parametrize("width", [80, 81, 82, 83, 84, 90, 100])
@pytest.mark.parametrize("diverged", ["", " [3]"])
def test_no_number_is_cut_in_a_narrow_terminal(diverged, width):
    cells = [f"{accuracy}±1.8{diverged}" for accuracy in (100.0, 98.7)]
    rows = [
        ["authors' checkpoint", "1", "support", "0.001*", *5 * [cell]]
        for cell in cells
    ]
    output = io.StringIO()
    _print("glyphs", HEADER, rows, [], Console(file=output, width=width))
    printed = output.getvalue().split()
    for words in (*cells, "0.001*", "support", "authors' checkpoint"):
        for word in words.split():
            assert printed.count(word) >= 1, word
    assert printed.count("100.0±1.8") == printed.count("98.7±1.8") == 5
    assert max(map(len, output.getvalue().splitlines())) <= width


def test_a_table_that_fits_has_room_between_its_columns():
    output = io.StringIO()
    row = ["MAML", "1", "0.4", "98.7±0.4"]
    header = ["network", "K", "step", "1 update"]
    _print("glyphs", header, [row], [], Console(file=output, width=80))
    assert "MAML     1   0.4  98.7±0.4" in output.getvalue()
