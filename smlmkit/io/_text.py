"""Tables in text files: the header's names and units, and columns of numbers, read fast.

Arrow reads what is well-formed, on all cores. Whatever it refuses is read once more in plain
Python, which either names the line and the column at fault or is more lenient.
"""

import csv
import io
import itertools
import re
from array import array
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from smlmkit.errors import FileFormatError

if TYPE_CHECKING:
    import pyarrow as pa
    from _typeshed import WriteableBuffer

_QUOTES = str.maketrans("", "", "\"'`")
# A micro sign, a Greek mu, and the micro sign of a Latin-1 file that was opened as UTF-8.
_MICRO = str.maketrans("µμ\udcb5", "uuu")
_BRACKETS = (("[", "]"), ("(", ")"))
_BLANKS_BEFORE_A_UNIT = re.compile(r"\s+(?=[\[(])")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_LONGEST_LINE = 2**20
_LONGEST_QUOTE = 50
_BLOCK_BYTES = 2**22
_NOT_A_NUMBER = ("NaN", "nan", "NAN", "nan(ind)", "-nan(ind)", "1.#QNAN", "1.#IND", "-1.#IND")
_MISSING = ("", *_NOT_A_NUMBER, "NA", "N/A", "null")
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


def head_lines(path: Path, n_lines: int, *, encoding: str = "utf-8") -> list[str]:
    """Give the first lines of a text file, as many as there are, without their ends."""
    return list(itertools.islice(iter_lines(path, encoding=encoding), n_lines))


def iter_lines(path: Path, *, encoding: str = "utf-8") -> Iterator[str]:
    """Give the lines of a text file without their ends, as far as they are asked for.

    Bytes that are no text in this encoding become surrogates.
    """
    with path.open("rb") as file:
        if file.read(2) in _UTF_16:
            raise FileFormatError(f"{path}: the text is in UTF-16: save it as UTF-8")
        file.seek(0)
        for number in itertools.count(1):
            line = _next_line(path, file, number)
            if not line:
                return
            text = line.decode(encoding, "surrogateescape").rstrip("\r\n")
            yield text.removeprefix("\ufeff")


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
    kept = {i: name for i, name in enumerate(names) if wanted is None or name in wanted}
    if len(set(kept.values())) < len(kept):
        twice = next(name for name in kept.values() if list(kept.values()).count(name) > 1)
        raise FileFormatError(f"{path}: two columns are named '{twice}'")
    if not kept:
        return {}
    start = _start_of_line(path, first_line)
    with _open_rows(path, start, stop, delimiter) as rows:
        columns = _read_fast(rows, len(names), kept, delimiter, encoding, text)
    if columns is None:
        with _open_rows(path, start, stop, delimiter) as rows:
            cells = _split_rows(path, rows, first_line, delimiter, encoding)
            columns = _read_slowly(path, cells, len(names), kept, text)
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
    is_whole = bool(np.all(np.abs(values) < 2**53)) and np.array_equal(values, np.floor(values))
    return values.astype(np.int64) if is_whole else values


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


def _next_line(path: Path, file: io.BufferedReader, number: int) -> bytes:
    """Read to the end of a line, which is a line feed, a carriage return or both."""
    start = file.tell()
    line = file.readline(_LONGEST_LINE)
    end = line.find(b"\r") + 1
    if 0 < end < len(line):
        line = line[: end + (line[end : end + 1] == b"\n")]
        file.seek(start + len(line))
    _check_length(path, number, line)
    return line


def _check_length(path: Path, number: int, line: bytes | str) -> None:
    if len(line) == _LONGEST_LINE:
        raise FileFormatError(f"{path}: line {number} is longer than {_LONGEST_LINE - 1:,} bytes")


class _Rows(io.RawIOBase):
    """The bytes of a file from one place to another."""

    def __init__(self, path: Path, start: int, stop: int) -> None:
        self._file = path.open("rb")
        self._file.seek(start)
        self._left = max(0, stop - start)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        room = memoryview(buffer).cast("B")
        n_read = self._file.readinto(room[: self._left])
        self._left -= n_read
        return n_read

    def close(self) -> None:
        self._file.close()
        super().close()


