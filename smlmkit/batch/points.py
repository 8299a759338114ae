"""Localizations sorted by place in a file, so that any part of a field is quickly read.

The file is Parquet and a table as any other (`smlmkit.io.parquet`), whose rows lie cell by cell,
row by row of square cells. Its metadata hold, under ``smlmkit_cells``, a JSON object with the
``version``, the ``cell`` (its edge in nm), the ``counts`` of rows in each cell (little-endian
int64, deflated, base64), the ``maxima`` of the columns and the ``digest`` of the rows.
"""

import base64
import json
import math
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from smlmkit._atomic import whole_or_nothing
from smlmkit._checks import check_positive
from smlmkit._kernels.pixels import pixels_along
from smlmkit.batch._sorting import SortedRuns
from smlmkit.batch._source import READING_ERRORS, Columns, open_parquet, open_source, rows_at_a_time
from smlmkit.drawing import draw_counts
from smlmkit.errors import FileFormatError, InvalidInputError
from smlmkit.grid import FieldOfView, PixelGrid
from smlmkit.io._common import LENGTHS, table_from_file
from smlmkit.io.parquet import NOTE_KEY, NOTE_VERSION, parse_note
from smlmkit.io.tables import read_localizations
from smlmkit.localizations import Localizations
from smlmkit.tiling import Slices, TileGrid

Floats = NDArray[np.float64]

_CELLS_KEY = b"smlmkit_cells"
_CELLS_VERSION = 1
_MOST_OF_MEDIAN = 2**20
_MAX_CELLS = 2**20
# Few enough that little is read besides what is wanted; not so few that the footer grows large.
_ROWS_IN_GROUP = 2**13
_MAX_GROUPS = 2**13
_GROUPS_AT_A_TIME = 16
# Rounding must not reach across a pixel.
_MIN_ULPS_IN_PIXEL = 2**10


