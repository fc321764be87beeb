"""Atomic writes: a reader finds a file's old content or its new one."""

import os
import pathlib

SCRATCH_SUFFIX = ".writing"  # of files that a crash may leave behind


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
