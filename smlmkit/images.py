"""Images: an array on a pixel grid as a DataArray, and back.

Every image that leaves the library is a DataArray with dims (y, x), pixel centres in nm as
coordinates, and the attributes ``pixel_size`` (nm) and ``units``.
"""

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.grid import PixelGrid

DENSITY_UNITS = "localizations per pixel"


def to_image(
    values: NDArray[Any], grid: PixelGrid, *, units: str = DENSITY_UNITS, name: str = "density"
) -> xr.DataArray:
    """Put an array on a grid.

    Parameters
    ----------
    values : ndarray of shape (height_px, width_px)
        The pixels.
    grid : PixelGrid
        Where they lie.
    units : str, default="localizations per pixel"
        What a pixel's value means.
    name : str, default="density"
        Name of the DataArray.

    Returns
    -------
    DataArray
        The image, with the same memory as `values`.

    Raises
    ------
    InvalidInputError
        If the shapes differ.

    Examples
    --------
    >>> grid = PixelGrid(origin=(0, 0), pixel_size=10, shape=(2, 3))
    >>> image = to_image(np.zeros((2, 3), np.float32), grid)
    >>> image.x.values
    array([ 5., 15., 25.])
    """
    if values.shape != grid.shape:
        raise InvalidInputError(f"the array has shape {values.shape}, the grid {grid.shape}")
    nanometres = {"units": "nm"}
    return xr.DataArray(
        values,
        dims=("y", "x"),
        coords={"y": ("y", grid.centers_y, nanometres), "x": ("x", grid.centers_x, nanometres)},
        name=name,
        attrs={"units": units, "pixel_size": grid.pixel_size},
    )


def grid_of(image: xr.DataArray) -> PixelGrid:
    """Read an image's grid from its coordinates.

    Parameters
    ----------
    image : DataArray of dims (y, x)
        An image with the attribute ``pixel_size`` (nm) and pixel centres as coordinates.

    Returns
    -------
    PixelGrid
        The grid.

    Raises
    ------
    InvalidTypeError
        If it is not a DataArray.
    InvalidInputError
        If the dims, coordinates or the pixel size are missing or do not fit together.

    Examples
    --------
    >>> grid = PixelGrid(origin=(0, 0), pixel_size=10, shape=(4, 4))
    >>> grid_of(to_image(np.zeros((4, 4)), grid)[1:, 2:]).origin
    (10.0, 20.0)
    """
    if not isinstance(image, xr.DataArray):
        raise InvalidTypeError(
            f"expected an image as xarray.DataArray, got {type(image).__name__}; "
            "smlmkit.to_image puts an array on a grid"
        )
    if image.dims != ("y", "x"):
        raise InvalidInputError(f"an image has the dims ('y', 'x'), got {image.dims}")
    if not {"y", "x"} <= set(image.coords) or "pixel_size" not in image.attrs or 0 in image.shape:
        raise InvalidInputError(
            "an image needs the coordinates y and x (pixel centres in nm), the attribute "
            "pixel_size (nm) and at least one pixel"
        )
    y, x = image["y"].to_numpy(), image["x"].to_numpy()
    size = float(image.attrs["pixel_size"])
    grid = PixelGrid((y[0] - size / 2, x[0] - size / 2), size, (len(y), len(x)))
    for axis, given, expected in (("y", y, grid.centers_y), ("x", x, grid.centers_x)):
        if not np.allclose(given, expected, rtol=0, atol=size * 1e-3):
            raise InvalidInputError(
                f"the {axis} coordinates are not {size} nm apart, as the attribute pixel_size says"
            )
    return grid
