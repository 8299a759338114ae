"""Text tables whose columns have names of their own: what each of them stands for in a table.

One way for all such formats: a line names columns (`parse_names`), the format says what they mean,
`find_sources` checks that, and `to_table` makes the table's columns of the file's numbers: lengths
in nm, frames from 0, counts whole.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from smlmkit.errors import FileFormatError
from smlmkit.io._common import LENGTHS, any_numbers
from smlmkit.io._text import Column, iter_lines, length_factor, parse_header, read_columns, whole

Meaning = tuple[str, ...]
"""The columns of a table that one of a file stands for; nothing if it is not to be read."""

PHOTON_UNITS = frozenset({"", "photon", "photons", "photon/px", "photons/px"})
"""The units of ``photons`` and ``background``; in any other they are something else."""

_COUNTS = frozenset({"frame", "channel", "detections"})
_LENGTH_UNITS = frozenset({"nm", "um", "px"})
_MOST_LISTED = 20
_ANY_BRACKETS = (("[", "]"), ("(", ")"))


class Names(NamedTuple):
    """The columns that a line names, and the character that parts its cells and the rows'."""

    columns: list[Column]
    delimiter: str


class Source(NamedTuple):
    """A column of a file, the table's columns that it stands for, and the nm in its unit."""

    column: Column
    meaning: Meaning
    factor: float


def read_first_line(path: Path) -> str:
    """Give the first line of a text file; nothing if it is empty."""
    return readable(next(iter_lines(path), ""))


def readable(line: str) -> str:
    """Give a line as it was meant: if it is not in UTF-8, it is in Latin-1."""
    content = line.encode("utf-8", "surrogateescape")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def first_line_of(head: bytes) -> str:
    """Give the first line of what may be a text file, by its beginning."""
    return head.replace(b"\r", b"\n").partition(b"\n")[0].decode("utf-8-sig", "surrogateescape")


def parse_names(
    line: str, delimiters: str, *, brackets: Collection[tuple[str, str]] = _ANY_BRACKETS
) -> Names:
    """Give the columns that a line names, parted by the first of `delimiters` that it holds."""
    delimiter = next((mark for mark in delimiters if mark in line), delimiters[-1])
    return Names(parse_header(line, delimiter, brackets=brackets), delimiter)


def read_named_columns(
    path: Path,
    names: Names,
    meanings: Sequence[Meaning],
    *,
    pixel_size: float | None,
    first_frame: int = 1,
    counts: Collection[str] = (),
    text: Collection[str] = (),
    length_unit: str = "",
    first_line: int = 2,
    stop: int | None = None,
) -> dict[str, NDArray[Any]]:
    """Read the rows below the line that names their columns.

    Parameters
    ----------
    path : Path
        The file.
    names : Names
        What the line says of each column.
    meanings : sequence of Meaning
        What each of them stands for.
    pixel_size : float or None
        Edge of a camera pixel in nm, for lengths in camera pixels.
    first_frame : int, default=1
        The number of the first frame, unless a lower one in the file shows that it counts from 0.
    counts : collection of str, default=()
        The columns of the table that hold whole numbers, besides those that always do.
    text : collection of str, default=()
        The columns of the table that hold text.
    length_unit : str, default=""
        The unit of lengths for which the line states none; by default, they are refused.
    first_line : int, default=2
        The line, counted from 1, where the rows begin.
    stop : int, optional
        The byte of the file before which the rows end.

    Returns
    -------
    dict of str to ndarray of shape (n,)
        The columns of the table. Those without a name in the file are left out.

    Raises
    ------
    FileFormatError
        If x or y is missing, a length has an unknown unit, two columns mean the same, or the rows
        are not what the line says.
    """
    sources = find_sources(
        path, names.columns, meanings, pixel_size=pixel_size, length_unit=length_unit
    )
    cells = read_columns(
        path,
        list(map(str, names.columns)),
        delimiter=names.delimiter,
        first_line=first_line,
        stop=stop,
        text={str(column) for column, meaning, _ in sources if not set(text).isdisjoint(meaning)},
        wanted={str(source.column) for source in sources},
    )
    return to_table(sources, cells, first_frame=first_frame, counts=counts)


def find_sources(
    path: Path,
    columns: Sequence[Column],
    meanings: Sequence[Meaning],
    *,
    pixel_size: float | None,
    length_unit: str = "",
) -> list[Source]:
    """Give the columns of a file that are to be read; parameters as in `read_named_columns`."""
    named = [
        (column, meaning) for column, meaning in zip(columns, meanings, strict=True) if column.name
    ]
    found = {name for _, meaning in named for name in meaning}
    missing = " and ".join(name for name in ("x", "y") if name not in found)
    if missing:
        raise FileFormatError(f"{path}: no column means {missing}: there are {listed(columns)}")
    sources = []
    for column, meaning in named:
        for name in meaning:
            if name not in found:
                raise FileFormatError(f"{path}: '{column}' is the second column that means {name}")
            found.remove(name)
        if meaning:
            factor = _factor(path, column, meaning, pixel_size, length_unit)
            sources.append(Source(column, meaning, factor))
    return sources


def to_table(
    sources: Sequence[Source],
    cells: dict[str, NDArray[Any]],
    *,
    first_frame: int = 1,
    counts: Collection[str] = (),
) -> dict[str, NDArray[Any]]:
    """Make the columns of a table of a file's, of which none is left in `cells`."""
    table: dict[str, NDArray[Any]] = {}
    for column, meaning, factor in sources:
        values = cells.pop(str(column))
        if values.dtype != object:
            with any_numbers():
                values = values if factor == 1 else values * factor
            if "frame" in meaning and values.min(initial=first_frame) >= first_frame:
                values = values - first_frame
            if not {*_COUNTS, *counts}.isdisjoint(meaning):
                values = whole(values)
        table |= dict.fromkeys(meaning, values)
    return table


def divide_widths(table: dict[str, NDArray[Any]], divisor: float) -> dict[str, NDArray[Any]]:
    """Make standard deviations of a PSF's widths, which are multiples of them."""
    widths = {name: table[name] for name in ("sigma_x", "sigma_y") if name in table}
    return table | {name: values / divisor for name, values in widths.items()}


def listed(columns: Sequence[Column]) -> str:
    """Name columns, as far as an error has room."""
    names = [f"'{column}'" for column in columns[:_MOST_LISTED]]
    return ", ".join(names + ["..."] * (len(columns) > _MOST_LISTED)) or "none"


def _factor(
    path: Path, column: Column, meaning: Meaning, pixel_size: float | None, length_unit: str
) -> float:
    """Give the nm (or nm²) in a column's unit; 1 for what is neither, or whose name states it."""
    if not LENGTHS.isdisjoint(meaning):
        return length_factor(path, column._replace(unit=column.unit or length_unit), pixel_size)
    unit = column.unit.removesuffix("^2")
    ends = (f"[{column.unit}]", f"({column.unit})")
    if unit not in _LENGTH_UNITS or any(name.endswith(ends) for name in meaning):
        return 1.0
    factor = length_factor(path, column._replace(unit=unit), pixel_size)
    return factor if unit == column.unit else factor**2
