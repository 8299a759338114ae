"""Fourier ring correlation: up to which spatial frequency two images agree.

`smlmkit.metrics.rings` says what a ring is, `smlmkit.resolution` what a user calls.
"""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.signal import savgol_filter

from smlmkit._checks import check_between
from smlmkit.errors import InvalidInputError
from smlmkit.metrics.rings import Floats, Window, ring_correlation

Threshold = Literal["1/7", "half-bit", "one-bit", "3-sigma"]

# log2(1 + 2 SNR) bits: the signal-to-noise ratio that each half of the data then has.
_SNR_OF_BITS = {"half-bit": (math.sqrt(2) - 1) / 2, "one-bit": 0.5}
_MIN_SMOOTHED_RINGS = 5
_DEGREE = 2
_CEILING_SMOOTHING = 0.1


def frc_area(
    first: ArrayLike, second: ArrayLike, *, cutoff: float = 0.2, window: Window = "tukey"
) -> float:
    """Give the mean Fourier ring correlation of two images up to a cutoff.

    Parameters
    ----------
    first, second : array of shape (height, width)
        Two images of the same shape, at least 4 pixels a side.
    cutoff : float, default=0.2
        Highest frequency in cycles per pixel, at most 0.5.
    window : {"tukey"} or None, default="tukey"
        As in `ring_correlation`.

    Returns
    -------
    float
        The mean over rings 1 to cutoff * n, in [-1, 1]; nan when an image is constant. Ring 0 does
        not count: it is 1 for any two images of positive mean.

    Raises
    ------
    InvalidTypeError
        If an image does not hold real numbers.
    InvalidInputError
        If the images do not fit `ring_correlation`, or `cutoff` is not in (0, 0.5] or below the
        first ring.

    Notes
    -----
    The training loss of Berberich et al. 2021 is 1 minus this area; theirs takes the modulus of the
    correlation, so that pure noise scores above 0.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.random.default_rng(0).poisson(1.0, size=(32, 48))
    >>> round(frc_area(image, 3 * image), 6)
    1.0
    """
    rings = ring_correlation(first, second, window=window)
    return mean_up_to(cutoff, rings.frequency, rings.correlation)


def area_up_to(
    cutoff: float,
    first: ArrayLike,
    second: ArrayLike,
    area: Callable[..., float] = frc_area,
) -> float:
    """Give the area up to a cutoff that the pixels may be too large to hold.

    Parameters
    ----------
    cutoff : float
        Highest frequency in cycles per pixel; what lies beyond 0.5 counts as uncorrelated.
    first, second : array of shape (height, width)
        Two images of the same shape, at least 4 pixels a side.
    area : callable, default=frc_area
        What gives the area: `frc_area` or `frc_ceiling`.

    Returns
    -------
    float
        The area; 0 when an image is constant.

    Examples
    --------
    >>> image = np.random.default_rng(0).random((16, 16))
    >>> [area_up_to(cutoff, image, image) for cutoff in (0.4, 1.0)]
    [1.0, 0.5]
    """
    value = area(first, second, cutoff=min(cutoff, 0.5))
    return 0.0 if math.isnan(value) else value * min(1.0, 0.5 / cutoff)


def frc_ceiling(
    first: ArrayLike, second: ArrayLike, *, cutoff: float = 0.2, window: Window = "tukey"
) -> float:
    """Give the largest area that any reconstruction of one half can have against the other half.

    Parameters
    ----------
    first, second : array of shape (height, width)
        The raw counts of two halves with independent noise: the one that is reconstructed and the
        one that the reconstruction is compared with.
    cutoff : float, default=0.2
        Highest frequency in cycles per pixel, at most 0.5.
    window : {"tukey"} or None, default="tukey"
        As in `ring_correlation`.

    Returns
    -------
    float
        The mean over rings 1 to cutoff * n; nan when an image is constant.

    Raises
    ------
    InvalidTypeError, InvalidInputError
        As `frc_area` does.

    Notes
    -----
    With signal power s per unit of noise power in half B, the noise-free density correlates with B
    by sqrt(s / (s + 1)), the root of the share of B's power that is signal. Of the signal half A
    tells, whose noise is independent: with n_A and n_B localizations that share is

        n_B Re sum(A B*) / (n_A sum |B|^2),

    which for equal halves is FRC(A, B) but for noise. This holds in expectation and where both
    halves are draws of one density: a bead that bleaches breaks it. The share is smoothed before
    the root, with a span of 0.1, and kept between 0 and 1. What smoothing leaves of the noise
    raises the ceiling: over rings that share nothing it is about 0.12 for images of 128^2 pixels,
    0.06 for 512^2 and 0.03 for 2048^2.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> density = np.kron(rng.random((32, 32)) ** 4, np.ones((4, 4)))
    >>> first, second = rng.poisson(density, size=(2, 128, 128))
    >>> areas = frc_area(first, second), frc_area(density, second), frc_ceiling(first, second)
    >>> [round(area, 2) for area in areas]
    [0.73, 0.85, 0.85]
    """
    rings = ring_correlation(first, second, window=window)
    if np.isnan(rings.shared).any():
        return math.nan
    exposure = np.sum(second, dtype=np.float64) / np.sum(first, dtype=np.float64)
    power = np.where(rings.second_power == 0, 1, rings.second_power)  # there nothing is shared
    signal_share = smooth_curve(exposure * rings.shared / power, _CEILING_SMOOTHING)
    return mean_up_to(cutoff, rings.frequency, np.sqrt(signal_share.clip(0, 1)))


