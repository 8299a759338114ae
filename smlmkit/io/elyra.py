"""Zeiss Elyra (ZEN) tables: text in columns, and what is known of the image behind a NUL byte.

The first line names columns and units, parted by tabs (in csv files by semicolons). Frames are
counted from 1. Positions are taken from the outer corner of the first camera pixel, for they run
from 0 to the size of the image.

What ZEN means by some of its columns shows in its own numbers: on the 15 rows of a real file, the
formula of Thompson et al. (Biophys. J. 82, 2775, 2002), with the variance doubled by an EM gain,

    2 * ((s² + a²/12) / N + 8 pi s⁴ b² / (a N)²)

gives the square of ``Precision`` to 0.1 nm, its last digit, if s is ``PSF half width``, a the
``VoxelSizeX``, N ``Number Photons`` and b² ``Background variance``. So the half width is the
standard deviation of a Gaussian, the voxel is a camera pixel, and the variance is that of a camera
pixel in square photons. What ``PSF width`` in other files means is not known.
"""

import re
from pathlib import Path
from typing import BinaryIO, NamedTuple

from smlmkit.errors import FileFormatError
from smlmkit.grid import FieldOfView, check_field_of_view
from smlmkit.io._common import known_metadata, table_from_file
from smlmkit.io._named_columns import (
    first_line_of,
    parse_names,
    read_first_line,
    read_named_columns,
)
from smlmkit.localizations import Localizations

_MEANINGS = {
    "First Frame": ("frame",),
    "Number Frames": ("detections",),
    "Position X": ("x",),
    "Position Y": ("y",),
    "Position Z": ("z",),
    "Precision": ("uncertainty_x", "uncertainty_y"),
    "Precision Z": ("uncertainty_z",),
    "Number Photons": ("photons",),
    "PSF half width": ("sigma_x", "sigma_y"),
    "Channel": ("channel",),
}
_COUNTS = ("Index", "Frames Missing", "Z Slice")
_DELIMITERS = "\t;"
_CHUNK_BYTES = 2**20
_FOOTER_BYTES = 2**16
# Without its end a line may be cut off.
_STATEMENT = re.compile(r"^(\w+) *: *(\S+) *(\S*)\n", re.MULTILINE)
# A micro sign, the same in UTF-8 that was read as Latin-1, and none at all in files made by hand.
_MICROMETRES = frozenset({"µm", "Âµm", "um", ""})


class _Footer(NamedTuple):
    """What follows the table: at which byte, and the value and unit under each key."""

    start: int
    values: dict[str, tuple[str, str]]


def recognizes(file: BinaryIO, head: bytes) -> bool:
    r"""Tell whether a file names ZEN's columns in its first line.

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
    >>> header = b"Index\tFirst Frame\tPosition X [nm]\tPosition Y [nm]\r\n"
    >>> recognizes(io.BytesIO(header), header)
    True
    """
    del file
    names = parse_names(first_line_of(head), _DELIMITERS)
    needed = {"First Frame", "Position X", "Position Y"}
    return needed <= {column.name for column in names.columns}


