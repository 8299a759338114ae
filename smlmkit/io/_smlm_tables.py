"""The tables of ``.smlm`` files, packed or in text: from the bytes of a member to its columns."""

import math
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from smlmkit.errors import FileFormatError
from smlmkit.io._smlm_archive import Archive
from smlmkit.io._smlm_manifest import (
    Entry,
    as_list,
    as_mapping,
    as_text,
    as_whole_number,
    as_word,
)
from smlmkit.io._smlm_names import to_column
from smlmkit.io._text import Column, head_lines, parse_header, read_columns, whole

DTYPES = {
    np.dtype(kind).name: np.dtype(kind).newbyteorder("<")
    for kind in ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f4", "f8")
}
_LARGEST_ROW_BYTES = 2**31 - 1
_LONGEST_NAME = 1000
_LAST_HEADER_ROW = 1000
_BYTES_PER_NUMBER = 8  # in memory, where they are float64 most often
_COUNTS = frozenset({"id", "channel", "detections"})


class ReadColumn(NamedTuple):
    """A column of a file; `values` is None where a row holds more than one number."""

    header: str
    column: Column
    values: NDArray[Any] | None


class _Field(NamedTuple):
    """A column of packed rows, of which each holds as many numbers as `n_numbers` says."""

    header: str
    column: Column
    dtype: np.dtype[Any]
    n_numbers: int

    @property
    def n_bytes(self) -> int:
        return self.n_numbers * self.dtype.itemsize


def read_table(archive: Archive, entry: Entry) -> list[ReadColumn]:
    """Read the columns of one table."""
    mode = as_word(entry.format, "mode")
    if mode == "binary":
        return _read_packed(archive, entry)
    if mode == "text":
        return _read_text(archive, entry)
    raise FileFormatError(
        f"{archive.path}: {entry.name!r} is in the mode {entry.format.get('mode')!r:.100}, "
        "expected 'binary' or 'text'"
    )


def _read_packed(archive: Archive, entry: Entry) -> list[ReadColumn]:
    path, member = archive.path, archive.find(entry.name)
    fields = _parse_fields(path, entry)
    rows = as_whole_number(path, f"rows of {entry.name!r}", entry.rows)
    row_bytes = sum(field.n_bytes for field in fields)
    if member.file_size != rows * row_bytes:
        raise FileFormatError(
            f"{path}: {entry.name!r} holds {member.file_size:,} bytes, "
            f"expected {rows:,} rows of {row_bytes:,} bytes"
        )
    archive.claims.add(f"{entry.name!r}", rows * max(row_bytes, _BYTES_PER_NUMBER * len(fields)))
    return _split_records(archive.read(member), fields)


def _parse_fields(path: Path, entry: Entry) -> list[_Field]:
    stated = {
        key: as_list(path, f"{key} of {entry.name!r}", entry.format.get(key))
        for key in ("headers", "dtype", "shape")
    }
    columns = _columns_of(path, entry, stated["headers"])
    n_columns = entry.format.get("columns", len(columns))
    lengths = {key: len(values) for key, values in stated.items()}
    lengths["columns"] = as_whole_number(path, f"columns of {entry.name!r}", n_columns)
    if len(set(lengths.values())) > 1:
        raise FileFormatError(f"{path}: {entry.name!r} has columns of unequal numbers: {lengths}")
    fields = [
        _parse_field(path, entry, header, column, kind, shape)
        for (header, kind, shape), column in zip(
            zip(*stated.values(), strict=True), columns, strict=True
        )
    ]
    if sum(field.n_bytes for field in fields) > _LARGEST_ROW_BYTES:
        raise FileFormatError(f"{path}: a row of {entry.name!r} is larger than 2 GiB")
    return fields


def _parse_field(
    path: Path, entry: Entry, header: str, column: Column, kind: object, shape: object
) -> _Field:
    dtype = DTYPES.get(str(kind).lower())
    if dtype is None:
        raise FileFormatError(
            f"{path}: column {header!r} of {entry.name!r} holds {kind!r:.100}, "
            f"expected one of {', '.join(DTYPES)}"
        )
    what = f"shape of {header!r} in {entry.name!r}"
    sizes = shape if isinstance(shape, list) else [shape]
    n_numbers = math.prod(as_whole_number(path, what, size) for size in sizes)
    return _Field(header, column, dtype, n_numbers)


def _columns_of(path: Path, entry: Entry, headers: Sequence[object]) -> list[Column]:
    """Give the columns that these headers and the format's units stand for."""
    names = [as_text(header) for header in headers]
    if not all(names):
        raise FileFormatError(f"{path}: a column of {entry.name!r} has no name")
    if max(map(len, names), default=0) > _LONGEST_NAME:
        raise FileFormatError(f"{path}: a column of {entry.name!r} has an endless name")
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise FileFormatError(f"{path}: two columns of {entry.name!r} are named {twice!r}")
    units = entry.format.get("units") or [""] * len(names)
    if isinstance(units, dict):
        units = [units.get(name) for name in names]
    if not isinstance(units, list) or len(units) != len(names):
        raise FileFormatError(
            f"{path}: {entry.name!r} has {len(names)} columns and the units {units!r:.200}"
        )
    return [to_column(name, as_text(unit)) for name, unit in zip(names, units, strict=True)]


