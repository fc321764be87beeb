"""An Omniglot-like data set without a download, from Matplotlib's fonts.

Characters of many scripts, each drawn by 20 imaginary hands. A character is
thinned to its center lines, which makes lines of the strokes of any font. A
hand bends the lines (stretch, slant, rotation, a smooth elastic distortion),
places them, and goes over them with a round pen. As in Omniglot, an image is
28 x 28, ink or no ink, with strokes two to three pixels wide.

Drawing j of a character depends on the character's name and j alone. All
numbers are integers or come from single IEEE operations, never from a
transcendental function or a sum whose order is the machine's choice: the bytes
are the same on every machine.
"""

import functools
import hashlib
import pathlib
import re
import unicodedata
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib import ft2font

from maml_tf.errors import DataError
from maml_tf.packed_images import ImageClasses, PackedImages
from maml_tf.tasks import uniforms

DRAWINGS = 20  # of each character, as in Omniglot
SIZE = 28  # pixels, height and width of a drawing
SPLIT_PERCENT = {"train": 65, "validation": 10, "test": 25}

# What a hand may do; a single number is the end of an interval around 0.
_ROTATION = 0.13  # tangent of half the angle: 15 degrees
_SLANT = 0.25  # sideways by this part of the height
_STRETCH = 0.25  # one direction by up to 1.25, the other by its inverse
_ELASTIC = 3.5  # pixels, of a control point
_SHIFT = 4.0  # pixels, where there is room
_LENGTH = (14.0, 21.0)  # pixels, the longer side, where there is room
_PEN = (0.95, 1.35)  # pixels, the pen's radius

_BOX = 48  # longer side of an undistorted character
_MARGIN = 8  # around it; wider than a pen on that scale
_FAR = 10  # distances beyond are all the same
_CONTROL_POINTS = 6  # of the elastic distortion, in each direction
_WIDTH = 7 + 2 * _CONTROL_POINTS**2  # random numbers of a drawing
_CHUNK = 8  # characters distorted at once: arrays that fit into the cache

# By script, the code points that `select_characters` chose, in hexadecimal.
CHARACTERS = {
    "Digits": "30-38",
    "Latin": (
        "41 43 45-48 4b-4e 50-52 54 56-59 62 64-66 68 6b 72 74 79 c6 d0 de-df "
        "e6 f0 14a 184-185 194-195 1a3 1a6 1b1 1b8 1bf 1c1-1c2 1f6 223 "
        "241-242 244 26e 276-278 281 283 285 292 295 2ad 1d03 1d0e 1d16 "
        "1efa-1efb 2c75 a723-a724 a726-a729 a734 a736-a739 a73c-a73d a746 "
        "a782 a78d a7fb-a7fc"
    ),
    "Greek": (
        "372 393-394 39e 3a0 3a8 3b1-3b2 3b6-3b7 3bb-3be 3c0 3c2 3c5-3c6 3cf "
        "3d7-3d8 3dd-3e1 3fa-3fb"
    ),
    "Cyrillic": (
        "402 409 40b 411 414 416 41a-41b 426 429-42b 42f 452 45b 45f 462-464 "
        "466 468 46a 46c 46e 470-471 474 478-479 48d 4a0 4a8 4bc 4cb 502 504 "
        "506 50e 514 516-518 a656-a657 a662 a664 a666 a694-a695"
    ),
    "Armenian": (
        "531 534 536-539 53b 53e-540 543 547 54a-54c 54e 550 552 554 556 "
        "569-56a 56c-56e 572-574 579-57c 580 583"
    ),
    "Georgian": (
        "10a1-10a2 10a5-10a6 10a9-10ab 10ae-10b0 10b2 10b5 10b8 10bb-10bc "
        "10be-10c0 10c2-10c5 10d0-10d1 10d3-10d4 10d6 10d9-10da 10dd "
        "10df-10e1 10e3-10e7 10e9-10ea 10ed 10ef-10f1 10f4-10f5 10f7 10fa "
        "2d00-2d02 2d04-2d06 2d09-2d0a 2d0e-2d0f 2d12 2d15 2d17-2d19 "
        "2d1c-2d1f 2d21 2d24-2d25"
    ),
    "Hebrew": "5d0-5d2 5d4 5d6 5dc 5de 5e2-5e3 5e6-5e7 5e9-5ea",
    "Arabic": (
        "621 628 62a-62c 62e-62f 631 633-634 636-637 639-63a 641-643 645 "
        "647-64a 662-664 666-667 669 680 6a1 6a9-6aa 6af 6b3 6be 6c6-6c8 6d0 "
        "6f4 6f6"
    ),
    "NKo": "7c2 7c4 7c6-7c9 7d0-7d2 7d6-7db 7dd-7df 7e2 7e4 7e6-7e7",
    "Lao": (
        "e81-e82 e84 e88 e8a e8d e94-e95 e97 e99 e9b-e9e ea5 eaa eae-eb0 eb2 "
        "ec0-ec1 ec3 ed1-ed4 ed6"
    ),
    "Tifinagh": (
        "2d32 2d35 2d3b-2d3d 2d41 2d43 2d45 2d47 2d4c 2d50 2d52-2d53 2d55 "
        "2d5b-2d5c 2d5e 2d62-2d64"
    ),
    "Old Italic": "1030b-1030e 10310 10312 10315-10316 10319 10323",
    "Canadian syllabics": (
        "1426 142b-142e 1467-1469 1485-1486 1488-1489 14ed 14ef 1510 1513 "
        "1515 1526 1528 1542 1546 1553 1555 1566 1574 157f 1581 1583 1585 "
        "158a-158b 1595-1596 15a7-15a8"
    ),
    "Coptic": "3e6-3e7 3ee",
    "Ogham": "1682-1684 168b-168c 1695",
    "Currency": (
        "24 a3-a5 e3f 20a0-20a1 20a3-20a7 20aa-20b0 20b2-20b4 20b8-20ba 20bd"
    ),
    "Punctuation": (
        "23 25-26 40 a7 b6 55e 609 66d 2016 2030 203b 203d 2042 204a-204b "
        "2050-2051 2055"
    ),
    "Astronomy": "2604 260c-260d 263d 263f 2643-2646 2648-2652 26b3-26b7",
    "Script": (
        "210a-210b 2110 2112-2113 211b 212f-2131 2134 1d49c 1d49e-1d49f 1d4a6 "
        "1d4a9-1d4ac 1d4ae-1d4b1 1d4b3-1d4b4 1d4b6-1d4b9 1d4bb 1d4bd-1d4be "
        "1d4c2-1d4c3 1d4c5-1d4cf"
    ),
    "Fraktur": (
        "210c 2111 211c 212d 1d504-1d505 1d507-1d509 1d50e-1d510 1d512-1d514 "
        "1d516-1d518 1d51b-1d51c 1d51f 1d521-1d523 1d525 1d528-1d52b "
        "1d52d-1d531 1d533-1d537"
    ),
}

