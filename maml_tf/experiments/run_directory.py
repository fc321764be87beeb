"""The directory of a run: all that resuming, evaluating or exporting needs.

config.json      settings, format, and the provenance of each stretch
checkpoints/ ... what training writes (training/files.py)
results.json ... results of evaluation, tables and figures
"""

import dataclasses
import json
import os
import pathlib
from typing import Any

from maml_tf.errors import ConfigError, RunDirectoryError
from maml_tf.experiments.registry import find_source
from maml_tf.experiments.source import DataSource
from maml_tf.files import SCRATCH_SUFFIX, read_json, write_atomically
from maml_tf.provenance import difference, provenance
from maml_tf.training.config import TrainingConfig
from maml_tf.training.files import LOCK, training_lock

FORMAT = 1
_INSTEAD = "Choose another run, or for training another logdir."

# Settings added later, with the values of runs from before.
_LATER: dict[str, Any] = {
    "method": "maml",
    "method_settings": {},
    "train_ways": None,
    "train_shots": None,
    "beta_schedule": None,
    "beta_end": None,
    "head_init": None,
}


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """A run's directory with the contents of its config.json.

    Attributes:
        path: the directory.
        config: the settings.
        stretches: for each stretch of training, the iteration at which it
            began and its `provenance`; the oldest first.
    """

    path: pathlib.Path
    config: TrainingConfig
    stretches: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def source(self) -> DataSource:
        """The data source of its tasks."""
        return find_source(self.config.datasource)

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
        """Makes the directory of a run, or opens it to resume.

        An existing run keeps its config.json until `begin_stretch`.

        Args:
            logdir: the directory of all runs.
            config: the settings; they determine the name.
            resume: resume an existing run. If False, an existing run is
                renamed with a number at the end, and a new one begins.

        Raises:
            RunDirectoryError: if the directory cannot be written or holds
                another run.
        """
        path = logdir / config.run_name
        if path.is_dir() and not resume:
            with training_lock(path):
                _move_aside(path)
        if (path / "config.json").exists():
            found = cls.open(path)
            for name, asked in config.identity.items():
                there = getattr(found.config, name)
                if asked != there:
                    raise RunDirectoryError(
                        f"{path} holds a run with {name}={there}, not "
                        f"{asked}. Choose another logdir.",
                        "logdir",
                    )
            return cls(path, config, found.stretches)
        if path.exists() and _holds_something(path):
            raise RunDirectoryError(
                f"{path} exists and is not a run directory: it has no "
                "config.json. Choose another logdir.",
                "logdir",
            )
        run = cls(path, config)
        run.write_config()
        return run

    def write_config(self) -> None:
        """Writes the settings and stretches.

        Raises:
            RunDirectoryError: if the directory cannot be written.
        """
        content = {
            "format": FORMAT,
            "datasource": self.config.datasource,
            "config": dataclasses.asdict(self.config),
            "stretches": self.stretches,
        }
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomically(
                self.path / "config.json", json.dumps(content, indent=2)
            )
        except OSError as e:
            raise RunDirectoryError(
                f"Cannot write to {self.path} ({e.strerror}). Choose another "
                "logdir.",
                "logdir",
            ) from e

    def begin_stretch(self, iteration: int) -> str:
        """Records what trains from now on; writes config.json.

        Args:
            iteration: iterations done before.

        Returns:
            How that differs from the stretch before, in words; empty if it
            does not, or if there was none.
        """
        now = {"from_iteration": iteration, **provenance()}
        before = self.stretches[-1] if self.stretches else None
        self.stretches.append(now)
        self.write_config()
        return difference(before, now) if before and iteration else ""

    @classmethod
    def open(cls, path: pathlib.Path) -> "RunDirectory":
        """Opens the directory of an earlier run.

        Raises:
            RunDirectoryError: if it is not one, or has another format.
        """
        try:
            content = read_json(path / "config.json")
        except OSError as e:
            wrong = (
                f"{path} is not a run directory: its config.json cannot be "
                f"read ({e.strerror})."
                if path.is_dir()
                else f"There is no run directory {path}."
            )
            raise RunDirectoryError(wrong + _available_runs(path.parent)) from e
        except ValueError as e:
            raise RunDirectoryError(
                f"{path / 'config.json'} is damaged: it is not JSON. "
                f"{_INSTEAD}",
                "logdir",
            ) from e
        found = content.get("format")
        if found != FORMAT:
            raise RunDirectoryError(
                f"{path} was written in format {found}; this version reads "
                f"format {FORMAT}. {_INSTEAD}",
                "logdir",
            )
        try:
            config = _config_of(content["datasource"], content["config"])
        except (KeyError, TypeError, ConfigError) as e:
            raise RunDirectoryError(
                f"{path / 'config.json'} does not hold the settings of an "
                f"experiment ({e}). {_INSTEAD}",
                "logdir",
            ) from e
        return cls(path, config, _stretches_of(content))


def _config_of(datasource: str, settings: dict[str, Any]) -> TrainingConfig:
    """Settings as stored; all must be there, so that none is made up.

    Raises:
        ConfigError: if some are missing, unknown or invalid.
        TypeError: if they are not a dictionary.
    """
    kind = find_source(datasource).config_class
    known = {field.name for field in dataclasses.fields(kind)}
    later = {name: x for name, x in _LATER.items() if name in known}
    settings = later | settings
    for names, wrong in (
        (known - set(settings), "missing"),
        (set(settings) - known, "unknown"),
    ):
        if names:
            raise ConfigError(f"{', '.join(sorted(names))}: {wrong}")
    try:
        return kind(**settings)
    except TypeError as e:
        raise ConfigError("a value has the wrong type") from e


def _stretches_of(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The stretches in a config.json; early ones hold versions only."""
    if "stretches" in content:
        return content["stretches"]
    return [{"from_iteration": 0, "versions": content.get("versions", {})}]


def _holds_something(path: pathlib.Path) -> bool:
    """Whether there is more than a kill at the very beginning leaves."""
    if not path.is_dir():
        return True
    return any(
        p.name != LOCK and not p.name.endswith(SCRATCH_SUFFIX)
        for p in path.iterdir()
    )


def _move_aside(path: pathlib.Path) -> None:
    number = 1
    while (aside := path.with_name(f"{path.name}.old{number}")).exists():
        number += 1
    os.rename(path, aside)


def _available_runs(logdir: pathlib.Path) -> str:
    if not logdir.is_dir() and logdir.name == "trained":
        return (
            " Trained networks are not part of the installed package: they are "
            "in the directory trained/ of its source repository. Give the path "
            "of that directory in a clone, or train a run first."
        )
    if not logdir.is_dir():
        return f" There is no directory {logdir}; train a run first."
    names = sorted(p.parent.name for p in logdir.glob("*/config.json"))
    if not names:
        return f" The directory {logdir} holds no run; train one first."
    return f" {logdir} holds:\n  " + "\n  ".join(names)
