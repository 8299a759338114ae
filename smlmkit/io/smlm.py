"""ShareLoc ``.smlm``, version 0.2: a ZIP archive of tables that its ``manifest.json`` describes.

The manifest gives the header, unit and kind of number of every column. Lengths without a unit are
nm. The format says neither where 0 nm lies nor from which number frames count: positions are taken
to refer to the outer corner of the first camera pixel and frames to count from 0, except in what
ThunderSTORM wrote, which counts from 1.

**Several tables** in one archive become one. Channels of one field are told apart by the column
``channel``, which counts the channels in the manifest's order; ``channels`` in the metadata names
them. Tables of one channel lie where the ``offset`` that the manifest states puts them, such as the
tiles of a larger field: tables of one channel with the same offsets would lie on one another, and
one of them has to be chosen. Images and columns with more than one number a row are left out.
"""

import json
import math
import re
import struct
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from smlmkit._atomic import whole_or_nothing
from smlmkit.errors import FileFormatError, InvalidInputError, SmlmkitError
from smlmkit.grid import FieldOfView, check_field_of_view
from smlmkit.io._common import LENGTHS, check_numbers, table_from_file
from smlmkit.io._text import Column, head_lines, length_factor, parse_header, read_columns, whole
from smlmkit.localizations import Localizations

_MANIFEST = "manifest.json"
_VERSION = re.compile(r"0\.2(\.\d+)?")
_NOTE_KEY, _NOTE_VERSION = "smlmkit", 1
_TABLE, _TABLE_FORMAT = "table-0.bin", "smlm-table(binary)"
# What the manifest says of the sample, in words; it goes to the metadata and comes from there.
_DESCRIPTIONS = (
    "name", "description", "sample", "labeling", "date", "author", "citation", "email",
)  # fmt: skip
_LARGEST_MANIFEST_BYTES = 2**24
_LARGEST_ROW_BYTES = 2**31 - 1
_LAST_HEADER_ROW = 1000
# A small file can claim any number of equal rows, and a manifest can repeat a wide table: what
# would fill more memory than this is refused unless the file itself is large.
_LARGE_TABLE_BYTES = 2**30
_HIGHEST_COMPRESSION = 100
_MOST_COLUMNS = 10**6
_MOST_NAMES = 20  # that a message lists
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1
_DTYPES = {
    np.dtype(kind).name: np.dtype(kind).newbyteorder("<")
    for kind in ("u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f4", "f8")
}
_KEPT_DTYPES = frozenset(_DTYPES) | {"bool", "float16"}
_WRITTEN_AS_THEY_ARE = frozenset({"uint8", "uint16", "uint32", "float32", "float64"})
_LARGEST_UINT32 = 2**32 - 1
_LARGEST_EXACT_FLOAT = 2**53
_ROWS_AT_A_TIME = 2**18
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, TypeError,
    KeyError, IndexError, RuntimeError, ArithmeticError, MemoryError,
)  # fmt: skip

_COUNTS = frozenset({"id", "channel", "detections"})
_IN_PHOTONS = {
    "intensity": "photons",
    "offset": "background",
    "local_background": "background",
}
# What a column stands for, where that is not a column of the same name: in ShareLoc's own words, in
# those of Locan and of ThunderSTORM.
_MEANINGS = {
    **{f"{axis}_precision": (f"uncertainty_{axis}",) for axis in "xyz"},
    **{f"position_{axis}": (axis,) for axis in "xyz"},
    **{f"psf_sigma_{axis}": (f"sigma_{axis}",) for axis in "xy"},
    **dict.fromkeys(("uncertainty", "uncertainty_xy"), ("uncertainty_x", "uncertainty_y")),
    **dict.fromkeys(("sigma", "psf_sigma"), ("sigma_x", "sigma_y")),
    "sigma1": ("sigma_x",),
    "sigma2": ("sigma_y",),
}
_WRITTEN = {
    "photons": Column("intensity", "photon"),
    "background": Column("background", "photon"),
    "frame": Column("frame", "frame"),
    **{f"uncertainty_{axis}": Column(f"{axis}_precision", "nm") for axis in "xyz"},
}
# ShareLoc's web page makes intensity_photon_ of ThunderSTORM's "intensity [photon]".
_UNIT_IN_NAME = re.compile(r"(.+)_(nm|um|px|photon|photons)_")
_MICRO = str.maketrans("µμ", "uu")


