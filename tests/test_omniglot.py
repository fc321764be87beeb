"""Omniglot is verified, packed, split and downloaded as documented."""

import functools
import hashlib
import http.server
import io
import os
import shutil
import stat
import struct
import threading
import zipfile
import zlib

import numpy as np
import pytest
from conftest import prepare
from PIL import Image
from rich.console import Console

from maml_tf.cli import omniglot as omniglot_command
from maml_tf.datasets import archives, class_splits, omniglot
from maml_tf.datasets.class_splits import split_names
from maml_tf.datasets.download import Download, download
from maml_tf.datasets.packed_images import PackedImages
from maml_tf.errors import DataError

CONSOLE = Console(quiet=True)

# Four characters stand for all of Omniglot; the last is of the second part.
SPLITS = {
    "train": ["Greek/character01", "Latin/character01"],
    "validation": ["Greek/character02"],
    "test": ["Mongolian/character01"],
}
NAMES = sorted(name for names in SPLITS.values() for name in names)
FIRST = "images_background/Greek/character01/0001_01.png"


def png(size=(105, 105), mode="1", seed=0, format="PNG"):
    ink = np.random.default_rng(seed).random(size[::-1]) < 0.2
    file = io.BytesIO()
    Image.fromarray(~ink).convert(mode).save(file, format)
    return file.getvalue()


@functools.cache
def tree():
    """The files of both parts, by path."""
    return {
        f"images_{'evaluation' if 'Mong' in name else 'background'}/"
        f"{name}/{NAMES.index(name) + 1:04d}_{i:02d}.png": png(seed=i)
        for name in NAMES
        for i in range(1, 21)
    }


def write_zips(directory, files):
    directory.mkdir(exist_ok=True)
    for part in omniglot.FOLDERS:
        with zipfile.ZipFile(directory / f"{part}.zip", "w") as archive:
            for name, content in files.items():
                if not name.startswith("images_") or name.startswith(part):
                    archive.writestr(name, content, zipfile.ZIP_DEFLATED)
    return directory


def write_folders(directory, files):
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return directory


def pack(source, output_dir, resize="nearest"):
    omniglot.import_omniglot(source, output_dir, SPLITS, resize, CONSOLE)
    return PackedImages.open(output_dir)


class TestPacking:
    def test_every_drawing_has_its_place(self, tmp_path):
        packed = pack(write_zips(tmp_path / "in", tree()), tmp_path / "out")
        assert packed.name == "omniglot"
        for split, names in SPLITS.items():
            classes = packed.splits[split]
            assert list(classes.names) == names
            assert classes.images.shape == (80, 28, 28, 1)
            for name, first in zip(names, classes.firsts, strict=True):
                for i in range(20):
                    with Image.open(io.BytesIO(png(seed=i + 1))) as drawing:
                        # what the original asks for
                        original = drawing.resize((28, 28), Image.LANCZOS)
                    np.testing.assert_array_equal(
                        classes.images[first + i, ..., 0],
                        np.where(original, 0, 255),
                        err_msg=f"{name}, drawing {i}",
                    )

    def test_smooth_is_in_shades_of_grey(self, tmp_path):
        source = write_zips(tmp_path / "in", tree())
        packed = pack(source, tmp_path / "out", resize="smooth")
        image = packed.splits["train"].images[0]
        assert len(np.unique(image)) > 50
        assert image.mean() == pytest.approx(0.2 * 255, rel=0.1)  # ink
        assert packed.about["resize"].startswith("smooth")

    def test_all_forms_of_the_source_give_the_same(self, tmp_path):
        clutter = {
            "images_background/": b"",
            "images_background/Greek/": b"",
            "images_background/Greek/.DS_Store": b"x",
            "__MACOSX/images_background/Greek/._character01": b"x",
        }
        short = {name.split("/", 1)[1]: c for name, c in tree().items()}
        sources = [
            write_zips(tmp_path / "zips", tree()),
            write_zips(tmp_path / "macos", clutter | tree()),
            write_folders(tmp_path / "folders", tree()),
            write_folders(tmp_path / "alphabets", short | {".DS_Store": b"x"}),
        ]
        packed = set()
        for source in sources:
            pack(source, tmp_path / "out")
            content = (tmp_path / "out" / "images.npy").read_bytes()
            packed.add(hashlib.sha256(content).hexdigest())
        assert len(packed) == 1

    def test_nothing_but_the_result_is_written(self, tmp_path):
        source = write_zips(tmp_path / "in", tree())
        pack(source, tmp_path / "out")
        assert {path.name for path in tmp_path.iterdir()} == {
            *("in", "out", ".out.lock")
        }
        assert {path.name for path in (tmp_path / "out").iterdir()} == {
            *("images.npy", "index.json")
        }


