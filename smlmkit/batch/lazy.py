"""One field of view as an image on a dask array, whose tiles are computed when they are needed."""

import atexit
import functools
import shutil
import tempfile
import uuid
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smlmkit.batch.plan import layouts_of, plan_field
from smlmkit.batch.points import TiledPoints, sort_by_tiles
from smlmkit.batch.tile import FieldWork, compute_tile, count_in_tile, scale
from smlmkit.images import to_image
from smlmkit.localizations import Localizations


def reconstruct_dask(
    estimator: Any,
    localizations: Localizations | TiledPoints | str | PathLike[str],
    *,
    tile: int | None = None,
    halo: float | None = None,
) -> xr.DataArray:
    """Give the reconstruction of a field of view as an image that is computed when it is needed.

    Parameters
    ----------
    estimator : estimator or Pipeline
        Fitted where it needs to be. Each step says by ``tile_needs`` how far around a tile it sees.
    localizations : Localizations, TiledPoints or path-like
        The table, or its file. Anything but `TiledPoints` is sorted into a temporary file, which
        is there until this process ends; workers on other machines do not see it.
    tile : int, optional
        Side of a tile, which is a chunk of the array, in pixels, a multiple of 256. By default at
        least 32 halos, from 1024 to 4096, and such that no narrow tiles are left over.
    halo : float, optional
        How far around a tile the estimator sees, in nm, instead of what its steps say.

    Returns
    -------
    DataArray of dims ([channel,] [z,] y, x)
        The image, on a dask array.

    Raises
    ------
    InvalidInputError
        If the estimator cannot work tile by tile, or a parameter cannot be used.

    See Also
    --------
    reconstruct_field : Writes it to an OME-Zarr, and goes on where an interrupted run ended.

    Notes
    -----
    Networks' outputs are multiplied with one factor, which takes all tiles: any part of such an
    image needs the whole, of which the outputs are kept in memory until the factor is known.

    Examples
    --------
    >>> import numpy as np
    >>> from smlmkit import GaussianKDE, Localizations, Renderer, reconstruct_dask
    >>> from sklearn.pipeline import make_pipeline
    >>> points = np.random.default_rng(0).uniform(0, 30_000, size=(1000, 2))
    >>> blinks = Localizations(points, field_of_view=(0, 0, 30_000, 30_000))
    >>> image = reconstruct_dask(make_pipeline(Renderer(pixel_size=10), GaussianKDE()), blinks)
    >>> image.chunks
    ((1024, 1024, 952), (1024, 1024, 952))
    >>> image.sel(x=slice(0, 5000), y=slice(0, 5000)).compute().shape
    (500, 500)
    """
    import dask.array as da
    from dask.delayed import delayed

    from smlmkit.reconstruct.prediction import mass_factor

    work = plan_field(estimator, _sorted_points(localizations), images=(), tile=tile, halo=halo)
    [layout] = layouts_of(work)
    shared_work = delayed(work)  # one task, rather than a copy in each tile's
    leading = tuple((length,) for length in layout.shape[:-2])
    image = da.map_blocks(
        _pixels_of_block,
        shared_work,
        layout.shape[:-2],
        layout.dtype,
        chunks=(*leading, *_sides_of_tiles(work)),
        dtype=layout.dtype,
        meta=np.empty((0,) * len(layout.shape), layout.dtype),
    )
    if work.needs.scales_to_mass:
        counted = da.map_blocks(
            _count_of_block,
            shared_work,
            chunks=((1,) * work.tiles.n_rows, (1,) * work.tiles.n_columns),
            dtype=np.float64,
            meta=np.empty((0, 0)),
        )
        factor = delayed(mass_factor)(counted.sum(), image.sum(dtype=np.float64))
        image = da.map_blocks(scale, image, factor, dtype=layout.dtype, meta=image._meta)
    lazy = to_image(image, work.grid, channel=layout.channel, z=layout.z)
    return lazy.rename(layout.name).assign_attrs(layout.attrs)


def _sorted_points(localizations: Any) -> TiledPoints:
    if isinstance(localizations, TiledPoints):
        return localizations
    return sort_by_tiles(localizations, _scratch_folder() / f"{uuid.uuid4().hex}.parquet")


@functools.cache
def _scratch_folder() -> Path:
    """Make the folder for sorted points; images may be computed until this process ends."""
    folder = tempfile.mkdtemp(prefix="smlmkit-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _sides_of_tiles(work: FieldWork) -> tuple[tuple[int, ...], tuple[int, ...]]:
    tiles = work.tiles
    first_column = [tiles.tile(row, 0).write[0] for row in range(tiles.n_rows)]
    first_row = [tiles.tile(0, column).write[1] for column in range(tiles.n_columns)]
    heights, widths = (
        tuple(part.stop - part.start for part in parts) for parts in (first_column, first_row)
    )
    return heights, widths


def _pixels_of_block(
    work: FieldWork, leading: tuple[int, ...], dtype: np.dtype[Any], block_id: tuple[int, ...]
) -> NDArray[Any]:
    tile = work.tiles.tile(*block_id[-2:])
    images, _ = compute_tile(work, tile)
    if images is not None:
        return images[0]
    return np.zeros((*leading, *(part.stop - part.start for part in tile.write)), dtype)


def _count_of_block(work: FieldWork, block_id: tuple[int, int]) -> NDArray[np.float64]:
    return np.array([[count_in_tile(work, work.tiles.tile(*block_id))]])