class _Entry(NamedTuple):
    """A table as the manifest describes it."""

    name: str
    channel: str
    format: Mapping[str, Any]
    rows: object
    offsets: Mapping[str, float]
    counts_from_one: bool


class _Field(NamedTuple):
    """A column of a binary table; `dtype` is None where a row holds more than one number."""

    header: str
    column: Column
    dtype: "np.dtype[Any] | None"
    n_bytes: int


class _Values(NamedTuple):
    """A column as the file holds it."""

    header: str
    column: Column
    values: NDArray[Any]


class _Note(NamedTuple):
    """What smlmkit adds to the manifest, so that a table comes back as it was."""

    field_of_view: FieldOfView
    metadata: dict[str, Any]
    dtypes: dict[str, str]


def recognizes(path: Path, head: bytes) -> bool:
    r"""Tell whether a file is a ZIP archive with a ``manifest.json``.

    Parameters
    ----------
    path : Path
        The file.
    head : bytes
        Its beginning.

    Returns
    -------
    bool
        Whether it is, also if the archive is damaged.

    Examples
    --------
    >>> recognizes(Path("blinks.csv"), b"x,y\n1,2\n")
    False
    """
    if not head.startswith(b"PK\x03\x04"):
        return False
    if _MANIFEST.encode() in head:
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            return _MANIFEST in archive.namelist()
    except _DAMAGE:
        return False


def read(
    path: Path,
    *,
    pixel_size: float | None = None,
    field_of_view: FieldOfView | None = None,
    table: str | None = None,
) -> Localizations:
    """Read a ``.smlm`` file; several tables become one as described above.

    The manifest's ``offset`` of a column is added to its numbers. Then lengths become nm.
    ``x_precision`` becomes ``uncertainty_x``, ``intensity`` becomes ``photons`` if it is in photons
    and keeps its name otherwise. What only some of the tables hold is NaN in the others,
    except frames, which all of them have or none.

    Parameters
    ----------
    path : Path
        The file.
    pixel_size : float, optional
        Edge of a camera pixel in nm, for columns in px.
    field_of_view : FieldOfView, optional
        The box in nm that was imaged, instead of what smlmkit noted in the file; the smallest box
        of whole nm around the rows if nothing is noted.
    table : str, optional
        The name of the one table to read, as the manifest gives it; all of them by default.

    Returns
    -------
    Localizations
        The table.

    Raises
    ------
    FileFormatError
        If the file is damaged or of another version, holds something else than it states, or if
        what is needed is not known: the message names the table and the column.

    Examples
    --------
    >>> import tempfile
    >>> binary = {"type": "table", "mode": "binary", "headers": ["x", "y"], "shape": [1, 1]}
    >>> binary |= {"dtype": ["uint8", "uint8"], "units": ["um", "nm"]}
    >>> entry = {"name": "a.bin", "type": "table", "format": "b", "rows": 1, "offset": {"y": -3}}
    >>> manifest = {"format_version": "0.2", "formats": {"b": binary}, "files": [entry]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "blinks.smlm")
    ...     with zipfile.ZipFile(file, "w") as archive:
    ...         archive.writestr("manifest.json", json.dumps(manifest))
    ...         archive.writestr("a.bin", bytes([2, 5]))
    ...     blinks = read(file)
    >>> blinks["x"], blinks["y"], blinks.metadata["format"]
    (array([2000.]), array([2.]), 'smlm')
    """
    with _open_archive(path) as archive:
        manifest = _read_manifest(path, archive)
        entries = _choose(path, _parse_entries(path, manifest), table)
        tables = [
            _to_table(path, entry, _read_table(path, archive, entry), pixel_size)
            for entry in _check_entries(path, entries)
        ]
        names = dict.fromkeys(entry.channel for entry in entries)
        channels = {name: number for number, name in enumerate(names)}
        columns = _join(path, tables, [channels[entry.channel] for entry in entries])
        note = _parse_note(path, manifest) if len(entries) == 1 else None
    if note:
        columns = {name: _restore(columns[name], _text(note.dtypes.get(name))) for name in columns}
        return table_from_file(path, columns, field_of_view or note.field_of_view, note.metadata)
    metadata: dict[str, Any] = {"source": path.name, "format": "smlm"}
    metadata |= {key: text for key in _DESCRIPTIONS if (text := _text(manifest.get(key)))}
    if len(channels) > 1:
        metadata["channels"] = list(channels)
    if pixel_size is not None:
        metadata["camera_pixel_size"] = pixel_size
    return table_from_file(path, columns, field_of_view, metadata)


