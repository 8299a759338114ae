"""Anisotropic Gaussians: each occupied pixel spreads its count along what lies around it.

Symbols: `d` = (dy, dx) is a pixel of the window relative to its centre, `half` the window's reach
in pixels, so that its side is 2 half + 1. A covariance is a triple (yy, yx, xx) in square pixels.
"""

import math

import numba
import numpy as np
from numpy.typing import NDArray

from smlmkit._kernels.gaussian import LANES, REACH, cut_normal_distribution

MIN_VARIANCE = 0.25
"""Least variance along a principal axis, in square pixels.

Integrals over pixels of something narrower depend on how it falls on the grid: at a variance of
1/12 the width across a diagonal is 1.41 times that across an axis, at this one 1.01 times.
"""

_SINGULAR = 1e-13

# What the published code adds to the corners of every window.
_CORNER = 0.001

# Gauss-Legendre nodes and weights on a pixel from -1/2 to 1/2.
_NODES, _WEIGHTS = (tuple(v / 2) for v in np.polynomial.legendre.leggauss(3))


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc"})
def spread_windows(
    counts: NDArray[np.float32],
    half: int,
    scale: float,
    integrated: bool,
    density: NDArray[np.float32],
    first_row: int,
    stop_row: int,
) -> None:
    """Write some rows of the anisotropic density estimate of `counts`.

    Sums are held in float64 for the rows that the window spans, and every pixel gets its terms in
    the same order whatever the rows asked for.
    """
    height, width = counts.shape
    side = 2 * half + 1
    # Windows are as wide as whole vectors, their last columns 0; so wide are the margins of the
    # rows that they are added to, so that a window may reach over the image's border.
    lanes = (side + LANES - 1) // LANES * LANES
    unfinished = np.zeros((side, half + width + lanes))
    shares = np.zeros((side, lanes))
    column_sums = np.empty((3, side))
    edges = np.empty(side + LANES)  # whole vectors
    last_center = min(stop_row + half, height) - 1
    for i in range(max(first_row - half, 0), last_center + 1):
        for j in range(width):
            if counts[i, j] == 0:
                continue
            is_inner = half <= i < height - half and half <= j < width - half
            if integrated:
                covariance = _window_covariance(counts, i, j, half, 0.0, column_sums)
                _integrate_window(_widen(covariance, scale), half, edges, shares)
            elif is_inner:
                covariance = _window_covariance(counts, i, j, half, _CORNER, column_sums)
                _sample_window(_normalised(covariance, scale), half, shares)
            else:
                continue
            total = _sum(shares) if is_inner else _sum_inside(shares, i, j, half, counts.shape)
            factor = counts[i, j] / total
            for k in range(max(0, first_row - i + half), min(side, stop_row - i + half)):
                row = unfinished[(i - half + k) % side]
                for lane in range(lanes):
                    row[np.uint64(j + lane)] += factor * shares[k, np.uint64(lane)]
        if i - half >= first_row:
            _finish(i - half, half, unfinished, density)
    for i in range(max(last_center - half + 1, first_row), stop_row):
        _finish(i, half, unfinished, density)


@numba.njit(nogil=True, cache=True, inline="always")
def _finish(
    i: int, half: int, unfinished: NDArray[np.float64], density: NDArray[np.float32]
) -> None:
    row = unfinished[i % len(unfinished)]
    for j in range(density.shape[1]):
        density[i, j] = np.float32(row[np.uint64(half + j)])
    row[:] = 0.0


# Without a fixed order of the terms, eight of them are added at once.
@numba.njit(nogil=True, cache=True, fastmath={"reassoc"})
def _sum(values: NDArray[np.float64]) -> float:
    total = 0.0
    for value in values.flat:
        total += value
    return total


