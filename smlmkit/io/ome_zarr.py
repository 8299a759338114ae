"""OME-Zarr: images of any size with their pyramids, written at once or tile by tile.

Level k lies in the group ``scale{k}``: an array of pixels under the image's name and, beside it,
the coordinates of that level. So xarray opens each level as a dataset, and all of them as a tree.
"""

import itertools
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smlmkit import __version__
from smlmkit._atomic import whole_or_nothing
from smlmkit._checks import check_choice, check_whole
from smlmkit.errors import FileFormatError, InvalidInputError, InvalidTypeError, OutputError
from smlmkit.grid import PixelGrid
from smlmkit.images import DENSITY_UNITS, grid_of
from smlmkit.tiling import Slices

if TYPE_CHECKING:
    import zarr

Ngff = Literal["0.5", "0.4"]
Pyramid = Literal["mean", "sum"]

SHARD_PX = 1024
CHUNK_PX = {"0.5": 256, "0.4": 512}
# Pyramids end where a level fits on a screen.
_LARGEST_TOP_PX = 512
# More than any image has: what a reader would have to allocate stays bounded.
_MOST_PX_A_SIDE = 2**24
_MOST_PLANES = 2**16
_MOST_CHUNK_PX = 2**24
_MOST_CHUNKS_A_SHARD = 2**16
_MOST_METADATA_BYTES = 2**24
_METADATA_FILES = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
_FLOAT32 = np.dtype(np.float32)
_LEVEL_PATH = re.compile(r"(scale\d+)/([A-Za-z0-9_-]+)")


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


