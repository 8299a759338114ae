"""How a field is cut into tiles, and what its images will be like."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from smlmkit._checks import check_whole
from smlmkit.batch.needs import needs_of, steps_of
from smlmkit.batch.points import TiledPoints
from smlmkit.batch.tile import FieldWork, Place, images_of
from smlmkit.errors import InvalidInputError
from smlmkit.grid import PixelGrid
from smlmkit.io.image_layout import ImageLayout, layout_of
from smlmkit.io.ome_zarr_creation import CHUNK_PX, SHARD_PX
from smlmkit.tiling import FieldFacts, TileGrid, TileNeeds

# A tile is so many halos wide, so that an eighth is read twice at most.
_HALOS_A_TILE = 32
_LARGEST_DEFAULT_TILE = 4096
_NARROWEST_OF_TILE = 4
# Four times as many pixels are read for it.
_LEVEL_TILE = 2048


def plan_field(
    estimator: Any,
    points: TiledPoints,
    images: tuple[Path, ...],
    *,
    tile: int | None,
    halo: float | None,
) -> FieldWork:
    """Find out what an estimator needs, and cut the field into tiles accordingly.

    Parameters
    ----------
    estimator : estimator or Pipeline
        What makes an image of a table.
    points : TiledPoints
        The table.
    images : tuple of Path
        Where the image, and perhaps its deviation, will be written.
    tile : int or None
        Side of a tile in pixels; None chooses.
    halo : float or None
        How far around a tile the estimator sees, in nm; None asks its steps.

    Returns
    -------
    FieldWork
        All that is needed for any tile.

    Raises
    ------
    InvalidInputError
        If the estimator cannot work tile by tile, or not with such tiles.
    """
    needs = needs_of(estimator, FieldFacts(None, points.maxima), reach=halo)
    grid = PixelGrid.covering(points.field_of_view, needs.pixel_size)  # type: ignore[arg-type]
    check_tile(tile, needs)
    side = tile or _default_side(grid.shape, needs)
    tiles = TileGrid(grid.shape, side, needs.halo_px)
    return FieldWork(estimator, points, grid, tiles, needs, images)


def shard_side(tiles: TileGrid) -> int:
    """Give the side in pixels of a shard: a tile has a whole number of them.

    Parameters
    ----------
    tiles : TileGrid
        The tiles.

    Returns
    -------
    int
        1024, or that of a tile which is no multiple of this.
    """
    return SHARD_PX if tiles.side % SHARD_PX == 0 else tiles.side


def layouts_of(work: FieldWork) -> list[ImageLayout]:
    """Ask the estimator what its images are like, by an image of nothing.

    Parameters
    ----------
    work : FieldWork
        The field.

    Returns
    -------
    list of ImageLayout
        Of the image, and of its deviation where one is wanted.
    """
    one_block = slice(0, work.needs.multiple), slice(0, work.needs.multiple)
    nothing = work.points.read(work.grid, one_block).select(slice(0, 0))
    examples = images_of(work, nothing)
    return [replace(layout_of(example), grid=work.grid) for example in examples]


def places_worth_work(work: FieldWork) -> list[Place]:
    """List the tiles in which an estimator may find anything.

    Parameters
    ----------
    work : FieldWork
        The field.

    Returns
    -------
    list of tuple of int
        Rows and columns of the tiles.
    """
    tiles = work.tiles
    places = [(row, column) for row in range(tiles.n_rows) for column in range(tiles.n_columns)]
    if not work.needs.empty_is_zero:
        return places
    occupied = work.points.are_occupied(work.grid, tiles)
    return [place for place in places if occupied[place]]


def check_tile(tile: int | None, needs: TileNeeds, ngff: str = "0.5") -> None:
    """Refuse tiles that an estimator or the chunks of a file do not fit into.

    Parameters
    ----------
    tile : int or None
        Side of a tile in pixels; None chooses.
    needs : TileNeeds
        What the estimator needs.
    ngff : {"0.5", "0.4"}, default="0.5"
        Version of the format of the file.

    Raises
    ------
    InvalidInputError
        If the side is no multiple of chunks and of what the estimator needs.
    """
    if tile is None:
        return
    check_whole("tile", tile, low=1)
    multiple = math.lcm(CHUNK_PX[ngff], needs.multiple)
    if tile % multiple:
        raise InvalidInputError(f"tile must be a multiple of {multiple} pixels here, got {tile}")


def check_opinions(estimator: Any) -> None:
    """Refuse estimators whose opinions have no deviation.

    Parameters
    ----------
    estimator : estimator or Pipeline
        What makes an image of a table.

    Raises
    ------
    InvalidInputError
        If there is a single opinion.
    """
    if getattr(steps_of(estimator)[-1], "n_opinions_", 1) < 2:
        raise InvalidInputError(
            "a single opinion has no deviation: n_estimators above 1 or tta=True give several"
        )


def level_tiles(shape: tuple[int, int], shard: int) -> TileGrid:
    """Cut a coarser level into tiles: they need no halo, and large ones are fewer jobs.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the level in pixels.
    shard : int
        Side of a shard in pixels.

    Returns
    -------
    TileGrid
        Tiles of a whole number of shards.
    """
    return TileGrid(shape, max(_LEVEL_TILE // shard, 1) * shard, halo=0)


def _default_side(shape: tuple[int, int], needs: TileNeeds) -> int:
    """Give the smallest side that is many halos and leaves no narrow tile at a field's end."""
    step = math.lcm(SHARD_PX, needs.multiple)
    largest = max(_LARGEST_DEFAULT_TILE // step, 1) * step
    smallest = min(max(1, -(-_HALOS_A_TILE * needs.halo_px // step)) * step, largest)
    sides = range(smallest, largest + 1, step)
    return next((side for side in sides if not _leaves_slivers(shape, side)), smallest)


def _leaves_slivers(shape: tuple[int, int], side: int) -> bool:
    return any(0 < extent % side < side // _NARROWEST_OF_TILE for extent in shape if extent > side)