def write(localizations: Localizations, path: Path, *, overwrite: bool = False) -> None:
    """Write a ``.smlm`` file with one binary table, from which `read` gives an equal table.

    The format knows whole numbers from 0 to 2**32 - 1: negative ones are written with an offset.
    The field of view and the metadata are noted in the manifest under the key ``smlmkit``;
    ``sample``, ``labeling`` and the format's other words for what was imaged are also written where
    other programs find them, if the metadata hold them.

    Parameters
    ----------
    localizations : Localizations
        The table.
    path : Path
        Where to write.
    overwrite : bool, default=False
        Whether a file that stands there is replaced.

    Raises
    ------
    InvalidInputError
        If a column is not of numbers that the format can hold exactly, or its name has another
        meaning in such a file.
    OutputError
        If the file exists and is not to be replaced, or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> blinks = Localizations({"x": [10.5], "y": [20.0], "frame": [0], "photons": [900]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(blinks, Path(folder, "blinks.smlm"))
    ...     with zipfile.ZipFile(f"{folder}/blinks.smlm") as archive:
    ...         binary = json.loads(archive.read("manifest.json"))["formats"]["smlm-table(binary)"]
    >>> dict(zip(binary["headers"], binary["units"]))
    {'x': 'nm', 'y': 'nm', 'frame': 'frame', 'intensity': 'photon'}
    """
    headers = _headers_of(localizations)
    kinds = {name: _written_kind(name, localizations[name]) for name in localizations}
    manifest = _make_manifest(localizations, headers, kinds)
    with (
        whole_or_nothing(path, overwrite=overwrite) as partial,
        zipfile.ZipFile(partial, "w") as archive,
    ):
        with archive.open(_new_member(_MANIFEST), "w") as member:
            member.write(json.dumps(manifest, indent=1).encode())
        with archive.open(_new_member(_TABLE), "w", force_zip64=True) as member:
            for records in _pack(localizations, kinds):
                member.write(records.tobytes())


@contextmanager
def _open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if len(set(names)) < len(names):
                raise FileFormatError(f"{path}: two members of the archive have the same name")
            yield archive
    except SmlmkitError:
        raise
    except _DAMAGE as error:
        reason = str(error) or type(error).__name__
        raise FileFormatError(f"{path}: the .smlm archive is damaged: {reason}") from error


def _find_member(path: Path, archive: zipfile.ZipFile, stated: str) -> zipfile.ZipInfo:
    """Find a member of the archive that can be read; no name leads out of the archive."""
    name = PurePosixPath(stated)
    if name.is_absolute() or ".." in name.parts:
        raise FileFormatError(f"{path}: {stated!r} lies outside of the archive: not followed")
    try:
        member = archive.getinfo(str(name))
    except KeyError:
        raise FileFormatError(f"{path}: no {stated!r} in the archive") from None
    if member.flag_bits & _ENCRYPTED:
        raise FileFormatError(f"{path}: {stated!r} is encrypted")
    if member.compress_type not in _COMPRESSIONS:
        raise FileFormatError(
            f"{path}: {stated!r} is compressed by method {member.compress_type}, expected DEFLATE"
        )
    return member


