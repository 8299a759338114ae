"""From whatever table a user has to named, checked, read-only columns."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from smlmkit.errors import InvalidInputError, InvalidTypeError

_COORDINATES = frozenset({"x", "y", "z"})
_NUMERIC_COLUMNS = _COORDINATES | {
    "frame",
    "photons",
    "background",
    "uncertainty_x",
    "uncertainty_y",
    "uncertainty_z",
    "sigma_x",
    "sigma_y",
    "channel",
    "detections",
}


def raw_columns(table: object) -> dict[str, NDArray[Any]]:
    """Name the columns of whatever kind of table this is."""
    columns = _named_columns(table)
    if not all(isinstance(name, str) for name in columns):
        raise InvalidTypeError(f"column names must be text, got {list(columns)}")
    return {name: _as_array(name, values) for name, values in columns.items()}


def check_columns(raw: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Give each column the kind that its name asks for; x and y are required."""
    columns = {name: _as_column(name, values) for name, values in raw.items()}
    missing = [name for name in ("x", "y") if name not in columns]
    if missing:
        raise InvalidInputError(
            f"no column {' and '.join(map(repr, missing))}; "
            f"there are {', '.join(columns) or 'none'}"
        )
    expected = len(columns["x"])
    for name, values in columns.items():
        if len(values) != expected:
            raise InvalidInputError(f"column {name!r} has {len(values)} rows, 'x' has {expected}")
    return columns


def _named_columns(table: object) -> dict[str, Any]:
    if isinstance(table, pd.DataFrame):
        if not table.columns.is_unique:
            twice = sorted(map(str, table.columns[table.columns.duplicated()]))
            raise InvalidInputError(f"columns {twice} stand more than once in the DataFrame")
        return {name: table[name].to_numpy() for name in table.columns}
    if isinstance(table, Mapping):
        return dict(table)
    if isinstance(table, np.ndarray) and table.dtype.names:
        return {name: table[name] for name in table.dtype.names}
    if isinstance(table, np.ndarray):
        if table.ndim != 2 or table.shape[1] not in (2, 3):
            raise InvalidInputError(
                "a plain array of localizations has the columns x, y or x, y, z: expected shape "
                f"(n, 2) or (n, 3), got {table.shape}; name other columns in a DataFrame"
            )
        return {name: table[:, index] for index, name in enumerate("xyz"[: table.shape[1]])}
    raise InvalidTypeError(
        "localizations come as a DataFrame, a mapping of columns, a structured array or an (n, 2) "
        f"or (n, 3) array, got {type(table).__name__}"
    )


def _as_array(name: str, values: Any) -> NDArray[Any]:
    """Turn one column into a 1-d array in native byte order; masked values become NaN."""
    if isinstance(values, np.ma.MaskedArray) and values.mask.any():
        values = np.ma.filled(values.astype(np.float64), np.nan)
    try:
        column = np.asarray(values)
    except ValueError:  # rows of unequal length
        raise InvalidInputError(f"column {name!r} must be one-dimensional") from None
    if column.ndim != 1:
        raise InvalidInputError(f"column {name!r} must be one-dimensional, got {column.shape}")
    return column.astype(column.dtype.newbyteorder("="), copy=False)


def _as_column(name: str, column: NDArray[Any]) -> NDArray[Any]:
    """Give a column the kind that its name asks for."""
    if name not in _NUMERIC_COLUMNS:
        return column
    if column.dtype.kind not in "iufbO":
        raise InvalidTypeError(f"column {name!r} must hold numbers, got dtype {column.dtype}")
    try:
        if name in _COORDINATES or column.dtype.kind == "O":
            return column.astype(np.float64, copy=False)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"column {name!r} must hold numbers: {error}") from None
    return column


def as_frames(column: NDArray[Any]) -> NDArray[np.int64]:
    """Turn frame numbers into int64, or say that they are none."""
    if column.dtype.kind == "f":
        # From 2^53 on, floats skip whole numbers.
        valid = (column == np.floor(column)) & (np.abs(column) <= 2**53)
    else:
        valid = column <= np.iinfo(np.int64).max
    if not np.all(valid):
        offending = column[np.argmin(valid)]
        raise InvalidInputError(f"column 'frame' must hold whole numbers, got {offending!r}")
    return column.astype(np.int64, copy=False)


def freeze(values: NDArray[Any], source: object = None) -> NDArray[Any]:
    """Make an array read-only; copy it first if the owner of `source` could still write to it."""
    if source is not None and _writable_somewhere(source) and np.may_share_memory(values, source):
        values = values.copy()
    if values.flags.writeable:
        values.flags.writeable = False
    return values


def _writable_somewhere(array: object) -> bool:
    while isinstance(array, np.ndarray):
        if array.flags.writeable:
            return True
        array = array.base
    return False
