"""rapidSTORM: text whose first line describes the columns in XML, then numbers between blanks.

**Origin.** The centre of the first camera pixel is 0, and the range that the file states ends at
the centre of the last one. The pixel size is not stated: only with ``pixel_size=`` positions refer
to the outer corner of the first pixel, as everywhere else in smlmkit, and the field of view covers
the outermost pixels as a whole. Without it, all positions are half a camera pixel too low.

Lengths are nm, widths are full widths at half maximum, intensities are counts of the camera. Frames
are counted from 0.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pa_compute
from numpy.typing import NDArray

from smlmkit.errors import FileFormatError
from smlmkit.grid import FieldOfView
from smlmkit.io._common import LENGTHS, table_from_file
from smlmkit.io._text import Column, as_number, head_lines, length_factor, read_columns, whole
from smlmkit.localizations import Localizations

_BEGINNING = re.compile(rb"(\xef\xbb\xbf)?#?\s*<localizations[\s>]")
_TAG = re.compile(
    r"""\s*+<(?P<closing>/?)(?P<name>localizations|field)\b
        (?P<attributes>(?:\s++[\w-]++\s*+=\s*+(?:"[^"<]*+"|'[^'<]*+'))*+)
        \s*+/?>""",
    re.VERBOSE,
)
_ATTRIBUTE = re.compile(r"""([\w-]++)\s*+=\s*+(?:"([^"]*+)"|'([^']*+)')""")
# The tags that open, close and describe fields, such that those within a track come last.
_SHAPE = re.compile("<(f*)(?:<(f*)>)?>")
_BOUND = re.compile(r"\s*([-+.\deE]+)\s*(\w*)\s*")
_MEANINGS = {
    "ImageNumber-0-0": "frame",
    "PSFWidth-0-0": "sigma_x",
    "PSFWidth-1-0": "sigma_y",
    **{f"Position-{dimension}-0": axis for dimension, axis in enumerate("xyz")},
    **{
        f"Position-{dimension}-0-uncertainty": f"uncertainty_{axis}"
        for dimension, axis in enumerate("xyz")
    },
}
_COUNT = "detections"
_FWHM_PER_SIGMA = 2 * math.sqrt(2 * math.log(2))

_Field = Mapping[str, str]


class _Header(NamedTuple):
    """The fields of a row; in a file of tracks, also those of each localization of a track."""

    fields: list[_Field]
    fields_within: list[_Field] | None


def recognizes(path: Path, head: bytes) -> bool:  # noqa: ARG001 (every format's is called alike)
    """Tell whether a file begins with the XML of rapidSTORM.

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
    >>> recognizes(Path("blinks.txt"), b'# <localizations insequence="true">')
    True
    """
    return _BEGINNING.match(head) is not None


