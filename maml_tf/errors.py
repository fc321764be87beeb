"""Errors that a user can mend; the command line prints them as one line."""

from typing import Any


class ExperimentError(Exception):
    """Base: what was wrong, what was expected, what to do."""


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
    """Sees that an argument is a whole number, and large enough.

    Raises:
        ConfigError: if it is not.
    """
    if not (isinstance(value, int) and value >= least):
        raise ConfigError(
            f"{name} must be a whole number, at least {least}. Received: "
            f"{name}={value!r}"
        )
