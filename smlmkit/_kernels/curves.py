"""Straight segments and strips: points on them, and what of them lies in each pixel."""

import numba
import numpy as np
from numpy.typing import NDArray

# Less than this share of a pixel is what rounding leaves of nothing.
_NOTHING = 1e-9


@numba.njit(nogil=True, cache=True, error_model="numpy")
def points_along(
    place: NDArray[np.float64],
    aside: NDArray[np.float64],
    ends: NDArray[np.float64],
    start: NDArray[np.float64],
    vector: NDArray[np.float64],
    normal: NDArray[np.float64],
    thickness: NDArray[np.float64],
    slant: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Give the points at `place`, from 0 to the last of the numbers `ends` at which segments end.

    `aside` tells where on a strip: the share of its area on one side of the point less that on the
    other, from -1 to 1. It is empty for points on lines. Returns the points and their segments.
    """
    n_points, (n_segments, n_axes) = len(place), start.shape
    points = np.empty((n_points, n_axes))
    segments = np.empty(n_points, np.intp)
    if n_points == 0:
        return points, segments
    # The whole is parted evenly; the search begins at the segment in which a part does.
    total = ends[-1]
    first_in_part = np.searchsorted(ends, np.arange(n_segments) * (total / n_segments))
    for k in range(n_points):
        part = place[k] / total * n_segments
        j = min(first_in_part[int(min(part, n_segments - 1.0))], n_segments - 1)
        while j > 0 and place[k] < ends[j - 1]:
            j -= 1
        while j < n_segments - 1 and place[k] >= ends[j]:
            j += 1
        before = ends[j - 1] if j > 0 else 0.0
        along = min((place[k] - before) / (ends[j] - before), 1.0)
        segments[k] = j
        across = 0.0
        if len(aside) > 0:
            # The strip's length changes from side to side as 1 + widening v, v from -1 to 1.
            widening = thickness[j] / 2 * (slant[j, 1] - slant[j, 0])
            twice = widening + 2 * aside[k]
            root = np.sqrt(max(1 + widening * twice, 0.0))
            across = thickness[j] / 2 * twice / (1 + root)
            along += across * ((1 - along) * slant[j, 0] + along * slant[j, 1])
        for axis in range(n_axes):
            points[k, axis] = start[j, axis] + along * vector[j, axis]
        points[k, n_axes - 2] += across * normal[j, 0]
        points[k, n_axes - 1] += across * normal[j, 1]
    return points, segments


@numba.njit(nogil=True, cache=True, error_model="numpy")
def add_lines(
    ends: NDArray[np.float64], weights: NDArray[np.float64], image: NDArray[np.float64]
) -> None:
    """Add to each pixel the weight of every line times the share of the line in it."""
    for k in range(len(weights)):
        (start_y, start_x), (end_y, end_x) = ends[k]
        _add_pieces(start_y, start_x, end_y, end_x, weights[k], False, image)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def add_polygons(
    corners: NDArray[np.float64], weights: NDArray[np.float64], image: NDArray[np.float64]
) -> None:
    """Add to each pixel the weight of every polygon times the area in it; `image` starts empty.

    An edge adds, signed by its way along y, the area between it and the right end of the rows; what
    the edges around a polygon leave is its own area. Each edge writes only the steps of that area
    from pixel to pixel, which lie along the edge; at the end they are summed along the rows.
    """
    for k in range(len(weights)):
        for corner in range(corners.shape[1]):
            start_y, start_x = corners[k, corner - 1]
            end_y, end_x = corners[k, corner]
            # What lies left of the image covers its rows like an edge along its first column.
            share = start_x / (start_x - end_x) if start_x * end_x < 0 else 1.0
            middle_y = start_y + share * (end_y - start_y)
            middle_x = max(start_x + share * (end_x - start_x), 0.0)
            start_x, end_x = max(start_x, 0.0), max(end_x, 0.0)
            _add_pieces(start_y, start_x, middle_y, middle_x, weights[k], True, image)
            _add_pieces(middle_y, middle_x, end_y, end_x, weights[k], True, image)
    for row in range(image.shape[0]):
        area = 0.0
        for column in range(image.shape[1]):
            area += image[row, column]
            image[row, column] = area if abs(area) > _NOTHING else 0.0


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _add_pieces(
    y: float,
    x: float,
    end_y: float,
    end_x: float,
    weight: float,
    is_edge: bool,
    image: NDArray[np.float64],
) -> None:
    """Cut a segment at the edges of pixels and add what each piece does: by length, or as an edge.

    Places along the segment are shares of it, from 0 to 1.
    """
    height, width, (n_rows, n_columns) = end_y - y, end_x - x, image.shape
    enter_y, leave_y = _shares_inside(y, height, n_rows)
    enter_x, leave_x = _shares_inside(x, width, n_columns)
    first, leave = max(enter_y, enter_x, 0.0), min(leave_y, leave_x, 1.0)
    edge_y, step_y = _next_edge(y + first * height, height)
    edge_x, step_x = _next_edge(x + first * width, width)
    for _ in range(n_rows + n_columns + 2):
        if not first < leave:
            break
        at_y = (edge_y - y) / height if height != 0 else np.inf
        at_x = (edge_x - x) / width if width != 0 else np.inf
        last = min(at_y, at_x, leave)
        if last > first:
            # The middle of a piece tells its pixel whatever the rounding at its ends.
            middle_y, middle_x = y + (first + last) / 2 * height, x + (first + last) / 2 * width
            row = int(min(max(middle_y, 0.0), n_rows - 1.0))
            column = int(min(max(middle_x, 0.0), n_columns - 1.0))
            if is_edge:
                area = weight * height * (last - first)
                left = middle_x - column
                image[row, column] += area * (1 - left)
                if column + 1 < n_columns:
                    image[row, column + 1] += area * left
            else:
                image[row, column] += weight * (last - first)
            first = last
        edge_y += step_y if at_y <= last else 0.0
        edge_x += step_x if at_x <= last else 0.0


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _shares_inside(position: float, extent: float, n_pixels: int) -> tuple[float, float]:
    """Give the shares of a segment at which it enters and leaves the pixels along one axis."""
    if extent == 0:
        return (-np.inf, np.inf) if 0 <= position < n_pixels else (np.inf, -np.inf)
    at_lower, at_upper = -position / extent, (n_pixels - position) / extent
    return min(at_lower, at_upper), max(at_lower, at_upper)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _next_edge(position: float, extent: float) -> tuple[float, float]:
    """Give the edge between pixels that a segment meets next, and the way to the one after it."""
    return (np.floor(position) + 1, 1.0) if extent > 0 else (np.ceil(position) - 1, -1.0)