@dataclass(frozen=True)
class TiledPoints:
    """A file of localizations of which any part can be read: small, and the same in any process.

    `sort_by_tiles` writes such files and `TiledPoints.open` opens them. The object holds no open
    file, can be pickled and used by several threads at once.

    Parameters
    ----------
    path : Path
        The file.
    field_of_view : FieldOfView
        The box in nm that was imaged.
    n_points : int
        The number of localizations.
    columns : tuple of str
        The names of the columns.
    maxima : dict of str to float
        The largest finite value of each column of numbers, -inf where there is none.
    metadata : dict
        What else is known of the acquisition.
    cell : float
        Edge in nm of the square cells by which rows are sorted.
    digest : str
        A digest of columns, field of view, and rows in their order within each cell. Tables that
        differ in nothing else than the order of rows far apart have the same.

    See Also
    --------
    sort_by_tiles : Makes such a file of any table.
    """

    path: Path
    field_of_view: FieldOfView
    n_points: int
    columns: tuple[str, ...]
    maxima: dict[str, float]
    metadata: dict[str, Any]
    cell: float
    digest: str

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "TiledPoints":
        """Open a file that `sort_by_tiles` wrote.

        Parameters
        ----------
        path : path-like
            The file.

        Returns
        -------
        TiledPoints
            Its facts; the rows stay in the file.

        Raises
        ------
        FileFormatError
            If it is no such file, or is damaged.
        """
        return _open(Path(path).absolute())[0]

    def read(self, grid: PixelGrid, box: Slices) -> Localizations:
        """Read the localizations in a part of an image.

        Parameters
        ----------
        grid : PixelGrid
            The pixels of the whole image.
        box : tuple of slice
            Rows and columns of pixels.

        Returns
        -------
        Localizations
            What lies in these pixels. Its field of view is the box in nm: a grid of this pixel
            size that covers it has the box's pixels, with each localization in the pixel in which
            it lies in the whole image.

        Raises
        ------
        InvalidInputError
            If the box is empty or reaches past the grid, or the pixels are too small to tell
            neighbouring coordinates apart.
        FileFormatError
            If the file is damaged, or is another one by now.

        Notes
        -----
        The box's corner is rounded, so that a localization within a few units in the last place of
        a pixel's edge may seem to lie beyond it. Such coordinates, and no others, are moved by the
        little that brings them back.
        """
        axes = _axes_of(grid, self.field_of_view)
        parts = [axis.part(pixels) for axis, pixels in zip(axes, box, strict=True)]

        def in_box(rows: pa.Table) -> pa.Table:
            wanted = np.ones(len(rows), bool)
            for name, axis, pixels in zip("yx", axes, box, strict=True):
                number = axis.pixels_of(rows[name].to_numpy())
                wanted &= (number >= pixels.start) & (number < pixels.stop)
            return rows.filter(pa.array(wanted))

        rows = pa.concat_tables(map(in_box, self._read_groups(self._groups_of(axes, box))))
        columns = {name: rows[name].to_numpy() for name in rows.column_names}
        for name, axis, part, pixels in zip("yx", axes, parts, box, strict=True):
            number = axis.pixels_of(columns[name]) - pixels.start
            columns[name] = part.move_into(number, columns[name])
        (y_min, y_max, *_), (x_min, x_max, *_) = parts
        field = FieldOfView(y_min, x_min, y_max, x_max)
        return table_from_file(self.path, columns, field, self.metadata)

    def are_occupied(self, grid: PixelGrid, tiles: TileGrid) -> NDArray[np.bool_]:
        """Tell which tiles may read localizations, without reading any.

        Parameters
        ----------
        grid : PixelGrid
            The pixels of the whole image.
        tiles : TileGrid
            The tiles of the image.

        Returns
        -------
        ndarray of bool, shape (n_rows, n_columns)
            False where nothing lies in a tile or its halo. True also where something lies in a cell
            that both reach.
        """
        index = self._index
        before = np.zeros([side + 1 for side in index.counts.shape], np.int64)
        before[1:, 1:] = index.counts.cumsum(axis=0).cumsum(axis=1)
        reads = (
            [tiles.tile(row, 0).read[0] for row in range(tiles.n_rows)],
            [tiles.tile(0, column).read[1] for column in range(tiles.n_columns)],
        )
        axes = _axes_of(grid, self.field_of_view)
        (top, bottom), (left, right) = map(_cells_of, reads, axes, index.cells)
        above, below = before[top], before[bottom]
        counts = below[:, right] - below[:, left] - above[:, right] + above[:, left]
        return counts > 0

    def iter_tables(self) -> Iterator[Localizations]:
        """Read all localizations, a part of them at a time.

        Yields
        ------
        Localizations
            The next rows as they are sorted, with the whole field of view.

        Raises
        ------
        FileFormatError
            If the file is damaged, or is another one by now.
        """
        for rows in self._read_groups(range(len(self._index.first_rows) - 1)):
            columns = {name: rows[name].to_numpy() for name in rows.column_names}
            yield table_from_file(self.path, columns, self.field_of_view, self.metadata)

    def coarse_counts(self, size: float) -> NDArray[np.uint32]:
        """Count the localizations in large pixels, a part of them at a time.

        Parameters
        ----------
        size : float
            Edge of a pixel in nm.

        Returns
        -------
        ndarray of uint32, shape (height, width)
            Localizations in each pixel of ``PixelGrid.covering(field_of_view, size)``.

        Raises
        ------
        FileFormatError
            If the file is damaged, or is another one by now.
        """
        grid = PixelGrid.covering(self.field_of_view, size)
        counts = np.zeros(grid.shape, np.uint32)
        for rows in self._read_groups(range(len(self._index.first_rows) - 1), ["y", "x"]):
            y, x = (rows[name].to_numpy() for name in "yx")
            draw_counts(y, x, grid, self.field_of_view, counts)
        return counts

    def median(self, column: str) -> float | None:
        """Give the median of a column, of evenly chosen rows where there are more than a million.

        Parameters
        ----------
        column : str
            Its name.

        Returns
        -------
        float or None
            The median of the finite values; None if there are none, or no such column.

        Raises
        ------
        FileFormatError
            If the file is damaged, or is another one by now.
        """
        if column not in self.columns or self.n_points == 0:
            return None
        step = -(-self.n_points // _MOST_OF_MEDIAN)
        groups = self._read_groups(range(len(self._index.first_rows) - 1), [column])
        chosen = [rows[column].to_numpy()[::step].astype(np.float64) for rows in groups]
        values = np.concatenate(chosen)
        values = values[np.isfinite(values)]
        return float(np.median(values)) if values.size else None

    def load(self) -> Localizations:
        """Read all localizations at once.

        Returns
        -------
        Localizations
            The table, as it is sorted.

        Raises
        ------
        FileFormatError
            If the file is damaged.
        """
        return read_localizations(self.path)

    @property
    def _index(self) -> "_Index":
        try:
            facts = self.path.stat()
        except OSError as error:
            raise FileFormatError(f"{self.path}: cannot be read: {error.strerror}") from error
        return _index_of(self.path, self.digest, (facts.st_ino, facts.st_size, facts.st_mtime_ns))

    def _groups_of(self, axes: tuple["_Axis", "_Axis"], box: Slices) -> list[int]:
        """List the row groups that hold the cells which a box touches."""
        index = self._index
        ((top,), (bottom,)), ((left,), (right,)) = (
            _cells_of([pixels], axis, cells)
            for pixels, axis, cells in zip(box, axes, index.cells, strict=True)
        )
        first_cells = np.arange(top, bottom) * index.cells[1].n_pixels
        starts = index.cell_starts[first_cells + left]
        stops = index.cell_starts[first_cells + right]
        is_empty = starts == stops
        first = np.searchsorted(index.first_rows, starts[~is_empty], side="right") - 1
        stop = np.searchsorted(index.first_rows, stops[~is_empty])
        groups = {group for pair in zip(first, stop, strict=True) for group in range(*pair)}
        return sorted(groups)

    def _read_groups(
        self, groups: Iterable[int], columns: list[str] | None = None
    ) -> Iterator[pa.Table]:
        """Give the rows of row groups, some groups at a time; one empty table of no groups."""
        wanted = list(groups)
        try:
            # With the footer at hand, opening is quick; threads must not share an open file.
            with pq.ParquetFile(
                self.path,
                metadata=self._index.footer,
                page_checksum_verification=True,
                pre_buffer=False,
            ) as file:
                for start in range(0, max(len(wanted), 1), _GROUPS_AT_A_TIME):
                    some = wanted[start : start + _GROUPS_AT_A_TIME]
                    yield file.read_row_groups(some, columns, use_threads=False)
        except FileFormatError:
            raise
        except READING_ERRORS as error:
            # A disk or a network may do better next time; Arrow's own errors have no number.
            if isinstance(error, MemoryError) or getattr(error, "errno", None):
                raise
            raise FileFormatError(f"{self.path}: the sorted points are damaged: {error}") from error


def sort_by_tiles(
    source: Localizations | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    cell: float = 2560.0,
) -> TiledPoints:
    """Sort localizations by place into a file of which any part can be read.

    Parameters
    ----------
    source : Localizations or path-like
        The table or its file. Parquet is read batch by batch, whoever wrote it and however large
        it is; files of other formats are read at once.
    path : path-like
        The file to write, Parquet. What stands there is replaced.
    cell : float, default=2560.0
        Edge in nm of the square cells by which rows are sorted; twice, four times ... as much if
        there were more than 2^20 of them. Within a cell, rows keep their order.

    Returns
    -------
    TiledPoints
        The file.

    Raises
    ------
    InvalidInputError
        If `cell` is not positive, or a column holds something else than numbers, text or times.
    InvalidTypeError
        If `source` is neither a table nor a path.
    FileFormatError
        If the source cannot be read.
    OutputError
        If the file cannot be written. Nothing is left of it then, nor of the scratch files that lie
        beside it, as large as the table, while it is written.

    Warns
    -----
    UnusedRowsWarning
        If rows are left out, because they have no position or lie outside the field of view.

    Examples
    --------
    >>> import tempfile
    >>> xy = np.array([[1290.0, 5.0], [10.0, 5.0], [1295.0, 6.0]])
    >>> blinks = Localizations(xy, field_of_view=(0, 0, 10, 2000))
    >>> grid = PixelGrid.covering(blinks.field_of_view, pixel_size=10)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     points = sort_by_tiles(blinks, Path(folder, "points.parquet"))
    ...     part = points.read(grid, (slice(0, 1), slice(100, 200)))
    >>> points.n_points, part.x, tuple(part.field_of_view)
    (3, array([1290., 1295.]), (0.0, 1000.0, 10.0, 2000.0))
    """
    check_positive(cell=cell)
    field, metadata, batches = open_source(source)
    grid = _grid_of_cells(field, float(cell))
    target = Path(path).absolute()
    with (
        whole_or_nothing(target, overwrite=True) as partial,
        tempfile.TemporaryDirectory(prefix=f"{partial.name}.", dir=partial.parent) as scratch,
    ):
        runs = SortedRuns(Path(scratch), math.prod(grid.shape))
        maxima = _sort_into(runs, batches, _axes_of(grid, field))
        note = {"version": NOTE_VERSION, "field_of_view": field, "metadata": metadata}
        facts = {"version": _CELLS_VERSION, "cell": grid.pixel_size, "maxima": maxima}
        _write(runs, partial, note, facts)
    return TiledPoints.open(target)


class _Axis(NamedTuple):
    """Pixels along one axis, and the half-open interval in nm whose points lie in them."""

    start: float
    stop: float
    pixel_size: float
    n_pixels: int

    def pixels_of(self, values: Floats) -> NDArray[np.int32]:
        """Give the pixel of each value, -1 for what lies outside."""
        return pixels_along(values, self.start, self.stop, self.pixel_size, self.n_pixels)

    def part(self, pixels: slice) -> "_Axis":
        """Give the axis of some pixels only, which an image of these alone would have."""
        if not 0 <= pixels.start < pixels.stop <= self.n_pixels:
            raise InvalidInputError(
                f"{pixels} is no part of the {self.n_pixels:,} pixels along an axis"
            )
        start, stop = (self.start + edge * self.pixel_size for edge in (pixels.start, pixels.stop))
        if self.pixel_size < _MIN_ULPS_IN_PIXEL * _ulp(self.start, self.stop):
            raise InvalidInputError(
                f"pixels of {self.pixel_size:g} nm are too small for coordinates from "
                f"{self.start:g} to {self.stop:g} nm"
            )
        n_pixels = pixels.stop - pixels.start
        while _count_covering(start, stop, self.pixel_size) > n_pixels:
            stop = math.nextafter(stop, start)
        return _Axis(start, stop, self.pixel_size, n_pixels)

    def move_into(self, number: NDArray[np.int32], values: Floats) -> Floats:
        """Move the values that rounding puts into another pixel than the given one."""
        step = _ulp(self.start, self.stop)
        while len(wrong := np.flatnonzero(self.pixels_of(values) != number)):
            lies_below = (values[wrong] - self.start) / self.pixel_size < number[wrong]
            values = values.copy()
            values[wrong] += np.where(lies_below, step, -step)
            step *= 2
        return values


class _Index(NamedTuple):
    """Where the rows of each cell stand in a file."""

    footer: pq.FileMetaData
    first_rows: NDArray[np.int64]
    """Of each row group, and the number of all rows."""
    cells: tuple[_Axis, _Axis]
    counts: NDArray[np.int64]
    """Rows in each cell, of shape (height, width)."""
    cell_starts: NDArray[np.int64]
    """Of each cell, row by row, and the number of all rows."""


@lru_cache(maxsize=4)
def _index_of(path: Path, digest: str, state: tuple[int, ...]) -> _Index:  # noqa: ARG001
    """Give the index of an opened file; every process reads it once, unless the file changes."""
    points, index = _open(path)
    if points.digest != digest:
        raise FileFormatError(f"{path}: the file was replaced by one with other localizations")
    return index


def _open(path: Path) -> tuple[TiledPoints, _Index]:
    footer, schema = open_parquet(path)
    stated = footer.metadata or {}
    if NOTE_KEY not in stated or _CELLS_KEY not in stated:
        raise FileFormatError(f"{path}: Parquet, but not sorted by sort_by_tiles")
    field, metadata = parse_note(path, stated[NOTE_KEY])
    groups = [footer.row_group(number).num_rows for number in range(footer.num_row_groups)]
    first_rows = np.append(0, np.cumsum(groups, dtype=np.int64))
    try:
        facts = json.loads(stated[_CELLS_KEY])
        grid, counts = _parse_cells(facts, field)
        maxima = {str(name): float(value) for name, value in facts["maxima"].items()}
        cell_starts = np.append(0, np.cumsum(counts))
        if not footer.num_rows == first_rows[-1] == cell_starts[-1] or min(groups, default=1) < 1:
            raise ValueError(f"{cell_starts[-1]:,} rows in cells, {footer.num_rows:,} in the file")
        if not all(map(math.isfinite, maxima.values())):
            raise ValueError(f"maxima {maxima}")
        if any(schema.field(name).type != pa.float64() for name in "yx"):
            raise ValueError("the coordinates are no float64")
        points = TiledPoints(
            path=path,
            field_of_view=field,
            n_points=footer.num_rows,
            columns=tuple(schema.names),
            maxima={**dict.fromkeys(schema.names, -math.inf), **maxima},
            metadata=metadata,
            cell=grid.pixel_size,
            digest=str(facts["digest"]),
        )
    except (*READING_ERRORS, zlib.error, AttributeError, RecursionError) as error:
        raise FileFormatError(f"{path}: the index of the cells is damaged: {error!r}") from error
    return points, _Index(footer, first_rows, _axes_of(grid, field), counts, cell_starts)


def _parse_cells(facts: dict[str, Any], field: FieldOfView) -> tuple[PixelGrid, NDArray[np.int64]]:
    if facts["version"] != _CELLS_VERSION:
        raise ValueError(f"version {facts['version']}; this smlmkit knows {_CELLS_VERSION}")
    grid = PixelGrid.covering(field, facts["cell"])
    n_cells = math.prod(grid.shape)
    if n_cells > _MAX_CELLS:
        raise ValueError(f"{n_cells:,} cells")
    deflated = base64.b64decode(facts["counts"], validate=True)
    counts = np.frombuffer(zlib.decompressobj().decompress(deflated, 8 * n_cells + 1), "<i8")
    if counts.min() < 0 or counts.max() > 2**40:
        raise ValueError(f"cells of {counts.min()} to {counts.max()} rows")
    return grid, counts.reshape(grid.shape)


def _axes_of(grid: PixelGrid, field: FieldOfView) -> tuple[_Axis, _Axis]:
    """Give the axes of a grid; rounding may leave the last float of the field beyond its pixels."""
    box = grid.field_of_view
    if grid == PixelGrid.covering(field, grid.pixel_size):
        box = field
    (height, width), size = grid.shape, grid.pixel_size
    return _Axis(box.y_min, box.y_max, size, height), _Axis(box.x_min, box.x_max, size, width)


def _cells_of(
    pixels: list[slice], axis: _Axis, cells: _Axis
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the first cells that stretches of pixels touch and those after the last ones."""
    # One pixel more on either side makes up for all rounding.
    starts = np.array([stretch.start - 1 for stretch in pixels]) * axis.pixel_size
    stops = np.array([stretch.stop + 1 for stretch in pixels]) * axis.pixel_size
    offset = axis.start - cells.start
    first = np.floor((starts + offset) / cells.pixel_size)
    stop = np.floor((stops + offset) / cells.pixel_size) + 1
    first, stop = (np.clip(edges, 0, cells.n_pixels).astype(np.int64) for edges in (first, stop))
    return first, stop


def _count_covering(start: float, stop: float, pixel_size: float) -> int:
    return PixelGrid.covering(FieldOfView(start, start, stop, stop), pixel_size).shape[0]


def _ulp(*coordinates: float) -> float:
    return math.ulp(max(map(abs, coordinates)))


def _grid_of_cells(field: FieldOfView, cell: float) -> PixelGrid:
    grid = PixelGrid.covering(field, cell)
    while math.prod(grid.shape) > _MAX_CELLS:
        grid = PixelGrid.covering(field, 2 * grid.pixel_size)
    return grid


def _sort_into(
    runs: SortedRuns, batches: Iterator[Columns], cells: tuple[_Axis, _Axis]
) -> dict[str, float]:
    """Sort all rows; give the largest finite value of each column of numbers."""
    maxima: dict[str, float] = {}
    for columns in batches:
        row, column = (
            axis.pixels_of(columns[name]) for name, axis in zip("yx", cells, strict=True)
        )
        runs.add(row * np.int32(cells[1].n_pixels) + column, columns)
        for name, values in columns.items():
            if values.dtype.kind in "iuf" and np.isfinite(values).any():
                largest = float(values[np.isfinite(values)].max())
                maxima[name] = max(maxima.get(name, largest), largest)
    return maxima


def _write(runs: SortedRuns, path: Path, note: dict[str, Any], facts: dict[str, Any]) -> None:
    """Write the sorted rows, with what is known of the table and the cells."""
    fields = [
        field.with_metadata({"unit": "nm"}) if field.name in LENGTHS else field
        for field in runs.schema
    ]
    schema = pa.schema(fields, metadata={NOTE_KEY: json.dumps(note)})
    n_in_group = max(_ROWS_IN_GROUP, -(-int(runs.counts.sum()) // _MAX_GROUPS))
    digest = _Digest(schema, note["field_of_view"])
    with pq.ParquetWriter(
        path,
        schema,
        compression="lz4",
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
    ) as writer:
        for rows in runs.merged(rows_at_a_time(len(fields))):
            digest.update(rows)
            writer.write_table(rows, row_group_size=n_in_group)
        deflated = zlib.compress(runs.counts.astype("<i8").tobytes())
        index = {
            **facts,
            "counts": base64.b64encode(deflated).decode("ascii"),
            "digest": digest.hexdigest(),
        }
        writer.add_key_value_metadata({_CELLS_KEY: json.dumps(index)})


class _Digest:
    """A digest of a table's rows, however many of them come at a time."""

    def __init__(self, schema: pa.Schema, field_of_view: FieldOfView) -> None:
        head = json.dumps([field_of_view, *((field.name, str(field.type)) for field in schema)])
        self._whole = xxhash.xxh3_128(head.encode())
        self._columns = [xxhash.xxh3_128() for _ in schema]

    def update(self, rows: pa.Table) -> None:
        for column, hasher in zip(rows.columns, self._columns, strict=True):
            values = column.to_numpy()
            if values.dtype.kind not in "iufmM":
                text = column.cast(pa.string()).to_numpy()
                values = pd.util.hash_array(text, categorize=False)
            hasher.update(np.ascontiguousarray(values).view(np.uint8).data)

    def hexdigest(self) -> str:
        for hasher in self._columns:
            self._whole.update(hasher.digest())
        return self._whole.hexdigest()
