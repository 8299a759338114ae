"""The ``manifest.json`` of a ``.smlm`` file: which tables there are, and what is said of them."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from smlmkit.errors import FileFormatError, InvalidInputError
from smlmkit.grid import FieldOfView, check_field_of_view
from smlmkit.io._common import parse_json_object
from smlmkit.io._smlm_archive import Archive

MANIFEST = "manifest.json"
NOTE_KEY, NOTE_VERSION = "smlmkit", 1
LARGEST_EXACT_FLOAT = 2**53
_VERSION = re.compile(r"0\.2(\.\d+)?")
# What the manifest says of the sample, in words; it goes to the metadata and comes from there.
_DESCRIPTIONS = (
    "name", "description", "sample", "labeling", "date", "author", "citation", "email",
)  # fmt: skip
_LARGEST_MANIFEST_BYTES = 2**24
_LONGEST_NAME = 1000
_MOST_COLUMNS = 10**6
_MOST_NAMED = 20


class Entry(NamedTuple):
    """A table as the manifest describes it."""

    name: str
    channel: str
    format: Mapping[str, Any]
    rows: object
    offsets: Mapping[str, float]
    counts_from_one: bool


class Note(NamedTuple):
    """What smlmkit adds to the manifest, so that a table comes back as it was."""

    field_of_view: FieldOfView
    metadata: dict[str, Any]
    dtypes: dict[str, str]


def read_manifest(archive: Archive) -> dict[str, Any]:
    """Read the manifest, of a version that is known."""
    path, member = archive.path, archive.find(MANIFEST)
    if member.file_size > _LARGEST_MANIFEST_BYTES:
        raise FileFormatError(
            f"{path}: {MANIFEST} is larger than {_LARGEST_MANIFEST_BYTES:,} bytes"
        )
    manifest = parse_json_object(path, MANIFEST, archive.read(member))
    if "format_version" not in manifest:
        raise FileFormatError(f"{path}: {MANIFEST} states no format_version: not a .smlm file")
    version = manifest["format_version"]
    if not _VERSION.fullmatch(str(version)):
        raise FileFormatError(f"{path}: version {version!r:.100} of the format, expected '0.2'")
    return manifest


def parse_entries(path: Path, manifest: Mapping[str, Any]) -> list[Entry]:
    """Give the tables among the files of the manifest."""
    formats = as_mapping(path, "formats", manifest.get("formats"))
    files = as_list(path, "files", manifest.get("files"))
    objects = [as_mapping(path, f"files[{i}]", stated) for i, stated in enumerate(files)]
    tables = [file for file in objects if as_word(file, "type") == "table"]
    if not tables:
        raise FileFormatError(f"{path}: there is no table in the archive")
    return [_parse_entry(path, file, formats) for file in tables]


def choose_entries(path: Path, entries: list[Entry], name: str | None) -> list[Entry]:
    """Give the table of a name, or all of them if they make one together."""
    known = ", ".join(repr(entry.name) for entry in entries[:_MOST_NAMED])
    if name is not None:
        entries = [entry for entry in entries if entry.name == name]
        if not entries:
            raise InvalidInputError(f"{path}: no table {name!r}; there are {known}")
    if len({PurePosixPath(entry.name) for entry in entries}) < len(entries):
        raise FileFormatError(f"{path}: {MANIFEST} lists one table twice: {known}")
    places = {(entry.channel, frozenset(entry.offsets.items())) for entry in entries}
    if len(places) < len(entries):
        raise FileFormatError(
            f"{path}: tables of one channel lie at the same place, as if they were different "
            f"fields of view: pass table= to read one of {known}"
        )
    n_columns = sum(len(as_list(path, "headers", entry.format.get("headers"))) for entry in entries)
    if n_columns > _MOST_COLUMNS:
        raise FileFormatError(f"{path}: its tables have {n_columns:,} columns together")
    return entries


def descriptions_in(stated: Mapping[str, Any]) -> dict[str, str]:
    """Give what a manifest or a table's metadata say of the sample, in words."""
    return {key: text for key in _DESCRIPTIONS if (text := as_text(stated.get(key)))}


def parse_note(path: Path, manifest: Mapping[str, Any]) -> Note | None:
    """Give what smlmkit noted, if it wrote the file."""
    if NOTE_KEY not in manifest:
        return None
    try:
        note = json.loads(manifest[NOTE_KEY])
        if note["version"] != NOTE_VERSION:
            raise FileFormatError(
                f"{path}: written in version {note['version']!r:.100} of the note, "
                f"this smlmkit knows version {NOTE_VERSION}"
            )
        field = check_field_of_view(note["field_of_view"])
        return Note(field, dict(note["metadata"]), dict(note["dtypes"]))
    except FileFormatError:
        raise
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise FileFormatError(
            f"{path}: what {MANIFEST} states under {NOTE_KEY} is damaged: {error!r:.200}"
        ) from error


def as_mapping(path: Path, what: str, stated: object) -> dict[str, Any]:
    """Give an object of the manifest, empty if it is not there."""
    if stated is None:
        return {}
    if not isinstance(stated, dict):
        raise FileFormatError(f"{path}: {what} in {MANIFEST} is {stated!r:.100}, not an object")
    return stated


def as_list(path: Path, what: str, stated: object) -> list[Any]:
    """Give a list of the manifest, empty if it is not there."""
    if stated is None:
        return []
    if not isinstance(stated, list):
        raise FileFormatError(f"{path}: {what} in {MANIFEST} is {stated!r:.100}, not a list")
    return stated


def as_text(stated: object) -> str:
    """Give a text, empty if it is none."""
    return stated if isinstance(stated, str) else ""


def as_word(stated: Mapping[str, Any], key: str) -> str:
    """Give a word in small letters, empty if there is none."""
    return as_text(stated.get(key)).lower()


def as_whole_number(path: Path, what: str, stated: object, *, low: int = 0) -> int:
    """Give a whole number."""
    number = _as_finite(path, what, stated)
    if not number.is_integer() or not low <= number <= LARGEST_EXACT_FLOAT:
        raise FileFormatError(f"{path}: {what} is {stated!r:.100}, not a whole number from {low}")
    return int(number)


def _as_finite(path: Path, what: str, stated: object) -> float:
    """Give a number, which may stand there as text, as programs that use protobuf write it."""
    try:
        text = str(stated) if isinstance(stated, int | float | str) else ""
        number = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise FileFormatError(f"{path}: {what} is {stated!r:.100}, not a number")
    return number


def _parse_entry(path: Path, file: Mapping[str, Any], formats: Mapping[str, Any]) -> Entry:
    name, key = as_text(file.get("name")), as_text(file.get("format"))
    channel = str(file.get("channel") or "default")
    if not name:
        raise FileFormatError(f"{path}: a table has no name in {MANIFEST}")
    if max(map(len, (name, key, channel))) > _LONGEST_NAME:
        raise FileFormatError(f"{path}: a table has a name longer than {_LONGEST_NAME:,} letters")
    if key not in formats:
        raise FileFormatError(f"{path}: the format {key!r} of {name!r} is not described")
    offsets = {
        header: _as_finite(path, f"offset of {header!r:.100} in {name!r}", offset)
        for header, offset in as_mapping(path, f"offset of {name!r}", file.get("offset")).items()
    }
    return Entry(
        name,
        channel,
        as_mapping(path, f"format {key!r}", formats[key]),
        file.get("rows"),
        {header: offset for header, offset in offsets.items() if offset},
        "thunderstorm" in f"{name} {key}".lower(),
    )
