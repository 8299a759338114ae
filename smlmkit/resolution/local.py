"""Local resolution: a map of the Fourier ring correlation's resolution over the field of view."""

import math
from collections.abc import Iterator

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smlmkit._checks import check_positive
from smlmkit.errors import InvalidInputError
from smlmkit.grid import PixelGrid
from smlmkit.images import grid_of, to_image
from smlmkit.localizations import Localizations, RandomState
from smlmkit.metrics.frc import (
    Threshold,
    check_reading,
    first_crossing,
    smooth_curve,
    threshold_curve,
)
from smlmkit.metrics.local import check_pair, correlate_tiles
from smlmkit.metrics.rings import Floats, Window, rings_of
from smlmkit.resolution.halves import Image, ImageSplit, Pair, Split, halves

_TILES_AT_A_TIME = 4096


def frc_map(
    first: Localizations | Image,
    second: Image | None = None,
    *,
    tile: float = 1000.0,
    step: float | None = None,
    pixel_size: float | None = None,
    threshold: Threshold = "1/7",
    smoothing: float = 0.2,
    window: Window = "tukey",
    split: Split | ImageSplit = "auto",
    n_blocks: int = 10,
    repeats: int = 1,
    random_state: RandomState = None,
) -> xr.DataArray:
    """Map the resolution over a field of view: the FRC of overlapping tiles.

    Parameters
    ----------
    first : Localizations, DataArray or ndarray of shape (height, width)
        A table, or the first or only image, as in `frc_curve`.
    second : DataArray or ndarray of shape (height, width), optional
        The second image, on the grid of the first one.
    tile : float, default=1000
        Side of a tile in nm, rounded to whole pixels: what a resolution is an average over. It must
        hold several times the resolution.
    step : float, optional
        Distance of neighbouring tiles in nm, rounded to whole pixels: the pixel size of the map. By
        default a quarter of a tile.
    pixel_size : float, optional
        Edge of a pixel in nm: 10 by default for a table, needed for ndarrays, and known by a
        DataArray.
    threshold : {"1/7", "half-bit", "one-bit", "3-sigma"}, default="1/7"
        What a curve must stay above.
    smoothing : float, default=0.2
        Span of the smoothing as in `frc_curve`, larger since a tile has few samples a ring.
    window : {"tukey"} or None, default="tukey"
        Taper an eighth of a tile at every border, or leave the tiles as they are.
    split : {"auto", "frames", "random", "binomial", "checkerboard"}, default="auto"
        How a table or one image is split, as in `frc_curve`.
    n_blocks : int, default=10
        Number of blocks of frames.
    repeats : int, default=1
        How often a table or an image's counts are split anew; the curves are averaged.
    random_state : int, RandomState or None, default=None
        Source of randomness of the splits.

    Returns
    -------
    DataArray of dims (y, x)
        Resolution in nm around each tile's centre, the coordinates (nm); nan where a tile's curve
        starts below the threshold, as where it is empty, or never falls below it. Attributes
        ``units``, ``pixel_size`` (the step in nm) and ``tile`` (nm).

    Raises
    ------
    InvalidTypeError, InvalidInputError
        As `frc_curve` does, or if no tile fits into the field or a tile has under 8 pixels a side.

    Examples
    --------
    >>> import numpy as np
    >>> from smlmkit import frc_map, make_microtubules
    >>> blinks, _ = make_microtubules(field_size=4000, density=5000, random_state=0)
    >>> resolution = frc_map(blinks, tile=1000, random_state=0)
    >>> resolution.shape, resolution.attrs["pixel_size"]
    ((13, 13), 250.0)
    >>> 20 < float(resolution.median()) < 60
    True
    """
    check_reading(threshold, smoothing)
    check_positive(tile=tile)
    if step is not None:
        check_positive(step=step)
    pairs, size = halves(
        first,
        second,
        pixel_size,
        split=split,
        n_blocks=n_blocks,
        repeats=repeats,
        random_state=random_state,
    )
    side_px = round(tile / size)
    step_px = max(1, round(tile / 4 / size)) if step is None else round(step / size)
    if side_px < 8 or step_px < 1:
        raise InvalidInputError(
            f"a tile needs at least 8 pixels and a step 1: tile={tile!r} and step={step!r} are "
            f"{side_px} and {step_px} pixels of {size:g} nm"
        )
    rings = rings_of((side_px, side_px))
    level = threshold_curve(threshold, rings.count)
    bands = []
    for band in _bands_of_tiles(list(pairs), side_px, step_px):
        correlation = np.mean(
            [correlate_tiles(*pair, side_px, step_px, window=window) for pair in band], axis=0
        )
        bands.append(_resolutions(rings.frequency / size, correlation, level, threshold, smoothing))
    resolution = np.concatenate(bands)
    y, x = _corner(first, second)
    margin = (side_px - step_px) / 2 * size
    grid = PixelGrid((y + margin, x + margin), step_px * size, resolution.shape)
    image = to_image(resolution, grid, units="nm", name="resolution")
    return image.assign_attrs(tile=side_px * size)


def _corner(first: Localizations | Image, second: Image | None) -> tuple[float, float]:
    """Give (y, x) of the outer corner of the first pixel in nm; 0 if no image knows it."""
    if isinstance(first, Localizations):
        return first.field_of_view.y_min, first.field_of_view.x_min
    grids = [grid_of(image) for image in (first, second) if isinstance(image, xr.DataArray)]
    return grids[0].origin if grids else (0.0, 0.0)


def _bands_of_tiles(pairs: list[Pair], side_px: int, step_px: int) -> Iterator[list[Pair]]:
    """Cut the images into bands of so many rows of tiles that their rings fit into memory."""
    for first, second in pairs:
        check_pair(first, second, side_px)
    n_rows, n_columns = ((side - side_px) // step_px + 1 for side in pairs[0][0].shape)
    rows_at_a_time = max(1, _TILES_AT_A_TIME // n_columns)
    for row in range(0, n_rows, rows_at_a_time):
        last_row = min(row + rows_at_a_time, n_rows) - 1
        pixels = slice(row * step_px, last_row * step_px + side_px)
        yield [(first[pixels], second[pixels]) for first, second in pairs]


def _resolutions(
    frequency: Floats, correlation: Floats, level: Floats, threshold: str, smoothing: float
) -> NDArray[np.float32]:
    resolution = np.empty(correlation.shape[:2], np.float32)
    for tile in np.ndindex(resolution.shape):
        curve = smooth_curve(correlation[tile], smoothing)
        crossing, _ = first_crossing(frequency, curve, level, threshold)
        resolution[tile] = math.nan if math.isnan(crossing) else 1 / crossing
    return resolution
