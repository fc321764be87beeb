"""Glyphs: distinct characters, each drawn by many hands, always the same."""

import hashlib
import itertools
import unicodedata

import numpy as np
import pytest

from maml_tf.datasets.glyphs.characters import (
    CHARACTERS,
    character_names,
    characters,
    select_characters,
)
from maml_tf.datasets.glyphs.images import (
    DRAWINGS,
    SIZE,
    _draw_lines,
    draw,
    glyphs,
)
from maml_tf.datasets.glyphs.lines import squared_distances, thin
from maml_tf.errors import DataError


@pytest.fixture(scope="module")
def data():
    return glyphs()


@pytest.fixture(scope="module")
def drawings(data):
    """float32 [classes, DRAWINGS, SIZE, SIZE]; 1 is ink."""
    images = data.splits["train"].images
    images = images.reshape(-1, DRAWINGS, SIZE, SIZE)
    return (images // 255).astype(np.float32)


def similarities(a, b):
    """Cosines between the images of a and of b, centered."""
    a, b = (x.reshape(len(x), -1) for x in (a, b))
    a, b = (x - x.mean(1, keepdims=True) for x in (a, b))
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    return a @ b.T


def test_there_are_many_classes_of_many_scripts(data):
    names = character_names()
    assert len(set(names)) == len(names) >= 600
    assert list(names) == sorted(names)
    assert len({name.split("/")[0] for name in names}) >= 15
    assert "Greek/GREEK SMALL LETTER LAMDA" in names
    assert sum(len(c.names) for c in data.splits.values()) == len(names)


def test_images_are_20_binary_drawings_of_a_class(data):
    for classes in data.splits.values():
        assert classes.image_shape == (28, 28, 1)
        assert classes.images.dtype == np.uint8
        assert not classes.images.flags.writeable
        assert (classes.counts == 20).all()
        assert (classes.firsts + 20 <= len(classes.images)).all()
    assert set(np.unique(data.splits["train"].images)) == {0, 255}


def test_classes_are_where_their_names_say(data):
    for classes in data.splits.values():
        chosen = [0, len(classes.names) // 2]
        drawn = draw([classes.names[i] for i in chosen])
        for images, i in zip(drawn, chosen, strict=True):
            first = classes.firsts[i]
            found = classes.images[first : first + classes.counts[i], ..., 0]
            np.testing.assert_array_equal(found, images)


def test_splits_share_no_class(data):
    names = {split: set(c.names) for split, c in data.splits.items()}
    assert list(names) == ["train", "validation", "test"]
    for a, b in itertools.combinations(names.values(), 2):
        assert not a & b
    total = len(set.union(*names.values()))
    for split, share in (("train", 0.65), ("validation", 0.1), ("test", 0.25)):
        assert len(names[split]) / total == pytest.approx(share, abs=0.01)


def test_a_drawing_depends_on_its_name_alone():
    names = character_names()[::40]
    together = draw(names)
    np.testing.assert_array_equal(draw(names[::-1]), together[::-1])
    np.testing.assert_array_equal(draw(names[3:4]), together[3:4])


def test_bytes_are_those_of_every_machine():
    # A cross and a dot: how fonts are rasterized may change with a release.
    lines = np.zeros((1, 64, 64), bool)
    lines[0, 12:52, 32] = lines[0, 30, 12:50] = lines[0, 48, 16] = True
    images = _draw_lines(lines, ["a cross"])
    assert hashlib.sha256(images.tobytes()).hexdigest() == (
        "4ea5e8d6b8108c8734ec5398f21156973ea95215d33a8d5c30dbffc253facd2f"
    )


def test_a_font_that_lacks_a_character_is_reported():
    with pytest.raises(DataError, match=r"DejaVuSans lacks U\+4E00"):
        draw(["Latin/CJK UNIFIED IDEOGRAPH-4E00"])


def test_the_list_is_what_the_fonts_give():
    selected = select_characters()
    assert list(selected) == list(CHARACTERS)
    for script, chosen in selected.items():
        assert chosen == characters(script), _ranges(chosen)
        assert all(unicodedata.name(character) for character in chosen)


def _ranges(chosen):
    """The expected value of CHARACTERS."""
    runs = []
    for code in map(ord, chosen):
        if runs and runs[-1][1] == code - 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    return " ".join(f"{a:x}" if a == b else f"{a:x}-{b:x}" for a, b in runs)


def test_ink_is_a_few_strokes_inside_the_image(drawings):
    ink = drawings.mean((2, 3))
    assert ink.min() > 0.02
    assert ink.max() < 0.4
    assert 0.1 < ink.mean() < 0.17
    inside = drawings[:, :, 1:-1, 1:-1]
    assert inside.sum() == drawings.sum()


def test_strokes_are_about_two_pixels_wide(drawings):
    """Most ink is gone if every stroke loses its outermost pixels."""
    sample = drawings[::5].reshape(-1, SIZE, SIZE).astype(bool)
    lines = thin(sample).sum((1, 2))
    width = sample.sum((1, 2)) / lines
    assert 2 < np.median(width) < 3
    assert np.percentile(width, 1) > 1.5


def test_drawings_of_a_class_differ(drawings):
    for images in drawings:
        assert len({image.tobytes() for image in images}) == DRAWINGS


def test_no_two_classes_look_alike(drawings):
    """Not even if one of them is turned, as tasks turn classes."""
    means = drawings.mean(1)
    for turns in range(4):
        similar = similarities(np.rot90(means, turns, (1, 2)), means)
        np.fill_diagonal(similar, 0)
        assert similar.max() < 0.94


def test_classes_can_be_told_apart_but_not_by_pixels(drawings):
    """One drawing of each of 20 classes, as in 20-way 1-shot tasks."""
    correct = [
        similarities(drawings[i::30, 0], drawings[i::30, 1]).argmax(1)
        == np.arange(len(drawings[i::30]))
        for i in range(30)
    ]
    assert 0.15 < np.concatenate(correct).mean() < 0.4
    halves = drawings[:, :10].mean(1), drawings[:, 10:].mean(1)
    correct = similarities(*halves).argmax(1) == np.arange(len(drawings))
    assert correct.mean() > 0.4


def test_thinning_leaves_lines_that_are_connected_as_before():
    ink = np.zeros((4, 20, 20), bool)
    ink[0, 3:8, 2:18] = True  # a bar
    ink[1, 2:18, 2:18] = True  # a ring
    ink[1, 7:13, 7:13] = False
    ink[2, 4:6, 4:6] = ink[2, 12, 12] = True  # two dots
    lines = thin(ink)
    assert not (lines & ~ink).any()
    blocks = lines[:, 1:] & lines[:, :-1]
    assert not (blocks[:, :, 1:] & blocks[:, :, :-1]).any()
    assert set(np.nonzero(lines[0])[0]) == {5}
    for line in (lines[1, 10, :10], lines[1, :10, 10], lines[1, 10, 10:]):
        assert line.sum() == 1
    assert lines[2, 4:6, 4:6].any()
    assert lines[2, 12, 12]
    assert not lines[3].any()


def test_distances_are_those_to_the_nearest_point():
    rng = np.random.default_rng(0)
    lines = rng.random((3, 24, 30)) < 0.01
    y, x = np.mgrid[:24, :30]
    for line, found in zip(lines, squared_distances(lines), strict=True):
        points = np.argwhere(line)
        expected = (y[..., None] - points[:, 0]) ** 2
        expected += (x[..., None] - points[:, 1]) ** 2
        expected = np.minimum(expected.min(-1), 100)
        np.testing.assert_array_equal(found, expected)
