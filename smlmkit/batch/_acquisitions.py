"""The work on a folder of acquisitions: several at once, each driven by a thread."""

import shutil
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from smlmkit.batch._collecting import collect_warnings
from smlmkit.batch._models import Models
from smlmkit.batch._results import DEVIATION, Acquisition, Options, Results
from smlmkit.batch._tables import Tables
from smlmkit.batch.events import EventLog
from smlmkit.batch.field import reconstruct_field
from smlmkit.batch.identity import file_digests, file_state
from smlmkit.batch.jobs import Jobs
from smlmkit.batch.ledger import Ledger, checksum, verify
from smlmkit.batch.points import TiledPoints
from smlmkit.batch.records import Measurement, draw_pictures, measure
from smlmkit.batch.running import is_disk_full
from smlmkit.batch.summary import Record, read_records, write_record, write_summary
from smlmkit.errors import (
    ChangedRunError,
    ClusterError,
    FileFormatError,
    SmlmkitError,
    StoppedError,
)

_MOST_AT_ONCE = 8
# Writing the summary anew after each of very many small acquisitions would take most of the time.
_SECONDS_BETWEEN_SUMMARIES = 5.0
# The small files of an OME-Zarr of either version; without them its chunks are nothing.
_METADATA = {"zarr.json", ".zattrs", ".zgroup", ".zarray"}


