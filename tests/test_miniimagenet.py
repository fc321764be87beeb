"""mini-ImageNet is recognized in all its forms, verified and packed."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import REPOSITORY, SHARED, prepare
from PIL import Image
from rich.console import Console
from test_image_folder import write_classes, write_image

from maml_tf.cli import miniimagenet as command
from maml_tf.datasets import miniimagenet
from maml_tf.datasets.packed_images import PackedImages
from maml_tf.errors import DataError

CONSOLE = Console(quiet=True)
REAL_LISTS = SHARED / "data" / "miniimagenet_splits"

# A smaller one; folders and lists name the validation split "val".
CLASSES = {"train": ["n03", "n01"], "val": ["n02"], "test": ["n04"]}
NUM_CLASSES = {"train": 2, "validation": 1, "test": 1}
NUM_IMAGES = 3


def write_folders(root):
    for split, names in CLASSES.items():
        write_classes(root / split, names, NUM_IMAGES)
    return root


def write_lists(directory, classes=CLASSES, num_images=NUM_IMAGES):
    directory.mkdir(parents=True, exist_ok=True)
    for split, names in classes.items():
        rows = [f"{n}_{i}.jpg,{n}" for n in names for i in range(num_images)]
        (directory / f"{split}.csv").write_text(
            "\n".join(["filename,label", *rows, ""])
        )
    return directory


def write_images(directory):
    for names in CLASSES.values():
        for j, name in enumerate(names):
            for i in range(NUM_IMAGES):
                write_image(directory / f"{name}_{i}.jpg", (10 * j + i, 0, 0))
    return directory


def pack(source, output_dir, csv_dir=None):
    miniimagenet.import_miniimagenet(
        source, csv_dir, output_dir, CONSOLE, NUM_CLASSES, NUM_IMAGES
    )
    return PackedImages.open(output_dir)


def check(packed):
    assert packed.name == "miniimagenet"
    names = {split: s.names for split, s in packed.splits.items()}
    assert names == {
        "train": ("n01", "n03"),
        "validation": ("n02",),
        "test": ("n04",),
    }
    train = packed.splits["train"]
    assert train.images.shape == (6, 84, 84, 3)
    red = train.images[:, 0, 0, 0].astype(int)
    np.testing.assert_allclose(red, [10, 11, 12, 0, 1, 2], atol=2)


def test_folders(tmp_path):
    check(pack(write_folders(tmp_path / "in"), tmp_path / "out"))


@pytest.mark.parametrize(
    ("images", "lists", "csv_dir"),
    [
        (".", ".", None),
        ("images", ".", None),
        (".", "..", None),
        ("images", "..", None),
        ("images", "../lists", "lists"),
    ],
)
def test_one_folder_and_three_lists(tmp_path, images, lists, csv_dir):
    source = tmp_path / "in"
    write_images(source / images)
    write_lists(source / lists)
    csv_dir = csv_dir and tmp_path / csv_dir
    check(pack(source, tmp_path / "out", csv_dir))


class TestVerification:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda s: shutil.rmtree(s / "train" / "n01"),
                "has 2 classes for train; here are 1",
            ),
            (
                lambda s: shutil.rmtree(s / "test"),
                "has 1 classes for test; here are 0",
            ),
            (
                lambda s: (s / "val" / "n02" / "0.png").unlink(),
                r"3 images of each class; of n02 \(validation\) here are 2",
            ),
            (
                lambda s: (s / "val" / "n02").rename(s / "val" / "n01"),
                "n01 is in train and in validation",
            ),
            (
                lambda s: (s / "val" / "n02" / "0.png").write_bytes(b"x"),
                r"1 of 12 files cannot be used.*\n.*n02/0.png: it is not",
            ),
        ],
    )
    def test_folders(self, tmp_path, change, message):
        source = write_folders(tmp_path / "in")
        change(source)
        with pytest.raises(DataError, match=message):
            pack(source, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_the_real_one_has_100_classes(self, tmp_path):
        source = write_folders(tmp_path / "in")
        with pytest.raises(DataError, match="64 classes for train; here are 2"):
            miniimagenet.import_miniimagenet(
                source, None, tmp_path / "out", CONSOLE
            )

    def test_missing_images_are_all_found(self, tmp_path):
        source = write_lists(write_images(tmp_path / "in"))
        (source / "n01_0.jpg").unlink()
        (source / "n04_2.jpg").unlink()
        with pytest.raises(DataError) as error:
            pack(source, tmp_path / "out")
        assert str(error.value).splitlines() == [
            "2 of 12 files cannot be used, so none was taken:",
            f"  {source}/n01_0.jpg: it is missing",
            f"  {source}/n04_2.jpg: it is missing",
        ]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "val.csv does not begin with the line filename,label"),
            (b"n02_0.jpg,n02\n", "does not begin with the line"),
            (b"filename,label\na,b,c\n", "val.csv, line 2: .* 'a,b,c'"),
            (b"filename,label\na.jpg\n", "val.csv, line 2: expected"),
            (b"filename,label\na.jpg,\n", "val.csv, line 2: expected"),
            (b"filename,label\n../a.jpg,n02\n", "val.csv, line 2: expected"),
            (b"filename,label\n/a.jpg,n02\n", "val.csv, line 2: expected"),
            (b"filename,label\n..,n02\n", "val.csv, line 2: expected"),
            (b"\xff\xfe", "val.csv is not a CSV file"),
            (b'filename,label\n"a.jpg\n', "val.csv is not a CSV file"),
            (
                b"filename,label\nn02_0.jpg,n02\nn02_0.jpg,n02\n",
                "name n02_0.jpg 2 times",
            ),
            (b"filename,label\nn01_0.jpg,n02\n", "name n01_0.jpg 2 times"),
        ],
    )
    def test_lists(self, tmp_path, content, message):
        source = write_lists(write_images(tmp_path / "in"))
        (source / "val.csv").write_bytes(content)
        with pytest.raises(DataError, match=message):
            pack(source, tmp_path / "out")

    def test_without_folders_and_lists_it_says_what_is_needed(self, tmp_path):
        source = write_images(tmp_path / "in")
        with pytest.raises(DataError, match="no folders train.*csv_dir"):
            pack(source, tmp_path / "out")
        with pytest.raises(DataError, match="does not hold train.csv, val"):
            pack(source, tmp_path / "out", csv_dir=tmp_path)
        with pytest.raises(DataError, match="none is not a directory"):
            pack(tmp_path / "none", tmp_path / "out")


class TestCommand:
    def test_a_source_is_needed(self):
        with pytest.raises(DataError, match="--source is needed"):
            prepare(command)

    @pytest.mark.skipif(
        not REAL_LISTS.is_dir(), reason="the lists are not available"
    )
    def test_the_real_lists_fit(self, monkeypatch, tmp_path):
        packed = {}
        monkeypatch.setattr(
            miniimagenet.class_folders,
            "pack",
            lambda s, *_, **__: packed.update(s),
        )
        monkeypatch.setattr(command.preparing, "summary", str)
        prepare(command, f"--source={tmp_path}", f"--csv_dir={REAL_LISTS}")
        assert [len(classes) for classes in packed.values()] == [64, 16, 20]
        assert packed["train"]["n01532829"][0] == (
            tmp_path / "n0153282900000005.jpg"
        )


# Packs in a process of its own, since memory is measured by the process.
_MEASURE = """
import json, pathlib, resource, sys, time
from rich.console import Console
from maml_tf.datasets import miniimagenet

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

