"""Packed data sets are whole, or not there, or found to be damaged."""

import json
import os

import numpy as np
import pytest

from maml_tf import packed_images
from maml_tf.errors import DataError
from maml_tf.packed_images import PackedImages, packing

COUNTS = {"b": 2, "a": 3, "c": 1, "d": 2}
ABOUT = {"source": "this test"}
PLAN = {
    "name": "letters",
    "about": ABOUT,
    "image_shape": (2, 3, 1),
    "arrays": {
        "one.npy": [("b", 2), ("a", 3), ("c", 1)],
        "two.npy": [("d", 2)],
    },
    "splits": {"train": ["a", "b"], "validation": ["c"], "test": ["d"]},
}


def pack(directory, value=0):
    """Packs images whose pixels tell which they are."""
    with packing(directory, **PLAN) as writers:
        for file, classes in PLAN["arrays"].items():
            for name, count in classes:
                for i in range(count):
                    image = np.full((2, 3, 1), value + ord(name) + i, np.uint8)
                    writers[file].append(image)


@pytest.fixture
def directory(tmp_path):
    pack(tmp_path / "letters")
    return tmp_path / "letters"


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def hidden(directory):
    """What is left beside a packed data set, but for the lock."""
    left = {path.name for path in directory.parent.iterdir()}
    return left - {directory.name, f".{directory.name}.lock"}


def test_what_was_packed_is_opened(directory):
    packed = PackedImages.open(directory)
    assert (packed.name, packed.about) == ("letters", ABOUT)
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


def test_equal_content_makes_equal_files(directory, tmp_path):
    pack(tmp_path / "again")
    assert contents(directory) == contents(tmp_path / "again")


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


def save(array):
    return lambda directory: np.save(directory / "one.npy", array)


def cut(name, size):
    return lambda directory: os.truncate(directory / name, size)


GOOD = np.zeros((6, 2, 3, 1), np.uint8)


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
        (edit_array(shape=[6, 3, 2, 1]), "one.npy holds uint8 .* says uint8"),
        (lambda d: (d / "one.npy").unlink(), "one.npy is missing"),
        (cut("one.npy", 0), "one.npy is truncated"),
        (cut("one.npy", 50), "one.npy is truncated"),
        (cut("one.npy", 150), "one.npy is truncated"),
        (save(GOOD[1:]), r"one.npy holds uint8 \(5, .* says uint8 \(6,"),
        (save(GOOD.astype(np.float32)), "one.npy holds float32"),
        (save(np.asfortranarray(GOOD)), "Fortran"),
        (save(np.array([{}])), "one.npy is truncated or damaged"),
    ],
)
def test_damage_is_one_clear_sentence(directory, damage, message):
    damage(directory)
    with pytest.raises(DataError, match=message) as error:
        PackedImages.open(directory)
    assert "\n" not in str(error.value)


def test_changed_pixels_are_found_by_their_checksum(directory):
    packed_images.verify(directory)
    path = directory / "one.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    PackedImages.open(directory)
    with pytest.raises(DataError, match="one.npy was changed since"):
        packed_images.verify(directory)


def test_a_new_data_set_replaces_the_old_one(directory):
    old = PackedImages.open(directory).splits["train"]
    pack(directory, value=100)
    new = PackedImages.open(directory).splits["train"]
    assert new.images[0, 0, 0, 0] == 100 + old.images[0, 0, 0, 0]
    assert not hidden(directory)


@pytest.mark.parametrize("num_images", [0, 3])
def test_an_error_while_packing_leaves_the_old_one(directory, num_images):
    before = contents(directory)

    def pack_and_fail():
        with packing(directory, **PLAN) as writers:
            for _ in range(num_images):
                writers["one.npy"].append(GOOD[0])
            assert contents(directory) == before
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        pack_and_fail()
    assert contents(directory) == before
    assert not hidden(directory)


def test_a_kill_while_writing_leaves_the_old_one(directory):
    before = contents(directory)
    half = directory.with_name(".letters.writing")
    half.mkdir()
    (half / "one.npy").write_bytes(b"half")
    assert contents(directory) == before
    PackedImages.open(directory)
    pack(directory)
    assert not hidden(directory)


def test_a_kill_between_the_renames_is_mended(directory):
    before = contents(directory)
    directory.rename(directory.with_name(".letters.replaced"))
    writing = packing(directory, **PLAN)
    with pytest.raises(RuntimeError, match="stop"), writing:
        raise RuntimeError("stop")
    assert contents(directory) == before
    directory.rename(directory.with_name(".letters.replaced"))
    pack(directory, value=100)
    assert contents(directory) != before
    assert not hidden(directory)


def test_a_kill_after_the_renames_leaves_the_new_one(directory):
    before = contents(directory)
    aside = directory.with_name(".letters.replaced")
    aside.mkdir()
    (aside / "one.npy").write_bytes(b"old")
    pack(directory)
    assert contents(directory) == before
    assert not hidden(directory)


@pytest.mark.parametrize("name", ["notes.txt", "mine.npy"])
def test_nothing_but_a_packed_data_set_is_replaced(tmp_path, name):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("precious")
    with pytest.raises(DataError, match=f"it holds {name}. Del.*--output_dir"):
        pack(tmp_path / "mine")
    assert (tmp_path / "mine" / name).read_text() == "precious"
    with pytest.raises(DataError, match=f"{name} is a file; a directory is"):
        pack(tmp_path / "mine" / name)


def test_what_a_desktop_left_there_is_no_obstacle(directory):
    (directory / ".DS_Store").touch()
    pack(directory)
    assert not (directory / ".DS_Store").exists()


def test_a_link_to_another_disk_stays_a_link(directory, tmp_path):
    (tmp_path / "link").symlink_to(directory)
    pack(tmp_path / "link", value=100)
    assert (tmp_path / "link").is_symlink()
    images = PackedImages.open(directory).splits["test"].images
    assert images[0, 0, 0, 0] == 100 + ord("d")


def test_two_at_once_are_refused(directory):
    other = directory.with_name("other")
    with packing(directory, **PLAN) as writers:
        pack(other)  # Another data set is no trouble.
        with pytest.raises(DataError, match="Another process is importing"):
            pack(directory)
        for file, array in (("one.npy", GOOD), ("two.npy", GOOD[:2])):
            for image in array:
                writers[file].append(image)
    assert PackedImages.open(directory).splits["test"].images.max() == 0


def test_images_of_another_shape_or_number_are_refused(tmp_path):
    writing = packing(tmp_path / "letters", **PLAN)
    with (
        pytest.raises(ValueError, match=r"uint8 of shape \(2, 3, 1\)"),
        writing as w,
    ):
        w["one.npy"].append(np.zeros((2, 3, 3), np.uint8))
    writing = packing(tmp_path / "letters", **PLAN)
    with pytest.raises(ValueError, match="5 images are missing"), writing as w:
        w["one.npy"].append(GOOD[0])
    assert not (tmp_path / "letters").exists()
