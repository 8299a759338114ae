"""The CSV files of the SMLM software challenges: ground truth, and localizations handed in.

The first line names the columns, as in ``Ground-truth,frame,xnano,ynano,znano,intensity``. Lengths
are nm from the outer corner of the first camera pixel, frames are counted from 1.
"""

from pathlib import Path

from smlmkit.errors import FileFormatError
from smlmkit.grid import FieldOfView
from smlmkit.io._common import table_from_file
from smlmkit.io._named_columns import first_line_of
from smlmkit.io._text import Column, head_lines, parse_header, read_columns, whole
from smlmkit.localizations import Localizations

_NAMES = {"xnano": "x", "ynano": "y", "znano": "z", "intensity": "photons"}
_COUNTS = ("frame", "Ground-truth")


def recognizes(path: Path, head: bytes) -> bool:
    """Tell whether a file names the columns xnano and ynano in its first line.

    Parameters
    ----------
    path : Path
        The file.
    head : bytes
        Its beginning.

    Returns
    -------
    bool
        Whether it does.

    Examples
    --------
    >>> recognizes(Path("truth.csv"), b"Ground-truth,frame,xnano,ynano,znano,intensity ")
    True
    """
    del path
    header, _ = _parse_header(first_line_of(head))
    return {"xnano", "ynano"} <= {column.name for column in header}


def read(
    path: Path, *, pixel_size: float | None = None, field_of_view: FieldOfView | None = None
) -> Localizations:
    r"""Read a CSV file of the SMLM challenges.

    ``xnano``, ``ynano`` and ``znano`` become ``x``, ``y`` and ``z``, ``intensity`` becomes
    ``photons``, and ``frame`` is the file's number less one. Other columns keep their names and
    numbers.

    Parameters
    ----------
    path : Path
        The file.
    pixel_size : float, optional
        Edge of a camera pixel in nm, for the metadata: lengths are nm.
    field_of_view : FieldOfView, optional
        The box in nm that was imaged; without it, the smallest box of whole nm around the rows.

    Returns
    -------
    Localizations
        The table.

    Raises
    ------
    FileFormatError
        If the header lacks a column, if a row has another number of cells than the header, or a
        cell is no number: the message names line and column.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "truth.csv")
    ...     _ = file.write_text("Ground-truth,frame,xnano,ynano,intensity \n7,1,640,250,900\n")
    ...     truth = read(file)
    >>> {name: truth[name].tolist() for name in truth}
    {'Ground-truth': [7], 'frame': [0], 'x': [640.0], 'y': [250.0], 'photons': [900.0]}
    """
    header, delimiter = _parse_header("".join(head_lines(path, 1)))
    names = [_NAMES.get(column.name, str(column)) for column in header]
    if not {"x", "y"} <= set(names):
        raise FileFormatError(
            f"{path}: the first line names no columns xnano and ynano: "
            f"there are {', '.join(map(str, header))}"
        )
    named = {name for name in names if name}
    columns = read_columns(path, names, delimiter=delimiter, first_line=2, wanted=named)
    if "frame" in columns:
        columns["frame"] = columns["frame"] - 1
    columns |= {name: whole(columns[name]) for name in _COUNTS if name in columns}
    metadata: dict[str, object] = {"source": path.name, "format": "challenge"}
    if pixel_size is not None:
        metadata["camera_pixel_size"] = pixel_size
    return table_from_file(path, columns, field_of_view, metadata)


def _parse_header(line: str) -> tuple[list[Column], str]:
    """Give the columns and the delimiter."""
    delimiter = next((mark for mark in "\t;" if mark in line), ",")
    return parse_header(line, delimiter), delimiter
