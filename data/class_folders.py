"""Packs image files of any size, sorted into classes and splits."""

import collections
import concurrent.futures
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from PIL import Image
from rich.console import Console

from data import importing
from data.archives import is_clutter
from data.packing import packing
from maml_tf.errors import DataError
from maml_tf.progress import TrainingProgress

FORMATS = ("JPEG", "PNG")
SUFFIXES = (".jpg", ".jpeg", ".png")
SPLIT_FOLDERS = {
    "train": ("train",),
    "validation": ("val", "validation"),
    "test": ("test",),
}

_NAMED = 10  # files that a message names; more are counted
_AHEAD = 64  # images that may be decoded before they are written

# Class name -> its image files
Classes = dict[str, list[pathlib.Path]]


@dataclasses.dataclass(frozen=True)
class UnusableFile:
    """A file that is no image to be packed."""

    path: pathlib.Path
    why: str


def find_split_folders(source: pathlib.Path) -> dict[str, Classes]:
    """Finds the classes in folders train, val (or validation) and test.

    Returns:
        The classes of each split that has a folder; {} if none has.

    Raises:
        DataError: if there is no telling what belongs to which split, or a
            file is not an image.
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
                f"folder {folder.name} cannot be a class. Move it elsewhere."
            )
    return {split: find_classes(folder) for split, folder in folders.items()}


def find_classes(folder: pathlib.Path) -> Classes:
    """Finds the classes in a folder: one folder each, image files in it.

    Raises:
        DataError: if there is none, one is empty, or a file is not an image.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a directory.")
    classes = {}
    unusable = []
    for path in sorted(folder.iterdir()):
        if not path.is_dir() and path.suffix.lower() in SUFFIXES:
            unusable.append(UnusableFile(path, "it is in no class' folder"))
    for path in _folders(folder):
        try:
            path.name.encode()
        except UnicodeEncodeError as e:
            raise DataError(
                f"{str(path)!r}: the folder's name is not valid UTF-8."
            ) from e
        files = [p for p in sorted(path.iterdir()) if not is_clutter(p.name)]
        unusable += [
            UnusableFile(file, f"it is not a {', '.join(SUFFIXES)} file")
            for file in files
            if file.suffix.lower() not in SUFFIXES
        ]
        if not files:
            raise DataError(f"{path} is a class without images.")
        classes[path.name] = files
    if unusable:
        raise _unusable(unusable, sum(map(len, classes.values())))
    if not classes:
        raise DataError(
            f"{folder} holds no classes; expected is a folder of images for "
            "each class."
        )
    return classes


def pack(
    splits: dict[str, Classes],
    output_dir: pathlib.Path,
    *,
    name: str,
    about: dict[str, str],
    size: int,
    console: Console,
) -> None:
    """Packs classes of images, one array for each split.

    Args:
        splits: the classes of each split.
        output_dir: where the packed data set goes.
        name: of the data set.
        about: where it came from.
        size: images become RGB of size x size, with Lanczos.
        console: for the progress.

    Raises:
        DataError: if a class is in two splits or files cannot be read; all
            are found before it is raised, and nothing is written then.
    """
    _check_disjoint(splits)
    total = sum(len(f) for classes in splits.values() for f in classes.values())
    progress = TrainingProgress(console, "images", 0, total)
    with (
        importing.refusing_bombs(),
        packing(
            output_dir,
            name=name,
            about={**about, "resize": f"{size}x{size} with Lanczos"},
            image_shape=(size, size, 3),
            arrays={
                f"{split}.npy": [(c, len(files)) for c, files in cs.items()]
                for split, cs in splits.items()
            },
            splits={split: list(classes) for split, classes in splits.items()},
        ) as writers,
        progress,
    ):
        done = 0
        unusable = []
        for split, classes in splits.items():
            files = (file for files in classes.values() for file in files)
            for image in _in_threads(lambda f: _read(f, size), files):
                if isinstance(image, UnusableFile):
                    unusable.append(image)
                elif not unusable:
                    writers[f"{split}.npy"].append(image)
                done += 1
                progress(done, {})
        if unusable:
            raise _unusable(unusable, total)


def _check_disjoint(splits: dict[str, Classes]) -> None:
    split_of = {}
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
        with importing.open_image(path, FORMATS) as image:
            importing.decode(image)
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
        # What the colours of transparent pixels are is anyone's guess.
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def _in_threads(function: Callable, items: Iterable) -> Iterator:
    """Results in the order of the items, a bounded number of them at once.

    Threads, since Pillow decodes and resizes without Python's lock: two do
    1.9 times as many photographs as one.
    """
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as executor:
        pending = collections.deque()
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


def _unusable(files: list[UnusableFile], total: int) -> DataError:
    named = "".join(f"\n  {f.path}: {f.why}" for f in files[:_NAMED])
    more = len(files) - _NAMED
    return DataError(
        f"{len(files)} of {total} files cannot be used, so nothing was packed:"
        f"{named}" + (f"\n  and {more} more" if more > 0 else "")
    )
