"""Histograms of localizations: what every image of the library starts from."""

import warnings

import numpy as np
import xarray as xr

from smlmkit._kernels.histogram import count_per_pixel
from smlmkit.errors import InvalidInputError, UnusedRowsWarning
from smlmkit.grid import PixelGrid
from smlmkit.images import to_image
from smlmkit.localizations import Localizations

# 2^31 pixels are 16 GiB of counts and image: more is rather a lost localization than a wish.
_MAX_PIXELS = 2**31


def render_histogram(
    localizations: Localizations, pixel_size: float, grid: PixelGrid | None = None
) -> xr.DataArray:
    """Count the localizations per pixel.

    Parameters
    ----------
    localizations : Localizations
        The table of n rows.
    pixel_size : float
        Edge of a pixel in nm, used when no grid is given.
    grid : PixelGrid, optional
        Where to count; by default the grid that covers the field of view.

    Returns
    -------
    DataArray of float32, dims (y, x)
        Localizations per pixel. Counts are exact up to 2^24 in one pixel.

    Raises
    ------
    InvalidInputError
        If the image would have more than 2^31 pixels.

    Warns
    -----
    UnusedRowsWarning
        If localizations lie outside of the given grid.
    """
    if grid is None:
        box = localizations.field_of_view
        grid = PixelGrid.covering(box, pixel_size)
    else:
        box = grid.field_of_view
    height, width = grid.shape
    if height * width > _MAX_PIXELS:
        raise InvalidInputError(
            f"{height:,} x {width:,} pixels of {grid.pixel_size:g} nm are too many: use larger "
            f"pixels or crop; is there an outlier in the field of view {tuple(box)}?"
        )
    counts = np.zeros(grid.shape, dtype=np.uint32)
    n_outside = count_per_pixel(localizations.y, localizations.x, box, grid.pixel_size, counts)
    if n_outside:
        warnings.warn(
            f"{n_outside:,} of {len(localizations):,} localizations lie outside of the grid {box}",
            UnusedRowsWarning,
            stacklevel=2,
        )
    return to_image(counts.astype(np.float32), grid)