def mean_up_to(cutoff: float, frequency: Floats, correlation: Floats) -> float:
    """Average a curve over the rings up to a cutoff, without ring 0.

    Parameters
    ----------
    cutoff : float
        Highest frequency in cycles per pixel, at most 0.5.
    frequency : ndarray of shape (n_rings,)
        Middle of every ring in cycles per pixel.
    correlation : ndarray of shape (n_rings,)
        The curve.

    Returns
    -------
    float
        The mean.

    Raises
    ------
    InvalidInputError
        If `cutoff` is not in (0, 0.5] or below the first ring.

    Examples
    --------
    >>> mean_up_to(0.5, np.array([0, 0.25, 0.5]), np.array([1, 0.8, 0.4]))
    0.6000000000000001
    """
    check_between(0, 0.5, closed="right", cutoff=cutoff)
    # A share of 1e-9 forgives rounding errors.
    n_rings = int(np.searchsorted(frequency, cutoff * (1 + 1e-9), side="right"))
    if n_rings < 2:
        raise InvalidInputError(
            f"no ring up to {cutoff} cycles per pixel: the first one is at {frequency[1]:.3g}"
        )
    return float(correlation[1:n_rings].mean())


def threshold_curve(threshold: Threshold, count: ArrayLike) -> Floats:
    """Give the correlation that a ring must reach to count as resolved.

    Parameters
    ----------
    threshold : {"1/7", "half-bit", "one-bit", "3-sigma"}
        Name of the threshold.
    count : array of shape (n_rings,)
        Samples in every ring of the whole Fourier plane.

    Returns
    -------
    ndarray of shape (n_rings,)
        The threshold at every ring.

    Raises
    ------
    InvalidInputError
        If the threshold is unknown.

    Notes
    -----
    ``"1/7"`` is constant (Nieuwenhuizen et al. 2013). The others are those of van Heel & Schatz
    2005, with n = count: a signal-to-noise ratio s in each half gives
    (s + (2 sqrt(s) + 1) / sqrt(n)) / (1 + s + 2 sqrt(s) / sqrt(n)), where s = 0.2071 holds half a
    bit and s = 0.5 one bit in the whole data; ``"3-sigma"`` is 3 / sqrt(n / 2). For the signed
    curve, whose noise has the standard deviation 1 / sqrt(n), the latter are 4.2 of these.

    Examples
    --------
    >>> threshold_curve("half-bit", [100, 10_000]).round(3)
    array([0.307, 0.186])
    """
    n = np.asarray(count, dtype=np.float64)
    if threshold == "1/7":
        return np.full(n.shape, 1 / 7)
    if threshold == "3-sigma":
        return np.asarray(3 / np.sqrt(n / 2))
    if threshold not in _SNR_OF_BITS:
        raise InvalidInputError(
            f"threshold must be '1/7', 'half-bit', 'one-bit' or '3-sigma', got {threshold!r}"
        )
    snr = _SNR_OF_BITS[threshold]
    noise = 2 * math.sqrt(snr)
    return np.asarray((snr + (noise + 1) / np.sqrt(n)) / (1 + snr + noise / np.sqrt(n)))


def check_reading(threshold: Threshold, smoothing: float) -> None:
    """Refuse a threshold or a smoothing that no curve could be read with, before there is one.

    Parameters
    ----------
    threshold : {"1/7", "half-bit", "one-bit", "3-sigma"}
        Name of the threshold.
    smoothing : float
        Span of the smoothing as a share of the rings.

    Raises
    ------
    InvalidInputError
        If the threshold is unknown or the span not in [0, 1).
    """
    threshold_curve(threshold, [1])
    check_between(0, 1, closed="left", smoothing=smoothing)


def correlation_sd(correlation: Floats, n_independent: Floats) -> Floats:
    """Give the standard deviation of a ring's correlation that the noise of one split causes.

    Parameters
    ----------
    correlation : ndarray of shape (n_rings,)
        The expected correlation F.
    n_independent : ndarray of shape (n_rings,)
        Independent real numbers in every ring.

    Returns
    -------
    ndarray of shape (n_rings,)
        The standard deviation.

    Notes
    -----
    sqrt((1 + 2 F - F^2) (1 - F)^2 / n) for one structure under fresh noise: the signal is the same
    in both images and the noise normally distributed, so that F = s / (s + 1) at a signal-to-noise
    ratio s; linear error propagation through numerator and denominator gives the rest. Negative
    correlations count as 0, whose standard deviation is 1 / sqrt(n).

    Examples
    --------
    >>> correlation_sd(np.array([0.0, 0.5, 1.0]), np.array([100.0, 100.0, 100.0])).round(4)
    array([0.1   , 0.0661, 0.    ])
    """
    f = np.maximum(correlation, 0)
    return np.asarray((1 - f) * np.sqrt((1 + 2 * f - f**2) / n_independent))


