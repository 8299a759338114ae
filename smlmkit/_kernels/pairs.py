"""Noise2Noise pairs drawn straight from a point cloud that is sorted into square cells.

The points of all fields of view stand one after another, each field's sorted by cell (row by row)
and relative to the field's corner, so that a row of cells is one run of memory.
"""

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(nogil=True, cache=True)
def sort_into_cells(
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    origin: tuple[float, float],
    cell_size: float,
    cells_shape: tuple[int, int],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Sort points by cell; give y and x relative to the origin and where each cell starts."""
    n_rows, n_columns = cells_shape
    cell = np.empty(len(y), np.int64)
    ends = np.zeros(n_rows * n_columns + 1, np.int64)
    for k in range(len(y)):
        row = min(int((y[k] - origin[0]) / cell_size), n_rows - 1)
        column = min(int((x[k] - origin[1]) / cell_size), n_columns - 1)
        cell[k] = row * n_columns + column
        ends[cell[k] + 1] += 1
    starts = np.cumsum(ends)
    free = starts[:-1].copy()
    sorted_y, sorted_x = np.empty_like(y), np.empty_like(x)
    for k in range(len(y)):
        place = free[cell[k]]
        free[cell[k]] += 1
        sorted_y[place] = y[k] - origin[0]
        sorted_x[place] = x[k] - origin[1]
    return sorted_y, sorted_x, starts


@numba.njit(nogil=True, cache=True)
def draw_pairs(
    rng: np.random.Generator,
    points: tuple[NDArray[np.float64], NDArray[np.float64]],
    cell_starts: NDArray[np.int64],
    cell_size: float,
    field_sizes: NDArray[np.float64],
    field_cells: NDArray[np.int64],
    cumulative_area: NDArray[np.float64],
    pixel_size: float,
    keep: float,
    max_tries: int,
    inputs: NDArray[np.float32],
    targets: NDArray[np.float32],
) -> None:
    """Fill `inputs` and `targets` of shape (n, side, side) with disjoint random halves of crops.

    `field_sizes` holds (height, width) in nm of each field, `field_cells` its (first cell, rows of
    cells, columns of cells), `cumulative_area` the share of the area up to and including it.
    """
    side = inputs.shape[1]
    half = side * pixel_size / 2
    for sample in range(len(inputs)):
        for _ in range(max_tries):
            inputs[sample] = 0
            targets[sample] = 0
            field = np.searchsorted(cumulative_area, rng.random(), side="right")
            angle = 2 * np.pi * rng.random()
            cos, sin = np.cos(angle), np.sin(angle)
            flip = -1.0 if rng.random() < 0.5 else 1.0
            # The centre keeps half a diagonal from the border: no crop leaves the field.
            margin = np.sqrt(2.0) * half
            center_y = margin + rng.random() * (field_sizes[field, 0] - 2 * margin)
            center_x = margin + rng.random() * (field_sizes[field, 1] - 2 * margin)
            reach = half * (abs(cos) + abs(sin))
            first_cell, n_rows, n_columns = field_cells[field]
            top = max(int((center_y - reach) / cell_size), 0)
            bottom = min(int((center_y + reach) / cell_size), n_rows - 1)
            left = max(int((center_x - reach) / cell_size), 0)
            right = min(int((center_x + reach) / cell_size), n_columns - 1)
            n_inputs = 0
            for cell_row in range(top, bottom + 1):
                row_start = first_cell + cell_row * n_columns
                for k in range(cell_starts[row_start + left], cell_starts[row_start + right + 1]):
                    dy, dx = points[0][k] - center_y, points[1][k] - center_x
                    row = int(np.floor((cos * dy - sin * dx + half) / pixel_size))
                    column = int(np.floor((flip * (sin * dy + cos * dx) + half) / pixel_size))
                    if 0 <= row < side and 0 <= column < side:
                        lot = rng.random()
                        if lot < keep / 2:
                            inputs[sample, row, column] += 1
                            n_inputs += 1
                        elif lot < keep:
                            targets[sample, row, column] += 1
            if n_inputs:
                break
