"""Images without their pixels: what a file states of them, and coordinates that it can hold."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.grid import PixelGrid
from smlmkit.images import DENSITY_UNITS, grid_of

_FLOAT32 = np.dtype(np.float32)


@dataclass(frozen=True)
class ImageLayout:
    """An image or a stack without its pixels.

    Parameters
    ----------
    grid : PixelGrid
        Where the pixels lie.
    dtype : dtype, default=float32
        Their type.
    channel : tuple of int, optional
        The channels' numbers, if there are channels.
    z : tuple of float, optional
        The centres of the slices in nm, if there are slices.
    name : str, default="density"
        The image's name.
    attrs : dict, default={"units": "localizations per pixel"}
        The image's attributes; ``pixel_size`` is added.

    Examples
    --------
    >>> layout = ImageLayout(PixelGrid((0, 0), 10, (64, 32)), z=(-50.0, 50.0))
    >>> layout.dims, layout.shape
    (('z', 'y', 'x'), (2, 64, 32))
    """

    grid: PixelGrid
    dtype: np.dtype[Any] = _FLOAT32
    channel: tuple[int, ...] | None = None
    z: tuple[float, ...] | None = None
    name: str | None = "density"
    attrs: Mapping[str, Any] = field(default_factory=lambda: {"units": DENSITY_UNITS})

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", np.dtype(self.dtype).newbyteorder("="))

    @property
    def dims(self) -> tuple[str, ...]:
        """The names of the axes."""
        return (*self._labels(), "y", "x")

    @property
    def shape(self) -> tuple[int, ...]:
        """How many channels, slices, rows and columns there are."""
        return (*map(len, self._labels().values()), *self.grid.shape)

    @property
    def coordinates(self) -> dict[str, NDArray[Any]]:
        """Channels' numbers, and the centres of slices, rows and columns in nm."""
        return {**self._labels(), "y": self.grid.centers_y, "x": self.grid.centers_x}

    def _labels(self) -> dict[str, NDArray[Any]]:
        labels = {"channel": (self.channel, np.int64), "z": (self.z, np.float64)}
        return {dim: np.array(given, kind) for dim, (given, kind) in labels.items() if given}


def layout_of(image: xr.DataArray) -> ImageLayout:
    """Give what an image is, but for its pixels.

    Parameters
    ----------
    image : DataArray of dims ([channel,] [z,] y, x)
        The image or stack.

    Returns
    -------
    ImageLayout
        Its layout.

    Raises
    ------
    InvalidInputError
        If the image is not on a regular grid.
    InvalidTypeError
        If it is no DataArray of real numbers.
    """
    grid = grid_of(image, stacks=True)
    if image.dtype.kind not in "buif" or image.dtype.itemsize > 8:
        raise InvalidTypeError(f"an image holds real numbers of at most 64 bits, not {image.dtype}")
    return ImageLayout(
        grid=grid,
        dtype=image.dtype,
        channel=tuple(image["channel"].to_numpy().tolist()) if "channel" in image.dims else None,
        z=tuple(image["z"].to_numpy().tolist()) if "z" in image.dims else None,
        name=None if image.name is None else str(image.name),
        attrs={str(key): value for key, value in image.attrs.items()},
    )


def as_json(value: Any) -> Any:
    """Turn attributes into what JSON can hold; what it cannot hold becomes text.

    Parameters
    ----------
    value : object
        The attributes.

    Returns
    -------
    object
        The same of dicts, lists, text and finite numbers only.

    Examples
    --------
    >>> as_json({"scale": np.float32(2), "window": (0, 1), "limit": np.inf})
    {'scale': 2.0, 'window': [0, 1], 'limit': 'inf'}
    """
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return as_json(value.tolist())
    if isinstance(value, str | int | None) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)


def slice_distance(z: Sequence[float] | NDArray[np.float64]) -> float:
    """Give the one distance of slices that a file can state.

    Parameters
    ----------
    z : sequence of float
        The centres of at least two slices in nm.

    Returns
    -------
    float
        How far they lie apart in nm.

    Raises
    ------
    InvalidInputError
        If they do not lie equally far apart.

    Examples
    --------
    >>> slice_distance([-50.0, 0.0, 50.0])
    50.0
    """
    step = float(z[-1] - z[0]) / (len(z) - 1)
    if not np.allclose(z, z[0] + step * np.arange(len(z)), rtol=0, atol=step * 1e-3):
        apart = np.diff(z)
        raise InvalidInputError(
            f"the slices lie from {apart.min():g} to {apart.max():g} nm apart, but a file states "
            "one distance: render slices of equal thickness or write each to a file of its own"
        )
    return step
