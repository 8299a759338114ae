"""Any other table in a text file: columns parted by commas, semicolons, tabs or blanks.

A line above the rows names the columns, and the units of lengths in brackets, as in
``x [nm];y [nm];frame``; it may be a comment, and comments may stand above it. What such a file does
not say is taken to be as in smlmkit: positions refer to the outer corner of the first camera pixel,
and frames are counted from 0.
"""

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from smlmkit.errors import FileFormatError, InvalidInputError, InvalidTypeError
from smlmkit.grid import FieldOfView
from smlmkit.io._common import LENGTHS, table_from_file
from smlmkit.io._text import (
    Column,
    as_number,
    iter_lines,
    length_factor,
    parse_header,
    read_columns,
    whole,
)
from smlmkit.localizations import Localizations

_COUNTS = frozenset({"frame", "channel", "detections"})
_PHOTONS = frozenset({"photons", "background"})
_KNOWN = LENGTHS | _COUNTS | _PHOTONS
_UNITS_OF_PHOTONS = frozenset({"", "photon", "photons", "photon/px", "photons/px"})
_COMMENT = re.compile(r"\s*(#|%|//)+\s*")
_BRACKETS = re.compile(r"[\[(][^\])]*[\])]")


class _Layout(NamedTuple):
    """How the text is cut into cells, and the first of its rows."""

    header: list[Column]
    delimiter: str
    first_line: int
    first_row: list[str]


class _Source(NamedTuple):
    """A column of the file: what errors and the reader call it, and what is known of it."""

    label: str
    column: Column


def recognizes(path: Path, head: bytes) -> bool:
    """Tell that no file is known by itself to be meant for this reader.

    Parameters
    ----------
    path : Path
        The file.
    head : bytes
        Its beginning.

    Returns
    -------
    bool
        False.

    Examples
    --------
    >>> recognizes(Path("blinks.txt"), b"x [nm];y [nm]")
    False
    """
    del path, head
    return False


def read(
    path: Path,
    *,
    pixel_size: float | None = None,
    field_of_view: FieldOfView | None = None,
    columns: Mapping[str, str] | None = None,
) -> Localizations:
    r"""Read a table in a text file whose columns have names.

    Without `columns`, what the file calls ``x``, ``y``, ``z``, ``frame``, ``photons``,
    ``background``, ``sigma_x/y``, ``uncertainty_x/y/z``, ``channel`` and ``detections``, in any
    case, is taken for that. Other columns keep their names, with the unit, and what they
    hold: numbers, or text where their first cell is none.

    Parameters
    ----------
    path : Path
        The file.
    pixel_size : float, optional
        Edge of a camera pixel in nm, for columns in px.
    field_of_view : FieldOfView, optional
        The box in nm that was imaged; without it, the smallest box of whole nm around the rows.
    columns : mapping of str to str, optional
        Which columns to read: the name in the table, and the name in the file with the unit in
        brackets if the file does not state it, as in ``{"x": "PosX [um]"}``. One column of the file
        may stand for several of the table.

    Returns
    -------
    Localizations
        The table.

    Raises
    ------
    FileFormatError
        If no line names columns, if a column or the unit of a length is missing, if a row has
        another number of cells than the header, or a cell is no number: the message names line
        and column.
    InvalidInputError
        If `columns` states another unit than the file.
    InvalidTypeError
        If `columns` is no mapping of names.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "blinks.txt")
    ...     _ = file.write_text("# made by hand\nPosX;PosY;t\n0.5;2;7\n")
    ...     blinks = read(file, columns={"x": "PosX [um]", "y": "PosY [um]", "frame": "t"})
    >>> {name: blinks[name].tolist() for name in blinks}
    {'x': [500.0], 'y': [2000.0], 'frame': [7]}
    """
    if columns is not None:
        _check_names(columns)
    layout = _find_layout(path)
    sources = _own_sources(path, layout) if columns is None else _chosen(path, layout, columns)
    _check_positions(path, layout, sources)
    factors = {
        name: length_factor(path, source.column, pixel_size) if name in LENGTHS else 1.0
        for name, source in sources.items()
    }
    cells = read_columns(
        path,
        list(map(str, layout.header)),
        delimiter=layout.delimiter,
        first_line=layout.first_line,
        text=_text_columns(layout, sources),
        wanted={source.label for source in sources.values()},
    )
    table = {}
    for name, source in sources.items():
        values = cells[source.label]
        if factors[name] != 1:
            values = values * factors[name]
        table[name] = whole(values) if name in _COUNTS else values
    metadata: dict[str, Any] = {"source": path.name, "format": "csv"}
    if pixel_size is not None:
        metadata["camera_pixel_size"] = pixel_size
    return table_from_file(path, table, field_of_view, metadata)