def without(*names):
    return lambda files: {n: c for n, c in files.items() if n not in names}


def with_files(files):
    return lambda tree: tree | files


def renamed(old, new):
    return lambda tree: {n.replace(old, new): c for n, c in tree.items()}


def bomb(width, height):
    """A PNG that claims to be huge."""

    def chunk(kind, content):
        checksum = zlib.crc32(kind + content)
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", checksum)
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


class TestVerification:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (without(FIRST), "Greek/character01 has 19 drawings; .* 20"),
            (
                with_files({FIRST.replace("_01", "_21"): png()}),
                "Greek/character01 has 21 drawings",
            ),
            (
                renamed("Latin/character01", "Latin/character02"),
                "Latin/character02, which is no character .*1 such",
            ),
            (
                lambda tree: {n: c for n, c in tree.items() if "Lat" not in n},
                "lacks Latin/character01 .1 of 4 characters are missing",
            ),
            (
                with_files({"images_background/Greek/extra.png": png()}),
                "holds Greek/extra.png; expected are files Alphabet/",
            ),
            (
                with_files({FIRST: png(size=(28, 28))}),
                "Greek/character01/0001_01.png is not .* 28x28 of mode 1; exp",
            ),
            (with_files({FIRST: png(mode="L")}), "0001_01.png .* of mode L"),
            (
                with_files({FIRST: png(format="GIF")}),
                "0001_01.png .* not a PNG image",
            ),
            (with_files({FIRST: b"\x89PNG"}), "0001_01.png .* not a PNG"),
            (
                with_files({FIRST: png()[:300]}),
                "0001_01.png .* cannot be decoded",
            ),
            (
                with_files({FIRST: bomb(30_000, 30_000)}),
                "0001_01.png .* too many pixels",
            ),
            (
                with_files({FIRST: bomb(10_000, 10_000)}),
                "0001_01.png .* too many pixels",
            ),
            (with_files({FIRST: bomb(5_000, 5_000)}), "5000x5000 of mode 1"),
        ],
    )
    @pytest.mark.parametrize("write", [write_zips, write_folders])
    def test_what_is_wrong_is_named(self, tmp_path, write, change, message):
        if write is write_folders and message.startswith("holds Greek/extra"):
            message = "extra.png is not a folder; expected are folders"
        source = write(tmp_path / "in", change(tree()))
        with pytest.raises(DataError, match=message) as error:
            pack(source, tmp_path / "out")
        assert str(tmp_path / "in") in str(error.value)
        assert not (tmp_path / "out").exists()

    def test_both_parts_are_needed(self, tmp_path):
        source = write_zips(tmp_path / "zips", tree())
        (source / "images_evaluation.zip").unlink()
        with pytest.raises(DataError, match="images_evaluation.zip is missing"):
            pack(source, tmp_path / "out")
        source = write_folders(tmp_path / "folders", tree())
        shutil.rmtree(source / "images_background")
        with pytest.raises(DataError, match="images_background is missing"):
            pack(source, tmp_path / "out")

    def test_a_drawing_that_is_a_pipe_is_not_waited_for(self, tmp_path):
        source = write_folders(tmp_path / "folders", tree())
        drawing = next(source.glob("*/*/*/*.png"))
        drawing.unlink()
        os.mkfifo(drawing)
        with pytest.raises(DataError, match=f"{drawing.name} is not a file"):
            pack(source, tmp_path / "out")

    def test_the_same_part_twice_is_refused(self, tmp_path):
        source = write_zips(tmp_path / "in", tree())
        shutil.copy(
            source / "images_background.zip", source / "images_evaluation.zip"
        )
        with pytest.raises(DataError, match="0001_01.png a second time"):
            pack(source, tmp_path / "out")

    def test_a_directory_without_any_of_it(self, tmp_path):
        with pytest.raises(DataError, match="none is not a directory"):
            pack(tmp_path / "none", tmp_path / "out")
        (tmp_path / "in").mkdir()
        with pytest.raises(DataError, match="in holds no drawings; expected"):
            pack(tmp_path / "in", tmp_path / "out")


