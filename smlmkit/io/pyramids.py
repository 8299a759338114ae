"""Pyramids of images: every level half as large as the one before."""

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from smlmkit._checks import check_choice

Pyramid = Literal["mean", "sum"]

# Pyramids end where a level fits on a screen.
_LARGEST_TOP_PX = 512


def level_shapes(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Give the sides of every level: halves, rounded up, until both are at most 512.

    Parameters
    ----------
    shape : tuple of int
        The image's shape; its last two numbers are height and width in pixels.

    Returns
    -------
    list of tuple of int
        Height and width of every level.

    Examples
    --------
    >>> level_shapes((3, 2049, 700))
    [(2049, 700), (1025, 350), (513, 175), (257, 88)]
    """
    height, width = shape[-2:]
    shapes = [(height, width)]
    while max(shapes[-1]) > _LARGEST_TOP_PX:
        height, width = shapes[-1]
        shapes.append((-(-height // 2), -(-width // 2)))
    return shapes


def halve(values: NDArray[Any], method: Pyramid) -> NDArray[Any]:
    """Make an image half as large: every pixel is the mean or the sum of 2 x 2.

    Parameters
    ----------
    values : ndarray of shape (..., height, width)
        The pixels.
    method : {"mean", "sum"}
        What becomes of 2 x 2 pixels. Where a side is odd, the last pixel is the mean or the sum of
        those that are there.

    Returns
    -------
    ndarray of shape (..., (height + 1) // 2, (width + 1) // 2)
        The pixels, of the same type. Whole numbers are rounded, and sums beyond their type's
        largest number become that number.

    Raises
    ------
    InvalidInputError
        If the method is unknown.

    Examples
    --------
    >>> halve(np.array([[1.0, 3.0, 5.0], [1.0, 3.0, 9.0]]), "mean")
    array([[2., 7.]])
    >>> halve(np.array([[1.0, 3.0, 5.0], [1.0, 3.0, 9.0]]), "sum")
    array([[ 8., 14.]])
    """
    check_choice("method", method, ("mean", "sum"))
    height, width = values.shape[-2:]
    with np.errstate(invalid="ignore"):  # infinities of both signs make a NaN
        rows = values[..., ::2, :].astype(np.float64)
        rows[..., : height // 2, :] += values[..., 1::2, :]
        halved = rows[..., ::2].copy()
        halved[..., : width // 2] += rows[..., 1::2]
    if method == "mean":
        n_rows, n_columns = (np.minimum(2, np.arange(side, 0, -2)) for side in (height, width))
        halved /= n_rows[:, np.newaxis] * n_columns
    return _as_type(halved, values.dtype)


def _as_type(values: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Convert numbers; whole ones are rounded and end at what their type holds."""
    if dtype.kind == "b":
        return np.rint(np.minimum(values, 1)).astype(dtype)
    if dtype.kind in "iu":
        low, high = float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
        if int(high) > np.iinfo(dtype).max:  # 64 bits: the float above it
            high = math.nextafter(high, 0)
        values = np.rint(values).clip(low, high)
    return values.astype(dtype)