@dataclass(frozen=True)
class FolderRun:
    """A run over a folder: several acquisitions at once, each driven by a thread."""

    options: Options
    results: Results
    ledger: Ledger
    log: EventLog
    jobs: Jobs
    tables: Tables
    models: Models
    redo: bool
    about: dict[str, Any]

    def reconstruct_all(self, acquisitions: list[Acquisition]) -> pd.DataFrame:
        """Do what is missing, and keep the summary up to date."""
        self.log.write("run started", acquisitions=len(acquisitions))
        if self.redo:
            # It may be killed; then the next run has to replace what this one would have.
            self.ledger.add("redo", True)
        with self._crew(len(acquisitions)) as crew:
            self.models.choose_tables(acquisitions, crew.map, redo=self.redo)
            done = [one for one in acquisitions if self._is_done(one)]
            write_record(self.results.folder / "run.json", self.about)
            is_drawn = crew.map(self._is_drawn, done)
            done = [one for one, drawn in zip(done, is_drawn, strict=True) if drawn]
            missing = sorted(set(acquisitions) - set(done))
            for one in missing:
                self._forget(one)
            if missing:
                self.models.train_on_all(acquisitions, crew.map)
            known = read_records(self.results.records)
            records = {one.name: known[one.name] for one in done}
            last_summary = time.monotonic()
            with self.jobs.progress.stage(
                "acquisitions", len(acquisitions), "acquisition", done=len(done)
            ) as advance:
                for future in as_completed([crew.submit(self._do, one) for one in missing]):
                    record = future.result()
                    records[record["acquisition"]] = record
                    if time.monotonic() - last_summary > _SECONDS_BETWEEN_SUMMARIES:
                        write_summary(self.results.folder, records.values())
                        last_summary = time.monotonic()
                    advance(1)
            for one in done:
                self.tables.remove(one.name)
        self.log.write("run ended")
        summary = write_summary(self.results.folder, records.values())
        summary.attrs["n_tried"] = len(missing)
        return summary

    @contextmanager
    def _crew(self, n_acquisitions: int) -> Iterator[ThreadPoolExecutor]:
        """Give the threads that drive acquisitions; whatever ends the block stops them."""
        # While one of them reads or writes, a cluster is to have enough to do, also when its
        # workers have yet to come.
        n_at_once = 1 if self.jobs.client is None else min(_MOST_AT_ONCE, n_acquisitions)
        crew = ThreadPoolExecutor(n_at_once, thread_name_prefix="smlmkit-acquisitions")
        try:
            yield crew
        except BaseException as error:
            if self.jobs.stop is not None:
                self.jobs.stop.set()
            crew.shutdown(cancel_futures=True)
            self.log.write("run stopped", reason=_say(error))
            raise
        finally:
            crew.shutdown()

    def _is_done(self, one: Acquisition) -> bool:
        entry = self.ledger.done.get(f"done {one.name}")
        if entry is None or not self._is_whole(one.name, entry):
            return False
        try:
            is_same_file = entry["state"] == file_state(one.file) or (
                entry["digests"] == file_digests(one.file)
            )
        except (OSError, FileFormatError):  # it is tried, and its record will say why it failed
            return False
        is_same_training = entry["trained_on"] == self.models.trained_on(entry["points"])
        if is_same_file and is_same_training:
            return True
        if not self.redo:
            what = f"{one.file} has changed" if not is_same_file else "other tables are trained on"
            raise ChangedRunError(
                f"{what} since {one.name} was reconstructed: pass redo=True to replace the "
                "result, or choose another output"
            )
        return False

    def _is_whole(self, name: str, entry: dict[str, Any]) -> bool:
        """Tell whether all that came of an acquisition is there."""
        model = self.models.file(name)
        return (
            (model is None or model.exists())
            and verify(self.results.folder, entry["images"])
            and verify(self.results.folder, entry["files"])
        )

    def _is_drawn(self, one: Acquisition) -> bool:
        """Draw the pictures that a finished image lacks; tell whether they are there now."""
        try:
            self._draw(one.name, only_missing=True)
        except Exception as error:
            if self._befalls_all(error):
                raise
            if isinstance(error, FileFormatError):
                self._remove_images(one.name)
            self.log.write("error", acquisition=one.name, traceback=_trace(error))
            return False
        return True

    def _forget(self, one: Acquisition) -> None:
        """Have an acquisition begin anew, without images that are damaged."""
        entry = self.ledger.done.get(f"done {one.name}")
        if entry is not None:
            if not verify(self.results.folder, entry["images"]):
                self._remove_images(one.name)
            self.ledger.add(f"done {one.name}", None)
            self.ledger.add(f"seconds {one.name}", {})
        if self._replaces:
            model = self.models.file(one.name)
            self.results.remove_other_formats(one.name, self.options, model)

    @property
    def _replaces(self) -> bool:
        """Whether images of other runs are replaced: now, or by a run that this one finishes."""
        return "redo" in self.ledger.done

    def _do(self, one: Acquisition) -> Record:
        """Give the record of an acquisition, whatever becomes of it, and keep it."""
        self.log.write("acquisition started", acquisition=one.name)
        seconds = dict(self.ledger.done.get(f"seconds {one.name}", {}))
        record: Record = {
            "acquisition": one.name,
            "file": one.file.name,
            "status": "failed",
            "error": None,
            "image": None,
            "seconds": seconds,
        }
        with collect_warnings() as warned:
            try:
                with _timed(seconds, "total"):
                    self._reconstruct(one, record)
                record["status"] = "done"
            except Exception as error:
                if self._befalls_all(error):
                    raise
                record["error"] = _say(error)
                self.log.write("error", acquisition=one.name, traceback=_trace(error))
            finally:
                self.ledger.add(f"seconds {one.name}", seconds)
        record["warnings"] = [*warned, *record.get("warnings", [])]
        write_record(self.results.record(one.name), record)
        if record["status"] == "done":
            self._remember(one)
        self.log.write(f"acquisition {record['status']}", acquisition=one.name)
        return record

    def _reconstruct(self, one: Acquisition, record: Record) -> None:
        """Make the image of an acquisition; add to its record what comes to be known."""
        seconds = record["seconds"]
        with _timed(seconds, "prepare"):
            prepared = self.tables.prepare(one)
        record |= prepared["facts"]
        record["warnings"] = list(prepared["warnings"])
        points = TiledPoints.open(self.results.points(one.name))
        with _timed(seconds, "train"):
            estimator = self.models.fitted(one.name, prepared["points"])
        trained_on = self.models.trained_on(prepared["points"])
        # Before the tiles: workers do better with long jobs first and short ones at the end.
        with _timed(seconds, "measure"):
            measured = self._measure(one.name, estimator, points, trained_on)
        with _timed(seconds, "tiles"):
            self._make_image(one.name, estimator, points, record)
        record["warnings"] += measured["warnings"]
        record |= {name: fact for name, fact in measured.items() if name != "warnings"}
        record["held_out_is_seen"] = prepared["points"] in trained_on
        if record["held_out_is_seen"]:
            record["warnings"].append(
                "the network was trained on this acquisition: its held-out scores are not held out"
            )
        with _timed(seconds, "draw"):
            record["warnings"] += self._draw(one.name)

    def _measure(
        self, name: str, estimator: Any, points: TiledPoints, trained_on: list[str]
    ) -> dict[str, Any]:
        """Score the reconstruction of an acquisition, unless an earlier run did."""
        of = [points.digest, trained_on]
        known = self.ledger.done.get(f"measured {name}")
        if known is None or known["of"] != of or not verify(self.results.folder, known["files"]):
            job = points.path, self.results.counts(name)
            facts = self.jobs.one(measure, Measurement(estimator, self.options.seed), job)
            files = checksum(self.results.folder, [self.results.counts(name)])
            known = {"of": of, "files": files, "facts": facts}
            self.ledger.add(f"measured {name}", known)
        facts_of_record: dict[str, Any] = known["facts"]
        return facts_of_record

    def _make_image(self, name: str, estimator: Any, points: TiledPoints, record: Record) -> None:
        deviation = self.results.image(f"{name}{DEVIATION}")
        result = reconstruct_field(
            estimator,
            points,
            self.results.image(name),
            tile=self.options.tile,
            client=self.jobs.client,
            ngff=self.options.ngff,  # type: ignore[arg-type]
            pyramid=self.options.pyramid,  # type: ignore[arg-type]
            deviation_store=deviation if self.options.deviation else None,
            redo=self._replaces,
            progress=self.jobs.progress,
            stop=self.jobs.stop,
        )
        record |= {
            "image": result.path.name,
            "height_px": result.shape[-2],
            "width_px": result.shape[-1],
            "pixel_size_nm": result.pixel_size,
        }

    def _draw(self, name: str, *, only_missing: bool = False) -> list[str]:
        """Write an image in the formats beside OME-Zarr; give what was warned of."""
        pictures = [self.results.image(name, kind) for kind in self.options.pictures]
        if only_missing:
            pictures = [path for path in pictures if not path.exists()]
        if not pictures:
            return []
        warned: list[str] = self.jobs.one(draw_pictures, self.results.image(name), tuple(pictures))
        return warned

    def _remember(self, one: Acquisition) -> None:
        """Write down that an acquisition is done, of which file and what training, and how."""
        prepared = self.ledger.done[f"points {one.name}"]
        folder, stores = self.results.folder, self._stores(one.name)
        metadata = [path for store in stores for path in store.rglob("*") if path.name in _METADATA]
        records = [self.results.record(one.name), self.results.counts(one.name)]
        known = {
            **{name: prepared[name] for name in ("state", "digests", "points")},
            "trained_on": self.models.trained_on(prepared["points"]),
            "images": checksum(folder, sorted(metadata)),
            "files": checksum(folder, records),
        }
        self.ledger.add(f"done {one.name}", known)
        self.tables.remove(one.name)

    def _stores(self, name: str) -> list[Path]:
        return self.results.stores(name, deviation=self.options.deviation)

    def _remove_images(self, name: str) -> None:
        for store in self._stores(name):
            shutil.rmtree(store, ignore_errors=True)

    def _befalls_all(self, error: Exception) -> bool:
        """Tell whether an error would be that of all other acquisitions, too."""
        client = self.jobs.client
        if isinstance(error, ClusterError):
            return client is not None and client.status != "running"
        return is_disk_full(error) or isinstance(error, StoppedError)


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Add the time that a block takes to that of earlier attempts."""
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = round(seconds.get(stage, 0.0) + time.perf_counter() - started, 3)


def _say(error: BaseException) -> str:
    """Put an error into words; a bare one has none of its own."""
    if isinstance(error, SmlmkitError):
        return str(error)
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def _trace(error: Exception) -> str:
    return "".join(traceback.format_exception(error))