@numba.njit(nogil=True, cache=True)
def _sum_inside(
    shares: NDArray[np.float64], i: int, j: int, half: int, shape: tuple[int, int]
) -> float:
    """Sum the part of the window about (i, j) that lies inside of the image."""
    top, stop_row = max(half - i, 0), min(half + shape[0] - i, 2 * half + 1)
    left, stop_column = max(half - j, 0), min(half + shape[1] - j, 2 * half + 1)
    return float(np.sum(shares[top:stop_row, left:stop_column]))


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _window_covariance(
    counts: NDArray[np.float32],
    i: int,
    j: int,
    half: int,
    corner: float,
    column_sums: NDArray[np.float64],
) -> tuple[float, float, float]:
    """Give the covariance of the counts in the window about pixel (i, j)."""
    height, width = counts.shape
    left, right = max(-half, -j), min(half, width - 1 - j)
    n_columns = right - left + 1
    for k in range(n_columns):
        column_sums[0, k] = column_sums[1, k] = column_sums[2, k] = 0.0
    for dy in range(max(-half, -i), min(half, height - 1 - i) + 1):
        row = counts[i + dy]
        for k in range(n_columns):
            count = np.float64(row[np.uint64(j + left + k)])
            column_sums[0, k] += count
            column_sums[1, k] += dy * count
            column_sums[2, k] += dy * dy * count
    total = 4 * corner
    sum_y = sum_x = sum_yx = 0.0
    sum_yy = sum_xx = 4 * corner * half * half
    for k in range(n_columns):
        dx = left + k
        total += column_sums[0, k]
        sum_y += column_sums[1, k]
        sum_x += dx * column_sums[0, k]
        sum_yy += column_sums[2, k]
        sum_yx += dx * column_sums[1, k]
        sum_xx += dx * dx * column_sums[0, k]
    mean_y, mean_x = sum_y / total, sum_x / total
    return (
        sum_yy / total - mean_y * mean_y,
        sum_yx / total - mean_y * mean_x,
        sum_xx / total - mean_x * mean_x,
    )


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _normalised(covariance: tuple[float, float, float], scale: float) -> tuple[float, float, float]:
    """Scale a covariance so that its Frobenius norm is `scale`."""
    yy, yx, xx = covariance
    factor = scale / math.sqrt(yy * yy + 2 * yx * yx + xx * xx)
    return yy * factor, yx * factor, xx * factor


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _widen(covariance: tuple[float, float, float], scale: float) -> tuple[float, float, float]:
    """Scale a covariance to that norm; before and after, no variance is below the least.

    The first floor makes thin lines alike at every angle: how thin the pixels of one look depends
    on how it falls on the grid.
    """
    widened = _with_floor(covariance, MIN_VARIANCE)
    return _with_floor(_normalised(widened, scale), MIN_VARIANCE)


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _with_floor(covariance: tuple[float, float, float], floor: float) -> tuple[float, float, float]:
    """Raise the variances along both principal axes to a floor."""
    yy, yx, xx = covariance
    middle, half_gap = (yy + xx) / 2, math.hypot((yy - xx) / 2, yx)
    if middle - half_gap >= floor:
        return yy, yx, xx
    major, minor = max(middle + half_gap, floor), floor
    # Along the major axis the projection is 1 on major, along the minor one 1 on minor.
    stretch = 0.0 if half_gap == 0 else (major - minor) / (2 * half_gap)
    middle_out = (major + minor) / 2
    return middle_out + stretch * (yy - middle), stretch * yx, middle_out + stretch * (xx - middle)


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _sample_window(
    covariance: tuple[float, float, float], half: int, shares: NDArray[np.float64]
) -> None:
    """Fill the window with a Gaussian's values at the pixel centres.

    Each row starts at the pixel next to its maximum and goes outwards by two multiplications a
    pixel; the lower half of the window is the upper one's image.
    """
    yy, yx, xx = covariance
    # Counts beyond 1e13 drown what the corners add, and a line of them has no width at all.
    least = _SINGULAR * (yy + xx)
    yy, xx = max(yy, least), max(xx, least)
    determinant = max(yy * xx - yx * yx, _SINGULAR * yy * xx)
    a, b, c = xx / determinant, -yx / determinant, yy / determinant  # of dy², dy dx, dx²
    side = 2 * half + 1
    bend = math.exp(-c)
    for dy in range(half + 1):
        start = round(min(max(-b * dy / c, -half), half))
        peak = math.exp(-0.5 * (a * dy * dy + 2 * b * dy * start + c * start * start))
        shares[half + dy, half + start] = peak
        value, step = peak, math.exp(-0.5 * c * (2 * start + 1) - b * dy)
        for dx in range(start + 1, half + 1):
            value *= step
            step *= bend
            shares[half + dy, half + dx] = value
        value, step = peak, math.exp(0.5 * c * (2 * start - 1) + b * dy)
        for dx in range(start - 1, -half - 1, -1):
            value *= step
            step *= bend
            shares[half + dy, half + dx] = value
    for dy in range(1, half + 1):
        for k in range(side):
            shares[half - dy, k] = shares[half + dy, side - 1 - k]


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _integrate_window(
    covariance: tuple[float, float, float],
    half: int,
    edges: NDArray[np.float64],
    shares: NDArray[np.float64],
) -> None:
    """Fill the window with a Gaussian's integrals over the pixels; it sits on the centre."""
    yy, yx, xx = covariance
    side = 2 * half + 1
    for step in range(half + 1):
        if xx >= yy:
            _integrate_line(step, half, (xx, yx, yy), edges)
            for k in range(side):
                share = edges[k + 1] - edges[k]
                shares[k, half + step] = share
                shares[side - 1 - k, half - step] = share
        else:
            _integrate_line(step, half, (yy, yx, xx), edges)
            for k in range(side):
                share = edges[k + 1] - edges[k]
                shares[half + step, k] = share
                shares[half - step, side - 1 - k] = share


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"}, inline="always")
def _integrate_line(
    step: int,
    half: int,
    covariance: tuple[float, float, float],
    edges: NDArray[np.float64],
) -> None:
    """Integrate a Gaussian over a line of the window's pixels, as sums up to the pixels' edges.

    The Gaussian of covariance (uu, uv, vv), uu >= vv, sits on the centre of the window; the line
    runs along v, `step` pixels away along u. Along v the integral is exact, given u; along u, where
    the Gaussian is wider, it is summed by Gauss-Legendre nodes. Pixel k's share is
    edges[k + 1] - edges[k].
    """
    uu, uv, vv = covariance
    slope = uv / uu
    spread = math.sqrt(vv - uv * slope)  # of v where u is known
    per_reach = 1.0 / (REACH * spread)
    low, middle, high = step + _NODES[0], step + _NODES[1], step + _NODES[2]
    low_weight = _WEIGHTS[0] * math.exp(-0.5 * low * low / uu)
    middle_weight = _WEIGHTS[1] * math.exp(-0.5 * middle * middle / uu)
    high_weight = _WEIGHTS[2] * math.exp(-0.5 * high * high / uu)
    for k in range(((2 * half + 1) // LANES + 1) * LANES):
        v = k - half - 0.5
        edges[k] = (
            low_weight * cut_normal_distribution((v - slope * low) * per_reach)
            + middle_weight * cut_normal_distribution((v - slope * middle) * per_reach)
            + high_weight * cut_normal_distribution((v - slope * high) * per_reach)
        )
