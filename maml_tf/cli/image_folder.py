"""Packs your own images for few-shot learning.

    maml-tf data image_folder --source=DIR --name=NAME
    python -m data.image_folder --source=DIR --name=NAME     (in a clone)

packs a folder of images (JPEG, PNG, WebP, TIFF, BMP, GIF, PPM) to
data/packed/NAME. Each class has a folder of its own. These folders are in
folders train, val and test; or all in DIR, and are then split at random into
64, 16 and 20 % of the classes, the same way every time.
"""

import pathlib
import re
from collections.abc import Sequence

from absl import flags
from rich.console import Console

from maml_tf.cli import preparing
from maml_tf.datasets.image_folder import import_image_folder
from maml_tf.datasets.image_preparation import checked_size
from maml_tf.errors import ConfigError, DataError


class _SizeParser(flags.ArgumentParser):
    """84, or 60x80: height and width."""

    syntactic_help = "a whole number, or HEIGHTxWIDTH"

    def parse(self, argument: int | str) -> tuple[int, int]:
        sides = str(argument).split("x")
        if not all(side.isdecimal() for side in sides):
            raise ValueError(f"it must be {self.syntactic_help}")
        numbers = [int(side) for side in sides]
        try:
            return checked_size(numbers if len(numbers) > 1 else numbers[0])
        except ConfigError as e:
            raise ValueError(str(e)) from e


FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "source", None, "directory of the images", flag_values=FLAGS
)
flags.DEFINE_string(
    "name", None, "what to call the data set", flag_values=FLAGS
)
flags.DEFINE(
    _SizeParser(),
    "size",
    "84",
    "height and width that images are resized to: 84, or 60x80",
    flag_values=FLAGS,
    serializer=flags.ArgumentSerializer(),
)
flags.DEFINE_string(
    "output_dir",
    None,
    "where the packed data set goes [data/packed/NAME]",
    flag_values=FLAGS,
)


def start(argv: Sequence[str]) -> None:
    """Runs the command line `argv`."""
    preparing.run(main, argv, FLAGS, __doc__, __name__)


def main(console: Console) -> None:
    """Does what the flags ask for."""
    if FLAGS.source is None or FLAGS.name is None:
        raise DataError("--source and --name are needed.")
    _check_name(FLAGS.name)
    output_dir = pathlib.Path(FLAGS.output_dir or f"data/packed/{FLAGS.name}")
    import_image_folder(
        pathlib.Path(FLAGS.source), output_dir, FLAGS.name, FLAGS.size, console
    )
    preparing.say(console, preparing.summary(output_dir))


def _check_name(name: str) -> None:
    """Checks that --datasource can name the data set, and nothing else."""
    if not re.fullmatch("[A-Za-z0-9_-]+", name):
        raise DataError(
            "--name may have letters, digits, _ and - only. Received: "
            f"--name={name}"
        )
    # Here, so that help and most errors do not wait for TensorFlow.
    from maml_tf.experiments.registry import datasources

    if name in datasources():
        raise DataError(
            f"--name={name} names another --datasource; choose another."
        )