def _read_member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Read as many bytes as are stated, however many there are; the archive checks their sum."""
    with archive.open(member) as file:
        content = file.read(member.file_size)
    if len(content) != member.file_size:
        raise FileFormatError(
            f"{path}: {member.filename!r} ends after {len(content):,} of {member.file_size:,} bytes"
        )
    return content


def _check_size(path: Path, claimed_bytes: int) -> None:
    file_bytes = path.stat().st_size
    if claimed_bytes > max(_LARGE_TABLE_BYTES, _HIGHEST_COMPRESSION * file_bytes):
        raise FileFormatError(
            f"{path}: a file of {file_bytes:,} bytes cannot hold the {claimed_bytes:,} bytes of "
            "tables that it claims"
        )


def _read_manifest(path: Path, archive: zipfile.ZipFile) -> dict[str, Any]:
    member = _find_member(path, archive, _MANIFEST)
    if member.file_size > _LARGEST_MANIFEST_BYTES:
        raise FileFormatError(
            f"{path}: {_MANIFEST} is larger than {_LARGEST_MANIFEST_BYTES:,} bytes"
        )
    try:
        manifest = json.loads(_read_member(path, archive, member))
    except (ValueError, RecursionError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(f"{path}: {_MANIFEST} is not readable as JSON: {error}") from error
    if not isinstance(manifest, dict) or "format_version" not in manifest:
        raise FileFormatError(f"{path}: {_MANIFEST} states no format_version: not a .smlm file")
    version = manifest["format_version"]
    if not _VERSION.fullmatch(str(version)):
        raise FileFormatError(f"{path}: version {version!r} of the format, expected '0.2'")
    return manifest


def _parse_entries(path: Path, manifest: Mapping[str, Any]) -> list[_Entry]:
    """Give the tables among the files of the manifest."""
    formats = _mapping(path, "formats", manifest.get("formats"))
    files = _list(path, "files", manifest.get("files"))
    tables = [
        file
        for number, stated in enumerate(files)
        if _word(file := _mapping(path, f"files[{number}]", stated), "type") == "table"
    ]
    return [_parse_entry(path, file, formats) for file in tables]


def _parse_entry(path: Path, file: Mapping[str, Any], formats: Mapping[str, Any]) -> _Entry:
    name, key = _text(file.get("name")), _text(file.get("format"))
    if not name:
        raise FileFormatError(f"{path}: a table has no name in {_MANIFEST}")
    if key not in formats:
        raise FileFormatError(f"{path}: the format {key!r} of {name!r} is not described")
    offsets = {
        header: _number(path, f"offset of {header!r} in {name!r}", offset)
        for header, offset in _mapping(path, f"offset of {name!r}", file.get("offset")).items()
    }
    return _Entry(
        name,
        str(file.get("channel") or "default"),
        _mapping(path, f"format {key!r}", formats[key]),
        file.get("rows"),
        {header: offset for header, offset in offsets.items() if offset},
        "thunderstorm" in f"{name} {key}".lower(),
    )


def _choose(path: Path, entries: list[_Entry], name: str | None) -> list[_Entry]:
    known = ", ".join(repr(entry.name) for entry in entries[:_MOST_NAMES])
    if not entries:
        raise FileFormatError(f"{path}: there is no table in the archive")
    if name is not None:
        entries = [entry for entry in entries if entry.name == name]
        if not entries:
            raise InvalidInputError(f"{path}: no table {name!r}; there are {known}")
    if len({entry.name for entry in entries}) < len(entries):
        raise FileFormatError(f"{path}: {_MANIFEST} lists one table twice: {known}")
    places = {(entry.channel, frozenset(entry.offsets.items())) for entry in entries}
    if len(places) < len(entries):
        raise FileFormatError(
            f"{path}: tables of one channel lie at the same place, as if they were different "
            f"fields of view: pass table= to read one of {known}"
        )
    return entries


def _check_entries(path: Path, entries: Sequence[_Entry]) -> Sequence[_Entry]:
    """Refuse more columns than anybody has, in all tables together."""
    n_columns = sum(len(_list(path, "headers", entry.format.get("headers"))) for entry in entries)
    if n_columns > _MOST_COLUMNS:
        raise FileFormatError(f"{path}: its tables have {n_columns:,} columns together")
    return entries


def _read_table(path: Path, archive: zipfile.ZipFile, entry: _Entry) -> list[_Values]:
    member = _find_member(path, archive, entry.name)
    mode = _word(entry.format, "mode")
    if mode == "binary":
        fields = _parse_fields(path, entry)
        rows = _whole_number(path, f"rows of {entry.name!r}", entry.rows)
        row_bytes = sum(field.n_bytes for field in fields)
        if member.file_size != rows * row_bytes:
            raise FileFormatError(
                f"{path}: {entry.name!r} holds {member.file_size:,} bytes, "
                f"expected {rows:,} rows of {row_bytes:,} bytes"
            )
        _check_size(path, rows * max(row_bytes, 8 * len(fields)))
        return _split_records(_read_member(path, archive, member), fields)
    if mode == "text":
        _check_size(path, member.file_size)
        return _parse_text(path, entry, _read_member(path, archive, member))
    raise FileFormatError(
        f"{path}: {entry.name!r} is in the mode {entry.format.get('mode')!r}, "
        "expected 'binary' or 'text'"
    )


def _parse_fields(path: Path, entry: _Entry) -> list[_Field]:
    """Give the columns of a binary table."""
    stated = {
        key: _list(path, f"{key} of {entry.name!r}", entry.format.get(key))
        for key in ("headers", "dtype", "shape")
    }
    headers = stated["headers"]
    columns = _columns_of(path, entry, headers)
    n_columns = entry.format.get("columns", len(headers))
    lengths = {key: len(values) for key, values in stated.items()}
    lengths["columns"] = _whole_number(path, f"columns of {entry.name!r}", n_columns)
    if len(set(lengths.values())) > 1:
        raise FileFormatError(f"{path}: {entry.name!r} has columns of unequal numbers: {lengths}")
    fields = []
    kinds_and_shapes = zip(stated["dtype"], stated["shape"], strict=True)
    for header, column, (kind, shape) in zip(headers, columns, kinds_and_shapes, strict=True):
        dtype = _DTYPES.get(str(kind).lower())
        if dtype is None:
            raise FileFormatError(
                f"{path}: column {header!r} of {entry.name!r} holds {kind!r}, "
                f"expected one of {', '.join(_DTYPES)}"
            )
        what = f"shape of {header!r} in {entry.name!r}"
        sizes = shape if isinstance(shape, list) else [shape]
        n_numbers = math.prod(_whole_number(path, what, size) for size in sizes)
        is_plain = n_numbers == 1
        fields.append(
            _Field(header, column, dtype if is_plain else None, n_numbers * dtype.itemsize)
        )
    if sum(field.n_bytes for field in fields) > _LARGEST_ROW_BYTES:
        raise FileFormatError(f"{path}: a row of {entry.name!r} is larger than 2 GiB")
    return fields


def _columns_of(path: Path, entry: _Entry, headers: Sequence[object]) -> list[Column]:
    """Give the columns that these headers and the format's units stand for."""
    if not all(isinstance(header, str) and header for header in headers):
        raise FileFormatError(f"{path}: a column of {entry.name!r} has no name")
    if len(set(headers)) < len(headers):
        twice = Counter(headers).most_common(1)[0][0]
        raise FileFormatError(f"{path}: two columns of {entry.name!r} are named {twice!r}")
    units = entry.format.get("units") or []
    if isinstance(units, dict):
        units = [units.get(header) for header in headers]
    if not isinstance(units, list) or len(units) not in (0, len(headers)):
        raise FileFormatError(
            f"{path}: {entry.name!r} has {len(headers)} columns and the units {units!r:.200}"
        )
    pairs = zip(headers, units or [""] * len(headers), strict=True)
    return [_to_column(str(header), _text(unit)) for header, unit in pairs]


