"""Downloads files whose size and checksum are known."""

import dataclasses
import hashlib
import http
import http.client
import os
import pathlib
import urllib.error
import urllib.request
from collections.abc import Sequence

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from maml_tf.errors import DataError

TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 1 << 16


@dataclasses.dataclass(frozen=True)
class Download:
    """A file to get."""

    name: str
    size: int
    md5: str


def download(
    base_url: str,
    files: Sequence[Download],
    directory: pathlib.Path,
    console: Console,
) -> None:
    """Downloads missing files.

    An interrupted download resumes where it stopped.

    Args:
        base_url: prefix of the files' names; ends with a slash.
        files: the files.
        directory: where to put them; created if needed.
        console: shows progress.

    Raises:
        DataError: if a file cannot be downloaded or is not the published one.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for file in files:
        target = directory / file.name
        if target.exists():
            if _md5(target) != file.md5:
                raise DataError(
                    f"{target} is not the file that was published. Delete it "
                    "to download it again, or import it as it is: give "
                    f"{directory} as the source."
                )
            continue
        try:
            _fetch(base_url + file.name, file, target, console)
        except (OSError, http.client.HTTPException) as e:
            reason = getattr(e, "reason", None) or e
            urls = " and ".join(base_url + f.name for f in files)
            raise DataError(
                f"Cannot download {base_url + file.name} ({reason}). Run the "
                f"same command again to go on; or download {urls} by hand and "
                "give their directory as the source."
            ) from e


def _fetch(
    url: str, file: Download, target: pathlib.Path, console: Console
) -> None:
    part = target.with_name(f"{target.name}.part")
    resumed = part.exists() and part.stat().st_size > 0
    _fetch_rest(url, file, part, console)
    if _md5(part) != file.md5 and resumed:
        # The partial file may have come from another file.
        part.unlink()
        _fetch_rest(url, file, part, console)
    if _md5(part) != file.md5:
        part.unlink()
        raise DataError(
            f"{url} is not the file that was published (its MD5 checksum is "
            "another); it was deleted."
        )
    os.replace(part, target)


def _fetch_rest(
    url: str, file: Download, part: pathlib.Path, console: Console
) -> None:
    """Downloads the rest of a partial file."""
    start = part.stat().st_size if part.exists() else 0
    if start > file.size:
        part.unlink()
        start = 0
    if start == file.size:
        return
    request = urllib.request.Request(url)
    if start:
        request.add_header("Range", f"bytes={start}-")
    with _open(request, part) as response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            start = 0  # The server sends the whole file.
        if not console.is_terminal:
            console.print(f"downloading {url}", soft_wrap=True)
        with (
            open(part, "r+b" if start else "wb") as output,
            _progress(console) as progress,
        ):
            output.seek(start)
            task = progress.add_task(
                file.name, completed=start, total=file.size
            )
            while chunk := response.read(_CHUNK):
                output.write(chunk)
                progress.advance(task, len(chunk))
                if output.tell() > file.size:
                    break
    size = part.stat().st_size
    if size < file.size:
        raise OSError(f"it stopped after {size} of {file.size} bytes")
    if size > file.size:
        part.unlink()
        raise DataError(
            f"{url} is larger than the file that was published; it was deleted."
        )


def _open(
    request: urllib.request.Request, part: pathlib.Path
) -> http.client.HTTPResponse:
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as e:
        if e.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        # The partial file cannot be the beginning of the server's file.
        e.close()
        part.unlink()
        request.remove_header("Range")
        return urllib.request.urlopen(request, timeout=TIMEOUT)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        DownloadColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        disable=not console.is_terminal,
    )


def _md5(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