def read(
    path: Path, *, pixel_size: float | None = None, field_of_view: FieldOfView | None = None
) -> Localizations:
    r"""Read an Elyra table.

    ``Position X``, ``Y`` and ``Z`` become ``x``, ``y`` and ``z``, ``First Frame`` less one
    ``frame``, ``Number Frames`` ``detections``, ``Number Photons`` ``photons``, ``Channel``
    ``channel``, ``Precision`` ``uncertainty_x`` and ``uncertainty_y``, ``Precision Z``
    ``uncertainty_z``, ``PSF half width`` ``sigma_x`` and ``sigma_y``. Other columns keep their
    names and numbers. The field of view is ``Size`` times ``Resolution`` times ``VoxelSize``, the
    camera pixel size ``VoxelSizeX``, where these are stated behind the table.

    Parameters
    ----------
    path : Path
        The file.
    pixel_size : float, optional
        Edge of a camera pixel in nm, instead of the ``VoxelSize`` that is stated.
    field_of_view : FieldOfView, optional
        The box in nm that was imaged, instead of what is stated. Without either, the smallest box
        of whole nm around the rows.

    Returns
    -------
    Localizations
        The table.

    Raises
    ------
    FileFormatError
        If the header lacks a column or a unit, a row has another number of cells than the header, a
        cell is no number, or what is stated behind the table makes no sense.

    Examples
    --------
    >>> import tempfile
    >>> header = "First Frame\tPosition X [nm]\tPosition Y [nm]\tPSF half width [nm]"
    >>> footer = "VoxelSizeX : 0.1 µm\nResolutionX : 0.1\nSizeX : 20\n"
    >>> text = f"{header}\n1\t120.5\t80\t130\n\0{footer}{footer.replace('X', 'Y')}"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "elyra.txt").write_text(text, encoding="latin-1")
    ...     blinks = read(Path(folder, "elyra.txt"))
    >>> {name: blinks[name].tolist() for name in blinks}
    {'frame': [0], 'x': [120.5], 'y': [80.0], 'sigma_x': [130.0], 'sigma_y': [130.0]}
    >>> blinks.field_of_view.width, blinks.metadata["camera_pixel_size"]
    (200.0, 100.0)
    """
    names = parse_names(read_first_line(path), _DELIMITERS)
    footer = _find_footer(path, names.delimiter)
    sizes = {axis: pixel_size or _stated_pixel_size(path, footer, axis) for axis in "YX"}
    columns = read_named_columns(
        path,
        names,
        [_MEANINGS.get(column.name, (column.name,)) for column in names.columns],
        pixel_size=sizes["X"],
        counts=_COUNTS,
        stop=footer.start,
    )
    box = field_of_view or _stated_field(path, footer, sizes)
    return table_from_file(path, columns, box, known_metadata(path, "elyra", sizes["X"]))


def _find_footer(path: Path, delimiter: str) -> _Footer:
    """Find the NUL byte that ends the table, and what is stated behind it."""
    start, before = 0, b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            rows, nul, behind = chunk.partition(b"\0")
            start += len(rows)
            before = rows[-1:] or before
            if nul:
                behind = (behind + file.read(_FOOTER_BYTES))[:_FOOTER_BYTES]
                return _Footer(start, _parse_footer(path, start, before, behind, delimiter))
    return _Footer(start, {})


def _parse_footer(
    path: Path, start: int, before: bytes, behind: bytes, delimiter: str
) -> dict[str, tuple[str, str]]:
    text = behind.translate(None, b"\r\0").decode("latin-1").lstrip("\n")
    # Anywhere else a NUL is damage, and must not cut off the rows behind it.
    if before not in (b"\r", b"\n") or delimiter in text.partition("\n")[0]:
        raise FileFormatError(f"{path}: byte {start:,} is a NUL in the table: the file is damaged")
    return {key: (value, unit) for key, value, unit in _STATEMENT.findall(text)}


def _stated_pixel_size(path: Path, footer: _Footer, axis: str) -> float | None:
    """Give the edge of a camera pixel in nm."""
    size = _stated(path, footer, f"VoxelSize{axis}", _MICROMETRES)
    return None if size is None else size * 1000


def _stated_field(
    path: Path, footer: _Footer, sizes: dict[str, float | None]
) -> FieldOfView | None:
    """Give the box of ZEN's image, of whose pixels a camera pixel holds several."""
    edges = []
    for axis, size in sizes.items():
        n_pixels = _stated(path, footer, f"Size{axis}")
        in_camera_pixels = _stated(path, footer, f"Resolution{axis}")
        if n_pixels is None or in_camera_pixels is None or size is None:
            return None
        edges.append(n_pixels * in_camera_pixels * size)
    return check_field_of_view((0.0, 0.0, *edges))


def _stated(
    path: Path, footer: _Footer, key: str, units: frozenset[str] = frozenset({""})
) -> float | None:
    """Give the positive number that is stated under a key; None if there is none."""
    if key not in footer.values:
        return None
    text, unit = footer.values[key]
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1e-9 < value < 1e9 or unit not in units:
        expected = "a positive number" + (" of µm" if len(units) > 1 else "")
        raise FileFormatError(
            f"{path}: {f'{text} {unit}'.strip()!r} is stated as {key} behind the table, "
            f"expected {expected}"
        )
    return value
