"""Image files of any size in a folder for each class."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import io
import os
import pathlib
import warnings
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from PIL import Image

from maml_tf.errors import DataError

FORMATS = ("JPEG", "PNG")
SUFFIXES = (".jpg", ".jpeg", ".png")
SPLIT_FOLDERS = {
    "train": ("train",),
    "validation": ("val", "validation"),
    "test": ("test",),
}

_OR_SPLITS = " or ".join(
    name for names in SPLIT_FOLDERS.values() for name in names
)

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
    for path in sorted(folder.iterdir()):
        if not path.is_dir() and path.suffix.lower() in SUFFIXES:
            refused.append(UnusableFile(path, "it is in no class' folder"))
    loose = len(refused)
    for path in _folders(folder):
        try:
            path.name.encode()
        except UnicodeEncodeError as e:
            raise DataError(
                f"{str(path)!r}: the folder's name is not valid UTF-8."
            ) from e
        files = [p for p in sorted(path.iterdir()) if not is_clutter(p.name)]
        refused += [
            UnusableFile(file, f"it is not a {', '.join(SUFFIXES)} file")
            for file in files
            if file.suffix.lower() not in SUFFIXES or not _can_be_read(file)
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


def _can_be_read(file: pathlib.Path) -> bool:
    """Whether opening it cannot block, as a pipe would; it may be missing."""
    return file.is_file() or not file.exists()


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


def _read(path: pathlib.Path, size: int) -> np.ndarray | UnusableFile:
    """A file's image, or what is wrong with it."""
    try:
        with open_image(path, FORMATS) as image:
            decode(image)
            return np.asarray(
                _to_rgb(image).resize((size, size), Image.Resampling.LANCZOS)
            )
    except DataError as e:
        return UnusableFile(path, str(e))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow would clip 16 bits to 8 instead of scaling them.
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        # Transparent pixels have arbitrary colours.
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def read_images(
    files: Iterable[pathlib.Path], size: int
) -> Iterator[np.ndarray | UnusableFile]:
    """Images as uint8 [size, size, 3], in the order of the files.

    Images are squeezed to squares, and transparent pixels become white.
    Unusable files are yielded as `UnusableFile`. Call it within
    `refusing_bombs`.
    """
    return _in_threads(lambda file: _read(file, size), files)


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
    return sorted(
        p for p in folder.iterdir() if p.is_dir() and not is_clutter(p.name)
    )


def unusable(files: list[UnusableFile], total: int) -> DataError:
    """The error that names unusable files and the reasons."""
    named = "".join(f"\n  {f.path}: {f.why}" for f in files[:_NAMED])
    more = len(files) - _NAMED
    return DataError(
        f"{len(files)} of {total} files cannot be used, so none was taken:"
        f"{named}" + (f"\n  and {more} more" if more > 0 else "")
    )


@contextlib.contextmanager
def refusing_bombs() -> Iterator[None]:
    """Turns Pillow's warning of a decompression bomb into an error.

    Warning filters are global to the process: enter it in the thread that
    starts others, not in each of them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def open_image(
    source: bytes | pathlib.Path, formats: tuple[str, ...]
) -> Image.Image:
    """Reads an image's header; `decode` reads its content.

    Raises:
        DataError: if it is not an image in these formats, or far too large.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        return Image.open(file, formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as e:
        raise DataError("it has too many pixels to be decoded safely") from e
    except FileNotFoundError as e:
        raise DataError("it is missing") from e
    except Image.UnidentifiedImageError as e:
        raise DataError(f"it is not a {' or '.join(formats)} image") from e
    except Exception as e:  # Pillow's parsers raise errors of any type.
        raise DataError(f"it cannot be read ({e})") from e


def decode(image: Image.Image) -> None:
    """Decodes an image that `open_image` returned.

    Raises:
        DataError: if its content is damaged.
    """
    try:
        image.load()
    except Exception as e:  # as above
        raise DataError(f"it cannot be decoded ({e})") from e


def is_clutter(name: str) -> bool:
    """Whether a path is clutter left behind by a desktop, such as .DS_Store."""
    parts = name.split("/")
    return "__MACOSX" in parts or parts[-1].startswith(".")