def damage_zip(directory, change):
    path = directory / "images_background.zip"
    content = bytearray(path.read_bytes())
    path.write_bytes(change(content))


def flip_a_pixel(content):
    # Behind the local header of 30 bytes and the name
    content[30 + len(FIRST) + 20] ^= 0x10
    return content


def understate_size(content):
    """Sets the first file's size to 10 bytes, wherever it is stated."""
    content[22:26] = struct.pack("<I", 10)
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 10)
    return content


def set_flag(content):
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return content


def set_method(content):
    content[content.index(b"PK\x01\x02") + 10] = zipfile.ZIP_BZIP2
    return content


class TestArchives:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda content: content[:-100], "not a whole zip archive"),
            (lambda content: content[: len(content) // 2], "not a whole zip"),
            (lambda content: b"<html>404</html>", "not a whole zip archive"),
            (lambda content: b"", "not a whole zip archive"),
            (flip_a_pixel, "damaged at .*character01/0001_01.png"),
            (understate_size, "damaged at .*character01/0001_01.png"),
            (set_flag, "refused: its entry .*0001_01.png' is encrypted"),
            (set_method, "0001_01.png' is compressed in an unusual way"),
        ],
    )
    def test_damage_is_one_clear_error(self, tmp_path, change, message):
        source = write_zips(tmp_path / "in", tree())
        damage_zip(source, change)
        with pytest.raises(DataError, match=message) as error:
            pack(source, tmp_path / "out")
        assert "images_background.zip" in str(error.value)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        "name",
        [
            "../evil.png",
            "images_background/../../evil.png",
            "/tmp/evil.png",
            "images_background\\evil.png",
            "C:evil.png",
            "images_background//evil.png",
            "./evil.png",
            "images_background/evil.png\n",
        ],
    )
    def test_paths_that_lead_elsewhere_are_refused(self, tmp_path, name):
        source = write_zips(tmp_path / "in", tree() | {name: png()})
        with pytest.raises(DataError, match="is not a plain relative path"):
            pack(source, tmp_path / "out")

    @pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
    def test_links_and_devices_are_refused(self, tmp_path, kind):
        source = write_zips(tmp_path / "in", tree())
        with zipfile.ZipFile(source / "images_background.zip", "a") as archive:
            member = zipfile.ZipInfo("images_background/Greek/link")
            member.external_attr = (kind | 0o777) << 16
            archive.writestr(member, "/etc/passwd")
        with pytest.raises(DataError, match="Greek/link' is a link or a spec"):
            pack(source, tmp_path / "out")

    @pytest.mark.filterwarnings("ignore:Duplicate name")
    def test_an_entry_that_is_there_twice_is_refused(self, tmp_path):
        source = write_zips(tmp_path / "in", tree())
        with zipfile.ZipFile(source / "images_background.zip", "a") as archive:
            archive.writestr(FIRST, png(seed=99))
        with pytest.raises(DataError, match="0001_01.png' is there twice"):
            pack(source, tmp_path / "out")

    def test_large_entries_are_refused(self, tmp_path):
        large = {FIRST: bytes(archives.MAX_MEMBER_BYTES + 1)}
        source = write_zips(tmp_path / "in", tree() | large)
        with pytest.raises(DataError, match="0001_01.png' takes 65537 bytes"):
            pack(source, tmp_path / "out")

    @pytest.mark.parametrize(
        ("limit", "message"),
        [
            ("MAX_MEMBERS", "has 60 entries; at most 20"),
            ("MAX_TOTAL_BYTES", "would take more than 20 bytes unpacked"),
            ("MAX_ARCHIVE_BYTES", "too large to be what it should be"),
        ],
    )
    def test_the_whole_is_limited(self, tmp_path, monkeypatch, limit, message):
        source = write_zips(tmp_path / "in", tree())
        monkeypatch.setattr(archives, limit, 20)
        with pytest.raises(DataError, match=message):
            pack(source, tmp_path / "out")