_FONT = "DejaVuSans"
_FONTS = {"Script": "STIXGeneral", "Fraktur": "STIXGeneral"}

# By script, what `select_characters` chooses from: patterns for the category
# and the name of a character. Left out are syllables that differ from others
# by a dot only, as long ones and those with a w do, and two rows of strokes
# that would have to be counted.
_CANDIDATES = {
    "Digits": r"N. DIGIT .*",
    "Latin": r"L. LATIN .*",
    "Greek": r"[LN]. GREEK .*",
    "Cyrillic": r"L. CYRILLIC .*",
    "Armenian": r"L. ARMENIAN .*",
    "Georgian": r"L. GEORGIAN .*",
    "Hebrew": r"L. HEBREW LETTER (?!WIDE |ALTERNATIVE ).*",
    "Arabic": r"(L. ARABIC (?!MATHEMATICAL )|N. .*ARABIC-INDIC ).*",
    "NKo": r"[LN]. NKO .*",
    "Lao": r"[LN]. LAO .*",
    "Tifinagh": r"L. TIFINAGH .*",
    "Old Italic": r"[LN]. OLD ITALIC .*",
    "Canadian syllabics": r"L. CANADIAN SYLLABICS (.* )?"
    r"([B-DF-HJ-NP-TVXYZ]*[AEIO]|[A-Z]*[B-DF-HJ-NP-TV-XYZ])",
    "Coptic": r"L. COPTIC .*",
    "Ogham": r"L. OGHAM LETTER (?!NGEADAL|STRAIF).*",
    "Currency": r"Sc .*",
    "Punctuation": r"Po .*",
    "Astronomy": r"So (COMET|FIRST QUARTER MOON|.*SCENDING NODE|CONJUNCTION|"
    r"OPPOSITION|MERCURY|(FE)?MALE SIGN|EARTH|JUPITER|SATURN|URANUS|NEPTUNE|"
    r"PLUTO|CERES|PALLAS|JUNO|VESTA|CHIRON|ARIES|TAURUS|GEMINI|CANCER|LEO|"
    r"VIRGO|LIBRA|SCORPIUS|SAGITTARIUS|CAPRICORN|AQUARIUS|PISCES)",
    "Script": r"L. (MATHEMATICAL )?SCRIPT (CAPITAL|SMALL) .",
    "Fraktur": r"L. (MATHEMATICAL FRAKTUR|BLACK-LETTER) (CAPITAL|SMALL) .",
}
_VARIANT = re.compile(r" WITH | LIGATURE |LATIN .*DIGRAPH")
# What can be recognized in a small drawing, in pixels of the box.
_LEAST_LENGTH = 50  # of all lines; below, they are a straight line, or dots
_LEGIBLE_PEN = 4  # radius with which a character is drawn and thinned again:
_LEAST_LEFT = 0.75  # this part of its lines is left, or they ran together
_LEAST_DIFFERENCE = 2.5  # between two characters


