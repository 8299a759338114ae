"""What of a long run is done, kept in a file that survives the end of the process at any moment."""

import json
import re
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from filelock import BaseFileLock, FileLock, Timeout

from smlmkit._atomic import make_folder
from smlmkit.batch._closing import ClosedAtTheEnd
from smlmkit.batch._lines import LineFile
from smlmkit.errors import ChangedRunError, OutputError

Fingerprint = tuple[int, int]

_FORMAT_VERSION = 1
_SECONDS_BETWEEN_SYNCS = 5.0
_BLOCK_BYTES = 2**20
_MOST_DIFFERENCES = 5
_LONGEST_VALUE = 60
_ABSENT = object()
_LINE = re.compile(rb'\{"crc32": "([0-9a-f]{8})", (.*\})\n', re.DOTALL)


class Ledger(ClosedAtTheEnd):
    """What of a run is done: a record of each job, in a file that one process writes.

    Use `open` to get one, and close it, or use it as a context manager. Methods may be called from
    any thread.

    Parameters
    ----------
    file : LineFile
        The file, open for appending.
    lock : BaseFileLock
        The lock that this process holds.
    done : dict
        The records that are in the file.
    is_new : bool
        Whether the run starts now.

    Attributes
    ----------
    done : dict
        The record of each job that is done and kept in mind, by the job's name.
    is_new : bool
        Whether there was no run in the file to go on with. What else is left of an earlier run,
        its images say, is then not to be believed either.

    Notes
    -----
    The file has one line of JSON for the key and one for each record, each with the CRC-32 of what
    it says. A process that is killed leaves at most its last line torn. The lines up to the first
    one that does not fit its checksum are believed, the rest is cut off: those jobs are done again.

    A line is handed to the operating system at once, so nothing is lost if the process dies. It is
    on the disk after 5 seconds of work and on closing: a power cut costs the jobs since then. It
    may also cost files that the records name, so `verify` these before they are believed.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "ledger.jsonl")
    ...     with Ledger.open(path, {"tile": 512}) as ledger:
    ...         ledger.add("0.0", {"mass": 7.0})
    ...     with Ledger.open(path, {"tile": 512}) as ledger:
    ...         print(ledger.done)
    ...     with Ledger.open(path, {"tile": 1024}) as ledger:
    ...         pass
    Traceback (most recent call last):
    ...
    smlmkit.errors.ChangedRunError: ...tile: 512 before, 1024 now...
    """

    done: dict[str, Any]
    is_new: bool

    def __init__(
        self, file: LineFile, lock: BaseFileLock, done: dict[str, Any], *, is_new: bool
    ) -> None:
        self.done = done
        self.is_new = is_new
        self._file = file
        self._lock = lock
        self._last_sync = time.monotonic()

    @classmethod
    def open(cls, path: Path, key: Mapping[str, Any], *, redo: bool = False) -> Self:
        """Open the ledger of a run, to start it or to go on with it.

        Parameters
        ----------
        path : Path
            The file. Its folder is made if it is missing; a lock, ``<name>.lock``, lies beside it.
        key : mapping
            All that the outcome depends on, as JSON can hold it: input, parameters, versions.
        redo : bool, default=False
            Whether to forget what is done and to start anew.

        Returns
        -------
        Ledger
            The open ledger, with what is done.

        Raises
        ------
        ChangedRunError
            If the file is of a run with another key.
        OutputError
            If another process is at work on the same run, or the file cannot be read or written.
        """
        make_folder(path.parent)
        lock = _acquire(path.with_name(f"{path.name}.lock"))
        try:
            # As it will be read; NaN becomes text, for it would differ from itself.
            text = json.dumps({"ledger_format": _FORMAT_VERSION, **key})
            now = json.loads(text, parse_constant=str)
            before, done, end = (None, {}, 0) if redo else _read(path)
            if before is not None and before != now:
                raise ChangedRunError(
                    f"{path.parent} holds a run that began otherwise "
                    f"({_list_differences(before, now)}): pass redo=True to start it anew, or "
                    "choose another output"
                )
            ledger = cls(LineFile(path, end), lock, done, is_new=before is None)
            if before is None:
                ledger._append({"key": now})
                ledger._file.sync()
        except BaseException:
            lock.release()
            raise
        return ledger

    def add(self, name: str, record: Any, *, keep: bool = True) -> None:
        """Write down that a job is done.

        Parameters
        ----------
        name : str
            The job's name; of two records of one name, the later counts.
        record : Any
            What to remember of it, as JSON can hold it.
        keep : bool, default=True
            Whether `done` has it at once, not only when the run goes on. Of very many jobs the
            memory should hold no more than what is asked for later.

        Raises
        ------
        OutputError
            If it cannot be written, because the disk is full, say. The ledger stays usable.
        """
        self._append({"name": name, "record": record})
        if keep:
            self.done[name] = record
        now = time.monotonic()
        if now - self._last_sync >= _SECONDS_BETWEEN_SYNCS:
            self._last_sync = now
            self._file.sync()

    def close(self) -> None:
        """Bring everything to the disk and let other processes in; nothing happens the second time.

        Raises
        ------
        OutputError
            If the disk refuses it.
        """
        if not self._lock.is_locked:
            return
        try:
            self._file.sync()
        finally:
            self._file.close()
            self._lock.release()

    def _append(self, entry: dict[str, Any]) -> None:
        body = json.dumps(entry).encode()
        self._file.append(b'{"crc32": "%08x", %b\n' % (zlib.crc32(body), body[1:]))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes, and other threads of this one, from doing the same.

    Parameters
    ----------
    path : Path
        The file that is locked; it is made if it is missing.

    Yields
    ------
    None

    Raises
    ------
    OutputError
        If another one holds the lock, or there can be none.
    """
    lock = _acquire(path)
    try:
        yield
    finally:
        lock.release()


def checksum(folder: Path, files: Iterable[Path]) -> dict[str, Fingerprint | None]:
    """Say how to tell later whether files are still as they are now.

    Parameters
    ----------
    folder : Path
        The folder that holds them.
    files : iterable of Path
        The files, absolute or from the present directory, all inside of `folder`. They may be
        missing: that is a fact to remember, too.

    Returns
    -------
    dict
        By each file's path inside of `folder`, with slashes: its size in bytes and its CRC-32;
        None for one that is missing. For `Ledger.add` and `verify`.

    Raises
    ------
    OSError
        If a file is there and cannot be read.
    """
    return {file.relative_to(folder).as_posix(): _fingerprint(file) for file in files}


def verify(folder: Path, files: Mapping[str, Iterable[int] | None]) -> bool:
    """Tell whether files are as a record says.

    Parameters
    ----------
    folder : Path
        The folder that holds them.
    files : mapping
        What `checksum` gave, also after a ledger has written and read it.

    Returns
    -------
    bool
        False if a file is missing, cannot be read or has changed, or is there and was not.
    """
    try:
        return all(_is_as_before(folder / name, before) for name, before in files.items())
    except OSError:
        return False


def _is_as_before(file: Path, before: Iterable[int] | None) -> bool:
    if before is None:
        return not file.exists()
    size, _ = before = tuple(before)
    return file.stat().st_size == size and _fingerprint(file) == before


def _fingerprint(file: Path) -> Fingerprint | None:
    try:
        handle = file.open("rb")
    except FileNotFoundError:
        return None
    size = checksum = 0
    with handle:
        while block := handle.read(_BLOCK_BYTES):
            size += len(block)
            checksum = zlib.crc32(block, checksum)
    return size, checksum


def _acquire(path: Path) -> BaseFileLock:
    # Not bound to this thread: a ledger may be closed by another one.
    lock = FileLock(path, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise OutputError(f"{path.parent}: another process is at work here") from None
    except OSError as error:
        raise OutputError(error.errno, f"{path}: cannot lock: {error.strerror}") from error
    return lock


def _read(path: Path) -> tuple[Any, dict[str, Any], int]:
    """Give the key (None if there is none), the records and how many bytes hold them."""
    key, done, end = None, {}, 0
    try:
        with path.open("rb") as file:
            for line in file:
                entry = _parse(line)
                if key is None:
                    key = entry["key"]
                else:
                    done[entry["name"]] = entry["record"]
                end += len(line)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise OutputError(error.errno, f"{path}: cannot read: {error.strerror}") from error
    except (KeyError, TypeError, ValueError):
        pass  # neither this line nor what follows is believed
    return key, done, end


def _parse(line: bytes) -> Any:
    """Give what a line says; ValueError if it does not fit its checksum."""
    match = _LINE.fullmatch(line)
    if match is None or zlib.crc32(body := b"{" + match[2]) != int(match[1], 16):
        raise ValueError("a torn or garbled line")
    return json.loads(body)


def _list_differences(before: Any, now: Any) -> str:
    differences = list(_differences(before, now, ""))
    shown = differences[:_MOST_DIFFERENCES]
    if n_more := len(differences) - len(shown):
        shown.append(f"and {n_more} more")
    return "; ".join(shown)


def _differences(before: Any, now: Any, name: str) -> Iterator[str]:
    """Name each value that is not the same."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in before | now:
            yield from _differences(
                before.get(key, _ABSENT), now.get(key, _ABSENT), f"{name}.{key}".lstrip(".")
            )
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for position, values in enumerate(zip(before, now, strict=True)):
            yield from _differences(*values, f"{name}[{position}]")
    elif before != now:
        yield f"{name}: {_show(before)} before, {_show(now)} now"


def _show(value: Any) -> str:
    if value is _ABSENT:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"
