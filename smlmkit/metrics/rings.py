"""The correlation of two images ring by ring, or of two stacks shell by shell, in Fourier space.

Symbols: an image has `height` x `width` pixels; n = min(height, width) is its shorter side. With
f = (f_y, f_x) the frequency of a sample in cycles per pixel, ring k holds the samples with
round(n |f|) = k, k = 0 .. n // 2: rings of equal width 1 / n, also where the image is not square.
Ring 0 holds the mean of the image; the corners beyond the last ring belong to none. A stack has
slices of `spacing` pixels before these axes; its shells are as wide as the rings of its slices and
end where the coarsest axis does.
"""

import functools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike, NDArray
from scipy.signal.windows import tukey

from smlmkit._kernels.rings import add_ring_sums, count_ring_samples
from smlmkit._threads import default_threads, run_bands
from smlmkit.errors import InvalidInputError
from smlmkit.metrics._images import check_image, check_same_shape
from smlmkit.metrics._tapering import mean_of_varying, taper_image

Window = Literal["tukey"] | None
Floats = NDArray[np.float64]
Spectrum = NDArray[np.complex128]

TUKEY_ALPHA = 0.25
"""Tapered share of each side: an eighth at either end."""

# Beyond so many samples, likeness is nothing; directions that the mean is taken over.
_REACH, _N_DIRECTIONS = 4, 64
# Sums over bands of rows are added in one order whatever the number of threads.
_N_BANDS = 16


@dataclass(frozen=True, eq=False)
class RingCorrelation:
    """What two images share and what each holds, ring by ring.

    Parameters
    ----------
    frequency : ndarray of shape (n_rings,)
        Middle of every ring in cycles per pixel.
    shared : ndarray of shape (n_rings,)
        Re sum(F1 F2*) over the samples of every ring; nan where an image is constant.
    first_power, second_power : ndarray of shape (n_rings,)
        Power of each image, sum |F1|^2 and sum |F2|^2; nan where an image is constant.
    count : ndarray of shape (n_rings,)
        Samples in every ring of the whole Fourier plane.
    n_independent : ndarray of shape (n_rings,)
        How many independent real numbers they are worth: `count` without a window; less with one,
        which makes neighbouring samples alike.
    """

    frequency: Floats
    shared: Floats
    first_power: Floats
    second_power: Floats
    count: NDArray[np.int64]
    n_independent: Floats

    @property
    def correlation(self) -> Floats:
        """Shared / sqrt(first_power second_power), in [-1, 1]; 0 where an image has no power."""
        return normalize_sums(self.shared, self.first_power, self.second_power)


def normalize_sums(shared: Floats, first_power: Floats, second_power: Floats) -> Floats:
    """Give the correlation that ring sums stand for.

    Parameters
    ----------
    shared, first_power, second_power : ndarray of one shape
        Sums over rings, as in `RingCorrelation`.

    Returns
    -------
    ndarray of the same shape
        Shared / sqrt(first_power second_power), in [-1, 1]; 0 where an image has no power.

    Examples
    --------
    >>> normalize_sums(np.array([1.0, 0.0]), np.array([1.0, 0.0]), np.array([4.0, 2.0]))
    array([0.5, 0. ])
    """
    scale = np.sqrt(first_power) * np.sqrt(second_power)
    correlation = np.where(np.isnan(scale), np.nan, 0.0)
    np.divide(shared, scale, out=correlation, where=scale > 0)
    return correlation.clip(-1, 1)