def glyphs() -> PackedImages:
    """Makes the whole data set, in about a second.

    A class is in the split that its place in the order of hashes of the names
    says, whatever its script.

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


def character_names() -> tuple[str, ...]:
    """Names of all classes, sorted: script/Unicode name."""
    return tuple(
        sorted(
            f"{script}/{unicodedata.name(character)}"
            for script in CHARACTERS
            for character in characters(script)
        )
    )


def draw(names: Sequence[str]) -> np.ndarray:
    """All drawings of the characters of these names.

    Args:
        names: among `character_names`.

    Returns:
        uint8 [len(names), DRAWINGS, SIZE, SIZE]; 255 is ink, 0 is none.
    """
    images = np.empty((len(names), DRAWINGS, SIZE, SIZE), np.uint8)
    ink = np.stack([_rasterize(*_find(name)) for name in names])
    for first in range(0, len(names), _CHUNK):
        chunk = slice(first, first + _CHUNK)
        images[chunk] = _draw_lines(_lines(ink[chunk]), names[chunk])
    return images


def _lines(ink: np.ndarray) -> np.ndarray:
    """Thinned characters with margins around them."""
    return thin(np.pad(ink, ((0, 0), (_MARGIN,) * 2, (_MARGIN,) * 2)))


def thin(ink: np.ndarray) -> np.ndarray:
    """Thins to lines one pixel wide, connected as the ink was.

    Takes away simple points that are no ends of lines from the north, the
    south, the east and the west in turn, until there are none. (A point is
    simple if neither ink nor holes become joined or parted by its removal.)

    Args:
        ink: bool [n, height, width].

    Returns:
        bool, of the same shape.
    """
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
            code = flat[points + ring[0]]
            for bit, offset in enumerate(ring[1:], 1):
                code |= flat[points + offset] << bit
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
    # 1 where there is no ink; the first two once more at the end.
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


def _draw_lines(lines: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Distorts and draws: bool [n, box, box] -> [n, DRAWINGS, SIZE, SIZE].

    A pixel is ink if the place on the undistorted character that lies under it
    is nearer to a line than the pen's radius.
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
        y, x = np.nonzero(line) - np.float64(_origin(lines))
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
    rows = sum(
        weights[:, i, None] * controls[..., i, None, :] for i in range(k)
    )
    return sum(rows[..., i, None] * weights[:, i] for i in range(k))


@functools.cache
def _spline_weights() -> np.ndarray:
    """Of the control points in each pixel: float32 [SIZE, control points]."""
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
    """Bilinear; beyond the border, the value on it.

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


def characters(script: str) -> str:
    """The characters of a script that are classes, by code point."""
    found = ""
    for part in CHARACTERS[script].split():
        first, _, last = part.partition("-")
        codes = range(int(first, 16), int(last or first, 16) + 1)
        found += "".join(map(chr, codes))
    return found


def _find(name: str) -> tuple[str, str]:
    """Font and character of a class."""
    script, _, character = name.partition("/")
    return _FONTS.get(script, _FONT), unicodedata.lookup(character)


@functools.cache
def _font(name: str) -> ft2font.FT2Font:
    directory = pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf")
    return ft2font.FT2Font(str(directory / f"{name}.ttf"))


def _rasterize(font_name: str, character: str) -> np.ndarray:
    """A character as large as the box allows: bool [_BOX, _BOX]."""
    font = _font(font_name)
    if not font.get_char_index(ord(character)):
        raise DataError(
            f"Matplotlib's font {font_name} lacks U+{ord(character):04X}. "
            "Install the release of Matplotlib that requirements.txt names."
        )
    flags = ft2font.LoadFlags.NO_HINTING
    font.set_size(_BOX, 72)
    glyph = font.load_char(ord(character), flags)
    longer = max(glyph.width, glyph.height) / 64  # of 26.6 fixed point
    font.set_size(_BOX * (_BOX - 1) / longer, 72)
    font.set_text(character, flags=flags)
    font.draw_glyphs_to_bitmap(antialiased=True)
    return _centered(_cropped(np.asarray(font.get_image()) > 127))


