"""Held-out likelihood: how well an expected density foretells unseen localizations."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smlmkit._checks import check_between, check_positive
from smlmkit.errors import InvalidInputError
from smlmkit.metrics._images import check_finite, check_image

_ROUNDING_ERROR = 1e-6
"""Share of the largest pixel by which a density may fall below zero."""


def poisson_log_likelihood(
    counts: ArrayLike, density: ArrayLike, *, exposure: float = 1.0, background: float = 0.01
) -> float:
    """Give the Poisson log-likelihood per localization of held-out counts.

    Parameters
    ----------
    counts : array of shape (height, width)
        Held-out localizations per pixel.
    density : array of shape (height, width)
        Expected localizations per pixel at the density of the data it was estimated from. It is not
        normalised: a wrong scale costs.
    exposure : float, default=1.0
        Number of held-out localizations over the number that `density` was estimated from.
    background : float, default=0.01
        Share of the localizations, in (0, 1), that a uniform background explains, so that none has
        probability 0.

    Returns
    -------
    float
        The log-likelihood in nats per localization, without the term log(count!) that is the same
        for every density. Higher is better.

    Raises
    ------
    InvalidTypeError
        If `counts` or `density` does not hold real numbers.
    InvalidInputError
        If one of them is not two-dimensional, the shapes differ, a value is not finite, a count is
        negative or there is none, the density is negative by more than rounding error (1e-6 of its
        largest pixel), a parameter is out of range, or the likelihood leaves the range of float64.

    Notes
    -----
    With counts c_i that sum to n over N pixels, density P_i, exposure t and background b,

        lambda_i = (1 - b) t P_i + b n / N,    score = sum(c_i log(lambda_i) - lambda_i) / n.

    Apart from the background the score is proper: its expectation is largest where lambda is the
    true expected count. A pixel without density costs log(N / (b n)) per localization in it beyond
    a constant, so `background` sets how dearly a missing structure is paid for.

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.array([[0.5, 4.0], [4.0, 0.5]])
    >>> counts = np.array([[1, 3], [5, 0]])
    >>> [round(poisson_log_likelihood(counts, gain * truth), 3) for gain in (0.5, 1, 2)]
    [-0.033, 0.155, -0.147]
    """
    check_positive(exposure=exposure)
    check_between(0, 1, closed="neither", background=background)
    c, p = _in_float64(counts, "counts"), _in_float64(density, "density")
    if c.shape != p.shape:
        raise InvalidInputError(
            f"counts and density must have the same shape, got {c.shape} and {p.shape}"
        )
    if c.min() < 0 or not c.any():
        raise InvalidInputError(
            f"counts must not be negative nor all zero, got a least count of {c.min():g}"
        )
    if p.min() < -_ROUNDING_ERROR * p.max():
        raise InvalidInputError(
            f"density must not be negative, got {p.min():.3g} with a largest pixel of {p.max():.3g}"
        )
    with np.errstate(all="ignore"):  # the result tells
        n = c.sum()
        mixed = (1 - background) * exposure * np.maximum(p, 0) + background * n / c.size
        score = float((c * np.log(mixed) - mixed).sum() / n)
    if not math.isfinite(score):
        raise InvalidInputError(
            "the likelihood leaves the range of float64, got counts up to "
            f"{c.max():.3g}, a density up to {p.max():.3g} and an exposure of {exposure:.3g}"
        )
    return score


def _in_float64(image: ArrayLike, name: str) -> NDArray[np.float64]:
    values = check_image(image, name, min_side_px=1)
    check_finite(values, name)
    return values.astype(np.float64, copy=False)
