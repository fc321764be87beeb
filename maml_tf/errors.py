"""Errors that a user can mend; the command line prints them as one line."""

import numbers
import re
from typing import Any


class ExperimentError(Exception):
    """Base: what was wrong, what was expected, what to do.

    Attributes:
        fields: the settings that the message names, so that the command line
            can name its flags instead.
    """

    def __init__(self, message: str, *fields: str):
        super().__init__(message)
        self.fields = fields


class ConfigError(ExperimentError):
    """A setting, or a combination of settings, that makes no sense."""


class RunDirectoryError(ExperimentError):
    """A run directory that cannot be used for what was asked."""


class TrainingDivergedError(ExperimentError):
    """The meta-loss or a weight is no longer finite."""


class DataError(ExperimentError):
    """A data set that is missing, damaged or not what was asked for."""


class ExportError(ExperimentError):
    """A network that cannot be exported where or as was asked."""


def check_whole_number(name: str, value: Any, least: int) -> None:
    """Checks that an argument is a whole number, and large enough.

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


def first_lines(error: Exception) -> str:
    """The start of what Keras or TensorFlow said, in one line."""
    # Keras puts where before what, and what in bold.
    plain = re.sub(r"\x1b\[\d*m", "", str(error))
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    return " ".join(lines[:2])[:300]
