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
from typing import Any, BinaryIO, NamedTuple

from smlmkit.errors import FileFormatError, InvalidInputError, InvalidTypeError
from smlmkit.grid import FieldOfView
from smlmkit.io._common import LENGTHS, known_metadata, table_from_file
from smlmkit.io._named_columns import (
    PHOTON_UNITS,
    Meaning,
    Names,
    listed,
    parse_names,
    read_named_columns,
    readable,
)
from smlmkit.io._text import Column, as_number, iter_lines, parse_header
from smlmkit.localizations import Localizations

_PHOTONS = frozenset({"photons", "background"})
_KNOWN = LENGTHS | _PHOTONS | {"frame", "channel", "detections"}
_COMMENT = re.compile(r"\s*(#|%|//)+\s*")
_BRACKETS = re.compile(r"[\[(][^\])]*[\])]")


class _Layout(NamedTuple):
    """The columns, and where and how the rows begin."""

    names: Names
    first_line: int
    first_row: list[str]


def recognizes(file: BinaryIO, head: bytes) -> bool:
    """Tell that no file is known by itself to be meant for this reader.

    Parameters
    ----------
    file : BinaryIO
        The file, open to be read.
    head : bytes
        How it begins.

    Returns
    -------
    bool
        False.

    Examples
    --------
    >>> import io
    >>> header = b"x [nm];y [nm]"
    >>> recognizes(io.BytesIO(header), header)
    False
    """
    del file, head
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
    names, first_line, first_row = _find_layout(path)
    if columns is None:
        meanings = _own_meanings(path, names.columns)
    else:
        names, meanings = _chosen(path, names, columns)
    _check_positions(path, names.columns, meanings)
    table = read_named_columns(
        path,
        names,
        meanings,
        pixel_size=pixel_size,
        first_frame=0,
        text=_text_columns(meanings, first_row),
        first_line=first_line,
    )
    return table_from_file(path, table, field_of_view, known_metadata(path, "csv", pixel_size))


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
    names = parse_names(readable(header), _delimiter(header))
    return _Layout(names, first_line, _split(first_row, names.delimiter))


def _is_row(line: str) -> bool:
    return any(cell and as_number(cell) is not None for cell in _split(line, _delimiter(line)))


def _delimiter(line: str) -> str:
    bare = _BRACKETS.sub("", line)
    return next((mark for mark in "\t;," if mark in bare), " ")


def _split(line: str, delimiter: str) -> list[str]:
    return line.split() if delimiter == " " else next(csv.reader([line], delimiter=delimiter))


def _own_meanings(path: Path, columns: list[Column]) -> list[Meaning]:
    """Take every column, under the name that it has in a table."""
    meanings: list[Meaning] = []
    found: set[str] = set()
    for column in columns:
        name = _name_in_table(column)
        if name in found:
            raise FileFormatError(
                f"{path}: '{column}' is the second column that means {name}: "
                f"choose, as in columns={{{name!r}: {str(column)!r}}}"
            )
        if column.name:
            found.add(name)
        meanings.append((name,))
    return meanings


def _name_in_table(column: Column) -> str:
    name = column.name.casefold()
    is_known = name in _KNOWN and (name not in _PHOTONS or column.unit in PHOTON_UNITS)
    return name if is_known else str(column)


def _chosen(path: Path, names: Names, asked: Mapping[str, str]) -> tuple[Names, list[Meaning]]:
    """Take the columns that the user names, with the units that the file leaves out."""
    columns = list(names.columns)
    meanings: list[Meaning] = [()] * len(columns)
    for name, label in asked.items():
        (wanted,) = parse_header(label, "\n")
        place = _find(path, columns, wanted, label)
        stated = columns[place]
        if stated.unit and wanted.unit and stated.unit != wanted.unit:
            raise InvalidInputError(f"columns name {label!r}, but {path} says '{stated}'")
        columns[place] = Column(stated.name, stated.unit or wanted.unit)
        meanings[place] += (name,)
    return Names(columns, names.delimiter), meanings


def _find(path: Path, columns: list[Column], wanted: Column, label: str) -> int:
    """Find the column of this name and unit, or else the only one of this name."""
    same = [i for i, column in enumerate(columns) if column == wanted]
    alike = [i for i, column in enumerate(columns) if column.name == wanted.name]
    found = same or alike
    if len(found) == 1:
        return found[0]
    problem = f"more than one column is named {wanted.name!r}" if found else f"no column {label!r}"
    raise FileFormatError(f"{path}: {problem}: there are {listed(columns)}")


def _check_positions(path: Path, columns: list[Column], meanings: list[Meaning]) -> None:
    missing = [name for name in ("x", "y") if all(name not in meaning for meaning in meanings)]
    if missing:
        example = ", ".join(f"{name!r}: 'Pos{name.upper()} [nm]'" for name in missing)
        raise FileFormatError(
            f"{path}: no column {' and '.join(missing)}; there are {listed(columns)}: "
            f"name what stands for it, as in columns={{{example}}}"
        )


def _text_columns(meanings: list[Meaning], first_row: list[str]) -> set[str]:
    """Tell which columns hold text, by the first row; what is known holds numbers."""
    return {
        name
        for meaning, cell in zip(meanings, first_row, strict=False)
        for name in meaning
        if _KNOWN.isdisjoint(meaning) and as_number(cell.replace(",", ".")) is None
    }
