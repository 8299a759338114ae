"""Clouds of points and images of fields of view, made ready for drawing crops from them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smlmkit._kernels.pairs import Layout, SortedPoints, order_by_cell
from smlmkit.errors import InvalidInputError
from smlmkit.grid import FieldOfView, PixelGrid

# 2^28 cells of half a patch are a field of 524,288 x 524,288 pixels at 64 pixels a patch.
_MAX_CELLS = 2**28


@dataclass(frozen=True)
class PointCloud:
    """The points of a field of view.

    Parameters
    ----------
    y, x : ndarray of float64, shape (n,)
        Where they lie, in nm; all of them in the box.
    box : FieldOfView
        The field of view in nm.
    plane : ndarray of int32, shape (n,), optional
        The slice of each point, by default 0 for all.
    ticket : ndarray of float64, shape (n,), optional
        Each point's own ticket in [0, 1), by default 0 for all; see `Draw`.
    """

    y: NDArray[np.float64]
    x: NDArray[np.float64]
    box: FieldOfView
    plane: NDArray[np.int32] | None = None
    ticket: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class TargetImage:
    """The image of a field of view, in expected localizations per pixel.

    Parameters
    ----------
    pixels : ndarray of float32, shape (n_slices, height_px, width_px)
        The image.
    grid : PixelGrid
        Where its pixels lie; their size may differ from that of the crops.
    """

    pixels: NDArray[np.float32]
    grid: PixelGrid


def check_clouds(
    clouds: Sequence[PointCloud], patch_size: int, pixel_size: float, *, aligned: bool
) -> None:
    """Refuse fields of view that cannot hold a crop, and clouds without any points.

    Parameters
    ----------
    clouds : sequence of PointCloud
        The points of each field of view.
    patch_size : int
        Side of a crop in pixels.
    pixel_size : float
        Edge of a pixel in nm.
    aligned : bool
        Whether crops are aligned with the field's axes; others need room for their diagonal.

    Raises
    ------
    InvalidInputError
        If there is such a field, or no localization at all; the message names each.
    """
    side = patch_size * pixel_size * (1 if aligned else math.sqrt(2))
    # As in the grid that covers a field of view, 1e-12 forgives float error in whole multiples.
    too_small = [
        f"field of view {position} is {cloud.box.height:.6g} x {cloud.box.width:.6g} nm"
        for position, cloud in enumerate(clouds)
        if min(cloud.box.height, cloud.box.width) < side * (1 - 1e-12)
    ]
    if too_small:
        patch = "a patch" if aligned else "a rotated patch"
        raise InvalidInputError(
            f"{'; '.join(too_small)}: {patch} of {patch_size} px of {pixel_size:g} nm needs "
            f"{side:.0f} nm a side; lower patch_size or leave the field out"
        )
    if not any(len(cloud.y) for cloud in clouds):
        raise InvalidInputError("there are no localizations to learn from")


def lay_out(
    boxes: Sequence[FieldOfView], patch_size: int, pixel_size: float, *, aligned: bool
) -> Layout:
    """Cut fields of view into cells of half a patch.

    Parameters
    ----------
    boxes : sequence of FieldOfView
        The fields in nm.
    patch_size : int
        Side of a crop in pixels.
    pixel_size : float
        Edge of a pixel in nm.
    aligned : bool
        Whether crops lie on the grid that covers the field of view, as in a rendering.

    Returns
    -------
    Layout
        The fields and their cells, in pixels.

    Raises
    ------
    InvalidInputError
        If a field has too many cells.
    """
    cell_size = patch_size / 2
    sizes, cells, n_cells = [], [], 0
    for box in boxes:
        size = np.array([box.height, box.width]) / pixel_size
        if aligned:
            size = np.array(PixelGrid.covering(box, pixel_size).shape, np.float64)
        shape = [math.ceil(extent / cell_size) for extent in size]
        if math.prod(shape) > _MAX_CELLS:
            raise InvalidInputError(f"{box} is too large to train on; is there an outlier in it?")
        sizes.append(size)
        cells.append((n_cells, *shape))
        n_cells += math.prod(shape)
    areas = np.array([box.height * box.width for box in boxes])
    shares = np.cumsum(areas) / areas.sum()
    shares[-1] = 1.0
    return Layout(np.array(sizes), np.array(cells), shares, cell_size, aligned)


def sort_points(clouds: Sequence[PointCloud], layout: Layout, pixel_size: float) -> SortedPoints:
    """Turn points into pixels from their field's corner on and sort them by cell.

    Parameters
    ----------
    clouds : sequence of PointCloud
        The points of each field of view; all of them have planes, or none, and so the tickets.
    layout : Layout
        The fields and their cells. In aligned fields points move to the centre of their pixel, so
        that they are counted where a rendering counts them, in every orientation.
    pixel_size : float
        Edge of a pixel in nm.

    Returns
    -------
    SortedPoints
        The points of all fields.
    """
    columns: list[list[NDArray[Any]]] = [[], [], [], []]
    starts, n_points = [], 0
    for cloud, size, (_, *shape) in zip(clouds, layout.sizes, layout.cells.tolist(), strict=True):
        y = (cloud.y - cloud.box.y_min) / pixel_size
        x = (cloud.x - cloud.box.x_min) / pixel_size
        if layout.aligned:
            # The last float below the upper edge may round up to it.
            y, x = (np.minimum(np.floor(v), n - 1) + 0.5 for v, n in zip((y, x), size, strict=True))
        order, cell_starts = order_by_cell(y, x, layout.cell_size, tuple(shape))
        for column, values in zip(columns, (y, x, cloud.plane, cloud.ticket), strict=True):
            column.append(np.empty(0) if values is None else values[order])
        starts.append(cell_starts[:-1] + n_points)
        n_points += len(y)
    y, x, plane, ticket = map(np.concatenate, columns)
    return SortedPoints(y, x, plane.astype(np.int32), ticket, np.concatenate([*starts, [n_points]]))
