"""A user's folder of images, packed for few-shot learning.

Each class has a folder of images. These folders are in folders train, val and
test, or side by side; then they are split at random into 64, 16 and 20 % of the
classes, always in the same way.
"""

import pathlib
from collections.abc import Sequence

from rich.console import Console

from maml_tf.datasets import class_folders, image_files
from maml_tf.datasets.class_splits import standard_splits


def import_image_folder(
    source: pathlib.Path,
    output_dir: pathlib.Path,
    name: str,
    size: int | Sequence[int],
    console: Console,
) -> None:
    """Packs a folder of images.

    Args:
        source: the folder.
        output_dir: where to write the packed data set.
        name: name of the data set.
        size: height and width that images are resized to, or one number for
            both.
        console: shows progress.

    Raises:
        DataError: if the folder is not as described above, or an image cannot
            be read. Then nothing is written.
    """
    splits = image_files.find_split_folders(source)
    how = "by the folders of the source"
    if not splits:
        classes = image_files.find_classes(source)
        splits = {
            split: {name: classes[name] for name in names}
            for split, names in standard_splits(classes, str(source)).items()
        }
        how = "at random, 64/16/20 % of the classes"
    class_folders.pack(
        splits,
        output_dir,
        name=name,
        about={"source": "images of the user", "split": how},
        size=size,
        console=console,
    )
