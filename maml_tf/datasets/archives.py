"""Reads small files, also from untrusted zip archives."""

import pathlib
import stat
import zipfile

from maml_tf.datasets.image_files import is_clutter
from maml_tf.errors import DataError

MAX_ARCHIVE_BYTES = 64 << 20
MAX_MEMBERS = 50_000
MAX_MEMBER_BYTES = 64 << 10
MAX_TOTAL_BYTES = 64 << 20


class SmallFilesArchive:
    """A zip archive of small files, which are read one by one into memory.

    Nothing is extracted to disk. The limits fit Omniglot (19 280 files of less
    than 1 kB) with room to spare.
    """

    def __init__(self, path: pathlib.Path):
        """
        Raises:
            DataError: if it is not a zip archive, or holds anything that an
                archive of images does not need.
        """
        self.path = path
        size = path.stat().st_size
        if size > MAX_ARCHIVE_BYTES:
            raise DataError(
                f"{path} is too large to be what it should be: {size} bytes, "
                f"at most {MAX_ARCHIVE_BYTES} are expected."
            )
        try:
            self._zip = zipfile.ZipFile(path)
        except OSError:
            raise
        except Exception as e:  # damage raises many types of errors
            raise DataError(
                f"{path} is not a whole zip archive ({e}); get it again."
            ) from e
        try:
            self._members = self._checked_members()
        except DataError:
            self.close()
            raise

    def __enter__(self) -> "SmallFilesArchive":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        self._zip.close()

    @property
    def names(self) -> list[str]:
        """Paths of the files, sorted."""
        return sorted(self._members)

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            DataError: if it is damaged or larger than the archive states.
        """
        try:
            with self._zip.open(self._members[name]) as file:
                content = file.read(MAX_MEMBER_BYTES + 1)
        except OSError:
            raise
        except Exception as e:  # zlib.error, BadZipFile, EOFError, ...
            raise DataError(
                f"{self.path} is damaged at {name} ({e}); get it again."
            ) from e
        if len(content) > MAX_MEMBER_BYTES:
            raise self._refused(name, "is larger than it says")
        return content

    def _checked_members(self) -> dict[str, zipfile.ZipInfo]:
        members = self._zip.infolist()
        if len(members) > MAX_MEMBERS:
            raise DataError(
                f"{self.path} has {len(members)} entries; at most "
                f"{MAX_MEMBERS} are expected."
            )
        if sum(member.file_size for member in members) > MAX_TOTAL_BYTES:
            raise DataError(
                f"{self.path} would take more than {MAX_TOTAL_BYTES} bytes "
                "unpacked; it is not what it should be."
            )
        files = {}
        for member in members:
            self._check(member)
            name = member.filename
            if member.is_dir() or is_clutter(name):
                continue
            if name in files:
                raise self._refused(name, "is there twice")
            files[name] = member
        return files

    def _check(self, member: zipfile.ZipInfo) -> None:
        name = member.orig_filename  # `filename` ends at a NUL
        parts = name.removesuffix("/").split("/")
        if (
            not {"", ".", ".."}.isdisjoint(parts)
            or "\\" in name
            or ":" in name
            or not name.isprintable()
        ):
            raise self._refused(name, "is not a plain relative path")
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise self._refused(name, "is a link or a special file")
        if member.flag_bits & 0x41:
            raise self._refused(name, "is encrypted")
        # Other methods are decompressed without a limit on memory.
        if member.compress_type not in (
            zipfile.ZIP_STORED,
            zipfile.ZIP_DEFLATED,
        ):
            raise self._refused(name, "is compressed in an unusual way")
        if member.file_size > MAX_MEMBER_BYTES:
            raise self._refused(name, f"takes {member.file_size} bytes")

    def _refused(self, name: str, why: str) -> DataError:
        return DataError(f"{self.path} is refused: its entry {name!r} {why}.")


def read_small(path: pathlib.Path) -> bytes:
    """The content of an unpacked file, cut off at the archives' limit.

    Raises:
        DataError: if it is not a regular file; opening a pipe would block.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file.")
    with open(path, "rb") as file:
        return file.read(MAX_MEMBER_BYTES)
