"""Gaussians shaped by the localizations around each point, and their drawing.

Points lie sorted by rows of equal height and by x within a row: `row_starts[r]` is where row r
starts. Each point has a mass, the number of localizations at its place. Lengths are in pixels. A
covariance is a triple (yy, yx, xx).
"""

import math

import numba
import numpy as np
from numpy.typing import NDArray

from smlmkit._kernels.gaussian import REACH

# Neighbours are weighted by (1 - q / 8)², q being their squared distance in standard deviations:
# it has the variance of the Gaussian, ends smoothly and, without an exponential, runs on vectors.
_SUM_REACH = math.sqrt(8.0)
# How often the shape of a neighbourhood is estimated from the neighbourhood of the last shape.
_N_SHAPES = 3
# A pixel's own second moment, which sampling at its centre leaves out of an integral over it.
_PIXEL_VARIANCE = 1 / 12

Covariance = tuple[float, float, float]
Points = tuple[
    NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], float
]
"""y, x, mass, row_starts and the height of a row."""


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc"})
def shape_kernels(
    points: Points,
    radius: float,
    sigma: float,
    max_aspect: float,
    prior: float,
    sharpening: float,
    sharpening_reach: float,
    isolation: float,
    kernels: NDArray[np.float64],
    start: int,
    stop: int,
) -> None:
    """Fill rows start..stop of `kernels` with (y, x, yy, yx, xx, share) of each point's Gaussian.

    `AnisotropicKDE` says how they follow from the neighbours.
    """
    y, x = points[0], points[1]
    for k in range(start, stop):
        aspect, along_y, along_x = 1.0, 0.0, 1.0
        for _ in range(_N_SHAPES):
            around = _elongated(radius * radius / aspect, aspect, along_y, along_x)
            total, sum_y, sum_x, yy, yx, xx = _sums(points, k, around)
            mean_y, mean_x = sum_y / total, sum_x / total
            yy += prior * radius * radius - total * mean_y * mean_y
            xx += prior * radius * radius - total * mean_x * mean_x
            yx -= total * mean_y * mean_x
            half_gap = math.hypot((yy - xx) / 2, yx)
            middle = (yy + xx) / 2
            aspect = min(math.sqrt((middle + half_gap) / (middle - half_gap)), max_aspect)
            angle = math.atan2(2 * yx, xx - yy) / 2
            along_y, along_x = math.sin(angle), math.cos(angle)
        kernel = _elongated(sigma * sigma, aspect, along_y, along_x)
        n_neighbors = max(_sums(points, k, kernel)[0] - 1.0, 0.0)
        reach = sharpening_reach * sharpening_reach
        total, sum_y, sum_x, _, _, _ = _sums(
            points, k, (kernel[0] * reach, kernel[1] * reach, kernel[2] * reach)
        )
        # Only across: along the structure there is nothing to sharpen.
        across = sharpening * (sum_y * along_x - sum_x * along_y) / total
        kernels[k, 0] = y[k] + across * along_x
        kernels[k, 1] = x[k] - across * along_y
        kernels[k, 2], kernels[k, 3], kernels[k, 4] = kernel
        kernels[k, 5] = n_neighbors / (n_neighbors + isolation)


@numba.njit(nogil=True, cache=True, inline="always")
def _elongated(variance: float, aspect: float, along_y: float, along_x: float) -> Covariance:
    """Give the covariance with `variance` across and aspect² as much along a direction."""
    more = (aspect * aspect - 1) * variance
    return (
        variance + more * along_y * along_y,
        more * along_y * along_x,
        variance + more * along_x * along_x,
    )


