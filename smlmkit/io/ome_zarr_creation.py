"""OME-Zarr images without pixels: groups, metadata and arrays of the versions 0.5 and 0.4."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from smlmkit import __version__
from smlmkit._atomic import whole_or_nothing
from smlmkit._checks import check_choice, check_whole
from smlmkit.errors import InvalidInputError
from smlmkit.grid import PixelGrid
from smlmkit.io.image_layout import ImageLayout, as_json, slice_distance
from smlmkit.io.pyramids import Pyramid, level_shapes

if TYPE_CHECKING:
    import zarr

Ngff = Literal["0.5", "0.4"]

SHARD_PX = 1024
CHUNK_PX = {"0.5": 256, "0.4": 512}
# More than any image has: what a reader would have to allocate stays bounded.
MOST_PX_A_SIDE = 2**24


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
        fill_folder(partial, layout, ngff, shard, pyramid, about or {})


def fill_folder(
    folder: Path,
    layout: ImageLayout,
    ngff: Ngff,
    shard: int,
    pyramid: Pyramid | None,
    about: Mapping[str, Any],
) -> None:
    """Write all but the pixels of an image into a folder, as `create_ome_zarr` does.

    Parameters
    ----------
    folder : Path
        Where the image lies.
    layout : ImageLayout
        The image.
    ngff : {"0.5", "0.4"}
        The version of OME-Zarr.
    shard : int
        Side of a shard in pixels.
    pyramid : {"mean", "sum"} or None
        How coarser levels come from finer ones; None for no others.
    about : mapping
        What else the group's attribute ``smlmkit`` shall say.

    Raises
    ------
    InvalidInputError
        If an option is not one of these, or slices lie at unequal distances.
    """
    import zarr
    from zarr.core.buffer import Buffer
    from zarr.storage import MemoryStore

    check_choice("ngff", ngff, ("0.5", "0.4"))
    check_choice("pyramid", pyramid, ("mean", "sum", None))
    _check_shard(shard, CHUNK_PX[ngff])
    if max(layout.grid.shape) > MOST_PX_A_SIDE:
        raise InvalidInputError(
            f"an image has at most {MOST_PX_A_SIDE:,} pixels a side, got {layout.grid.shape}"
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
                "coordinateTransformations": transformations_of(level),
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


def transformations_of(level: ImageLayout) -> list[dict[str, Any]]:
    """Give the distance of a level's pixels and the centre of its first one, in nm.

    Parameters
    ----------
    level : ImageLayout
        The image of this level.

    Returns
    -------
    list of dict
        A scale and a translation, as NGFF has them.

    Raises
    ------
    InvalidInputError
        If slices lie at unequal distances.
    """
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
