"""One field of view of any size, tile by tile, into an OME-Zarr that is whole or not there."""

import math
import os
import shutil
import threading
import time
import uuid
import warnings
from array import array
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, product
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from smlmkit import __version__
from smlmkit._atomic import check_output, move_into_place
from smlmkit._checks import check_choice
from smlmkit.batch._collecting import collect_warnings
from smlmkit.batch.events import Progress
from smlmkit.batch.identity import describe_estimator, digest_table, file_digests, file_state
from smlmkit.batch.jobs import Jobs
from smlmkit.batch.ledger import Ledger, checksum, verify
from smlmkit.batch.needs import needs_of, steps_of
from smlmkit.batch.plan import (
    check_opinions,
    check_tile,
    layouts_of,
    level_tiles,
    places_worth_work,
    plan_field,
    shard_side,
)
from smlmkit.batch.points import TiledPoints, sort_by_tiles
from smlmkit.batch.tile import (
    PixelWork,
    Place,
    Record,
    change_tile,
    change_tiles,
    reconstruct_tile,
    scale,
)
from smlmkit.batch.workplace import Workplace, open_workplace
from smlmkit.errors import (
    FileFormatError,
    InvalidInputError,
    InvalidTypeError,
    OutputError,
    SmlmkitWarning,
    UnusedRowsWarning,
)
from smlmkit.io.image_layout import ImageLayout
from smlmkit.io.ome_zarr import annotate, read_about
from smlmkit.io.ome_zarr_creation import fill_folder
from smlmkit.io.pyramids import halve, level_shapes
from smlmkit.localizations import Localizations
from smlmkit.tiling import FieldFacts, TileGrid

if TYPE_CHECKING:
    from distributed import Client

Table = Localizations | TiledPoints | Path


class FieldResult(NamedTuple):
    """What `reconstruct_field` made.

    Parameters
    ----------
    path : Path
        The OME-Zarr.
    n_localizations : int
        Localizations of the table.
    shape : tuple of int
        Shape of the image, ([channels,] [slices,] height, width).
    pixel_size : float
        Edge of a pixel in nm.
    mass_factor : float
        By what the output was multiplied so that its sum is the number of localizations; 1 where
        estimators do not scale.
    n_tiles : int
        Tiles of the field.
    n_done : int
        Pieces of work that were done now, and not in an earlier run.
    seconds : float
        Time that this run took.
    """

    path: Path
    n_localizations: int
    shape: tuple[int, ...]
    pixel_size: float
    mass_factor: float
    n_tiles: int
    n_done: int
    seconds: float


