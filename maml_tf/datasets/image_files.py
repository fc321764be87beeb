"""Image files of any size in a folder for each class."""

import collections
import concurrent.futures
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from maml_tf.datasets import decoding
from maml_tf.datasets.image_preparation import ImagePreparation
from maml_tf.errors import DataError

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif"),
    *(".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm"),
)
SPLIT_FOLDERS = {
    "train": ("train",),
    "validation": ("val", "validation"),
    "test": ("test",),
}

_OR_SPLITS = " or ".join(
    name for names in SPLIT_FOLDERS.values() for name in names
)

# What systems and programs leave in folders, in lower case; besides all that
# begins with a dot.
_CLUTTER = {
    *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini"),
    *("icon\r", "picasa.ini", "zbthumbnail.info", "folder.htt"),
    *("__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found"),
    *("system volume information", "network trash folder", "__pycache__"),
}

_NAMED = 10  # files that a message names; it counts the others
_AHEAD = 64  # images that may be decoded before they are written

# Class name -> its image files
Classes = dict[str, list[pathlib.Path]]


@dataclasses.dataclass(frozen=True)
class UnusableFile:
    """A file that cannot be packed, and why."""

    path: pathlib.Path
    why: str


def find_split_folders(source: pathlib.Path) -> dict[str, Classes]:
    """Finds the classes in folders train, val (or validation) and test.

    Returns:
        The classes of each split that has a folder; {} if there is none.

    Raises:
        DataError: if it is unclear what belongs to which split, or a file is
            not an image.
    """
    folders = {}
    for split, names in SPLIT_FOLDERS.items():
        for name in names:
            if (source / name).is_dir():
                if split in folders:
                    raise DataError(
                        f"{source} has two folders for {split}: "
                        f"{' and '.join(names)}."
                    )
                folders[split] = source / name
    if not folders:
        return {}
    for folder in _folders(source):
        if folder not in folders.values():
            raise DataError(
                f"{source} has folders of splits "
                f"({', '.join(f.name for f in folders.values())}), so its "
                f"folder {folder.name} cannot be a class. Move it elsewhere, "
                f"or call it {_OR_SPLITS} if it is a split."
            )
    return {split: find_classes(folder) for split, folder in folders.items()}


def find_classes(folder: pathlib.Path) -> Classes:
    """Finds the classes in a folder: one folder of image files each.

    Raises:
        DataError: if there is none, one is empty, or a file is not an image.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a directory.")
    classes = {}
    refused = []
    for path in _entries(folder):
        if not path.is_dir() and path.suffix.lower() in SUFFIXES:
            refused.append(UnusableFile(path, "it is in no class' folder"))
        elif path.is_symlink() and not path.exists():
            refused.append(UnusableFile(path, "it links to what is missing"))
    loose = len(refused)
    for path in _folders(folder):
        try:
            path.name.encode()
        except UnicodeEncodeError as e:
            raise DataError(
                f"{str(path)!r}: the folder's name is not valid UTF-8."
            ) from e
        files = _entries(path)
        refused += [
            UnusableFile(file, why)
            for file in files
            if (why := _why_not(file)) is not None
        ]
        if not files:
            raise DataError(f"{path} is a class without images.")
        classes[path.name] = files
    if not classes:
        raise DataError(
            f"{folder} holds no classes; expected is a folder of images for "
            "each class."
        )
    if refused:
        raise unusable(refused, sum(map(len, classes.values())) + loose)
    return classes


def _why_not(file: pathlib.Path) -> str | None:
    """Why a file in a class' folder is no image, as far as its name tells."""
    if file.is_dir():
        return "it is a folder; a class' folder holds images only"
    if file.suffix.lower() not in SUFFIXES:
        return f"it is not a {', '.join(SUFFIXES)} file"
    if file.exists() and not file.is_file():
        return "it is not a file"  # opening a pipe would block
    return None


def check_disjoint(splits: dict[str, Classes]) -> None:
    """Checks that no class is in two splits.

    Raises:
        DataError: if one is.
    """
    split_of: dict[str, str] = {}
    for split, classes in splits.items():
        for name in classes:
            if name in split_of:
                raise DataError(
                    f"Class {name} is in {split_of[name]} and in {split}; "
                    "splits must not share classes."
                )
            split_of[name] = split


def _read(
    path: pathlib.Path, preparation: ImagePreparation
) -> np.ndarray | UnusableFile:
    """A file's image, or what is wrong with it."""
    try:
        return preparation.pixels(path)
    except DataError as e:
        return UnusableFile(path, str(e))


def read_images(
    files: Iterable[pathlib.Path], preparation: ImagePreparation
) -> Iterator[np.ndarray | UnusableFile]:
    """Images as uint8 [height, width, channels], in the order of the files.

    Unusable files are yielded as `UnusableFile`. Call it within
    `decoding.refusing_bombs`.
    """
    return _in_threads(lambda file: _read(file, preparation), files)


def find_white(files: Iterable[pathlib.Path]) -> int | None:
    """What is white in the images of more than 8 bits: one value for all.

    Call it within `decoding.refusing_bombs`.

    Returns:
        The smallest of `decoding.WHITES` that holds their values; None if there
        are no such images, or another value is needed. Files that cannot be
        read are left to `read_images`.
    """
    found = [x for x in _in_threads(_largest_value, files) if x is not None]
    return decoding.white_for(max(found)) if found else None


def _largest_value(file: pathlib.Path) -> int | None:
    try:
        if decoding.is_deep(file):
            return decoding.largest_value(decoding.read_array(file))
    except DataError:
        pass
    return None


def _in_threads(function: Callable, items: Iterable) -> Iterator:
    """Results in the order of the items, a bounded number at once.

    Threads suffice, since Pillow decodes and resizes without Python's lock: two
    process 1.9 times as many photographs as one.
    """
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as executor:
        pending: collections.deque[concurrent.futures.Future] = (
            collections.deque()
        )
        for item in items:
            pending.append(executor.submit(function, item))
            if len(pending) == _AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _folders(folder: pathlib.Path) -> list[pathlib.Path]:
    return [path for path in _entries(folder) if path.is_dir()]


def _entries(folder: pathlib.Path) -> list[pathlib.Path]:
    """What lies in a folder, without clutter.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        entries = sorted(folder.iterdir())
    except OSError as e:
        raise DataError(f"{folder} cannot be read ({e.strerror}).") from e
    return [path for path in entries if not is_clutter(path.name)]


def unusable(files: list[UnusableFile], total: int) -> DataError:
    """The error that names unusable files and the reasons."""
    named = "".join(f"\n  {f.path}: {f.why}" for f in files[:_NAMED])
    more = len(files) - _NAMED
    return DataError(
        f"{len(files)} of {total} files cannot be used, so none was taken:"
        f"{named}" + (f"\n  and {more} more" if more > 0 else "")
    )


def is_clutter(name: str) -> bool:
    """Whether a system or program left it there, such as .DS_Store."""
    return any(
        part.startswith(".") or part.lower() in _CLUTTER
        for part in name.split("/")
        if part not in ("", ".", "..")
    )
