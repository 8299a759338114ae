"""Image resolution by decorrelation analysis: one image is enough.

Symbols: a sample of the Fourier plane has the spatial frequency f = (f_y, f_x) in cycles per pixel
and the radius r = 2 |f|, so that r = 1 is the highest frequency along either axis, also where the
image is not square. The disc of radius r holds the samples below r; the corners are in none.
"""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike, NDArray
from scipy.signal.windows import tukey
from scipy.special import j0

from smlmkit._checks import check_whole
from smlmkit._threads import default_threads
from smlmkit.grid import check_pixel_size
from smlmkit.metrics._images import check_image
from smlmkit.metrics._tapering import mean_of_varying, taper_image
from smlmkit.metrics.rings import Floats

Edges = NDArray[np.intp]

# In smaller images pure noise often has a maximum.
_MIN_SIDE_PX = 64
_TAPER_PX = 20
_ROWS_AT_A_TIME = 64

# Discs consist of whole rings. A power of two makes the ring of a radius exact in float64.
_N_RINGS = 1 << 14

# In pixels: what passes then has the shape of the Laplacian, and less would change nothing.
_STRONGEST_SIGMA = 0.14

# What a maximum must be above 0, and above the lowest point at higher frequencies.
_MIN_HEIGHT, _MIN_PROMINENCE = 0.05, 0.001
# How far the second pass looks below and above the maxima of the first one.
_BELOW, _ABOVE = 0.05, 0.3


@dataclass(frozen=True, eq=False)
class DecorrelationResult:
    """The decorrelation curves of an image and the resolution read from them.

    Parameters
    ----------
    frequency : ndarray of shape (n_frequencies,)
        Radius of every disc for the unfiltered image in cycles/nm.
    decorrelation : ndarray of shape (n_frequencies,)
        The curve of the unfiltered image in [0, 1]; nan where the image is constant.
    filtered_frequency : ndarray of shape (n_frequencies,)
        Radius of every disc for the filtered images in cycles/nm.
    filtered : ndarray of shape (n_filters, n_frequencies)
        The curves of the filtered images in [0, 1]; nan where the image is constant.
    filter_sigma : ndarray of shape (n_filters,)
        Standard deviation of the Gaussian that each filter takes away in nm, the weakest filter
        first.
    pixel_size : float
        Edge of a pixel in nm.
    amplitude : float
        Height A0 of the unfiltered curve's maximum in [0, 1], the higher the less noise there is;
        nan when there is none.
    cutoff : float
        The highest frequency of a maximum in cycles/nm; nan when there is none.
    resolution : float
        1 / `cutoff` in nm; nan when there is none.
    reason : str
        Why there is no resolution; empty when there is one.
    """

    frequency: Floats = field(repr=False)
    decorrelation: Floats = field(repr=False)
    filtered_frequency: Floats = field(repr=False)
    filtered: Floats = field(repr=False)
    filter_sigma: Floats = field(repr=False)
    pixel_size: float
    amplitude: float
    cutoff: float
    resolution: float
    reason: str


