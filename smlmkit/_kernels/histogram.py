"""Exact counts of points per pixel."""

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(nogil=True, cache=True)
def count_per_pixel(
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    box: tuple[float, float, float, float],
    pixel_size: float,
    counts: NDArray[np.uint32],
) -> int:
    """Add the points of the half-open box (y_min, x_min, y_max, x_max) to `counts`.

    Returns how many points lie outside of the box. A point just below the upper edge may round to
    the index one past the last pixel: it belongs to the last one.
    """
    y_min, x_min, y_max, x_max = box
    last_row, last_column = counts.shape[0] - 1, counts.shape[1] - 1
    n_outside = 0
    for k in range(len(y)):
        if y_min <= y[k] < y_max and x_min <= x[k] < x_max:
            row = min(int(np.floor((y[k] - y_min) / pixel_size)), last_row)
            column = min(int(np.floor((x[k] - x_min) / pixel_size)), last_column)
            counts[row, column] += 1
        else:
            n_outside += 1
    return n_outside
