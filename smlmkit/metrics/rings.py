"""The correlation of two images ring by ring in Fourier space.

Symbols: an image has `height` x `width` pixels; n = min(height, width) is its shorter side. With
f = (f_y, f_x) the frequency of a sample in cycles per pixel, ring k holds the samples with
round(n |f|) = k, k = 0 .. n // 2: rings of equal width 1 / n, also where the image is not square.
Ring 0 holds the mean of the image; the corners beyond the last ring belong to none.
"""

import functools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike, NDArray
from scipy.signal.windows import tukey

from smlmkit.errors import InvalidInputError, InvalidTypeError

Window = Literal["tukey"] | None
Floats = NDArray[np.float64]
Spectrum = NDArray[np.complex128]

TUKEY_ALPHA = 0.25
"""Tapered share of each side: an eighth at either end."""

_MIN_SIDE_PX = 4
_ROWS_AT_A_TIME = 32


@dataclass(frozen=True, eq=False)
class RingCorrelation:
    """The correlation of two images, ring by ring.

    Parameters
    ----------
    frequency : ndarray of shape (n_rings,)
        Middle of every ring in cycles per pixel.
    correlation : ndarray of shape (n_rings,)
        The correlation in [-1, 1].
    count : ndarray of shape (n_rings,)
        Samples in every ring of the whole Fourier plane.
    """

    frequency: Floats
    correlation: Floats
    count: NDArray[np.int64]


def ring_correlation(
    first: ArrayLike, second: ArrayLike, *, window: Window = "tukey"
) -> RingCorrelation:
    """Correlate two images ring by ring in Fourier space.

    Parameters
    ----------
    first, second : array of shape (height, width)
        Two images of the same shape, at least 4 pixels a side.
    window : {"tukey"} or None, default="tukey"
        ``"tukey"`` tapers an eighth of the image at every border (a Tukey window of alpha 0.25
        along each axis), so that the borders' jump does not correlate, after the mean under the
        window was taken off, so that it does not leak into the first rings; None leaves the images
        as they are, which suits periodic ones.

    Returns
    -------
    RingCorrelation
        Frequencies in cycles per pixel, correlations and counts. The correlation is nan everywhere
        when an image is constant, and 0 in a ring where an image has no power: nothing is shared.

    Raises
    ------
    InvalidTypeError
        If an image does not hold real numbers.
    InvalidInputError
        If the shapes differ, are not two-dimensional or too small, a value is not finite, or the
        window is unknown.

    Notes
    -----
    FRC(q) = Re sum(F1 F2*) / sqrt(sum |F1|^2 sum |F2|^2), the sums over the samples of ring q
    (Saxton & Baumeister 1982; for localizations Nieuwenhuizen et al. 2013). It keeps its sign:
    white independent noise has mean 0 and, without a window, standard deviation 1 / sqrt(count).
    With a window ring 0, the mean, is 0 by construction.

    Examples
    --------
    >>> import numpy as np
    >>> signal, *noise = np.random.default_rng(0).normal(size=(3, 64, 64))
    >>> rings = ring_correlation(signal + noise[0], signal + noise[1])
    >>> float(rings.frequency[-1])
    0.5
    >>> round(float(rings.correlation[1:].mean()), 1)  # as much signal as noise
    0.5
    """
    images = _check_image(first, "first"), _check_image(second, "second")
    shape = images[0].shape
    if images[1].shape != shape:
        raise InvalidInputError(
            f"the images must have the same shape, got {shape} and {images[1].shape}"
        )
    if window not in ("tukey", None):
        raise InvalidInputError(f"window must be 'tukey' or None, got {window!r}")
    count = _ring_counts(shape)
    frequency = np.arange(len(count)) / min(shape)
    if any(image.min() == image.max() for image in images):
        return RingCorrelation(frequency, np.full(len(count), np.nan), count)
    spectra = [scipy.fft.rfft2(_tapered(image, window), workers=-1) for image in images]
    correlation = _correlate(spectra[0], spectra[1], shape)
    if window is not None:
        correlation[0] = 0  # the mean is gone: rounding errors are all that ring 0 holds
    return RingCorrelation(frequency, correlation, count)


