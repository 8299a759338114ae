"""Localizations, or the counts of pixels, as Gaussians that follow what lies around them."""

from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from smlmkit._kernels.anisotropic import spread_windows
from smlmkit._kernels.gaussian import FLAT_PX
from smlmkit._kernels.neighborhoods import draw_kernels, shape_kernels
from smlmkit._threads import run_bands
from smlmkit.drawing import draw_gaussians
from smlmkit.grid import FieldOfView, PixelGrid

Floats = NDArray[np.float64]

# Chosen on real fields together with the defaults of `AnisotropicKDE`.
_PRIOR_NEIGHBORS = 8.0
_SHARPENING_REACH = 1.75
_ISOLATION = 0.3
_MIN_SIGMA_PX = 0.5


def spread_by_windows(
    counts: NDArray[np.float32],
    density: NDArray[np.float32],
    *,
    window: int,
    scale: float,
    integrated: bool,
    n_threads: int,
) -> None:
    """Spread the count of every pixel by the Gaussian that the window around it gives.

    Parameters
    ----------
    counts : ndarray of float32, shape (height, width)
        Localizations per pixel.
    density : ndarray of float32, shape (height, width)
        Filled; zero before.
    window : int
        Side of the window in pixels, odd.
    scale : float
        Frobenius norm of the Gaussians' covariance in square pixels.
    integrated : bool
        Which of the two modes of `AnisotropicKDE`.
    n_threads : int
        Threads to use.
    """
    # Of a window larger than the image only the part inside counts.
    half = min(window // 2, max(counts.shape))
    spread_rows = partial(spread_windows, counts, half, scale, integrated, density)
    run_bands(spread_rows, len(counts), n_threads, min_rows=4 * window)


class Neighborhood(NamedTuple):
    """How the Gaussian of a localization follows from its neighbours; see `AnisotropicKDE`.

    Parameters
    ----------
    radius : float
        Standard deviation of the neighbourhood in nm.
    sigma : float
        Standard deviation of the Gaussian across the structure in nm.
    max_aspect : float
        How many times longer along than across a Gaussian may be.
    sharpening : float
        Share of the way across to the neighbours' mean by which it is moved.
    """

    radius: float
    sigma: float
    max_aspect: float
    sharpening: float


def draw_by_neighbors(
    y: Floats,
    x: Floats,
    mass: Floats,
    neighborhood: Neighborhood,
    grid: PixelGrid,
    box: FieldOfView,
    image: NDArray[np.float32],
    n_threads: int,
) -> None:
    """Add a Gaussian for every point, shaped by its neighbours, to an image.

    Parameters
    ----------
    y, x : ndarray of shape (n,)
        The points in nm; all of them lie in the box.
    mass : ndarray of shape (n,)
        How many localizations each point stands for.
    neighborhood : Neighborhood
        How the shape follows from the neighbours.
    grid : PixelGrid
        The grid of the image.
    box : FieldOfView
        The box of the points, as `smlmkit.drawing.canvas_for` gives it.
    image : ndarray of float32, shape (height_px, width_px)
        Where to draw; C-contiguous.
    n_threads : int
        Threads to use. The result does not depend on it.
    """
    size = grid.pixel_size
    radius = min(neighborhood.radius / size, FLAT_PX)
    sigma = min(max(neighborhood.sigma / size, _MIN_SIGMA_PX), FLAT_PX)
    y_px, x_px = (y - grid.origin[0]) / size, (x - grid.origin[1]) / size
    # Rows of this height hold few points beyond a neighbourhood's ends and are still not many.
    row_height = max(radius, sigma) / 4
    row = (y_px / row_height).astype(np.int64)
    order = np.lexsort((x_px, row))
    row_starts = np.searchsorted(row[order], np.arange(row.max(initial=0) + 2))
    y, x, mass = y[order], x[order], mass[order]
    kernels = np.empty((len(y), 6))
    shape = partial(
        shape_kernels,
        (y_px[order], x_px[order], mass, row_starts, row_height),
        radius,
        sigma,
        neighborhood.max_aspect,
        _PRIOR_NEIGHBORS,
        neighborhood.sharpening,
        _SHARPENING_REACH,
        _ISOLATION,
        kernels,
    )
    run_bands(shape, len(y), n_threads, min_rows=256)
    draw = partial(draw_kernels, kernels, mass, image)
    run_bands(draw, grid.shape[0], n_threads, min_rows=64)
    round_sigma = np.array([neighborhood.max_aspect * sigma * size])
    draw_gaussians(
        *(y, x, round_sigma, round_sigma, grid, box, image),
        weights=mass * (1 - kernels[:, 5]),
        n_threads=n_threads,
    )
