"""Images before their transform: the mean under the window taken off, the window applied."""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smlmkit._threads import default_threads, run_bands
from smlmkit.metrics._images import check_range

Floats = NDArray[np.float64]

# What is computed from a few rows stays in the processor's cache.
_ROWS_AT_A_TIME = 64


def mean_of_varying(image: NDArray[Any], tapers: list[Floats], name: str) -> float | None:
    """Give the mean under the window, or None if all pixels are equal."""
    rows, column_weights = image.reshape(-1, image.shape[-1]), tapers[-1]
    sums, lows, highs = np.empty((3, len(rows)))

    def look_at(start: int, stop: int) -> None:
        for first in range(start, stop, _ROWS_AT_A_TIME):
            some = slice(first, min(first + _ROWS_AT_A_TIME, stop))
            block = rows[some].astype(np.float64)
            lows[some], highs[some] = block.min(axis=1), block.max(axis=1)
            np.einsum("ij,j->i", block, column_weights, out=sums[some])

    run_bands(look_at, len(rows), default_threads(), min_rows=_ROWS_AT_A_TIME)
    low, high = float(lows.min()), float(highs.max())
    check_range(image, name, low, high)
    if low == high:
        return None
    row_weights = _row_weights(tapers)
    return float(row_weights @ sums / (row_weights.sum() * column_weights.sum()))


def taper_image(image: NDArray[Any], tapers: list[Floats], mean: float) -> Floats:
    """Give (image - mean) times the window in float64."""
    tapered = np.empty(image.shape)
    rows, tapered_rows = image.reshape(-1, image.shape[-1]), tapered.reshape(-1, image.shape[-1])
    row_weights = _row_weights(tapers)[:, np.newaxis]

    def taper(start: int, stop: int) -> None:
        for first in range(start, stop, _ROWS_AT_A_TIME):
            some = slice(first, min(first + _ROWS_AT_A_TIME, stop))
            block = np.subtract(rows[some], mean, out=tapered_rows[some], dtype=np.float64)
            block *= row_weights[some]
            block *= tapers[-1]

    run_bands(taper, len(rows), default_threads(), min_rows=_ROWS_AT_A_TIME)
    return tapered


def _row_weights(tapers: list[Floats]) -> Floats:
    """Give the weight of every row, all axes but the last flattened."""
    return functools.reduce(np.multiply.outer, tapers[:-1]).ravel()
