"""Spurious correlations: emitters that blink more than once, and what they add to an FRC.

A random split puts blinks of one emitter into both halves. Symbols (Nieuwenhuizen et al. 2013): an
emitter blinks M times; Q = mean(M (M - 1)) / mean(M) is how many other blinks of its emitter a
blink has on average: m for a Poisson number with mean m, 2 (m - 1) for a geometric one. With N
localizations split at random, a sample of the rings then holds on average

    in shared:      N/4 (Q H + S),
    in each power:  N/4 (Q H + S) + N/2,

where S is the structure, as emitters that blink once would show it, and H the blur of pairs: two
localization errors' and two pixels' transfer functions, folded by the pixels. The corrected FRC is
(shared - N/4 Q H) / sqrt((first_power - N/4 Q H) (second_power - N/4 Q H)).
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls

from smlmkit.errors import InvalidInputError
from smlmkit.metrics.rings import Floats, RingCorrelation, Window, normalize_sums, tapers_of

# Pairs of one emitter show where the blur is above 0.05; below, their finite number makes
# shared / H a random walk. How the structure falls off is seen the better the further one looks.
_LARGEST_BLUR, _LEAST_BLUR = 0.99, 0.05
# What a structure may look like there: clusters so many times as wide as the uncertainty; or with a
# power of 1 / frequency, such as lines (1), random walks (2) and areas with sharp borders (3).
_CLUSTER_WIDTHS = (0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)
_POWERS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
_N_FREQUENCIES, _N_ANGLES, _N_FOLDS = 100, 16, 4
_N_QUANTILES, _N_INTERPOLATED = 200, 4000
_MIN_RINGS = 5


class SpuriousCorrelation(NamedTuple):
    """An FRC without the correlation of blinks of one emitter.

    Parameters
    ----------
    q : float
        Other blinks of its emitter that a blink has on average; nan where it cannot be estimated
        because an image is constant.
    correlation : ndarray of shape (n_rings,)
        The corrected correlation in [-1, 1]; nan where an image is constant.
    n_independent : ndarray of shape (n_rings,)
        How many independent real numbers a ring without blinking would hold whose correlation is
        so uncertain, at least 1.
    """

    q: float
    correlation: Floats
    n_independent: Floats


def correct_spurious(
    rings: RingCorrelation,
    images: tuple[ArrayLike, ArrayLike],
    uncertainty: ArrayLike,
    pixel_size: float,
    *,
    window: Window = "tukey",
    q: float | None = None,
) -> SpuriousCorrelation:
    """Take the correlation of blinks of one emitter off the FRC of a random split.

    Parameters
    ----------
    rings : RingCorrelation
        The ring sums of the two halves.
    images : tuple of two arrays of shape (height, width)
        The counts of the two halves that they were computed from.
    uncertainty : array of shape (n,)
        Standard deviation of the error of each localization in nm.
    pixel_size : float
        Edge of a pixel in nm.
    window : {"tukey"} or None, default="tukey"
        The window that `rings` was computed with.
    q : float, optional
        Q, if it is known; by default it is estimated.

    Returns
    -------
    SpuriousCorrelation
        Q, the corrected correlation and what it is worth.

    Raises
    ------
    InvalidInputError
        If no uncertainty is positive and finite, q is negative, or too few rings show pairs.

    Notes
    -----
    Q is estimated where H lies between 0.99 and 0.05 by least squares of
    shared / (N/4 H) = Q + c s, weighted by the rings' standard deviations, where s is one of eight
    Gaussian clusters and six powers of 1 / frequency, and c >= 0; the s that fits best is taken.
    Nieuwenhuizen et al. 2013 take the minimum of the smoothed curve instead, which adds to Q what
    structure is left there. A cluster of emitters narrower than about their uncertainty is taken
    for one emitter.

    Two blinks of one emitter count as independently uncertain: H has the square of the mean
    transfer function of an error. Where emitters differ in brightness, so that their blinks are
    alike in uncertainty, Q comes out a tenth to a fifth too high and the curve too low.

    What is taken off leaves its fluctuations: relative to the power that remains they are larger by
    the ratio of the powers before and after, by whose square `n_independent` is smaller.

    Examples
    --------
    >>> import numpy as np
    >>> from smlmkit.metrics.rings import ring_correlation
    >>> rng = np.random.default_rng(0)
    >>> emitters = np.repeat(rng.uniform(0, 256, size=(2000, 2)), 6, axis=0)
    >>> yx = ((emitters + rng.normal(scale=2, size=emitters.shape)) % 256).astype(int)
    >>> halves = np.zeros((2, 256, 256))
    >>> np.add.at(halves, (rng.integers(2, size=len(yx)), *yx.T), 1)
    >>> rings = ring_correlation(*halves, window=None)
    >>> q, correlation, _ = correct_spurious(rings, halves, [20.0], 10, window=None)
    >>> round(q), bool(rings.correlation[1:20].mean() > 0.6)  # each blink has five others
    (5, True)
    >>> bool(abs(correlation[1:20].mean()) < 0.2)  # scattered emitters have no structure
    True
    """
    if q is not None and not (np.isfinite(q) and q >= 0):
        raise InvalidInputError(f"q must be finite and not negative, got {q!r}")
    if np.isnan(rings.shared).any():
        q = math.nan if q is None else q
        return SpuriousCorrelation(q, rings.correlation, rings.n_independent)
    known = np.asarray(uncertainty, dtype=np.float64)
    known = known[np.isfinite(known) & (known > 0)]
    if len(known) == 0:
        raise InvalidInputError("no uncertainty is positive and finite: the blur is not known")
    tapers = tapers_of(np.shape(images[0]), window)
    n_counted = sum(float(tapers[0] ** 2 @ np.asarray(im) @ tapers[1] ** 2) for im in images)
    frequency = rings.frequency / pixel_size
    blur = blur_of_pairs(frequency, known, pixel_size)
    of_one_q = n_counted / 4 * rings.count * blur
    if q is None:
        q = _estimate_q(rings, frequency, of_one_q, blur, float(np.median(known)))
    spurious = q * of_one_q
    first_power, second_power = (
        (power - spurious).clip(0) for power in (rings.first_power, rings.second_power)
    )
    correlation = normalize_sums(rings.shared - spurious, first_power, second_power)
    power_before = rings.first_power * rings.second_power
    share = np.zeros(len(power_before))
    np.divide(first_power * second_power, power_before, out=share, where=power_before > 0)
    if window is not None:
        correlation[0] = 0
    return SpuriousCorrelation(q, correlation, (rings.n_independent * share).clip(min=1))


def blur_of_pairs(frequency: Floats, uncertainty: Floats, pixel_size: float) -> Floats:
    """Give the mean of H over the directions of every ring.

    Parameters
    ----------
    frequency : ndarray of shape (n_rings,)
        Middle of every ring in cycles/nm.
    uncertainty : ndarray of shape (n,)
        Standard deviation of the error of each localization in nm, positive.
    pixel_size : float
        Edge of a pixel in nm.

    Returns
    -------
    ndarray of shape (n_rings,)
        The mean over directions of sum_k T(f + k / p)^2, where k runs over pairs of whole numbers
        and T(f) is sinc(f_y p) sinc(f_x p) times the mean over localizations of
        exp(-2 pi^2 sigma^2 f^2).

    Notes
    -----
    Counting per pixel samples a spectrum that the pixel has blurred, so what lies beyond its finest
    frequency folds back. For pixels of twice the uncertainty and more, most of H is folded.

    Examples
    --------
    >>> blur_of_pairs(np.array([0, 0.02]), np.array([10.0]), pixel_size=5).round(3)
    array([1.   , 0.199])
    >>> blur_of_pairs(np.array([0, 0.05]), np.array([2.0]), pixel_size=10).round(2)  # mostly folded
    array([1.  , 0.48])
    """
    # H is smooth: a few frequencies between which it is interpolated are enough.
    f = np.linspace(0, frequency[-1], _N_FREQUENCIES)
    angle = (np.arange(_N_ANGLES) + 0.5) / _N_ANGLES * np.pi / 2
    folds = np.arange(-_N_FOLDS, _N_FOLDS + 1)
    f_y = np.multiply.outer(f, np.sin(angle))[..., np.newaxis] + folds / pixel_size
    f_x = np.multiply.outer(f, np.cos(angle))[..., np.newaxis] + folds / pixel_size
    radius = np.hypot(f_y[..., :, np.newaxis], f_x[..., np.newaxis, :])
    pixel_y, pixel_x = np.sinc(f_y * pixel_size), np.sinc(f_x * pixel_size)
    transfer = pixel_y[..., :, np.newaxis] * pixel_x[..., np.newaxis, :]
    transfer *= _blur_of_errors(radius, uncertainty)
    folded = (transfer**2).sum(axis=(2, 3)).mean(axis=1)
    return np.asarray(np.interp(frequency, f, folded))


def _blur_of_errors(radius: Floats, uncertainty: Floats) -> Floats:
    """Give the mean over localizations of exp(-2 pi^2 sigma^2 f^2), interpolated over |f|."""
    sigma = np.quantile(uncertainty, (np.arange(_N_QUANTILES) + 0.5) / _N_QUANTILES)
    f = np.linspace(0, radius.max(), _N_INTERPOLATED)
    blur = np.exp(-2 * (np.pi * np.outer(f, sigma)) ** 2).mean(axis=1)
    return np.asarray(np.interp(radius, f, blur))


def _estimate_q(
    rings: RingCorrelation, frequency: Floats, of_one_q: Floats, blur: Floats, sigma: float
) -> float:
    used = (blur <= _LARGEST_BLUR) & (blur >= _LEAST_BLUR)
    used[0] = False
    if used.sum() < _MIN_RINGS:
        raise InvalidInputError(
            f"only {used.sum()} rings show pairs of blinks that are {sigma:.3g} nm uncertain: take "
            "smaller pixels or a larger field, or give q"
        )
    pairs, f = (rings.shared / of_one_q)[used], frequency[used]
    sd = (
        np.sqrt(rings.first_power * rings.second_power / rings.n_independent)[used] / of_one_q[used]
    )
    fits = [_fit_constant(pairs, sd, structure) for structure in _structures(f, sigma)]
    return min(fits)[1]


def _structures(f: Floats, sigma: float) -> list[Floats]:
    """Give what structures add over frequency, 1 at the lowest."""
    clusters = [
        np.exp(-((2 * np.pi * k * sigma) ** 2) * (f**2 - f[0] ** 2)) for k in _CLUSTER_WIDTHS
    ]
    return clusters + [(f[0] / f) ** power for power in _POWERS]


def _fit_constant(values: Floats, sd: Floats, structure: Floats) -> tuple[float, float]:
    """Fit values = constant + c structure, both not negative; give the misfit and the constant."""
    design: NDArray[np.float64] = np.stack([np.ones_like(values), structure], axis=1)
    (constant, _), misfit = nnls(design / sd[:, np.newaxis], values / sd)
    return float(misfit), float(constant)
