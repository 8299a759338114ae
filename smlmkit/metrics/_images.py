"""What every measure asks of an image: real numbers, enough of them, finite."""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smlmkit.errors import InvalidInputError, InvalidTypeError

# Products of four values, summed over all pixels, are float64.
_LARGEST, _LEAST = 1e60, 1e-60

MIN_SIDE_PX = 4
"""Smaller images have no rings to speak of."""


def check_image(
    image: ArrayLike, name: str, n_axes: int = 2, *, min_side_px: int = MIN_SIDE_PX
) -> NDArray[Any]:
    """Refuse what is no array of real numbers with so many axes of so many pixels.

    Parameters
    ----------
    image : array of shape (height, width) or (depth, height, width)
        An image or a stack.
    name : str
        What an error calls it, such as ``"the first image"``.
    n_axes : {2, 3}, default=2
        Number of axes.
    min_side_px : int, default=4
        Least number of pixels along every axis.

    Returns
    -------
    ndarray
        The image.

    Raises
    ------
    InvalidTypeError
        If it does not hold real numbers.
    InvalidInputError
        If it has the wrong number of axes or is too small.
    """
    values = np.asarray(image)
    if values.dtype.kind not in "buif":
        raise InvalidTypeError(f"{name} must hold real numbers, got {values.dtype}")
    if values.ndim != n_axes or min(values.shape) < min_side_px:
        dimensions = {2: "two-dimensional", 3: "three-dimensional"}[n_axes]
        raise InvalidInputError(
            f"{name} must be {dimensions} with at least {min_side_px} pixels a side, "
            f"got shape {values.shape}"
        )
    return values


def check_same_shape(first: NDArray[Any], second: NDArray[Any]) -> None:
    """Refuse two images of different shapes.

    Parameters
    ----------
    first, second : ndarray
        Images or stacks.

    Raises
    ------
    InvalidInputError
        If the shapes differ.
    """
    if first.shape != second.shape:
        raise InvalidInputError(
            f"the images must have the same shape, got {first.shape} and {second.shape}"
        )


def check_range(image: NDArray[Any], name: str, low: float, high: float) -> None:
    """Refuse an image with pixels that are not finite, or too large or too small to be squared.

    Parameters
    ----------
    image : ndarray
        An image or a stack.
    name : str
        What an error calls it, such as ``"the first image"``.
    low, high : float
        Its extremes; they are not finite if any pixel is not.

    Raises
    ------
    InvalidInputError
        If it has such pixels; the message counts them or tells the extremes.
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        check_finite(image, name)
    if max(-low, high) > _LARGEST or 0 < high - low < _LEAST:
        raise InvalidInputError(
            f"{name} has pixels from {low:.3g} to {high:.3g}, too "
            f"{'large' if max(-low, high) > _LARGEST else 'close'} to be squared in float64"
        )


def check_finite(image: NDArray[Any], name: str) -> None:
    """Refuse an image with pixels that are not finite.

    Parameters
    ----------
    image : ndarray
        An image or a stack.
    name : str
        What an error calls it, such as ``"the first image"``.

    Raises
    ------
    InvalidInputError
        If it has such pixels; the message counts them.
    """
    n_bad = image.size - int(np.isfinite(image).sum())
    if n_bad:
        raise InvalidInputError(f"{name} has {n_bad:,} pixels that are nan or infinite")
