"""Tables of numbers in HDF5: datasets of rows, and groups as pandas and PyTables write them."""

import pickletools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from smlmkit._threads import default_threads, run_bands
from smlmkit.errors import FileFormatError
from smlmkit.io._hdf5 import own_dataset, own_numbers, own_object
from smlmkit.io._hdf5_text import read_attribute_text

# What a pickled list of texts is made of.
_OPCODES_OF_TEXTS = frozenset({"UNICODE", "STRING"})
_OPCODES_OF_LISTS = frozenset({"MARK", "LIST", "APPEND", "PUT", "STOP"})
_ROWS_AT_A_TIME = 2**13

Conversion = Callable[[NDArray[Any]], NDArray[Any]]
"""From numbers as they are stored to those that are wanted, row by row."""


def has_table(file: h5py.File, name: str) -> bool:
    """Tell whether there is a table of this name at the top, be it only to be refused as a link."""
    if name not in list(file):
        return False
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        return True
    table = file[name]
    return isinstance(table, h5py.Dataset) or bool({"table", "block0_values"} & set(table))


def own_table(path: Path, file: h5py.File, name: str) -> h5py.Group | h5py.Dataset:
    """Give the dataset, or the group, that is a table; its columns are not looked at."""
    table = own_object(path, file, name)
    if not has_table(file, name):
        raise FileFormatError(
            f"{path}: /{name} is a group of {', '.join(list(table)[:9]) or 'nothing'}, "
            "expected a table as Picasso or pandas writes it"
        )
    return table


def read_table(
    path: Path, file: h5py.File, name: str, conversions: Mapping[str, Conversion]
) -> dict[str, NDArray[Any]]:
    """Read the columns of a table, converted where there is a conversion for their name."""
    table = own_table(path, file, name)
    if isinstance(table, h5py.Dataset):
        return _read_rows(path, file, name, conversions)
    if "table" in list(table):
        columns = _read_rows(path, file, f"{name}/table", conversions)
        return {column: values for column, values in columns.items() if column != "index"}
    return _read_blocks(path, file, name, conversions)


def _read_rows(
    path: Path, file: h5py.File, name: str, conversions: Mapping[str, Conversion]
) -> dict[str, NDArray[Any]]:
    """Read a dataset of rows; PyTables may keep several columns as one of arrays."""
    dataset = own_numbers(path, file, name)
    if dataset.ndim != 1 or not dataset.dtype.names:
        raise FileFormatError(
            f"{path}: /{name} has the columns {', '.join(dataset.dtype.names or ()) or 'none'} "
            f"and the shape {dataset.shape}, expected one row a localization"
        )
    columns: dict[str, NDArray[Any]] = {}
    for field, values in _split_rows(path, dataset, conversions).items():
        if values.ndim == 1:
            _add_columns(path, columns, [field], values[:, np.newaxis], {})
        else:
            names = _names_in_block(path, dataset, field)
            _add_columns(path, columns, names, values, conversions)
    return columns


def _split_rows(
    path: Path, dataset: h5py.Dataset, conversions: Mapping[str, Conversion]
) -> dict[str, NDArray[Any]]:
    """Read a few rows at a time: they are in the cache while their fields are split."""
    kinds = {field: dataset.dtype[field] for field in dataset.dtype.names}
    to_wanted = {
        field: _native if kind.shape else conversions.get(field, _native)
        for field, kind in kinds.items()
    }
    fields = {
        field: np.empty((len(dataset), *kind.shape), to_wanted[field](np.empty(0, kind.base)).dtype)
        for field, kind in kinds.items()
    }

    def split(start: int, records: NDArray[Any]) -> None:
        for field, values in fields.items():
            values[start : start + len(records)] = to_wanted[field](records[field])

    place = dataset.id.get_offset()
    if place is None:
        _read_through_hdf5(dataset, split)
    else:
        _read_from_file(path, place, dataset.dtype, len(dataset), split)
    return fields


