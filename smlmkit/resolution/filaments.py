"""Cuts across filaments, in nm."""

import numpy as np
import xarray as xr

from smlmkit._checks import check_positive
from smlmkit.images import grid_of
from smlmkit.metrics.filaments import averaged_profile, check_center
from smlmkit.resolution.halves import Image, common_pixel_size


def filament_profile(
    image: Image,
    center: tuple[float, float] | None = None,
    *,
    length: float,
    half_width: float,
    angle: float = 0.0,
    pixel_size: float | None = None,
) -> xr.DataArray:
    """Cut across straight filaments and average along them.

    Parameters
    ----------
    image : DataArray or ndarray of shape (height, width)
        The image, at least 2 pixels a side.
    center : tuple of two floats, optional
        The middle (y, x) of the cut in nm, in the coordinates of a DataArray or from the corner of
        an ndarray. By default the middle of the image.
    length : float
        How far to average along the filaments in nm.
    half_width : float
        How far to look to either side in nm.
    angle : float, default=0.0
        The direction of the filaments in degrees, from the x axis towards the y axis.
    pixel_size : float, optional
        Edge of a pixel in nm, needed for an ndarray.

    Returns
    -------
    DataArray of dims (offset,)
        The mean of the image along the filaments, with the attributes of the image. The coordinate
        ``offset`` is the distance from the centre in nm, at most a quarter of a pixel from one to
        the next, along the direction `angle` + 90 degrees.

    Raises
    ------
    InvalidTypeError
        If the image does not hold real numbers.
    InvalidInputError
        If the image is not two-dimensional or too small, its pixel size is unknown, the cut leaves
        it, a value in the cut is not finite, or a parameter is out of range.

    See Also
    --------
    smlmkit.metrics.filaments.two_peaks : Says whether a profile shows two filaments.
    smlmkit.metrics.filaments.smallest_resolved : Reads the resolution from many such pairs.

    Examples
    --------
    >>> import numpy as np
    >>> from smlmkit import Localizations, Renderer
    >>> from smlmkit.metrics.filaments import two_peaks
    >>> from smlmkit.resolution.filaments import filament_profile
    >>> rng = np.random.default_rng(0)
    >>> x = rng.uniform(0, 2000, size=20_000)
    >>> y = rng.choice([970, 1030], size=20_000) + rng.normal(scale=10, size=20_000)
    >>> table = Localizations({"x": x, "y": y}, field_of_view=(0, 0, 2000, 2000))
    >>> image = Renderer(pixel_size=5).fit_transform(table)
    >>> profile = filament_profile(image, length=1500, half_width=100)
    >>> result = two_peaks(profile.offset, profile)
    >>> result.resolved, 50 < result.distance < 70
    (True, True)
    """
    check_positive(length=length, half_width=half_width)
    size = common_pixel_size(image, image, pixel_size)
    middle = None
    if center is not None:
        corner = grid_of(image).origin if isinstance(image, xr.DataArray) else (0.0, 0.0)
        y, x = (check_center(center) - corner) / size
        middle = float(y), float(x)
    offset, profile = averaged_profile(
        np.asarray(image), middle, angle=angle, length=length / size, half_width=half_width / size
    )
    return xr.DataArray(
        profile,
        dims="offset",
        coords={"offset": ("offset", offset * size, {"units": "nm"})},
        name="profile",
        attrs=image.attrs if isinstance(image, xr.DataArray) else None,
    )