def _to_column(header: str, unit: str) -> Column:
    sanitized = _UNIT_IN_NAME.fullmatch(header)
    name, unit_in_name = sanitized.groups() if sanitized else (header, "")
    return Column(name, unit.strip().translate(_MICRO) or unit_in_name)


def _split_records(content: bytes, fields: Sequence[_Field]) -> list[_Values]:
    starts = np.cumsum([0, *(field.n_bytes for field in fields)]).tolist()
    plain = [(field, start) for field, start in zip(fields, starts, strict=False) if field.dtype]
    if not plain:
        return []
    records = np.frombuffer(
        content,
        np.dtype(
            {
                "names": [str(start) for _, start in plain],
                "formats": [field.dtype for field, _ in plain],
                "offsets": [start for _, start in plain],
                "itemsize": starts[-1],
            }
        ),
    )
    return [
        _Values(
            field.header, field.column, records[str(start)].astype(field.dtype.newbyteorder("="))
        )
        for field, start in plain
        if field.dtype
    ]


def _parse_text(path: Path, entry: _Entry, content: bytes) -> list[_Values]:
    delimiter, comments = entry.format.get("delimiter"), _text(entry.format.get("comments"))
    if not isinstance(delimiter, str) or not re.fullmatch(r"[\t -~]", delimiter):
        raise FileFormatError(f"{path}: {entry.name!r} has the delimiter {delimiter!r}")
    what = f"header_row of {entry.name!r}"
    header_row = _whole_number(path, what, entry.format.get("header_row", 0), low=-1)
    if header_row > _LAST_HEADER_ROW:
        raise FileFormatError(
            f"{path}: {what} is {header_row}, expected {_LAST_HEADER_ROW} at most"
        )
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "rows")
        copy.write_bytes(content)
        try:
            top = head_lines(copy, _LAST_HEADER_ROW + 1)
            columns = _columns_of_text(path, entry, top, header_row, delimiter, comments)
            if comments:
                copy.write_bytes(_blank_comments(content, comments))
            names = [column.name for column in columns]
            cells = read_columns(copy, names, delimiter=delimiter, first_line=header_row + 2)
        except FileFormatError as error:
            problem = str(error).removeprefix(f"{path}: ").removeprefix(f"{copy}: ")
            raise FileFormatError(f"{path}: {entry.name!r}: {problem}") from None
    n_rows = len(next(iter(cells.values()), []))
    if entry.rows is not None and n_rows != _whole_number(path, "rows", entry.rows):
        raise FileFormatError(f"{path}: {entry.name!r} has {n_rows:,} rows, not {entry.rows!r:.20}")
    return [
        _Values(name, column, whole(cells[name]) if name in _COUNTS else cells[name])
        for name, column in zip(names, columns, strict=True)
    ]


