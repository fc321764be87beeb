"""Checkpoints that are written atomically and checked when read."""

import hashlib
import json
import pathlib
import shutil

import numpy as np
import tensorflow as tf
from absl import logging

from maml_tf.errors import RunDirectoryError, TrainingDivergedError, reason
from maml_tf.files import (
    readable_by_tensorflow,
    replace_directory,
    write_atomically,
)

_MANIFEST = "manifest.json"
_SCRATCH = ".writing"


class Checkpoints:
    """The newest states of a run, one directory per iteration.

    A checkpoint is written by `tf.train.Checkpoint` into a scratch directory,
    listed with checksums in a manifest and then renamed to its place.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        state: dict[str, list[tf.Variable]],
        keep: int = 10,
    ):
        """
        Args:
            directory: where the checkpoints are; created when first needed.
            state: variables by name, saved and restored in their order. A
                reader may name fewer than the writer did.
            keep: how many of the newest to keep.
        """
        self._directory = directory
        self._state = state
        self._keep = keep

    def iterations(self) -> list[int]:
        """The iterations that have a checkpoint, ascending."""
        return sorted(
            int(path.name)
            for path in self._directory.glob("[0-9]*")
            if path.name.isdigit() and path.is_dir()
        )

    def save(self, iteration: int) -> None:
        """Writes the state; deletes the oldest checkpoints, and later ones.

        There are later ones if training resumed from an older one.

        Raises:
            TrainingDivergedError: if a value of the state is not finite;
                then nothing is written.
            RunDirectoryError: if it cannot be written.
        """
        for name, variables in self._state.items():
            if not all(np.isfinite(v.numpy()).all() for v in variables):
                raise TrainingDivergedError(
                    f"At iteration {iteration} the {name} hold values that "
                    "are not finite; they were not saved. Lower the step "
                    "sizes alpha and beta.",
                    "alpha",
                    "beta",
                )
        scratch = self._directory / _SCRATCH
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            scratch.mkdir(parents=True)
            tf.train.Checkpoint(**self._state).write(str(scratch / "state"))
            manifest = {"iteration": iteration, "sha256": _checksums(scratch)}
            write_atomically(
                scratch / _MANIFEST, json.dumps(manifest, indent=2)
            )
        except (tf.errors.OpError, OSError) as e:
            shutil.rmtree(scratch, ignore_errors=True)
            raise RunDirectoryError(
                f"Cannot write a checkpoint to {self._directory} "
                f"({reason(e)}). Free some space, or choose another logdir.",
                "logdir",
            ) from e
        target = self._path(iteration)
        # There is one of this iteration if training resumed from an older one:
        # it is damaged, or was written just before a kill.
        damaged = target.exists() and self._damage(iteration) is not None
        aside = target.with_name(f"damaged-{target.name}")
        replace_directory(scratch, target, aside, keep=damaged)
        iterations = self.iterations()
        kept = [i for i in iterations if i <= iteration][-self._keep :]
        for old in set(iterations) - set(kept):
            shutil.rmtree(self._path(old))

    def restore_latest(self) -> int | None:
        """Restores the newest intact checkpoint.

        A damaged one is logged, and the one before it is tried.

        Returns:
            Its iteration, or None if there is no checkpoint at all.

        Raises:
            RunDirectoryError: if there are checkpoints and all are damaged,
                or the state does not fit.
        """
        iterations = self.iterations()
        for iteration in reversed(iterations):
            damage = self._damage(iteration)
            if damage is None:
                self._read(iteration)
                return iteration
            logging.warning(
                "Checkpoint %s is damaged (%s); trying the one before it.",
                self._path(iteration),
                damage,
            )
        if iterations:
            raise RunDirectoryError(
                f"All checkpoints in {self._directory} are damaged. Restore a "
                "backup of it, or delete it and train again."
            )
        return None

    def restore(self, iteration: int) -> None:
        """Restores a given checkpoint.

        Raises:
            RunDirectoryError: if it is missing, damaged or does not fit.
        """
        if iteration not in self.iterations():
            raise RunDirectoryError(
                f"{self._directory} has no checkpoint of iteration "
                f"{iteration}. It has: {self.iterations()}"
            )
        damage = self._damage(iteration)
        if damage is not None:
            raise RunDirectoryError(
                f"Checkpoint {self._path(iteration)} is damaged ({damage}). "
                "Choose another iteration."
            )
        self._read(iteration)

    def _path(self, iteration: int) -> pathlib.Path:
        return self._directory / f"{iteration:08d}"

    def _damage(self, iteration: int) -> str | None:
        """Describes damage to a checkpoint's files; None if there is none."""
        path = self._path(iteration)
        try:
            manifest = json.loads((path / _MANIFEST).read_text())
            recorded = dict(manifest["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            return f"no readable {_MANIFEST}"
        if manifest.get("iteration") != iteration:
            return f"{_MANIFEST} is of iteration {manifest.get('iteration')}"
        found = _checksums(path)
        for name in recorded:
            if found.get(name) != recorded[name]:
                return f"{name} is missing or was changed"
        return None

    def _read(self, iteration: int) -> None:
        path = self._path(iteration)
        status = None
        try:
            with readable_by_tensorflow(path) as readable:
                status = tf.train.Checkpoint(**self._state).read(
                    str(readable / "state")
                )
            status.assert_existing_objects_matched()
        except (AssertionError, ValueError, tf.errors.OpError) as e:
            raise RunDirectoryError(
                f"Checkpoint {path} does not fit the network of this run "
                f"({str(e).splitlines()[0]}). It was written by another "
                "version, or for images of another size or settings other "
                "than those of config.json and the data set now."
            ) from e
        finally:
            if status is not None:
                status.expect_partial()  # else a warning for each variable


def _checksums(directory: pathlib.Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.iterdir())
        if path.name != _MANIFEST
    }
