"""Which rows of a table are meant: the usable ones, those asked for, those of a tile or block."""

import itertools
import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smlmkit._checks import check_positive, check_whole, random_source
from smlmkit.errors import InvalidInputError, InvalidTypeError, UnusedRows, UnusedRowsWarning
from smlmkit.grid import FieldOfView, check_field_of_view

_MAX_TILES = 2**16
"""How many tiles 16 bits can number: numpy sorts such numbers by radix, in linear time."""

_N_ROWS_TOLD = 5


def inside(x: NDArray[np.float64], y: NDArray[np.float64], box: FieldOfView) -> NDArray[np.bool_]:
    """Mark the points in a half-open box."""
    return (y >= box.y_min) & (y < box.y_max) & (x >= box.x_min) & (x < box.x_max)


def usable_rows(
    x: NDArray[np.float64], y: NDArray[np.float64], box: FieldOfView | None, prefix: str
) -> NDArray[np.bool_] | None:
    """Mark the rows that can be used; None when all can. Warns of those that cannot."""
    finite = np.isfinite(x) & np.isfinite(y)
    usable = finite if box is None else inside(x, y, box)
    n_unusable = len(x) - int(usable.sum())
    if not n_unusable:
        return None
    unused = {
        "with x or y not finite": ~finite,
        f"outside the field of view {tuple(box or ())}": finite & ~usable,
    }
    reasons = {
        reason: UnusedRows(int(rows.sum()), np.flatnonzero(rows)[:_N_ROWS_TOLD].tolist())
        for reason, rows in unused.items()
        if rows.any()
    }
    told = ", ".join(f"{rows.n:,} {reason}" for reason, rows in reasons.items())
    warnings.warn(
        UnusedRowsWarning(
            f"{prefix}{n_unusable:,} of {len(x):,} rows cannot be used: {told}", reasons
        ),
        stacklevel=3,  # who made the table
    )
    return usable


def bounding_field(x: NDArray[np.float64], y: NDArray[np.float64]) -> FieldOfView:
    """Give the smallest box of whole nm around the points."""
    if len(x) == 0:
        raise InvalidInputError(
            "a table without usable rows has no field of view: pass field_of_view= (nm)"
        )
    lower, upper = np.floor([y.min(), x.min()]), np.floor([y.max(), x.max()]) + 1
    return check_field_of_view([*lower, *upper])


def check_rows(rows: ArrayLike, n_rows: int) -> NDArray[Any]:
    """Turn a mask or the numbers of rows into an array, or say what is wrong with them."""
    indices = np.asarray(rows)
    if indices.ndim != 1 or indices.dtype.kind not in "biu":
        raise InvalidTypeError(
            f"rows must be a slice or a 1-d array of booleans or integers, got {rows!r}"
        )
    if indices.dtype == bool and len(indices) != n_rows:
        raise InvalidInputError(f"the mask has {len(indices)} entries, the table {n_rows} rows")
    if indices.dtype != bool and not np.all((indices >= -n_rows) & (indices < n_rows)):
        raise InvalidInputError(f"the table has {n_rows} rows, got the indices {rows!r}")
    return indices


def in_first_blocks(
    frame: NDArray[np.int64], n_blocks: int, random_state: Any
) -> NDArray[np.bool_]:
    """Mark the rows in half of the blocks of equally many frames."""
    check_whole("n_blocks", n_blocks, low=2)
    span = frame_span(frame)
    if span < n_blocks:
        raise InvalidInputError(
            f"cannot split {span} frames into n_blocks={n_blocks} blocks: "
            "give fewer blocks or by='random'"
        )
    block = (frame - frame.min()) * n_blocks // span
    block_is_first = np.arange(n_blocks) % 2 == 0
    if random_state is not None:
        random_source(random_state).shuffle(block_is_first)
    in_first: NDArray[np.bool_] = block_is_first[block]
    return in_first


def frame_span(frame: NDArray[np.int64]) -> int:
    """Count the frames from the first to the last."""
    return int(frame.max()) - int(frame.min()) + 1 if len(frame) else 0


def cut_into_tiles(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    field: FieldOfView,
    size: float,
    min_localizations: int,
) -> tuple[NDArray[np.intp], list[tuple[slice, FieldOfView]]]:
    """Give the order that sorts rows by tile, and each tile's stretch of sorted rows and box."""
    check_whole("min_localizations", min_localizations, low=0)
    check_positive(size=size)
    y_edges, x_edges = _tile_edges(field, float(size))
    boxes = [
        check_field_of_view((top, left, bottom, right))
        for top, bottom in itertools.pairwise(y_edges)
        for left, right in itertools.pairwise(x_edges)
    ]
    tile_row = np.searchsorted(y_edges[1:-1], y, side="right")
    tile_column = np.searchsorted(x_edges[1:-1], x, side="right")
    tile = (tile_row * (len(x_edges) - 1) + tile_column).astype(np.uint16)
    stops = np.cumsum(np.bincount(tile, minlength=len(boxes))).tolist()
    tiles = [
        (slice(start, stop), box)
        for start, stop, box in zip([0, *stops[:-1]], stops, boxes, strict=True)
        if stop - start >= min_localizations
    ]
    return np.argsort(tile, kind="stable"), tiles


def _tile_edges(field: FieldOfView, size: float) -> list[NDArray[np.float64]]:
    """Give the edges of tiles along y and along x; the last tile takes what is left over."""
    # 1e-12 forgives float error in whole multiples.
    n_rows, n_columns = (
        max(1.0, float(np.floor(extent / size * (1 + 1e-12))))
        for extent in (field.height, field.width)
    )
    if not n_rows * n_columns <= _MAX_TILES:
        raise InvalidInputError(
            f"size={size:g} nm cuts {field} into {n_rows * n_columns:,.0f} tiles, "
            f"more than {_MAX_TILES:,}"
        )
    return [
        np.append(field.y_min + np.arange(n_rows) * size, field.y_max),
        np.append(field.x_min + np.arange(n_columns) * size, field.x_max),
    ]
