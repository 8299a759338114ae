"""Held-out likelihood: how well an expected density foretells unseen localizations."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smlmkit.errors import InvalidInputError

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
    InvalidInputError
        If the shapes differ, a value is not finite, a count is negative or there is none, the
        density is negative by more than rounding error (1e-6 of its largest pixel), or a parameter
        is out of range.

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
    c, p = _check_finite(counts, "counts"), _check_finite(density, "density")
    if c.shape != p.shape:
        raise InvalidInputError(
            f"counts and density must have the same shape, got {c.shape} and {p.shape}"
        )
    if not 0 < background < 1:
        raise InvalidInputError(f"background must be in (0, 1), got {background!r}")
    if not (np.isfinite(exposure) and exposure > 0):
        raise InvalidInputError(f"exposure must be positive and finite, got {exposure!r}")
    n = float(c.sum(dtype=np.float64))
    if c.min() < 0 or n == 0:
        raise InvalidInputError(
            f"counts must not be negative nor all zero, got a least count of {c.min():g}"
        )
    if p.min() < -_ROUNDING_ERROR * p.max():
        raise InvalidInputError(
            f"density must not be negative, got {p.min():.3g} with a largest pixel of {p.max():.3g}"
        )
    mixed = (1 - background) * exposure * np.maximum(p, 0) + background * n / c.size
    return float((c * np.log(mixed) - mixed).sum() / n)


def _check_finite(image: ArrayLike, name: str) -> NDArray[np.float64]:
    values: NDArray[Any] = np.asarray(image, dtype=np.float64)
    if values.size == 0 or not np.isfinite(values).all():
        raise InvalidInputError(f"{name} must hold finite numbers and at least one")
    return values