def level_shapes(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Give the sides of every level: halves, rounded up, until both are at most 512.

    Parameters
    ----------
    shape : tuple of int
        The image's shape; its last two numbers are height and width in pixels.

    Returns
    -------
    list of tuple of int
        Height and width of every level.

    Examples
    --------
    >>> level_shapes((3, 2049, 700))
    [(2049, 700), (1025, 350), (513, 175), (257, 88)]
    """
    height, width = shape[-2:]
    shapes = [(height, width)]
    while max(shapes[-1]) > _LARGEST_TOP_PX:
        height, width = shapes[-1]
        shapes.append((-(-height // 2), -(-width // 2)))
    return shapes


def halve(values: NDArray[Any], method: Pyramid) -> NDArray[Any]:
    """Make an image half as large: every pixel is the mean or the sum of 2 x 2.

    Parameters
    ----------
    values : ndarray of shape (..., height, width)
        The pixels.
    method : {"mean", "sum"}
        What becomes of 2 x 2 pixels. Where a side is odd, the last pixel is the mean or the sum of
        those that are there.

    Returns
    -------
    ndarray of shape (..., (height + 1) // 2, (width + 1) // 2)
        The pixels, of the same type. Whole numbers are rounded, and sums beyond their type's
        largest number become that number.

    Raises
    ------
    InvalidInputError
        If the method is unknown.

    Examples
    --------
    >>> halve(np.array([[1.0, 3.0, 5.0], [1.0, 3.0, 9.0]]), "mean")
    array([[2., 7.]])
    >>> halve(np.array([[1.0, 3.0, 5.0], [1.0, 3.0, 9.0]]), "sum")
    array([[ 8., 14.]])
    """
    check_choice("method", method, ("mean", "sum"))
    height, width = values.shape[-2:]
    with np.errstate(invalid="ignore"):  # infinities of both signs make a NaN
        rows = values[..., ::2, :].astype(np.float64)
        rows[..., : height // 2, :] += values[..., 1::2, :]
        halved = rows[..., ::2].copy()
        halved[..., : width // 2] += rows[..., 1::2]
    if method == "mean":
        n_rows, n_columns = (np.minimum(2, np.arange(side, 0, -2)) for side in (height, width))
        halved /= n_rows[:, np.newaxis] * n_columns
    return _as_type(halved, values.dtype)


def create_ome_zarr(
    folder: Path,
    layout: ImageLayout,
    *,
    ngff: Ngff = "0.5",
    shard: int = SHARD_PX,
    pyramid: Pyramid | None = "mean",
    about: Mapping[str, Any] | None = None,
) -> None:
    """Make an OME-Zarr group whose pixels are all zero: every level, coordinates and metadata.

    Parameters
    ----------
    folder : Path
        The group's folder, which must not be there yet. It is made whole or not at all.
    layout : ImageLayout
        What the image will be.
    ngff : {"0.5", "0.4"}, default="0.5"
        Version of the format: 0.5 is Zarr 3 with shards, 0.4 is Zarr 2, for older programs.
    shard : int, default=1024
        Side in pixels of what is written at once: a multiple of 256, or less (in 0.4, where every
        chunk is a file, of 512). Boxes of whole shards can be written by several processes at the
        same time.
    pyramid : {"mean", "sum"}, optional
        What a pixel of a coarser level holds of 2 x 2 finer ones; None for the finest level only.
        The default is "mean".
    about : mapping, optional
        What else the group's attribute ``smlmkit`` shall say.

    Raises
    ------
    InvalidInputError
        If an option is not one of these, or slices lie at unequal distances.
    OutputError
        If the folder is there already, or cannot be written.
    """
    with whole_or_nothing(folder) as partial:
        _create(partial, layout, ngff, shard, pyramid, about or {})


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
        _create(partial, layout, ngff, shard, pyramid, about={})
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


def _create(
    folder: Path,
    layout: ImageLayout,
    ngff: Ngff,
    shard: int,
    pyramid: Pyramid | None,
    about: Mapping[str, Any],
) -> None:
    import zarr
    from zarr.core.buffer import Buffer
    from zarr.storage import MemoryStore

    check_choice("ngff", ngff, ("0.5", "0.4"))
    check_choice("pyramid", pyramid, ("mean", "sum", None))
    _check_shard(shard, CHUNK_PX[ngff])
    if max(layout.grid.shape) > _MOST_PX_A_SIDE:
        raise InvalidInputError(
            f"an image has at most {_MOST_PX_A_SIDE:,} pixels a side, got {layout.grid.shape}"
        )
    levels = _levels(layout, pyramid)
    summary = {
        "version": __version__,
        "units": layout.attrs.get("units"),
        "pixel_size": layout.grid.pixel_size,
    }
    # In memory, for on disk Zarr looks for many files that are not there, each time in a thread.
    files: dict[str, Buffer] = {}
    group = zarr.create_group(
        MemoryStore(files),
        zarr_format=3 if ngff == "0.5" else 2,
        attributes={
            **_ome_metadata(levels, ngff, pyramid),
            "smlmkit": as_json({**summary, **about}),
        },
    )
    for number, level in enumerate(levels):
        _create_level(group.create_group(f"scale{number}"), level, shard, CHUNK_PX[ngff])
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.to_bytes())


def _check_shard(shard: int, chunk: int) -> None:
    check_whole("shard", shard, 1)
    if shard > chunk and shard % chunk:
        raise InvalidInputError(f"shard must be a multiple of {chunk} or less, got {shard}")


def _levels(layout: ImageLayout, pyramid: Pyramid | None) -> list[ImageLayout]:
    """Give the image of every level."""
    size, units = layout.grid.pixel_size, layout.attrs.get("units")
    shapes = level_shapes(layout.shape) if pyramid else [layout.grid.shape]
    levels = []
    for number, shape in enumerate(shapes):
        grid = PixelGrid(layout.grid.origin, size * 2**number, shape)
        attrs = {**layout.attrs, "pixel_size": grid.pixel_size}
        if number and pyramid == "mean" and str(units).endswith("per pixel"):
            attrs["units"] = f"{units} of {size:g} nm"
        levels.append(replace(layout, grid=grid, attrs=attrs))
    return levels


def _ome_metadata(levels: list[ImageLayout], ngff: Ngff, pyramid: Pyramid | None) -> dict[str, Any]:
    """Give the attributes that NGFF asks for, checked by its schema."""
    from yaozarrs import v04, v05

    schema = v05 if ngff == "0.5" else v04
    multiscale: dict[str, Any] = {
        "name": levels[0].name,
        "axes": [
            {"name": dim, "type": "channel"}
            if dim == "channel"
            else {"name": dim, "type": "space", "unit": "nanometer"}
            for dim in levels[0].dims
        ],
        "datasets": [
            {
                "path": f"scale{number}/{_array_name(level)}",
                "coordinateTransformations": _transformations(level),
            }
            for number, level in enumerate(levels)
        ],
    }
    if pyramid and len(levels) > 1:
        multiscale["type"] = pyramid
        multiscale["metadata"] = {
            "description": f"each pixel is the {pyramid} of 2 x 2 pixels of the next finer level; "
            f"at the end of an odd side, the {pyramid} of those that are there",
            "method": "smlmkit.io.ome_zarr.halve",
            "version": __version__,
        }
    image = schema.Image.model_validate({"multiscales": [multiscale]})
    attributes = image.model_dump(mode="json", exclude_none=True)
    return {"ome": attributes} if ngff == "0.5" else attributes


def _transformations(level: ImageLayout) -> list[dict[str, Any]]:
    """Give the distance of a level's pixels and the centre of its first one, in nm."""
    size = level.grid.pixel_size
    steps = {"channel": 1.0, "y": size, "x": size}
    if level.z:
        # Nothing says how thick a single slice is: it counts as thick as a pixel is wide.
        steps["z"] = slice_distance(level.z) if len(level.z) > 1 else size
    firsts = {dim: float(labels[0]) for dim, labels in level.coordinates.items()}
    firsts["channel"] = 0.0
    return [
        {"type": "scale", "scale": [steps[dim] for dim in level.dims]},
        {"type": "translation", "translation": [firsts[dim] for dim in level.dims]},
    ]


def _array_name(layout: ImageLayout) -> str:
    """Give a name for a folder on any file system, beside those of the coordinates."""
    name = re.sub(r"[^A-Za-z0-9-]+", "_", layout.name or "").strip("_")[:100]
    return name if name and name.lower() not in layout.dims else "image"


def _create_level(group: "zarr.Group", level: ImageLayout, shard: int, chunk: int) -> None:
    """Make one level's arrays: pixels that are all zero, and the coordinates."""
    n_planes = len(level.shape) - 2
    chunks = [min(side, shard, chunk) for side in level.grid.shape]
    # No shard is larger than the chunks that cover the image.
    shards = [
        min(-(-side // part) * part, shard)
        for side, part in zip(level.grid.shape, chunks, strict=True)
    ]
    group.create_array(
        _array_name(level),
        shape=level.shape,
        dtype=level.dtype,
        chunks=(1,) * n_planes + tuple(chunks),
        fill_value=level.dtype.type(0),
        **_array_options(group, level.dims, level.attrs, (1,) * n_planes + tuple(shards)),
    )
    for dim, labels in level.coordinates.items():
        attrs = {} if dim == "channel" else {"units": "nm"}
        group.create_array(
            dim,
            data=labels,
            chunks=labels.shape,
            fill_value=None,  # in Zarr 2, xarray would take a zero for missing
            **_array_options(group, (dim,), attrs, None),
        )


def _array_options(
    group: "zarr.Group",
    dims: tuple[str, ...],
    attrs: Mapping[str, Any],
    shards: tuple[int, ...] | None,
) -> dict[str, Any]:
    """Say in the group's version of Zarr how an array is stored and what its dims are."""
    if group.metadata.zarr_format == 3:
        return {
            "shards": shards,
            "compressors": {"name": "zstd", "configuration": {"level": 3, "checksum": False}},
            "dimension_names": dims,
            "attributes": as_json(attrs),
        }
    return {
        # Every reader of Zarr 2 knows Blosc.
        "compressors": {"id": "blosc", "cname": "zstd", "clevel": 3, "shuffle": 1, "blocksize": 0},
        "chunk_key_encoding": {"name": "v2", "separator": "/"},
        "attributes": {**as_json(attrs), "_ARRAY_DIMENSIONS": dims},
    }


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


def _as_type(values: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Convert numbers; whole ones are rounded and end at what their type holds."""
    if dtype.kind == "b":
        return np.rint(np.minimum(values, 1)).astype(dtype)
    if dtype.kind in "iu":
        low, high = float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
        if int(high) > np.iinfo(dtype).max:  # 64 bits: the float above it
            high = math.nextafter(high, 0)
        values = np.rint(values).clip(low, high)
    return values.astype(dtype)


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
    if max(height, width) > _MOST_PX_A_SIDE or math.prod(planes) > _MOST_PLANES:
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
    expected_scale, expected_translation = _transformations(layout_of(image))
    tolerance = 1e-3 * image.attrs["pixel_size"]
    if not (
        np.allclose(scale, expected_scale["scale"], rtol=1e-6, atol=0)
        and np.allclose(translation, expected_translation["translation"], rtol=1e-9, atol=tolerance)
    ):
        raise ValueError(f"scale {scale} and translation {translation}, but other coordinates")