class TestSplits:
    def test_the_lists_are_what_the_function_makes(self):
        splits = class_splits.read_splits(omniglot.SPLITS)
        assert {s: len(n) for s, n in splits.items()} == omniglot.SPLIT_COUNTS
        names = {name for split in splits.values() for name in split}
        assert len(names) == 1623
        assert len({name.split("/")[0] for name in names}) == 50
        made = split_names(names, omniglot.SPLIT_COUNTS)
        assert made == splits

    def test_splits_depend_on_names_not_on_their_order(self):
        counts = {"train": 3, "test": 2}
        split = split_names("abcde", counts)
        assert split == split_names(reversed("abcde"), counts)
        assert sorted(split["train"] + split["test"]) == list("abcde")
        assert split["test"] == ["b", "c"]  # for ever
        with pytest.raises(ValueError, match="4 names cannot be split"):
            split_names("abcd", counts)

    def test_written_splits_are_read(self, tmp_path):
        class_splits.write_splits(tmp_path / "new", SPLITS)
        assert class_splits.read_splits(tmp_path / "new") == SPLITS


def test_the_real_one(packed_omniglot, monkeypatch):
    packed, said = packed_omniglot
    out = packed / "omniglot"
    for part in (
        "1623 classes, 32460 images of 28x28x1",
        "train: 1100 classes, 22000",
        "validation: 100 classes, 2000",
        "test: 423 classes, 8460",
        f"25.5 MB in {out}",
        "50 alphabets",
    ):
        assert part in said
    checksum = hashlib.sha256((out / "images.npy").read_bytes()).hexdigest()
    assert checksum == (  # as data/README.md says
        "9fb3ea3d05b1bae35829db10d8cd416a0d8c0f97c637c76e948bb4c5e2e5a703"
    )
    images = PackedImages.open(out).splits["train"].images
    assert np.unique(images).tolist() == [0, 255]

    # Without a source there is nothing to do any more, network or not.
    monkeypatch.setattr(omniglot_command, "download", None)
    argument = f"--output_dir={out}"
    said = prepare(omniglot_command, argument)
    assert said.startswith("Already there:")
    with pytest.raises(TypeError, match="not callable"):
        prepare(omniglot_command, argument, "--resize=smooth")


CONTENT = bytes(range(256)) * 1000


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT as any file, in the way that its class attributes say."""

    content = CONTENT
    understands_ranges = True
    stops_after = None  # bytes
    requests = []

    def do_GET(self):
        self.requests.append((self.path, self.headers["Range"]))
        first = 0
        if self.understands_ranges and self.headers["Range"]:
            first = int(self.headers["Range"].split("=")[1].rstrip("-"))
        if first >= len(self.content):
            self.send_error(416)
            return
        self.send_response(206 if first else 200)
        rest = self.content[first:]
        self.send_header("Content-Length", str(len(rest)))
        if first:
            last = len(self.content) - 1
            self.send_header(
                "Content-Range", f"bytes {first}-{last}/{last + 1}"
            )
        self.end_headers()
        self.wfile.write(rest[: self.stops_after])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """A server of its own class, and its address."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = type("Handler", (Server,), {"requests": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as s:
        thread = threading.Thread(target=s.serve_forever, args=(0.01,))
        thread.start()
        yield handler, f"http://127.0.0.1:{s.server_port}/"
        s.shutdown()
        thread.join()


FILE = Download("a.zip", len(CONTENT), hashlib.md5(CONTENT).hexdigest())


