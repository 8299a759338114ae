"""Pixel-integrated Gaussians with their own widths.

The share of a Gaussian in a pixel is a difference of its distribution function at the pixel's
edges, along y times along x. The Gaussian ends at `REACH` standard deviations.
"""

import numba
import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from scipy.special import ndtr

REACH = 4.0
"""Standard deviations from its centre at which a Gaussian is cut off."""

# What is narrower or wider is drawn like these: the formula needs some width, and beyond a million
# pixels every image is flat.
_POINT_PX, FLAT_PX = 1e-3, 1e6
# Numbers that a processor takes at once.
LANES = 8
TILE_PX = 32
"""Side of the tiles in which points are drawn; with what they reach, a core's cache holds them."""


def _odd_coefficients(degree: int) -> tuple[float, ...]:
    """Fit t * polynomial(t²) to the distribution function of the cut Gaussian less a half.

    t runs from -1 to 1, which is minus to plus `REACH` standard deviations.
    """
    inside = ndtr(REACH) - ndtr(-REACH)
    fit = chebyshev.chebinterpolate(lambda t: (ndtr(REACH * t) - 0.5) / inside, degree)
    fit[::2] = 0
    return tuple(float(c) for c in chebyshev.cheb2poly(fit)[1::2])


# Degree 25 is within 4e-9 of the distribution function and rises everywhere; 13 multiplications
# on vectors are faster than a table.
_C0, _C1, _C2, _C3, _C4, _C5, _C6, _C7, _C8, _C9, _C10, _C11, _C12 = _odd_coefficients(25)


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"}, inline="always")
def cut_normal_distribution(t: float) -> float:
    """Distribution function less a half, t in units of the reach; beyond it, that at the end."""
    t = min(max(t, -1.0), 1.0)
    z = t * t
    q = z * z
    # Two chains of multiplications, even and odd powers, wait for each other half as long as one.
    even = _C0 + q * (_C2 + q * (_C4 + q * (_C6 + q * (_C8 + q * (_C10 + q * _C12)))))
    odd = _C1 + q * (_C3 + q * (_C5 + q * (_C7 + q * (_C9 + q * _C11))))
    return t * (even + z * odd)


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"}, inline="always")
def _shares(
    center: float,
    sigma: float,
    n_pixels: int,
    edges: NDArray[np.float64],
    shares: NDArray[np.float32],
) -> tuple[int, int]:
    """Fill `shares` with those of the pixels along one axis, which sum to 1; lengths in pixels.

    Returns the first pixel and how many there are; up to a multiple of eight, zeros follow.
    """
    reach = REACH * sigma
    first = int(max(center - reach, 0.0))
    n_shares = min(int(center + reach), n_pixels - 1) - first + 1
    n_filled = (n_shares // LANES + 1) * LANES
    per_pixel = 1.0 / reach
    start = (first - center) * per_pixel
    for j in range(n_filled):
        edges[j] = cut_normal_distribution(start + j * per_pixel)
    edges[n_filled] = edges[n_shares]
    norm = 1.0 / (edges[n_shares] - edges[0])
    for j in range(n_filled):
        shares[j] = np.float32((edges[j + 1] - edges[j]) * norm)
    for j in range(n_shares, n_filled):
        shares[j] = 0
    return first, n_shares


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _width_px(sigma: float, rule: tuple[float, float, float], per_pixel: float) -> float:
    """Give the standard deviation in pixels that follows from one in nm."""
    scale, low, high = rule
    return min(max(min(max(sigma * scale, low), high) * per_pixel, _POINT_PX), FLAT_PX)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def sort_into_tiles(
    y: NDArray[np.float64],
    x: NDArray[np.float64],
    sigma_y: NDArray[np.float64],
    sigma_x: NDArray[np.float64],
    weights: NDArray[np.float64],
    rule: tuple[float, float, float],
    box: tuple[float, float, float, float],
    pixel_size: float,
    start: int,
    stop: int,
    tile_starts: NDArray[np.int32],
    points: NDArray[np.float32],
) -> int:
    """Write the points start..stop of a table to `points`, tile by tile, for `draw_tiles`.

    `sigma_y`, `sigma_x` (nm) and `weights` hold one number for all points or one for each; `rule`
    is (scale, floor, cap) of the sigmas. A row of `points` is (row, column, sigma_y, sigma_x,
    weight) in pixels, the position relative to the tile's corner. `tile_starts` of shape
    (tiles down, tiles across + 1) gets where each tile's points start. Returns how many points lie
    outside of the half-open box; they are left out.
    """
    y_min, x_min, y_max, x_max = box
    per_pixel = 1 / pixel_size
    across = tile_starts.shape[1]
    next_of = tile_starts.reshape(-1)
    next_of[:] = 0
    n_outside = 0
    for k in range(start, stop):
        if y_min <= y[k] < y_max and x_min <= x[k] < x_max:
            tile_row = int((y[k] - y_min) * per_pixel) // TILE_PX
            tile_column = int((x[k] - x_min) * per_pixel) // TILE_PX
            next_of[tile_row * across + tile_column] += 1
        else:
            n_outside += 1
    n_before = 0
    for tile in range(len(next_of)):
        n_here = next_of[tile]
        next_of[tile] = n_before
        n_before += n_here
    for k in range(start, stop):
        if not (y_min <= y[k] < y_max and x_min <= x[k] < x_max):
            continue
        row, column = (y[k] - y_min) * per_pixel, (x[k] - x_min) * per_pixel
        tile_row, tile_column = int(row) // TILE_PX, int(column) // TILE_PX
        tile = tile_row * across + tile_column
        point = points[next_of[tile]]
        next_of[tile] += 1
        point[0] = row - tile_row * TILE_PX
        point[1] = column - tile_column * TILE_PX
        point[2] = _width_px(sigma_y[k if len(sigma_y) > 1 else 0], rule, per_pixel)
        point[3] = _width_px(sigma_x[k if len(sigma_x) > 1 else 0], rule, per_pixel)
        point[4] = weights[k if len(weights) > 1 else 0]
    # Each tile's points now end where the next one's start.
    for tile in range(len(next_of) - 1, 0, -1):
        next_of[tile] = next_of[tile - 1]
    next_of[0] = 0
    return n_outside


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def draw_tiles(
    points: NDArray[np.float32],
    tile_starts: NDArray[np.int32],
    image: NDArray[np.float32],
    first_row: int,
    stop_row: int,
) -> None:
    """Add the Gaussians of pieces of sorted points to some rows of `image`.

    `points` has the shape (pieces, points, 5), `tile_starts` (pieces, tiles down, tiles across +
    1). What a Gaussian would leave beyond the image's border goes to its pixels inside. The order
    in which points reach a pixel does not depend on the rows asked for.
    """
    height, width = image.shape
    n_pieces, n_tile_rows, n_edges = tile_starts.shape
    reach = 0.0
    for piece in range(n_pieces):
        for i in range(tile_starts[piece, -1, -1]):
            reach = max(reach, REACH * points[piece, i, 2])
    first_tile_row = max(int((first_row - reach) // TILE_PX), 0)
    last_tile_row = min(int((stop_row + reach) // TILE_PX), n_tile_rows - 1)
    shares_y = np.empty(height + 2 * LANES, np.float32)
    shares_x = np.empty(width + 2 * LANES, np.float32)
    edges = np.empty(max(height, width) + 2 * LANES + 1)
    for tile_row in range(first_tile_row, last_tile_row + 1):
        for tile_column in range(n_edges - 1):
            for piece in range(n_pieces):
                start = tile_starts[piece, tile_row, tile_column]
                stop = tile_starts[piece, tile_row, tile_column + 1]
                for point in points[piece, start:stop]:
                    center_y = min(point[0] + tile_row * TILE_PX, height - _POINT_PX)
                    center_x = min(point[1] + tile_column * TILE_PX, width - _POINT_PX)
                    reach = REACH * point[2]
                    if center_y + reach < first_row or center_y - reach >= stop_row:
                        continue
                    top, n_rows = _shares(center_y, point[2], height, edges, shares_y)
                    left, n_columns = _shares(center_x, point[3], width, edges, shares_x)
                    # Whole vectors, unless they leave the image; beyond n_columns they add 0.
                    n_filled = (n_columns + LANES - 1) // LANES * LANES
                    n_added = np.uint64(n_filled if left + n_filled <= width else n_columns)
                    for row in range(max(top, first_row), min(top + n_rows, stop_row)):
                        share = shares_y[row - top] * point[4]
                        pixels = image[row, left:]
                        for j in range(n_added):
                            pixels[j] += share * shares_x[j]
