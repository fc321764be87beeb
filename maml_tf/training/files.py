"""What training keeps in a directory, so that it can be resumed exactly.

checkpoints/     the newest ten states, see checkpoints.py
best/            the weights that did best in validation
train.csv        running means of the losses
validation.csv   what validation measured
tensorboard/     the same for TensorBoard
lock             kept by the process that trains
"""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Sequence

import tensorflow as tf

from maml_tf.errors import RunDirectoryError
from maml_tf.files import locked
from maml_tf.training.checkpoints import Checkpoints
from maml_tf.training.logs import IterationLog

LOCK = "lock"
LOSSES = ("pre_update", "post_update")


class TrainingFiles:
    """The files of a training.

    Attributes:
        log: takes rows of running means.
        checkpoints: of all that training changes.
        best: of the weights alone.
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
            path: the directory; made when training begins.
            state: all that training changes, by name: `weights`, and what
                else there is.
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
            iterations: how many are asked for in all.

        Returns:
            Those done already; 0 if there is no checkpoint.

        Raises:
            RunDirectoryError: if there are more, or no checkpoint is whole
                and fits.
        """
        done = self.checkpoints.restore_latest() or 0
        if done > iterations:
            raise RunDirectoryError(
                f"{self._path} was already trained for {done} iterations, more "
                f"than the {iterations} asked for. Ask for more, or choose "
                "another directory."
            )
        return done

    def validation_log(self, fields: Sequence[str]) -> IterationLog:
        """The log of validation, with these values in a row."""
        return IterationLog(
            self._path / "validation.csv",
            fields,
            self._tensorboard,
            renamed={"validation": "accuracy"},
        )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the directory, and keeps other processes from training there.

        Raises:
            RunDirectoryError: if there is one, or it cannot be made.
        """
        try:
            self._path.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise RunDirectoryError(
                f"Cannot write to {self._path} ({e.strerror}). Choose another "
                "directory."
            ) from e
        with training_lock(self._path):
            yield


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