def analyse_decorrelation(
    image: ArrayLike, pixel_size: float, *, n_frequencies: int = 50, n_filters: int = 10
) -> DecorrelationResult:
    """Estimate the resolution of one image by decorrelation analysis.

    Parameters
    ----------
    image : array of shape (height, width)
        The image, at least 64 pixels a side; it need not be square.
    pixel_size : float
        Edge of a pixel in nm.
    n_frequencies : int, default=50
        Number of discs of each curve, from 10 to 1,000.
    n_filters : int, default=10
        Number of high-pass filters in each of two passes, from 2 to 1,000.

    Returns
    -------
    DecorrelationResult
        The curves with the resolution in nm, or with the reason why there is none.

    Raises
    ------
    InvalidTypeError
        If the image does not hold real numbers.
    InvalidInputError
        If the image is not two-dimensional or too small, a value is not finite or float64 cannot
        hold its square, or a parameter is out of range.

    Notes
    -----
    Descloux, Grussmayer & Radenovic 2019 correlate the image's spectrum I with what is left of it
    when every sample of a disc of radius r has modulus 1 and all others 0:

        d(r) = sum_r |I| / sqrt(sum_1 |I|^2 sum_r 1),

    where sum_r runs over the disc without f = 0. As r grows, samples of the structure make d rise;
    when more noise than structure comes in, d falls. Its maximum is A_0 at r_0. High-pass filters,
    which take a Gaussian blur away from the image, uncover weak high frequencies: `n_filters` of
    them, from sigma = 2 / r_0 pixels down to 0.14, have maxima A_i at r_i. A second pass looks
    closer: at filters from the weaker of those of the highest r_i A_i and of the highest r_i to one
    step beyond the stronger, and at discs around these two radii. The resolution is 2 `pixel_size`
    over the highest r_i.

    A maximum must be at least 0.05, and 0.001 above the lowest point after it. Noise has none, nor
    have counts in pixels: where the structure or the noise of single localizations fills the disc,
    d rises to its end. Noise in the image makes the resolution uncertain by a few percent.

    The mean is taken off, and a cosine tapers 20 pixels at every border. A Gaussian on the grid of
    pixels has the transfer function exp(-sigma^2 (2 - cos 2 pi f_y - cos 2 pi f_x)); here the
    cosines are J0(2 pi |f|), their mean over all directions. So filters depend on r only, and |I|,
    |I|^2 and 1 are summed over the plane but once, in 16,384 rings.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.ndimage import gaussian_filter
    >>> rng = np.random.default_rng(0)
    >>> emitters = 10_000.0 * (rng.random((128, 128)) < 0.01)
    >>> for sigma in (1.5, 3):
    ...     image = rng.poisson(gaussian_filter(emitters, sigma))
    ...     print(round(analyse_decorrelation(image, pixel_size=10).resolution))
    38
    74
    >>> analyse_decorrelation(rng.poisson(5, size=(128, 128)), pixel_size=10).reason
    'no curve has a maximum: the image is mere noise, or ...'
    """
    values = check_image(image, "the image", min_side_px=_MIN_SIDE_PX)
    size = check_pixel_size(pixel_size)
    check_whole("n_frequencies", n_frequencies, low=10, high=1000)
    check_whole("n_filters", n_filters, low=2, high=1000)
    rings = _ring_sums(values)
    whole = _disc_edges(0, 1, n_frequencies)
    unfiltered = _analyse(rings, np.array([np.inf]), whole)
    filtered, cutoff = _analyse_twice(rings, unfiltered, max(values.shape), n_filters)
    cutoff /= 2 * size
    return DecorrelationResult(
        frequency=whole / _N_RINGS / (2 * size),
        decorrelation=unfiltered.curves[0],
        filtered_frequency=filtered.edges / _N_RINGS / (2 * size),
        filtered=filtered.curves,
        filter_sigma=filtered.sigma * size,
        pixel_size=size,
        amplitude=float(unfiltered.height[0]) or math.nan,
        cutoff=cutoff or math.nan,
        resolution=1 / cutoff if cutoff > 0 else math.nan,
        reason="" if cutoff > 0 else _why_there_is_none(unfiltered, size),
    )


class _Analysis(NamedTuple):
    """The curves of a series of filters, and the maximum of each.

    `sigma` of shape (n_filters,) is in pixels, `edges` of shape (n_frequencies,) in rings, `curves`
    has shape (n_filters, n_frequencies). `radius` and `height` of shape (n_filters,) are those of
    the maximum, 0 where there is none.
    """

    sigma: Floats
    edges: Edges
    curves: Floats
    radius: Floats
    height: Floats


def _analyse_twice(
    rings: Floats, unfiltered: _Analysis, longest_side: int, n_filters: int
) -> tuple[_Analysis, float]:
    """Give the analysis of the second pass, or of the first one without a maximum; and max r."""
    edges = unfiltered.edges
    weakest_sigma = 2 / unfiltered.radius[0] if unfiltered.radius[0] > 0 else longest_side / 2
    first = _analyse(rings, np.geomspace(weakest_sigma, _STRONGEST_SIGMA, n_filters), edges)
    # A Gaussian as wide as the image takes nothing away but the mean: no filter is that one.
    sigma = np.append(longest_side, first.sigma)
    radius = np.append(unfiltered.radius, first.radius)
    height = np.append(unfiltered.height, first.height)
    if not radius.any():
        return first, 0.0
    best, finest = int(np.argmax(radius * height)), n_filters - int(np.argmax(radius[::-1]))
    weaker, stronger = min(best, finest), min(max(best, finest) + 1, n_filters)
    second = _analyse(
        rings,
        np.geomspace(sigma[weaker], sigma[stronger], n_filters),
        _disc_edges(radius[best] - _BELOW, radius[finest] + _ABOVE, len(edges)),
    )
    # On a finer grid noise may hide what the coarse one showed.
    return second, float(second.radius.max() or radius[finest])


