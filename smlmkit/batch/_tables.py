"""The tables of a folder's acquisitions, sorted by place for as long as they are needed."""

import shutil
from dataclasses import dataclass
from typing import Any

from smlmkit._atomic import make_folder
from smlmkit.batch._results import Acquisition, Results
from smlmkit.batch.identity import file_state
from smlmkit.batch.jobs import Jobs
from smlmkit.batch.ledger import Ledger
from smlmkit.batch.records import Source, prepare


@dataclass(frozen=True)
class Tables:
    """The sorted tables, and what the ledger knows of them."""

    results: Results
    ledger: Ledger
    jobs: Jobs
    camera_pixel_size: float | None

    def prepare(self, one: Acquisition, *, needs_file: bool = True) -> dict[str, Any]:
        """Have an acquisition's localizations sorted, unless an earlier run did."""
        points = self.results.points(one.name)
        known: dict[str, Any] | None = self.ledger.done.get(f"points {one.name}")
        is_known = known is not None and known["state"] == file_state(one.file)
        if known is not None and is_known and (points.exists() or not needs_file):
            return known
        make_folder(points.parent)
        source = Source(one.file, points, self.camera_pixel_size)
        prepared: dict[str, Any] = self.jobs.one(prepare, None, source)
        self.ledger.add(f"points {one.name}", prepared)
        return prepared

    def remove(self, name: str) -> None:
        """Remove the sorted table of an acquisition that is done."""
        shutil.rmtree(self.results.points(name).parent, ignore_errors=True)