def _columns_of_text(
    path: Path, entry: _Entry, top: list[str], header_row: int, delimiter: str, comments: str
) -> list[Column]:
    """Give the columns of a table of text, as its header and the manifest name them."""
    transform = _mapping(path, "header_transform", entry.format.get("header_transform"))
    if "*all*" in transform:
        raise FileFormatError(
            f"{path}: a regular expression finds the names of the columns: not followed; "
            "unzip the file and read it in its own format"
        )
    names = {str(parse_header(key, "\0")[0]): _text(name) for key, name in transform.items()}
    if header_row >= len(top):
        raise FileFormatError(f"{path}: there is no line {header_row + 1}, which names the columns")
    if header_row >= 0:
        header = top[header_row].removeprefix(comments).strip("\r\n ")
        found = parse_header(header, delimiter)
    else:
        rows = (
            line for line in top if line.strip() and not (comments and line.startswith(comments))
        )
        cells = parse_header(next(rows, ""), delimiter)
        found = [Column(str(position), "") for position in range(len(cells))]
    renamed = [Column(names.get(str(column)) or column.name, column.unit) for column in found]
    stated = _columns_of(path, entry, [column.name for column in renamed])
    return [
        Column(column.name, column.unit or own.unit)
        for column, own in zip(stated, renamed, strict=True)
    ]


def _blank_comments(content: bytes, comments: str) -> bytes:
    """Empty the lines that are comments; the others keep their numbers."""
    return re.sub(rb"(?m)^[ \t]*" + re.escape(comments.encode()) + rb"[^\r\n]*", b"", content)