def read(
    path: Path, *, pixel_size: float | None = None, field_of_view: FieldOfView | None = None
) -> Localizations:
    r"""Read a file of rapidSTORM.

    ``Position-0-0`` to ``-2-0`` become x, y and z, their ``-uncertainty`` ``uncertainty_x/y/z``,
    ``PSFWidth`` (a full width) ``sigma_x/y`` and ``ImageNumber-0-0`` ``frame``. Other fields, such
    as ``Amplitude-0-0``, which is in counts of the camera, keep their names. In a file of tracks
    each track gives one row, as in the file, and ``detections``, how many localizations it holds.

    Parameters
    ----------
    path : Path
        The file.
    pixel_size : float, optional
        Edge of a camera pixel in nm; without it, positions refer to the centre of the first camera
        pixel.
    field_of_view : FieldOfView, optional
        The box in nm that was imaged, instead of the range that the file states; without either,
        the smallest box of whole nm around the rows.

    Returns
    -------
    Localizations
        The table.

    Raises
    ------
    FileFormatError
        If the first line is not understood, or a row does not have as many numbers as it says.

    Examples
    --------
    >>> import tempfile
    >>> field = '<field identifier="Position-{}-0" unit="nanometer" min="0 m" max="9e-7 m" />'
    >>> line = f"# <localizations>{field.format(0)}{field.format(1)}</localizations>"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "blinks.txt").write_text(f"{line}\n0 250.5\n")
    ...     blinks = read(Path(folder, "blinks.txt"), pixel_size=100)
    >>> blinks.x, blinks.y, blinks.field_of_view.width
    (array([50.]), array([300.5]), 1000.0)
    """
    header = _parse_header(path, next(iter(head_lines(path, 1)), ""))
    names = [field["identifier"] for field in header.fields]
    for needed in ("Position-0-0", "Position-1-0"):
        if needed not in names:
            raise FileFormatError(
                f"{path}: line 1 names no field {needed}: there are {', '.join(names) or 'none'}"
            )
    if header.fields_within is None:
        cells = read_columns(path, names, delimiter=" ", first_line=2)
    else:
        cells = _read_tracks(path, names, len(header.fields_within))
    with np.errstate(over="ignore", invalid="ignore"):  # numbers may be anything
        columns = _to_table(path, header.fields, cells, pixel_size)
    metadata: dict[str, Any] = {"source": path.name, "format": "rapidstorm"}
    if pixel_size is not None:
        metadata["camera_pixel_size"] = pixel_size
        for axis in "xy":
            columns[axis] += pixel_size / 2
    box = field_of_view or _stated_field(path, header.fields, pixel_size)
    return table_from_file(path, columns, box, metadata)


def _parse_header(path: Path, line: str) -> _Header:
    """Read the tags one by one; whatever else XML allows has no place in such a line."""
    text = line.removeprefix("#").strip()
    shape, fields = "", []
    position = 0
    while position < len(text):
        tag = _TAG.match(text, position)
        if not tag:
            raise _not_understood(path, text[position:])
        if tag["name"] == "field" and not tag["closing"]:
            shape += "f"
            fields.append(_attributes(path, tag["attributes"]))
        elif tag["name"] == "localizations":
            shape += ">" if tag["closing"] else "<"
        position = tag.end()
    levels = _SHAPE.fullmatch(shape)
    if not levels:
        raise _not_understood(path, text)
    n_outer = len(levels[1])
    return _Header(fields[:n_outer], None if levels[2] is None else fields[n_outer:])


def _not_understood(path: Path, text: str) -> FileFormatError:
    return FileFormatError(
        f"{path}: line 1 describes no columns as rapidSTORM does, in {text[:40]!r}: expected "
        "<localizations><field identifier=... /> ... </localizations>"
    )


def _attributes(path: Path, text: str) -> _Field:
    field = {name: first or second for name, first, second in _ATTRIBUTE.findall(text)}
    if not field.get("identifier", "").strip():
        raise FileFormatError(f"{path}: line 1 has a field without identifier: {text.strip()!r}")
    return field


def _read_tracks(path: Path, names: Sequence[str], n_within: int) -> dict[str, NDArray[Any]]:
    """Read rows of numbers, a count, and as many times the numbers of one localization."""
    if len({*names, _COUNT}) <= len(names):
        raise FileFormatError(f"{path}: line 1 names a field twice, among {', '.join(names)}")
    rows = path.read_bytes().splitlines()[1:]
    try:
        lines = pa_compute.ascii_trim_whitespace(
            pa.array(rows, pa.large_binary()).cast(pa.large_string())
        )
    except pa.ArrowInvalid as error:
        raise FileFormatError(f"{path}: not readable as text: {error}") from error
    n_cells = pa_compute.count_substring_regex(lines, pattern=r"[^\s\v]+").to_numpy()
    is_row = n_cells > 0
    numbers, n_cells = np.flatnonzero(is_row) + 2, n_cells[is_row]
    if (short := n_cells <= len(names)).any():
        raise FileFormatError(
            f"{path}: line {numbers[short][0]} has {n_cells[short][0]} cells, expected "
            f"{len(names) + 1} and those of the localizations of a track"
        )
    cells = pa_compute.ascii_split_whitespace(
        lines.filter(pa.array(is_row)), max_splits=len(names) + 1
    )
    columns = {
        name: _to_numbers(path, pa_compute.list_element(cells, i), name, numbers)
        for i, name in enumerate((*names, _COUNT))
    }
    counts = columns[_COUNT]
    expected = len(names) + 1 + counts * n_within
    if (wrong := (n_cells != expected) | (counts != np.floor(counts))).any():
        raise FileFormatError(
            f"{path}: line {numbers[wrong][0]} has {n_cells[wrong][0]} cells, its "
            f"{counts[wrong][0]:g} localizations of {n_within} fields make {expected[wrong][0]:g}"
        )
    return columns


