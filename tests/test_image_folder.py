"""A folder of anyone's images is packed, or what is wrong with it is named."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from absl import flags
from conftest import REPOSITORY, prepare
from PIL import Image
from rich.console import Console
from test_omniglot import bomb

from maml_tf.cli import image_folder as command
from maml_tf.datasets import image_folder
from maml_tf.datasets.packed_images import PackedImages
from maml_tf.errors import DataError
from maml_tf.experiments.registry import datasources

CONSOLE = Console(quiet=True)


def write_image(path, color=(200, 100, 50), size=(20, 16), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).convert(mode).save(path)


def write_classes(folder, names, num_images=2):
    """Writes classes that the red of their first pixels tells apart."""
    for i, name in enumerate(names):
        for j in range(num_images):
            write_image(folder / name / f"{j}.png", (10 * i + j, 0, 0))
    return folder


@pytest.fixture
def source(tmp_path):
    """Folders of splits, with two, one and one classes."""
    root = tmp_path / "in"
    write_classes(root / "train", ["dog", "cat"])
    write_classes(root / "val", ["owl"], num_images=3)
    write_classes(root / "test", ["eel"], num_images=1)
    return root


def pack(source, output_dir, size=8, name="mine"):
    image_folder.import_image_folder(source, output_dir, name, size, CONSOLE)
    return PackedImages.open(output_dir)


class TestFolders:
    @pytest.mark.parametrize("validation", ["val", "validation"])
    def test_splits_are_taken_from_folders(self, source, tmp_path, validation):
        (source / "val").rename(source / validation)
        (source / "readme.txt").write_text("not an image, not a class")
        (source / "train" / "dog" / ".DS_Store").write_text("clutter")
        packed = pack(source, tmp_path / "out")
        assert packed.name == "mine"
        splits = packed.splits
        assert {split: s.names for split, s in splits.items()} == {
            "train": ("cat", "dog"),
            "validation": ("owl",),
            "test": ("eel",),
        }
        assert splits["validation"].counts.tolist() == [3]
        train = splits["train"]
        assert train.image_shape == (8, 8, 3)
        red = train.images[:, 0, 0, 0].tolist()
        assert red == [10, 11, 0, 1]  # cat, cat, dog, dog

    def test_a_data_set_may_have_fewer_splits(self, tmp_path):
        write_classes(tmp_path / "in" / "test", ["a", "b"])
        assert list(pack(tmp_path / "in", tmp_path / "out").splits) == ["test"]

    def test_without_folders_of_splits_classes_are_split(self, tmp_path):
        names = [f"class{i}" for i in range(25)]
        write_classes(tmp_path / "in", names, num_images=1)
        first = pack(tmp_path / "in", tmp_path / "out").splits
        sizes = {split: len(s.names) for split, s in first.items()}
        assert sizes == {"train": 16, "validation": 4, "test": 5}
        assert sorted(n for s in first.values() for n in s.names) == sorted(
            names
        )
        second = pack(tmp_path / "in", tmp_path / "again").splits
        assert all(first[s].names == second[s].names for s in first)

    def test_three_classes_are_enough(self, tmp_path):
        write_classes(tmp_path / "in", "abc")
        splits = pack(tmp_path / "in", tmp_path / "out").splits
        assert [len(s.names) for s in splits.values()] == [1, 1, 1]
        (tmp_path / "in" / "c").rename(tmp_path / "c")
        with pytest.raises(DataError, match="2 classes; at least 3 .* train,"):
            pack(tmp_path / "in", tmp_path / "out")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda s: write_classes(s / "test", ["cat"]),
                "cat is in train and in test",
            ),
            (
                lambda s: (s / "validation").mkdir(),
                "two folders for validation: val and validation",
            ),
            (lambda s: (s / "fox").mkdir(), "folder fox cannot be a class"),
            (
                lambda s: (s / "train" / "fox").mkdir(),
                "fox is a class without images",
            ),
            (
                lambda s: write_image(s / "train" / "a.PNG"),
                r"1 of 5 files .*\n.*a.PNG: it is in no class' folder$",
            ),
            (
                lambda s: (s / "train" / "dog" / "a.svg").touch(),
                r"a.svg: it is not a .jpg, .jpeg, .* .pnm file$",
            ),
            (
                lambda s: (s / "train" / "dog" / "more").mkdir(),
                "more: it is a folder; a class' folder holds images only",
            ),
            (
                lambda s: os.mkfifo(s / "train" / "dog" / "pipe.png"),
                "pipe.png: it is not a file",
            ),
            (
                lambda s: write_classes(s / "train", ["b\udcffd"]),
                "name is not valid UTF-8",
            ),
        ],
    )
    def test_what_is_wrong_is_named(self, source, tmp_path, change, message):
        change(source)
        with pytest.raises(DataError, match=message):
            pack(source, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_a_source_without_classes(self, tmp_path):
        with pytest.raises(DataError, match="none is not a directory"):
            pack(tmp_path / "none", tmp_path / "out")
        (tmp_path / "in").mkdir()
        with pytest.raises(DataError, match="in holds no classes"):
            pack(tmp_path / "in", tmp_path / "out")


class TestImages:
    def pixels(self, tmp_path, file, size=8):
        """The pixels that an image file is packed as."""
        folder = tmp_path / "in" / "train" / "class"
        folder.mkdir(parents=True)
        file(folder)
        packed = pack(tmp_path / "in", tmp_path / "out", size)
        return packed.splits["train"].images[0]

    def test_any_size_becomes_square_with_lanczos(self, tmp_path):
        noise = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
        image = Image.fromarray(noise)
        np.testing.assert_array_equal(
            self.pixels(tmp_path, lambda folder: image.save(folder / "a.png")),
            np.asarray(image.resize((8, 8), Image.LANCZOS)),
        )

    @pytest.mark.parametrize(
        ("mode", "file", "color"),
        [
            ("RGB", "a.JPG", (200, 100, 50)),
            ("CMYK", "a.jpeg", (200, 100, 50)),
            ("L", "a.jpg", (124, 124, 124)),
            ("1", "a.png", (0, 0, 0)),
            ("P", "a.png", (204, 102, 51)),
            ("RGBA", "a.png", (200, 100, 50)),
            ("LA", "a.png", (124, 124, 124)),
        ],
    )
    def test_any_mode_becomes_rgb(self, tmp_path, mode, file, color):
        # Black and the palette's own colour are not dithered.
        source = color if mode in "1P" else (200, 100, 50)
        pixels = self.pixels(
            tmp_path,
            lambda folder: write_image(folder / file, source, mode=mode),
        )
        assert pixels.shape == (8, 8, 3)
        assert np.abs(pixels - np.array(color, float)).max() <= 3

    def test_sixteen_bits_are_scaled_not_clipped(self, tmp_path):
        grey = np.full((4, 4), 0x8040, np.uint16)
        pixels = self.pixels(
            tmp_path,
            lambda folder: Image.fromarray(grey).save(folder / "a.png"),
        )
        assert (pixels == 0x80).all()

    @pytest.mark.parametrize("palette", [False, True])
    def test_what_is_transparent_becomes_white(self, tmp_path, palette):
        image = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
        image = image.quantize(4) if palette else image
        pixels = self.pixels(
            tmp_path, lambda folder: image.save(folder / "a.png")
        )
        assert (pixels == 255).all()

    def test_all_unusable_files_are_found_and_ten_named(self, source, tmp_path):
        (source / "test" / "eel" / "0.png").write_bytes(b"GIF89a")
        for i in range(8):
            (source / "train" / "dog" / f"empty{i}.jpg").touch()
        whole = source / "val" / "owl" / "0.png"
        (source / "val" / "owl" / "cut.png").write_bytes(
            whole.read_bytes()[:-30]
        )
        (source / "val" / "owl" / "huge.png").write_bytes(bomb(20_000, 20_000))
        (source / "val" / "owl" / "large.png").write_bytes(bomb(10_000, 10_000))
        with pytest.raises(DataError) as error:
            pack(source, tmp_path / "out")
        lines = str(error.value).splitlines()
        assert lines[0].startswith("12 of 19 files cannot be used, so none")
        assert "empty0.jpg: it is not a BMP, GIF, JPEG, PNG" in lines[1]
        assert "cut.png: it cannot be decoded" in lines[9]
        assert "huge.png: it has too many pixels" in lines[10]
        assert lines[11:] == ["  and 2 more"]
        assert not (tmp_path / "out").exists()
        assert not (tmp_path / ".out.writing").exists()

    def test_links_that_lead_nowhere_are_missing(self, source, tmp_path):
        (source / "train" / "dog" / "a.png").symlink_to(tmp_path / "nowhere")
        with pytest.raises(DataError, match=r"a\.png: it is missing"):
            pack(source, tmp_path / "out")


class TestCommand:
    def test_it_packs_below_data(self, source, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        said = prepare(command, f"--source={source}", "--name=mine")
        assert "mine: 4 classes, 8 images of 84x84x3 (84x84 with Lan" in said
        assert "in data/packed/mine" in said
        assert PackedImages.open(pathlib.Path("data/packed/mine"))

    def test_source_and_name_are_needed(self):
        with pytest.raises(DataError, match="--source and --name are needed"):
            prepare(command, "--name=mine")

    def test_the_size_may_be_a_pair(self, source, tmp_path):
        arguments = (f"--source={source}", "--name=mine", "--size=6x8")
        said = prepare(command, *arguments, f"--output_dir={tmp_path / 'out'}")
        assert "mine: 4 classes, 8 images of 6x8x3 (6x8 with Lan" in said

    @pytest.mark.parametrize("size", ["0", "-1", "big", "3x", "1x2x3", "2.5"])
    def test_other_sizes_are_refused(self, size):
        with pytest.raises(flags.IllegalFlagValueError, match="size"):
            prepare(command, f"--size={size}")

    @pytest.mark.parametrize("name", ["", "a b", "../a", "a.b", "ä", "a\n"])
    def test_odd_names_are_refused(self, name):
        with pytest.raises(DataError, match="--name may have letters"):
            prepare(command, "--source=x", f"--name={name}")

    @pytest.mark.parametrize("name", datasources())
    def test_names_of_other_data_sets_are_refused(self, name):
        with pytest.raises(DataError, match="names another --datasource"):
            prepare(command, "--source=x", f"--name={name}")

    def test_as_a_user_starts_it(self, source, tmp_path):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "data.image_folder"),
                *(f"--source={source}", "--name=[red]", "--size=8"),
            ],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr == (
            "error: --name may have letters, digits, _ and - only. Received: "
            "--name=[red]\n"
        )
