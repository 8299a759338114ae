"""rapidSTORM: text whose first line describes the columns in XML, then numbers between blanks.

**Origin.** The centre of the first camera pixel is 0, and the range that the file states ends at
the centre of the last one. To refer to the outer corner of the first pixel, as everywhere else in
smlmkit, positions need half a camera pixel more. No field of a file states the size of one, so
``pixel_size=`` is asked for; the field of view then covers the outermost pixels as a whole.

Lengths are nm, widths are full widths at half maximum, intensities are counts of the camera. Frames
are counted from 0.
"""

import math
import re
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from smlmkit.errors import FileFormatError
from smlmkit.grid import FieldOfView
from smlmkit.io._common import known_metadata, table_from_file
from smlmkit.io._named_columns import (
    divide_widths,
    find_sources,
    read_first_line,
    to_table,
)
from smlmkit.io._text import Column, as_number, length_factor, read_columns
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
_QUOTED = 40
_FWHM_PER_SIGMA = 2 * math.sqrt(2 * math.log(2))

_Field = Mapping[str, str]


class _Header(NamedTuple):
    """The fields of a row; in a file of tracks, also those of each localization of a track."""

    fields: list[_Field]
    fields_within: list[_Field] | None


def recognizes(file: BinaryIO, head: bytes) -> bool:
    """Tell whether a file begins with the XML of rapidSTORM.

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
    >>> line = b'# <localizations insequence="true">'
    >>> recognizes(io.BytesIO(line), line)
    True
    """
    del file
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
        Edge of a camera pixel in nm. It is needed: positions refer to the centre of the first
        camera pixel, and no file states its size.
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
        If the first line is not understood, a row does not have as many numbers as it says, a cell
        is no number, or `pixel_size` is missing.

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
    header = _parse_header(path, read_first_line(path))
    columns = [
        Column(field["identifier"], field.get("unit", "").strip()) for field in header.fields
    ]
    if header.fields_within is not None:
        columns.append(Column("detections", ""))
    meanings = [(_MEANINGS.get(column.name, column.name),) for column in columns]
    sources = find_sources(path, columns, meanings, pixel_size=pixel_size)
    if pixel_size is None:
        raise FileFormatError(
            f"{path}: positions refer to the centre of the first camera pixel, whose size the file "
            "does not state: pass pixel_size= (nm)"
        )
    labels = list(map(str, columns))
    if header.fields_within is None:
        cells = read_columns(path, labels, delimiter=" ", first_line=2)
    else:
        cells = _read_tracks(path, labels, len(header.fields_within))
    table = divide_widths(to_table(sources, cells, first_frame=0), _FWHM_PER_SIGMA)
    table |= {axis: table[axis] + pixel_size / 2 for axis in "xy"}
    box = field_of_view or _stated_field(path, header.fields, pixel_size)
    return table_from_file(path, table, box, known_metadata(path, "rapidstorm", pixel_size))


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
        f"{path}: line 1 describes no columns as rapidSTORM does, in {text[:_QUOTED]!r}: expected "
        "<localizations><field identifier=... /> ... </localizations>"
    )


def _attributes(path: Path, text: str) -> _Field:
    field = {name: first or second for name, first, second in _ATTRIBUTE.findall(text)}
    if not field.get("identifier", "").strip():
        raise FileFormatError(f"{path}: line 1 has a field without identifier: {text.strip()!r}")
    return field


def _read_tracks(
    path: Path, labels: Sequence[str], n_within: int
) -> dict[str, NDArray[np.float64]]:
    """Read rows of numbers, a count, and as many times the numbers of one localization."""
    if len(set(labels)) < len(labels):
        raise FileFormatError(f"{path}: line 1 names a field twice, among {', '.join(labels)}")
    numbers = array("d")
    for line, row in enumerate(path.read_bytes().splitlines(), start=1):
        cells = row.split()
        if line > 1 and cells:
            numbers.extend(_read_track(path, line, cells, labels, n_within))
    columns = np.ascontiguousarray(np.array(numbers).reshape(-1, len(labels)).T)
    return dict(zip(labels, columns, strict=True))


def _read_track(
    path: Path, line: int, cells: Sequence[bytes], labels: Sequence[str], n_within: int
) -> list[float]:
    if len(cells) < len(labels):
        raise FileFormatError(
            f"{path}: line {line} has {len(cells)} cells, expected {len(labels)} and those of the "
            "localizations of a track"
        )
    numbers = []
    for label, cell in zip(labels, cells, strict=False):
        number = as_number(cell.decode(errors="replace"))
        if number is None:
            raise FileFormatError(
                f"{path}: line {line}, column '{label}': "
                f"{cell[:_QUOTED].decode(errors='replace')!r} is not a number"
            )
        numbers.append(number)
    *_, count = numbers
    expected = len(labels) + count * n_within
    if len(cells) != expected or not count.is_integer():
        raise FileFormatError(
            f"{path}: line {line} has {len(cells)} cells, its {count:g} localizations of "
            f"{n_within} fields make {expected:g}"
        )
    return numbers


def _stated_field(path: Path, fields: Sequence[_Field], pixel_size: float) -> FieldOfView | None:
    """Give the box from the first to the last camera pixel, if a range is stated."""
    edges = {}
    for field in fields:
        axis = _MEANINGS.get(field["identifier"], "")
        if axis in ("x", "y") and "max" in field:
            low, high = (_bound(path, field, side) for side in ("min", "max"))
            edges[axis] = low, high + pixel_size
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
        f"{path}: line 1 states {stated[:_QUOTED]!r} as {what}, expected a length such as "
        "'3.2e-5 m': pass field_of_view= (nm)"
    )
