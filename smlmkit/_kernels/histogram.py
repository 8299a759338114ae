"""Counts, or sums of weights, of points per pixel."""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

# Pixel numbers of so many points stay in the first-level cache between the two loops.
_POINTS_AT_A_TIME = 4096


@numba.njit(nogil=True, cache=True, error_model="numpy")
def add_points(
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    weights: NDArray[Any],
    box: tuple[float, float, float, float],
    pixel_size: float,
    image: NDArray[Any],
    first_row: int,
    stop_row: int,
) -> int:
    """Add the points of the half-open box (y_min, x_min, y_max, x_max) to some rows of `image`.

    `weights` holds one number for all points or one for each. Returns how many points lie outside
    of the box. A point just below the upper edge may round to the index one past the last pixel:
    it belongs to the last one.
    """
    y_min, x_min, y_max, x_max = box
    height, width = image.shape
    last_row, last_column = float(height - 1), float(width - 1)
    pixels = image.reshape(-1)
    pixel_of = np.empty(_POINTS_AT_A_TIME, np.int32)
    all_alike = len(weights) == 1
    n_outside = 0
    for start in range(0, len(y), _POINTS_AT_A_TIME):
        stop = min(start + _POINTS_AT_A_TIME, len(y))
        # Without branches, this loop runs on vectors.
        for k in range(stop - start):
            point_y, point_x = y[start + k], x[start + k]
            row = np.int32(min(max((point_y - y_min) / pixel_size, 0.0), last_row))
            column = np.int32(min(max((point_x - x_min) / pixel_size, 0.0), last_column))
            is_inside = (
                (point_y >= y_min) & (point_y < y_max) & (point_x >= x_min) & (point_x < x_max)
            )
            in_rows = (row >= first_row) & (row < stop_row)
            n_outside += not is_inside
            pixel_of[k] = row * np.int32(width) + column if is_inside & in_rows else np.int32(-1)
        for k in range(stop - start):
            if pixel_of[k] >= 0:
                pixels[np.uint32(pixel_of[k])] += weights[0 if all_alike else start + k]
    return n_outside
