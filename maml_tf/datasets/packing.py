"""Writes packed data sets atomically, and verifies them."""

import contextlib
import hashlib
import io
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

from maml_tf.datasets.packed_images import (
    FORMAT,
    INDEX,
    PackedImages,
    check_index,
    read_index,
)
from maml_tf.errors import DataError
from maml_tf.files import (
    SCRATCH_SUFFIX,
    locked,
    replace_directory,
    write_atomically,
)

_REPLACED = ".replaced"  # of the old data set while the new one takes its place


class ArrayWriter:
    """A .npy file written image by image.

    Uses ordinary writes, since the pages of a writable memory map count as the
    process' memory until the system writes them.
    """

    def __init__(self, file: BinaryIO, shape: tuple[int, ...]):
        self._file = file
        self._shape = shape
        self._missing = shape[0]
        self._checksum = hashlib.sha256()
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header,
            {"descr": "|u1", "fortran_order": False, "shape": shape},
        )
        self._write(header.getvalue())

    def append(self, image: np.ndarray) -> None:
        """Writes the next image."""
        if image.shape != self._shape[1:] or image.dtype != np.uint8:
            raise ValueError(
                f"images must be uint8 of shape {self._shape[1:]}. Received: "
                f"{image.dtype} {image.shape}"
            )
        self._missing -= 1
        self._write(image.tobytes())

    def finish(self) -> str:
        """Flushes the file to disk; returns its checksum."""
        if self._missing:
            raise ValueError(f"{self._missing} images are missing")
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._checksum.hexdigest()

    def _write(self, content: bytes) -> None:
        self._checksum.update(content)
        self._file.write(content)


@contextlib.contextmanager
def packing(
    directory: str | os.PathLike,
    *,
    name: str,
    about: dict[str, Any],
    image_shape: tuple[int, int, int],
    arrays: dict[str, Sequence[tuple[str, int]]],
    splits: Mapping[str, Sequence[str]],
) -> Iterator[dict[str, ArrayWriter]]:
    """A context that packs a data set atomically.

    Everything is written beside the directory and renamed into place at the end
    of the context. After an error, whatever was there before stays. A kill also
    leaves the old or the new data set, except between two renames, which the
    next import repairs.

    Args:
        directory: where to put the data set.
        name: name of the data set.
        about: where it came from and how it was made, as JSON values.
        image_shape: height, width, channels.
        arrays: for each file, name and number of images of its classes, in the
            order in which images will be appended.
        splits: names of classes; those of one split are in one array.

    Yields:
        For each file, the writer to append the images to.

    Raises:
        DataError: if the directory holds something else, or another process
            is packing it.
    """
    entries: dict[str, dict[str, Any]] = {
        file: {
            "shape": [sum(count for _, count in classes), *image_shape],
            "classes": [list(c) for c in classes],
        }
        for file, classes in arrays.items()
    }
    index = {
        "format": FORMAT,
        "name": name,
        "about": about,
        "arrays": entries,
        "splits": {split: list(names) for split, names in splits.items()},
    }
    check_index(index)
    directory = pathlib.Path(directory).resolve()
    directory.parent.mkdir(parents=True, exist_ok=True)
    scratch = _beside(directory, SCRATCH_SUFFIX)
    busy = DataError(
        f"Another process is importing to {directory}. Wait for it."
    )
    lock = _beside(directory, ".lock")
    with locked(lock, busy), contextlib.ExitStack() as cleanup:
        _finish_what_was_killed(directory)
        _check_replaceable(directory)
        cleanup.callback(shutil.rmtree, scratch, ignore_errors=True)
        scratch.mkdir()
        writers = {}
        for name, entry in entries.items():
            file = cleanup.enter_context(open(scratch / name, "wb"))
            writers[name] = ArrayWriter(file, tuple(entry["shape"]))
        yield writers
        for name, writer in writers.items():
            entries[name]["sha256"] = writer.finish()
        write_atomically(scratch / INDEX, json.dumps(index))
        replace_directory(scratch, directory, _beside(directory, _REPLACED))


def verify(directory: str | os.PathLike) -> PackedImages:
    """Opens a packed data set and compares its arrays with their checksums.

    Raises:
        DataError: as for `PackedImages.open`, or if an array was changed.
    """
    directory = pathlib.Path(directory)
    found = PackedImages.open(directory)
    for file, entry in read_index(directory)["arrays"].items():
        with open(directory / file, "rb") as array:
            checksum = hashlib.file_digest(array, "sha256").hexdigest()
        if checksum != entry.get("sha256"):
            raise DataError(
                f"{directory / file} was changed since it was written; import "
                "the data set again."
            )
    return found


def _beside(directory: pathlib.Path, suffix: str) -> pathlib.Path:
    return directory.with_name(f".{directory.name}{suffix}")


def _check_replaceable(directory: pathlib.Path) -> None:
    """Refuses to replace anything that is not a packed data set."""
    if not (directory.exists() or directory.is_symlink()):
        return
    if not directory.is_dir():
        raise DataError(f"{directory} is a file; a directory is needed.")
    names = {path.name for path in directory.iterdir()} - {".DS_Store"}
    foreign = {n for n in names if n != INDEX and not n.endswith(".npy")}
    if foreign or (names and INDEX not in names):
        raise DataError(
            f"{directory} would be replaced, but it is not a packed data set: "
            f"it holds {min(foreign or names)}. Delete it, or choose another "
            "output directory."
        )


def _finish_what_was_killed(directory: pathlib.Path) -> None:
    """Puts the old data set back, and removes what was half written."""
    aside = _beside(directory, _REPLACED)
    if aside.exists() and not directory.exists():
        os.rename(aside, directory)
    shutil.rmtree(aside, ignore_errors=True)
    shutil.rmtree(_beside(directory, SCRATCH_SUFFIX), ignore_errors=True)
