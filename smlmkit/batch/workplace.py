"""The hidden folder in which one run works on an output, and nobody else."""

import hashlib
import json
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smlmkit._atomic import make_folder
from smlmkit.batch.ledger import Ledger, locked
from smlmkit.errors import OutputError

_LEDGER = "ledger.jsonl"


@dataclass(frozen=True)
class Workplace:
    """Where a run keeps what it has done, in a folder named after its key.

    A folder of its own for each key: what workers of a run that was killed still write is not
    believed by a run with another key.

    Parameters
    ----------
    top : Path
        The folder for all runs on one output.
    key : mapping
        All that the outcome depends on, as JSON can hold it.
    """

    top: Path
    key: Mapping[str, Any]

    @property
    def key_digest(self) -> str:
        """A short text that stands for the key."""
        text = json.dumps(self.key, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    @property
    def folder(self) -> Path:
        """The folder of the run with this key."""
        return self.top / self.key_digest[:16]

    def open_ledger(self) -> Ledger:
        """Open the ledger of this run, to start it or to go on with it.

        Returns
        -------
        Ledger
            The open ledger.

        Raises
        ------
        OutputError
            If it cannot be read or written.
        """
        return Ledger.open(self.folder / _LEDGER, self.key)

    def refuse_other_runs(self, *, redo: bool) -> None:
        """Refuse to work beside the unfinished work of another run, or remove that.

        Parameters
        ----------
        redo : bool
            Whether to remove it.

        Raises
        ------
        ChangedRunError
            If there is such work; the message says in what the runs differ.
        """
        for folder in self._other_folders():
            if not redo and _holds_work(folder / _LEDGER):
                Ledger.open(folder / _LEDGER, self.key).close()
            shutil.rmtree(folder)

    def remove_all_but(self, files: Collection[str]) -> None:
        """Remove what is in this run's folder, but for the ledger and some files.

        Parameters
        ----------
        files : collection of str
            Paths in the folder, with slashes.

        Raises
        ------
        OutputError
            If something cannot be removed.
        """
        folders = []
        try:
            for path in self.folder.rglob("*"):
                name = path.relative_to(self.folder).as_posix()
                if path.is_dir() and not path.is_symlink():
                    folders.append(path)
                elif not (name in files or name.startswith(_LEDGER)):
                    path.unlink()
        except OSError as error:
            raise OutputError(
                error.errno, f"{error.filename}: cannot remove: {error.strerror}"
            ) from error
        for path in reversed(folders):  # what is inside comes first
            with suppress(OSError):  # not empty
                path.rmdir()

    def remove(self) -> None:
        """Remove this run's folder, as far as possible, and the whole if it was the last."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if not self._other_folders():
            shutil.rmtree(self.top, ignore_errors=True)

    def _other_folders(self) -> list[Path]:
        return [
            path
            for path in self.top.iterdir()
            if path.is_dir() and not path.is_symlink() and path != self.folder
        ]


@contextmanager
def open_workplace(output: Path, key: Mapping[str, Any]) -> Iterator[Workplace]:
    """Give the workplace for an output to one process at a time.

    Parameters
    ----------
    output : Path
        What will be made; the workplace lies beside it.
    key : mapping
        All that the outcome depends on, as JSON can hold it.

    Yields
    ------
    Workplace
        The workplace.

    Raises
    ------
    OutputError
        If another process is at work, or the folder cannot be made or is a link.
    """
    top = output.with_name(f".{output.name}.work")
    if top.is_symlink():
        raise OutputError(f"{top}: a link to somewhere else is no place to work in")
    place = Workplace(top, key)
    make_folder(top)
    with locked(top / "lock"):
        try:
            yield place
        except BaseException:
            if not _holds_work(place.folder / _LEDGER):
                place.remove()
            raise


def _holds_work(ledger: Path) -> bool:
    """Tell whether anything but a key is in a ledger."""
    if not ledger.exists():
        return False
    with ledger.open("rb") as lines:
        return sum(1 for _ in lines) > 1