def _read_through_hdf5(dataset: h5py.Dataset, split: Callable[[int, NDArray[Any]], None]) -> None:
    n_in_chunk = dataset.chunks[0] if dataset.chunks else 1  # read whole, and only once
    step = min(-(-_ROWS_AT_A_TIME // n_in_chunk) * n_in_chunk, max(len(dataset), 1))
    records = np.empty(step, dataset.dtype)
    for start in range(0, len(dataset), step):
        part = records[: len(dataset) - start]
        dataset.read_direct(part, np.s_[start : start + len(part)])
        split(start, part)


def _read_from_file(
    path: Path,
    place: int,
    kind: np.dtype[Any],
    n_rows: int,
    split: Callable[[int, NDArray[Any]], None],
) -> None:
    """Read rows that lie in the file one after another, on all cores: HDF5 uses one at a time."""

    def read(first: int, stop: int) -> None:
        buffer = bytearray(min(_ROWS_AT_A_TIME, stop - first) * kind.itemsize)
        records = np.frombuffer(buffer, kind)
        with path.open("rb", buffering=0) as file:
            file.seek(place + first * kind.itemsize)
            for start in range(first, stop, len(records)):
                part = records[: stop - start]
                if file.readinto(memoryview(buffer)[: part.nbytes]) != part.nbytes:
                    raise FileFormatError(f"{path}: the file ends before its row {stop:,}")
                split(start, part)

    if n_rows:
        run_bands(read, n_rows, default_threads(), min_rows=_ROWS_AT_A_TIME)


def _names_in_block(path: Path, table: h5py.Dataset, block: str) -> list[str]:
    """Give the texts in a list that PyTables has pickled, without unpickling it."""
    pickled = read_attribute_text(path, table, f"{block}_kind")
    if pickled is None:
        raise FileFormatError(
            f"{path}: column {block!r} of {table.name} holds {table.dtype[block]}, expected numbers"
        )
    names = []
    try:
        for opcode, value, _ in pickletools.genops(pickled.encode()):
            if opcode.name in _OPCODES_OF_TEXTS:
                names.append(str(value))
            elif opcode.name not in _OPCODES_OF_LISTS:
                raise ValueError(f"it holds more than texts ({opcode.name})")
    except ValueError as error:
        raise FileFormatError(
            f"{path}: the names of the columns in {block} of {table.name} are damaged: {error}"
        ) from error
    return names


def _read_blocks(
    path: Path, file: h5py.File, name: str, conversions: Mapping[str, Conversion]
) -> dict[str, NDArray[Any]]:
    """Read the blocks of columns of one type that pandas writes in its fixed format."""
    columns: dict[str, NDArray[Any]] = {}
    blocks = sorted(block for block in own_object(path, file, name) if block.endswith("_values"))
    for block in blocks:
        texts = own_dataset(path, file, f"{name}/{block.removesuffix('_values')}_items")
        if texts.dtype.kind != "S" or texts.ndim != 1:
            raise FileFormatError(f"{path}: {texts.name} holds {texts.dtype}, expected texts")
        names = [text.decode() for text in texts[()]]
        values = own_numbers(path, file, f"{name}/{block}")[()]
        _add_columns(path, columns, names, values, conversions)
    return columns


def _add_columns(
    path: Path,
    columns: dict[str, NDArray[Any]],
    names: list[str],
    block: NDArray[Any],
    conversions: Mapping[str, Conversion],
) -> None:
    if block.ndim != 2 or block.shape[1] != len(names):
        raise FileFormatError(
            f"{path}: the columns {', '.join(names)} are stored in the shape {block.shape}"
        )
    for name, values in zip(names, block.T, strict=True):
        if name in columns:
            raise FileFormatError(f"{path}: two columns are named {name!r}")
        columns[name] = conversions.get(name, _native)(values)


def _native(values: NDArray[Any]) -> NDArray[Any]:
    """Give numbers in the byte order of the machine."""
    return values.astype(values.dtype.newbyteorder("="), copy=False)
