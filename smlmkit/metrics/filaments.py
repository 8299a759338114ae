"""Two filaments side by side: from which distance on an image shows both.

`averaged_profile` cuts across them, `two_peaks` looks whether the cut has two maxima, and
`smallest_resolved` reads from many pairs how close the closest are that the image resolves.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import map_coordinates
from scipy.signal import find_peaks

from smlmkit._checks import check_between, check_positive
from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.metrics._images import check_finite, check_image

Floats = NDArray[np.float64]

RAYLEIGH_DIP = 0.265
"""Dip between two points through a round aperture, one in the first dark ring of the other."""

_MIN_SAMPLES = 3
_ROUNDING_ERROR = 1e-6
"""Pixels by which a cut along the border may leave the image."""


class TwoPeaks(NamedTuple):
    """The two maxima of a profile across two filaments.

    Parameters
    ----------
    resolved : bool
        Whether the dip between them is as deep as was asked for.
    peaks : tuple of two floats
        Where they lie, the lower offset first; nan where the profile has fewer than two maxima.
    distance : float
        How far they lie apart; nan where the profile has fewer than two maxima.
    dip : float
        How far the profile falls between them, as a share of the higher one; 0 where the profile
        has fewer than two maxima.
    """

    resolved: bool
    peaks: tuple[float, float]
    distance: float
    dip: float


def averaged_profile(
    image: ArrayLike,
    center: tuple[float, float] | None = None,
    *,
    length: float,
    half_width: float,
    angle: float = 0.0,
    step: float = 0.25,
) -> tuple[Floats, Floats]:
    """Cut across straight filaments and average along them.

    Parameters
    ----------
    image : array of shape (height, width)
        The image, at least 2 pixels a side.
    center : tuple of two floats, optional
        The middle (y, x) of the cut in pixels from the image's corner: pixel (i, j) has its centre
        at (i + 0.5, j + 0.5). By default the middle of the image.
    length : float
        How far to average along the filaments in pixels.
    half_width : float
        How far to look to either side in pixels.
    angle : float, default=0.0
        The direction of the filaments in degrees, from the x axis towards the y axis: 0 is along a
        row, 90 along a column.
    step : float, default=0.25
        Distance of two samples in pixels, from 0.01 to 1, along and across; less where the length
        or the width is no multiple of it.

    Returns
    -------
    offset : ndarray of shape (n,)
        Distance from the centre in pixels, from -`half_width` to `half_width`. It rises along the
        direction `angle` + 90 degrees: towards larger y where the filaments lie along x.
    profile : ndarray of shape (n,)
        The mean of the image along the filaments at each offset.

    Raises
    ------
    InvalidTypeError
        If the image does not hold real numbers.
    InvalidInputError
        If the image is not two-dimensional or too small, the cut leaves it, a value in the cut is
        not finite, or a parameter is out of range.

    Notes
    -----
    Between the centres of pixels the image is interpolated bilinearly. So no sample lies beyond the
    pixels around it, and interpolation digs no dip. It blurs instead: filaments that run along
    neither axis as a Gaussian of 0.41 pixels (variance 1/6) would.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((7, 20))
    >>> image[1], image[4] = 3, 6
    >>> offset, profile = averaged_profile(image, (3, 10), length=8, half_width=2.5, step=0.5)
    >>> profile[::2]
    array([0., 3., 0., 0., 6., 0.])
    >>> offset[np.argmax(profile)]
    np.float64(1.5)
    """
    values = check_image(image, "the image", min_side_px=2)
    middle = np.array(values.shape) / 2 if center is None else check_center(center)
    check_between(-math.inf, math.inf, closed="neither", angle=angle)
    check_positive(length=length, half_width=half_width)
    check_between(0.01, 1, step=step)
    along = np.array([math.sin(math.radians(angle)), math.cos(math.radians(angle))])
    across = np.array([along[1], -along[0]])
    reach = np.abs(along) * length / 2 + np.abs(across) * half_width
    low, high = middle - reach, middle + reach
    if min(low) < -_ROUNDING_ERROR or any(high > np.add(values.shape, _ROUNDING_ERROR)):
        raise InvalidInputError(
            f"the cut spans y from {low[0]:.1f} to {high[0]:.1f} and x from {low[1]:.1f} to "
            f"{high[1]:.1f} pixels: it leaves the image of {values.shape[0]} x {values.shape[1]}"
        )
    first = (np.floor(low).astype(int) - 1).clip(0)
    last = np.ceil(high).astype(int) + 1
    part = values[first[0] : last[0], first[1] : last[1]]
    check_finite(part, "the cut")

    n_along, n_across = math.ceil(length / step), 2 * math.ceil(half_width / step) + 1
    offset = np.linspace(-half_width, half_width, n_across)
    place = ((np.arange(n_along) + 0.5) / n_along - 0.5) * length
    rows, columns = (
        origin + np.add.outer(sideways * offset, forward * place)
        for origin, sideways, forward in zip(middle - 0.5 - first, across, along, strict=True)
    )
    # Beyond the centres of the outermost pixels their value holds on to the border.
    samples = map_coordinates(part.astype(np.float64), [rows, columns], order=1, mode="nearest")
    profile: Floats = samples.mean(axis=1)
    return offset, profile


def two_peaks(
    offset: ArrayLike, profile: ArrayLike, *, least_dip: float = RAYLEIGH_DIP
) -> TwoPeaks:
    """Find the highest maximum and the one that the deepest dip parts from it.

    Parameters
    ----------
    offset : array of shape (n,)
        Where the samples lie, rising, in any unit.
    profile : array of shape (n,)
        The intensity at each of them, without an offset of its own: 0 where nothing is.
    least_dip : float, default=0.265
        The dip from which on two maxima count as resolved, in [0, 1). The default is that of
        Rayleigh's criterion. 0 is Sparrow's: any minimum between two maxima will do, which noise
        always makes.

    Returns
    -------
    TwoPeaks
        Whether they are resolved, and the maxima's offsets, distance and dip.

    Raises
    ------
    InvalidTypeError
        If the offsets or the profile do not hold real numbers.
    InvalidInputError
        If they have different shapes, are not one-dimensional or have fewer than three samples, a
        value is not finite, the offsets do not rise, or `least_dip` is out of range.

    Notes
    -----
    One of the two is always the highest maximum of the profile, a. The other is the maximum b for
    which

        dip = (b - m) / a

    is largest, where m is the minimum between them. For equal maxima this is the usual 1 - m / a.
    Unlike 1 - m / mean(a, b), it is small where b is a speck of the background or a ripple on the
    flank of a. A speck that is brighter than both filaments, however, is taken for one of the two,
    and if it is much brighter, they count as not resolved. The ends of a profile are no maxima:
    what still rises there may go on.

    Of two equal Gaussians of standard deviation s, maxima part at a distance of 2 s (Sparrow 1916).
    At 2.80 s the dip is 0.265, as that of two points through a round aperture is where Rayleigh's
    criterion puts them: one in the first dark ring of the other.

    Examples
    --------
    >>> import numpy as np
    >>> offset = np.linspace(-100, 100, 401)
    >>> for distance in (15, 25, 40):
    ...     profile = sum(
    ...         np.exp(-(((offset - middle) / 10) ** 2) / 2)
    ...         for middle in (-distance / 2, distance / 2)
    ...     )
    ...     result = two_peaks(offset, profile)
    ...     print(result.resolved, result.distance, round(result.dip, 2))
    False nan 0.0
    False 22.0 0.13
    True 40.0 0.73
    """
    x, heights = _check_samples(offset, "offset"), _check_samples(profile, "profile")
    if x.shape != heights.shape or len(x) < _MIN_SAMPLES:
        raise InvalidInputError(
            f"offset and profile must have the same shape of at least ({_MIN_SAMPLES},), got "
            f"{x.shape} and {heights.shape}"
        )
    if not (np.diff(x) > 0).all():
        raise InvalidInputError("offset must rise from each sample to the next")
    check_between(0, 1, closed="left", least_dip=least_dip)

    maxima = find_peaks(heights)[0]
    if len(maxima) < 2 or heights[maxima].max() <= 0:
        return TwoPeaks(False, (math.nan, math.nan), math.nan, 0.0)
    highest = maxima[np.argmax(heights[maxima])]
    falls = [heights[at] - _between(heights, at, highest).min() for at in maxima]
    other = maxima[np.argmax(falls)]
    dip = float(max(falls) / heights[highest])
    left, right = sorted((float(x[highest]), float(x[other])))
    return TwoPeaks(dip >= least_dip, (left, right), right - left, dip)


def smallest_resolved(distances: ArrayLike, resolved: ArrayLike) -> float:
    """Give the smallest distance from which on all pairs are resolved.

    Parameters
    ----------
    distances : array of shape (n,)
        The true distance of each pair, in any order and unit.
    resolved : array of bool, shape (n,)
        Whether each pair was resolved. A distance with several pairs counts if all of them were.

    Returns
    -------
    float
        The smallest such distance, one of `distances`; nan if not even the largest is resolved.

    Raises
    ------
    InvalidTypeError
        If the distances do not hold real numbers, or `resolved` no booleans.
    InvalidInputError
        If the shapes differ or are not one-dimensional, there is no pair, or a distance is not
        finite.

    Notes
    -----
    A close pair that is resolved by chance, below a wider one that is not, does not count.

    Examples
    --------
    >>> smallest_resolved([20, 30, 40, 50], [True, False, True, True])
    40.0
    >>> smallest_resolved([20, 30], [True, False])
    nan
    """
    d, is_resolved = _check_samples(distances, "distances"), np.asarray(resolved)
    if d.shape != is_resolved.shape or len(d) == 0:
        raise InvalidInputError(
            f"distances and resolved must have the same shape of at least (1,), got {d.shape} and "
            f"{is_resolved.shape}"
        )
    if is_resolved.dtype.kind != "b":
        raise InvalidTypeError(f"resolved must hold booleans, got {is_resolved.dtype}")
    widest_missed = d[~is_resolved].max(initial=-math.inf)
    smallest = float(d[d > widest_missed].min(initial=math.inf))
    return smallest if math.isfinite(smallest) else math.nan


def check_center(center: Any) -> Floats:
    """Refuse what are not two finite numbers.

    Parameters
    ----------
    center : array of shape (2,)
        A place (y, x).

    Returns
    -------
    ndarray of shape (2,)
        The place.

    Raises
    ------
    InvalidInputError
        If it is something else.
    """
    values = np.asarray(center)
    if values.shape != (2,) or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise InvalidInputError(f"center must be two finite numbers (y, x), got {center!r}")
    return values.astype(np.float64)


def _between(heights: Floats, one: int, other: int) -> Floats:
    return heights[min(one, other) : max(one, other) + 1]


def _check_samples(values: ArrayLike, name: str) -> Floats:
    samples = np.asarray(values)
    if samples.dtype.kind not in "buif":
        raise InvalidTypeError(f"{name} must hold real numbers, got {samples.dtype}")
    if samples.ndim != 1:
        raise InvalidInputError(f"{name} must be one-dimensional, got shape {samples.shape}")
    n_bad = samples.size - int(np.isfinite(samples).sum())
    if n_bad:
        raise InvalidInputError(f"{name} has {n_bad:,} values that are nan or infinite")
    return samples.astype(np.float64)
