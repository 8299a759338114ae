"""What happens during a long run: lines in a log, and bars on the screen."""

import json
import mmap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smlmkit.batch._closing import ClosedAtTheEnd
from smlmkit.batch._lines import LineFile
from smlmkit.errors import OutputError

if TYPE_CHECKING:
    from tqdm import tqdm

Advance = Callable[[int], None]


class EventLog(ClosedAtTheEnd):
    """A file that tells what happened when: a line of JSON an event.

    Events are added after those of earlier runs, from any thread of one process. Close it, or use
    it as a context manager.

    Parameters
    ----------
    path : Path
        The file, ``log.jsonl`` by custom; its folder must be there. A last line that a killed
        process left unfinished is cut off.

    Raises
    ------
    OutputError
        If the file cannot be written.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with EventLog(Path(folder, "log.jsonl")) as log:
    ...         log.write("field done", field="fov1", seconds=4.5)
    ...     print(Path(folder, "log.jsonl").read_text())
    {"time": "...+00:00", "event": "field done", "field": "fov1", "seconds": 4.5}
    """

    def __init__(self, path: Path) -> None:
        self._file = LineFile(path, _end_of_last_line(path))

    def write(self, event: str, /, **facts: Any) -> None:
        """Add an event with the present time, in UTC.

        Parameters
        ----------
        event : str
            What happened.
        **facts : Any
            What else there is to say; what JSON cannot hold stands as text.

        Raises
        ------
        OutputError
            If it cannot be written, because the disk is full, say.
        """
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": time, "event": event, **facts}, default=str)
        self._file.append(f"{line}\n".encode())

    def close(self) -> None:
        """Close the file; nothing happens the second time."""
        self._file.close()


class Progress(ClosedAtTheEnd):
    """Bars that show how far a run is: count, rate and time left, in terminals and notebooks.

    Parameters
    ----------
    enabled : bool, optional
        Whether bars are shown; by default only where standard error is a terminal, and in
        notebooks.

    Notes
    -----
    There is one bar for each kind of things that are counted, `unit`. Stages of one kind that are
    at work at once, on several fields, share its bar: it adds up what they do. Bars vanish when
    their last stage ends, however it ends; `close` removes all of them, for good.

    Examples
    --------
    >>> progress = Progress(enabled=False)
    >>> with progress.stage("fov1: tiles", total=100, unit="tile", done=40) as advance:
    ...     advance(60)
    """

    def __init__(self, enabled: bool | None = None) -> None:
        self._disable = None if enabled is None else not enabled
        self._bars: dict[str, _SharedBar] = {}
        self._lock = threading.RLock()

    @contextmanager
    def stage(self, label: str, total: int, unit: str, *, done: int = 0) -> Iterator[Advance]:
        """Show the progress of a stage while it is at work.

        Parameters
        ----------
        label : str
            What is being done.
        total : int
            How many things there are to do.
        unit : str
            What is counted: "tile".
        done : int, default=0
            How many were done by an earlier run; they say nothing about the rate.

        Yields
        ------
        callable
            To be called, from any thread, with the number of things that were done since.
        """
        stage = _Stage(label, total, done)
        with self._lock:
            bar = self._bars.get(unit)
            if bar is None:
                bar = self._bars[unit] = _SharedBar(unit, self._disable)
            bar.join(stage)

        def advance(n: int) -> None:
            with self._lock:
                bar.advance(stage, n)

        try:
            yield advance
        finally:
            with self._lock:
                bar.leave(stage)
                if not bar.stages:
                    self._bars.pop(unit, None)

    def close(self) -> None:
        """Remove all bars; stages that are still at work, or begin later, show none."""
        with self._lock:
            self._disable = True
            for bar in self._bars.values():
                bar.close()


@dataclass(eq=False)
class _Stage:
    label: str
    total: int
    done: int


@dataclass
class _SharedBar:
    """One bar of tqdm for all stages that count the same things."""

    unit: str
    disable: bool | None
    stages: list[_Stage] = field(default_factory=list)
    _total: int = field(default=0, init=False)
    _bar: "tqdm[Any]" = field(init=False)

    def __post_init__(self) -> None:
        from tqdm.auto import tqdm

        self._bar = tqdm(
            total=0,
            unit=f" {self.unit}",
            disable=self.disable,
            dynamic_ncols=True,
            miniters=1,  # else a burst of many would hide the few that follow
            leave=False,
        )

    def join(self, stage: _Stage) -> None:
        self.stages.append(stage)
        if not self._bar.disable:
            # Not by update(): what an earlier run did would count as speed.
            self._bar.initial += stage.done
            self._bar.last_print_n += stage.done
            self._bar.n += stage.done
        self._show_stages(stage.total)

    def advance(self, stage: _Stage, n: int) -> None:
        stage.done += n
        self._bar.update(n)

    def leave(self, stage: _Stage) -> None:
        self.stages.remove(stage)
        if self.stages:
            self._show_stages(stage.done - stage.total)  # what it did not do, nobody will
        else:
            self.close()

    def close(self) -> None:
        self._bar.close()

    def _show_stages(self, more: int) -> None:
        self._total += more
        self._bar.total = self._total
        if widgets := getattr(self._bar, "container", None):  # of a notebook
            widgets.children[1].max = self._total
        n_others = len(self.stages) - 1
        others = f" +{n_others}" if n_others else ""
        self._bar.set_description(f"{self.stages[-1].label}{others}")


def _end_of_last_line(path: Path) -> int:
    """Give the length of a file up to its last newline."""
    try:
        if not path.exists() or path.stat().st_size == 0:
            return 0
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            return text.rfind(b"\n") + 1
    except OSError as error:
        raise OutputError(error.errno, f"{path}: cannot read: {error.strerror}") from error