def _check_names(columns: Any) -> None:
    try:
        names = [*columns.keys(), *columns.values()]
    except AttributeError:
        names = [None]
    if not all(isinstance(name, str) for name in names):
        raise InvalidTypeError(
            "columns must map names in the table to names in the file, as in "
            f"{{'x': 'PosX [um]'}}, got {columns!r}"
        )


def _find_layout(path: Path) -> _Layout:
    """Find the header: the first line, or the last comment above if that is a row already."""
    lines = ((number, line) for number, line in enumerate(iter_lines(path), 1) if line.strip())
    header, number = "", 0
    for number, line in lines:
        mark = _COMMENT.match(line)
        if mark is None and _is_row(line):
            return _layout(path, header, number, line)
        header = line[mark.end() :] if mark else line
        if mark is None:
            break
    return _layout(path, header, number + 1, next((line for _, line in lines), ""))


def _layout(path: Path, header: str, first_line: int, first_row: str) -> _Layout:
    if not header.strip():
        raise FileFormatError(f"{path}: no line names columns, as in 'x [nm];y [nm]'")
    delimiter = _delimiter(header)
    cells = _split(first_row, delimiter)
    return _Layout(parse_header(header, delimiter), delimiter, first_line, cells)


def _is_row(line: str) -> bool:
    return any(cell and as_number(cell) is not None for cell in _split(line, _delimiter(line)))


def _delimiter(line: str) -> str:
    bare = _BRACKETS.sub("", line)
    return next((mark for mark in "\t;," if mark in bare), " ")


def _split(line: str, delimiter: str) -> list[str]:
    return line.split() if delimiter == " " else next(csv.reader([line], delimiter=delimiter))


def _own_sources(path: Path, layout: _Layout) -> dict[str, _Source]:
    """Take every column that has a name, under the name that it has in a table."""
    sources: dict[str, _Source] = {}
    for column in layout.header:
        name = _name_in_table(column)
        if name in sources:
            raise FileFormatError(
                f"{path}: '{column}' is the second column that means {name}: "
                f"choose, as in columns={{{name!r}: {str(column)!r}}}"
            )
        if column.name:
            sources[name] = _Source(str(column), column)
    return sources


def _name_in_table(column: Column) -> str:
    name = column.name.casefold()
    is_known = name in _KNOWN and (name not in _PHOTONS or column.unit in _UNITS_OF_PHOTONS)
    return name if is_known else str(column)


def _chosen(path: Path, layout: _Layout, columns: Mapping[str, str]) -> dict[str, _Source]:
    """Take the columns that the user names."""
    return {name: _find(path, layout.header, asked) for name, asked in columns.items()}


def _find(path: Path, header: list[Column], asked: str) -> _Source:
    (wanted,) = parse_header(asked, "\n")
    found = {str(column): column for column in header if column.name == wanted.name}
    if str(wanted) in found:
        return _Source(str(wanted), wanted)
    if len(found) != 1:
        problem = (
            f"more than one column is named {wanted.name!r}" if found else f"no column {asked!r}"
        )
        raise FileFormatError(f"{path}: {problem}: there are {_listing(header)}")
    ((label, column),) = found.items()
    if column.unit and wanted.unit and column.unit != wanted.unit:
        raise InvalidInputError(f"columns name {asked!r}, but {path} says '{label}'")
    return _Source(label, Column(column.name, column.unit or wanted.unit))


def _check_positions(path: Path, layout: _Layout, sources: Mapping[str, _Source]) -> None:
    missing = [name for name in ("x", "y") if name not in sources]
    if missing:
        example = ", ".join(f"{name!r}: 'Pos{name.upper()} [nm]'" for name in missing)
        raise FileFormatError(
            f"{path}: no column {' and '.join(missing)}; there are {_listing(layout.header)}: "
            f"name what stands for it, as in columns={{{example}}}"
        )


def _listing(header: list[Column]) -> str:
    return ", ".join(f"'{column}'" for column in header)


def _text_columns(layout: _Layout, sources: Mapping[str, _Source]) -> set[str]:
    """Tell which columns hold text, by the first row; what has a meaning holds numbers."""
    numbers = {source.label for name, source in sources.items() if name in _KNOWN}
    labels = map(str, layout.header)
    return {
        label
        for label, cell in zip(labels, layout.first_row, strict=False)
        if label not in numbers and as_number(cell.replace(",", ".")) is None
    }
