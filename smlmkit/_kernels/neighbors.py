"""Which points have enough neighbours, found in a grid of square cells folded onto a small table.

Cell (i, j) of the plane goes to bucket (i mod n_rows, j mod n_columns) of a table whose sides are
powers of two from 4 on. So the nine cells around a point lie in nine different buckets, a border of
the table is none for the search, and far cells that share a bucket are told apart by the distance.
The table may be much smaller than the field: an outlier or a tiny radius costs nothing.
"""

import numba
import numpy as np
from numpy.typing import NDArray

Sorted = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]


@numba.njit(nogil=True, cache=True)
def sort_into_buckets(
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    corner: tuple[float, float],
    cell_size: float,
    shape: tuple[int, int],
) -> Sorted:
    """Sort points at or above the corner by bucket.

    Returns y, x and the row in the input of each sorted point, and where each bucket starts.
    """
    # Entry b + 1 is where bucket b takes its next point: in the end, where bucket b + 1 starts.
    starts = np.zeros(shape[0] * shape[1] + 2, np.int64)
    for k in range(len(y)):
        row, column = _cell(y[k], x[k], corner, cell_size)
        starts[_bucket(row, column, shape) + 2] += 1
    for bucket in range(2, len(starts)):
        starts[bucket] += starts[bucket - 1]
    sorted_y, sorted_x = np.empty(len(y)), np.empty(len(y))
    rows = np.empty(len(y), np.int64)
    for k in range(len(y)):
        row, column = _cell(y[k], x[k], corner, cell_size)
        bucket = _bucket(row, column, shape)
        place = starts[bucket + 1]
        starts[bucket + 1] += 1
        sorted_y[place] = y[k]
        sorted_x[place] = x[k]
        rows[place] = k
    return sorted_y, sorted_x, rows, starts


@numba.njit(nogil=True, cache=True)
def mark_with_neighbors(
    points: Sorted,
    corner: tuple[float, float],
    cell_size: float,
    shape: tuple[int, int],
    radius: float,
    min_neighbors: int,
    start: int,
    stop: int,
    marks: NDArray[np.bool_],
) -> None:
    """Set the marks of the sorted points from `start` to `stop`, each at its row in the input.

    A mark says whether at least `min_neighbors` other points lie within the radius, which is less
    than a cell.
    """
    sorted_y, sorted_x, rows, _ = points
    for k in range(start, stop):
        cell = _cell(sorted_y[k], sorted_x[k], corner, cell_size)
        marks[rows[k]] = _has_neighbors(points, k, cell, shape, radius, min_neighbors)


@numba.njit(nogil=True, cache=True)
def _has_neighbors(
    points: Sorted,
    k: int,
    cell: tuple[int, int],
    shape: tuple[int, int],
    radius: float,
    min_neighbors: int,
) -> bool:
    sorted_y, sorted_x, _, starts = points
    found = -1  # the point itself is no neighbour
    # Nearly all points of its own cell are near enough, so the search begins there.
    for row_step in (0, -1, 1):
        for column_step in (0, -1, 1):
            bucket = _bucket(cell[0] + row_step, cell[1] + column_step, shape)
            for other in range(starts[bucket], starts[bucket + 1]):
                dy, dx = sorted_y[other] - sorted_y[k], sorted_x[other] - sorted_x[k]
                found += dy * dy + dx * dx <= radius * radius
                if found >= min_neighbors:
                    return True
    return False


@numba.njit(nogil=True, cache=True)
def _cell(y: float, x: float, corner: tuple[float, float], cell_size: float) -> tuple[int, int]:
    return int((y - corner[0]) / cell_size), int((x - corner[1]) / cell_size)


@numba.njit(nogil=True, cache=True)
def _bucket(row: int, column: int, shape: tuple[int, int]) -> int:
    # Modulo a power of two, also of -1.
    return (row & (shape[0] - 1)) * shape[1] + (column & (shape[1] - 1))
