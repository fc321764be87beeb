"""Images of many classes, packed so that a data set opens in no time.

A packed data set is a directory:

    index.json   what the arrays hold, and the classes of each split
    *.npy        uint8 [num_images, height, width, channels]; the images of a
                 class lie one after another

The arrays are mapped into memory, not read: an image costs memory once it is
used, and processes share it.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import io
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np

from maml_tf.errors import DataError
from maml_tf.files import SCRATCH_SUFFIX, write_atomically

FORMAT = 1
INDEX = "index.json"
SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True, eq=False)
class ImageClasses:
    """Classes of images within one array.

    Attributes:
        images: uint8 [num_images, height, width, channels], read-only. Other
            classes may lie in it, too.
        names: of the classes.
        firsts: int64 [num_classes], index of each class' first image.
        counts: int64 [num_classes], how many images follow from there.
    """

    images: np.ndarray
    names: tuple[str, ...]
    firsts: np.ndarray
    counts: np.ndarray

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.images.shape[1:]

    def select(self, names: Sequence[str]) -> "ImageClasses":
        """The classes of these names, in this order; the array is shared.

        Raises:
            DataError: if there is no such class, or one is named twice.
        """
        index = {name: i for i, name in enumerate(self.names)}
        unknown = [name for name in names if name not in index]
        if unknown:
            raise DataError(
                f"There is no class {unknown[0]!r} among the "
                f"{len(self.names)} classes."
            )
        if len(set(names)) < len(names):
            twice = next(n for n in names if list(names).count(n) > 1)
            raise DataError(f"Class {twice!r} is asked for twice.")
        chosen = [index[name] for name in names]
        return ImageClasses(
            self.images, tuple(names), self.firsts[chosen], self.counts[chosen]
        )


@dataclasses.dataclass(frozen=True, eq=False)
class PackedImages:
    """A packed data set, mapped into memory.

    Attributes:
        name: of the data set.
        about: where it came from and how its images were made.
        splits: the classes by split; keys are among SPLITS.
    """

    name: str
    about: dict[str, Any]
    splits: dict[str, ImageClasses]

    @classmethod
    def open(
        cls, directory: str | os.PathLike, hint: str = ""
    ) -> "PackedImages":
        """Opens a packed data set without reading its images.

        Args:
            directory: where it lies.
            hint: a sentence that says what to do about an error.

        Raises:
            DataError: if it is not there, damaged or of another format.
        """
        try:
            return cls._open(pathlib.Path(directory))
        except DataError as e:
            raise DataError(f"{e} {hint}".rstrip()) from e

    @classmethod
    def _open(cls, directory: pathlib.Path) -> "PackedImages":
        index = _read_index(directory)
        try:
            places = _check_index(index)
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise DataError(
                f"{directory / INDEX} is damaged ({e}); import the data set "
                "again."
            ) from e
        arrays = {
            file: _map_array(directory / file, tuple(entry["shape"]))
            for file, entry in index["arrays"].items()
        }
        return cls(
            index["name"],
            index["about"],
            {
                split: ImageClasses(
                    arrays[places[names[0]].file],
                    tuple(names),
                    np.array([places[n].first for n in names], np.int64),
                    np.array([places[n].count for n in names], np.int64),
                )
                for split, names in index["splits"].items()
            },
        )


def verify(directory: str | os.PathLike) -> PackedImages:
    """Opens a packed data set and compares its arrays with their checksums.

    Raises:
        DataError: as `PackedImages.open`, or if an array was changed.
    """
    directory = pathlib.Path(directory)
    found = PackedImages.open(directory)
    for file, entry in _read_index(directory)["arrays"].items():
        with open(directory / file, "rb") as array:
            checksum = hashlib.file_digest(array, "sha256").hexdigest()
        if checksum != entry.get("sha256"):
            raise DataError(
                f"{directory / file} was changed since it was written; import "
                "the data set again."
            )
    return found


class ArrayWriter:
    """A .npy file that is written image by image.

    Ordinary writes, since the pages of a writable memory map would count as
    the process' memory until the system finds the time to write them.
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
        """Brings the file to the disk; returns its checksum."""
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
    splits: dict[str, Sequence[str]],
) -> Iterator[dict[str, ArrayWriter]]:
    """A context that packs a data set, whole or not at all.

    All is written beside the directory and renamed into its place at the end
    of the context. If the context is left by an error, whatever was there
    before stays. A kill leaves the old or the new data set too, but for the
    instant between two renames; the next import mends that.

    Args:
        directory: where the data set is to lie.
        name: of the data set.
        about: anything about its making that JSON can hold.
        image_shape: height, width, channels.
        arrays: for each file, name and number of images of its classes, in
            the order in which the images will be appended.
        splits: names of classes; those of one split are in one array.

    Yields:
        For each file, the writer to append the images to.

    Raises:
        DataError: if the directory holds something else, or another process
            is packing it.
    """
    index = {
        "format": FORMAT,
        "name": name,
        "about": about,
        "arrays": {
            file: {
                "shape": [sum(count for _, count in classes), *image_shape],
                "classes": [list(c) for c in classes],
            }
            for file, classes in arrays.items()
        },
        "splits": {split: list(names) for split, names in splits.items()},
    }
    _check_index(index)
    directory = pathlib.Path(directory).resolve()
    directory.parent.mkdir(parents=True, exist_ok=True)
    scratch = _beside(directory, SCRATCH_SUFFIX)
    with _locked(directory), contextlib.ExitStack() as cleanup:
        _finish_what_was_killed(directory)
        _check_replaceable(directory)
        cleanup.callback(shutil.rmtree, scratch, ignore_errors=True)
        scratch.mkdir()
        writers = {}
        for name, entry in index["arrays"].items():
            file = cleanup.enter_context(open(scratch / name, "wb"))
            writers[name] = ArrayWriter(file, tuple(entry["shape"]))
        yield writers
        for name, writer in writers.items():
            index["arrays"][name]["sha256"] = writer.finish()
        write_atomically(scratch / INDEX, json.dumps(index))
        _put_in_place(scratch, directory)


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where the images of a class are."""

    file: str
    first: int
    count: int


def _read_index(directory: pathlib.Path) -> dict:
    """The content of index.json, known to be of this format."""
    if not directory.is_dir():
        raise DataError(
            f"There is no directory {directory}: the data set was not prepared."
        )
    try:
        index = json.loads((directory / INDEX).read_bytes())
    except FileNotFoundError as e:
        raise DataError(
            f"{directory} is not a packed data set: it has no {INDEX}."
        ) from e
    except OSError as e:
        raise DataError(
            f"{directory / INDEX} cannot be read ({e.strerror})."
        ) from e
    except (ValueError, RecursionError) as e:
        raise DataError(
            f"{directory / INDEX} is damaged: it is not JSON; import the data "
            "set again."
        ) from e
    found = index.get("format") if isinstance(index, dict) else None
    if found != FORMAT:
        raise DataError(
            f"{directory} was packed in format {found}; this version reads "
            f"format {FORMAT}. Import the data set again."
        )
    return index


def _check_index(index: dict) -> dict[str, _Place]:
    """Where each class is.

    Raises:
        ValueError, or what wrong types bring about: if parts of the index do
            not fit together.
    """
    if not (
        isinstance(index["name"], str) and isinstance(index["about"], dict)
    ):
        raise ValueError("name or about is of another type")
    places = {}
    for file, entry in index["arrays"].items():
        if pathlib.PurePath(file).name != file or not file.endswith(".npy"):
            raise ValueError(f"{file!r} is not the name of a .npy file")
        shape = entry["shape"]
        if len(shape) != 4 or not all(_is_positive(size) for size in shape):
            raise ValueError(f"{file} cannot be of shape {shape}")
        first = 0
        for name, count in entry["classes"]:
            if not isinstance(name, str) or not _is_positive(count):
                raise ValueError(f"{file} cannot hold {count!r} of {name!r}")
            if name in places:
                raise ValueError(f"class {name!r} is there twice")
            places[name] = _Place(file, first, count)
            first += count
        if first != shape[0]:
            raise ValueError(
                f"the classes of {file} have {first} images, the array has "
                f"{shape[0]}"
            )
    split_of = {}
    for split, names in index["splits"].items():
        if split not in SPLITS or not isinstance(names, list) or not names:
            raise ValueError(f"{split!r} is not a split with classes")
        for name in names:
            if name not in places:
                raise ValueError(f"class {name!r} of {split} has no images")
            if name in split_of:
                raise ValueError(
                    f"class {name!r} is in {split_of[name]} and in {split}"
                )
            split_of[name] = split
        if len({places[name].file for name in names}) > 1:
            raise ValueError(f"the classes of {split} are in several arrays")
    if not split_of:
        raise ValueError("there is no split")
    return places


def _is_positive(value: Any) -> bool:
    return isinstance(value, int) and value > 0


def _map_array(path: pathlib.Path, shape: tuple[int, ...]) -> np.ndarray:
    """A read-only view of a .npy file."""
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError as e:
        raise DataError(f"{path} is missing; import the data set again.") from e
    except OSError as e:
        raise DataError(f"{path} cannot be read ({e.strerror}).") from e
    except (ValueError, EOFError) as e:
        raise DataError(
            f"{path} is truncated or damaged; import the data set again."
        ) from e
    if array.shape != shape or array.dtype != np.uint8:
        raise DataError(
            f"{path} holds {array.dtype} {array.shape}, but its {INDEX} says "
            f"uint8 {shape}; import the data set again."
        )
    if array.flags.f_contiguous and not array.flags.c_contiguous:
        raise DataError(
            f"{path} is laid out in Fortran's order; import the data set again."
        )
    # Slices of the subclass np.memmap cost more than those of an array.
    return array.view(np.ndarray)


def _beside(directory: pathlib.Path, suffix: str) -> pathlib.Path:
    return directory.with_name(f".{directory.name}{suffix}")


@contextlib.contextmanager
def _locked(directory: pathlib.Path) -> Iterator[None]:
    with open(_beside(directory, ".lock"), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            raise DataError(
                f"Another process is importing to {directory}. Wait for it."
            ) from e
        yield


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
            "--output_dir."
        )


def _put_in_place(scratch: pathlib.Path, directory: pathlib.Path) -> None:
    """Renames, for a directory cannot be renamed over one with content."""
    aside = _beside(directory, ".replaced")
    if directory.exists():
        os.rename(directory, aside)
    os.rename(scratch, directory)
    shutil.rmtree(aside, ignore_errors=True)


def _finish_what_was_killed(directory: pathlib.Path) -> None:
    """Puts the old data set back, and removes what was half written."""
    aside = _beside(directory, ".replaced")
    if aside.exists() and not directory.exists():
        os.rename(aside, directory)
    shutil.rmtree(aside, ignore_errors=True)
    shutil.rmtree(_beside(directory, SCRATCH_SUFFIX), ignore_errors=True)