def _cropped(ink: np.ndarray) -> np.ndarray:
    y, x = np.nonzero(ink)
    return ink[y.min() : y.max() + 1, x.min() : x.max() + 1]


def _centered(ink: np.ndarray) -> np.ndarray:
    height, width = ink.shape
    image = np.zeros((_BOX, _BOX), bool)
    top, left = (_BOX - height) // 2, (_BOX - width) // 2
    image[top : top + height, left : left + width] = ink
    return image


def select_characters() -> dict[str, str]:
    """Chooses what CHARACTERS lists, from the fonts; takes seconds.

    Goes through the candidates, scripts in the order of _CANDIDATES, and takes
    what can be recognized and differs from all that was taken before, even if
    turned by a multiple of 90 degrees, as tasks turn their classes.

    Returns:
        For each script, its characters.
    """
    candidates = [(s, c) for s in _CANDIDATES for c in _candidates(s)]
    ink = np.stack([_rasterize(_FONTS.get(s, _FONT), c) for s, c in candidates])
    legible = np.flatnonzero(_is_legible(ink))
    difference = _differences(np.stack([_stretched(i) for i in ink[legible]]))
    chosen = []
    for i in range(legible.size):
        if (difference[i, chosen] > _LEAST_DIFFERENCE).all():
            chosen.append(i)
    found = dict.fromkeys(_CANDIDATES, "")
    for i in legible[chosen]:
        script, character = candidates[i]
        found[script] += character
    return found


def _candidates(script: str) -> list[str]:
    """Characters of a script that no composition or variant of another are."""
    pattern = re.compile(_CANDIDATES[script])
    found = []
    for code in sorted(_font(_FONTS.get(script, _FONT)).get_charmap()):
        character = chr(code)
        name = unicodedata.name(character, "")
        kind = f"{unicodedata.category(character)} {name}"
        composed = unicodedata.decomposition(character)
        if (
            pattern.fullmatch(kind)
            and not _VARIANT.search(name)
            and (not composed or composed.startswith("<font>"))
        ):
            found.append(character)
    return found


def _is_legible(ink: np.ndarray) -> np.ndarray:
    """bool [n]: whether small drawings still show the lines."""
    lines = _lines(ink)
    length = lines.sum((1, 2))
    drawn = squared_distances(lines) < _LEGIBLE_PEN**2
    left = thin(drawn).sum((1, 2))
    return (length >= _LEAST_LENGTH) & (left >= _LEAST_LEFT * length)


def _stretched(ink: np.ndarray) -> np.ndarray:
    """Stretches a character, by no more than 3 : 1, so that it fills the box.

    Hands stretch characters, so a difference in aspect tells none apart.
    """
    ink = _cropped(ink)
    height, width = ink.shape
    tall = min(_BOX, 3 * _BOX * height // width)
    wide = min(_BOX, 3 * _BOX * width // height)
    rows = (2 * np.arange(tall) + 1) * height // (2 * tall)
    columns = (2 * np.arange(wide) + 1) * width // (2 * wide)
    return _centered(ink[np.ix_(rows, columns)])


def _differences(ink: np.ndarray) -> np.ndarray:
    """How far apart the lines of two characters lie.

    The root mean square distance of the points of one from the lines of the
    other, whichever is the one for which it is greater, rotated such that it
    is least. Sums are of small integers: exact in float32 in any order.

    Args:
        ink: bool [n, _BOX, _BOX].

    Returns:
        float32 [n, n], in pixels.
    """
    n = ink.shape[0]
    lines = thin(ink)
    squares = squared_distances(lines)
    lines_flat = lines.reshape(n, -1).astype(np.float32)
    squares_flat = squares.reshape(n, -1).astype(np.float32)
    lengths = lines_flat.sum(1)
    least = np.full((n, n), np.inf, np.float32)
    for turns in range(4):
        there = np.rot90(lines, turns, (1, 2)).reshape(n, -1)
        back = np.rot90(squares, turns, (1, 2)).reshape(n, -1)
        there = there.astype(np.float32) @ squares_flat.T / lengths[:, None]
        back = back.astype(np.float32) @ lines_flat.T / lengths
        np.minimum(least, np.maximum(there, back), out=least)
    return np.sqrt(np.minimum(least, least.T))