def _to_numbers(
    path: Path, cells: pa.Array, name: str, line_numbers: NDArray[np.int64]
) -> NDArray[np.float64]:
    try:
        numbers: NDArray[np.float64] = cells.cast(pa.float64()).to_numpy()
        return numbers
    except pa.ArrowInvalid:
        values = [as_number(cell) for cell in cells.to_pylist()]
    if None in values:
        place = values.index(None)
        raise FileFormatError(
            f"{path}: line {line_numbers[place]}, column '{name}': "
            f"{cells[place].as_py()[:40]!r} is not a number"
        )
    return np.array(values, np.float64)


def _to_table(
    path: Path,
    fields: Sequence[_Field],
    cells: Mapping[str, NDArray[Any]],
    pixel_size: float | None,
) -> dict[str, NDArray[Any]]:
    units = {field["identifier"]: field.get("unit", "").strip() for field in fields}
    columns: dict[str, NDArray[Any]] = {}
    for identifier, values in cells.items():
        name = _MEANINGS.get(identifier, identifier)
        if name in columns:
            raise FileFormatError(f"{path}: {identifier} is the second field that means {name}")
        if name in ("frame", _COUNT):
            columns[name] = whole(values)
        elif name in LENGTHS:
            factor = length_factor(path, Column(identifier, units[identifier]), pixel_size)
            columns[name] = values * (
                factor / _FWHM_PER_SIGMA if name.startswith("sigma") else factor
            )
        else:
            columns[name] = values
    return columns


def _stated_field(
    path: Path, fields: Sequence[_Field], pixel_size: float | None
) -> FieldOfView | None:
    """Give the box from the first to the last camera pixel, if a range is stated.

    Without the pixel size, it is widened to whole nm, so that the stated range as a whole lies in
    it however its numbers are rounded.
    """
    edges = {}
    for field in fields:
        axis = _MEANINGS.get(field["identifier"], "")
        if axis in ("x", "y") and "max" in field:
            low, high = (_bound(path, field, side) for side in ("min", "max"))
            if pixel_size is None:
                low, high = math.floor(low), math.floor(high) + 1
            else:
                high += pixel_size
            edges[axis] = float(low), float(high)
    if len(edges) < 2:
        return None
    return FieldOfView(edges["y"][0], edges["x"][0], edges["y"][1], edges["x"][1])


def _bound(path: Path, field: _Field, side: str) -> float:
    """Give the first or the last position that is stated, in nm."""
    stated, what = field.get(side, "0"), f"{side} of {field['identifier']}"
    match = _BOUND.fullmatch(stated)
    number = as_number(match[1]) if match else None
    if match and number == 0:
        return 0.0  # in whatever unit
    if match and number is not None:
        bound = number * length_factor(path, Column(what, match[2]), None)
        if math.isfinite(bound):
            return bound
    raise FileFormatError(
        f"{path}: line 1 states {stated[:40]!r} as {what}, expected a length such as '3.2e-5 m': "
        "pass field_of_view= (nm)"
    )
