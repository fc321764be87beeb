"""An Omniglot-like data set without a download, from Matplotlib's fonts.

Characters of many scripts, each drawn by 20 imaginary hands. A character is
thinned to its center lines, so that strokes of any font become lines. A hand
bends the lines (stretch, slant, rotation, a smooth elastic distortion), places
them, and goes over them with a round pen. As in Omniglot, an image is 28 x 28,
ink or no ink, with strokes two to three pixels wide.

Drawing j of a character depends only on the character's name and j. All numbers
are integers or come from single IEEE operations, never from a transcendental
function or a sum whose order depends on the machine, so the bytes are the same
on every machine.
"""

import functools
import hashlib
from collections.abc import Sequence

import matplotlib
import numpy as np

from maml_tf.datasets.glyphs.characters import (
    character_names,
    font_and_character,
)
from maml_tf.datasets.glyphs.lines import (
    center_lines,
    rasterize,
    squared_distances,
)
from maml_tf.datasets.packed_images import ImageClasses, PackedImages
from maml_tf.uniforms import uniforms

DRAWINGS = 20  # per character, as in Omniglot
SIZE = 28  # pixels, height and width of a drawing
SPLIT_PERCENT = {"train": 65, "validation": 10, "test": 25}

# What a hand may do; a single number bounds an interval around 0.
_ROTATION = 0.13  # tangent of half the angle: 15 degrees
_SLANT = 0.25  # sideways by this part of the height
_STRETCH = 0.25  # one direction by up to 1.25, the other by its inverse
_ELASTIC = 3.5  # pixels, of a control point
_SHIFT = 4.0  # pixels, where there is room
_LENGTH = (14.0, 21.0)  # pixels, the longer side, where there is room
_PEN = (0.95, 1.35)  # pixels, the pen's radius

_CONTROL_POINTS = 6  # of the elastic distortion, in each direction
_WIDTH = 7 + 2 * _CONTROL_POINTS**2  # random numbers of a drawing
_CHUNK = 8  # characters distorted at once: arrays that fit into the cache


@functools.cache
def glyphs() -> PackedImages:
    """Makes the whole data set, in about a second.

    Classes are split by the hashes of their names, whatever their script.

    Raises:
        DataError: if the fonts lack a character.
    """
    names = character_names()
    counts = np.full(len(names), DRAWINGS, np.int64)
    images = draw(names).reshape(-1, SIZE, SIZE, 1)
    images.flags.writeable = False
    classes = ImageClasses(images, names, np.cumsum(counts) - counts, counts)
    shuffled = sorted(names, key=lambda name: _digest(f"split:{name}"))
    splits, first, percent = {}, 0, 0
    for split, share in SPLIT_PERCENT.items():
        percent += share
        last = len(names) * percent // 100
        splits[split] = classes.select(sorted(shuffled[first:last]))
        first = last
    about = {
        "source": f"fonts of Matplotlib {matplotlib.__version__}",
        "drawings": DRAWINGS,
    }
    return PackedImages("glyphs", about, splits)


def draw(names: Sequence[str]) -> np.ndarray:
    """All drawings of the named characters.

    Args:
        names: among `character_names`.

    Returns:
        uint8 [len(names), DRAWINGS, SIZE, SIZE]; 255 is ink, 0 is none.
    """
    images = np.empty((len(names), DRAWINGS, SIZE, SIZE), np.uint8)
    ink = np.stack([rasterize(*font_and_character(name)) for name in names])
    for first in range(0, len(names), _CHUNK):
        chunk = slice(first, first + _CHUNK)
        images[chunk] = _draw_lines(center_lines(ink[chunk]), names[chunk])
    return images


