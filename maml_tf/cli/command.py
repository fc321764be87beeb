"""Helpers of the sub-commands: help, flags of their own, errors."""

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence

from absl import flags

from maml_tf.errors import ExperimentError

_HELP = frozenset(("--help", "-help", "-h", "--helpshort", "-?"))


def asks_for_help(argv: Sequence[str]) -> bool:
    """Whether a command line asks for help instead of work."""
    return not _HELP.isdisjoint(argv)


def print_help(
    about: str | None, values: flags.FlagValues, groups: Mapping[str, str]
) -> None:
    """Prints what a command does, and its flags.

    Args:
        about: what it does.
        values: its flags.
        groups: headings of the flags, and the modules under whose names they
            are registered.
    """
    print(about)
    for heading, module in groups.items():
        _, _, described = values.module_help(module).partition(":\n")
        print(f"{heading}:\n{described}\n")


def parse(
    argv: Sequence[str],
    values: flags.FlagValues,
    about: str | None,
    module: str,
    arguments: Sequence[str] = (),
) -> list[str]:
    """Parses the command line of a sub-command, or exits.

    Avoids `absl.app.run`, which would start TensorFlow's devices.

    Args:
        argv: the program, then its flags and arguments.
        values: the flags of the sub-command.
        about: the text of its help.
        module: the module that defines the flags.
        arguments: names of the positional arguments.

    Returns:
        The positional arguments.
    """
    if asks_for_help(argv[1:]):
        print_help(about, values, {"flags": module})
        sys.exit()
    try:
        found = values(argv)[1:]
    except flags.Error as e:
        sys.exit(f"error: {e}; --help lists the flags.")
    if len(found) < len(arguments):
        missing = " and ".join(arguments[len(found) :])
        sys.exit(f"error: {missing} missing; --help says what is expected.")
    if len(found) > len(arguments):
        rest = " ".join(found[len(arguments) :])
        sys.exit(f"error: unexpected arguments: {rest}")
    return found


@contextlib.contextmanager
def errors_as_exits(os_hint: str, interrupted: str) -> Iterator[None]:
    """Exits with one line if the body fails because of a user's mistake.

    Args:
        os_hint: what to do about an error of the file system.
        interrupted: the message after Ctrl-C.
    """
    try:
        yield
    except ExperimentError as e:
        sys.exit(f"error: {e}")
    except OSError as e:
        sys.exit(f"error: {e}. {os_hint}")
    except KeyboardInterrupt:
        print(f"\n{interrupted}", file=sys.stderr)
        sys.exit(130)