@numba.njit(
    nogil=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc"}, inline="always"
)
def _sums(
    points: Points, k: int, around: Covariance
) -> tuple[float, float, float, float, float, float]:
    """Sum mass, mass d and mass d d^T of the points about point k, weighted by their distance."""
    y, x, mass, row_starts, row_height = points
    yy, yx, xx = around
    determinant = yy * xx - yx * yx
    a, b, c = xx / determinant, -yx / determinant, yy / determinant
    reach_y, reach_x = _SUM_REACH * math.sqrt(yy), _SUM_REACH * math.sqrt(xx)
    a, b, c = a / _SUM_REACH**2, 2 * b / _SUM_REACH**2, c / _SUM_REACH**2
    first = max(int((y[k] - reach_y) / row_height), 0)
    last = min(int((y[k] + reach_y) / row_height), len(row_starts) - 2)
    total = sum_y = sum_x = sum_yy = sum_yx = sum_xx = 0.0
    for row in range(first, last + 1):
        start = _first_from(x, x[k] - reach_x, row_starts[row], row_starts[row + 1])
        stop = _first_from(x, x[k] + reach_x, start, row_starts[row + 1])
        for i in range(np.uint64(start), np.uint64(stop)):
            dy, dx = y[i] - y[k], x[i] - x[k]
            left = max(1 - a * dy * dy - b * dy * dx - c * dx * dx, 0.0)
            weight = mass[i] * left * left
            total += weight
            sum_y += weight * dy
            sum_x += weight * dx
            sum_yy += weight * dy * dy
            sum_yx += weight * dy * dx
            sum_xx += weight * dx * dx
    return total, sum_y, sum_x, sum_yy, sum_yx, sum_xx


@numba.njit(nogil=True, cache=True, inline="always")
def _first_from(values: NDArray[np.float64], least: float, low: int, high: int) -> int:
    """Give the first of the sorted values low..high that is not less than `least`."""
    while low < high:
        middle = (low + high) // 2
        if values[middle] < least:
            low = middle + 1
        else:
            high = middle
    return low


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def draw_kernels(
    kernels: NDArray[np.float64],
    mass: NDArray[np.float64],
    image: NDArray[np.float32],
    first_row: int,
    stop_row: int,
) -> None:
    """Add Gaussians, as `shape_kernels` gives them, to some rows of the image.

    They are sampled at pixel centres after a pixel's own second moment is added to the covariance,
    cut off at an ellipse, and each normalised to its share of the mass over the pixels inside of
    the image. The order in which they reach a pixel does not depend on the rows asked for.
    """
    height, width = image.shape
    values = np.empty(1)
    for k in range(len(kernels)):
        center_y, center_x = kernels[k, 0] - 0.5, kernels[k, 1] - 0.5
        yy, yx, xx = kernels[k, 2] + _PIXEL_VARIANCE, kernels[k, 3], kernels[k, 4] + _PIXEL_VARIANCE
        reach_y = REACH * math.sqrt(yy)
        if center_y + reach_y < first_row or center_y - reach_y > stop_row - 1:
            continue
        top = max(math.ceil(center_y - reach_y), 0)
        bottom = min(math.floor(center_y + reach_y), height - 1)
        most = (bottom - top + 1) * min(2 * int(REACH * math.sqrt(xx)) + 2, width)
        if most > len(values):
            values = np.empty(2 * most)
        # Given the row, x is normal about center_x + slope * dy with this variance.
        slope, variance = yx / yy, xx - yx * yx / yy
        bend = math.exp(-1 / variance)
        n_values, total = 0, 0.0
        for row in range(top, bottom + 1):
            dy = row - center_y
            left, right = _row_ends(center_x, dy, yy, slope, variance, width)
            dx = left - center_x - slope * dy
            value = math.exp(-0.5 * (dy * dy / yy + dx * dx / variance))
            step = math.exp(-(dx + 0.5) / variance)
            for _ in range(left, right + 1):
                values[n_values] = value
                total += value
                n_values += 1
                value *= step
                step *= bend
        factor = mass[k] * kernels[k, 5] / total
        n_values = 0
        for row in range(top, bottom + 1):
            left, right = _row_ends(center_x, row - center_y, yy, slope, variance, width)
            n_row = right - left + 1
            if n_row > 0 and first_row <= row < stop_row:
                pixels = image[row, left:]
                for j in range(np.uint64(n_row)):
                    pixels[j] += np.float32(factor * values[np.uint64(n_values) + j])
            n_values += max(n_row, 0)


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _row_ends(
    center_x: float, dy: float, yy: float, slope: float, variance: float, width: int
) -> tuple[int, int]:
    """Give the first and the last pixel of the ellipse in a row of the image."""
    middle = center_x + slope * dy
    half = math.sqrt(max(REACH * REACH - dy * dy / yy, 0.0) * variance)
    return max(math.ceil(middle - half), 0), min(math.floor(middle + half), width - 1)
