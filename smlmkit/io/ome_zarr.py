"""OME-Zarr: images of any size with their pyramids, written at once or tile by tile.

Level k lies in the group ``scale{k}``: an array of pixels under the image's name and, beside it,
the coordinates of that level. So xarray opens each level as a dataset, and all of them as a tree.
"""

import itertools
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr

from smlmkit._atomic import whole_or_nothing
from smlmkit._checks import check_whole
from smlmkit.errors import FileFormatError, OutputError
from smlmkit.io.image_layout import as_json, layout_of
from smlmkit.io.ome_zarr_creation import (
    MOST_PX_A_SIDE,
    SHARD_PX,
    Ngff,
    fill_folder,
    transformations_of,
)
from smlmkit.io.pyramids import Pyramid, halve, level_shapes
from smlmkit.tiling import Slices

if TYPE_CHECKING:
    import zarr

# More than any image has: what a reader would have to allocate stays bounded.
_MOST_PLANES = 2**16
_MOST_CHUNK_PX = 2**24
_MOST_CHUNKS_A_SHARD = 2**16
_MOST_METADATA_BYTES = 2**24
_METADATA_FILES = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
_LEVEL_PATH = re.compile(r"(scale\d+)/([A-Za-z0-9_-]+)")


def open_level(folder: Path, level: int, mode: Literal["r", "r+"] = "r+") -> "zarr.Array[Any]":
    """Open the pixels of one level.

    Parameters
    ----------
    folder : Path
        An OME-Zarr group of `create_ome_zarr`.
    level : int
        The level; 0 is the finest.
    mode : {"r+", "r"}, default="r+"
        Whether pixels may be written.

    Returns
    -------
    zarr.Array
        The pixels. A shard that is zero throughout becomes no file.

    Raises
    ------
    FileFormatError
        If the folder is no such group.
    InvalidInputError
        If there is no such level.
    """
    import zarr

    config = {"write_empty_chunks": False}
    return zarr.open_array(_array_folder(folder, level), mode=mode, config=config)


