"""Errors that a user can fix; the command line prints each as one line."""

import numbers
import re
from typing import Any


class ExperimentError(Exception):
    """Base class: says what was wrong, what was expected, what to do.

    Attributes:
        fields: names of settings in the message, which the command line
            replaces with its flags.
    """

    def __init__(self, message: str, *fields: str):
        super().__init__(message)
        self.fields = fields


class ConfigError(ExperimentError):
    """An invalid setting or combination of settings."""


class RunDirectoryError(ExperimentError):
    """A run directory that cannot be used as requested."""


class TrainingDivergedError(ExperimentError):
    """The meta-loss or a weight is no longer finite."""


class DataError(ExperimentError):
    """A data set that is missing, damaged or unsuitable."""


class ExportError(ExperimentError):
    """A network that cannot be exported as requested."""


def check_whole_number(name: str, value: Any, least: int) -> None:
    """Checks that an argument is a whole number, at least `least`.

    Raises:
        ConfigError: if it is not.
    """
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not (whole and value >= least):
        raise ConfigError(
            f"{name} must be a whole number, at least {least}. Received: "
            f"{name}={value!r}",
            name,
        )


def reason(error: Exception) -> str:
    """Why a file could not be written, as one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # TensorFlow's: {{node ...}} path; No space left on device [Op:SaveV2]
    first = (str(error).splitlines() or [type(error).__name__])[0]
    plain = re.sub(r"^\{\{.*?\}\}\s*|\s*\[Op:\w+\].*$", "", first)
    return plain.rpartition("; ")[2]


def first_lines(error: Exception) -> str:
    """The start of a Keras or TensorFlow message, as one line."""
    # Keras prints the location first and the message in bold.
    plain = re.sub(r"\x1b\[\d*m", "", str(error))
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    return " ".join(lines[:2])[:300]
