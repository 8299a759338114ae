"""What files state of the camera: the edges of its pixels, and the part of it that was read out."""

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from smlmkit.errors import FileFormatError
from smlmkit.grid import FieldOfView

_LONGEST_QUOTE = 50


class PixelSize(NamedTuple):
    """The edges of a camera pixel in nm."""

    x: float
    y: float

    def as_metadata(self) -> dict[str, float]:
        """Give what a table's metadata say of the camera's pixels."""
        if self.x == self.y:
            return {"camera_pixel_size": self.x}
        return {"camera_pixel_size_y": self.y, "camera_pixel_size_x": self.x}

    def region(self, in_pixels: Collection[float]) -> FieldOfView | None:
        """Give the part of the camera that begins at x, y and is so wide and high, if it is one."""
        x, y, width, height = in_pixels
        edges = (y * self.y, x * self.x, (y + height) * self.y, (x + width) * self.x)
        field = FieldOfView(*edges)
        is_box = field.height > 0 and field.width > 0 and all(map(math.isfinite, edges))
        return field if is_box else None


def stated_numbers(path: Path, key: str, stated: object, n_numbers: Collection[int]) -> list[float]:
    """Give the number or numbers that a file states: so many, and all of them finite."""
    values: list[Any] = stated if isinstance(stated, list) else [stated]
    numbers = [_as_number(value) for value in values] if len(values) in n_numbers else []
    if not numbers or not all(map(math.isfinite, numbers)):
        raise FileFormatError(
            f"{path}: the file states {str(stated)[:_LONGEST_QUOTE]} as {key}, expected "
            f"{' or '.join(map(str, n_numbers))} numbers"
        )
    return numbers


def stated_pixel_size(
    path: Path, key: str, stated: object, n_numbers: Collection[int] = (1, 2), unit_nm: float = 1
) -> PixelSize:
    """Give the edges of a camera pixel that a file states along x and y, or both as one number."""
    edges = [edge * unit_nm for edge in stated_numbers(path, key, stated, n_numbers)]
    if not all(0 < edge < math.inf for edge in edges):
        raise FileFormatError(
            f"{path}: the file states {stated} as {key}, no sizes of a camera pixel: "
            "pass pixel_size= (nm)"
        )
    return PixelSize(edges[0], edges[-1])


def _as_number(value: object) -> float:
    """Give a number as it is, and NaN for anything else, also for a text that reads like one."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf
