"""Images of many classes, packed so that a data set opens instantly.

A packed data set is a directory:

    index.json   what the arrays hold, and the classes of each split
    *.npy        uint8 [num_images, height, width, channels]; the images of a
                 class lie one after another

The arrays are mapped into memory, not read: an image costs memory once it is
used, and processes share it. `packing.py` writes such directories.
"""

import dataclasses
import os
import pathlib
import tokenize
from collections.abc import Sequence
from typing import Any

import numpy as np

from maml_tf.datasets.class_splits import SPLITS
from maml_tf.errors import DataError
from maml_tf.files import read_json

FORMAT = 1
INDEX = "index.json"


@dataclasses.dataclass(frozen=True, eq=False)
class ImageClasses:
    """Classes of images within one array.

    Attributes:
        images: uint8 [num_images, height, width, channels], read-only. It may
            hold other classes, too.
        names: names of the classes.
        firsts: int64 [num_classes], index of each class' first image.
        counts: int64 [num_classes], number of each class' images.
    """

    images: np.ndarray
    names: tuple[str, ...]
    firsts: np.ndarray
    counts: np.ndarray

    def __repr__(self) -> str:
        few, many = int(self.counts.min()), int(self.counts.max())
        return f"<{len(self.names)} classes of {few} to {many} examples>"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.images.shape[1:]

    def select(self, names: Sequence[str]) -> "ImageClasses":
        """The classes with these names, in this order; the array is shared.

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
        name: name of the data set.
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
            directory: where it is.
            hint: added to errors, a sentence that says what to do.

        Raises:
            DataError: if it is missing, damaged or of another format.
        """
        try:
            return cls._open(pathlib.Path(directory))
        except DataError as e:
            raise DataError(f"{e} {hint}".rstrip()) from e

    @classmethod
    def _open(cls, directory: pathlib.Path) -> "PackedImages":
        index = read_index(directory)
        try:
            places = check_index(index)
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


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the images of a class are."""

    file: str
    first: int
    count: int


def read_index(directory: pathlib.Path) -> dict:
    """The content of index.json, checked to be of this format."""
    if directory.parent.is_file():
        raise DataError(f"{directory.parent} is a file, not a directory.")
    if not directory.is_dir():
        raise DataError(
            f"There is no directory {directory}: the data set was not prepared."
        )
    try:
        index = read_json(directory / INDEX)
    except FileNotFoundError as e:
        raise DataError(
            f"{directory} is not a packed data set: it has no {INDEX}."
        ) from e
    except OSError as e:
        raise DataError(
            f"{directory / INDEX} cannot be read ({e.strerror})."
        ) from e
    except ValueError as e:
        raise DataError(
            f"{directory / INDEX} is damaged: it is not JSON; import the data "
            "set again."
        ) from e
    found = index.get("format")
    if found != FORMAT:
        raise DataError(
            f"{directory} was packed in format {found}; this version reads "
            f"format {FORMAT}. Import the data set again."
        )
    return index


def check_index(index: dict) -> dict[str, Place]:
    """Where each class is.

    Raises:
        ValueError, or errors from wrong types: if parts of the index do not fit
            together.
    """
    if not (
        isinstance(index["name"], str) and isinstance(index["about"], dict)
    ):
        raise ValueError("name or about is of another type")
    places, image_shapes = {}, set()
    for file, entry in index["arrays"].items():
        if pathlib.PurePath(file).name != file or not file.endswith(".npy"):
            raise ValueError(f"{file!r} is not the name of a .npy file")
        shape = entry["shape"]
        if len(shape) != 4 or not all(_is_positive(size) for size in shape):
            raise ValueError(f"{file} cannot be of shape {shape}")
        image_shapes.add(tuple(shape[1:]))
        first = 0
        for name, count in entry["classes"]:
            if not isinstance(name, str) or not _is_positive(count):
                raise ValueError(f"{file} cannot hold {count!r} of {name!r}")
            if name in places:
                raise ValueError(f"class {name!r} is there twice")
            places[name] = Place(file, first, count)
            first += count
        if first != shape[0]:
            raise ValueError(
                f"the classes of {file} have {first} images, the array has "
                f"{shape[0]}"
            )
    if len(image_shapes) > 1:
        raise ValueError(f"images are of several shapes {image_shapes}")
    split_of: dict[str, str] = {}
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
    except (ValueError, EOFError, tokenize.TokenError) as e:
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
