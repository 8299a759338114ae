"""Tables in text files: the header's names and units, and columns of numbers, read fast.

What is well-formed is read in blocks on all cores. Where there is anything unusual, the file is
read once more in plain Python, which either names the line and the column at fault or is lenient.
"""

import codecs
import csv
import io
import itertools
import re
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from smlmkit.errors import FileFormatError

_QUOTES = str.maketrans("", "", "\"'`")
# A micro sign, a Greek mu, and the micro sign of a Latin-1 file that was opened as UTF-8.
_MICRO = str.maketrans("µμ\udcb5", "uuu")
_BRACKETS = (("[", "]"), ("(", ")"))
_BLANKS_BEFORE_A_UNIT = re.compile(r"\s+(?=[\[(])")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_LONGEST_LINE = 2**20
_LONGEST_QUOTE = 50
_NOT_A_NUMBER = ("NaN", "nan", "NAN", "nan(ind)", "-nan(ind)", "1.#QNAN", "1.#IND", "-1.#IND")
_MISSING = frozenset({"", *_NOT_A_NUMBER, "NA", "N/A", "null"})
_NM_PER_UNIT = {
    **dict.fromkeys(("nm", "nanometer", "nanometre", "nanometers", "nanometres"), 1.0),
    **dict.fromkeys(("um", "micron", "microns", "micrometer", "micrometre"), 1e3),
    "mm": 1e6,
    "m": 1e9,
}
_PIXELS = frozenset({"px", "pix", "pixel", "pixels"})


class Column(NamedTuple):
    """What a header says of a column."""

    name: str
    unit: str

    def __str__(self) -> str:
        return f"{self.name} [{self.unit}]" if self.unit else self.name


class RowLayout(NamedTuple):
    """How rows are cut into cells, which columns are kept, by their places, and which are text."""

    n_columns: int
    kept: Mapping[int, str]
    text: Collection[str]
    delimiter: str
    encoding: str


def head_lines(path: Path, n_lines: int, *, encoding: str = "utf-8") -> list[str]:
    """Give the first lines of a text file, as many as there are, without their ends."""
    return list(itertools.islice(iter_lines(path, encoding=encoding), n_lines))


def iter_lines(path: Path, *, encoding: str = "utf-8") -> Iterator[str]:
    """Give the lines of a text file without their ends, as far as they are asked for.

    Bytes that are no text in this encoding become surrogates.
    """
    start = _start_of_line(path, 1)
    for line in _lines_between(path, start, path.stat().st_size, 1, encoding):
        yield line.rstrip("\r\n")


def parse_header(
    line: str, delimiter: str, *, brackets: Collection[tuple[str, str]] = _BRACKETS
) -> list[Column]:
    """Give the columns that a line names; quotes and blanks may stand anywhere.

    The unit stands in the last pair of `brackets`; a blank as delimiter is any run of blanks.
    """
    text = line.removeprefix("\ufeff").translate(_QUOTES).strip("\r\n")
    if delimiter == " ":
        cells = _BLANKS_BEFORE_A_UNIT.sub("", text).split()
    else:
        cells = text.split(delimiter)
    return [_parse_column(cell.strip(), brackets) for cell in cells]


def read_columns(
    path: Path,
    names: Sequence[str],
    *,
    delimiter: str,
    first_line: int,
    encoding: str = "utf-8",
    stop: int | None = None,
    text: Collection[str] = (),
    wanted: Collection[str] | None = None,
) -> dict[str, NDArray[Any]]:
    """Read columns of numbers (float64) and, where asked for, of text (object).

    Parameters
    ----------
    path : Path
        The file.
    names : sequence of str
        The names of all columns, in their order; errors name these.
    delimiter : str
        What parts the cells; a blank is any run of blanks.
    first_line : int
        The line, counted from 1, where the rows begin.
    encoding : str, default="utf-8"
        How text is encoded, such that numbers look as in ASCII.
    stop : int, optional
        The byte of the file before which the rows end.
    text : collection of str, default=()
        Which columns hold text.
    wanted : collection of str, optional
        Which columns to read; all of them by default.

    Returns
    -------
    dict of str to ndarray of shape (n,)
        The wanted columns in the order of `names`. Missing numbers are NaN.

    Raises
    ------
    FileFormatError
        If a row has another number of cells, or a cell is no number: the message names line and
        column.
    """
    from smlmkit.io._text_blocks import read_blocks  # compiled code, which takes time to import

    kept = {i: name for i, name in enumerate(names) if wanted is None or name in wanted}
    if len(set(kept.values())) < len(kept):
        twice = next(name for name in kept.values() if list(kept.values()).count(name) > 1)
        raise FileFormatError(f"{path}: two columns are named '{twice}'")
    if not kept:
        return {}
    start = _start_of_line(path, first_line)
    stop = max(start, path.stat().st_size if stop is None else stop)
    layout = RowLayout(len(names), kept, text, delimiter, encoding)
    columns = read_blocks(path, start, stop, layout)
    if columns is None:
        lines = _lines_between(path, start, stop, first_line, encoding)
        columns = _read_slowly(path, _split_rows(path, lines, first_line, delimiter), layout)
    return columns


