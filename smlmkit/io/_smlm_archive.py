"""The ZIP archive of a ``.smlm`` file: its members, of which nothing is believed."""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from smlmkit.errors import FileFormatError, SmlmkitError
from smlmkit.io._common import Claims

_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, TypeError,
    KeyError, IndexError, RuntimeError, ArithmeticError, MemoryError,
)  # fmt: skip


class Archive:
    """The members of an archive that is open.

    Parameters
    ----------
    path : Path
        The file.
    members : ZipFile
        The archive.

    Attributes
    ----------
    path : Path
        The file.
    claims : Claims
        What is going to be read of it.
    """

    def __init__(self, path: Path, members: zipfile.ZipFile) -> None:
        self.path, self.claims = path, Claims(path)
        self._members = members

    def find(self, stated: str) -> zipfile.ZipInfo:
        """Find a member that can be read; no name leads out of the archive."""
        name = PurePosixPath(stated)
        if name.is_absolute() or ".." in name.parts:
            raise FileFormatError(
                f"{self.path}: {stated!r:.100} lies outside of the archive: not followed"
            )
        try:
            member = self._members.getinfo(str(name))
        except KeyError:
            raise FileFormatError(f"{self.path}: no {stated!r:.100} in the archive") from None
        if member.flag_bits & _ENCRYPTED:
            raise FileFormatError(f"{self.path}: {stated!r:.100} is encrypted")
        if member.compress_type not in _COMPRESSIONS:
            raise FileFormatError(
                f"{self.path}: {stated!r:.100} is compressed by method {member.compress_type}, "
                "expected DEFLATE"
            )
        return member

    def read(self, member: zipfile.ZipInfo) -> bytes:
        """Read as many bytes as are stated, however many there are; their sum is checked."""
        with self._members.open(member) as file:
            content = file.read(member.file_size)
        if len(content) != member.file_size:
            raise FileFormatError(
                f"{self.path}: {member.filename!r:.100} ends after {len(content):,} "
                f"of {member.file_size:,} bytes"
            )
        return content


@contextmanager
def opened_archive(path: Path) -> Iterator[Archive]:
    """Open an archive to read it; whatever fails means that it is damaged."""
    try:
        with zipfile.ZipFile(path) as members:
            names = members.namelist()
            if len(set(names)) < len(names):
                raise FileFormatError(f"{path}: two members of the archive have the same name")
            yield Archive(path, members)
    except SmlmkitError:
        raise
    except _DAMAGE as error:
        reason = str(error) or type(error).__name__
        raise FileFormatError(f"{path}: the .smlm archive is damaged: {reason}") from error


def has_member(file: BinaryIO, name: str) -> bool:
    """Tell whether a file is an archive with a member of this name."""
    try:
        with zipfile.ZipFile(file) as archive:
            return name in archive.namelist()
    except _DAMAGE:
        return False