source, out = map(pathlib.Path, sys.argv[1:])
before, start = peak(), time.monotonic()
miniimagenet.import_miniimagenet(source, None, out, Console(file=sys.stderr))
print(json.dumps({"seconds": time.monotonic() - start, "peak_mb": peak(),
                  "growth_mb": peak() - before}))
"""


@pytest.mark.slow
def test_the_full_size_needs_little_memory(tmp_path):
    source = tmp_path / "in"
    rng = np.random.default_rng(0)
    originals = []
    for i in range(10):
        coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
        originals.append(tmp_path / f"{i}.jpg")
        image = Image.fromarray(coarse).resize((500, 375), Image.BICUBIC)
        image.save(originals[-1], quality=90)
    for split, count in (("train", 64), ("val", 16), ("test", 20)):
        for i in range(count):
            folder = source / split / f"{split}{i:02d}"
            folder.mkdir(parents=True)
            for j in range(600):
                os.link(originals[(i + j) % 10], folder / f"{j}.jpg")
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(source), str(tmp_path / "out")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    print(done.stdout)
    # The arrays have 1270 MB.
    assert json.loads(done.stdout)["growth_mb"] < 200
    splits = PackedImages.open(tmp_path / "out").splits
    assert [int(s.counts.sum()) for s in splits.values()] == [
        *(38_400, 9_600, 12_000)
    ]
