"""Fourier ring correlation: up to which spatial frequency two images agree.

`smlmkit.metrics.rings` says what a ring is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.signal import savgol_filter

from smlmkit.errors import InvalidInputError
from smlmkit.grid import check_pixel_size
from smlmkit.metrics.rings import Floats, RingCorrelation, Window, ring_correlation

Threshold = Literal["1/7", "half-bit", "one-bit", "3-sigma"]

# log2(1 + 2 SNR) bits: the signal-to-noise ratio that each half of the data then has.
_SNR_OF_BITS = {"half-bit": (math.sqrt(2) - 1) / 2, "one-bit": 0.5}
_MIN_SMOOTHED_RINGS = 5


@dataclass(frozen=True, eq=False)
class FRCCurve:
    """A Fourier ring correlation and the resolution read from it.

    Parameters
    ----------
    frequency : ndarray of shape (n_rings,)
        Middle of every ring in cycles/nm.
    correlation : ndarray of shape (n_rings,)
        The correlation, or its mean over repeats; nan where an image is constant.
    smoothed : ndarray of shape (n_rings,)
        The curve from which the resolution is read.
    count : ndarray of shape (n_rings,)
        Samples in every ring of the whole Fourier plane.
    threshold_curve : ndarray of shape (n_rings,)
        The threshold at every ring.
    threshold : {"1/7", "half-bit", "one-bit", "3-sigma"}
        Name of the threshold.
    pixel_size : float
        Edge of a pixel in nm.
    resolution : float
        Where the smoothed curve first falls below the threshold, in nm; nan when there is none.
    resolution_sd : float
        Standard deviation of the resolution over repeats in nm; nan with fewer than two repeats or
        when one of them has no resolution.
    reason : str
        Why there is no resolution; empty when there is one.
    """

    frequency: Floats = field(repr=False)
    correlation: Floats = field(repr=False)
    smoothed: Floats = field(repr=False)
    count: NDArray[np.int64] = field(repr=False)
    threshold_curve: Floats = field(repr=False)
    threshold: Threshold
    pixel_size: float
    resolution: float
    resolution_sd: float
    reason: str

    def area(self, cutoff: float = 0.2) -> float:
        """Give the mean correlation over the rings up to a cutoff, without ring 0.

        Parameters
        ----------
        cutoff : float, default=0.2
            Highest frequency in cycles per pixel, at most 0.5.

        Returns
        -------
        float
            The area; nan where an image is constant.

        Raises
        ------
        InvalidInputError
            If `cutoff` is not in (0, 0.5] or below the first ring.
        """
        return _mean_up_to(cutoff, self.frequency * self.pixel_size, self.correlation)


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
    return _mean_up_to(cutoff, rings.frequency, rings.correlation)


def curve_from_rings(
    repeats: Sequence[RingCorrelation],
    pixel_size: float,
    *,
    threshold: Threshold = "1/7",
    smoothing: float = 0.1,
) -> FRCCurve:
    """Average repeated ring correlations and read the resolution.

    Parameters
    ----------
    repeats : sequence of RingCorrelation
        One or more, of images of one shape.
    pixel_size : float
        Edge of a pixel in nm.
    threshold : {"1/7", "half-bit", "one-bit", "3-sigma"}, default="1/7"
        What the curve must stay above, see `threshold_curve`.
    smoothing : float, default=0.1
        Span of the smoothing as a share of the rings, in [0, 1): over at least five rings, a
        parabola is fitted around every ring (a Savitzky-Golay filter). 0 does not smooth.

    Returns
    -------
    FRCCurve
        The mean curve and its resolution.

    Raises
    ------
    InvalidInputError
        If a parameter is out of range.

    Notes
    -----
    The resolution is 1 / q at the first q where the smoothed curve falls below the threshold,
    linearly interpolated between rings. Ring 0 and the innermost rings whose threshold is 1 or more
    do not count. A curve that starts below the threshold or never falls below it has none.

    Examples
    --------
    >>> import numpy as np
    >>> frequency, count = np.arange(5) / 8, np.ones(5, int)
    >>> rings = RingCorrelation(frequency, np.array([1, 1, 0.9, 0.1, 0]), count)
    >>> curve = curve_from_rings([rings], pixel_size=10, smoothing=0)
    >>> round(curve.resolution, 2)  # between rings 2 and 3, at 40 and 26.7 nm
    27.15
    """
    size = check_pixel_size(pixel_size)
    if not 0 <= smoothing < 1:
        raise InvalidInputError(f"smoothing must be in [0, 1), got {smoothing!r}")
    frequency, count = repeats[0].frequency / size, repeats[0].count
    level = threshold_curve(threshold, count)
    correlation = np.mean([rings.correlation for rings in repeats], axis=0)
    smoothed = _smooth(correlation, smoothing)
    resolution, reason = _first_crossing(frequency, smoothed, level, threshold)
    each = [
        _first_crossing(frequency, _smooth(rings.correlation, smoothing), level, threshold)[0]
        for rings in repeats
    ]
    return FRCCurve(
        frequency=frequency,
        correlation=correlation,
        smoothed=smoothed,
        count=count,
        threshold_curve=level,
        threshold=threshold,
        pixel_size=size,
        resolution=resolution,
        resolution_sd=float(np.std(each, ddof=1)) if len(each) > 1 else math.nan,
        reason=reason,
    )


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
    bit and s = 0.5 one bit in the whole data; ``"3-sigma"`` is 3 / sqrt(n / 2), half of the samples
    being the mirror image of the others.

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


def _mean_up_to(cutoff: float, frequency: Floats, correlation: Floats) -> float:
    """Average rings 1 .. last, `frequency` in cycles per pixel; 1e-9 forgives float error."""
    if not 0 < cutoff <= 0.5:
        raise InvalidInputError(f"cutoff must be in (0, 0.5] cycles per pixel, got {cutoff!r}")
    n_rings = int(np.searchsorted(frequency, cutoff * (1 + 1e-9), side="right"))
    if n_rings < 2:
        raise InvalidInputError(
            f"no ring up to {cutoff} cycles per pixel: the first one is at {frequency[1]:.3g}"
        )
    return float(correlation[1:n_rings].mean())


def _smooth(correlation: Floats, span: float) -> Floats:
    """Fit a parabola around every ring but ring 0, which only holds the images' means."""
    n_rings = len(correlation) - 1
    n_fitted = max(_MIN_SMOOTHED_RINGS, int(span * n_rings)) | 1
    if span == 0 or n_fitted > n_rings or np.isnan(correlation).any():
        return correlation
    smoothed = correlation.copy()
    smoothed[1:] = savgol_filter(correlation[1:], n_fitted, polyorder=2)
    return smoothed


def _first_crossing(
    frequency: Floats, curve: Floats, level: Floats, threshold: str
) -> tuple[float, str]:
    """Find 1 / q where the curve first falls below the level, or say why it does not."""
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
    return float(1 / q), ""
