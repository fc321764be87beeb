"""Files of a training directory, from which training resumes exactly.

checkpoints/     the newest ten states, see checkpoints.py
best/            the weights that did best in validation
train.csv        running means of the losses
validation.csv   validation results
tensorboard/     the same for TensorBoard
provenance.json  what trained, in each stretch; of a run it is in config.json
lock             held by the process that trains
"""

import contextlib
import errno
import json
import os
import pathlib
from collections.abc import Iterator, Sequence

import tensorflow as tf

from maml_tf.errors import RunDirectoryError, reason
from maml_tf.files import (
    check_room_for_names,
    locked,
    read_json,
    write_atomically,
)
from maml_tf.provenance import difference, provenance
from maml_tf.training.checkpoints import Checkpoints
from maml_tf.training.logs import IterationLog

LOCK = "lock"
_FULL = {os.strerror(x) for x in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)}
# Of a file below the directory: TensorBoard's names hold that of the host.
_LONGEST_NAME = 320
LOSSES = ("pre_update", "post_update")


class TrainingFiles:
    """The files of one training.

    Attributes:
        log: rows of running means.
        checkpoints: checkpoints of everything that training changes.
        best: checkpoint of the weights that did best.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        state: dict[str, list[tf.Variable]],
        fields: Sequence[str] = LOSSES,
        tensorboard: bool = True,
    ):
        """
        Args:
            path: the directory; created when training begins.
            state: everything that training changes, by name, including
                `weights`.
            fields: names of the values in the log.
            tensorboard: write events for TensorBoard.
        """
        self._path = pathlib.Path(path)
        self._tensorboard = self._path / "tensorboard" if tensorboard else None
        self.log = IterationLog(
            self._path / "train.csv", fields, self._tensorboard
        )
        self.checkpoints = Checkpoints(self._path / "checkpoints", state)
        self.best = Checkpoints(
            self._path / "best", {"weights": state["weights"]}, keep=1
        )

    def restore(self, iterations: int) -> int:
        """Restores the newest checkpoint.

        Args:
            iterations: how many are requested in all.

        Returns:
            The number already done; 0 if there is no checkpoint.

        Raises:
            RunDirectoryError: if more were done, or no checkpoint is intact and
                fits.
        """
        done = self.checkpoints.restore_latest() or 0
        if done > iterations:
            raise RunDirectoryError(
                f"{self._path} was already trained for {done} iterations, more "
                f"than the {iterations} asked for. Ask for more, or choose "
                "another directory."
            )
        return done

    def begin_stretch(self, iteration: int) -> str:
        """Notes in provenance.json what trains from now on.

        Args:
            iteration: iterations done before.

        Returns:
            How that differs from what trained before, in words; empty if it
            does not, or nothing did.

        Raises:
            RunDirectoryError: if the file is damaged.
        """
        path = self._path / "provenance.json"
        try:
            stretches = read_json(path)["stretches"] if path.exists() else []
            before = stretches[-1] if stretches and iteration else None
        except (ValueError, LookupError, TypeError) as e:
            raise RunDirectoryError(
                f"{path} is damaged: it does not hold the stretches of "
                "training. Remove it, or choose another directory."
            ) from e
        now = {"from_iteration": iteration, **provenance()}
        content = {"stretches": [*stretches, now]}
        write_atomically(path, json.dumps(content, indent=2))
        return difference(before, now) if before else ""

    def validation_log(self, fields: Sequence[str]) -> IterationLog:
        """The log of validation, with these columns."""
        return IterationLog(
            self._path / "validation.csv",
            fields,
            self._tensorboard,
            renamed={"validation": "accuracy"},
        )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Creates the directory and keeps other processes from training there.

        Raises:
            RunDirectoryError: if another one is training there, or the
                directory cannot be created.
        """
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            check_room_for_names(self._path, _LONGEST_NAME)
        except (OSError, ValueError) as e:
            raise RunDirectoryError(
                f"Cannot write to {self._path} ({reason(e)}). Choose another "
                "directory."
            ) from e
        try:
            with training_lock(self._path):
                yield
        except (OSError, tf.errors.ResourceExhaustedError) as e:
            if reason(e) not in _FULL:
                raise
            raise RunDirectoryError(
                f"Cannot write to {self._path} ({reason(e)}). Make room; the "
                "same call then resumes from the last checkpoint."
            ) from e


def training_lock(path: pathlib.Path) -> contextlib.AbstractContextManager:
    """Keeps a second process from training in the same directory.

    Raises:
        RunDirectoryError: when entered, if there is one.
    """
    return locked(
        path / LOCK,
        RunDirectoryError(
            f"Another process is training in {path}. Wait for it, or choose "
            "another logdir.",
            "logdir",
        ),
    )