def shard_files(pixels: "zarr.Array[Any]", box: Slices) -> list[Path]:
    """Give the files that hold a box of pixels, in all channels and slices.

    Parameters
    ----------
    pixels : zarr.Array
        The pixels of one level, as `open_level` gives them.
    box : tuple of slice
        Rows and columns: whole shards, but for the end of the image.

    Returns
    -------
    list of Path
        The files of the shards (in NGFF 0.4, of the chunks), which are missing where all is zero.
    """
    sides = (pixels.shards or pixels.chunks)[-2:]
    places = itertools.product(
        *(range(length) for length in pixels.shape[:-2]),
        *(
            range(part.start // side, -(-part.stop // side))
            for part, side in zip(box, sides, strict=True)
        ),
    )
    folder = Path(pixels.store.root)  # type: ignore[attr-defined]
    return [folder / pixels.metadata.encode_chunk_key(place) for place in places]


def read_about(folder: Path) -> dict[str, Any]:
    """Read what smlmkit wrote about an image.

    Parameters
    ----------
    folder : Path
        An OME-Zarr group, perhaps.

    Returns
    -------
    dict
        The group's attribute ``smlmkit``; empty where there is none.
    """
    import zarr

    with suppress(Exception):  # whatever is there instead of an image of smlmkit
        about = zarr.open_group(folder, mode="r").attrs["smlmkit"]
        return dict(about) if isinstance(about, Mapping) else {}
    return {}


def annotate(folder: Path, about: Mapping[str, Any], attrs: Mapping[str, Any]) -> None:
    """Add to what an image says about itself.

    Parameters
    ----------
    folder : Path
        An OME-Zarr group of `create_ome_zarr`.
    about : mapping
        What else the group's attribute ``smlmkit`` shall say.
    attrs : mapping
        Further attributes of the image's finest level.

    Raises
    ------
    FileFormatError
        If the folder is no such group.
    """
    import zarr

    group = zarr.open_group(folder, mode="r+")
    group.attrs["smlmkit"] = as_json({**read_about(folder), **about})
    open_level(folder, 0).attrs.update(as_json(dict(attrs)))


def write_ome_zarr(
    image: xr.DataArray,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    ngff: Ngff = "0.5",
    shard: int = SHARD_PX,
    pyramid: Pyramid | None = "mean",
) -> None:
    """Write an image or a stack with its pyramid; in pieces, so that it need not fit in memory.

    Parameters
    ----------
    image : DataArray of dims ([channel,] [z,] y, x)
        The image or stack; its pixels may be of Dask.
    path : path-like
        The folder to write.
    overwrite : bool, default=False
        Whether an OME-Zarr or other Zarr folder at `path` is replaced.
    ngff : {"0.5", "0.4"}, default="0.5"
        Version of the format, as for `create_ome_zarr`.
    shard : int, default=1024
        Side in pixels of a piece, as for `create_ome_zarr`.
    pyramid : {"mean", "sum"}, optional
        What a pixel of a coarser level holds; None for one level only. The default is "mean".

    Raises
    ------
    InvalidInputError
        If an option is unknown, or the image is not on a regular grid.
    InvalidTypeError
        If it is no DataArray of real numbers.
    OutputError
        If `path` exists and is not to be replaced, its folder is missing, or writing fails.
    """
    if Path(path).is_dir() and not _is_zarr(Path(path)):
        raise OutputError(f"{path} is a folder of other things; an image does not replace it")
    layout = layout_of(image)
    with whole_or_nothing(path, overwrite=overwrite) as partial:
        fill_folder(partial, layout, ngff, shard, pyramid, about={})
        _keep_coordinates(partial, image)
        pixels = open_level(partial, 0)
        for box in _boxes(image.shape, shard):
            pixels[..., *box] = image[..., *box].to_numpy()
        if pyramid:
            for level in range(1, len(level_shapes(image.shape))):
                _coarsen(
                    open_level(partial, level - 1, "r"), open_level(partial, level), pyramid, shard
                )


def read_image(path: str | os.PathLike[str], level: int = 0) -> xr.DataArray:
    """Read an image or a stack that smlmkit wrote as OME-Zarr; pixels are read when used.

    Parameters
    ----------
    path : path-like
        The folder.
    level : int, default=0
        The level of the pyramid: pixels of level k are 2^k times as wide as those of level 0.

    Returns
    -------
    DataArray of dims ([channel,] [z,] y, x)
        The image with its pixel centres in nm and the attributes ``pixel_size`` and ``units`` of
        this level.

    Raises
    ------
    FileFormatError
        If the folder is no image of smlmkit, is damaged, or claims what no image has.
    InvalidInputError
        If the image has no such level.

    Notes
    -----
    Pixels lie on the disk until they are used: ``image[1000:2000, :500].load()`` reads a part,
    ``image.load()`` all, and ``image.chunk()`` makes a Dask array of it. Folders are not trusted:
    metadata are checked before anything is allocated, and links are not followed.

    Examples
    --------
    >>> import tempfile
    >>> from smlmkit import PixelGrid, to_image, write_image
    >>> grid = PixelGrid(origin=(0, 0), pixel_size=10, shape=(600, 1000))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_image(to_image(np.ones(grid.shape, np.float32), grid), Path(folder, "a.ome.zarr"))
    ...     half = read_image(Path(folder, "a.ome.zarr"), level=1).load()
    >>> half.shape, half.pixel_size, half.units
    ((300, 500), 20.0, 'localizations per pixel of 10 nm')
    """
    folder = Path(path)
    if not folder.is_dir():
        raise FileFormatError(f"{folder}: no such folder")
    try:
        _check_files(folder, deep=False)
        image = _open_checked(folder, level)
    except OSError as error:
        raise FileFormatError(f"{folder}: cannot be read: {error}") from error
    return image


def _keep_coordinates(folder: Path, image: xr.DataArray) -> None:
    """Write the finest level's coordinates as they are: xarray aligns equal ones only."""
    import zarr

    for dim in map(str, image.dims):
        zarr.open_array(folder / "scale0" / dim, mode="r+")[:] = image[dim].to_numpy()


def _coarsen(
    finer: "zarr.Array[Any]", coarser: "zarr.Array[Any]", method: Pyramid, shard: int
) -> None:
    """Write a level from the next finer one."""
    for box in _boxes(coarser.shape, shard):
        rows, columns = (slice(2 * part.start, 2 * part.stop) for part in box)
        coarser[..., *box] = halve(np.asarray(finer[..., rows, columns]), method)


def _boxes(shape: tuple[int, ...], side: int) -> Iterator[Slices]:
    """Cut a plane into whole shards."""
    height, width = shape[-2:]
    for top, left in itertools.product(range(0, height, side), range(0, width, side)):
        yield slice(top, min(top + side, height)), slice(left, min(left + side, width))


def _is_zarr(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _METADATA_FILES)


def _array_folder(folder: Path, level: int) -> Path:
    """Give the folder of a level's pixels, as the metadata say."""
    with _as_format_error(folder):
        paths: list[str] = [dataset["path"] for dataset in _multiscale(folder)["datasets"]]
        if not paths or not all(map(_LEVEL_PATH.fullmatch, paths)):
            raise ValueError(f"levels at {paths}")
    check_whole("level", level, 0, len(paths) - 1)
    return folder / paths[level]


def _multiscale(folder: Path) -> dict[str, Any]:
    """Give NGFF's description of an image, whichever version it is."""
    import zarr

    attributes = zarr.open_group(folder, mode="r").attrs
    image: Any = attributes.get("ome", attributes)
    multiscale: dict[str, Any] = image["multiscales"][0]
    return multiscale


@contextmanager
def _as_format_error(folder: Path) -> Iterator[None]:
    """Say of whatever goes wrong with what others wrote that the folder is not as it should be.

    Faults of the disk stay what they are: trying again may help.
    """
    try:
        yield
    except FileFormatError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise
        reason = str(error) or type(error).__name__
        raise FileFormatError(
            f"{folder}: no OME-Zarr image as smlmkit writes it: {reason}"
        ) from error


def _open_checked(folder: Path, level: int) -> xr.DataArray:
    """Open a level; its metadata are checked before anything large is allocated."""
    import zarr

    pixels_folder = _array_folder(folder, level)
    with _as_format_error(folder):
        _check_files(pixels_folder.parent, deep=True)
        multiscale = _multiscale(folder)
        dims = tuple(axis["name"] for axis in multiscale["axes"])
        arrays = dict(zarr.open_group(pixels_folder.parent, mode="r").arrays())
        _check_arrays(arrays, pixels_folder.name, dims)
        # Nothing is decoded: a fill value or a scale factor would have no meaning.
        arrays_of_level = xr.open_zarr(
            pixels_folder.parent, chunks=None, consolidated=False, decode_cf=False
        )
        image: xr.DataArray = arrays_of_level[pixels_folder.name].rename(multiscale.get("name"))
        image.attrs.pop("_FillValue", None)  # what Zarr 2 gives pixels that are not written
        _check_places(image, dims, multiscale["datasets"][level]["coordinateTransformations"])
    return image


def _check_files(folder: Path, *, deep: bool) -> None:
    """Refuse links, devices and metadata that are too long to be some."""
    unseen: list[str | Path] = [folder]
    while unseen:
        with os.scandir(unseen.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    unseen += [entry.path] * deep
                elif not entry.is_file(follow_symlinks=False):
                    raise FileFormatError(f"{entry.path}: a link or no file: not followed")
                elif entry.name in _METADATA_FILES and entry.stat().st_size > _MOST_METADATA_BYTES:
                    raise FileFormatError(
                        f"{entry.path}: larger than {_MOST_METADATA_BYTES:,} bytes"
                    )


def _check_arrays(
    arrays: Mapping[str, "zarr.Array[Any]"], name: str, dims: tuple[str, ...]
) -> None:
    """Refuse arrays that belong to no image, or to none that there can be."""
    if set(arrays) != {name, *dims}:
        raise ValueError(f"arrays {sorted(arrays)}, expected {sorted({name, *dims})}")
    pixels = arrays[name]
    *planes, height, width = pixels.shape
    if max(height, width) > MOST_PX_A_SIDE or math.prod(planes) > _MOST_PLANES:
        raise ValueError(f"an image of shape {pixels.shape}")
    for dim, length in zip(dims, pixels.shape, strict=True):
        if arrays[dim].shape != (length,):
            raise ValueError(f"{dim} of shape {arrays[dim].shape}, expected ({length},)")
    for array in arrays.values():
        chunk_px = math.prod(array.chunks)
        n_chunks = math.prod(array.shards or array.chunks) // chunk_px
        if chunk_px > _MOST_CHUNK_PX or n_chunks > _MOST_CHUNKS_A_SHARD:
            raise ValueError(f"chunks of shape {array.chunks} in shards of {array.shards}")


def _check_places(
    image: xr.DataArray, dims: tuple[str, ...], stated: list[dict[str, list[float]]]
) -> None:
    """Refuse coordinates that are not those of an image, or not those that NGFF's readers see."""
    if image.dims != dims:
        raise ValueError(f"dims {image.dims}, but axes {dims}")
    scale, translation = stated[0]["scale"], stated[1]["translation"]
    expected_scale, expected_translation = transformations_of(layout_of(image))
    tolerance = 1e-3 * image.attrs["pixel_size"]
    if not (
        np.allclose(scale, expected_scale["scale"], rtol=1e-6, atol=0)
        and np.allclose(translation, expected_translation["translation"], rtol=1e-9, atol=tolerance)
    ):
        raise ValueError(f"scale {scale} and translation {translation}, but other coordinates")
