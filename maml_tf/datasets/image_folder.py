"""Packs your own images for few-shot learning.

    python -m data.image_folder --source=DIR --name=NAME

packs a folder of JPEG and PNG images to data/packed/NAME. The images of a
class are in a folder of their own. These folders are in folders train, val
and test; or all in DIR, and are then split at random into 64, 16 and 20 % of
the classes, every time the same way.
"""

import pathlib
import re

from absl import flags
from rich.console import Console

from maml_tf.datasets import class_folders, image_files, importing
from maml_tf.datasets.class_splits import standard_splits
from maml_tf.datasets.registry import DATASOURCES
from maml_tf.errors import DataError

FLAGS = flags.FLAGS


def define_flags(values: flags.FlagValues = FLAGS) -> None:
    flags.DEFINE_string(
        "source", None, "directory of the images", flag_values=values
    )
    flags.DEFINE_string(
        "name", None, "what to call the data set", flag_values=values
    )
    flags.DEFINE_integer(
        "size",
        84,
        "height and width that images are resized to",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_string(
        "output_dir",
        None,
        "where the packed data set goes [data/packed/NAME]",
        flag_values=values,
    )


def main(console: Console) -> None:
    if FLAGS.source is None or FLAGS.name is None:
        raise DataError("--source and --name are needed.")
    output_dir = pathlib.Path(FLAGS.output_dir or f"data/packed/{FLAGS.name}")
    import_image_folder(
        pathlib.Path(FLAGS.source), output_dir, FLAGS.name, FLAGS.size, console
    )
    importing.say(console, importing.summary(output_dir))


def import_image_folder(
    source: pathlib.Path,
    output_dir: pathlib.Path,
    name: str,
    size: int,
    console: Console,
) -> None:
    """Packs a folder of images.

    Raises:
        DataError: if the name cannot be used, the folder is not as described
            above, or an image cannot be read. Nothing is written then.
    """
    if not re.fullmatch("[A-Za-z0-9_-]+", name):
        raise DataError(
            "--name may have letters, digits, _ and - only. Received: "
            f"--name={name}"
        )
    if name in DATASOURCES:
        raise DataError(
            f"--name={name} names another --datasource; choose another."
        )
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


if __name__ == "__main__":
    define_flags()
    importing.run(main)
