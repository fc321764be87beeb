"""Writes Matplotlib figures in the project's style."""

import io
import pathlib
from collections.abc import Callable
from typing import Any

from matplotlib import style
from matplotlib.figure import Figure

from maml_tf.files import write_atomically

STYLE: dict[str, Any] = {
    "figure.dpi": 150,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "legend.frameon": False,
}


def write_figure(
    path: pathlib.Path,
    size: tuple[float, float],
    draw: Callable[[Figure], None],
) -> None:
    """Draws a figure of `size` inches and writes it as a PNG file."""
    with style.context(STYLE):
        figure = Figure(figsize=size)
        draw(figure)
        content = io.BytesIO()
        figure.savefig(content, format="png")
    write_atomically(path, content.getvalue())
