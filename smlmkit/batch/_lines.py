"""Files of lines to which one process appends: a line is in the file as a whole or not at all."""

import os
import threading
from pathlib import Path

from smlmkit.errors import OutputError


class LineFile:
    """A file open for appending lines, from any thread.

    Parameters
    ----------
    path : Path
        The file; it is made if it is missing.
    end : int
        Length in bytes of what is kept of the file; what comes after is cut off.

    Raises
    ------
    OutputError
        If the file cannot be opened or cut.
    """

    def __init__(self, path: Path, end: int) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            # Unbuffered: a buffer would hold on to a line that failed and write it again later.
            self._file = path.open("ab", buffering=0)
            self._file.truncate(end)
        except OSError as error:
            raise _cannot_write(path, error) from error

    def append(self, line: bytes) -> None:
        """Append one line and hand it to the operating system.

        Parameters
        ----------
        line : bytes
            The line with its newline.

        Raises
        ------
        OutputError
            If it cannot be written; nothing of it stays behind.
        """
        with self._lock:
            end = os.fstat(self._file.fileno()).st_size
            try:
                self._write(line)
            except BaseException as error:
                self._file.truncate(end)
                if isinstance(error, OSError):
                    raise _cannot_write(self._path, error) from error
                raise

    def sync(self) -> None:
        """Wait until everything is on the disk.

        Raises
        ------
        OutputError
            If the disk refuses it.
        """
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _cannot_write(self._path, error) from error

    def close(self) -> None:
        """Close the file; nothing happens if it is closed."""
        self._file.close()

    def _write(self, line: bytes) -> None:
        rest = memoryview(line)
        while rest:
            rest = rest[self._file.write(rest) :]


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(error.errno, f"{path}: cannot write: {error.strerror}")
