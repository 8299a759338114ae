"""Well-formed rows of text, read in blocks of lines on all cores.

Two passes go over the file: one finds lines that blocks can begin with, and how many rows each may
hold, so that the second one puts the numbers of every block where they belong.
"""

import itertools
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from smlmkit._kernels.decimals import IS_SKIPPED, IS_TEXT, LINE_FEEDS_AT_END, parse_rows
from smlmkit._threads import default_threads, run_bands
from smlmkit.io._text import RowLayout, as_number

_BLOCK_BYTES = 2**20


class _Block(NamedTuple):
    """Lines of a file, by their bytes, and the rows of the columns that are meant for them."""

    start: int
    stop: int
    first_row: int
    most_rows: int


class _UnusualError(Exception):
    """There is something that takes more than this module."""


def read_blocks(
    path: Path, start: int, stop: int, layout: RowLayout
) -> dict[str, NDArray[Any]] | None:
    """Read the rows between two bytes of a file; None if there is anything unusual in them.

    That is a row of another number of cells, a cell that is no number, quotes or line ends in
    quotes, a carriage return alone, or a line longer than a block.
    """
    try:
        blocks = _find_blocks(path, start, stop, layout.n_columns)
        return _read(path, blocks, layout)
    except _UnusualError:
        return None


def _find_blocks(path: Path, start: int, stop: int, n_columns: int) -> list[_Block]:
    """Cut a file into blocks of about the same size that begin where lines do."""
    steps = np.arange(start, max(stop, start + 1), _BLOCK_BYTES)
    first_ends, n_ends = np.zeros((2, len(steps)), np.int64)

    def find_ends(first: int, last: int) -> None:
        with path.open("rb") as file:
            for number in range(first, last):
                text = _read_bytes(file, steps[number], min(steps[number] + _BLOCK_BYTES, stop))
                first_ends[number] = text.find(b"\n")
                n_ends[number] = np.count_nonzero(np.frombuffer(text, np.uint8) == ord("\n"))

    run_bands(find_ends, len(steps), default_threads())
    if np.any(first_ends[:-1] < 0):
        raise _UnusualError
    edges = [start, *(steps + first_ends + 1)[1:], stop]
    lines = [0, *(np.cumsum(n_ends)[:-1] + 1), n_ends.sum() + 1]
    if len(steps) > 1 and first_ends[-1] < 0:  # the last line begins earlier
        del edges[-2], lines[-2]
    # A row has at least one byte for each of its cells, but for the end of the last one.
    most_rows = np.minimum(np.diff(lines), np.diff(edges) // n_columns + 1)
    first_rows = np.cumsum(most_rows) - most_rows
    return list(map(_Block, edges[:-1], edges[1:], first_rows, most_rows))


def _read(path: Path, blocks: list[_Block], layout: RowLayout) -> dict[str, NDArray[Any]]:
    most_rows = blocks[-1].first_row + blocks[-1].most_rows
    columns = {
        name: np.empty(most_rows, object if name in layout.text else np.float64)
        for name in layout.kept.values()
    }
    n_rows = np.zeros(len(blocks), np.int64)

    def read_blocks(first: int, last: int) -> None:
        with path.open("rb") as file:
            for number in range(first, last):
                block = blocks[number]
                text = _read_bytes(file, block.start, block.stop)
                rows = _parse(text, block.most_rows, layout)
                n_rows[number] = len(rows[0])
                for values, part in zip(columns.values(), rows, strict=True):
                    values[block.first_row : block.first_row + len(part)] = part

    run_bands(read_blocks, len(blocks), default_threads())
    ends = np.array([block.first_row for block in blocks]) + n_rows
    spans = [slice(block.first_row, end) for block, end in zip(blocks, ends, strict=True)]
    return {name: _join(columns.pop(name), spans) for name in layout.kept.values()}


def _parse(text: bytes, most_rows: int, layout: RowLayout) -> list[NDArray[Any]]:
    """Give the columns of a block."""
    text += LINE_FEEDS_AT_END
    places = np.full(layout.n_columns, IS_SKIPPED)
    for place, (column, name) in enumerate(layout.kept.items()):
        places[column] = IS_TEXT if name in layout.text else place
    numbers = np.empty((len(layout.kept), most_rows))
    left = np.empty((most_rows * len(layout.kept), 4), np.int64)
    n_rows, n_left = parse_rows(
        np.frombuffer(text, np.uint8),
        np.ndarray(len(text) - 7, "<u8", text, strides=(1,)),
        ord(layout.delimiter),
        places,
        numbers,
        left,
    )
    if n_rows < 0:
        raise _UnusualError
    columns = {
        column: np.empty(n_rows, object) if name in layout.text else values[:n_rows]
        for (column, name), values in zip(layout.kept.items(), numbers, strict=True)
    }
    texts = {column for column, name in layout.kept.items() if name in layout.text}
    known: dict[bytes, str] = {}
    for column, row, start, stop in left[:n_left].tolist():
        cell = text[start:stop]
        if column in texts:
            if cell not in known:
                known[cell] = cell.decode(layout.encoding, "replace")
            columns[column][row] = known[cell]
        else:
            number = as_number(cell.decode(layout.encoding, "surrogateescape"))
            if number is None:
                raise _UnusualError
            columns[column][row] = number
    return list(columns.values())


def _join(values: NDArray[Any], spans: list[slice]) -> NDArray[Any]:
    """Close the gaps that blank lines have left."""
    if all(one.stop == other.start for one, other in itertools.pairwise(spans)):
        return values[: spans[-1].stop]
    return np.concatenate([values[span] for span in spans])


def _read_bytes(file: BufferedReader, start: int, stop: int) -> bytes:
    file.seek(start)
    return file.read(stop - start)