def ring_correlation(
    first: ArrayLike, second: ArrayLike, *, window: Window = "tukey", spacing: float | None = None
) -> RingCorrelation:
    """Correlate two images ring by ring, or two stacks shell by shell, in Fourier space.

    Parameters
    ----------
    first, second : array of shape (height, width) or (depth, height, width)
        Two images, or with `spacing` two stacks, of the same shape, at least 4 pixels a side.
    window : {"tukey"} or None, default="tukey"
        ``"tukey"`` tapers an eighth of the image at every border (a Tukey window of alpha 0.25
        along each axis), so that the borders' jump does not correlate, after the mean under the
        window was taken off, so that it does not leak into the first rings; None leaves the images
        as they are, which suits periodic ones.
    spacing : float, optional
        Distance of the slices of a stack in pixels, at most half of the shorter side.

    Returns
    -------
    RingCorrelation
        Sums and correlations; frequencies in cycles per pixel. The correlation is nan everywhere
        when an image is constant, and 0 in a ring where an image has no power: nothing is shared.

    Raises
    ------
    InvalidTypeError
        If an image does not hold real numbers.
    InvalidInputError
        If the shapes differ, have the wrong number of axes or are too small, a value is not finite
        or float64 cannot hold its square, or a parameter is out of range.

    Notes
    -----
    FRC(q) = Re sum(F1 F2*) / sqrt(sum |F1|^2 sum |F2|^2), the sums over the samples of ring q
    (Saxton & Baumeister 1982; for localizations Nieuwenhuizen et al. 2013; over shells Harauz & van
    Heel 1986). It keeps its sign: white independent noise has mean 0 and standard deviation
    1 / sqrt(n_independent). With a window ring 0, the mean, is 0 by construction.

    A taper makes neighbouring samples alike: those d apart by r(d) = |W(d) / W(0)|^2, where W is
    the transform of its square. A ring's samples are worth 1 / sum r(d) p(d) of their number, where
    p(d) is the chance that a sample d from one of the ring is of the ring too: 0.92 for this taper
    and a square.

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
    n_axes = 2 if spacing is None else 3
    images = (
        check_image(first, "the first image", n_axes),
        check_image(second, "the second image", n_axes),
    )
    check_same_shape(*images)
    shape = images[0].shape
    if spacing is not None and not 0 < spacing <= min(shape[1:]) / 2:
        raise InvalidInputError(
            f"slices must lie between 0 and {min(shape[1:]) / 2:g} pixels apart, half the shorter "
            f"side, got {spacing!r}"
        )
    tapers = tapers_of(shape, window)
    rings = rings_of(shape, spacing)
    sums = _ring_sums(images, tapers, rings, window)
    if window is not None:
        sums[:, 0] *= 0  # the mean is gone: rounding errors are all that ring 0 holds
    shared, first_power, second_power = sums
    return RingCorrelation(
        rings.frequency,
        shared,
        first_power,
        second_power,
        rings.count,
        np.multiply(rings.count, worth_of(tapers, spacing), dtype=np.float64),
    )


def tapers_of(shape: tuple[int, ...], window: Window) -> list[Floats]:
    """Give the window's weights along every axis.

    Parameters
    ----------
    shape : tuple of int
        The shape of an image or a stack.
    window : {"tukey"} or None
        As in `ring_correlation`.

    Returns
    -------
    list of ndarray
        One array an axis; ones without a window.

    Raises
    ------
    InvalidInputError
        If the window is unknown.
    """
    if window is None:
        return [np.ones(side) for side in shape]
    if window != "tukey":
        raise InvalidInputError(f"window must be 'tukey' or None, got {window!r}")
    return [tukey(side, TUKEY_ALPHA) for side in shape]


def worth_of(tapers: list[Floats], spacing: float | None = None) -> float:
    """Give how many independent numbers a sample of a tapered image's spectrum is worth in a ring.

    Parameters
    ----------
    tapers : list of ndarray
        The window's weights along every axis.
    spacing : float, optional
        Distance of the slices of a stack in pixels.

    Returns
    -------
    float
        A share in (0, 1]; the formula stands in `ring_correlation`.
    """
    alike, distance_sq = np.ones(()), np.zeros(())
    steps = _steps(tuple(map(len, tapers)), spacing)
    for taper, step in zip(tapers, steps, strict=True):
        near = np.arange(-min(_REACH, len(taper) // 2), min(_REACH, (len(taper) - 1) // 2) + 1)
        power = np.abs(np.fft.fft(taper**2)) ** 2
        alike = np.multiply.outer(alike, power[near] / power[0])
        distance_sq = np.add.outer(distance_sq, (near * step) ** 2)
    # The share that a ring of width 1 has in common with itself shifted, over all directions.
    share = (np.arange(_N_DIRECTIONS) + 0.5) / _N_DIRECTIONS
    cosine = np.cos(share * np.pi / 2) if len(tapers) == 2 else share
    in_ring = (1 - np.multiply.outer(np.sqrt(distance_sq), cosine)).clip(0).mean(axis=-1)
    return float(1 / (alike * in_ring).sum())


def _steps(shape: tuple[int, ...], spacing: float | None) -> list[float]:
    """Give the distance of two neighbouring samples along each axis, in rings."""
    n = min(shape[-2:])
    steps = [n / side for side in shape]
    if spacing is not None:
        steps[0] /= spacing
    return steps


@dataclass(frozen=True, eq=False)
class Rings:
    """Where the rings of a shape lie in the half plane of a real transform.

    Parameters
    ----------
    row_radius_sq : ndarray of shape (n_rows,)
        Square of each row's distance from the origin in rings, all axes but the last flattened.
    column_step : float
        Distance of two columns in rings.
    n_columns : int
        Number of columns.
    last_is_own_mirror : bool
        Whether the last column stands for itself alone.
    frequency : ndarray of shape (n_rings,)
        Middle of every ring in cycles per pixel.
    count : ndarray of shape (n_rings,)
        Samples in every ring of the whole Fourier plane.
    """

    row_radius_sq: Floats
    column_step: float
    n_columns: int
    last_is_own_mirror: bool
    frequency: Floats
    count: NDArray[np.int64]

    def add(self, first: Spectrum, second: Spectrum, rows: slice, sums: Floats) -> None:
        """Add shared, first_power and second_power of some rows of two spectra to `sums`.

        Parameters
        ----------
        first, second : ndarray of complex128, shape (n_rows, n_columns)
            The half planes of two real transforms.
        rows : slice
            Which rows, from start to stop.
        sums : ndarray of shape (3, n_rings)
            What is added to.
        """
        add_ring_sums(
            first,
            second,
            self.row_radius_sq,
            self.column_step,
            self.last_is_own_mirror,
            rows.start,
            rows.stop,
            sums,
        )


@functools.lru_cache(maxsize=16)
def rings_of(shape: tuple[int, ...], spacing: float | None = None) -> Rings:
    """Lay rings over the Fourier plane of an image, or shells over the space of a stack.

    Parameters
    ----------
    shape : tuple of int
        The shape of the image or the stack.
    spacing : float, optional
        Distance of the slices of a stack in pixels.

    Returns
    -------
    Rings
        The rings.
    """
    n = min(shape[-2:])
    steps = _steps(shape, spacing)
    row_radius_sq = np.zeros(())
    for side, step in zip(shape[:-1], steps, strict=False):
        number = np.arange(side)
        distance = np.minimum(number, side - number) * step
        row_radius_sq = np.add.outer(row_radius_sq, distance**2)
    n_rings = n // 2 if spacing is None else int(n / 2 / max(1.0, spacing))
    rings = Rings(
        row_radius_sq=row_radius_sq.ravel(),
        column_step=steps[-1],
        n_columns=shape[-1] // 2 + 1,
        last_is_own_mirror=shape[-1] % 2 == 0,
        frequency=np.arange(n_rings + 1) / n,
        count=np.zeros(n_rings + 1, np.int64),
    )
    count_ring_samples(
        rings.row_radius_sq,
        rings.column_step,
        rings.n_columns,
        rings.last_is_own_mirror,
        rings.count,
    )
    rings.count.flags.writeable = rings.frequency.flags.writeable = False
    return rings


def _ring_sums(
    images: tuple[NDArray[Any], NDArray[Any]], tapers: list[Floats], rings: Rings, window: Window
) -> Floats:
    """Give shared, first_power and second_power, a row each; nan if an image is constant."""
    means = [
        mean_of_varying(image, tapers, name)
        for image, name in zip(images, ("the first image", "the second image"), strict=True)
    ]
    spectra = []
    for image, mean in zip(images, means, strict=True):
        if mean is None:
            return np.full((3, len(rings.count)), np.nan)
        tapered = taper_image(image, tapers, mean if window else 0.0)
        spectrum = scipy.fft.rfftn(tapered, workers=default_threads(), overwrite_x=True)
        spectra.append(spectrum.reshape(-1, rings.n_columns))
    n_rows = len(rings.row_radius_sq)
    band_sums = np.zeros((_N_BANDS, 3, len(rings.count)))

    def add_bands(start: int, stop: int) -> None:
        for band in range(start, stop):
            rows = slice(n_rows * band // _N_BANDS, n_rows * (band + 1) // _N_BANDS)
            rings.add(spectra[0], spectra[1], rows, band_sums[band])

    run_bands(add_bands, _N_BANDS, default_threads())
    total: Floats = band_sums.sum(axis=0)
    return total
