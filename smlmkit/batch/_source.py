"""The valid rows of a table or a file, a batch at a time."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from smlmkit._columns import as_frames, check_columns
from smlmkit._rows import bounding_field, inside
from smlmkit.errors import FileFormatError, InvalidInputError, InvalidTypeError, UnusedRowsWarning
from smlmkit.grid import FieldOfView
from smlmkit.io.parquet import NOTE_KEY, check_size, check_types, parse_note
from smlmkit.io.tables import read_localizations
from smlmkit.localizations import Localizations

Columns = dict[str, NDArray[Any]]

READING_ERRORS = (OSError, ValueError, TypeError, KeyError, MemoryError, pa.ArrowException)

# A batch is sorted beside its copy and the order of its rows.
_BATCH_BYTES = 2**24
_BUFFER_BYTES = 2**20


def open_source(
    source: Localizations | str | os.PathLike[str],
) -> tuple[FieldOfView, dict[str, Any], Iterator[Columns]]:
    """Open a table, or a file of one that may be larger than the memory.

    Parameters
    ----------
    source : Localizations or path-like
        The table or its file. Only Parquet is read batch by batch.

    Returns
    -------
    field_of_view : FieldOfView
        The box in nm that was imaged.
    metadata : dict
        What else is known of the acquisition.
    batches : iterator of dict of ndarray
        The columns of the next valid rows, of the kinds that a table has; perhaps of no rows, but
        at least once. A column of whole numbers is one of floats in batches where some are missing.

    Raises
    ------
    InvalidTypeError
        If it is neither a table nor a path.
    FileFormatError
        If the file cannot be read; also from the iterator.

    Warns
    -----
    UnusedRowsWarning
        If rows are left out; at the iterator's end.
    """
    if not isinstance(source, Localizations | str | os.PathLike):
        raise InvalidTypeError(
            f"expected Localizations or the path of a file, got {type(source).__name__}"
        )
    if not isinstance(source, Localizations):
        file = Path(source)
        if _is_parquet(file):
            return _open_parquet(file)
        source = read_localizations(file)
    return source.field_of_view, source.metadata, _batches_of(source)


def open_parquet(path: Path) -> tuple[pq.FileMetaData, pa.Schema]:
    """Read the footer of a Parquet file that can be a table.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    footer : FileMetaData
        What it says of the row groups, with the file's metadata.
    schema : Schema
        The columns.

    Raises
    ------
    FileFormatError
        If the file is damaged, claims more rows than it can hold, or has a column twice or of
        another kind than numbers, text and times.
    """
    try:
        with pq.ParquetFile(path) as file:
            footer, schema = file.metadata, file.schema_arrow
        check_size(path, footer, path.stat().st_size)
    except FileFormatError:
        raise
    except READING_ERRORS as error:
        raise FileFormatError(f"{path}: the Parquet file is damaged: {error}") from error
    check_types(path, schema)
    if len(set(schema.names)) < len(schema.names):
        raise FileFormatError(f"{path}: a column stands more than once: {', '.join(schema.names)}")
    return footer, schema


def rows_at_a_time(n_columns: int) -> int:
    """Tell how many rows to work on at a time.

    Parameters
    ----------
    n_columns : int
        The number of columns.

    Returns
    -------
    int
        So many that the batches of any table are about equally large in memory.
    """
    return max(_BATCH_BYTES // (8 * n_columns), 1)


def _batches_of(table: Localizations) -> Iterator[Columns]:
    n_rows = rows_at_a_time(len(table.columns))
    for start in range(0, max(len(table), 1), n_rows):
        yield {name: table[name][start : start + n_rows] for name in table}


def _is_parquet(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PAR1"
    except OSError:
        return False  # which the reader of all formats explains


def _open_parquet(path: Path) -> tuple[FieldOfView, dict[str, Any], Iterator[Columns]]:
    footer, _ = open_parquet(path)
    stated = (footer.metadata or {}).get(NOTE_KEY)
    if stated is not None:
        field, metadata = parse_note(path, stated)
    else:
        field, metadata = _bounding_field(path), {"source": path.name, "format": "parquet"}
    return field, metadata, _valid_batches(path, field, metadata.get("source"))


def _bounding_field(path: Path) -> FieldOfView:
    """Give the smallest box of whole nm around the rows of a file."""
    corners = []
    for raw in _raw_batches(path, ["x", "y"]):
        with _naming(path):
            columns = check_columns(raw)
        x, y = columns["x"], columns["y"]
        finite = np.isfinite(x) & np.isfinite(y)
        if finite.any():
            x, y = x[finite], y[finite]
            corners += [(x.min(), y.min()), (x.max(), y.max())]
    x, y = np.array(corners, np.float64).reshape(-1, 2).T
    with _naming(path):
        return bounding_field(x, y)


def _valid_batches(path: Path, field: FieldOfView, name: str | None) -> Iterator[Columns]:
    """Give the rows that can be used, as a table would hold them; warn of the others in the end."""
    n_rows = n_unusable = 0
    for raw in _raw_batches(path):
        with _naming(path):
            columns = check_columns(raw)
        usable = inside(columns["x"], columns["y"], field)
        n_rows += len(usable)
        n_unusable += len(usable) - int(usable.sum())
        if not usable.all():
            columns = {name: values[usable] for name, values in columns.items()}
        if "frame" in columns:
            with _naming(path):
                columns["frame"] = as_frames(columns["frame"])
        yield columns
    if n_unusable:
        warnings.warn(
            f"{f'{name}: ' if name else ''}{n_unusable:,} of {n_rows:,} rows cannot be used: x or "
            f"y not finite, or outside the field of view {tuple(field)}",
            UnusedRowsWarning,
            stacklevel=4,
        )


def _raw_batches(path: Path, wanted: list[str] | None = None) -> Iterator[Columns]:
    try:
        # Otherwise whole row groups, perhaps all rows, would be held.
        buffered: dict[str, Any] = {"pre_buffer": False, "buffer_size": _BUFFER_BYTES}
        with pq.ParquetFile(path, page_checksum_verification=True, **buffered) as file:
            n_rows = rows_at_a_time(file.metadata.num_columns)
            if file.metadata.num_rows > 0:
                batches = file.iter_batches(n_rows, columns=wanted, use_threads=False)
            else:
                batches = [file.read(wanted)]
            for batch in batches:
                yield {
                    name: batch[name].to_numpy(zero_copy_only=False) for name in batch.schema.names
                }
    except READING_ERRORS as error:
        raise FileFormatError(f"{path}: the Parquet file is damaged: {error}") from error


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the file whose rows are refused."""
    try:
        yield
    except (InvalidInputError, InvalidTypeError) as error:
        raise FileFormatError(f"{path}: {error}") from error
