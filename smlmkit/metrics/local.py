"""Ring correlations of overlapping square tiles of two images."""

from typing import Any

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from smlmkit._threads import default_threads, run_bands
from smlmkit.errors import InvalidInputError
from smlmkit.metrics.rings import Floats, Window, rings_of, tapers_of


def correlate_tiles(
    first: NDArray[Any],
    second: NDArray[Any],
    side_px: int,
    step_px: int,
    *,
    window: Window = "tukey",
) -> Floats:
    """Correlate two images ring by ring in every tile.

    Parameters
    ----------
    first, second : ndarray of shape (height, width)
        Two images of the same shape.
    side_px : int
        Side of a tile in pixels, at least 4.
    step_px : int
        Distance of neighbouring tiles in pixels, at least 1.
    window : {"tukey"} or None, default="tukey"
        As in `smlmkit.metrics.rings.ring_correlation`, for every tile.

    Returns
    -------
    ndarray of shape (n_rows, n_columns, n_rings)
        The correlation in every ring of every tile that lies inside the images; 0 where a tile of
        either image has no power, such as an empty one.

    Raises
    ------
    InvalidInputError
        If the images are not two-dimensional of one shape and finite, or no tile fits in.

    Examples
    --------
    >>> image = np.random.default_rng(0).poisson(1.0, size=(64, 96))
    >>> correlate_tiles(image, image, side_px=32, step_px=16).shape
    (3, 5, 17)
    """
    if first.ndim != 2 or first.shape != second.shape:
        raise InvalidInputError(
            f"the images must be two-dimensional and of one shape, got {first.shape} and "
            f"{second.shape}"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise InvalidInputError("an image has pixels that are nan or infinite")
    if min(first.shape) < side_px:
        raise InvalidInputError(
            f"a tile of {side_px} pixels does not fit into an image of shape {first.shape}"
        )
    tiles = [
        sliding_window_view(image, (side_px, side_px))[::step_px, ::step_px]
        for image in (first, second)
    ]
    n_rows, n_columns = tiles[0].shape[:2]
    rings = rings_of((side_px, side_px))
    weights = np.outer(*tapers_of((side_px, side_px), window))
    sums = np.zeros((n_rows, n_columns, 3, len(rings.count)))

    def correlate_rows(start: int, stop: int) -> None:
        for row in range(start, stop):
            spectra = [
                scipy.fft.rfft2(_tapered(image[row], weights, window), overwrite_x=True)
                for image in tiles
            ]
            for column in range(n_columns):
                rings.add(
                    spectra[0][column],
                    spectra[1][column],
                    slice(0, side_px),
                    sums[row, column],
                )

    run_bands(correlate_rows, n_rows, default_threads())
    shared, first_power, second_power = np.moveaxis(sums, 2, 0)
    scale = np.sqrt(first_power * second_power)
    correlation = np.zeros_like(shared)
    # What rounding leaves of a constant tile is no power.
    total = scale[..., 1:].sum(axis=-1, keepdims=True)
    np.divide(shared, scale, out=correlation, where=scale > 1e-20 * total)
    return correlation.clip(-1, 1)


def _tapered(tiles: NDArray[Any], weights: Floats, window: Window) -> Floats:
    """Take the mean under the window off and apply the window."""
    tapered = tiles.astype(np.float64)
    if window is not None:
        tapered -= (tapered * weights).sum(axis=(1, 2), keepdims=True) / weights.sum()
        tapered *= weights
    return tapered
