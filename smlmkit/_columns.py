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
    columns = {name: np.asarray(values) for name, values in _named_columns(table).items()}
    if not all(isinstance(name, str) for name in columns):
        raise InvalidTypeError(f"column names must be text, got {list(columns)}")
    return columns


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


def _as_column(name: str, column: NDArray[Any]) -> NDArray[Any]:
    """Turn one column into a 1-d array of the kind that its name asks for."""
    if column.ndim != 1:
        raise InvalidInputError(f"column {name!r} must be one-dimensional, got {column.shape}")
    if name not in _NUMERIC_COLUMNS:
        return column
    if column.dtype.kind not in "iufb" and not column.dtype.kind == "O":
        raise InvalidTypeError(f"column {name!r} must hold numbers, got dtype {column.dtype}")
    try:
        if name in _COORDINATES:
            return column.astype(np.float64, copy=False)
        if name == "frame":
            return _as_frames(column)
        return column.astype(np.float64) if column.dtype.kind == "O" else column
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"column {name!r} must hold numbers: {error}") from None


def _as_frames(column: NDArray[Any]) -> NDArray[np.int64]:
    if column.dtype.kind not in "iub":
        numbers = column.astype(np.float64)
        if not np.array_equal(numbers, np.floor(numbers)):
            raise InvalidInputError("column 'frame' must hold whole numbers (0-based)")
        column = numbers
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
