"""Training pairs drawn straight from point clouds that are sorted into square cells.

The points of all fields of view stand one after another, each field's sorted by cell (row by row),
so that a row of cells is one run of memory. Lengths are pixels, from the field's corner on.
"""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray


class Layout(NamedTuple):
    """The fields of view: height and width, and (first cell, rows of cells, columns of cells).

    `cumulative_area` holds the share of the area up to and including each field. Crops of `aligned`
    fields have whole pixels and quarter turns, others any place and angle.
    """

    sizes: NDArray[np.float64]
    cells: NDArray[np.int64]
    cumulative_area: NDArray[np.float64]
    cell_size: float
    aligned: bool


class SortedPoints(NamedTuple):
    """The points of all fields; an empty `plane` or `ticket` means 0 for every point."""

    y: NDArray[np.float64]
    x: NDArray[np.float64]
    plane: NDArray[np.int32]
    ticket: NDArray[np.float64]
    cell_starts: NDArray[np.int64]


@numba.njit(nogil=True, cache=True)
def order_by_cell(
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    cell_size: float,
    cells_shape: tuple[int, int],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the order that sorts points by cell, and where each cell starts."""
    n_rows, n_columns = cells_shape
    cell = np.empty(len(y), np.int64)
    ends = np.zeros(n_rows * n_columns + 1, np.int64)
    for k in range(len(y)):
        row = min(int(y[k] / cell_size), n_rows - 1)
        column = min(int(x[k] / cell_size), n_columns - 1)
        cell[k] = row * n_columns + column
        ends[cell[k] + 1] += 1
    starts = np.cumsum(ends)
    free = starts[:-1].copy()
    order = np.empty(len(y), np.int64)
    for k in range(len(y)):
        order[free[cell[k]]] = k
        free[cell[k]] += 1
    return order, starts


@numba.njit(nogil=True, cache=True)
def draw_crops(
    rng: np.random.Generator,
    layout: Layout,
    points: SortedPoints,
    lot: float,
    intervals: NDArray[np.float64],
    max_tries: int,
    crops: NDArray[np.float64],
    pairs: NDArray[np.float32],
) -> None:
    """Draw crops into `crops` and count their points in `pairs`, which is zero so far.

    Each row of `crops` is (field, centre y, centre x, cos, sin, 1 or -1 if mirrored). A point's
    ticket is its own one plus a random part from [0, lot). Image i of the pair, of shape
    (2, n, n_planes, side, side), takes the points whose ticket lies in ``intervals[sample, i]``.
    A crop whose first image is empty is drawn anew, up to `max_tries` times in all.
    """
    for sample in range(len(crops)):
        for _ in range(max_tries):
            pairs[:, sample] = 0
            crops[sample] = _place_crop(rng, layout, pairs.shape[-1])
            images = pairs[:, sample]
            if _add_points(rng, layout, points, lot, intervals[sample], crops[sample], images):
                break


@numba.njit(nogil=True, cache=True)
def add_crops(
    rng: np.random.Generator,
    layout: Layout,
    points: SortedPoints,
    crops: NDArray[np.float64],
    images: NDArray[np.float32],
) -> None:
    """Count all the points of given crops in `images` of shape (n, n_planes, side, side)."""
    everything = np.array([[-np.inf, np.inf]])
    for sample in range(len(crops)):
        _add_points(
            rng, layout, points, 0.0, everything, crops[sample], images[sample : sample + 1]
        )


@numba.njit(nogil=True, cache=True)
def _place_crop(
    rng: np.random.Generator, layout: Layout, side: int
) -> tuple[float, float, float, float, float, float]:
    field = np.searchsorted(layout.cumulative_area, rng.random(), side="right")
    turn = rng.random()
    flip = -1.0 if rng.random() < 0.5 else 1.0
    height, width = layout.sizes[field]
    if layout.aligned:
        n_quarters = int(4 * turn)
        cos, sin = (1.0, 0.0, -1.0, 0.0)[n_quarters], (0.0, 1.0, 0.0, -1.0)[n_quarters]
        center_y = np.floor(rng.random() * (height - side + 1)) + side / 2
        center_x = np.floor(rng.random() * (width - side + 1)) + side / 2
    else:
        cos, sin = np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)
        # The centre keeps half a diagonal from the border: no crop leaves the field.
        margin = np.sqrt(2.0) * side / 2
        center_y = margin + rng.random() * (height - 2 * margin)
        center_x = margin + rng.random() * (width - 2 * margin)
    return float(field), center_y, center_x, cos, sin, flip


@numba.njit(nogil=True, cache=True)
def _add_points(
    rng: np.random.Generator,
    layout: Layout,
    points: SortedPoints,
    lot: float,
    intervals: NDArray[np.float64],
    crop: NDArray[np.float64],
    images: NDArray[np.float32],
) -> int:
    """Count the points of a crop in the images whose interval holds their ticket.

    Returns how many are in the first image.
    """
    center_y, center_x, cos, sin, flip = crop[1:]
    side = images.shape[-1]
    half = side / 2
    reach = half * (abs(cos) + abs(sin))
    first_cell, n_rows, n_columns = layout.cells[int(crop[0])]
    top = max(int((center_y - reach) / layout.cell_size), 0)
    bottom = min(int((center_y + reach) / layout.cell_size), n_rows - 1)
    left = max(int((center_x - reach) / layout.cell_size), 0)
    right = min(int((center_x + reach) / layout.cell_size), n_columns - 1)
    has_planes, has_tickets = len(points.plane) > 0, len(points.ticket) > 0
    n_in_first = 0
    for cell_row in range(top, bottom + 1):
        row_start = first_cell + cell_row * n_columns
        start = points.cell_starts[row_start + left]
        stop = points.cell_starts[row_start + right + 1]
        for k in range(start, stop):
            dy, dx = points.y[k] - center_y, points.x[k] - center_x
            row = int(np.floor(cos * dy - sin * dx + half))
            column = int(np.floor(flip * (sin * dy + cos * dx) + half))
            if not (0 <= row < side and 0 <= column < side):
                continue
            ticket = points.ticket[k] if has_tickets else 0.0
            if lot > 0:
                ticket += lot * rng.random()
            plane = points.plane[k] if has_planes else 0
            for number in range(len(intervals)):
                if intervals[number, 0] <= ticket < intervals[number, 1]:
                    images[number, plane, row, column] += 1
                    n_in_first += number == 0
    return n_in_first


@numba.njit(nogil=True, cache=True)
def sample_crops(
    image: NDArray[np.float32],
    offset: tuple[float, float],
    ratio: float,
    field: int,
    crops: NDArray[np.float64],
    samples: NDArray[np.float32],
) -> None:
    """Sample an image bilinearly at the pixel centres of those crops that lie in a field.

    Pixel (i, j) of `image`, of shape (n_planes, height, width), has its centre at
    ``offset + ratio * (y, x) = (i, j)``; beyond the outermost centres the border is repeated.
    Values are per pixel, so they are multiplied by the area of a crop's pixel, ratio² of the
    image's.
    """
    n_planes, height, width = image.shape
    side = samples.shape[-1]
    for sample in range(len(crops)):
        if crops[sample, 0] != field:
            continue
        center_y, center_x, cos, sin, flip = crops[sample, 1:]
        for row in range(side):
            for column in range(side):
                down, across = row + 0.5 - side / 2, flip * (column + 0.5 - side / 2)
                y = offset[0] + ratio * (center_y + cos * down + sin * across)
                x = offset[1] + ratio * (center_x - sin * down + cos * across)
                y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
                i, j = int(y), int(x)
                below, right = min(i + 1, height - 1), min(j + 1, width - 1)
                v, u = y - i, x - j
                for plane in range(n_planes):
                    upper = (1 - u) * image[plane, i, j] + u * image[plane, i, right]
                    lower = (1 - u) * image[plane, below, j] + u * image[plane, below, right]
                    samples[sample, plane, row, column] = ratio**2 * ((1 - v) * upper + v * lower)
