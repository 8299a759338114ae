"""Nikon N-STORM text: columns parted by tabs, the first of which names the channel of each row.

Lengths are nm. NIS-Elements writes a position as it was found (``X``), corrected for drift
(``Xc``), for the chromatic warp between channels (``Xw``), and for both (``Xwc``). Positions are
taken from the outer corner of the first camera pixel and frames as counted from 1, as elsewhere in
that program: neither stands in the file.

``Width`` is twice the standard deviation s of a Gaussian: so it was in Insight3, from which the
format comes, and so the numbers of a row agree, where ``Area`` is 2 pi s² times ``Height`` with s
in camera pixels of 160 nm.
"""

import warnings
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
from numpy.typing import NDArray

from smlmkit.errors import UnusedRowsWarning
from smlmkit.grid import FieldOfView
from smlmkit.io._common import known_metadata, table_from_file
from smlmkit.io._named_columns import (
    Meaning,
    divide_widths,
    first_line_of,
    parse_names,
    read_first_line,
    read_named_columns,
)
from smlmkit.io._text import Column
from smlmkit.localizations import Localizations

_MEANINGS = {
    "Channel Name": ("channel",),
    "Frame": ("frame",),
    "Length": ("detections",),
    "Photons": ("photons",),
    "Lateral Localization Accuracy": ("uncertainty_x", "uncertainty_y"),
    "Width": ("sigma_x", "sigma_y"),
}
# The best corrected position comes first.
_POSITIONS = {
    "x": ("Xwc", "Xw", "Xc", "X"),
    "y": ("Ywc", "Yw", "Yc", "Y"),
    "z": ("Zwc", "Zc", "Zw", "Z"),
}
# The program's own name for rows whose z cannot be found from the shape of the PSF.
_REJECTED = "Z Rejected"


def recognizes(file: BinaryIO, head: bytes) -> bool:
    r"""Tell whether a file names N-STORM's columns in its first line.

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
    >>> header = b"Channel Name\tX\tY\tXc\tYc\tFrame\tPhotons\r\n"
    >>> recognizes(io.BytesIO(header), header)
    True
    """
    del file
    names = parse_names(first_line_of(head), "\t")
    return {"Channel Name", "X", "Y", "Frame"} <= {column.name for column in names.columns}


def read(
    path: Path, *, pixel_size: float | None = None, field_of_view: FieldOfView | None = None
) -> Localizations:
    r"""Read an N-STORM file.

    ``x`` and ``y`` are the first that there are of ``Xwc``, ``Xw``, ``Xc`` and ``X``, and ``z``
    that of ``Zwc``, ``Zc``, ``Zw`` and ``Z``; data in two dimensions have z = 0 throughout.
    ``Frame`` less one becomes ``frame``, ``Length``, the number of frames that were merged,
    ``detections``, ``Lateral Localization Accuracy`` ``uncertainty_x`` and ``uncertainty_y``, half
    of ``Width`` ``sigma_x`` and ``sigma_y``. Other columns keep their names and numbers.
    ``channel`` is the place of ``Channel Name`` among the metadata's ``channels``, which are
    sorted; rows of the channel ``Z Rejected`` are left out.

    Parameters
    ----------
    path : Path
        The file.
    pixel_size : float, optional
        Edge of a camera pixel in nm, for the metadata only.
    field_of_view : FieldOfView, optional
        The box in nm that was imaged; without it, the smallest box of whole nm around the rows.

    Returns
    -------
    Localizations
        The table.

    Raises
    ------
    FileFormatError
        If the header lacks a column, a row has another number of cells than the header, or a cell
        is no number: the message names line and column.

    Warns
    -----
    UnusedRowsWarning
        If there are rows whose z was rejected.

    Examples
    --------
    >>> import tempfile
    >>> text = "Channel Name\tX\tY\tXc\tYc\tFrame\tWidth\n647\t120\t80\t121.5\t80.5\t1\t260\n"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "nstorm.txt").write_text(text)
    ...     blinks = read(Path(folder, "nstorm.txt"))
    >>> blinks.columns
    ('channel', 'X', 'Y', 'x', 'y', 'frame', 'sigma_x', 'sigma_y')
    >>> blinks["x"], blinks["frame"], blinks["sigma_x"], blinks.metadata["channels"]
    (array([121.5]), array([0]), array([130.]), ['647'])
    """
    names = parse_names(read_first_line(path), "\t")
    columns = read_named_columns(
        path,
        names,
        _meanings(names.columns),
        pixel_size=pixel_size,
        counts=("Link", "Valid"),
        text=("channel",),
        length_unit="nm",
    )
    columns = divide_widths(columns, 2)
    metadata = known_metadata(path, "nstorm", pixel_size)
    if "channel" in columns:
        columns = _without_rejected(path, columns)
        columns["channel"], metadata["channels"] = _number(columns["channel"])
    return table_from_file(path, columns, field_of_view, metadata)


def _meanings(columns: list[Column]) -> list[Meaning]:
    names = {column.name for column in columns}
    positions = {
        next(own for own in candidates if own in names): (name,)
        for name, candidates in _POSITIONS.items()
        if not names.isdisjoint(candidates)
    }
    meanings = _MEANINGS | positions
    return [meanings.get(column.name, (column.name,)) for column in columns]


def _without_rejected(path: Path, columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    is_rejected = columns["channel"] == _REJECTED
    n_rejected = int(is_rejected.sum())
    if not n_rejected:
        return columns
    warnings.warn(
        f"{path.name}: {n_rejected:,} of {len(is_rejected):,} rows are of the channel "
        f"{_REJECTED!r} and are left out",
        UnusedRowsWarning,
        stacklevel=3,
    )
    return {name: values[~is_rejected] for name, values in columns.items()}


def _number(names: NDArray[Any]) -> tuple[NDArray[Any], list[str]]:
    """Give the place of each name among all of them, which are sorted."""
    numbers, channels = pd.factorize(names, sort=True)
    return numbers, channels.tolist()
