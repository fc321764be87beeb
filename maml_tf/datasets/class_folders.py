"""Packs image files of any size, sorted into classes and splits."""

import pathlib
from collections.abc import Sequence

from rich.console import Console

from maml_tf.datasets.decoding import refusing_bombs
from maml_tf.datasets.image_files import (
    Classes,
    UnusableFile,
    check_disjoint,
    find_white,
    read_images,
    unusable,
)
from maml_tf.datasets.image_preparation import ImagePreparation, checked_size
from maml_tf.datasets.packing import packing
from maml_tf.progress import TrainingProgress


def pack(
    splits: dict[str, Classes],
    output_dir: pathlib.Path,
    *,
    name: str,
    about: dict[str, str],
    size: int | Sequence[int],
    console: Console,
) -> None:
    """Packs classes of images, one array for each split.

    Args:
        splits: the classes of each split.
        output_dir: where to write the packed data set.
        name: name of the data set.
        about: where it came from.
        size: height and width, or one number for both; images are resized to
            RGB of that size (`ImagePreparation`).
        console: shows progress.

    Raises:
        DataError: if a class is in two splits or files cannot be read. All such
            files are found first, and nothing is written.
        ConfigError: if the size makes no sense.
    """
    height, width = checked_size(size)
    check_disjoint(splits)
    all_files = [
        file
        for classes in splits.values()
        for files in classes.values()
        for file in files
    ]
    total = len(all_files)
    progress = TrainingProgress(console, "images", 0, total)
    with refusing_bombs():
        white = find_white(all_files)
    preparation = ImagePreparation((height, width), white=white)
    about = {**about, "resize": f"{height}x{width} with Lanczos"}
    if white is not None:
        about["white"] = f"{white} in images of more than 8 bits"
    with (
        refusing_bombs(),
        packing(
            output_dir,
            name=name,
            about=about,
            image_shape=(height, width, 3),
            arrays={
                f"{split}.npy": [(c, len(files)) for c, files in cs.items()]
                for split, cs in splits.items()
            },
            splits={split: list(classes) for split, classes in splits.items()},
        ) as writers,
        progress,
    ):
        done = 0
        refused = []
        for split, classes in splits.items():
            files = (file for files in classes.values() for file in files)
            for image in read_images(files, preparation):
                if isinstance(image, UnusableFile):
                    refused.append(image)
                elif not refused:
                    writers[f"{split}.npy"].append(image)
                done += 1
                progress(done, {})
        if refused:
            raise unusable(refused, total)
