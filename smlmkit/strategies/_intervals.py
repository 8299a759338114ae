"""Which tickets input and target take, from two uniform numbers for each sample."""

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smlmkit.errors import InvalidInputError

Floats = NDArray[np.float64]
Share = float | tuple[float, float]


def check_share(name: str, given: Any) -> tuple[float, float]:
    """Turn a share in (0, 1], or a range (low, high) of such, into a range."""
    pair = tuple(given) if isinstance(given, tuple | list) else (given, given)
    are_numbers = all(isinstance(end, Real) and not isinstance(end, bool) for end in pair)
    if len(pair) == 2 and are_numbers and 0 < pair[0] <= pair[1] <= 1:
        return float(pair[0]), float(pair[1])
    raise InvalidInputError(
        f"{name} must be a number in (0, 1] or a range (low, high) of such, got {given!r}"
    )


def adjacent_halves(uniform: Floats, keep: tuple[float, float]) -> Floats:
    """Take two adjacent halves of a share of all tickets."""
    half = _between(keep, uniform[:, 0]) / 2
    return _intervals((0 * half, half), (half, 2 * half))


def either_half(uniform: Floats, keep: tuple[float, float]) -> Floats:
    """Take a share of the tickets below 1/2 and of those above, either of them as the input."""
    half = _between(keep, uniform[:, 0]) / 2
    first = np.where(uniform[:, 1] < 0.5, 0.0, 0.5)
    return _intervals((first, first + half), (0.5 - first, 0.5 - first + half))


def first_share(uniform: Floats, keep: tuple[float, float]) -> Floats:
    """Take a share of all tickets for the input, none for the target."""
    stop = _between(keep, uniform[:, 0])
    return _intervals((0 * stop, stop), (0 * stop, 0 * stop))


def window(uniform: Floats, share: tuple[float, float]) -> Floats:
    """Take a window of tickets anywhere in [0, 1) for the input, none for the target."""
    width = _between(share, uniform[:, 0])
    start = uniform[:, 1] * (1 - width)
    return _intervals((start, start + width), (0 * start, 0 * start))


def _between(ends: tuple[float, float], uniform: Floats) -> Floats:
    # Exactly the number where both ends are one.
    return ends[0] + (ends[1] - ends[0]) * uniform


def _intervals(inputs: tuple[Floats, Floats], targets: tuple[Floats, Floats]) -> Floats:
    """Put (low, high) of inputs and targets into one array of shape (n, 2, 2)."""
    return np.moveaxis(np.array([inputs, targets]), -1, 0).copy()
