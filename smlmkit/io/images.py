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
from smlmkit.errors import InvalidInputError, InvalidTypeError, OutputError
from smlmkit.images import grid_of

_FORMAT_OF_SUFFIX = {
    ".zarr": "ome-zarr",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".png": "png",
}
_CHUNK_PX = 1024
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
    analysis. It is one level in chunks of 1024 pixels of one plane; scale and translation give the
    centre of every pixel in nm; the axes bear the names of the dims. The group is an xarray dataset
    too: ``xarray.open_zarr(path, consolidated=False)["0"]`` is the image again, with its
    coordinates and attributes (as text where JSON cannot hold them).

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
    >>> grid = PixelGrid(origin=(0, 0), pixel_size=10, shape=(64, 64))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_image(to_image(np.eye(64, dtype=np.float32), grid), Path(folder, "line.ome.zarr"))
    ...     image = xr.open_zarr(Path(folder, "line.ome.zarr"), consolidated=False)["0"].load()
    >>> image.x.values[:3]
    array([ 5., 15., 25.])
    """
    write = _WRITER_OF_FORMAT[image_format(path, format)]
    grid_of(image, stacks=True)
    if image.dtype.kind not in "buif" or image.dtype.itemsize > 8:
        raise InvalidTypeError(f"an image holds real numbers of at most 64 bits, not {image.dtype}")
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
    import zarr

    if Path(path).is_dir() and not _is_zarr(Path(path)):
        raise OutputError(f"{path} is a folder of other things; an image does not replace it")
    ome = _ome_metadata(image)
    about = {
        "version": __version__,
        "units": image.attrs.get("units"),
        "pixel_size": float(image.attrs["pixel_size"]),
    }
    with whole_or_nothing(path, overwrite=overwrite) as partial:
        group = zarr.create_group(
            partial,
            zarr_format=3,
            attributes={"ome": ome, "smlmkit": _as_json(about)},
        )
        group.create_array(
            "0",
            data=_native_pixels(image),
            chunks=(1,) * (image.ndim - 2)
            + tuple(min(side, _CHUNK_PX) for side in image.shape[-2:]),
            dimension_names=[str(dim) for dim in image.dims],
            attributes=_as_json(image.attrs),
        )
        for dim in map(str, image.dims):
            group.create_array(
                dim,
                data=image[dim].to_numpy(),
                dimension_names=[dim],
                attributes={} if dim == "channel" else {"units": "nm"},
            )


def _is_zarr(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))


def _ome_metadata(image: xr.DataArray) -> dict[str, Any]:
    """Give the NGFF metadata of one level; its translation is the centre of the first pixel."""
    from yaozarrs import v05

    dims = [str(dim) for dim in image.dims]
    level = v05.Dataset(
        path="0",
        coordinateTransformations=[
            v05.ScaleTransformation(scale=[_step(image, dim) for dim in dims]),
            v05.TranslationTransformation(
                translation=[0.0 if dim == "channel" else float(image[dim][0]) for dim in dims]
            ),
        ],
    )
    multiscale = v05.Multiscale(
        name=None if image.name is None else str(image.name),
        axes=[
            v05.ChannelAxis(name=dim)
            if dim == "channel"
            else v05.SpaceAxis(name=dim, unit="nanometer")
            for dim in dims
        ],
        datasets=[level],
    )
    return v05.Image(multiscales=[multiscale]).model_dump(mode="json", exclude_none=True)


def _step(image: xr.DataArray, dim: str) -> float:
    """Give how far apart channels (1), pixels or slices (nm) lie.

    A single slice counts as thick as a pixel is wide.
    """
    if dim == "channel":
        return 1.0
    if dim != "z" or image.sizes["z"] == 1:
        return float(image.attrs["pixel_size"])
    z = image["z"].to_numpy()
    step = float(z[-1] - z[0]) / (len(z) - 1)
    if not np.allclose(z, z[0] + step * np.arange(len(z)), rtol=0, atol=step * 1e-3):
        apart = np.diff(z)
        raise InvalidInputError(
            f"the slices lie from {apart.min():g} to {apart.max():g} nm apart, but a file states "
            "one distance: render slices of equal thickness or write each to a file of its own"
        )
    return step


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
        "Info": json.dumps(_as_json(image.attrs)),
    }
    if "z" in order:
        step = _step(image, "z")
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


def _as_json(value: Any) -> Any:
    """Turn attributes into what JSON can hold; what it cannot hold becomes text."""
    if isinstance(value, dict):
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _as_json(value.tolist())
    if isinstance(value, str | int | None) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)


_WRITER_OF_FORMAT = {"ome-zarr": _write_ome_zarr, "tiff": _write_tiff, "png": _write_png}
