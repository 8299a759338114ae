"""The CSV files of the SMLM software challenges: ground truth, and localizations handed in.

The first line names the columns, as in ``Ground-truth,frame,xnano,ynano,znano,intensity``. Lengths
are nm from the outer corner of the first camera pixel, frames are counted from 1.
"""

from pathlib import Path
from typing import BinaryIO

from smlmkit.grid import FieldOfView
from smlmkit.io._common import known_metadata, table_from_file
from smlmkit.io._named_columns import (
    first_line_of,
    parse_names,
    read_first_line,
    read_named_columns,
)
from smlmkit.localizations import Localizations

_NAMES = {"xnano": "x", "ynano": "y", "znano": "z", "intensity": "photons"}
_DELIMITERS = "\t;,"


def recognizes(file: BinaryIO, head: bytes) -> bool:
    """Tell whether a file names the columns xnano and ynano in its first line.

    Parameters
    ----------
    file : BinaryIO
        The file, open to be read.
    head : bytes
        How it begins.

    Returns
    -------
    bool
        Whether it does.

    Examples
    --------
    >>> import io
    >>> header = b"Ground-truth,frame,xnano,ynano,znano,intensity "
    >>> recognizes(io.BytesIO(header), header)
    True
    """
    del file
    names = parse_names(first_line_of(head), _DELIMITERS)
    return {"xnano", "ynano"} <= {column.name for column in names.columns}


def read(
    path: Path, *, pixel_size: float | None = None, field_of_view: FieldOfView | None = None
) -> Localizations:
    r"""Read a CSV file of the SMLM challenges.

    ``xnano``, ``ynano`` and ``znano`` become ``x``, ``y`` and ``z``, ``intensity`` becomes
    ``photons``, and ``frame`` is the file's number less one, unless a frame 0 shows that the file
    counts from 0. Other columns keep their names and numbers.

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
    names = parse_names(read_first_line(path), _DELIMITERS)
    columns = read_named_columns(
        path,
        names,
        [(_NAMES.get(column.name, column.name),) for column in names.columns],
        pixel_size=pixel_size,
        counts=("Ground-truth",),
        length_unit="nm",
    )
    metadata = known_metadata(path, "challenge", pixel_size)
    return table_from_file(path, columns, field_of_view, metadata)
