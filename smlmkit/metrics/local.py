"""Ring correlations of overlapping square tiles of two images."""

import itertools
from typing import Any

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from smlmkit._threads import default_threads, run_bands
from smlmkit.errors import InvalidInputError
from smlmkit.metrics._images import check_image, check_range, check_same_shape
from smlmkit.metrics.rings import Floats, Window, normalize_sums, rings_of, tapers_of

_TILES_AT_A_TIME = 64


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
        either image is constant, such as an empty one, or has no power.

    Raises
    ------
    InvalidTypeError
        If an image does not hold real numbers.
    InvalidInputError
        If the images are not two-dimensional of one shape, a value is not finite or float64 cannot
        hold its square, or no tile fits in.

    Examples
    --------
    >>> image = np.random.default_rng(0).poisson(1.0, size=(64, 96))
    >>> correlate_tiles(image, image, side_px=32, step_px=16).shape
    (3, 5, 17)
    """
    check_pair(first, second, side_px)
    tiles = [
        sliding_window_view(image, (side_px, side_px))[::step_px, ::step_px]
        for image in (first, second)
    ]
    n_rows, n_columns = tiles[0].shape[:2]
    rings = rings_of((side_px, side_px))
    weights = np.outer(*tapers_of((side_px, side_px), window))
    sums = np.zeros((n_rows, n_columns, 3, len(rings.count)))

    def correlate_rows(start: int, stop: int) -> None:
        for row, first_column in itertools.product(
            range(start, stop), range(0, n_columns, _TILES_AT_A_TIME)
        ):
            some = slice(first_column, first_column + _TILES_AT_A_TIME)
            one, other = (
                scipy.fft.rfft2(_tapered(image[row, some], weights, window), overwrite_x=True)
                for image in tiles
            )
            for spectrum, other_spectrum, tile_sums in zip(
                one, other, sums[row, some], strict=True
            ):
                rings.add(spectrum, other_spectrum, slice(0, side_px), tile_sums)

    run_bands(correlate_rows, n_rows, default_threads())
    if window is not None:
        sums[..., 0] = 0  # the mean is gone
    shared, first_power, second_power = np.moveaxis(sums, 2, 0)
    return normalize_sums(shared, first_power, second_power)


def check_pair(first: NDArray[Any], second: NDArray[Any], side_px: int) -> None:
    """Refuse images whose tiles cannot be correlated.

    Parameters
    ----------
    first, second : ndarray of shape (height, width)
        The images.
    side_px : int
        Side of a tile in pixels.

    Raises
    ------
    InvalidTypeError, InvalidInputError
        As `correlate_tiles` does.
    """
    for image, name in (first, "the first image"), (second, "the second image"):
        check_image(image, name)
        check_range(image, name, float(image.min()), float(image.max()))
    check_same_shape(first, second)
    if min(first.shape) < side_px:
        raise InvalidInputError(
            f"a tile of {side_px} pixels does not fit into an image of shape {first.shape}"
        )


def _tapered(tiles: NDArray[Any], weights: Floats, window: Window) -> Floats:
    """Take the mean under the window off and apply the window; constant tiles become 0."""
    tapered = tiles.astype(np.float64)
    is_constant = tapered.min(axis=(1, 2)) == tapered.max(axis=(1, 2))
    if window is not None:
        tapered -= (tapered * weights).sum(axis=(1, 2), keepdims=True) / weights.sum()
        tapered *= weights
    tapered[is_constant] = 0  # and not what rounding leaves of them
    return tapered