def _analyse(rings: Floats, sigma: Floats, edges: Edges) -> _Analysis:
    curves = _curves(rings, sigma, edges)
    radius, height = np.zeros((2, len(sigma)))
    for row, curve in enumerate(curves):
        peak = _find_maximum(curve)
        if peak is not None:
            radius[row], height[row] = edges[peak] / _N_RINGS, curve[peak]
    return _Analysis(sigma, edges, curves, radius, height)


def _find_maximum(curve: Floats) -> int | None:
    """Find the highest point, of the curve or of what is left of it without its end."""
    for stop in range(len(curve), 0, -1):
        peak = int(np.argmax(curve[:stop]))
        if peak == 0:
            return None
        if curve[peak] - curve[peak:stop].min() >= _MIN_PROMINENCE:
            return peak if curve[peak] >= _MIN_HEIGHT else None
    return None


def _disc_edges(low: float, high: float, n_frequencies: int) -> Edges:
    """Give the number of rings in each disc, for radii from `low` to `high` cut to [0, 1]."""
    radius = np.linspace(max(low, 0.0), min(high, 1.0), n_frequencies)
    return np.rint(radius * _N_RINGS).astype(np.intp)


def _curves(rings: Floats, sigma: Floats, edges: Edges) -> Floats:
    """Give d for every filter, a row each, and every disc."""
    modulus, power, count = rings
    transfer = _high_pass(sigma)
    shared = _sum_discs(modulus * transfer, edges)
    whole_power = (power * transfer**2).sum(axis=1, keepdims=True)
    scale = np.sqrt(whole_power * _sum_discs(count, edges))
    curves = np.zeros_like(shared)
    np.divide(shared, scale, out=curves, where=scale != 0)
    return curves


def _high_pass(sigma: Floats) -> Floats:
    """Give the transfer function of every filter, a row each, in the middle of every ring."""
    radius = (np.arange(_N_RINGS) + 0.5) / _N_RINGS
    blur = -2 * sigma[:, np.newaxis] ** 2 * (1 - j0(np.pi * radius))
    return np.asarray(-np.expm1(blur))


def _sum_discs(rings: Floats, edges: Edges) -> Floats:
    sums = np.zeros((*rings.shape[:-1], _N_RINGS + 1))
    np.cumsum(rings, axis=-1, out=sums[..., 1:])
    return sums[..., edges]


def _ring_sums(image: NDArray[Any]) -> Floats:
    """Sum |I|, |I|^2 and 1 over rings, a row each; nan if the image is constant."""
    # Two pixels longer: the outermost weights are 0.
    tapers = [tukey(side + 2, 2 * _TAPER_PX / side)[1:-1] for side in image.shape]
    mean = mean_of_varying(image, tapers, "the image")
    if mean is None:
        return np.full((3, _N_RINGS), np.nan)
    height, width = image.shape
    f_y, f_x = np.fft.fftfreq(height)[:, np.newaxis], np.fft.rfftfreq(width)
    # Each column but the first also stands for its mirror image; r = 1 cuts the last one off.
    weights = np.where(f_x > 0, 2.0, 1.0)
    spectrum = scipy.fft.rfft2(
        taper_image(image, tapers, mean), workers=default_threads(), overwrite_x=True
    )
    spectrum[0, 0] = 0  # the mean is gone: rounding errors are all that is left
    sums = np.zeros((3, _N_RINGS + 1))
    # A few rows at a time: what is computed from them then stays in the processor's cache.
    for start in range(0, height, _ROWS_AT_A_TIME):
        rows = slice(start, start + _ROWS_AT_A_TIME)
        radius = 2 * np.hypot(f_y[rows], f_x)
        ring = np.minimum(radius * _N_RINGS, _N_RINGS).astype(np.intp).ravel()
        modulus = np.abs(spectrum[rows])
        for total, summand in zip(sums, (modulus, modulus**2, modulus > 0), strict=True):
            total += np.bincount(ring, (summand * weights).ravel(), minlength=_N_RINGS + 1)
    return sums[:, :_N_RINGS]


def _why_there_is_none(unfiltered: _Analysis, pixel_size: float) -> str:
    if np.isnan(unfiltered.curves).any():
        return "the image is constant: there is nothing to correlate"
    return (
        "no curve has a maximum: the image is mere noise, or its structure fills all frequencies "
        f"down to {2 * pixel_size:.3g} nm, the finest that these pixels hold"
    )
