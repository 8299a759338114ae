"""Images to files that other programs open: OME-Zarr, TIFF and PNG."""

import json
import math
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smlmkit import __version__
from smlmkit._atomic import whole_or_nothing
from smlmkit.errors import InvalidInputError
from smlmkit.images import grid_of
from smlmkit.io.image_layout import as_json, layout_of, slice_distance
from smlmkit.io.ome_zarr import write_ome_zarr

_FORMAT_OF_SUFFIX = {
    ".zarr": "ome-zarr",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".png": "png",
}
# Offsets in a TIFF have 32 bits; the rest is room for the tags.
_MOST_TIFF_BYTES = 2**32 - 2**20
# ImageJ adds up no more than these.
_MOST_COMPOSITE_CHANNELS = 7


def write_image(
    image: xr.DataArray,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,  # noqa: A002 (the word that users of imageio and Pillow know)
    overwrite: bool = False,
) -> None:
    """Write an image or a stack to a file that other programs open with the right scale.

    Parameters
    ----------
    image : DataArray of dims ([channel,] [z,] y, x)
        An image or stack as smlmkit makes them: pixel centres in nm, the attribute ``pixel_size``.
        A file states one distance between slices, so they have to be equally far apart.
    path : path-like
        Where to write. The suffix names the format: ``.ome.zarr`` or ``.zarr``, ``.tif`` or
        ``.tiff``, ``.png``.
    format : {"ome-zarr", "tiff", "png"}, optional
        The format, whatever the suffix is.
    overwrite : bool, default=False
        Whether an output at `path` is replaced. A folder is replaced only by OME-Zarr, and only
        if it holds Zarr.

    Raises
    ------
    InvalidInputError
        If the format is unknown, the image is not on a regular grid or its values do not fit into
        the format.
    InvalidTypeError
        If it is not a DataArray of real numbers.
    OutputError
        If `path` exists and is not to be replaced, its folder is missing, or writing fails. What
        stood at `path` before is then still there.

    Notes
    -----
    **OME-Zarr** (NGFF 0.5, Zarr 3) keeps every value and data type and is what to use for further
    analysis. Every level of its pyramid holds the means of 2 x 2 pixels of the one before, until
    both sides are at most 512 pixels. Scale and translation give the centre of every pixel of every
    level in nm; the axes bear the names of the dims. A file holds 1024 x 1024 pixels of one plane,
    in chunks of 256 x 256. Images of Dask are written piece by piece.

    :func:`smlmkit.read_image` gives the image or one of its levels again, with coordinates and
    attributes (as text where JSON cannot hold them). To xarray, ``scale0``, ``scale1`` and so on
    are datasets, in which the pixels bear the image's name, with underscores for all but letters,
    digits and hyphens: ``xarray.open_zarr(path, group="scale0", consolidated=False)["density"]``.
    :func:`smlmkit.io.ome_zarr.write_ome_zarr` also writes NGFF 0.4, pyramids of sums, and single
    levels.

    **TIFF** is written as ImageJ does it, up to 4 GiB, because that serves both common viewers:
    Fiji's own opener reads unit, pixel size and origin (for an OME-TIFF it needs Bio-Formats), and
    napari-tiff takes nm per pixel from the same tags (from an OME-TIFF it makes micrometres).
    ImageJ knows three types of pixels: uint8 and uint16 stay, booleans become uint8, all others
    float32. float64 is rounded; integers beyond 2^24 are refused, since float32 skips some. A stack
    becomes a hyperstack, with the distance of the slices and the z of the first one; two to seven
    channels are shown as a composite.

    **PNG** is a picture with colours and a scale bar, see :func:`smlmkit.plotting.save_image` for
    its options and for how it draws slices or channels.

    Nothing says how thick a single slice is: the files call it as thick as a pixel is wide. Pixels
    that are not finite are kept in OME-Zarr and TIFF and transparent in PNG.

    Examples
    --------
    >>> import tempfile
    >>> from smlmkit import PixelGrid, to_image
    >>> from smlmkit.io.ome_zarr import read_image
    >>> grid = PixelGrid(origin=(0, 0), pixel_size=10, shape=(64, 64))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_image(to_image(np.eye(64, dtype=np.float32), grid), Path(folder, "line.ome.zarr"))
    ...     image = read_image(Path(folder, "line.ome.zarr")).load()
    >>> image.x.values[:3]
    array([ 5., 15., 25.])
    """
    write = _WRITER_OF_FORMAT[image_format(path, format)]
    layout_of(image)  # refuses what is no image
    write(image, path, overwrite)


