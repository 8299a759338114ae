"""Sums over the rings of a half plane, or the shells of a half space, of frequencies.

Spectra are those of a real transform, all axes but the last flattened into rows. `row_radius_sq`
is the square of each row's distance from the origin and `column_step` the distance of two columns,
both in widths of a ring. A sample belongs to the ring whose number is nearest to its distance.
Every column but the first, and the last of an even width, also stands for its mirror image.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(nogil=True, cache=True, error_model="numpy")
def add_ring_sums(
    first: NDArray[np.complex128],
    second: NDArray[np.complex128],
    row_radius_sq: NDArray[np.float64],
    column_step: float,
    last_is_own_mirror: bool,
    start_row: int,
    stop_row: int,
    sums: NDArray[np.float64],
) -> None:
    """Add Re(first conj(second)), |first|^2 and |second|^2 of some rows to `sums`, a row each."""
    n_rings = sums.shape[1]
    n_columns = first.shape[1]
    for row in range(start_row, stop_row):
        for column in range(n_columns):
            x = column * column_step
            ring = int(np.rint(np.sqrt(row_radius_sq[row] + x * x)))
            if ring >= n_rings:
                break
            is_own_mirror = column == 0 or (last_is_own_mirror and column == n_columns - 1)
            weight = 1.0 if is_own_mirror else 2.0
            f, g = first[row, column], second[row, column]
            sums[0, ring] += weight * (f.real * g.real + f.imag * g.imag)
            sums[1, ring] += weight * (f.real * f.real + f.imag * f.imag)
            sums[2, ring] += weight * (g.real * g.real + g.imag * g.imag)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def count_ring_samples(
    row_radius_sq: NDArray[np.float64],
    column_step: float,
    n_columns: int,
    last_is_own_mirror: bool,
    count: NDArray[Any],
) -> None:
    """Add the number of samples in each ring of the whole plane to `count`."""
    for row in range(len(row_radius_sq)):
        for column in range(n_columns):
            x = column * column_step
            ring = int(np.rint(np.sqrt(row_radius_sq[row] + x * x)))
            if ring >= len(count):
                break
            is_own_mirror = column == 0 or (last_is_own_mirror and column == n_columns - 1)
            count[ring] += 1 if is_own_mirror else 2
