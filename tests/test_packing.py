"""A data set is packed whole or not at all, whatever happens meanwhile."""

import numpy as np
import pytest

from maml_tf.datasets.packed_images import PackedImages
from maml_tf.datasets.packing import packing, verify
from maml_tf.errors import DataError

PLAN = {
    "name": "letters",
    "about": {"source": "this test"},
    "image_shape": (2, 3, 1),
    "arrays": {
        "one.npy": [("b", 2), ("a", 3), ("c", 1)],
        "two.npy": [("d", 2)],
    },
    "splits": {"train": ["a", "b"], "validation": ["c"], "test": ["d"]},
}
IMAGES = np.zeros((6, 2, 3, 1), np.uint8)  # of the first array


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


def test_equal_content_makes_equal_files(directory, tmp_path):
    pack(tmp_path / "again")
    assert contents(directory) == contents(tmp_path / "again")


def test_changed_pixels_are_found_by_their_checksum(directory):
    verify(directory)
    path = directory / "one.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    PackedImages.open(directory)
    with pytest.raises(DataError, match="one.npy was changed since"):
        verify(directory)


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
                writers["one.npy"].append(IMAGES[0])
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


def test_a_kill_between_the_renames_is_repaired(directory):
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
    with pytest.raises(
        DataError, match=f"it holds {name}. Del.*output directory"
    ):
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
        for file, array in (("one.npy", IMAGES), ("two.npy", IMAGES[:2])):
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
        w["one.npy"].append(IMAGES[0])
    assert not (tmp_path / "letters").exists()
