"""Verifies and packs a user's copy of mini-ImageNet.

A copy has folders train, val and test with a folder for each class; or all
images in one folder, with the lists train.csv, val.csv and test.csv of Ravi and
Larochelle. ImageNet's terms do not allow redistribution, so nothing is
downloaded.
"""

import collections
import csv
import pathlib

from rich.console import Console

from maml_tf.datasets import class_folders, image_files
from maml_tf.errors import DataError

LISTS = {"train": "train.csv", "validation": "val.csv", "test": "test.csv"}
NUM_CLASSES = {"train": 64, "validation": 16, "test": 20}
NUM_IMAGES = 600  # in each class
SIZE = 84


def import_miniimagenet(
    source: pathlib.Path,
    csv_dir: pathlib.Path | None,
    output_dir: pathlib.Path,
    console: Console,
    num_classes: dict[str, int] = NUM_CLASSES,
    num_images: int = NUM_IMAGES,
) -> None:
    """Verifies and packs mini-ImageNet.

    Args:
        source: directory of the images.
        csv_dir: directory of the three lists; None looks for split folders,
            then for lists in the source and beside it.
        output_dir: where to write the packed data set.
        console: shows progress.
        num_classes: expected in each split.
        num_images: expected in each class.

    Raises:
        DataError: if there are other classes or images than expected, or an
            image is missing or damaged. Then nothing is written.
    """
    splits = {}
    if csv_dir is None:
        splits = image_files.find_split_folders(source)
    if not splits:
        splits = _read_lists(_find_lists(source, csv_dir), _images(source))
    _check_counts(splits, num_classes, num_images)
    class_folders.pack(
        splits,
        output_dir,
        name="miniimagenet",
        about={"source": "mini-ImageNet, split of Ravi and Larochelle"},
        size=SIZE,
        console=console,
    )


def _images(source: pathlib.Path) -> pathlib.Path:
    images = source / "images"
    return images if images.is_dir() else source


def _find_lists(
    source: pathlib.Path, csv_dir: pathlib.Path | None
) -> pathlib.Path:
    """The directory of the three lists."""
    if not source.is_dir():
        raise DataError(f"{source} is not a directory.")
    candidates = [source, source.parent] if csv_dir is None else [csv_dir]
    for directory in candidates:
        if all((directory / name).is_file() for name in LISTS.values()):
            return directory
    if csv_dir is None:
        raise DataError(
            f"{source} has no folders train, val and test, and neither it nor "
            f"{source.parent} holds all of the lists "
            f"{', '.join(LISTS.values())}; give their directory as csv_dir."
        )
    raise DataError(f"{csv_dir} does not hold {', '.join(LISTS.values())}.")


def _read_lists(
    directory: pathlib.Path, images: pathlib.Path
) -> dict[str, image_files.Classes]:
    splits = {
        split: _read_list(directory / name, images)
        for split, name in LISTS.items()
    }
    listed = collections.Counter(
        file
        for classes in splits.values()
        for files in classes.values()
        for file in files
    )
    for file, times in listed.items():
        if times > 1:
            raise DataError(
                f"The lists in {directory} name {file.name} {times} times."
            )
    return splits


def _read_list(path: pathlib.Path, images: pathlib.Path) -> image_files.Classes:
    """The classes of a list, with the expected paths of their images."""
    classes: image_files.Classes = {}
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = csv.reader(file, strict=True)
            if next(rows, None) != ["filename", "label"]:
                raise DataError(
                    f"{path} does not begin with the line filename,label."
                )
            for row in rows:
                if len(row) != 2 or not _is_plain(row[0]) or not row[1]:
                    raise DataError(
                        f"{path}, line {rows.line_num}: expected is "
                        "file,class, the file's name without directories. "
                        f"Received: {','.join(row)!r}"
                    )
                classes.setdefault(row[1], []).append(images / row[0])
    except (UnicodeDecodeError, csv.Error) as e:
        raise DataError(f"{path} is not a CSV file ({e}).") from e
    for files in classes.values():
        files.sort()
    return dict(sorted(classes.items()))


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..") and not set(name) & {"/", "\\", "\0"}


def _check_counts(
    splits: dict[str, image_files.Classes],
    num_classes: dict[str, int],
    num_images: int,
) -> None:
    for split, expected in num_classes.items():
        classes = splits.get(split, {})
        if len(classes) != expected:
            raise DataError(
                f"mini-ImageNet has {expected} classes for {split}; here are "
                f"{len(classes)}."
            )
        for name, files in classes.items():
            if len(files) != num_images:
                raise DataError(
                    f"mini-ImageNet has {num_images} images of each class; "
                    f"of {name} ({split}) here are {len(files)}."
                )