def _draw_lines(lines: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Distorts and draws: bool [n, box, box] -> [n, DRAWINGS, SIZE, SIZE].

    A pixel is ink if the point of the undistorted character under it is nearer
    to a line than the pen's radius.
    """
    u = np.stack(
        [uniforms(_seed(name), 0, 0, DRAWINGS, _WIDTH) for name in names]
    )
    matrix = _linear_map(u[..., 0], u[..., 1], u[..., 2])
    pen = _between(_PEN, u[..., 3])
    bends = _upsample(_between((-_ELASTIC, _ELASTIC), u[..., 7:]))

    # Ink lies within a pen's radius, stretched, of line * scale + bend + shift;
    # this keeps it off the image's border.
    low, high = _extents(lines, matrix)
    least, most = bends.min((3, 4)), bends.max((3, 4))
    radius = (1 + _STRETCH) * pen[..., None]
    space = SIZE - 3 - (most - least) - 2 * radius
    length = high - low
    scale = np.minimum(
        _between(_LENGTH, u[..., 4]) / length.max(-1),
        (space / np.maximum(length, 1)).min(-1),  # 0: an upright line
    )
    room = (space - length * scale[..., None]) / 2
    shift = _between((-1, 1), u[..., 5:7]) * np.minimum(room, _SHIFT)
    shift += (SIZE - 1 - (least + most) - (low + high) * scale[..., None]) / 2

    def each(number):  # of a drawing, beside its pixels
        return number.astype(np.float32)[..., None, None]

    pixels = np.arange(SIZE, dtype=np.float32)
    x = (pixels - bends[:, :, 0] - each(shift[..., 0])) / each(scale)
    y = (pixels[:, None] - bends[:, :, 1] - each(shift[..., 1])) / each(scale)
    (a, b), (c, d) = matrix  # its determinant is 1
    origin = np.float32(_origin(lines))
    distance = _interpolate(
        np.sqrt(squared_distances(lines).astype(np.float32)),
        each(d) * x - each(b) * y + origin,
        each(a) * y - each(c) * x + origin,
    )
    return np.where(distance < each(pen / scale), 255, 0).astype(np.uint8)


def _origin(lines: np.ndarray) -> float:
    return (lines.shape[1] - 1) / 2


def _linear_map(rotation, slant, stretch):
    """((a, b), (c, d)) with determinant 1 from numbers in [0, 1)."""
    t = _between((-_ROTATION, _ROTATION), rotation)
    cosine, sine = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    s = _between((-_SLANT, _SLANT), slant)
    r = _between((-_STRETCH, _STRETCH), stretch)
    r = np.where(r < 0, 1 / (1 - r), 1 + r)
    return (
        (cosine * r, (cosine * s - sine) / r),
        (sine * r, (sine * s + cosine) / r),
    )


def _extents(lines: np.ndarray, matrix) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest (x, y) of the mapped lines, [n, DRAWINGS, 2] each."""
    (a, b), (c, d) = matrix
    ends = []
    for i, line in enumerate(lines):
        y, x = np.array(np.nonzero(line)) - np.float64(_origin(lines))
        u = a[i, :, None] * x + b[i, :, None] * y
        v = c[i, :, None] * x + d[i, :, None] * y
        ends.append([[w.min(-1), w.max(-1)] for w in (u, v)])
    low, high = np.array(ends).transpose(2, 0, 3, 1)
    return low, high


def _upsample(controls: np.ndarray) -> np.ndarray:
    """Uniform cubic B-splines of x and of y, from their control points.

    Args:
        controls: [n, DRAWINGS, 2 * _CONTROL_POINTS ** 2].

    Returns:
        float32 [n, DRAWINGS, 2, SIZE, SIZE].
    """
    k = _CONTROL_POINTS
    controls = controls.astype(np.float32).reshape(*controls.shape[:2], 2, k, k)
    weights = _spline_weights()
    zero = np.zeros((), np.float32)
    rows = sum(
        (weights[:, i, None] * controls[..., i, None, :] for i in range(k)),
        start=zero,
    )
    return sum(
        (rows[..., i, None] * weights[:, i] for i in range(k)), start=zero
    )


@functools.cache
def _spline_weights() -> np.ndarray:
    """Weights of the control points in each pixel: float32 [SIZE, points]."""
    pieces = _CONTROL_POINTS - 3
    weights = np.zeros((SIZE, _CONTROL_POINTS), np.float32)
    for pixel in range(SIZE):
        piece, rest = divmod((2 * pixel + 1) * pieces, 2 * SIZE)
        t = rest / (2 * SIZE)
        weights[pixel, piece : piece + 4] = (
            (1 - t) * (1 - t) * (1 - t) / 6,
            (3 * t * t * t - 6 * t * t + 4) / 6,
            (3 * t * t - 3 * t * t * t + 3 * t + 1) / 6,
            t * t * t / 6,
        )
    return weights


def _interpolate(
    images: np.ndarray, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """Bilinear interpolation; beyond the border, the value on it.

    Args:
        images: float32 [n, height, width].
        x, y: float32 [n, ...].
    """
    n, height, width = images.shape
    x = np.clip(x, 0, width - 1.01)
    y = np.clip(y, 0, height - 1.01)
    left, top = x.astype(np.int32), y.astype(np.int32)
    x -= left
    y -= top
    first = np.arange(n, dtype=np.int32) * (height * width)
    index = first.reshape(-1, *[1] * (x.ndim - 1)) + top * width + left
    flat = images.reshape(-1)
    upper, lower = flat[index], flat[index + width]
    upper += (flat[index + 1] - upper) * x
    lower += (flat[index + width + 1] - lower) * x
    upper += (lower - upper) * y
    return upper


def _between(interval, u: np.ndarray) -> np.ndarray:
    low, high = interval
    return low + (high - low) * u


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _seed(name: str) -> int:
    return int(_digest(name)[:16], 16)
