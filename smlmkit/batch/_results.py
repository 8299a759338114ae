"""What is to be done with a folder of acquisitions, and where its results lie."""

import shutil
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from smlmkit._atomic import make_folder
from smlmkit._checks import check_choice, check_whole
from smlmkit.batch.summary import read_records
from smlmkit.errors import InvalidInputError
from smlmkit.grid import check_pixel_size
from smlmkit.io.tables import list_tables

Format = Literal["ome-zarr", "tiff", "png"]

DEVIATION = "_deviation"
"""What the name of an acquisition's deviation ends with."""

_SUFFIX_OF_FORMAT = {"ome-zarr": ".ome.zarr", "tiff": ".tif", "png": ".png"}


class Acquisition(NamedTuple):
    """A table of localizations and what its results are called.

    Parameters
    ----------
    name : str
        The file's name without its suffix.
    file : Path
        The table.
    """

    name: str
    file: Path


def find_acquisitions(folder: Path) -> list[Acquisition]:
    """List the tables of localizations in a folder, sorted by name.

    Parameters
    ----------
    folder : Path
        The folder, or a single table. Hidden files are the system's own.

    Returns
    -------
    list of Acquisition
        The tables.

    Raises
    ------
    InvalidInputError
        If there are none.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.csv", "a.hdf5", "a.yaml", ".c.csv"):
    ...         Path(folder, name).touch()
    ...     [acquisition.name for acquisition in find_acquisitions(Path(folder))]
    ['a', 'b']
    """
    if folder.is_file():
        return [Acquisition(folder.stem, folder)]
    return sorted(Acquisition(path.stem, path) for path in list_tables(folder))


@dataclass(frozen=True)
class Options:
    """What a user asks for beside the estimator."""

    tile: int | None
    train: str | None
    formats: tuple[str, ...]
    ngff: str
    pyramid: str | None
    deviation: bool
    camera_pixel_size: float | None
    seed: int

    def check(self) -> None:
        """Refuse what would fail for every acquisition."""
        choices: list[tuple[str, object, tuple[object, ...]]] = [
            ("train", self.train, ("each", "pooled", None)),
            ("ngff", self.ngff, ("0.5", "0.4")),
            ("pyramid", self.pyramid, ("mean", "sum", None)),
            *(("formats", name, get_args(Format)) for name in self.formats),
        ]
        for name, value, known in choices:
            check_choice(name, value, known)
        if self.camera_pixel_size is not None:
            check_pixel_size(self.camera_pixel_size)
        check_whole("seed", self.seed, 0, 2**32 - 1)

    def key(self) -> dict[str, Any]:
        """Give what the results depend on."""
        return {name: value for name, value in asdict(self).items() if name != "formats"}

    @property
    def pictures(self) -> list[str]:
        """The formats beside OME-Zarr."""
        return sorted(set(self.formats) - {"ome-zarr"})


class Results:
    """Where what lies in the folder of results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records = folder / "records"
        self.models = folder / "models"
        self.work = folder / ".work"
        self.checkpoints = self.work / "checkpoints"
        self.ledger = self.work / "ledger.jsonl"

    def make_folders(self) -> None:
        for folder in (self.records, self.work):
            make_folder(folder)

    def image(self, name: str, format: str = "ome-zarr") -> Path:  # noqa: A002
        return self.folder / f"{name}{_SUFFIX_OF_FORMAT[format]}"

    def record(self, name: str) -> Path:
        return self.records / f"{name}.json"

    def counts(self, name: str) -> Path:
        return self.records / f"{name}.npz"

    def model(self, name: str) -> Path:
        return self.models / f"{name}.smlmkit"

    def stores(self, name: str, *, deviation: bool) -> list[Path]:
        """Name the OME-Zarrs of an acquisition."""
        names = [name, f"{name}{DEVIATION}"] if deviation else [name]
        return [self.image(one) for one in names]

    def points(self, name: str) -> Path:
        return self.work / "points" / name / "points.parquet"

    def remove_other_formats(self, name: str, options: Options, model: Path | None) -> None:
        """Remove what is left of other options, and pictures, which are drawn anew."""
        stale = [self.image(name, kind) for kind in _SUFFIX_OF_FORMAT if kind != "ome-zarr"]
        if model is None or model.stem != name:
            stale += [self.model(name), self.model(name).with_suffix(".json")]
        for path in stale:
            path.unlink(missing_ok=True)
        if not options.deviation:
            shutil.rmtree(self.image(f"{name}{DEVIATION}"), ignore_errors=True)

    def remove_records(self) -> None:
        """Forget what is known of the results of other parameters."""
        for name in read_records(self.records):
            self.record(name).unlink(missing_ok=True)
            self.counts(name).unlink(missing_ok=True)


def refuse_clashes(
    acquisitions: list[Acquisition], folder: Path, out: Path, *, deviation: bool
) -> None:
    """Refuse acquisitions whose results would have one name, and results among the tables.

    Parameters
    ----------
    acquisitions : list of Acquisition
        The tables.
    folder, out : Path
        The folder of the tables, and that of the results.
    deviation : bool
        Whether there will be deviations, too.

    Raises
    ------
    InvalidInputError
        If something would be written twice.
    """
    if folder.resolve() == out.resolve():
        raise InvalidInputError(f"{out}: the results need another folder than the tables")
    names = [one.name for one in acquisitions]
    if deviation:
        names += [f"{name}{DEVIATION}" for name in names]
    twice = sorted(name for name, n in Counter(map(str.casefold, names)).items() if n > 1)
    if twice:
        raise InvalidInputError(f"several tables are called {', '.join(twice)}: rename them")
