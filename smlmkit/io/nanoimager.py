"""ONI Nanoimager csv: the first line is ``Channel,Frame,X (nm),Y (nm),Z (nm),Photons,Background``.

Newer files have more columns: precisions, widths of the PSF, and lengths once more in camera
pixels. Frames and channels are counted from 0. Positions are taken from the outer corner of the
first camera pixel: nothing in the file says otherwise.
"""

from pathlib import Path
from typing import Any

import numpy as np

from smlmkit.grid import FieldOfView
from smlmkit.io._common import table_from_file
from smlmkit.io._named_columns import Meaning, first_line_of, read_named_columns
from smlmkit.io._text import Column, head_lines, parse_header, read_columns
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


def recognizes(path: Path, head: bytes) -> bool:
    """Tell whether a file names the Nanoimager's columns in its first line.

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
    >>> header = b"Channel,Frame,X (nm),Y (nm),Z (nm),Photons,Background"
    >>> recognizes(Path("oni.csv"), header), recognizes(Path("a.csv"), b"frame,x [nm],y [nm]")
    (True, False)
    """
    del path
    needed = {Column("Channel", ""), Column("Frame", ""), _X_NM, Column("Y", "nm")}
    return needed <= set(_parse_header(first_line_of(head)))


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
    header = _parse_header("".join(head_lines(path, 1)))
    size = pixel_size or _shown_pixel_size(path, header)
    columns = read_named_columns(
        path,
        header,
        [_meaning(column, header) for column in header],
        delimiter=",",
        counts=("channel", "frame"),
        pixel_size=size,
    )
    metadata: dict[str, Any] = {"source": path.name, "format": "nanoimager"}
    if size is not None:
        metadata["camera_pixel_size"] = size
    return table_from_file(path, columns, field_of_view, metadata)


def _parse_header(line: str) -> list[Column]:
    return parse_header(line, ",", brackets=[("(", ")")])


def _meaning(column: Column, header: list[Column]) -> Meaning:
    is_length_in_pixels = column.unit == "pix"
    if is_length_in_pixels and column._replace(unit="nm") in header:
        return ()
    own_name = f"{column.name} ({column.unit})" if column.unit else column.name
    return (_MEANINGS.get(column.name, own_name),)


def _shown_pixel_size(path: Path, header: list[Column]) -> float | None:
    """Find the camera pixel size with which x in pixels is x in nm on the first rows, if any."""
    if not {_X_NM, _X_PIXELS} <= set(header):
        return None
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    cells = read_columns(
        path,
        list(map(str, header)),
        delimiter=",",
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
