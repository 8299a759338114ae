"""Which rows of a table can be used."""

import warnings

import numpy as np
from numpy.typing import NDArray

from smlmkit.errors import InvalidInputError, UnusedRowsWarning
from smlmkit.grid import FieldOfView, check_field_of_view


def inside(x: NDArray[np.float64], y: NDArray[np.float64], box: FieldOfView) -> NDArray[np.bool_]:
    """Mark the points in a half-open box."""
    return (y >= box.y_min) & (y < box.y_max) & (x >= box.x_min) & (x < box.x_max)


def usable_rows(
    x: NDArray[np.float64], y: NDArray[np.float64], box: FieldOfView | None, prefix: str
) -> NDArray[np.bool_] | None:
    """Mark the rows that can be used; None when all can. Warns of those that cannot."""
    finite = np.isfinite(x) & np.isfinite(y)
    usable = finite if box is None else inside(x, y, box)
    n_unusable = len(x) - int(usable.sum())
    if not n_unusable:
        return None
    n_not_finite = len(x) - int(finite.sum())
    reasons = [f"{n_not_finite:,} with x or y not finite"] if n_not_finite else []
    if n_unusable > n_not_finite:
        reasons.append(
            f"{n_unusable - n_not_finite:,} outside the field of view {tuple(box or ())}"
        )
    warnings.warn(
        f"{prefix}{n_unusable:,} of {len(x):,} rows cannot be used: {', '.join(reasons)}",
        UnusedRowsWarning,
        stacklevel=3,  # who made the table
    )
    return usable


def bounding_field(x: NDArray[np.float64], y: NDArray[np.float64]) -> FieldOfView:
    """Give the smallest box of whole nm around the points."""
    if len(x) == 0:
        raise InvalidInputError("a table without usable rows needs a field_of_view")
    lower, upper = np.floor([y.min(), x.min()]), np.floor([y.max(), x.max()]) + 1
    return check_field_of_view([*lower, *upper])