class _RowsOfBlanks(_Rows):
    """The same with one space for each run of blanks, and none where a line begins or ends."""

    _before = b"\n"  # the last byte that was given, and a blank that waits for what follows it

    def readinto(self, buffer: "WriteableBuffer") -> int:
        room = memoryview(buffer).cast("B")
        given = b""
        while not given:
            n_read = super().readinto(room[:-1])  # the blank that waits may need a place, too
            if n_read == 0:
                return 0
            text = _single_blanks(self._before + bytes(room[:n_read]))
            given = text[1:].removesuffix(b" ")
            self._before = text[-2:] if text.endswith(b" ") else text[-1:]
        room[: len(given)] = given
        return len(given)


def _single_blanks(text: bytes) -> bytes:
    text = text.replace(b"\t", b" ")
    while b"  " in text:
        text = text.replace(b"  ", b" ")
    for end in (b"\n", b"\r"):
        text = text.replace(end + b" ", end).replace(b" " + end, end)
    return text


def _start_of_line(path: Path, line: int) -> int:
    with path.open("rb") as file:
        for number in range(1, line):
            _next_line(path, file, number)
        return file.tell()


def _open_rows(path: Path, start: int, stop: int | None, delimiter: str) -> _Rows:
    kind = _RowsOfBlanks if delimiter == " " else _Rows
    return kind(path, start, path.stat().st_size if stop is None else stop)


def _read_fast(
    rows: _Rows,
    n_columns: int,
    kept: dict[int, str],
    delimiter: str,
    encoding: str,
    text: Collection[str],
) -> dict[str, NDArray[Any]] | None:
    """Read with Arrow; None where it cannot."""
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    types = {str(i): pa.binary() if name in text else pa.float64() for i, name in kept.items()}
    try:
        table = pa_csv.read_csv(
            rows,
            pa_csv.ReadOptions(
                column_names=[str(i) for i in range(n_columns)], block_size=_BLOCK_BYTES
            ),
            pa_csv.ParseOptions(delimiter=delimiter),
            pa_csv.ConvertOptions(
                include_columns=list(types), column_types=types, null_values=_MISSING
            ),
        )
    except pa.ArrowInvalid:
        return None
    columns = {}
    for name in kept.values():
        column, table = table.column(0), table.remove_column(0)  # memory is free again at once
        columns[name] = _decode(column, encoding) if name in text else column.to_numpy()
    return columns


def _decode(column: "pa.ChunkedArray", encoding: str) -> NDArray[Any]:
    """Decode each text once, however often it occurs."""
    coded = column.dictionary_encode().unify_dictionaries().combine_chunks()
    texts = [text.decode(encoding, "replace") for text in coded.dictionary.to_pylist()]
    decoded: NDArray[Any] = np.array(texts, object)[coded.indices.to_numpy()]
    return decoded


def _read_slowly(
    path: Path,
    rows: Iterator[tuple[int, list[str]]],
    n_columns: int,
    kept: dict[int, str],
    text: Collection[str],
) -> dict[str, NDArray[Any]]:
    """Read in plain Python, as far as there is nothing wrong."""
    columns: dict[str, Any] = {name: [] if name in text else array("d") for name in kept.values()}
    for line, row in rows:
        if len(row) != n_columns:
            hint = ": do its numbers have decimal commas?" if len(row) == 2 * n_columns else ""
            raise FileFormatError(
                f"{path}: line {line} has {len(row)} cells, expected {n_columns}{hint}"
            )
        for i, name in kept.items():
            if name in text:
                columns[name].append(row[i].encode(errors="replace").decode())
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
    path: Path, rows: _Rows, first_line: int, delimiter: str, encoding: str
) -> Iterator[tuple[int, list[str]]]:
    """Give the line number and the cells of every row that is not blank."""
    if first_line == 1 and encoding == "utf-8":
        encoding = "utf-8-sig"
    buffered = io.BufferedReader(rows)
    lines = io.TextIOWrapper(buffered, encoding, errors="surrogateescape", newline="")
    reader = csv.reader(_bounded(path, lines, first_line), delimiter=delimiter)
    try:
        for row in reader:
            if len(row) > 1 or "".join(row).strip():
                yield first_line - 1 + reader.line_num, row
    except csv.Error as error:
        line = first_line - 1 + reader.line_num
        raise FileFormatError(f"{path}: line {line}: {error}") from None


def _bounded(path: Path, lines: io.TextIOWrapper, first_line: int) -> Iterator[str]:
    for number in itertools.count(first_line):
        line = lines.readline(_LONGEST_LINE)
        _check_length(path, number, line)
        if not line:
            return
        yield line


def _hint(cell: str) -> str:
    has_comma = cell.count(",") == 1 and as_number(cell.replace(",", ".")) is not None
    return " but has a decimal comma: expected a point" if has_comma else ""
