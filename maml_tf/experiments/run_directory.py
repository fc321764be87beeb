"""The directory of a run: all that resuming, evaluating or exporting needs.

config.json      settings, format and package versions
checkpoints/     see checkpoints.py
best/            the weights that did best in validation (images), or the
                 policy with the best return
train.csv        running losses; returns of each iteration
validation.csv   accuracy on validation tasks (images)
tensorboard/     the same for TensorBoard
results.json ... what evaluation found, tables and figures
"""

import contextlib
import dataclasses
import fcntl
import importlib.metadata
import json
import os
import pathlib
import platform
from collections.abc import Iterator
from typing import Any

from maml_tf.errors import ConfigError, RunDirectoryError
from maml_tf.experiments.configs import (
    ImageConfig,
    SinusoidConfig,
    TrainingConfig,
)
from maml_tf.experiments.rl_config import RLConfig
from maml_tf.files import SCRATCH_SUFFIX, write_atomically
from maml_tf.rl.environments.base import ENVIRONMENTS

FORMAT = 1
_INSTEAD = "Choose another run, or for training another --logdir."

_PACKAGES = ("tensorflow", "keras", "numpy")


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """A run's directory with the settings that it holds."""

    path: pathlib.Path
    config: TrainingConfig

    @property
    def checkpoints(self) -> pathlib.Path:
        return self.path / "checkpoints"

    @property
    def best(self) -> pathlib.Path:
        return self.path / "best"

    @classmethod
    def for_training(
        cls, logdir: pathlib.Path, config: TrainingConfig, resume: bool
    ) -> "RunDirectory":
        """Makes the directory of a run, or opens it to go on.

        A run that is there keeps its config.json until `write_config`.

        Args:
            logdir: the directory of all runs.
            config: the settings; they decide the name.
            resume: go on with a run that is there. If False, such a run is
                moved aside to a name with a number, and a new one begins.

        Raises:
            RunDirectoryError: if the directory cannot be written or holds
                another run.
        """
        path = logdir / config.run_name
        if path.is_dir() and not resume:
            with cls(path, config).locked():
                _move_aside(path)
        if (path / "config.json").exists():
            found = cls.open(path).config
            for name, asked in config.identity.items():
                there = getattr(found, name)
                if asked != there:
                    raise RunDirectoryError(
                        f"{path} holds a run with {name}={there}, not "
                        f"{asked}. Choose another --logdir."
                    )
        elif path.exists() and _holds_something(path):
            raise RunDirectoryError(
                f"{path} exists and is not a run directory: it has no "
                "config.json. Choose another --logdir."
            )
        run = cls(path, config)
        if not (path / "config.json").exists():
            run.write_config()
        return run

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps a second process from training in the same directory.

        Raises:
            RunDirectoryError: if there is one.
        """
        with open(self.path / "lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as e:
                raise RunDirectoryError(
                    f"Another process is training in {self.path}. Wait for "
                    "it, or choose another --logdir."
                ) from e
            yield

    def write_config(self) -> None:
        """Writes the settings, with the versions that train by them.

        Raises:
            RunDirectoryError: if the directory cannot be written.
        """
        content = {
            "format": FORMAT,
            "datasource": self.config.datasource,
            "config": dataclasses.asdict(self.config),
            "versions": versions(),
        }
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(
                self.path / "config.json", json.dumps(content, indent=2)
            )
        except OSError as e:
            raise RunDirectoryError(
                f"Cannot write to {self.path} ({e.strerror}). Choose another "
                "--logdir."
            ) from e

    @classmethod
    def open(cls, path: pathlib.Path) -> "RunDirectory":
        """Opens the directory of an earlier run.

        Raises:
            RunDirectoryError: if it is none, or of another format.
        """
        try:
            content = json.loads((path / "config.json").read_text())
        except OSError as e:
            wrong = (
                f"{path} is not a run directory: its config.json cannot be "
                f"read ({e.strerror})."
                if path.is_dir()
                else f"There is no run directory {path}."
            )
            raise RunDirectoryError(wrong + _runs_at_hand(path.parent)) from e
        except ValueError as e:
            raise RunDirectoryError(
                f"{path / 'config.json'} is damaged: it is not JSON. {_INSTEAD}"
            ) from e
        found = content.get("format") if isinstance(content, dict) else None
        if found != FORMAT:
            raise RunDirectoryError(
                f"{path} was written in format {found}; this version reads "
                f"format {FORMAT}. {_INSTEAD}"
            )
        try:
            config = _config_of(content["datasource"], content["config"])
        except (KeyError, TypeError, ConfigError) as e:
            raise RunDirectoryError(
                f"{path / 'config.json'} does not hold the settings of an "
                f"experiment ({e}). {_INSTEAD}"
            ) from e
        return cls(path, config)


def _config_of(datasource: str, settings: dict[str, Any]) -> TrainingConfig:
    """Settings as they were stored: all of them, so that none is made up.

    Raises:
        ConfigError: if some are missing, unknown or make no sense.
        TypeError: if they are no dictionary.
    """
    kind = config_class(datasource)
    known = {field.name for field in dataclasses.fields(kind)}
    for names, wrong in (
        (known - set(settings), "missing"),
        (set(settings) - known, "unknown"),
    ):
        if names:
            raise ConfigError(f"{', '.join(sorted(names))}: {wrong}")
    try:
        return kind(**settings)
    except TypeError as e:
        raise ConfigError("a value is of another type") from e


def config_class(datasource: str) -> type[TrainingConfig]:
    """The kind of settings that a data source has."""
    if datasource == SinusoidConfig.datasource:
        return SinusoidConfig
    return RLConfig if datasource in ENVIRONMENTS else ImageConfig


def versions() -> dict[str, Any]:
    """Versions of Python and of the packages that decide the numbers."""
    packages = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **packages}


def _holds_something(path: pathlib.Path) -> bool:
    """Whether there is more than a kill at the very beginning can leave."""
    if not path.is_dir():
        return True
    return any(
        p.name != "lock" and not p.name.endswith(SCRATCH_SUFFIX)
        for p in path.iterdir()
    )


def _move_aside(path: pathlib.Path) -> None:
    number = 1
    while (aside := path.with_name(f"{path.name}.old{number}")).exists():
        number += 1
    os.rename(path, aside)


def _runs_at_hand(logdir: pathlib.Path) -> str:
    if not logdir.is_dir() and logdir.name == "trained":
        return (
            " Trained networks are not part of the installed package: they lie "
            "in the directory trained/ of its source repository. Name the path "
            "of that directory in a clone, or train a run first."
        )
    if not logdir.is_dir():
        return f" There is no directory {logdir}; train a run first."
    names = sorted(p.parent.name for p in logdir.glob("*/config.json"))
    if not names:
        return f" {logdir}/ holds no run; train one first."
    return f" {logdir} holds:\n  " + "\n  ".join(names)