def smooth_curve(correlation: Floats, span: float) -> Floats:
    """Fit a parabola around every ring but ring 0 (a Savitzky-Golay filter).

    Parameters
    ----------
    correlation : ndarray of shape (n_rings,)
        The curve. Ring 0 only holds the images' means and stays as it is.
    span : float
        Share of the rings, in [0, 1), that a parabola is fitted to, at least five; 0 for none.

    Returns
    -------
    ndarray of shape (n_rings,)
        The smooth curve; the curve itself where there are too few rings or nan.

    Examples
    --------
    >>> smooth_curve(np.array([1, 0.9, 0.6, 0.7, 0.4, 0.1]), span=0.5).round(2)
    array([1.  , 0.84, 0.75, 0.6 , 0.39, 0.12])
    """
    n_fitted = _fitted_rings(len(correlation), span)
    if n_fitted == 1 or np.isnan(correlation).any():
        return correlation
    smoothed = correlation.copy()
    smoothed[1:] = savgol_filter(correlation[1:], n_fitted, _DEGREE)
    return smoothed


def smoothed_sd(sd: Floats, span: float) -> Floats:
    """Give the standard deviation that `smooth_curve` leaves of independent errors.

    Parameters
    ----------
    sd : ndarray of shape (n_rings,)
        Standard deviation in every ring before.
    span : float
        As in `smooth_curve`.

    Returns
    -------
    ndarray of shape (n_rings,)
        Standard deviation in every ring after.

    Examples
    --------
    >>> round(float(smoothed_sd(np.full(50, 0.1), span=0.2)[25]), 3)
    0.051
    """
    n_fitted = _fitted_rings(len(sd), span)
    if n_fitted == 1:
        return sd
    # A row of weights for every ring of one parabola; the ends of the curve lie on one each.
    weights = savgol_filter(np.eye(n_fitted), n_fitted, _DEGREE, axis=0) ** 2
    half = n_fitted // 2
    variance = sd[1:] ** 2
    smoothed = sd.copy()
    smoothed[1 : 1 + half] = np.sqrt(weights[:half] @ variance[:n_fitted])
    smoothed[1 + half : -half] = np.sqrt(np.convolve(variance, weights[half], mode="valid"))
    smoothed[-half:] = np.sqrt(weights[-half:] @ variance[-n_fitted:])
    return smoothed


def _fitted_rings(n_rings: int, span: float) -> int:
    """Give an odd number of rings, 1 for no smoothing."""
    n_fitted = max(_MIN_SMOOTHED_RINGS, int(span * (n_rings - 1))) | 1
    return 1 if span == 0 or n_fitted > n_rings - 1 else n_fitted


def first_crossing(
    frequency: Floats, curve: Floats, level: Floats, threshold: str
) -> tuple[float, str]:
    """Find where a curve first falls below its threshold, or say why it does not.

    Parameters
    ----------
    frequency, curve, level : ndarray of shape (n_rings,)
        Middle of every ring in cycles/nm, the curve and the threshold there.
    threshold : str
        Name of the threshold, for the reason.

    Returns
    -------
    frequency : float
        Where the line between two rings meets the threshold, in cycles/nm; nan when there is none.
    reason : str
        Why there is none; empty when there is one.

    Notes
    -----
    Ring 0 and the innermost rings whose threshold is 1 or more do not count. A curve that starts
    below the threshold or never falls below it has no crossing.

    Examples
    --------
    >>> curve = np.array([1, 1, 0.9, 0.1, 0])
    >>> first_crossing(np.arange(5) / 80, curve, np.full(5, 0.5), "0.5")
    (0.03125, '')
    """
    if np.isnan(curve).any():
        return math.nan, "an image is constant: there is nothing to correlate"
    reachable = np.flatnonzero(level[1:] < 1) + 1
    if len(reachable) == 0:
        return math.nan, f"the images have too few pixels for the {threshold} threshold"
    start = reachable[0]
    margin = curve[start:] - level[start:]
    below = np.flatnonzero(margin < 0)
    if len(below) == 0:
        return math.nan, (
            f"the curve never falls below the {threshold} threshold: the resolution is better than "
            f"{1 / frequency[-1]:.3g} nm, the finest that these pixels hold"
        )
    k = below[0]
    if k == 0:
        return math.nan, f"the curve starts below the {threshold} threshold"
    step = margin[k - 1] / (margin[k - 1] - margin[k])
    q = frequency[start + k - 1] + step * (frequency[start + k] - frequency[start + k - 1])
    return float(q), ""
