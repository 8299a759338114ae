"""What a ``.smlm`` file of one table holds: its manifest and its packed rows."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smlmkit.errors import InvalidInputError
from smlmkit.io._smlm_manifest import LARGEST_EXACT_FLOAT, NOTE_KEY, NOTE_VERSION, descriptions_in
from smlmkit.io._smlm_names import headers_to_write
from smlmkit.io._smlm_tables import DTYPES
from smlmkit.io._text import Column
from smlmkit.localizations import Localizations

TABLE = "table-0.bin"
_TABLE_FORMAT = "smlm-table(binary)"
_WRITTEN_AS_THEY_ARE = frozenset({"uint8", "uint16", "uint32", "float32", "float64"})
_LARGEST_UINT32 = 2**32 - 1
_ROWS_AT_A_TIME = 2**18

Kinds = Mapping[str, tuple[str, int]]
"""For each column the kind of number that is written, and what is added to it on reading."""


def written_kinds(localizations: Localizations) -> Kinds:
    """Choose the kinds of numbers that hold the columns of a table exactly."""
    return {name: _written_kind(name, localizations[name]) for name in localizations}


def make_manifest(localizations: Localizations, kinds: Kinds) -> dict[str, Any]:
    """Describe a table whose columns are written as numbers of these kinds."""
    headers = headers_to_write(localizations)
    metadata = localizations.metadata
    note = {
        "version": NOTE_VERSION,
        "field_of_view": localizations.field_of_view,
        "metadata": metadata,
        "dtypes": {name: localizations[name].dtype.name for name in localizations},
    }
    return {
        "format_version": "0.2",
        "formats": {_TABLE_FORMAT: _describe_format(headers, kinds)},
        "files": [_describe_table(len(localizations), headers, kinds)],
        **descriptions_in(metadata),
        # As text: the metadata may hold NaN, which is no JSON for other programs.
        NOTE_KEY: json.dumps(note),
    }


def pack(localizations: Localizations, kinds: Kinds) -> Iterator[bytes]:
    """Give the packed rows, some at a time."""
    packed = np.dtype([(str(i), DTYPES[dtype]) for i, (dtype, _) in enumerate(kinds.values())])
    for start in range(0, len(localizations), _ROWS_AT_A_TIME):
        stop = min(start + _ROWS_AT_A_TIME, len(localizations))
        records = np.empty(stop - start, packed)
        for i, (name, (_, offset)) in enumerate(kinds.items()):
            values = localizations[name][start:stop]
            records[str(i)] = values.astype(np.int64) - offset if offset else values
        yield records.tobytes()


def _written_kind(name: str, values: NDArray[Any]) -> tuple[str, int]:
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
        if max(-low, high) <= LARGEST_EXACT_FLOAT:
            return ("uint32", offset) if high - offset <= _LARGEST_UINT32 else ("float64", 0)
    raise InvalidInputError(
        f"column {name!r} (dtype {kind}) cannot be written: "
        "a .smlm file does not hold its numbers exactly"
    )


def _describe_format(headers: Mapping[str, Column], kinds: Kinds) -> dict[str, Any]:
    return {
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


def _describe_table(n_rows: int, headers: Mapping[str, Column], kinds: Kinds) -> dict[str, Any]:
    return {
        "name": TABLE,
        "type": "table",
        "format": _TABLE_FORMAT,
        "channel": "default",
        "rows": n_rows,
        "offset": {headers[name].name: offset for name, (_, offset) in kinds.items() if offset},
    }
