"""Prepares Omniglot: downloads or imports it, verifies it, packs it.

    maml-tf data omniglot            (in a clone: python -m data.omniglot)

downloads the two archives that Brenden Lake published (16 MB), checks every
drawing and packs them all to data/packed/omniglot. Archives or folders that
you already have are imported with --source.
"""

import pathlib
from collections.abc import Sequence

from absl import flags
from rich.console import Console

from maml_tf.cli import preparing
from maml_tf.datasets import class_splits, omniglot
from maml_tf.datasets.download import download
from maml_tf.datasets.packed_images import PackedImages

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "source",
    None,
    "directory that has images_background.zip and images_evaluation.zip, "
    "or the same unpacked; without it they are downloaded",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "output_dir",
    "data/packed/omniglot",
    "where the packed data set goes",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "resize",
    "nearest",
    sorted(omniglot.RESIZES),
    "nearest: black and white, as the original's images are; smooth: "
    "Lanczos in shades of grey",
    flag_values=FLAGS,
)


def start(argv: Sequence[str]) -> None:
    """Runs the command line `argv`."""
    preparing.run(main, argv, FLAGS, __doc__, __name__)


def main(console: Console) -> None:
    """Does what the flags ask for."""
    output_dir = pathlib.Path(FLAGS.output_dir)
    if FLAGS.source is not None:
        source = pathlib.Path(FLAGS.source)
    elif omniglot.is_ready(output_dir, FLAGS.resize):
        preparing.say(console, "Already there:")
        _say_what_there_is(output_dir, console)
        return
    else:
        source = pathlib.Path("data/downloads")
        download(omniglot.URL, omniglot.ARCHIVES, source, console)
    splits = class_splits.read_splits(omniglot.SPLITS)
    omniglot.import_omniglot(source, output_dir, splits, FLAGS.resize, console)
    _say_what_there_is(output_dir, console)


def _say_what_there_is(directory: pathlib.Path, console: Console) -> None:
    splits = PackedImages.open(directory).splits.values()
    alphabets = {name.split("/")[0] for s in splits for name in s.names}
    preparing.say(
        console,
        f"{preparing.summary(directory)}\n"
        f"Its classes are the characters of {len(alphabets)} alphabets.",
    )