def image_format(path: str | os.PathLike[str], chosen: str | None = None) -> str:
    """Give the format in which `write_image` writes a path.

    Parameters
    ----------
    path : path-like
        Where to write.
    chosen : {"ome-zarr", "tiff", "png"}, optional
        The format, whatever the suffix is.

    Returns
    -------
    str
        The format.

    Raises
    ------
    InvalidInputError
        If neither is known.
    """
    name = Path(path).name.lower()
    # A plain TIFF of this name would send readers to OME metadata that is not there.
    is_ome_tiff = name.endswith((".ome.tif", ".ome.tiff"))
    found = chosen or (None if is_ome_tiff else _FORMAT_OF_SUFFIX.get(Path(name).suffix))
    if found in _WRITER_OF_FORMAT:
        return found
    asked = f"format {chosen!r}" if chosen else f"the suffix of {Path(path).name!r}"
    suffixes = ", ".join(f"{suffix} ({kind})" for suffix, kind in _FORMAT_OF_SUFFIX.items())
    raise InvalidInputError(
        f"{asked} is not known; suffixes: {suffixes}; format: {', '.join(_WRITER_OF_FORMAT)}"
    )


def _write_ome_zarr(image: xr.DataArray, path: str | os.PathLike[str], overwrite: bool) -> None:
    write_ome_zarr(image, path, overwrite=overwrite)


def _write_tiff(image: xr.DataArray, path: str | os.PathLike[str], overwrite: bool) -> None:
    import tifffile

    grid = grid_of(image, stacks=True)
    kept = image.dtype.newbyteorder("=") in (np.uint8, np.uint16, np.bool_)
    n_bytes = image.size * (image.dtype.itemsize if kept else 4)
    if n_bytes > _MOST_TIFF_BYTES:
        raise InvalidInputError(
            f"the image takes {n_bytes / 2**30:.2f} GiB, a TIFF for ImageJ holds less than 4: "
            "write OME-Zarr"
        )
    order = [dim for dim in ("z", "channel", "y", "x") if dim in image.dims]
    pixels = _imagej_pixels(_native_pixels(image.transpose(*order)))
    metadata = {
        "axes": "".join("C" if dim == "channel" else dim.upper() for dim in order),
        "unit": "nm",
        # In pixels, where the coordinates in nm are zero.
        "xorigin": 0.0 - grid.origin[1] / grid.pixel_size,
        "yorigin": 0.0 - grid.origin[0] / grid.pixel_size,
        "Info": json.dumps(as_json(image.attrs)),
    }
    if "z" in order:
        z = image["z"].to_numpy()
        step = slice_distance(z) if len(z) > 1 else grid.pixel_size
        # In slices: ImageJ gives slice n the position (n - zorigin) * spacing.
        metadata |= {"spacing": step, "zorigin": 0.0 - float(image["z"][0]) / step}
    if "channel" in order and 1 < image.sizes["channel"] <= _MOST_COMPOSITE_CHANNELS:
        metadata["mode"] = "composite"
    with whole_or_nothing(path, overwrite=overwrite) as partial:
        tifffile.imwrite(
            partial,
            pixels,
            imagej=True,
            photometric="minisblack",
            resolution=(_pixels_per_nm(grid.pixel_size),) * 2,
            metadata=metadata,
            software=f"smlmkit {__version__}",
        )


def _imagej_pixels(values: NDArray[Any]) -> NDArray[Any]:
    """Convert to a data type of ImageJ, or refuse where values would become others."""
    if values.dtype == np.bool_:
        return values.astype(np.uint8)
    if values.dtype in (np.uint8, np.uint16, np.float32):
        return values
    if values.dtype.kind in "ui" and (values.max() > 2**24 or values.min() < -(2**24)):
        raise InvalidInputError(
            f"the image has integers from {values.min()} to {values.max()}, a TIFF for ImageJ "
            "holds them exactly up to 2^24: write OME-Zarr"
        )
    with np.errstate(over="ignore"):
        pixels = values.astype(np.float32)
    if np.isinf(pixels).sum() > np.isinf(values).sum():
        raise InvalidInputError(
            "the image has values beyond the range of float32: scale them or write OME-Zarr"
        )
    return pixels


def _pixels_per_nm(pixel_size: float) -> tuple[int, int]:
    """Give a resolution as numerator and denominator, each of at most 31 bits.

    Older versions of ImageJ read the two numbers as signed.
    """
    most = 2**31 - 1
    size = Fraction(pixel_size).limit_denominator(max(1, int(min(1e6, most / pixel_size))))
    if not (size.numerator <= most and math.isclose(size, pixel_size, rel_tol=1e-6)):
        raise InvalidInputError(f"a TIFF cannot state a pixel size of {pixel_size} nm")
    return size.denominator, size.numerator


def _write_png(image: xr.DataArray, path: str | os.PathLike[str], overwrite: bool) -> None:
    from smlmkit.plotting import save_image

    save_image(image, path, overwrite=overwrite)


def _native_pixels(image: xr.DataArray) -> NDArray[Any]:
    """Give the pixels in the byte order of this machine, which is what the writers know."""
    values = image.to_numpy()
    return values.astype(values.dtype.newbyteorder("="), copy=False)


_WRITER_OF_FORMAT = {"ome-zarr": _write_ome_zarr, "tiff": _write_tiff, "png": _write_png}