def as_number(cell: str) -> float | None:
    """Give the number in a cell, NaN where it is missing, or None for what is neither."""
    if cell.strip() in _MISSING:
        return np.nan
    try:
        return float(cell) if cell.isascii() and "_" not in cell else None
    except ValueError:
        return None


def whole(values: NDArray[np.float64]) -> NDArray[Any]:
    """Turn counts into integers, if none is missing."""
    with np.errstate(invalid="ignore"):
        integers = values.astype(np.int64)
    is_small = len(values) == 0 or (values.min() > -(2**53) and values.max() < 2**53)
    return integers if is_small and np.array_equal(integers, values) else values


def length_factor(path: Path, column: Column, pixel_size: float | None) -> float:
    """Give the nm in the unit of a column of lengths."""
    unit = column.unit.lower()
    if unit in _PIXELS:
        if pixel_size is None:
            raise FileFormatError(
                f"{path}: column '{column}' is in camera pixels: pass pixel_size= (nm)"
            )
        return pixel_size
    if unit not in _NM_PER_UNIT:
        raise FileFormatError(
            f"{path}: the unit of column '{column}' is unknown: expected nm, um or px, "
            f"as in '{column.name} [nm]'"
        )
    return _NM_PER_UNIT[unit]


def _parse_column(cell: str, brackets: Collection[tuple[str, str]]) -> Column:
    for opening, closing in brackets:
        if cell.endswith(closing) and opening in cell:
            name, _, unit = cell.removesuffix(closing).rpartition(opening)
            return Column(" ".join(name.split()), unit.strip().translate(_MICRO))
    return Column(" ".join(cell.split()), "")


def _start_of_line(path: Path, line: int) -> int:
    """Give the byte where a line begins; a byte order mark belongs to none."""
    with path.open("rb") as file:
        mark = file.read(len(codecs.BOM_UTF8))
        if mark.startswith(_UTF_16):
            raise FileFormatError(f"{path}: the text is in UTF-16: save it as UTF-8")
        if mark != codecs.BOM_UTF8:
            file.seek(0)
        for number in range(1, line):
            _next_line(path, file, number)
        return file.tell()


def _lines_between(
    path: Path, start: int, stop: int, first_line: int, encoding: str
) -> Iterator[str]:
    """Give the lines between two bytes with their ends; the first of them has this number."""
    with path.open("rb") as file:
        file.seek(start)
        for number in itertools.count(first_line):
            n_left = stop - file.tell()
            line = _next_line(path, file, number)
            if n_left <= 0 or not line:
                return
            yield line[:n_left].decode(encoding, "surrogateescape")


def _next_line(path: Path, file: io.BufferedReader, number: int) -> bytes:
    """Read to the end of a line, which is a line feed, a carriage return or both."""
    start = file.tell()
    line = file.readline(_LONGEST_LINE)
    end = line.find(b"\r") + 1
    if 0 < end < len(line):
        line = line[: end + (line[end : end + 1] == b"\n")]
        file.seek(start + len(line))
    if len(line) == _LONGEST_LINE:
        raise FileFormatError(f"{path}: line {number} is longer than {_LONGEST_LINE - 1:,} bytes")
    return line


def _read_slowly(
    path: Path, rows: Iterator[tuple[int, list[str]]], layout: RowLayout
) -> dict[str, NDArray[Any]]:
    """Read in plain Python, as far as there is nothing wrong."""
    n_columns, kept, text = layout.n_columns, layout.kept, layout.text
    columns: dict[str, Any] = {name: [] if name in text else array("d") for name in kept.values()}
    for line, row in rows:
        if len(row) != n_columns:
            hint = ": do its numbers have decimal commas?" if len(row) == 2 * n_columns else ""
            raise FileFormatError(
                f"{path}: line {line} has {len(row)} cells, expected {n_columns}{hint}"
            )
        for i, name in kept.items():
            if name in text:
                columns[name].append(
                    row[i].encode(errors="surrogateescape").decode(errors="replace")
                )
            elif (number := as_number(row[i])) is not None:
                columns[name].append(number)
            else:
                problem = f"{row[i][:_LONGEST_QUOTE]!r} is not a number{_hint(row[i])}"
                raise FileFormatError(f"{path}: line {line}, column '{name}': {problem}")
    return {
        name: np.array(values, object if name in text else np.float64)
        for name, values in columns.items()
    }


def _split_rows(
    path: Path, lines: Iterator[str], first_line: int, delimiter: str
) -> Iterator[tuple[int, list[str]]]:
    """Give the line number and the cells of every row that is not blank."""
    if delimiter == " ":
        lines = map(_single_blanks, lines)
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        for row in reader:
            if len(row) > 1 or "".join(row).strip():
                yield first_line - 1 + reader.line_num, row
    except csv.Error as error:
        line = first_line - 1 + reader.line_num
        raise FileFormatError(f"{path}: line {line}: {error}") from None


def _single_blanks(line: str) -> str:
    return " ".join(filter(None, line.rstrip("\r\n").replace("\t", " ").split(" ")))


def _hint(cell: str) -> str:
    has_comma = cell.count(",") == 1 and as_number(cell.replace(",", ".")) is not None
    return " but has a decimal comma: expected a point" if has_comma else ""