def reconstruct_field(
    estimator: Any,
    localizations: Localizations | TiledPoints | str | PathLike[str],
    store: str | PathLike[str],
    *,
    tile: int | None = None,
    halo: float | None = None,
    client: "Client | None" = None,
    ngff: Literal["0.5", "0.4"] = "0.5",
    pyramid: Literal["mean", "sum"] | None = "mean",
    deviation_store: str | PathLike[str] | None = None,
    redo: bool = False,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> FieldResult:
    """Reconstruct a field of view of any size, tile by tile, into an OME-Zarr.

    The result is that of the estimator on the whole table. What was finished when a run ended,
    in whatever way, is kept in a hidden folder beside the store; the same call goes on from there.

    Parameters
    ----------
    estimator : estimator or Pipeline
        Fitted where it needs to be. Each step says by ``tile_needs`` how far around a tile it sees.
    localizations : Localizations, TiledPoints or path-like
        The table, or its file. A Parquet file may be larger than memory.
    store : path-like
        Where the OME-Zarr will stand, ``*.ome.zarr``; it appears when it is whole. Workers on other
        machines must see the same path.
    tile : int, optional
        Side of a tile in pixels, a multiple of 256. By default at least 32 halos, from 1024 to
        4096, and such that no narrow tiles are left over.
    halo : float, optional
        How far around a tile the estimator sees, in nm, instead of what its steps say.
    client : distributed.Client, optional
        Whose workers to use, as soon as there are any; by default two threads of this process.
    ngff : {"0.5", "0.4"}, default="0.5"
        Version of OME-Zarr: Zarr 3 with a tile as a whole number of shards, or Zarr 2.
    pyramid : {"mean", "sum"} or None, default="mean"
        How pixels are joined in the coarser levels; None makes the finest level only.
    deviation_store : path-like, optional
        Where the deviation of the estimator's opinions goes, see `N2NReconstructor.predict`; in the
        folder of `store`.
    redo : bool, default=False
        Whether an output, or unfinished work, of other parameters is replaced. One of the same
        parameters is kept: delete it to have it made again.
    progress : Progress, optional
        Where to show how far the work is. By default nowhere.
    stop : threading.Event, optional
        Set it to stop as Ctrl-C does.

    Returns
    -------
    FieldResult
        Where the image is, and facts about it.

    Raises
    ------
    InvalidInputError
        If the estimator cannot work tile by tile, or a parameter cannot be used.
    ChangedRunError
        If unfinished work of other parameters is there and is not to be redone.
    OutputError
        If the store exists and was made otherwise, or writing fails: what was finished is kept.
    FileFormatError
        If the file of localizations cannot be read.
    ClusterError
        If the cluster is lost, or workers die again and again on one tile.
    StoppedError
        If `stop` was set.

    See Also
    --------
    reconstruct_dask : The same as a DataArray that is computed when it is needed.
    reconstruct_folder : Many acquisitions.

    Notes
    -----
    Counts and anisotropic density estimates of windows are those of the whole table to the last
    bit, Gaussians and networks to rounding in float32. Networks' outputs are written raw first; a
    second pass multiplies them with the one factor that makes their sum the number of
    localizations. The levels of the pyramid follow, each from the one before.

    Tiles without localizations are not worked on, and not stored where the output is 0.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from smlmkit import Localizations, Renderer, read_image, reconstruct_field
    >>> points = np.random.default_rng(0).uniform(0, 30_000, size=(1000, 2))
    >>> blinks = Localizations(points, field_of_view=(0, 0, 30_000, 30_000))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = reconstruct_field(Renderer(pixel_size=10), blinks, f"{folder}/field.ome.zarr")
    ...     image = read_image(made.path).load()
    >>> made.n_tiles, made.shape, float(image.sum())
    (9, (3000, 3000), 1000.0)
    """
    started = time.perf_counter()
    stores = [Path(path).absolute() for path in (store, deviation_store) if path is not None]
    table = _check_table(localizations)
    tile, halo = None if tile is None else int(tile), None if halo is None else float(halo)
    # What is refused at any size is refused before the points are sorted.
    check_choice("ngff", ngff, ("0.5", "0.4"))
    check_choice("pyramid", pyramid, ("mean", "sum", None))
    needs = needs_of(estimator, FieldFacts(None, defaultdict(float)), reach=halo)
    check_tile(tile, needs, ngff)
    _check_stores(stores)
    if deviation_store is not None:
        check_opinions(estimator)
    jobs = Jobs(client, stop, progress or Progress(enabled=False))
    key = {
        "smlmkit": __version__,
        "input": _digest(jobs, table),
        "estimator": describe_estimator(estimator),
        "tile": tile,
        "halo": halo,
        "ngff": ngff,
        "pyramid": pyramid,
        "deviation": deviation_store is not None,
    }
    with open_workplace(stores[0], key) as place:
        result = _finished(stores, place.key_digest, redo=redo)
        if result is None:
            place.refuse_other_runs(redo=redo)
            with place.open_ledger() as ledger:
                field = _Field(estimator, stores, place, ledger, jobs)
                result = field.reconstruct(table, key, redo=redo)
        place.remove()
    return result._replace(seconds=time.perf_counter() - started)


@dataclass
class _Field:
    """A field at work: its stages, each of many pieces that the ledger knows by name."""

    estimator: Any
    stores: list[Path]
    place: Workplace
    ledger: Ledger
    jobs: Jobs
    n_done: int = 0

    def reconstruct(self, table: Table, key: dict[str, Any], *, redo: bool) -> FieldResult:
        """Do what is missing, and move the images to their places."""
        names = ["image", "deviation"][: len(self.stores)]
        self._believe_what_is_whole([*names, *map(_raw, names)])
        points = self._points(table)
        images = [self.place.folder / name for name in names]
        work = plan_field(self.estimator, points, tuple(images), tile=key["tile"], halo=key["halo"])
        layouts, tiles, needs = layouts_of(work), work.tiles, work.needs
        self._warn_if_unfamiliar(points)
        self._create(images, layouts, tiles, key["ngff"], key["pyramid"])
        if needs.scales_to_mass:
            raws = [self.place.folder / _raw(name) for name in names]
            work = replace(work, images=tuple(raws))
            self._create(raws, layouts, tiles, key["ngff"], None)

        made = self._finish("tiles", reconstruct_tile, work, places_worth_work(work))
        made.warn()
        places = made.written
        factor = 1.0
        if needs.scales_to_mass:
            factor = made.mass_factor()
            for raw, image in zip(raws, images, strict=True):
                multiply = PixelWork((raw, 0), (image, 0), tiles, 1, partial(scale, factor=factor))
                self._finish(f"scaled {image.name}", change_tile, multiply, places)
        if key["pyramid"] is not None:
            for image in images:
                self._build_pyramid(image, tiles, key["pyramid"], places)

        result = FieldResult(
            path=self.stores[0],
            n_localizations=points.n_points,
            shape=layouts[0].shape,
            pixel_size=work.grid.pixel_size,
            mass_factor=factor,
            n_tiles=len(tiles),
            n_done=self.n_done,
            seconds=0.0,
        )
        about = {"run": {"key": self.place.key_digest, **_facts(result)}}
        for image in images:
            annotate(image, about, {"mass_factor": factor} if needs.scales_to_mass else {})
        _finished(self.stores, self.place.key_digest, redo=redo)  # something may have come there
        move_into_place(images, self.stores, overwrite=True, aside=self.place.folder)
        return result

    def _believe_what_is_whole(self, images: list[str]) -> None:
        """Forget and remove everything that is not as the ledger says."""
        done = self.ledger.done
        named_files = [(name, record["files"]) for name, record in done.items()]
        for (name, _), is_whole in self.jobs.each(_is_whole, self.place.folder, named_files):
            if not is_whole:
                del done[name]
        for image in images:
            if f"made {image}" not in done:
                for name in [name for name, record in done.items() if _lies_in(image, record)]:
                    del done[name]
        self.place.remove_all_but({file for record in done.values() for file in record["files"]})

    def _points(self, table: Table) -> TiledPoints:
        """Give the points sorted by tiles, as they are or as an earlier run left them."""
        if isinstance(table, TiledPoints):
            return table
        path = self.place.folder / "points.parquet"
        if "points" not in self.ledger.done:
            before = file_state(table) if isinstance(table, Path) else None
            if isinstance(table, Path):
                warned = self.jobs.one(_sort, path, table)
            else:
                warned = _sort(path, table)
            if isinstance(table, Path) and file_state(table) != before:
                raise FileFormatError(f"{table}: changed while it was read")
            files = checksum(self.place.folder, [path])
            self.ledger.add("points", {"files": files, "warnings": warned})
        for text in self.ledger.done["points"]["warnings"]:
            warnings.warn(text, UnusedRowsWarning, stacklevel=4)
        return TiledPoints.open(path)

    def _warn_if_unfamiliar(self, points: TiledPoints) -> None:
        """Have networks say whether they know such fields; filters before them play no part."""
        networks = steps_of(self.estimator)[-1]
        if hasattr(networks, "warn_if_unfamiliar"):
            networks.warn_if_unfamiliar(*self.jobs.one(_describe_points, None, points))

    def _create(
        self,
        images: list[Path],
        layouts: list[ImageLayout],
        tiles: TileGrid,
        ngff: Any,
        pyramid: Any,
    ) -> None:
        """Make empty images, unless they are there from an earlier run."""
        for path, layout in zip(images, layouts, strict=True):
            if f"made {path.name}" not in self.ledger.done:
                # On a worker: many acquisitions at once would keep the client from its workers.
                create = partial(
                    fill_folder, ngff=ngff, shard=shard_side(tiles), pyramid=pyramid, about={}
                )
                files = self.jobs.one(_create_image, create, (path, layout))
                self.ledger.add(f"made {path.name}", {"files": files})

    def _build_pyramid(
        self, image: Path, tiles: TileGrid, method: Any, places: Collection[Place]
    ) -> None:
        """Make every level of the one before it, where that is not empty."""
        join, shard = partial(halve, method=method), shard_side(tiles)
        small: list[PixelWork] = []
        for level, shape in enumerate(level_shapes(tiles.shape)[1:], start=1):
            finer, tiles = tiles, level_tiles(shape, shard)
            places = _coarser(places, finer, tiles)
            work = PixelWork((image, level - 1), (image, level), tiles, 2, join)
            if len(tiles) == 1:
                small.append(work)
            else:
                self._finish(f"level {level} {image.name}", change_tile, work, places)
        if small:
            self._finish(f"small levels {image.name}", change_tiles, small, places)

    def _finish(
        self,
        stage: str,
        function: Callable[[Any, Place], Record],
        work: Any,
        places: Collection[Place],
    ) -> "_Tiles":
        """Do what is missing of a stage; give what is to be known of its tiles."""
        tiles, missing = _Tiles(), []
        for place in places:
            record = self.ledger.done.pop(_name(stage, place), None)
            if record is None:
                missing.append(place)
            else:
                tiles.add(place, record)
        n_before = len(places) - len(missing)
        progress = self.jobs.progress
        with progress.stage(stage, total=len(places), unit="tile", done=n_before) as advance:
            for place, record in self.jobs.each(function, work, missing):
                self.ledger.add(_name(stage, place), record, keep=False)
                tiles.add(place, record)
                self.n_done += 1
                advance(1)
        return tiles


class _Tiles:
    """What later stages must know of the tiles of one: little, for there may be very many."""

    def __init__(self) -> None:
        self.written: list[Place] = []  # those that are not empty
        self._counted = array("d")
        self._mass = array("d")
        self._n_tiles = 0
        self._n_warned = 0
        self._warning: tuple[Place, str] | None = None  # of the first tile that gave one

    def add(self, place: Place, record: Record) -> None:
        self._n_tiles += 1
        if any(file is not None for file in record["files"].values()):
            self.written.append(place)
        if "mass" in record:
            self._counted.append(record["counted"])
            self._mass.append(record["mass"])
        if "warnings" in record:
            self._n_warned += 1
            warning = place, record["warnings"][0]
            self._warning = min(warning, self._warning or warning)

    def mass_factor(self) -> float:
        """Give the factor that makes the sum of the image the number of localizations."""
        from smlmkit.reconstruct.prediction import mass_factor

        return mass_factor(math.fsum(self._counted), math.fsum(self._mass))

    def warn(self) -> None:
        """Give the tiles' warnings as one: neighbours say the same of what lies in both halos."""
        if self._warning is not None:
            warnings.warn(
                f"{self._n_warned:,} of {self._n_tiles:,} tiles gave warnings, such as: "
                f"{self._warning[1]}",
                SmlmkitWarning,
                stacklevel=4,
            )


def _check_table(localizations: Any) -> Table:
    if isinstance(localizations, str | PathLike):
        return Path(localizations).absolute()  # workers may have another working directory
    if isinstance(localizations, Localizations | TiledPoints):
        return localizations
    raise InvalidTypeError(
        "localizations must be Localizations, TiledPoints or the path of a table, got "
        f"{type(localizations).__name__}"
    )


def _check_stores(stores: list[Path]) -> None:
    for path in stores:
        check_output(path, overwrite=True, is_folder=True)
    if len({path.parent for path in stores}) > 1 or len(set(stores)) < len(stores):
        raise InvalidInputError(
            f"deviation_store must be another one in the folder of the image, {stores[0].parent}, "
            f"got {stores[1]}"
        )


def _digest(jobs: Jobs, table: Table) -> Any:
    """Give a digest of the table that a field is made of."""
    if isinstance(table, TiledPoints):
        return table.digest
    if isinstance(table, Localizations):
        return digest_table(table)
    return jobs.one(_digests_of_file, None, table)


def _digests_of_file(_: None, file: Path) -> list[str]:
    return file_digests(file)


def _facts(result: FieldResult) -> dict[str, Any]:
    """Give what a later run may tell of a finished one; the same whatever happened on the way."""
    facts = result._asdict()
    for name in ("path", "n_done", "seconds"):
        del facts[name]
    return facts


def _finished(stores: list[Path], key_digest: str, *, redo: bool) -> FieldResult | None:
    """Give the result if all images are there already; refuse them if they are others."""
    runs = []
    there = [store for store in stores if os.path.lexists(store)]
    for store in there:
        about = read_about(store)
        if "run" not in about:
            raise OutputError(f"{store} was not made by reconstruct_field: it is not replaced")
        runs.append(about["run"])
    are_of_this_run = all(run.get("key") == key_digest for run in runs)
    if are_of_this_run and len(there) == len(stores):
        facts = {**runs[0], "shape": tuple(runs[0]["shape"])}
        del facts["key"]
        return FieldResult(path=stores[0], n_done=0, seconds=0.0, **facts)
    if not (are_of_this_run or redo):
        raise OutputError(
            f"{', '.join(map(str, there))}: made before with other parameters or another input; "
            "redo=True replaces it"
        )
    return None


def _sort(path: Path, table: Path | Localizations) -> list[str]:
    """Sort localizations by place; give what was warned of."""
    with collect_warnings() as warned:
        sort_by_tiles(table, path)
    return warned


def _describe_points(_: None, points: TiledPoints) -> tuple[float | None, float | None]:
    """Give the typical density and the median uncertainty of a table."""
    from smlmkit.reconstruct.familiarity import CELL_SIZE, typical_density

    return typical_density(points.coarse_counts(CELL_SIZE)), points.median("uncertainty_x")


def _is_whole(folder: Path, named_files: tuple[str, dict[str, Any]]) -> bool:
    return verify(folder, named_files[1])


def _create_image(
    create: Callable[[Path, ImageLayout], None], job: tuple[Path, ImageLayout]
) -> Any:
    """Make an empty image, unless another worker was first; give the checksums of its files."""
    path, layout = job
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        partial.mkdir()
        create(partial, layout)
        made = checksum(partial, sorted(file for file in partial.rglob("*") if file.is_file()))
        _move_unless_there(partial, path)
    except OSError as error:
        raise OutputError(error.errno, f"{path}: cannot write: {error.strerror}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return {f"{path.name}/{name}": record for name, record in made.items()}


def _move_unless_there(source: Path, target: Path) -> None:
    """Move a folder; a job that is done twice must not take away what was written since."""
    try:
        source.rename(target)
    except OSError:
        if not target.is_dir():
            raise


def _raw(image: str) -> str:
    return f"raw_{image}"


def _lies_in(image: str, record: Record) -> bool:
    return any(file.startswith(f"{image}/") for file in record["files"])


def _name(stage: str, place: Place) -> str:
    return f"{stage} {place[0]} {place[1]}"


def _coarser(places: Collection[Place], finer: TileGrid, coarser: TileGrid) -> list[Place]:
    """List the tiles of the next coarser level that some tiles reach into."""

    def reached(pixels: slice) -> range:
        return range(pixels.start // (2 * coarser.side), -(-pixels.stop // (2 * coarser.side)))

    boxes = (finer.tile(*place).write for place in places)
    reached_places = (product(reached(rows), reached(columns)) for rows, columns in boxes)
    return sorted(set(chain.from_iterable(reached_places)))
