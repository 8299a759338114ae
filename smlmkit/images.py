"""Images: an array on a pixel grid as a DataArray, and back.

Every image that leaves the library is a DataArray with dims (y, x), pixel centres in nm as
coordinates, and the attributes ``pixel_size`` (nm) and ``units``. A stack has the dims channel, z
or both before these: the channel's number, the centre of the slice in nm.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.grid import PixelGrid, check_pixel_size

DENSITY_UNITS = "localizations per pixel"

STACK_DIMS = ("channel", "z")


def to_image(
    values: NDArray[Any],
    grid: PixelGrid,
    *,
    channel: Sequence[int] | NDArray[np.int64] | None = None,
    z: Sequence[float] | NDArray[np.float64] | None = None,
    units: str = DENSITY_UNITS,
    name: str = "density",
) -> xr.DataArray:
    """Put an array on a grid.

    Parameters
    ----------
    values : ndarray of shape ([n_channels,] [n_slices,] height_px, width_px)
        The pixels.
    grid : PixelGrid
        Where they lie.
    channel : sequence of n_channels int, optional
        The channels' numbers, if the first axis are channels.
    z : sequence of n_slices float, optional
        The centres of the slices in nm, if the axis before y are slices.
    units : str, default="localizations per pixel"
        What a pixel's value means.
    name : str, default="density"
        Name of the DataArray.

    Returns
    -------
    DataArray
        The image or stack, with the same memory as `values`.

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
    >>> to_image(np.zeros((4, 2, 3), np.float32), grid, z=[-150, -50, 50, 150]).dims
    ('z', 'y', 'x')
    """
    leading = {
        dim: np.asarray(labels, dtype)
        for dim, labels, dtype in (("channel", channel, None), ("z", z, np.float64))
        if labels is not None
    }
    expected = (*(len(labels) for labels in leading.values()), *grid.shape)
    if values.shape != expected:
        raise InvalidInputError(f"the array has shape {values.shape}, its coordinates {expected}")
    nanometres = {"units": "nm"}
    return xr.DataArray(
        values,
        dims=(*leading, "y", "x"),
        coords={
            **{
                dim: (dim, labels, nanometres if dim == "z" else {})
                for dim, labels in leading.items()
            },
            "y": ("y", grid.centers_y, nanometres),
            "x": ("x", grid.centers_x, nanometres),
        },
        name=name,
        attrs={"units": units, "pixel_size": grid.pixel_size},
    )


def grid_of(image: xr.DataArray, *, stacks: bool = False) -> PixelGrid:
    """Read an image's grid from its coordinates.

    Parameters
    ----------
    image : DataArray of dims (y, x)
        An image with the attribute ``pixel_size`` (nm) and pixel centres as coordinates.
    stacks : bool, default=False
        Whether stacks with the dims ([channel,] [z,] y, x) are taken too.

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
    leading = tuple(dim for dim in STACK_DIMS if stacks and dim in image.dims)
    dims = (*leading, "y", "x")
    if image.dims != dims:
        wanted = "([channel,] [z,] y, x)" if stacks else "(y, x)"
        raise InvalidInputError(f"an image has the dims {wanted}, got {image.dims}")
    if not {*dims} <= {*image.coords} or "pixel_size" not in image.attrs or 0 in image.shape:
        raise InvalidInputError(
            f"an image needs the coordinates {', '.join(dims)} (y, x and z: centres in nm), the "
            "attribute pixel_size (nm) and at least one pixel"
        )
    _check_labels(image, leading)
    y, x = image["y"].to_numpy(), image["x"].to_numpy()
    size = check_pixel_size(image.attrs["pixel_size"])
    grid = PixelGrid((y[0] - size / 2, x[0] - size / 2), size, (len(y), len(x)))
    for axis, given, expected in (("y", y, grid.centers_y), ("x", x, grid.centers_x)):
        if not np.allclose(given, expected, rtol=0, atol=size * 1e-3):
            raise InvalidInputError(
                f"the {axis} coordinates are not {size} nm apart, as the attribute pixel_size says"
            )
    return grid


def images_of(fitted: Any, X: Any) -> Any:
    """Give what a fitted estimator makes of tables, by `predict` or else by `transform`.

    Parameters
    ----------
    fitted : estimator
        The fitted estimator.
    X : Localizations or list of Localizations
        The tables.

    Returns
    -------
    DataArray or list of DataArray
        The images.
    """
    return fitted.predict(X) if hasattr(fitted, "predict") else fitted.transform(X)


def _check_labels(image: xr.DataArray, leading: tuple[str, ...]) -> None:
    """Refuse channels that are not numbered and slices that do not rise."""
    if "channel" in leading and image["channel"].dtype.kind not in "iu":
        raise InvalidInputError(
            f"the channel coordinates must be whole numbers, got dtype {image['channel'].dtype}"
        )
    if "z" in leading:
        z = image["z"].to_numpy()
        if z.dtype.kind not in "iuf" or not np.isfinite(z).all() or not (z[1:] > z[:-1]).all():
            raise InvalidInputError(f"the z coordinates must be finite and rise, got {z}")