def _to_table(
    path: Path, entry: _Entry, columns: Sequence[_Values], pixel_size: float | None
) -> dict[str, NDArray[Any]]:
    """Give the columns their names in smlmkit, and their lengths in nm."""
    names = {column.name for _, column, _ in columns}
    unknown = entry.offsets.keys() - {header for header, _, _ in columns}
    if unknown:
        raise FileFormatError(f"{path}: {entry.name!r} has an offset for {min(unknown)!r} only")
    table: dict[str, NDArray[Any]] = {}
    for header, column, values in columns:
        meanings = _meanings(column)
        if offset := entry.offsets.get(header):
            values = values.astype(np.float64) + offset
        if not LENGTHS.isdisjoint(meanings):
            factor = length_factor(path, column._replace(unit=column.unit or "nm"), pixel_size)
            values = values if factor == 1 else values.astype(np.float64) * factor
        if column.name == "frame" and entry.counts_from_one:
            values = values.astype(np.float64) - 1
        for name in meanings:
            if name != column.name and name in names:
                continue  # the column of that very name is more precise
            if name in table:
                raise FileFormatError(
                    f"{path}: column {header!r} of {entry.name!r} is the second that means {name}"
                )
            table[name] = values
    if not {"x", "y"} <= table.keys():
        raise FileFormatError(
            f"{path}: {entry.name!r} lacks the column x or y; "
            f"there are {', '.join(table) or 'none':.500}"
        )
    return table


def _meanings(column: Column) -> tuple[str, ...]:
    if column.unit in ("photon", "photons") and column.name in _IN_PHOTONS:
        return (_IN_PHOTONS[column.name],)
    return _MEANINGS.get(column.name, (column.name,))


def _join(
    path: Path, tables: list[dict[str, NDArray[Any]]], channels: list[int]
) -> dict[str, NDArray[Any]]:
    """Make one table; tables of several channels get a column that tells them apart."""
    if len(set(channels)) > 1 and not any("channel" in table for table in tables):
        for table, channel in zip(tables, channels, strict=True):
            table["channel"] = np.full(len(table["x"]), channel)
    if len(tables) == 1:
        return tables[0]
    names = list(dict.fromkeys(name for table in tables for name in table))
    if len(names) * len(tables) > _MOST_COLUMNS:
        raise FileFormatError(f"{path}: {len(tables):,} tables have {len(names):,} other columns")
    if "frame" in names and not all("frame" in table for table in tables):
        raise FileFormatError(f"{path}: only some of its tables have frames: pass table= for one")
    _check_size(path, 8 * len(names) * sum(len(table["x"]) for table in tables))
    return {
        name: np.concatenate(
            [table.get(name, np.full(len(table["x"]), np.nan)) for table in tables]
        )
        for name in names
    }


def _parse_note(path: Path, manifest: Mapping[str, Any]) -> _Note | None:
    if _NOTE_KEY not in manifest:
        return None
    try:
        note = json.loads(manifest[_NOTE_KEY])
        if note["version"] != _NOTE_VERSION:
            raise FileFormatError(
                f"{path}: written in version {note['version']} of the note, "
                f"this smlmkit knows version {_NOTE_VERSION}"
            )
        field = check_field_of_view(note["field_of_view"])
        return _Note(field, dict(note["metadata"]), dict(note["dtypes"]))
    except FileFormatError:
        raise
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise FileFormatError(
            f"{path}: what {_MANIFEST} states under {_NOTE_KEY} is damaged: {error!r}"
        ) from error


