"""Rows of any number sorted by cell: in memory, or as sorted runs on disk that are then merged."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from smlmkit._kernels.sorting import move_to, places_by_key
from smlmkit.errors import InvalidInputError
from smlmkit.io.parquet import to_arrow

# Rows that take more memory than this go to the disk.
_MOST_BYTES_HELD = 2**27
# A run is read in pieces, of which those at both ends of a range of cells are read in vain.
_ROWS_IN_PIECE = 2**11

_CELL = pa.field("cell", pa.int32())


class _Run(NamedTuple):
    """A file of rows sorted by cell, in pieces that can be read alone."""

    file: Path
    schema: pa.Schema
    first_cells: NDArray[np.int32]
    """Of each piece."""
    offsets: NDArray[np.int64]
    """Of each piece in the file, and the file's size."""


class SortedRuns:
    """Rows that come in any order, and are read as one table sorted by cell.

    As many as fit into some memory are sorted there; more than that go to files, each of them
    sorted, which are merged when they are read.

    Parameters
    ----------
    folder : Path
        An empty folder for the files.
    n_cells : int
        How many cells there are.

    Attributes
    ----------
    counts : ndarray of int64, shape (n_cells,)
        The rows in each cell so far.
    """

    def __init__(self, folder: Path, n_cells: int) -> None:
        self.counts: NDArray[np.int64] = np.zeros(n_cells, np.int64)
        self._folder = folder
        self._held: list[pa.Table] = []
        self._runs: list[_Run] = []
        self._schema = pa.schema([])

    def add(self, cells: NDArray[np.int32], columns: Mapping[str, NDArray[Any]]) -> None:
        """Take some rows.

        Parameters
        ----------
        cells : ndarray of int32, shape (n,)
            The cell of each row.
        columns : mapping of ndarray of shape (n,)
            The rows; every time the same columns.

        Raises
        ------
        InvalidInputError
            If a column holds something else than numbers, text or times, or several of these.
        """
        rows = pa.table({name: _as_arrow(name, values) for name, values in columns.items()})
        try:
            # Whole numbers become floats if any of them is missing.
            self._schema = pa.unify_schemas(
                [self._schema, rows.schema], promote_options="permissive"
            )
        except pa.ArrowException as error:
            raise InvalidInputError(f"a column holds values of several kinds: {error}") from error
        if len(cells) == 0:
            return
        self.counts += np.bincount(cells, minlength=len(self.counts))
        self._held.append(rows.add_column(0, _CELL, pa.array(cells)))
        if sum(rows.nbytes for rows in self._held) > _MOST_BYTES_HELD:
            self._write_run()

    @property
    def schema(self) -> pa.Schema:
        """The columns that hold the rows of all runs."""
        return pa.schema(
            field.with_type(pa.string()) if pa.types.is_null(field.type) else field
            for field in self._schema
        )

    def merged(self, rows_at_a_time: int) -> Iterator[pa.Table]:
        """Give all rows in the order of cells; within a cell in the order in which they came.

        Parameters
        ----------
        rows_at_a_time : int
            About how many rows to hold in memory.

        Yields
        ------
        Table
            The next rows.
        """
        if self._runs:
            self._write_run()
            yield from self._merge(rows_at_a_time)
        elif self._held:
            rows = self._sort_held().remove_column(0)
            yield from (
                rows.slice(start, rows_at_a_time) for start in range(0, len(rows), rows_at_a_time)
            )

    def _sort_held(self) -> pa.Table:
        """Sort the rows that are held, and hold them no longer."""
        schema = self.schema.insert(0, _CELL)
        held = pa.concat_tables([rows.cast(schema, safe=False) for rows in self._held])
        self._held.clear()
        return _sorted_by_cell(held, 0, len(self.counts))

    def _write_run(self) -> None:
        """Put the rows that are held into a sorted file of their own."""
        if not self._held:
            return
        rows = self._sort_held()
        file = self._folder / f"{len(self._runs)}.arrows"
        with file.open("wb") as sink:
            pieces = rows.to_batches(max_chunksize=_ROWS_IN_PIECE)
            sizes = [sink.write(piece.serialize()) for piece in pieces]
        offsets = np.append(0, np.cumsum(sizes, dtype=np.int64))
        first_cells = rows[0].to_numpy()[::_ROWS_IN_PIECE].copy()
        self._runs.append(_Run(file, rows.schema, first_cells, offsets))

    def _merge(self, rows_at_a_time: int) -> Iterator[pa.Table]:
        starts = np.append(0, np.cumsum(self.counts))
        first, n_cells = 0, len(self.counts)
        while first < n_cells:
            within = np.searchsorted(starts, starts[first] + rows_at_a_time, side="right")
            stop = max(int(within) - 1, first + 1)
            parts = filter(len, (self._part(run, first, stop) for run in self._runs))
            if stop == first + 1:  # perhaps a very full cell, and in order as it is
                yield from (part.remove_column(0) for part in parts)
            elif starts[first] < starts[stop]:
                yield _sorted_by_cell(pa.concat_tables(parts), first, stop).remove_column(0)
            first = stop

    def _part(self, run: _Run, first: int, stop: int) -> pa.Table:
        """Give a run's rows of a range of cells, with the cells as the first column."""
        first_piece = max(int(np.searchsorted(run.first_cells, first)) - 1, 0)
        stop_piece = int(np.searchsorted(run.first_cells, stop))
        offsets = run.offsets[first_piece : stop_piece + 1].tolist()
        with run.file.open("rb") as source:
            source.seek(offsets[0])
            content = pa.py_buffer(source.read(offsets[-1] - offsets[0]))
        pieces = [
            pa.ipc.read_record_batch(content.slice(offset - offsets[0]), run.schema)
            for offset in offsets[:-1]
        ]
        rows = pa.Table.from_batches(pieces, run.schema)
        start, end = np.searchsorted(rows.column(0).to_numpy(), [first, stop])
        schema = self.schema.insert(0, _CELL)
        return rows.slice(start, end - start).cast(schema, safe=False)


def _sorted_by_cell(rows: pa.Table, first_cell: int, stop_cell: int) -> pa.Table:
    """Sort rows by their first column, the cells, and keep the order within each cell."""
    cells = rows[0].to_numpy()
    places = places_by_key(cells - np.int32(first_cell), stop_cell - first_cell)
    are_plain = [_is_plain(column) for column in rows.columns]
    order = None if all(are_plain) else pa.array(np.argsort(places))
    columns = [
        _moved(column, places) if is_plain else column.combine_chunks().take(order)
        for column, is_plain in zip(rows.columns, are_plain, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=rows.schema)


def _is_plain(column: pa.ChunkedArray) -> bool:
    """Tell whether a column holds nothing but numbers that kernels know."""
    kind = column.type
    is_number: bool = (
        pa.types.is_integer(kind) or pa.types.is_float32(kind) or pa.types.is_float64(kind)
    )
    return is_number and column.null_count == 0


def _moved(column: pa.ChunkedArray, places: NDArray[np.int64]) -> pa.Array:
    """Move every row of a column of numbers to its place."""
    moved = np.empty(len(column), column.type.to_pandas_dtype())
    start = 0
    for chunk in column.chunks:
        move_to(places[start : start + len(chunk)], chunk.to_numpy(), moved)
        start += len(chunk)
    return pa.array(moved)


def _as_arrow(name: str, values: NDArray[Any]) -> pa.Array:
    if values.dtype == object and pd.isna(values).all():
        return pa.nulls(len(values))
    return to_arrow(name, values)
