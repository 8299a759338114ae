"""ONI Nanoimager csv: the first line is ``Channel,Frame,X (nm),Y (nm),Z (nm),Photons,Background``.

Newer files have more columns: precisions, widths of the PSF, and lengths once more in camera
pixels. Frames and channels are counted from 0. Positions are taken from the outer corner of the
first camera pixel: nothing in the file says otherwise.
"""

from pathlib import Path
from typing import BinaryIO

import numpy as np

from smlmkit.grid import FieldOfView
from smlmkit.io._common import known_metadata, table_from_file
from smlmkit.io._named_columns import (
    PHOTON_UNITS,
    Meaning,
    Names,
    first_line_of,
    parse_names,
    read_first_line,
    read_named_columns,
)
from smlmkit.io._text import Column, read_columns
from smlmkit.localizations import Localizations

_MEANINGS = {
    "Channel": "channel",
    "Frame": "frame",
    "X": "x",
    "Y": "y",
    "Z": "z",
    "X precision": "uncertainty_x",
    "Y precision": "uncertainty_y",
    "Z precision": "uncertainty_z",
    "PSF Sigma X": "sigma_x",
    "PSF Sigma Y": "sigma_y",
    "Photons": "photons",
    "Background": "background",
}
_X_NM, _X_PIXELS = Column("X", "nm"), Column("X", "pix")
_HEAD_BYTES = 2**16
_FARTHEST = 1e9
_ROUNDING = 0.01  # camera pixels: programs write these with two or more decimals


def recognizes(file: BinaryIO, head: bytes) -> bool:
    """Tell whether a file names the Nanoimager's columns in its first line.

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
    >>> header = b"Channel,Frame,X (nm),Y (nm),Z (nm),Photons,Background"
    >>> recognizes(io.BytesIO(header), header)
    True
    """
    del file
    needed = {Column("Channel", ""), Column("Frame", ""), _X_NM, Column("Y", "nm")}
    return needed <= set(_parse_names(first_line_of(head)).columns)


def read(
    path: Path, *, pixel_size: float | None = None, field_of_view: FieldOfView | None = None
) -> Localizations:
    r"""Read a Nanoimager file.

    Columns get the names that smlmkit knows them by, ``X precision`` that of ``uncertainty_x`` and
    ``PSF Sigma X`` that of ``sigma_x``; others keep their names and numbers. What stands there in
    nm is not read once more in camera pixels. Data in two dimensions have z = 0 throughout.

    Parameters
    ----------
    path : Path
        The file.
    pixel_size : float, optional
        Edge of a camera pixel in nm. It is needed where a length stands there in camera pixels
        only, as ``PSF Sigma X (pix)`` does, and no ``X (pix)`` beside ``X (nm)`` tells it.
    field_of_view : FieldOfView, optional
        The box in nm that was imaged; without it, the smallest box of whole nm around the rows.

    Returns
    -------
    Localizations
        The table.

    Raises
    ------
    FileFormatError
        If the header lacks a column or a unit, a row has another number of cells than the header,
        or a cell is no number: the message names line and column.

    Examples
    --------
    >>> import tempfile
    >>> text = "Channel,Frame,X (nm),Y (nm),PSF Sigma X (pix)\n1,0,120.5,80,1.25\n"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "oni.csv").write_text(text)
    ...     blinks = read(Path(folder, "oni.csv"), pixel_size=100)
    >>> {name: blinks[name].tolist() for name in blinks}
    {'channel': [1], 'frame': [0], 'x': [120.5], 'y': [80.0], 'sigma_x': [125.0]}
    """
    names = _parse_names(read_first_line(path))
    size = pixel_size or _shown_pixel_size(path, names)
    stated = set(names.columns)
    meanings = [_meaning(column, stated) for column in names.columns]
    columns = read_named_columns(path, names, meanings, pixel_size=size, first_frame=0)
    metadata = known_metadata(path, "nanoimager", size)
    return table_from_file(path, columns, field_of_view, metadata)


def _parse_names(line: str) -> Names:
    return parse_names(line, ",", brackets=[("(", ")")])


def _meaning(column: Column, stated: set[Column]) -> Meaning:
    if column.unit == "pix" and column._replace(unit="nm") in stated:
        return ()
    own_name = f"{column.name} ({column.unit})" if column.unit else column.name
    name = _MEANINGS.get(column.name, own_name)
    is_something_else = name in ("photons", "background") and column.unit not in PHOTON_UNITS
    return (own_name,) if is_something_else else (name,)


def _shown_pixel_size(path: Path, names: Names) -> float | None:
    """Find the camera pixel size with which x in pixels is x in nm on the first rows, if any."""
    if not {_X_NM, _X_PIXELS} <= set(names.columns):
        return None
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    cells = read_columns(
        path,
        list(map(str, names.columns)),
        delimiter=names.delimiter,
        first_line=2,
        stop=head.rfind(b"\n") + 1 if len(head) == _HEAD_BYTES else None,
        wanted={str(_X_NM), str(_X_PIXELS)},
    )
    nm, pixels = cells[str(_X_NM)], cells[str(_X_PIXELS)]
    is_known = (np.abs(nm) < _FARTHEST) & (np.abs(pixels) < _FARTHEST)
    nm, pixels = nm[is_known], pixels[is_known]
    size = float(nm @ pixels / max(pixels @ pixels, _ROUNDING))
    is_proportional = bool(np.all(np.abs(nm - size * pixels) < size * _ROUNDING))
    return round(size, 2) if size > _ROUNDING and is_proportional else None