def _restore(values: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Give a column the kind of number that it had, unless its numbers would change."""
    if dtype not in _KEPT_DTYPES or dtype == values.dtype.name:
        return values
    with np.errstate(all="ignore"):
        restored = values.astype(dtype)
    return restored if np.array_equal(restored, values, equal_nan=True) else values


def _mapping(path: Path, what: str, stated: object) -> dict[str, Any]:
    if stated is None:
        return {}
    if not isinstance(stated, dict):
        raise FileFormatError(f"{path}: {what} in {_MANIFEST} is {stated!r:.100}, not an object")
    return stated


def _list(path: Path, what: str, stated: object) -> list[Any]:
    if stated is None:
        return []
    if not isinstance(stated, list):
        raise FileFormatError(f"{path}: {what} in {_MANIFEST} is {stated!r:.100}, not a list")
    return stated


def _text(stated: object) -> str:
    return stated if isinstance(stated, str) else ""


def _word(stated: Mapping[str, Any], key: str) -> str:
    return _text(stated.get(key)).lower()


def _number(path: Path, what: str, stated: object) -> float:
    """Read a number, which may stand there as text, as programs that use protobuf write it."""
    try:
        number = math.nan if isinstance(stated, bool) else float(stated)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise FileFormatError(f"{path}: {what} is {stated!r:.100}, not a number")
    return number


def _whole_number(path: Path, what: str, stated: object, *, low: int = 0) -> int:
    number = _number(path, what, stated)
    if not number.is_integer() or not low <= number <= _LARGEST_EXACT_FLOAT:
        raise FileFormatError(f"{path}: {what} is {stated!r:.100}, not a whole number from {low}")
    return int(number)


def _headers_of(localizations: Localizations) -> dict[str, Column]:
    check_numbers(localizations, ".smlm")
    headers = {
        name: _WRITTEN.get(name, Column(name, "nm" if name in LENGTHS else ""))
        for name in localizations
    }
    taken = [header for header, _ in headers.values()]
    for name, (header, unit) in headers.items():
        comes_back = _meanings(_to_column(header, unit)) == (name,)
        if not name or not comes_back or taken.count(header) > 1:
            raise InvalidInputError(
                f"column {name!r}: a .smlm file would give it back as another one; rename it"
            )
    return headers


def _written_kind(name: str, values: NDArray[Any]) -> tuple[str, int]:
    """Give the kind of number that holds a column exactly, and what is added to it on reading."""
    kind = values.dtype
    if kind.name in _WRITTEN_AS_THEY_ARE:
        return kind.name, 0
    if kind.kind == "b":
        return "uint8", 0
    if kind.kind == "f" and kind.itemsize < 4:
        return "float32", 0
    if kind.kind in "iu":
        low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
        offset = min(low, 0)
        if max(-low, high) <= _LARGEST_EXACT_FLOAT:
            return ("uint32", offset) if high - offset <= _LARGEST_UINT32 else ("float64", 0)
    raise InvalidInputError(
        f"column {name!r} (dtype {kind}) cannot be written: "
        "a .smlm file does not hold its numbers exactly"
    )


def _make_manifest(
    localizations: Localizations,
    headers: Mapping[str, Column],
    kinds: Mapping[str, tuple[str, int]],
) -> dict[str, Any]:
    metadata = localizations.metadata
    note = {
        "version": _NOTE_VERSION,
        "field_of_view": localizations.field_of_view,
        "metadata": metadata,
        "dtypes": {name: localizations[name].dtype.name for name in localizations},
    }
    table_format = {
        "name": _TABLE_FORMAT,
        "type": "table",
        "mode": "binary",
        "extension": ".bin",
        "columns": len(headers),
        "headers": [header for header, _ in headers.values()],
        "dtype": [dtype for dtype, _ in kinds.values()],
        "shape": [1] * len(headers),
        "units": [unit for _, unit in headers.values()],
    }
    entry = {
        "name": _TABLE,
        "type": "table",
        "format": _TABLE_FORMAT,
        "channel": "default",
        "rows": len(localizations),
        "offset": {headers[name].name: offset for name, (_, offset) in kinds.items() if offset},
    }
    return {
        "format_version": "0.2",
        "formats": {_TABLE_FORMAT: table_format},
        "files": [entry],
        **{key: text for key in _DESCRIPTIONS if (text := _text(metadata.get(key)))},
        # As text: the metadata may hold NaN, which is no JSON for other programs.
        _NOTE_KEY: json.dumps(note),
    }


def _new_member(name: str) -> zipfile.ZipInfo:
    """Describe a member of no date, so that equal tables make equal files."""
    member = zipfile.ZipInfo(name)
    member.compress_type = zipfile.ZIP_DEFLATED
    return member


def _pack(
    localizations: Localizations, kinds: Mapping[str, tuple[str, int]]
) -> Iterator[NDArray[Any]]:
    """Give the packed rows, some at a time."""
    packed = np.dtype([(str(i), _DTYPES[dtype]) for i, (dtype, _) in enumerate(kinds.values())])
    for start in range(0, len(localizations), _ROWS_AT_A_TIME):
        stop = min(start + _ROWS_AT_A_TIME, len(localizations))
        records = np.empty(stop - start, packed)
        for i, (name, (_, offset)) in enumerate(kinds.items()):
            values = localizations[name][start:stop]
            records[str(i)] = values.astype(np.int64) - offset if offset else values
        yield records
