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
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from smlmkit._atomic import whole_or_nothing
from smlmkit.errors import FileFormatError
from smlmkit.grid import FieldOfView
from smlmkit.io._common import (
    LENGTHS,
    Claims,
    any_numbers,
    check_numbers,
    known_metadata,
    table_from_file,
)
from smlmkit.io._smlm_archive import has_member, opened_archive
from smlmkit.io._smlm_manifest import (
    MANIFEST,
    Entry,
    as_text,
    choose_entries,
    descriptions_in,
    parse_entries,
    parse_note,
    read_manifest,
)
from smlmkit.io._smlm_names import meanings_of
from smlmkit.io._smlm_tables import DTYPES, ReadColumn, read_table
from smlmkit.io._smlm_writing import TABLE, make_manifest, pack, written_kinds
from smlmkit.io._text import length_factor
from smlmkit.localizations import Localizations

_MOST_COLUMNS = 10**6
_RESTORED_DTYPES = frozenset(DTYPES) | {"bool", "float16"}


def recognizes(file: BinaryIO, head: bytes) -> bool:
    r"""Tell whether a file is a ZIP archive with a ``manifest.json``.

    Parameters
    ----------
    file : BinaryIO
        The file, open to be read.
    head : bytes
        How it begins.

    Returns
    -------
    bool
        Whether it is, also if the archive is damaged.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO()
    >>> with zipfile.ZipFile(file, "w") as archive:
    ...     archive.writestr("manifest.json", "{}")
    >>> recognizes(file, file.getvalue())
    True
    """
    if not head.startswith(b"PK\x03\x04"):
        return False
    return MANIFEST.encode() in head or has_member(file, MANIFEST)


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
    with opened_archive(path) as archive, any_numbers():
        manifest = read_manifest(archive)
        entries = choose_entries(path, parse_entries(path, manifest), table)
        tables = [
            _to_table(path, entry, read_table(archive, entry), pixel_size) for entry in entries
        ]
        names = dict.fromkeys(entry.channel for entry in entries)
        channels = {name: number for number, name in enumerate(names)}
        numbers = [channels[entry.channel] for entry in entries]
        columns = _join(path, archive.claims, tables, numbers)
        note = parse_note(path, manifest) if len(entries) == 1 else None
    if note:
        columns = {
            name: _restore(columns[name], as_text(note.dtypes.get(name))) for name in columns
        }
        return table_from_file(path, columns, field_of_view or note.field_of_view, note.metadata)
    metadata = known_metadata(path, "smlm", pixel_size) | descriptions_in(manifest)
    if len(channels) > 1:
        metadata["channels"] = list(channels)
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
    check_numbers(localizations, ".smlm")
    kinds = written_kinds(localizations)
    manifest = make_manifest(localizations, kinds)
    with (
        whole_or_nothing(path, overwrite=overwrite) as partial,
        zipfile.ZipFile(partial, "w") as archive,
    ):
        with archive.open(_new_member(MANIFEST), "w") as member:
            member.write(json.dumps(manifest, indent=1).encode())
        with archive.open(_new_member(TABLE), "w", force_zip64=True) as member:
            for rows in pack(localizations, kinds):
                member.write(rows)


def _to_table(
    path: Path, entry: Entry, columns: Sequence[ReadColumn], pixel_size: float | None
) -> dict[str, NDArray[Any]]:
    """Give the columns their names in smlmkit, and their lengths in nm."""
    names = {column.name for _, column, _ in columns}
    for header in entry.offsets.keys() - {header for header, _, _ in columns}:
        raise FileFormatError(
            f"{path}: {entry.name!r} has an offset for {header!r:.100}, but no such column"
        )
    table: dict[str, NDArray[Any]] = {}
    for header, column, values in columns:
        if values is None:
            continue
        meanings = meanings_of(column)
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


def _join(
    path: Path, claims: Claims, tables: list[dict[str, NDArray[Any]]], channels: list[int]
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
    claims.add("one table of all", 8 * len(names) * sum(len(table["x"]) for table in tables))
    return {
        name: np.concatenate(
            [table.get(name, np.full(len(table["x"]), np.nan)) for table in tables]
        )
        for name in names
    }


def _restore(values: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Give a column the kind of number that it had, unless its numbers would change."""
    if dtype not in _RESTORED_DTYPES or dtype == values.dtype.name:
        return values
    with any_numbers():
        restored = values.astype(dtype)
    return restored if np.array_equal(restored, values, equal_nan=True) else values


def _new_member(name: str) -> zipfile.ZipInfo:
    """Describe a member of no date, so that equal tables make equal files."""
    member = zipfile.ZipInfo(name)
    member.compress_type = zipfile.ZIP_DEFLATED
    return member
