"""Boxes and pixel grids: the only place that turns nanometres into pixels.

Pixel (i, j) of a grid with origin (y0, x0) and pixel size p covers
``[y0 + i p, y0 + (i + 1) p) x [x0 + j p, x0 + (j + 1) p)``, half-open.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from smlmkit._checks import check_positive
from smlmkit.errors import InvalidInputError


class FieldOfView(NamedTuple):
    """A half-open box in nm: ``y_min <= y < y_max`` and ``x_min <= x < x_max``.

    Parameters
    ----------
    y_min, x_min, y_max, x_max : float
        The edges in nm.

    Examples
    --------
    >>> field = FieldOfView(0, 0, 2000, 3000)
    >>> field.height, field.width, field.area_um2
    (2000, 3000, 6.0)
    """

    y_min: float
    x_min: float
    y_max: float
    x_max: float

    @property
    def height(self) -> float:
        """Extent along y in nm."""
        return self.y_max - self.y_min

    @property
    def width(self) -> float:
        """Extent along x in nm."""
        return self.x_max - self.x_min

    @property
    def area_um2(self) -> float:
        """Area in square micrometres."""
        return self.height * self.width * 1e-6

    def union(self, other: "FieldOfView") -> "FieldOfView":
        """Give the smallest box that holds this one and another.

        Parameters
        ----------
        other : FieldOfView
            The other box.

        Returns
        -------
        FieldOfView
            The smallest box around both.
        """
        return FieldOfView(
            min(self.y_min, other.y_min),
            min(self.x_min, other.x_min),
            max(self.y_max, other.y_max),
            max(self.x_max, other.x_max),
        )


def check_field_of_view(box: object) -> FieldOfView:
    """Turn four numbers into a FieldOfView, or say what is wrong with them.

    Parameters
    ----------
    box : sequence of 4 numbers
        ``(y_min, x_min, y_max, x_max)`` in nm.

    Returns
    -------
    FieldOfView
        The box, as Python floats.

    Raises
    ------
    InvalidInputError
        If these are not four finite numbers with ``min < max`` on both axes.
    """
    edges = _numbers(box)
    if len(edges) != 4:
        raise InvalidInputError(
            f"field_of_view must be (y_min, x_min, y_max, x_max) in nm, got {box!r}"
        )
    field = FieldOfView(*edges)
    if not all(map(math.isfinite, edges)) or field.height <= 0 or field.width <= 0:
        raise InvalidInputError(
            f"field_of_view must be finite with y_min < y_max and x_min < x_max, got {field}"
        )
    return field


@dataclass(frozen=True)
class PixelGrid:
    """A regular grid of square pixels.

    Parameters
    ----------
    origin : tuple of float
        ``(y, x)`` of the outer corner of pixel (0, 0) in nm.
    pixel_size : float
        Edge of a pixel in nm.
    shape : tuple of int
        ``(height_px, width_px)``.

    Raises
    ------
    InvalidInputError
        If a number is not finite, or the pixel size or a side is not positive.

    Examples
    --------
    >>> grid = PixelGrid.covering(FieldOfView(0, 0, 1005, 2000), pixel_size=10)
    >>> grid.shape
    (101, 200)
    >>> grid.centers_y[:2]
    array([ 5., 15.])
    """

    origin: tuple[float, float]
    pixel_size: float
    shape: tuple[int, int]

    def __post_init__(self) -> None:
        origin, shape = _numbers(self.origin), _numbers(self.shape)
        if len(origin) != 2 or not all(map(math.isfinite, origin)):
            raise InvalidInputError(f"the origin of a grid is (y, x) in nm, got {self.origin!r}")
        if len(shape) != 2 or not all(side >= 1 and side.is_integer() for side in shape):
            raise InvalidInputError(
                f"the shape of a grid is two whole numbers from 1 on, got {self.shape!r}"
            )
        object.__setattr__(self, "origin", origin)
        object.__setattr__(self, "shape", (int(shape[0]), int(shape[1])))
        object.__setattr__(self, "pixel_size", check_pixel_size(self.pixel_size))

    @classmethod
    def covering(cls, field_of_view: FieldOfView, pixel_size: float) -> "PixelGrid":
        """Give the smallest grid that starts at a box's corner and covers it.

        Parameters
        ----------
        field_of_view : FieldOfView
            The box to cover, in nm.
        pixel_size : float
            Edge of a pixel in nm.

        Returns
        -------
        PixelGrid
            The grid; its last row and column may reach past the box.

        Raises
        ------
        InvalidInputError
            If the pixels are too many to count.
        """
        box, size = check_field_of_view(field_of_view), check_pixel_size(pixel_size)
        if not math.isfinite(max(box.height, box.width) / size):
            raise InvalidInputError(f"{box} has too many pixels of {size} nm to count")
        shape = (_count_pixels(box.height, size), _count_pixels(box.width, size))
        return cls((box.y_min, box.x_min), size, shape)

    def is_close(self, other: "PixelGrid") -> bool:
        """Tell whether another grid is the same but for rounding.

        Parameters
        ----------
        other : PixelGrid
            The other grid.

        Returns
        -------
        bool
            Whether shapes are equal, and corners and pixel sizes to a thousandth of a pixel.
        """
        tolerance = 1e-3 * self.pixel_size
        return (
            self.shape == other.shape
            and math.dist(self.origin, other.origin) < tolerance
            and abs(self.pixel_size - other.pixel_size) * max(self.shape) < tolerance
        )

    @property
    def field_of_view(self) -> FieldOfView:
        """The box that the grid covers, in nm."""
        (y, x), (height, width) = self.origin, self.shape
        return FieldOfView(y, x, y + height * self.pixel_size, x + width * self.pixel_size)

    @property
    def centers_y(self) -> NDArray[np.float64]:
        """The y of every row's pixel centres in nm."""
        return _centers(self.origin[0], self.pixel_size, self.shape[0])

    @property
    def centers_x(self) -> NDArray[np.float64]:
        """The x of every column's pixel centres in nm."""
        return _centers(self.origin[1], self.pixel_size, self.shape[1])


def check_pixel_size(pixel_size: object) -> float:
    """Turn a pixel size into a float, or say what is wrong with it.

    Parameters
    ----------
    pixel_size : float
        Edge of a pixel in nm.

    Returns
    -------
    float
        The pixel size.

    Raises
    ------
    InvalidInputError
        If it is not a positive finite number.
    """
    check_positive(pixel_size=pixel_size)
    return float(pixel_size)  # type: ignore[arg-type]


def _numbers(values: object) -> tuple[float, ...]:
    """Give the numbers in a sequence; nothing if it is none, or holds anything else."""
    if not isinstance(values, Iterable):
        return ()
    items = tuple(values)
    return tuple(map(float, items)) if all(isinstance(item, Real) for item in items) else ()


def _count_pixels(extent: float, pixel_size: float) -> int:
    """Count the pixels that cover an extent; 1e-12 forgives float error in whole multiples."""
    return max(1, math.ceil(extent / pixel_size * (1 - 1e-12)))


def _centers(origin: float, pixel_size: float, n_pixels: int) -> NDArray[np.float64]:
    centers: NDArray[np.float64] = (
        origin + (np.arange(n_pixels, dtype=np.float64) + 0.5) * pixel_size
    )
    return centers
