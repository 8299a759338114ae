"""Text tables whose columns have names of their own: what each of them stands for in a table."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from smlmkit.errors import FileFormatError
from smlmkit.io._common import LENGTHS
from smlmkit.io._text import Column, length_factor, read_columns, whole

Meaning = tuple[str, ...]
"""The columns of a table that one of a file stands for; nothing if it is not to be read."""


def read_named_columns(
    path: Path,
    header: Sequence[Column],
    meanings: Sequence[Meaning],
    *,
    delimiter: str,
    counts: Collection[str],
    pixel_size: float | None,
    text: Collection[str] = (),
    stop: int | None = None,
) -> dict[str, NDArray[Any]]:
    """Read the rows below a header of one line.

    Parameters
    ----------
    path : Path
        The file.
    header : sequence of Column
        What its first line says of each column.
    meanings : sequence of Meaning
        What each of them stands for. Those that are lengths become nm.
    delimiter : str
        What parts the cells.
    counts : collection of str
        The columns of the table that hold whole numbers.
    pixel_size : float or None
        Edge of a camera pixel in nm, for lengths in camera pixels.
    text : collection of str, default=()
        The columns of the table that hold text.
    stop : int, optional
        The byte of the file before which the rows end.

    Returns
    -------
    dict of str to ndarray of shape (n,)
        The columns of the table.

    Raises
    ------
    FileFormatError
        If a column has no name or an unknown unit, two of them mean the same, or the rows are not
        what the header says.
    """
    columns: dict[str, Column] = {}
    for position, (column, meaning) in enumerate(zip(header, meanings, strict=True), start=1):
        if not column.name:
            raise FileFormatError(f"{path}: column {position} has no name")
        for name in meaning:
            if name in columns:
                raise FileFormatError(f"{path}: '{column}' is the second column that means {name}")
            columns[name] = column
    factors = {
        str(column): length_factor(path, column, pixel_size) if name in LENGTHS else 1.0
        for name, column in columns.items()
    }
    cells = read_columns(
        path,
        list(map(str, header)),
        delimiter=delimiter,
        first_line=2,
        stop=stop,
        text=[str(columns[name]) for name in text if name in columns],
        wanted=set(factors),
    )
    for label, factor in factors.items():
        if factor != 1:
            cells[label] = cells[label] * factor
    table = {name: cells[str(column)] for name, column in columns.items()}
    return table | {name: whole(table[name]) for name in counts if name in table}


def first_line_of(head: bytes) -> str:
    """Give the first line of what may be a text file, by its beginning."""
    return head.replace(b"\r", b"\n").partition(b"\n")[0].decode("utf-8-sig", "surrogateescape")
