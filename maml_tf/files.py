"""Writing and reading files so that a crash or another process does no harm."""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

# TensorFlow takes paths that it reads for patterns. Such as hold one of these
# do not match themselves.
WILDCARDS = "[\\"
SCRATCH_SUFFIX = ".writing"  # of files that a crash may leave behind


def can_write_to(directory: pathlib.Path) -> bool:
    """Makes a directory unless it exists; whether it can be written."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(directory, os.W_OK)


def write_atomically(path: pathlib.Path, content: str | bytes) -> None:
    """Replaces a file's content; a crash leaves the old or the new one."""
    if isinstance(content, str):
        content = content.encode()
    scratch = path.with_name(f".{path.name}{SCRATCH_SUFFIX}")
    with open(scratch, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)


@contextlib.contextmanager
def scratch_directory(parent: pathlib.Path) -> Iterator[pathlib.Path]:
    """A directory to write in, on the disk of `parent`; removed at the end."""
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=".", suffix=SCRATCH_SUFFIX, dir=parent
    ) as scratch:
        yield pathlib.Path(scratch)


def replace_directory(
    new: pathlib.Path,
    target: pathlib.Path,
    aside: pathlib.Path,
    keep: bool = False,
) -> None:
    """Puts a directory in the place of another, or where there is none yet.

    A directory cannot be renamed over one with content, so the old one goes
    aside first: a kill between the two renames leaves it there.

    Args:
        new: the new directory, whole.
        target: its place.
        aside: where the old one goes, in place of what lies there.
        keep: leave the old one there, rather than remove it.
    """
    replaced = target.exists()
    if replaced:
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(target, aside)
    os.rename(new, target)
    if replaced and not keep:
        shutil.rmtree(aside, ignore_errors=True)


def has_wildcards(path: str | os.PathLike) -> bool:
    """Whether a path, as a pattern, may not match itself."""
    return any(character in os.fspath(path) for character in WILDCARDS)


def check_room_for_names(directory: pathlib.Path, length: int) -> None:
    """Checks that files below a directory can have names of some length.

    Raises:
        OSError: if the system refuses them.
    """
    name = "x" * 100
    longest = directory
    while len(str(longest)) < len(str(directory)) + length:
        longest /= name
    with contextlib.suppress(FileNotFoundError):
        os.stat(longest)


@contextlib.contextmanager
def readable_by_tensorflow(directory: pathlib.Path) -> Iterator[pathlib.Path]:
    """The directory, or a link to it by a path without `WILDCARDS`."""
    if not has_wildcards(directory):
        yield directory
        return
    with tempfile.TemporaryDirectory() as scratch:
        link = pathlib.Path(scratch) / "link"
        link.symlink_to(directory.absolute())
        yield link


@contextlib.contextmanager
def locked(path: pathlib.Path, busy: Exception) -> Iterator[None]:
    """Holds a lock that the system releases when the process ends.

    Args:
        path: the lock file; made if it is not there.
        busy: raised if another process holds the lock.
    """
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            raise busy from e
        yield


def read_bytes(path: pathlib.Path) -> bytes:
    """The content of a file.

    Raises:
        OSError: if it is no regular file or cannot be read.
    """
    if path.exists() and not path.is_dir() and not path.is_file():
        # Reading a pipe would wait for whoever writes to it.
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return path.read_bytes()


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """The object in a JSON file; an empty one if it holds anything else.

    So a file of ours has a known number under `format`, and whoever reads it
    checks that first.

    Raises:
        OSError: if it is no regular file or cannot be read.
        ValueError: if it is not JSON.
    """
    try:
        content = json.loads(read_bytes(path))
    except RecursionError as e:
        raise ValueError(f"{path} is nested too deeply") from e
    return content if isinstance(content, dict) else {}
