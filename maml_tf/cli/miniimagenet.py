"""Packs your copy of mini-ImageNet.

    maml-tf data miniimagenet --source=DIR
    python -m data.miniimagenet --source=DIR                 (in a clone)

DIR has folders train, val and test with a folder for each class; or all
images in one folder (DIR or DIR/images), with the lists train.csv, val.csv
and test.csv of Ravi and Larochelle in it, beside it or in --csv_dir. ImageNet's
terms do not allow redistributing the images, so there is no download.
"""

import pathlib
from collections.abc import Sequence

from absl import flags
from rich.console import Console

from maml_tf.cli import preparing
from maml_tf.datasets.miniimagenet import import_miniimagenet
from maml_tf.errors import DataError

FLAGS = flags.FlagValues()
flags.DEFINE_string("source", None, "directory of your copy", flag_values=FLAGS)
flags.DEFINE_string(
    "csv_dir",
    None,
    "directory of train.csv, val.csv and test.csv",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "output_dir",
    "data/packed/miniimagenet",
    "where the packed data set goes",
    flag_values=FLAGS,
)


def start(argv: Sequence[str]) -> None:
    """Runs the command line `argv`."""
    preparing.run(main, argv, FLAGS, __doc__, __name__)


def main(console: Console) -> None:
    """Does what the flags ask for."""
    if FLAGS.source is None:
        raise DataError(
            "--source is needed: the directory of your copy of mini-ImageNet; "
            "--help says how it may be laid out."
        )
    output_dir = pathlib.Path(FLAGS.output_dir)
    csv_dir = None if FLAGS.csv_dir is None else pathlib.Path(FLAGS.csv_dir)
    import_miniimagenet(
        pathlib.Path(FLAGS.source), csv_dir, output_dir, console
    )
    preparing.say(console, preparing.summary(output_dir))
