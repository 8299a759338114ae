"""Separable smoothing of images that keeps their mass."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from smlmkit._threads import run_bands


def smooth_separably(
    image: NDArray[np.float32], profile: NDArray[np.float64], n_threads: int
) -> None:
    """Smooth an image in place along both axes.

    What would leave the image at a border is reflected back, so a profile that sums to 1 keeps the
    image's sum.

    Parameters
    ----------
    image : ndarray of float32, shape (height_px, width_px)
        The image; it becomes the smoothed one.
    profile : ndarray of odd length
        Symmetric weights.
    n_threads : int
        Threads to use. The result does not depend on it.
    """

    def smooth_rows(first: int, stop: int) -> None:
        _smooth_axis(image[first:stop], profile, axis=1)

    def smooth_columns(first: int, stop: int) -> None:
        _smooth_axis(image[:, first:stop], profile, axis=0)

    run_bands(smooth_rows, image.shape[0], n_threads, min_rows=16)
    run_bands(smooth_columns, image.shape[1], n_threads, min_rows=16)


def gaussian_profile(sigma_px: float, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Sample a Gaussian at whole pixels, cut off after 4 standard deviations and normalised.

    Parameters
    ----------
    sigma_px : float
        Standard deviation in pixels.
    shape : tuple of int
        Shape of the image: twice its longer side is as wide as makes a difference, since what
        leaves it is reflected.

    Returns
    -------
    ndarray of odd length
        Weights that sum to 1.
    """
    sigma_px = min(sigma_px, 2 * max(shape))
    half = int(4 * sigma_px + 0.5)
    if half == 0:
        return np.ones(1)
    weights = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma_px) ** 2)
    return _normalised(weights)


def triangular_profile(n_shifts: int) -> NDArray[np.float64]:
    """Give the weights with which shifted histograms average (Scott 1985).

    Parameters
    ----------
    n_shifts : int
        Shifts along one axis.

    Returns
    -------
    ndarray of length 2 n_shifts - 1
        Weights that sum to 1.
    """
    return _normalised(n_shifts - np.abs(np.arange(1.0 - n_shifts, n_shifts)))


def _normalised(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    normalised: NDArray[np.float64] = weights / weights.sum()
    return normalised


def _smooth_axis(values: NDArray[Any], profile: NDArray[np.float64], axis: int) -> None:
    # scipy reads a line before it writes it: input and output may be the same.
    correlate1d(values, profile, axis=axis, output=values, mode="reflect")
