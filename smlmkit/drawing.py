"""Points drawn on a grid: as counts, or as Gaussians. What every rendering starts from."""

import warnings
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smlmkit._kernels.gaussian import TILE_PX, draw_tiles, sort_into_tiles
from smlmkit._kernels.histogram import add_points
from smlmkit._threads import check_threads, run_bands, run_between
from smlmkit.errors import InvalidInputError, UnusedRowsWarning
from smlmkit.grid import FieldOfView, PixelGrid
from smlmkit.images import to_image
from smlmkit.localizations import Localizations

Floats = NDArray[np.float64]

# 2^31 pixels are 8 GiB: more is rather a lost localization than a wish.
_MAX_PIXELS = 2**31
# float32 counts exactly up to here.
_MAX_FLOAT_COUNT = 2**24
_ALL_ONE = np.ones(1)
_ROWS_AT_A_TIME = 64
# Points for Gaussians are sorted in so many pieces, by several threads, and drawn together.
_N_PIECES = 4


class SigmaRule(NamedTuple):
    """How a Gaussian's width follows from an uncertainty: times `scale`, then within the limits.

    Parameters
    ----------
    scale : float
        Factor.
    low, high : float
        Floor and cap in nm.
    """

    scale: float = 1.0
    low: float = 0.0
    high: float = np.inf


