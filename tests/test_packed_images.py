"""Packed data sets are opened as they were packed, or found to be damaged."""

import json
import os

import numpy as np
import pytest
from test_packing import IMAGES, PLAN, pack

from maml_tf.datasets.packed_images import PackedImages
from maml_tf.errors import DataError

COUNTS = {"b": 2, "a": 3, "c": 1, "d": 2}


@pytest.fixture
def directory(tmp_path):
    pack(tmp_path / "letters")
    return tmp_path / "letters"


def test_what_was_packed_is_opened(directory):
    packed = PackedImages.open(directory)
    assert (packed.name, packed.about) == ("letters", PLAN["about"])
    names = {split: classes.names for split, classes in packed.splits.items()}
    assert names == {"train": ("a", "b"), "validation": ("c",), "test": ("d",)}
    for classes in packed.splits.values():
        assert classes.image_shape == (2, 3, 1)
        for name, first, count in zip(
            classes.names, classes.firsts, classes.counts, strict=True
        ):
            assert count == COUNTS[name]
            for i in range(count):
                assert (classes.images[first + i] == ord(name) + i).all()


def test_images_are_mapped_and_cannot_be_changed(directory):
    images = PackedImages.open(directory).splits["train"].images
    assert type(images) is np.ndarray
    assert isinstance(images.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def test_classes_are_selected_in_the_order_asked_for(directory):
    train = PackedImages.open(directory).splits["train"]
    chosen = train.select(["b", "a"])
    assert chosen.names == ("b", "a")
    assert chosen.firsts.tolist() == [0, 2]
    assert chosen.counts.tolist() == [2, 3]
    assert chosen.images is train.images
    with pytest.raises(DataError, match="no class 'x' among the 2"):
        train.select(["a", "x"])
    with pytest.raises(DataError, match="'a' is asked for twice"):
        train.select(["a", "a"])


def test_an_error_ends_with_the_hint(tmp_path):
    with pytest.raises(
        DataError, match=r"no directory .*none: .* prepared\. Run that\.$"
    ):
        PackedImages.open(tmp_path / "none", hint="Run that.")


def edit(**changes):
    def change(directory):
        path = directory / "index.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def edit_array(**changes):
    def change(directory):
        path = directory / "index.json"
        index = json.loads(path.read_text())
        index["arrays"]["one.npy"] |= changes
        path.write_text(json.dumps(index))

    return change


def replace(name, old, new):
    def damage(directory):
        content = (directory / name).read_bytes()
        (directory / name).write_bytes(content.replace(old, new, 1))

    return damage


def save(array):
    return lambda directory: np.save(directory / "one.npy", array)


def cut(name, size):
    return lambda directory: os.truncate(directory / name, size)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "index.json").unlink(), "not a packed data set"),
        (cut("index.json", 30), "index.json is damaged: it is not JSON"),
        (lambda d: (d / "index.json").write_bytes(b"\xff\xfe"), "not JSON"),
        (lambda d: (d / "index.json").write_text("[]"), "in format None"),
        (edit(format=2), "in format 2; this version reads format 1. Import"),
        (edit(arrays=None), "index.json is damaged"),
        (edit(arrays={"../one.npy": {}}), "not the name of a .npy file"),
        (edit(splits={}), "there is no split"),
        (edit(splits={"train": []}), "'train' is not a split with"),
        (edit(splits={"dev": ["a"]}), "'dev' is not a split"),
        (edit(splits={"train": ["x"]}), "class 'x' of train has no images"),
        (
            edit(splits={"train": ["a"], "test": ["a"]}),
            "class 'a' is in train and in test",
        ),
        (edit(splits={"train": ["a", "d"]}), "train are in several arrays"),
        (edit_array(classes=[["a", 3]]), "one.npy have 3 .* the array has 6"),
        (edit_array(classes=[["a", 3], ["a", 3]]), "'a' is there twice"),
        (edit_array(classes=[["a", 0], ["b", 6]]), "cannot hold 0 of 'a'"),
        (edit_array(shape=[6, 2, 3]), "cannot be of shape"),
        (edit_array(shape=[6, 3, 2, 1]), "images are of several shapes"),
        (lambda d: (d / "one.npy").unlink(), "one.npy is missing"),
        (replace("one.npy", b"}", b"("), "one.npy is truncated or damaged"),
        (cut("one.npy", 0), "one.npy is truncated"),
        (cut("one.npy", 50), "one.npy is truncated"),
        (cut("one.npy", 150), "one.npy is truncated"),
        (save(IMAGES[1:]), r"one.npy holds uint8 \(5, .* says uint8 \(6,"),
        (save(IMAGES.astype(np.float32)), "one.npy holds float32"),
        (save(np.asfortranarray(IMAGES)), "Fortran"),
        (save(np.array([{}])), "one.npy is truncated or damaged"),
    ],
)
def test_damage_is_one_clear_sentence(directory, damage, message):
    damage(directory)
    with pytest.raises(DataError, match=message) as error:
        PackedImages.open(directory)
    assert "\n" not in str(error.value)
