"""Characters of Matplotlib's fonts, thinned to lines, and distances to them."""

import functools
import pathlib

import matplotlib
import numpy as np
from matplotlib import ft2font

from maml_tf.errors import DataError

BOX = 48  # pixels, the longer side of a character

_MARGIN = 8  # around it; wider than a pen on that scale
_FAR = 10  # greater distances all count as this
_CHUNK = 32  # images thinned at once: arrays that fit into the cache


def rasterize(font_name: str, character: str) -> np.ndarray:
    """A character as large as the box allows: bool [BOX, BOX]."""
    font = load_font(font_name)
    if not font.get_char_index(ord(character)):
        raise DataError(
            f"Matplotlib's font {font_name} lacks U+{ord(character):04X}. "
            "Install the release of Matplotlib that requirements.txt names."
        )
    flags = ft2font.LoadFlags.NO_HINTING
    font.set_size(BOX, 72)
    glyph = font.load_char(ord(character), flags)
    longer = max(glyph.width, glyph.height) / 64  # of 26.6 fixed point
    font.set_size(BOX * (BOX - 1) / longer, 72)
    font.set_text(character, flags=flags)
    font.draw_glyphs_to_bitmap(antialiased=True)
    return center(crop(np.asarray(font.get_image()) > 127))


def crop(ink: np.ndarray) -> np.ndarray:
    """A character without the empty rows and columns around it."""
    y, x = np.nonzero(ink)
    return ink[y.min() : y.max() + 1, x.min() : x.max() + 1]


def center(ink: np.ndarray) -> np.ndarray:
    """Puts a character of at most BOX x BOX pixels into the box's middle."""
    height, width = ink.shape
    image = np.zeros((BOX, BOX), bool)
    top, left = (BOX - height) // 2, (BOX - width) // 2
    image[top : top + height, left : left + width] = ink
    return image


@functools.cache
def load_font(name: str) -> ft2font.FT2Font:
    """One of the fonts that come with Matplotlib."""
    directory = pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf")
    return ft2font.FT2Font(str(directory / f"{name}.ttf"))


def center_lines(ink: np.ndarray) -> np.ndarray:
    """Characters, bool [n, BOX, BOX], thinned, with margins around them."""
    return thin(np.pad(ink, ((0, 0), (_MARGIN,) * 2, (_MARGIN,) * 2)))


def thin(ink: np.ndarray) -> np.ndarray:
    """Thins to lines one pixel wide, connected as the ink was.

    Removes simple points that are not ends of lines from the north, south, east
    and west in turn, until there are none. (A point is simple if removing it
    neither joins nor splits ink or holes.)

    Args:
        ink: bool [n, height, width].

    Returns:
        bool, of the same shape.
    """
    lines = np.empty_like(ink)
    for first in range(0, len(ink), _CHUNK):
        chunk = slice(first, first + _CHUNK)
        lines[chunk] = _thin(ink[chunk])
    return lines


def _thin(ink: np.ndarray) -> np.ndarray:
    n, height, width = ink.shape
    padded = np.zeros((n, height + 2, width + 2), np.uint8)
    padded[:, 1:-1, 1:-1] = ink
    flat = padded.reshape(-1)
    row = width + 2
    ring = (-row, -row + 1, 1, row + 1, row, row - 1, -1, -row - 1)
    points = np.flatnonzero(flat)
    before = None
    while points.size != before:
        before = points.size
        for removable in _removable():
            code = flat.take(points + ring[0])
            for bit, offset in enumerate(ring[1:], 1):
                code |= flat.take(points + offset) << bit
            gone = removable[code]
            flat[points[gone]] = 0
            points = points[~gone]
    return padded[:, 1:-1, 1:-1].astype(bool)


@functools.cache
def _removable() -> np.ndarray:
    """Whether a point may go, by direction and by the code of its neighbors.

    Bits of the code are neighbors, clockwise from the north.

    Returns:
        bool [4, 256].
    """
    code = np.arange(256)
    # 1 where there is no ink; the first two repeat at the end.
    white = [1 - ((code >> k % 8) & 1) for k in range(10)]
    # Yokoi's number: how many parts of ink meet at the point.
    parts = sum(
        white[k] - white[k] * white[k + 1] * white[k + 2] for k in (0, 2, 4, 6)
    )
    neighbors = 8 - sum(white[:8])
    simple = (parts == 1) & (neighbors >= 2)
    return np.stack([simple & (white[k] == 1) for k in (0, 4, 2, 6)])


def squared_distances(lines: np.ndarray) -> np.ndarray:
    """Squared Euclidean distance to the nearest point, at most _FAR ** 2.

    Args:
        lines: bool [n, height, width].

    Returns:
        int16, of the same shape.
    """
    squares = np.where(lines, 0, _FAR).astype(np.int16)
    height = lines.shape[1]
    for y in range(1, height):
        np.minimum(squares[:, y], squares[:, y - 1] + 1, out=squares[:, y])
    for y in range(height - 2, -1, -1):
        np.minimum(squares[:, y], squares[:, y + 1] + 1, out=squares[:, y])
    squares *= squares
    nearest = np.minimum(squares, _FAR**2)
    for x in range(1, _FAR):
        left, right = nearest[:, :, :-x], nearest[:, :, x:]
        np.minimum(right, squares[:, :, :-x] + np.int16(x * x), out=right)
        np.minimum(left, squares[:, :, x:] + np.int16(x * x), out=left)
    return nearest
