"""Writing files so that a reader finds the old content or the new."""

import os
import pathlib

SCRATCH_SUFFIX = ".writing"  # of what a crash may leave behind


def write_atomically(path: pathlib.Path, content: str | bytes) -> None:
    """Replaces a file's content; a crash leaves the old or the new, whole."""
    if isinstance(content, str):
        content = content.encode()
    scratch = path.with_name(f".{path.name}{SCRATCH_SUFFIX}")
    with open(scratch, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)