class TestDownload:
    def test_all_files_are_fetched_once(self, server, tmp_path):
        handler, url = server
        files = [FILE, Download("b.zip", FILE.size, FILE.md5)]
        for _ in range(2):
            download(url, files, tmp_path / "new" / "dir", CONSOLE)
        assert handler.requests == [("/a.zip", None), ("/b.zip", None)]
        for name in ("a.zip", "b.zip"):
            assert (tmp_path / "new" / "dir" / name).read_bytes() == CONTENT

    @pytest.mark.parametrize("terminal", [True, False])
    def test_progress_is_shown(self, server, tmp_path, terminal):
        console = Console(file=io.StringIO(), force_terminal=terminal, width=80)
        download(server[1], [FILE], tmp_path, console)
        said = console.file.getvalue()
        expected = "256.0/256.0 kB" if terminal else f"{server[1]}a.zip"
        assert expected in said

    def test_a_download_that_stopped_is_resumed(self, server, tmp_path):
        handler, url = server
        handler.stops_after = 100_000
        with pytest.raises(DataError, match="stopped after 100000 of 256000"):
            download(url, [FILE], tmp_path, CONSOLE)
        assert not (tmp_path / "a.zip").exists()
        assert (tmp_path / "a.zip.part").stat().st_size == 100_000
        handler.stops_after = None
        download(url, [FILE], tmp_path, CONSOLE)
        assert handler.requests[1:] == [("/a.zip", "bytes=100000-")]
        assert (tmp_path / "a.zip").read_bytes() == CONTENT
        assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]

    @pytest.mark.parametrize("understands_ranges", [True, False])
    @pytest.mark.parametrize(
        "part",
        [
            CONTENT[:1000],
            b"of another file",
            CONTENT,
            bytes(len(CONTENT)),
            CONTENT + b"more",
            b"",
        ],
        ids=["begun", "other", "whole", "wrong", "long", "empty"],
    )
    def test_whatever_was_left_the_file_is_right(
        self, server, tmp_path, part, understands_ranges
    ):
        handler, url = server
        handler.understands_ranges = understands_ranges
        (tmp_path / "a.zip.part").write_bytes(part)
        download(url, [FILE], tmp_path, CONSOLE)
        assert (tmp_path / "a.zip").read_bytes() == CONTENT
        assert len(handler.requests) <= 2

    @pytest.mark.parametrize("begun", [b"", CONTENT[:1000]])
    @pytest.mark.parametrize(
        "content", [CONTENT[::-1], CONTENT + b"more"], ids=["other", "longer"]
    )
    def test_another_file_is_refused(self, server, tmp_path, content, begun):
        handler, url = server
        handler.content = content
        (tmp_path / "a.zip.part").write_bytes(begun)
        with pytest.raises(DataError, match="a.zip is .* it was deleted"):
            download(url, [FILE], tmp_path, CONSOLE)
        assert not list(tmp_path.iterdir())

    def test_a_part_longer_than_what_is_offered(self, server, tmp_path):
        handler, url = server
        handler.content = b"short"
        (tmp_path / "a.zip.part").write_bytes(CONTENT[:1000])
        with pytest.raises(DataError, match="stopped after 5 of 256000"):
            download(url, [FILE], tmp_path, CONSOLE)

    def test_another_file_in_its_place_is_left_alone(self, server, tmp_path):
        (tmp_path / "a.zip").write_bytes(b"repacked")
        with pytest.raises(DataError, match="Delete it .* as the source"):
            download(server[1], [FILE], tmp_path, CONSOLE)
        assert (tmp_path / "a.zip").read_bytes() == b"repacked"

    def test_without_a_network_it_says_what_to_do(self, server, tmp_path):
        url = "http://127.0.0.1:1/"  # Nobody listens there.
        with pytest.raises(
            DataError,
            match=r"Cannot download .*a\.zip \(.*refused.* as the source",
        ) as error:
            download(url, [FILE], tmp_path, CONSOLE)
        assert "\n" not in str(error.value)
