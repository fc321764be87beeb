"""The characters that glyphs are made of, and how they were chosen."""

import functools
import re
import unicodedata

import numpy as np

from maml_tf.datasets.glyphs.lines import (
    BOX,
    center,
    center_lines,
    crop,
    load_font,
    rasterize,
    squared_distances,
    thin,
)

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
# and the name of a character. Excluded are syllables that differ from others
# only by a dot, as long ones and those with a w do, and two rows of strokes
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
# Limits of what is recognizable in a small drawing, in pixels of the box.
_LEAST_LENGTH = 50  # of all lines; below, they are a straight line, or dots
_LEGIBLE_PEN = 4  # radius with which a character is drawn and thinned again:
_LEAST_LEFT = 0.75  # share of its lines that is left, unless they ran together
_LEAST_DIFFERENCE = 2.5  # between two characters


def character_names() -> tuple[str, ...]:
    """Names of all classes, sorted: script/Unicode name."""
    return tuple(
        sorted(
            f"{script}/{unicodedata.name(character)}"
            for script in CHARACTERS
            for character in characters(script)
        )
    )


def characters(script: str) -> str:
    """The characters of a script that are classes, by code point."""
    found = ""
    for part in CHARACTERS[script].split():
        first, _, last = part.partition("-")
        codes = range(int(first, 16), int(last or first, 16) + 1)
        found += "".join(map(chr, codes))
    return found


def font_and_character(name: str) -> tuple[str, str]:
    """The font and the character to rasterize for a class."""
    script, _, character = name.partition("/")
    return _font_name(script), unicodedata.lookup(character)


def _font_name(script: str) -> str:
    return _FONTS.get(script, _FONT)


def select_characters() -> dict[str, str]:
    """Chooses CHARACTERS from the fonts; takes seconds.

    Goes through the candidates, script by script in the order of _CANDIDATES,
    and takes those that are legible and differ from all taken before, even if
    turned by a multiple of 90 degrees, as tasks turn their classes.

    Returns:
        The characters of each script.
    """
    candidates = [(s, c) for s in _CANDIDATES for c in _candidates(s)]
    ink = np.stack([rasterize(_font_name(s), c) for s, c in candidates])
    legible = np.flatnonzero(_is_legible(ink))
    difference = _differences(np.stack([_stretched(i) for i in ink[legible]]))
    chosen: list[int] = []
    for i in range(legible.size):
        if (difference[i][chosen] > _LEAST_DIFFERENCE).all():
            chosen.append(i)
    found = dict.fromkeys(_CANDIDATES, "")
    for i in legible[chosen]:
        script, character = candidates[i]
        found[script] += character
    return found


def _candidates(script: str) -> list[str]:
    """The candidates of a script, by code point."""
    pattern = re.compile(_CANDIDATES[script])
    kinds = _kinds(_font_name(script))
    return [c for c, kind in kinds.items() if pattern.fullmatch(kind)]


@functools.cache
def _kinds(font_name: str) -> dict[str, str]:
    """Category and name of characters in a font, by code point.

    Compositions and variants of other characters are left out.
    """
    kinds = {}
    for character in map(chr, sorted(load_font(font_name).get_charmap())):
        name = unicodedata.name(character, "")
        composed = unicodedata.decomposition(character)
        if not _VARIANT.search(name) and (
            not composed or composed.startswith("<font>")
        ):
            kinds[character] = f"{unicodedata.category(character)} {name}"
    return kinds


def _is_legible(ink: np.ndarray) -> np.ndarray:
    """bool [n]: whether small drawings still show the lines."""
    lines = center_lines(ink)
    length = lines.sum((1, 2))
    drawn = squared_distances(lines) < _LEGIBLE_PEN**2
    left = thin(drawn).sum((1, 2))
    return (length >= _LEAST_LENGTH) & (left >= _LEAST_LEFT * length)


def _stretched(ink: np.ndarray) -> np.ndarray:
    """Stretches a character, by no more than 3 : 1, so that it fills the box.

    Hands stretch characters, so aspect ratios do not tell them apart.
    """
    ink = crop(ink)
    height, width = ink.shape
    tall = min(BOX, 3 * BOX * height // width)
    wide = min(BOX, 3 * BOX * width // height)
    rows = (2 * np.arange(tall) + 1) * height // (2 * tall)
    columns = (2 * np.arange(wide) + 1) * width // (2 * wide)
    return center(ink[np.ix_(rows, columns)])


def _differences(ink: np.ndarray) -> np.ndarray:
    """Distances between the lines of any two characters.

    A distance is the root mean square distance of the points of one from the
    lines of the other, the greater of both ways, at the rotation for which it
    is least. The sums are of small integers, so exact in float32 in any order.

    Args:
        ink: bool [n, BOX, BOX].

    Returns:
        float32 [n, n], in pixels.
    """
    n = ink.shape[0]
    lines = thin(ink)
    squares = squared_distances(lines).reshape(n, -1).astype(np.float32)
    lines = lines.astype(np.float32)
    lengths = lines.sum((1, 2))[:, None]
    there = [
        np.rot90(lines, turns, (1, 2)).reshape(n, -1) @ squares.T / lengths
        for turns in range(4)
    ]
    # The reverse way is that of the swapped pair, turned back.
    both = [np.maximum(there[k], there[-k].T) for k in range(4)]
    return np.sqrt(np.minimum.reduce(both))