def _check_image(image: ArrayLike, name: str) -> NDArray[Any]:
    values = np.asarray(image)
    if values.dtype.kind not in "buif":
        raise InvalidTypeError(f"the {name} image must hold real numbers, got {values.dtype}")
    if values.ndim != 2 or min(values.shape) < _MIN_SIDE_PX:
        raise InvalidInputError(
            f"the {name} image must be two-dimensional with at least {_MIN_SIDE_PX} pixels a side, "
            f"got shape {values.shape}"
        )
    # The extremes of an array with a nan or an infinity are not finite either: no mask is needed.
    if not (np.isfinite(values.min()) and np.isfinite(values.max())):
        n_bad = values.size - int(np.isfinite(values).sum())
        raise InvalidInputError(f"the {name} image has {n_bad:,} pixels that are nan or infinite")
    return values


def _tapered(image: NDArray[Any], window: Window) -> Floats:
    tapered = image.astype(np.float64)
    if window is not None:
        rows, columns = (tukey(side, TUKEY_ALPHA) for side in image.shape)
        # What is left of the mean would spread over the first rings, where both images share it.
        tapered -= (rows @ tapered @ columns) / (rows.sum() * columns.sum())
        tapered *= rows[:, np.newaxis]
        tapered *= columns
    return tapered


@functools.lru_cache(maxsize=4)
def _ring_numbers(shape: tuple[int, int]) -> NDArray[np.intp]:
    """Give the ring of each sample of rfft2's half plane; n // 2 + 1 stands for the corners."""
    height, width = shape
    n, rows = min(shape), np.arange(height)
    y = np.minimum(rows, height - rows) * n / height
    x = np.arange(width // 2 + 1) * n / width
    ring: Floats = np.rint(np.hypot(y[:, np.newaxis], x))
    numbers = np.minimum(ring, n // 2 + 1).astype(np.intp)
    numbers.flags.writeable = False
    return numbers


@functools.lru_cache(maxsize=4)
def _ring_counts(shape: tuple[int, int]) -> NDArray[np.int64]:
    numbers = _ring_numbers(shape)
    counts = _sum_rings(np.ones(numbers.shape), numbers, shape).astype(np.int64)
    counts.flags.writeable = False
    return counts


def _sum_rings(half_plane: Floats, numbers: NDArray[np.intp], shape: tuple[int, int]) -> Floats:
    """Sum rows of the half plane over the rings of the whole plane; overwrites `half_plane`."""
    # Every column but the first, and the last of an even width, also stands for its mirror image.
    half_plane[:, 1 : (shape[1] + 1) // 2] *= 2
    n_rings = min(shape) // 2 + 1
    sums = np.bincount(numbers.ravel(), weights=half_plane.ravel(), minlength=n_rings)
    return sums[:n_rings].astype(np.float64, copy=False)


def _correlate(first: Spectrum, second: Spectrum, shape: tuple[int, int]) -> Floats:
    numbers = _ring_numbers(shape)
    shared, first_power, second_power = np.zeros((3, min(shape) // 2 + 1))
    # A few rows at a time: what is computed from them then stays in the processor's cache.
    for start in range(0, shape[0], _ROWS_AT_A_TIME):
        rows = slice(start, start + _ROWS_AT_A_TIME)
        f, g, ring = first[rows], second[rows], numbers[rows]
        shared += _sum_rings(f.real * g.real + f.imag * g.imag, ring, shape)
        first_power += _sum_rings(f.real**2 + f.imag**2, ring, shape)
        second_power += _sum_rings(g.real**2 + g.imag**2, ring, shape)
    scale = np.sqrt(first_power) * np.sqrt(second_power)
    correlation = np.zeros_like(scale)
    np.divide(shared, scale, out=correlation, where=scale > 0)
    return correlation.clip(-1, 1)
