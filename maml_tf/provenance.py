"""The provenance of results: versions, commit, command, date."""

import datetime
import functools
import importlib.metadata
import pathlib
import platform
import shlex
import subprocess
import sys
from typing import Any

from maml_tf.version import __version__

_PACKAGES = ("tensorflow", "keras", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect results."""
    packages = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {
        "python": platform.python_version(),
        "maml_tf": __version__,
        **packages,
    }


def code() -> dict[str, Any]:
    """The running code: commit and versions.

    The commit is None outside a Git checkout; `dirty` says whether files that
    Git tracks differ from it.
    """
    return {**_checkout(), "versions": versions()}


def provenance() -> dict[str, Any]:
    """The running process: date, command and `code`."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat("T", "seconds"),
        "command": shlex.join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]),
        **code(),
    }


def difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Describes changes of commit and versions; empty if there are none."""
    changes = []
    if before.get("commit") != now["commit"]:
        earlier_commit = _short(before.get("commit"))
        changes.append(f"commit {earlier_commit}, now {_short(now['commit'])}")
    earlier = before.get("versions", {})
    for name, version in now["versions"].items():
        if earlier.get(name) != version:
            changes.append(
                f"{name} {earlier.get(name, 'unknown')}, now {version}"
            )
    return "; ".join(changes)


def _short(commit: str | None) -> str:
    return commit[:7] if commit else "unknown"


@functools.cache
def _checkout() -> dict[str, Any]:
    root = pathlib.Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()

    if not (root / ".git").exists():
        return {"commit": None, "dirty": None}
    try:
        commit = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": bool(changed)}
