"""HDF5 files that strangers wrote: what lies in the file itself, and is as large as it says."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from smlmkit.errors import FileFormatError, SmlmkitError
from smlmkit.io._common import Claims
from smlmkit.io._hdf5_chunks import check_chunks, chunk_bytes

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_STARTS = (0, 512)  # MATLAB has its own header before it
_DAMAGE = (OSError, RuntimeError, ValueError, TypeError, LookupError, MemoryError)
_MOST_NAMED = 20


@contextmanager
def opened_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file to read it; whatever fails means that it is damaged."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except SmlmkitError:
        raise
    except _DAMAGE as error:
        raise FileFormatError(f"{path}: the HDF5 file is damaged: {error}") from error


def is_hdf5(head: bytes) -> bool:
    """Tell whether a file that begins like this is an HDF5 file."""
    return any(head.startswith(_SIGNATURE, start) for start in _STARTS)


def is_hdf5_with(file: BinaryIO, head: bytes, test: Callable[[h5py.File], bool]) -> bool:
    """Tell whether an open file that begins like this is an HDF5 file that passes a test."""
    if not is_hdf5(head):
        return False
    try:
        with h5py.File(file, "r") as hdf5:
            return test(hdf5)
    except _DAMAGE:
        return False


def is_own_group(parent: h5py.Group, name: str) -> bool:
    """Tell whether there is a group of this name in this very file."""
    is_here = isinstance(parent.get(name, getlink=True), h5py.HardLink)
    return is_here and parent.get(name, getclass=True) is h5py.Group


def own_object(path: Path, file: h5py.File, name: str) -> h5py.Group | h5py.Dataset:
    """Give a group or dataset that lies in this very file."""
    parent: h5py.Group | h5py.Dataset = file
    for part in name.split("/"):
        link = parent.get(part, getlink=True) if isinstance(parent, h5py.Group) else None
        if link is None:
            parts = itertools.islice(parent, _MOST_NAMED) if isinstance(parent, h5py.Group) else ()
            there = ", ".join(parts) or "none"
            raise FileFormatError(f"{path}: no dataset /{name}: there are {there}")
        if not isinstance(link, h5py.HardLink):
            raise FileFormatError(
                f"{path}: /{name} is a link, perhaps to another file: not followed"
            )
        parent = parent[part]
    return parent


def own_group(path: Path, file: h5py.File, name: str) -> h5py.Group:
    """Give a group that lies in this very file."""
    group = own_object(path, file, name)
    if not isinstance(group, h5py.Group):
        raise FileFormatError(f"{path}: /{name} is a dataset, expected a group")
    return group


def own_dataset(path: Path, file: h5py.File, name: str) -> h5py.Dataset:
    """Give a dataset that lies in this very file, as large as it says it is."""
    dataset = own_object(path, file, name)
    if not isinstance(dataset, h5py.Dataset):
        raise FileFormatError(f"{path}: /{name} is a group, expected one dataset")
    if dataset.external or dataset.is_virtual:
        raise FileFormatError(f"{path}: /{name} lies in other files: not followed")
    if dataset.chunks:
        Claims(path).add(dataset.name, max(dataset.nbytes, chunk_bytes(dataset)))
        check_chunks(path, dataset)
    elif dataset.nbytes > (stored := min(dataset.id.get_storage_size(), path.stat().st_size)):
        raise FileFormatError(
            f"{path}: /{name} claims {dataset.nbytes:,} bytes, of which the file holds {stored:,}"
        )
    return dataset


def own_columns(path: Path, file: h5py.File, group: str) -> dict[str, h5py.Dataset]:
    """Give the datasets of numbers in a group, which all together may be read."""
    claims = Claims(path)
    columns = {}
    for name in own_group(path, file, group):
        columns[name] = own_numbers(path, file, f"{group}/{name}")
        if columns[name].dtype.names:
            raise FileFormatError(f"{path}: /{group}/{name} holds records, expected numbers")
        claims.add(columns[name].name, columns[name].nbytes)
    return columns


def own_numbers(path: Path, file: h5py.File, name: str) -> h5py.Dataset:
    """Give a dataset of numbers, alone or in named columns, that HDF5 can read without harm."""
    dataset = own_dataset(path, file, name)
    columns = dataset.dtype.fields or {}
    for column, kind in [(column, field[0]) for column, field in columns.items()] or [
        ("", dataset.dtype)
    ]:
        if kind.base.kind not in "iufb":
            which = f"column {column!r} of /{name}" if column else f"/{name}"
            raise FileFormatError(f"{path}: {which} holds {kind}, expected numbers")
    check_layout(path, f"/{name}", dataset.id.get_type(), dataset.dtype)
    return dataset


def check_layout(path: Path, where: str, stored: h5py.h5t.TypeID, kind: np.dtype[Any]) -> None:
    """Refuse unusual numbers: HDF5 converts them without checks, and damaged ones crash it."""
    if not stored.equal(h5py.h5t.py_create(kind, logical=True)):
        raise FileFormatError(f"{path}: {where} is not laid out as numbers are")
