"""The networks of a run over a folder: one for all acquisitions, one for each, or none to train."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smlmkit._atomic import make_folder
from smlmkit.batch._results import Acquisition, Results
from smlmkit.batch._tables import Tables
from smlmkit.batch.events import EventLog
from smlmkit.batch.jobs import Jobs
from smlmkit.batch.ledger import Ledger
from smlmkit.batch.training import Training, train_model, warnings_of_training, with_model
from smlmkit.errors import ChangedRunError, FileFormatError, InvalidInputError, SmlmkitWarning

_POOLED = "pooled"

Map = Callable[[Callable[[Acquisition], Any], list[Acquisition]], Iterable[Any]]
"""Does the same with several at once."""


@dataclass(frozen=True)
class Models:
    """The estimator, and the networks that it is trained to."""

    estimator: Any
    train: str | None
    tables: Tables
    results: Results
    ledger: Ledger
    jobs: Jobs
    log: EventLog

    def choose_tables(self, acquisitions: list[Acquisition], each: Map, *, redo: bool) -> None:
        """Write down which tables one network for all is trained on: those that can be read."""
        if self.train != "pooled":
            return
        tables = sorted(filter(None, each(self._digest_or_none, acquisitions)))
        before = self.ledger.done.get("tables")
        if before not in (None, tables) and not redo:
            raise ChangedRunError(
                f"{self._model(_POOLED)} was trained on other acquisitions than there are now: "
                "pass redo=True to train it anew, or choose another output"
            )
        self.ledger.add("tables", tables)

    def train_on_all(self, acquisitions: list[Acquisition], each: Map) -> None:
        """Train one network for all acquisitions, if that is wanted and an earlier run did not."""
        tables = self.ledger.done["tables"] if self.train == "pooled" else []
        if not tables or self._warnings(_POOLED, tables) is not None:
            return
        chosen = [one for one in acquisitions if self._digest_or_none(one) is not None]
        prepared = list(each(self.tables.prepare, chosen))
        # By their digests, so that the order of names plays no part.
        files = sorted(
            (known["points"], self.results.points(one.name))
            for one, known in zip(chosen, prepared, strict=True)
        )
        self._train(_POOLED, tables, tuple(file for _, file in files))

    def trained_on(self, table: str) -> list[str]:
        """List the tables which the network of one of them has seen."""
        if self.train == "pooled":
            tables: list[str] = self.ledger.done["tables"]
            return tables
        return [table] if self.train == "each" else []

    def fitted(self, name: str, table: str) -> Any:
        """Give the estimator, trained now or by an earlier run where it is to be trained."""
        tables = self.trained_on(table)
        if not tables:
            return self.estimator
        model = self.file(name)
        if self.train == "each":
            warned = self._warnings(name, tables)
            if warned is None:
                self._train(name, tables, (self.results.points(name),))
            else:
                _warn(warned)
        return with_model(self.estimator, model)  # type: ignore[arg-type]

    def file(self, name: str) -> Path | None:
        """Name the model file of an acquisition, if it has one."""
        if self.train is None:
            return None
        return self._model(_POOLED if self.train == "pooled" else name)

    def _digest_or_none(self, one: Acquisition) -> str | None:
        """Give the digest of a table; one that is no table fails again when its turn comes."""
        try:
            digest: str = self.tables.prepare(one, needs_file=False)["points"]
        except (FileFormatError, InvalidInputError) as error:
            self.log.write("left out of the training", acquisition=one.name, reason=str(error))
            return None
        return digest

    def _model(self, name: str) -> Path:
        return self.results.model(name)

    def _warnings(self, name: str, tables: list[str]) -> list[str] | None:
        """Give what the training warned of; None if there is no such model yet."""
        return warnings_of_training(self.estimator, tables, self._model(name))

    def _train(self, name: str, tables: list[str], files: tuple[Path, ...]) -> None:
        make_folder(self.results.models)
        # An event cannot travel to other processes; a training there goes on for a while.
        stop = self.jobs.stop if self.jobs.client is None else None
        training = Training(tuple(tables), files, self._model(name), self.results.checkpoints, stop)
        self.log.write("training started", model=name)
        _warn(self.jobs.one(train_model, self.estimator, training))
        self.log.write("training ended", model=name)


def _warn(texts: list[str]) -> None:
    for text in texts:
        warnings.warn(text, SmlmkitWarning, stacklevel=3)
