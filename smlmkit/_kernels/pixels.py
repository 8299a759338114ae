"""Pixels in which points lie along one axis."""

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(nogil=True, cache=True, error_model="numpy")
def pixels_along(
    values: NDArray[np.float64], start: float, stop: float, pixel_size: float, n_pixels: int
) -> NDArray[np.int32]:
    """Give each value's pixel by the rule of the kernel of histograms; -1 where there is none."""
    last = float(n_pixels - 1)
    numbers = np.empty(len(values), np.int32)
    # Without branches, this loop runs on vectors.
    for k in range(len(values)):
        value = values[k]
        number = np.int32(min(max((value - start) / pixel_size, 0.0), last))
        numbers[k] = number if (value >= start) & (value < stop) else np.int32(-1)
    return numbers
