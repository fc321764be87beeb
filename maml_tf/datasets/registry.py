"""Data sets of images by name."""

import difflib
import pathlib

from maml_tf.datasets.class_splits import SPLITS
from maml_tf.datasets.glyphs.images import glyphs
from maml_tf.datasets.packed_images import PackedImages
from maml_tf.errors import DataError
from maml_tf.rl.environments.base import ENVIRONMENTS

# The command that prepares a data set.
_COMMANDS = {
    "omniglot": "python -m maml_tf data omniglot",
    "miniimagenet": "python -m maml_tf data miniimagenet --source=<your copy>",
}
_OWN_COMMAND = (
    "python -m maml_tf data image_folder --source=<directory> --name={}"
)

# What --datasource can name without data of the user's own.
DATASOURCES = ("sinusoid", "glyphs", *_COMMANDS, *ENVIRONMENTS)


def open_images(datasource: str, data_dir: pathlib.Path) -> PackedImages:
    """Opens a data set with the splits `train`, `validation` and `test`.

    Args:
        datasource: `glyphs`, which is made on the spot, or the name of a
            packed data set.
        data_dir: holds the packed data sets, each in a directory of its name.

    Raises:
        DataError: if it was not prepared, is damaged or lacks a split.
    """
    if datasource == "glyphs":
        return glyphs()
    command = _COMMANDS.get(datasource, _OWN_COMMAND.format(datasource))
    hint = f"Prepare it with: {command}"
    if datasource not in _COMMANDS:
        hint += f"; or name another --datasource: {', '.join(DATASOURCES)}."
        for meant in difflib.get_close_matches(datasource, DATASOURCES, 1):
            hint = f"Did you mean --datasource={meant}? {hint}"
    images = PackedImages.open(data_dir / datasource, hint=hint)
    for split in SPLITS:
        if split not in images.splits:
            raise DataError(
                f"{data_dir / datasource} has no {split} split; an experiment "
                f"needs train, validation and test. Prepare it with: {command}"
            )
    return images
