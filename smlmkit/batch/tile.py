"""What a worker does for one tile: read, compute, write whole shards, and say what it wrote."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smlmkit.batch._collecting import collect_warnings
from smlmkit.batch.ledger import checksum
from smlmkit.batch.needs import steps_of
from smlmkit.batch.points import TiledPoints
from smlmkit.errors import InvalidTypeError, OutputError
from smlmkit.grid import PixelGrid
from smlmkit.io.ome_zarr import open_level, shard_files
from smlmkit.localizations import Localizations
from smlmkit.tiling import Slices, Tile, TileGrid, TileNeeds

if TYPE_CHECKING:
    import zarr

Place = tuple[int, int]
"""Row and column of a tile."""

Record = dict[str, Any]
"""What is known of a finished tile; JSON can hold it."""

# Inside of a field all empty tiles are alike; at its borders there are a few more kinds.
_KEPT_EMPTY_TILES = 4


class _Work:
    """What jobs share; each process keeps with it what it has opened or found out."""

    @cached_property
    def kept(self) -> dict[Any, Any]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "kept"}


@dataclass(frozen=True, eq=False)
class FieldWork(_Work):
    """All that a worker must know to reconstruct any tile of a field.

    Parameters
    ----------
    estimator : estimator or Pipeline
        What makes an image of a table.
    points : TiledPoints
        The localizations.
    grid : PixelGrid
        The grid of the whole field.
    tiles : TileGrid
        Its tiles.
    needs : TileNeeds
        What the estimator needs of a tile.
    images : tuple of Path
        The folder of the image that is written; of its deviation, too, where one is wanted.
    """

    estimator: Any
    points: TiledPoints
    grid: PixelGrid
    tiles: TileGrid
    needs: TileNeeds
    images: tuple[Path, ...]


def reconstruct_tile(work: FieldWork, place: Place) -> Record:
    """Reconstruct a tile of a field and write it.

    Parameters
    ----------
    work : FieldWork
        The field.
    place : tuple of int
        Row and column of the tile.

    Returns
    -------
    dict
        ``files``: size and checksum of each file of the tile, None where all is 0. Where the
        estimator's output is scaled later, ``counted`` localizations and ``mass`` of the output.
        Where there are any, ``warnings``.
    """
    tile = work.tiles.tile(*place)
    with collect_warnings() as warned:
        images, counted = compute_tile(work, tile)
    record: Record = {"files": {}}
    if warned:
        record["warnings"] = warned
    if images is None:
        return record
    for folder, image in zip(work.images, images, strict=True):
        record["files"] |= _write(work, folder, 0, tile.write, image)
    if work.needs.scales_to_mass:
        record |= {"counted": counted, "mass": float(images[0].sum(dtype=np.float64))}
    return record


def compute_tile(work: FieldWork, tile: Tile) -> tuple[list[NDArray[Any]] | None, float]:
    """Reconstruct a tile of a field.

    Parameters
    ----------
    work : FieldWork
        The field.
    tile : Tile
        One of its tiles.

    Returns
    -------
    images : list of ndarray of shape ([n_channels,] [n_slices,] height_px, width_px), or None
        The tile of the image, and of the deviation where one is wanted; None where both are 0
        because there are no localizations.
    counted : float
        Where the estimator scales its output, how many localizations of the tile the networks see,
        after all filters; otherwise 0.
    """
    table = work.points.read(work.grid, tile.read)
    if len(table):
        return _images_of_tile(work, table, tile.crop)
    return None if work.needs.empty_is_zero else _images_of_nothing(work, tile), 0.0


def count_in_tile(work: FieldWork, tile: Tile) -> float:
    """Count the localizations of a tile that networks see, after all filters.

    Parameters
    ----------
    work : FieldWork
        A field whose estimator scales its output.
    tile : Tile
        One of its tiles.

    Returns
    -------
    float
        How many there are, without the halo.
    """
    table = work.points.read(work.grid, tile.read)
    *filters, networks = steps_of(work.estimator)
    return _count(networks, _apply(filters, table), tile.crop) if len(table) else 0.0


def images_of(work: FieldWork, table: Localizations) -> list[xr.DataArray]:
    """Give what an estimator makes of a table: the image, and its deviation where one is wanted.

    Parameters
    ----------
    work : FieldWork
        The field.
    table : Localizations
        A part of it.

    Returns
    -------
    list of DataArray
        One or two images on the same grid.

    Raises
    ------
    InvalidTypeError
        If the estimator makes something else of a table.
    """
    *filters, last = steps_of(work.estimator)
    return _images_of_step(work, last, _apply(filters, table))


def _images_of_tile(
    work: FieldWork, table: Localizations, crop: Slices
) -> tuple[list[NDArray[Any]], float]:
    *filters, last = steps_of(work.estimator)
    sample = _apply(filters, table)
    counted = _count(last, sample, crop) if work.needs.scales_to_mass else 0.0
    images = _images_of_step(work, last, sample)
    return [image.to_numpy()[(..., *crop)] for image in images], counted


def _images_of_nothing(work: FieldWork, tile: Tile) -> list[NDArray[Any]]:
    """Give what the estimator makes of no localizations: alike for all tiles of one shape."""
    (rows, columns), crop = tile.read, tile.crop
    shape = rows.stop - rows.start, columns.stop - columns.start
    kind = "nothing", shape, *((part.start, part.stop) for part in crop)
    if kind not in work.kept:
        grid = PixelGrid(work.grid.origin, work.grid.pixel_size, shape)
        nothing = work.points.read(work.grid, (slice(0, 1), slice(0, 1))).select(slice(0, 0))
        columns_of_nothing = {name: nothing[name] for name in nothing}
        table = Localizations(columns_of_nothing, field_of_view=grid.field_of_view)
        images, _ = _images_of_tile(work, table, crop)
        if len(work.kept) >= _KEPT_EMPTY_TILES + len(work.images):
            return images
        work.kept[kind] = images
    kept: list[NDArray[Any]] = work.kept[kind]
    return kept


def _apply(steps: list[Any], sample: Any) -> Any:
    for step in steps:
        sample = step.transform(sample)
    return sample


def _count(networks: Any, table: Localizations, crop: Slices) -> float:
    return float(networks.render_input(table).to_numpy()[(..., *crop)].sum(dtype=np.float64))


def _images_of_step(work: FieldWork, step: Any, sample: Any) -> list[xr.DataArray]:
    if not hasattr(step, "predict"):
        made = [step.transform(sample)]
    else:
        options: dict[str, bool] = {"scale_to_mass": False} if work.needs.scales_to_mass else {}
        if len(work.images) > 1:
            made = list(step.predict(sample, return_deviation=True, **options))
        else:
            made = [step.predict(sample, **options)]
    for image in made:
        if not isinstance(image, xr.DataArray):
            raise InvalidTypeError(
                f"{type(step).__name__} makes {type(image).__name__} of a table, not an image"
            )
    return made


@dataclass(frozen=True, eq=False)
class PixelWork(_Work):
    """All that a worker must know to make the tiles of an image from another one.

    Parameters
    ----------
    source, target : tuple of (Path, int)
        Folder and level that is read, and that is written.
    tiles : TileGrid
        The tiles of the target.
    step : int
        Pixels of the source along a pixel of the target.
    change : callable
        Makes the pixels of a tile of the target from those of the source.
    """

    source: tuple[Path, int]
    target: tuple[Path, int]
    tiles: TileGrid
    step: int
    change: Callable[[NDArray[Any]], NDArray[Any]]


def change_tile(work: PixelWork, place: Place) -> Record:
    """Read a part of one image, and write what it becomes as a tile of another.

    Parameters
    ----------
    work : PixelWork
        The two images.
    place : tuple of int
        Row and column of the tile.

    Returns
    -------
    dict
        ``files``: size and checksum of each file of the tile, None where all is 0.
    """
    write = work.tiles.tile(*place).write
    rows, columns = (slice(part.start * work.step, part.stop * work.step) for part in write)
    source = _open(work, *work.source)
    planes = [
        work.change(np.asarray(source[(*plane, rows, columns)]))
        for plane in np.ndindex(*source.shape[:-2])
    ]
    pixels = np.stack(planes).reshape(*source.shape[:-2], *planes[0].shape)
    return {"files": _write(work, *work.target, write, pixels)}


def change_tiles(works: list[PixelWork], place: Place) -> Record:
    """Make a tile of each of several images, the later ones perhaps from the earlier ones.

    Parameters
    ----------
    works : list of PixelWork
        The images.
    place : tuple of int
        Row and column of the tile in all of them.

    Returns
    -------
    dict
        As `change_tile` gives it, of all files.
    """
    files: dict[str, Any] = {}
    for work in works:
        files |= change_tile(work, place)["files"]
    return {"files": files}


def scale(pixels: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Multiply in float64: a factor may be beyond what float32 holds, where outputs are tiny.

    Parameters
    ----------
    pixels : ndarray of float32
        What to multiply.
    factor : float
        By what.

    Returns
    -------
    ndarray of float32
        The product.
    """
    return np.multiply(pixels, factor, dtype=np.float64).astype(pixels.dtype)


def _write(
    work: _Work, folder: Path, level: int, box: Slices, pixels: NDArray[Any]
) -> dict[str, Any]:
    """Write a tile; give size and checksum of each file, by its path from beside the image."""
    try:
        image = _open(work, folder, level)
        if pixels.any():  # there are no files of zeros, not of an earlier run either
            image[(..., *box)] = pixels
        return checksum(folder.parent, shard_files(image, box))
    except OSError as error:
        raise OutputError(error.errno, f"{folder}: cannot write: {error.strerror}") from error


def _open(work: _Work, folder: Path, level: int) -> "zarr.Array[Any]":
    """Open an image once in every process."""
    name = "image", folder, level
    if name not in work.kept:
        work.kept[name] = open_level(folder, level)
    image: zarr.Array[Any] = work.kept[name]
    return image