def _split_records(content: bytes, fields: Sequence[_Field]) -> list[ReadColumn]:
    starts = np.cumsum([0, *(field.n_bytes for field in fields)]).tolist()
    plain = [
        (str(i), field.dtype, start)
        for i, (field, start) in enumerate(zip(fields, starts, strict=False))
        if field.n_numbers == 1
    ]
    if not plain:
        return [ReadColumn(field.header, field.column, None) for field in fields]
    names, formats, offsets = zip(*plain, strict=True)
    records = np.frombuffer(
        content,
        np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": starts[-1]}),
    )
    return [
        ReadColumn(
            field.header,
            field.column,
            records[str(i)].astype(field.dtype.newbyteorder("=")) if field.n_numbers == 1 else None,
        )
        for i, field in enumerate(fields)
    ]


def _read_text(archive: Archive, entry: Entry) -> list[ReadColumn]:
    path, member = archive.path, archive.find(entry.name)
    delimiter, comments = entry.format.get("delimiter"), as_text(entry.format.get("comments"))
    if not isinstance(delimiter, str) or not re.fullmatch(r"[\t -~]", delimiter):
        raise FileFormatError(f"{path}: {entry.name!r} has the delimiter {delimiter!r:.100}")
    what = f"header_row of {entry.name!r}"
    header_row = as_whole_number(path, what, entry.format.get("header_row", 0), low=-1)
    if header_row > _LAST_HEADER_ROW:
        raise FileFormatError(
            f"{path}: {what} is {header_row}, expected {_LAST_HEADER_ROW} at most"
        )
    archive.claims.add(f"{entry.name!r}", member.file_size)
    content = archive.read(member)
    n_cells = 1 + sum(content.count(end) for end in {delimiter.encode(), b"\t", b"\n", b"\r"})
    archive.claims.add(f"{entry.name!r}", _BYTES_PER_NUMBER * n_cells)
    with _as_file(archive, entry, content) as copy:
        top = head_lines(copy, _LAST_HEADER_ROW + 1)
        columns = _columns_in_text(path, entry, top, header_row, delimiter, comments)
        if comments:
            copy.write_bytes(_blank_comments(content, comments))
        names = [column.name for column in columns]
        cells = read_columns(copy, names, delimiter=delimiter, first_line=header_row + 2)
    n_rows = len(next(iter(cells.values()), []))
    if entry.rows is not None and n_rows != as_whole_number(path, "rows", entry.rows):
        raise FileFormatError(f"{path}: {entry.name!r} has {n_rows:,} rows, not {entry.rows!r:.20}")
    return [
        ReadColumn(name, column, whole(cells[name]) if name in _COUNTS else cells[name])
        for name, column in zip(names, columns, strict=True)
    ]


@contextmanager
def _as_file(archive: Archive, entry: Entry, content: bytes) -> Iterator[Path]:
    """Write a member where the readers of text find it; what they find wrong is wrong there."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "rows")
        copy.write_bytes(content)
        try:
            yield copy
        except FileFormatError as error:
            if not (problem := str(error)).startswith(f"{copy}: "):
                raise
            reason = problem.removeprefix(f"{copy}: ")
            raise FileFormatError(f"{archive.path}: {entry.name!r}: {reason}") from None


def _columns_in_text(
    path: Path, entry: Entry, top: list[str], header_row: int, delimiter: str, comments: str
) -> list[Column]:
    """Give the columns of a table of text, as its header and the manifest name them."""
    transform = as_mapping(path, "header_transform", entry.format.get("header_transform"))
    if "*all*" in transform:
        raise FileFormatError(
            f"{path}: a regular expression finds the names of the columns: not followed; "
            "unzip the file and read it in its own format"
        )
    names = {str(parse_header(key, "\0")[0]): as_text(name) for key, name in transform.items()}
    if header_row >= len(top):
        raise FileFormatError(
            f"{path}: {entry.name!r}: there is no line {header_row + 1}, which names the columns"
        )
    if header_row >= 0:
        header = top[header_row].removeprefix(comments).strip("\r\n ")
        found = parse_header(header, delimiter)
    else:
        rows = (
            line for line in top if line.strip() and not (comments and line.startswith(comments))
        )
        cells = parse_header(next(rows, ""), delimiter)
        found = [Column(str(position), "") for position in range(len(cells))]
    renamed = [Column(names.get(str(column)) or column.name, column.unit) for column in found]
    stated = _columns_of(path, entry, [column.name for column in renamed])
    return [
        Column(column.name, column.unit or own.unit)
        for column, own in zip(stated, renamed, strict=True)
    ]


def _blank_comments(content: bytes, comments: str) -> bytes:
    """Empty the lines that are comments; the others keep their numbers."""
    return re.sub(rb"(?m)^[ \t]*" + re.escape(comments.encode()) + rb"[^\r\n]*", b"", content)
