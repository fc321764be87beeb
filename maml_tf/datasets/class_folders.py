"""Packs image files of any size, sorted into classes and splits."""

import pathlib

from rich.console import Console

from maml_tf.datasets.image_files import (
    Classes,
    UnusableFile,
    check_disjoint,
    read_images,
    refusing_bombs,
    unusable,
)
from maml_tf.datasets.packing import packing
from maml_tf.progress import TrainingProgress


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
    check_disjoint(splits)
    total = sum(len(f) for classes in splits.values() for f in classes.values())
    progress = TrainingProgress(console, "images", 0, total)
    with (
        refusing_bombs(),
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
        refused = []
        for split, classes in splits.items():
            files = (file for files in classes.values() for file in files)
            for image in read_images(files, size):
                if isinstance(image, UnusableFile):
                    refused.append(image)
                elif not refused:
                    writers[f"{split}.npy"].append(image)
                done += 1
                progress(done, {})
        if refused:
            raise unusable(refused, total)