def render_histogram(
    localizations: Localizations,
    pixel_size: float,
    grid: PixelGrid | None = None,
    *,
    n_threads: int | None = None,
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
    n_threads : int, optional
        Threads to use; by default all.

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
    grid, box = canvas_for(localizations, pixel_size, grid)
    image = np.zeros(grid.shape, np.float32)
    n_outside = draw_counts(localizations.y, localizations.x, grid, box, image, n_threads=n_threads)
    warn_of_outside(n_outside, len(localizations), box)
    return to_image(image, grid)


def render_counts(
    localizations: Localizations, pixel_size: float, z_edges: Floats | None
) -> xr.DataArray:
    """Count the localizations per pixel, of every slice of depth where there are slices.

    Parameters
    ----------
    localizations : Localizations
        The table of n rows; for slices with a column ``z`` of numbers.
    pixel_size : float
        Edge of a pixel in nm.
    z_edges : ndarray of float64, shape (n_slices + 1,), or None
        The rising edges of the slices in nm; None for a flat image.

    Returns
    -------
    DataArray of float32, dims (y, x) or (z, y, x)
        Localizations per pixel; those in no slice are not counted.

    Raises
    ------
    InvalidInputError
        If the stack would have more than 2^31 pixels.
    """
    if z_edges is None:
        return render_histogram(localizations, pixel_size)
    n_slices = len(z_edges) - 1
    grid, box = canvas_for(localizations, pixel_size, None, n_slices)
    slice_of = number_slices(localizations["z"], z_edges)
    stack = np.zeros((n_slices, *grid.shape), np.float32)
    for number, plane in enumerate(stack):
        points = localizations.select(slice_of == number)
        draw_counts(points.y, points.x, grid, box, plane)
    return to_image(stack, grid, z=(z_edges[:-1] + z_edges[1:]) / 2)


def check_slice_edges(name: str, edges: object) -> Floats | None:
    """Check the edges of slices that a user gives.

    Parameters
    ----------
    name : str
        What the user calls them.
    edges : sequence of float or None
        The edges.

    Returns
    -------
    ndarray of float64, shape (n_slices + 1,), or None
        The same.

    Raises
    ------
    InvalidInputError
        If they are not at least two rising finite numbers.
    """
    if edges is None:
        return None
    try:
        checked = np.asarray(edges, np.float64)
    except (TypeError, ValueError):
        checked = np.empty(0)
    is_list = checked.ndim == 1 and len(checked) >= 2 and bool(np.isfinite(checked).all())
    if not (is_list and (checked[1:] > checked[:-1]).all()):
        raise InvalidInputError(f"{name} must be at least two rising edges in nm, got {edges!r}")
    return checked


def number_slices(z: NDArray[Any], z_edges: Floats) -> NDArray[np.int64]:
    """Give the number of the slice in which each depth lies.

    Parameters
    ----------
    z : ndarray of shape (n,)
        Depths in nm.
    z_edges : ndarray of float64, shape (n_slices + 1,)
        The rising edges of the slices in nm. A slice holds its lower edge, the last one its upper
        edge, too.

    Returns
    -------
    ndarray of int, shape (n,)
        The slices' numbers; -1 for depths that lie in none or are not finite.
    """
    number = np.searchsorted(z_edges, z, side="right") - 1
    number[z == z_edges[-1]] -= 1
    return np.where(number < len(z_edges) - 1, number, -1)  # NaN sorts last


def canvas_for(
    localizations: Localizations, pixel_size: float, grid: PixelGrid | None, n_planes: int = 1
) -> tuple[PixelGrid, FieldOfView]:
    """Give the grid to draw a table on and the box whose points are drawn.

    Parameters
    ----------
    localizations : Localizations
        The table.
    pixel_size : float
        Edge of a pixel in nm, used when no grid is given.
    grid : PixelGrid or None
        The grid; None for the one that covers the field of view.
    n_planes : int, default=1
        How many planes of a stack will have this grid.

    Returns
    -------
    grid : PixelGrid
        The grid.
    box : FieldOfView
        A given grid's box, otherwise the field of view: rounding may leave the last float of that
        outside of the grid that covers it.

    Raises
    ------
    InvalidInputError
        If the planes would have more than 2^31 pixels together.
    """
    box = localizations.field_of_view if grid is None else grid.field_of_view
    grid = grid or PixelGrid.covering(box, pixel_size)
    height, width = grid.shape
    if n_planes * height * width > _MAX_PIXELS:
        planes = f"{n_planes:,} planes of " if n_planes > 1 else ""
        raise InvalidInputError(
            f"{planes}{height:,} x {width:,} pixels of {grid.pixel_size:g} nm are too many: use "
            f"larger pixels or crop; is there an outlier in the field of view {tuple(box)}?"
        )
    return grid, box


def warn_of_outside(n_outside: int, n_points: int, box: FieldOfView) -> None:
    """Warn if localizations were not drawn because they lie outside of the grid.

    Parameters
    ----------
    n_outside : int
        How many these are.
    n_points : int
        Of how many.
    box : FieldOfView
        The grid's box.
    """
    if n_outside:
        warnings.warn(
            f"{n_outside:,} of {n_points:,} localizations lie outside of the grid {box}",
            UnusedRowsWarning,
            stacklevel=3,
        )


def draw_counts(
    y: Floats,
    x: Floats,
    grid: PixelGrid,
    box: FieldOfView,
    image: NDArray[Any],
    *,
    weights: Floats | None = None,
    n_threads: int | None = None,
) -> int:
    """Count points, or sum their weights, per pixel of an image that is zero so far.

    Parameters
    ----------
    y, x : ndarray of shape (n,)
        The points in nm.
    grid : PixelGrid
        The grid of the image.
    box : FieldOfView
        The box whose points are drawn, as `canvas_for` gives it.
    image : ndarray of float32 or uint32, shape (height_px, width_px)
        Where to count; C-contiguous.
    weights : ndarray of shape (n,), optional
        What each point adds, 1 by default.
    n_threads : int, optional
        Threads to use; by default all. The result does not depend on it.

    Returns
    -------
    int
        How many points lie outside of the box.
    """
    counts = image
    if weights is None and len(y) > _MAX_FLOAT_COUNT and image.dtype == np.float32:
        counts = image.view(np.uint32)
    added = np.ones(1, counts.dtype) if weights is None else weights
    n_outside = 0

    def add_to_band(first_row: int, stop_row: int) -> None:
        nonlocal n_outside
        # Every band finds all the points outside.
        n_outside = add_points(
            y, x, added, _plain(box), grid.pixel_size, counts, first_row, stop_row
        )

    run_bands(
        add_to_band, grid.shape[0], check_threads(n_threads), min_rows=128, bands_per_thread=1
    )
    if counts is not image:
        for top in range(0, len(image), _ROWS_AT_A_TIME):
            rows = slice(top, top + _ROWS_AT_A_TIME)
            image[rows] = counts[rows].astype(np.float32)
    return n_outside


def draw_gaussians(
    y: Floats,
    x: Floats,
    sigma_y: Floats,
    sigma_x: Floats,
    grid: PixelGrid,
    box: FieldOfView,
    image: NDArray[np.float32],
    *,
    rule: SigmaRule = SigmaRule(),  # noqa: B008 (immutable)
    weights: Floats | None = None,
    n_threads: int | None = None,
) -> int:
    """Add a pixel-integrated Gaussian for every point to an image.

    Parameters
    ----------
    y, x : ndarray of shape (n,)
        The points in nm.
    sigma_y, sigma_x : ndarray of shape (n,) or (1,)
        Standard deviations in nm, of each point or of all.
    grid : PixelGrid
        The grid of the image.
    box : FieldOfView
        The box whose points are drawn, as `canvas_for` gives it.
    image : ndarray of float32, shape (height_px, width_px)
        Where to draw; C-contiguous.
    rule : SigmaRule, optional
        Scale, floor and cap of the standard deviations.
    weights : ndarray of shape (n,), optional
        The mass of each point's Gaussian, 1 by default.
    n_threads : int, optional
        Threads to use; by default all. The result does not depend on it.

    Returns
    -------
    int
        How many points lie outside of the box; nothing is drawn for them.
    """
    masses = _ALL_ONE if weights is None else weights
    n_threads = check_threads(n_threads)
    tiles = tuple(side // TILE_PX + 1 for side in grid.shape)
    tile_starts = np.empty((_N_PIECES, tiles[0], tiles[1] + 1), np.int32)
    # So many points at a time that their 20 bytes each are less than a tenth of the image.
    n_at_a_time = min(max(image.size // 56, 2**12), 2**18, max(len(y), _N_PIECES))
    points = np.empty((_N_PIECES, -(-n_at_a_time // _N_PIECES), 5), np.float32)
    n_outside = np.zeros(_N_PIECES, np.int64)

    def sort_pieces(start: int, first: int, stop: int) -> None:
        for piece in range(first, stop):
            n_outside[piece] += sort_into_tiles(
                y,
                x,
                sigma_y,
                sigma_x,
                masses,
                (rule.scale, rule.low, rule.high),
                _plain(box),
                grid.pixel_size,
                min(start + piece * points.shape[1], len(y)),
                min(start + (piece + 1) * points.shape[1], len(y)),
                tile_starts[piece],
                points[piece],
            )

    for start in range(0, len(y), _N_PIECES * points.shape[1]):
        run_bands(partial(sort_pieces, start), _N_PIECES, n_threads)
        draw = partial(draw_tiles, points, tile_starts, image)
        run_between(draw, _edges_of_equal_work(tile_starts, grid.shape[0], n_threads), n_threads)
    return int(n_outside.sum())


def _edges_of_equal_work(tile_starts: NDArray[np.int32], n_rows: int, n_threads: int) -> list[int]:
    """Part the rows of an image into bands, one after the other, of about as many points each.

    The points of a sorted table may all lie in a few rows.
    """
    n_bands = 2 * n_threads if n_threads > 1 else 1
    points_before = tile_starts.sum(axis=0)
    first_points = np.append(points_before[:, 0], points_before[-1, -1])
    first_rows = np.append(np.arange(len(points_before)) * TILE_PX, n_rows)
    wanted = first_points[-1] * np.arange(1, n_bands) / n_bands
    inner = np.interp(wanted, first_points, first_rows).astype(int)
    return sorted({0, *inner.tolist(), n_rows})


def _plain(box: FieldOfView) -> tuple[float, float, float, float]:
    """Give the box as kernels know it: one compilation for boxes of every kind."""
    return float(box.y_min), float(box.x_min), float(box.y_max), float(box.x_max)
