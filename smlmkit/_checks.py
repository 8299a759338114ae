"""Checks of parameters: each error names the parameter and what it was."""

import math
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np
from sklearn.utils import check_random_state

from smlmkit.errors import InvalidInputError


def check_positive(**numbers: Any) -> None:
    """Refuse what is not a positive finite number."""
    for name, number in numbers.items():
        is_number = isinstance(number, Real) and not isinstance(number, bool)
        if not (is_number and 0 < float(number) < math.inf):
            raise InvalidInputError(f"{name} must be a positive number, got {number!r}")


def check_nonnegative(**numbers: Any) -> None:
    """Refuse what is neither zero nor a positive finite number."""
    for name, number in numbers.items():
        is_number = isinstance(number, Real) and not isinstance(number, bool)
        if not (is_number and 0 <= float(number) < math.inf):
            raise InvalidInputError(f"{name} must be a number from 0 on, got {number!r}")


def check_between(
    low: float,
    high: float,
    /,
    *,
    closed: Literal["both", "left", "right", "neither"] = "both",
    **numbers: Any,
) -> None:
    """Refuse what is not a number in an interval, to which the ends `closed` belong."""
    ends = {"both": (low, high), "left": (low,), "right": (high,), "neither": ()}[closed]
    for name, number in numbers.items():
        is_number = isinstance(number, Real) and not isinstance(number, bool)
        if not (is_number and (low < number < high or number in ends)):
            left, right = "[" if low in ends else "(", "]" if high in ends else ")"
            raise InvalidInputError(
                f"{name} must be in {left}{low:g}, {high:g}{right}, got {number!r}"
            )


def check_whole(name: str, number: Any, low: int, high: float = math.inf) -> None:
    """Refuse what is not a whole number in a range."""
    is_whole = isinstance(number, Integral) and not isinstance(number, bool)
    if not (is_whole and low <= int(number) <= high):
        limits = f"of at least {low}" if high == math.inf else f"from {low:,} to {high:,}"
        raise InvalidInputError(f"{name} must be a whole number {limits}, got {number!r}")


def check_choice(name: str, value: object, choices: Collection[object]) -> None:
    """Refuse what is not one of a few values."""
    if value not in choices:
        known = ", ".join(map(repr, choices))
        raise InvalidInputError(f"{name} must be one of {known}, got {value!r}")


def random_source(random_state: Any) -> np.random.RandomState:
    """Give a source of randomness; for None a new one, so that numpy's global one is untouched."""
    if random_state is None:
        return np.random.RandomState()
    try:
        source: np.random.RandomState = check_random_state(random_state)
    except ValueError as error:
        raise InvalidInputError(
            "random_state must be an int from 0 on, a RandomState or None, "
            f"got {random_state!r}: {error}"
        ) from None
    return source
