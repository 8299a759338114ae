"""Tables and images of a field of view as the clouds of points and images that crops come from."""

import warnings
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smlmkit._threads import check_threads
from smlmkit.drawing import number_slices
from smlmkit.errors import InvalidInputError, InvalidTypeError, UnusedRowsWarning
from smlmkit.grid import FieldOfView
from smlmkit.images import grid_of
from smlmkit.localizations import Localizations
from smlmkit.neighborhoods import spread_by_windows
from smlmkit.nn.clouds import PointCloud, TargetImage
from smlmkit.samples import numeric_column

Edges = NDArray[np.float64]

# Those of `AnisotropicKDE()`.
_WINDOW, _SCALE = 11, 1.0


class Slab(NamedTuple):
    """The localizations of a table that lie in its slices, and the slice of each."""

    table: Localizations
    plane: NDArray[np.int32] | None


def cut_out(table: Localizations, z_edges: Edges | None, label: str) -> Slab:
    """Leave out what lies in no slice, and say how many rows that are."""
    if z_edges is None:
        return Slab(table, None)
    try:
        z = numeric_column(table, "z")
    except InvalidInputError as error:
        raise InvalidInputError(f"{label}: slices need z: {error}") from error
    plane = number_slices(z, z_edges)
    inside = plane >= 0
    if n_outside := len(table) - np.count_nonzero(inside):
        warnings.warn(
            f"{label}: {n_outside:,} of {len(table):,} localizations lie outside of the slices "
            f"from {z_edges[0]:g} to {z_edges[-1]:g} nm and are left out",
            UnusedRowsWarning,
            stacklevel=2,
        )
        table, plane = table.select(inside), plane[inside]
    return Slab(table, plane.astype(np.int32))


def as_cloud(slab: Slab, ticket: NDArray[np.float64] | None) -> PointCloud:
    """Give the points of a table, in its field of view."""
    table = slab.table
    return PointCloud(table.y, table.x, table.field_of_view, slab.plane, ticket)


def frames_of(table: Localizations, label: str, needed_by: str) -> NDArray[np.int64]:
    """Give the frame of every row, or say that `needed_by` needs it."""
    if "frame" not in table:
        raise InvalidInputError(
            f"{label}: {needed_by} needs a column 'frame', there are only "
            f"{', '.join(table.columns)}"
        )
    frames: NDArray[np.int64] = table["frame"]
    return frames


def as_target_cloud(
    table: Localizations,
    box: FieldOfView,
    pixel_size: float,
    z_edges: Edges | None,
    label: str,
) -> PointCloud:
    """Give the points of a table in the field of view of another one, which it must cover."""
    _check_cover(table.field_of_view, box, pixel_size, label)
    slab = cut_out(table.crop(box), z_edges, label)
    return PointCloud(slab.table.y, slab.table.x, box, slab.plane)


def as_target_image(
    image: xr.DataArray, box: FieldOfView, z_edges: Edges | None, label: str
) -> TargetImage:
    """Give the pixels of an image, or of a stack with the slices of `z_edges`."""
    try:
        grid = grid_of(image, stacks=True)
    except (InvalidInputError, InvalidTypeError) as error:
        raise type(error)(f"{label}: {error}") from error
    if image.dtype.kind not in "iufb":
        raise InvalidInputError(f"{label}: an image holds real numbers, got dtype {image.dtype}")
    _check_cover(grid.field_of_view, box, grid.pixel_size, label)
    _check_slices(image, z_edges, label)
    pixels = np.ascontiguousarray(image.to_numpy(), np.float32).reshape(-1, *grid.shape)
    if not np.isfinite(pixels).all():
        n_bad = np.count_nonzero(~np.isfinite(pixels))
        raise InvalidInputError(f"{label}: {n_bad:,} pixels are not finite")
    return TargetImage(pixels, grid)


def _check_slices(image: xr.DataArray, z_edges: Edges | None, label: str) -> None:
    """Refuse a stack where there are no slices, and one with other slices."""
    dims = ("y", "x") if z_edges is None else ("z", "y", "x")
    if image.dims != dims:
        slices = "no slices" if z_edges is None else f"{len(z_edges) - 1} slices"
        raise InvalidInputError(
            f"{label}: where there are {slices} in z, the dims are {dims}, got {image.dims}"
        )
    if z_edges is not None:
        z, wanted = image["z"].to_numpy(), (z_edges[:-1] + z_edges[1:]) / 2
        if len(z) != len(wanted) or np.any(np.abs(z - wanted) > 1e-3 * np.diff(z_edges)):
            raise InvalidInputError(f"{label}: its slices lie at z = {z}, not at {wanted} nm")


def _check_cover(covered: FieldOfView, box: FieldOfView, pixel_size: float, label: str) -> None:
    """Refuse a target that does not cover a field of view to half a pixel."""
    missing = max(
        covered.y_min - box.y_min,
        covered.x_min - box.x_min,
        box.y_max - covered.y_max,
        box.x_max - covered.x_max,
    )
    if missing > pixel_size / 2:
        raise InvalidInputError(
            f"{label}: {tuple(covered)} does not cover the field of view {tuple(box)}: "
            f"{missing:.6g} nm are missing"
        )


def spread_counts(counts: xr.DataArray) -> xr.DataArray:
    """Estimate the density of each plane by anisotropic Gaussians that follow windows of pixels."""
    planes = counts.to_numpy().reshape(-1, *counts.shape[-2:])
    density = np.zeros_like(planes)
    for plane, spread in zip(planes, density, strict=True):
        spread_by_windows(
            plane,
            spread,
            window=_WINDOW,
            scale=_SCALE,
            integrated=True,
            n_threads=check_threads(None),
        )
    return counts.copy(data=density.reshape(counts.shape))
