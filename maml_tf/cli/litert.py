"""Converts an exported adaptation for phones: to a LiteRT model.

    maml-tf litert DIRECTORY FILE --num_support=5 --num_query=1

DIRECTORY is a SavedModel, as --export_dir or Learner.export writes it; FILE is
written. The sizes of the two sets are fixed, the number of updates stays an
input. With --signature=predict_adapted, the phone gets weights that were
adapted elsewhere, and the network may have layers whose gradients LiteRT lacks.
"""

import os
from collections.abc import Sequence

from absl import flags

from maml_tf.cli.command import errors_as_exits, parse
from maml_tf.export.litert import SIGNATURE, SIGNATURES, convert_adaptation

FLAGS = flags.FlagValues()
flags.DEFINE_integer(
    "num_support", 5, "examples of a support set", 1, flag_values=FLAGS
)
flags.DEFINE_integer(
    "num_query", 1, "examples of a query set", 1, flag_values=FLAGS
)
flags.DEFINE_enum(
    "signature", SIGNATURE, SIGNATURES, "what to convert", flag_values=FLAGS
)


def start(argv: Sequence[str]) -> None:
    """Runs the command line `argv`."""
    directory, file = parse(
        argv, FLAGS, __doc__, __name__, ("DIRECTORY", "FILE")
    )
    with errors_as_exits(
        "Choose another FILE.", "Interrupted; nothing was written."
    ):
        convert_adaptation(
            directory,
            file,
            FLAGS.num_support,
            FLAGS.num_query,
            FLAGS.signature,
        )
    print(f"{file}: {os.path.getsize(file)} bytes")
