"""Errors that a user can mend; the command line prints them as one line."""


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
