"""The command `maml-tf`: maps sub-commands to modules.

A module has a function `start(argv)`, where `argv` begins with the program. It
is imported on demand, since TensorFlow takes seconds to import.
"""

import importlib
import itertools
import sys
from collections.abc import Sequence
from typing import NamedTuple

from maml_tf.cli.command import asks_for_help
from maml_tf.runtime import quiet_startup

EXPERIMENT = "maml_tf.cli.experiment"  # without a sub-command


class SubCommand(NamedTuple):
    """Where a sub-command is, and what it does."""

    module: str
    about: str


SUB_COMMANDS = {
    "data omniglot": SubCommand(
        "maml_tf.cli.omniglot", "download or import Omniglot"
    ),
    "data miniimagenet": SubCommand(
        "maml_tf.cli.miniimagenet", "pack your copy of mini-ImageNet"
    ),
    "data image_folder": SubCommand(
        "maml_tf.cli.image_folder", "pack your own images"
    ),
    "litert": SubCommand(
        "maml_tf.cli.litert", "convert an exported network for phones"
    ),
}

# Packages that an extra of the distribution brings
_EXTRAS = {
    "matplotlib": "experiments",
    "tensorboard": "experiments",
    "tensorflow_probability": "rl",
    "tf_keras": "rl",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs `maml-tf` with the arguments of the process, or with these."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    words = list(itertools.takewhile(lambda a: not a.startswith("-"), given))
    for count in (2, 1):
        name = " ".join(words[:count])
        if name in SUB_COMMANDS:
            argv = [f"maml-tf {name}", *given[len(name.split()) :]]
            start(SUB_COMMANDS[name].module, argv)
            return
    if asks_for_help(given):
        print("Sub-commands, each with a --help of its own:\n")
        for name, command in SUB_COMMANDS.items():
            print(f"    maml-tf {name:<20}{command.about}")
        print()
    elif words:
        sys.exit(
            f"error: unknown sub-command: {' '.join(words)}. Expected one of: "
            f"{', '.join(SUB_COMMANDS)}; or flags alone, such as "
            "--datasource=glyphs."
        )
    start(EXPERIMENT, ["maml-tf", *given])


def start(module: str, argv: Sequence[str]) -> None:
    """Imports a module of a command, and runs it."""
    try:
        with quiet_startup():
            command = importlib.import_module(module)
        command.start(argv)
    except ModuleNotFoundError as e:
        package = (e.name or "").partition(".")[0]
        if package not in _EXTRAS:
            raise
        sys.exit(
            f"error: This needs the Python package {package}, which is not "
            f"installed. Run: pip install 'maml_tf[{_EXTRAS[package]}]'"
        )
