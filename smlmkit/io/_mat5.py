"""MAT files of MATLAB 5 to 7, as far as tables need them: numbers in structures, by their name.

A file is a row of elements: a tag (the type and the number of bytes), then these bytes. An element
of a variable may be compressed as a whole; an array is an element that holds elements. Every size
is checked against the bytes that are there before anything of that size is made.
"""

import math
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from smlmkit.errors import FileFormatError
from smlmkit.io._common import most_memory

_Order = Literal["<", ">"]

_HEADER_BYTES = 128
_BYTE_ORDERS: dict[bytes, _Order] = {b"IM": "<", b"MI": ">"}
_MATRIX, _COMPRESSED = 14, 15
_STORED_AS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8"}
_STORED_AS |= {12: "i8", 13: "u8"}
_STRUCTURE = 2
_NUMBERS = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4"}
_NUMBERS |= {14: "i8", 15: "u8"}
_COMPLEX_FLAG = 0x0800
# The name of a variable stands near its beginning.
_PREFIX_BYTES = 1024
_MOST_VARIABLES = 1000
_MOST_FIELDS = 4096


class Array(NamedTuple):
    """What is known of an array before its content is looked at."""

    name: bytes
    kind: int
    is_complex: bool
    shape: tuple[int, ...]
    content: memoryview
    order: _Order

    @property
    def n_bytes(self) -> int:
        """The bytes of its numbers, which it may hold as shorter ones; 0 if it holds none."""
        kind = _NUMBERS.get(self.kind)
        return math.prod(self.shape) * np.dtype(kind).itemsize if kind else 0


def is_mat5(head: bytes) -> bool:
    """Tell whether a file that begins like this is a MAT file of MATLAB 5 to 7.

    Parameters
    ----------
    head : bytes
        The first 128 bytes of the file, or more.

    Returns
    -------
    bool
        Whether it is.
    """
    mark = head[126:128]
    return mark in _BYTE_ORDERS and head[124:126] == (b"\x00\x01" if mark == b"IM" else b"\x01\x00")


def has_variable(file: BinaryIO, name: str) -> bool:
    """Tell whether a file is a MAT file that holds a variable, without reading any.

    Parameters
    ----------
    file : BinaryIO
        The file, open to be read.
    name : str
        The name of the variable.

    Returns
    -------
    bool
        Whether it is.
    """
    return _find(file, name) is not None


def read_variable(path: Path, name: str) -> Array:
    """Read a variable of a MAT file.

    Parameters
    ----------
    path : Path
        The file.
    name : str
        The name of the variable.

    Returns
    -------
    Array
        The variable.

    Raises
    ------
    FileFormatError
        If there is no such variable, or the file is damaged.
    """
    with path.open("rb") as file:
        if not is_mat5(file.read(_HEADER_BYTES)):
            raise FileFormatError(f"{path}: not a MAT file of MATLAB 5 to 7")
        place = _find(file, name)
        if place is None:
            raise FileFormatError(f"{path}: no variable {name!r}")
        if path.stat().st_size < place.start + place.n_bytes:
            raise FileFormatError(f"{path}: ends within the variable {name!r}")
        file.seek(place.start)
        content = file.read(place.n_bytes)
    if place.is_compressed:
        content = _decompress(path, name, content)
    try:
        elements = _Elements(memoryview(content), place.order)
        return _to_array(elements.take(_MATRIX) if place.is_compressed else elements)
    except ValueError as error:
        raise _damaged(path, error) from error


def structure_fields(path: Path, array: Array) -> dict[str, Array]:
    """Give the fields of a structure, or of the first one in an array of structures.

    Parameters
    ----------
    path : Path
        The file, for messages.
    array : Array
        The structure.

    Returns
    -------
    dict of str to Array
        The fields.

    Raises
    ------
    FileFormatError
        If it is no structure, or is damaged.
    """
    if array.kind != _STRUCTURE:
        raise FileFormatError(f"{path}: {array.name.decode('latin-1')!r} is no structure")
    try:
        elements = _Elements(array.content, array.order)
        (length,) = elements.numbers().tolist()
        names = bytes(elements.bytes_of_next())
        if length < 1 or len(names) % length or len(names) > length * _MOST_FIELDS:
            raise ValueError(f"{len(names)} bytes of names of {length} bytes each")
        if not math.prod(array.shape):
            return {}
        return {
            names[start : start + length].split(b"\0")[0].decode("latin-1"): _to_array(
                elements.take(_MATRIX)
            )
            for start in range(0, len(names), length)
        }
    except ValueError as error:
        raise _damaged(path, error) from error


def numbers(path: Path, array: Array) -> NDArray[Any] | None:
    """Give the numbers in an array, in MATLAB's order, as one row.

    Parameters
    ----------
    path : Path
        The file, for messages.
    array : Array
        The array.

    Returns
    -------
    ndarray of shape (n,) or None
        The numbers in the type that they have in MATLAB, NaN where one has an imaginary part; None
        if the array holds something else.

    Raises
    ------
    FileFormatError
        If the array is damaged.
    """
    if array.kind not in _NUMBERS:
        return None
    try:
        elements = _Elements(array.content, array.order)
        parts = [elements.numbers() for _ in range(1 + array.is_complex)]
        expected = math.prod(array.shape)
        if any(len(part) != expected for part in parts):
            raise ValueError(f"an array of {array.shape} holds {len(parts[0])} numbers")
    except ValueError as error:
        raise _damaged(path, error) from error
    values = real(*parts) if array.is_complex else parts[0]
    with np.errstate(invalid="ignore", over="ignore"):
        return values.astype(_NUMBERS[array.kind])


def real(real_parts: NDArray[Any], imaginary_parts: NDArray[Any]) -> NDArray[np.float64]:
    """Give complex numbers as real ones: NaN where there is an imaginary part.

    Parameters
    ----------
    real_parts, imaginary_parts : ndarray of shape (n,)
        The numbers.

    Returns
    -------
    ndarray of shape (n,)
        The real numbers.
    """
    return np.where(imaginary_parts == 0, real_parts, np.nan)


class _Place(NamedTuple):
    """Where in the file the content of an element lies."""

    start: int
    n_bytes: int
    is_compressed: bool
    order: _Order


class _Elements:
    """The elements in some bytes, one after the other."""

    def __init__(self, content: memoryview, order: _Order) -> None:
        self._content, self._order, self._position = content, order, 0

    def take(self, expected: int) -> "_Elements":
        """Give the elements in the next element, which has to be of a type."""
        kind, content = self._next()
        if kind != expected:
            raise ValueError(f"an element of type {kind}, expected {expected}")
        return _Elements(content, self._order)

    def bytes_of_next(self) -> memoryview:
        return self._next()[1]

    def numbers(self) -> NDArray[Any]:
        kind, content = self._next()
        if kind not in _STORED_AS:
            raise ValueError(f"an element of type {kind}, expected numbers")
        return np.frombuffer(content, np.dtype(_STORED_AS[kind]).newbyteorder(self._order))

    def whole_numbers(self) -> list[int]:
        numbers = self.numbers()
        if numbers.dtype.kind not in "iu":
            raise ValueError(f"flags or a shape of the type {numbers.dtype}")
        whole: list[int] = numbers.tolist()
        return whole

    def rest(self) -> tuple[memoryview, _Order]:
        return self._content[self._position :], self._order

    def _next(self) -> tuple[int, memoryview]:
        tag = self._bytes(self._position, 8)
        kind, n_bytes = struct.unpack(f"{self._order}II", tag)
        if kind >> 16:  # up to four bytes lie within the tag
            n_bytes, kind = kind >> 16, kind & 0xFFFF
            if n_bytes > 4:
                raise ValueError(f"{n_bytes} bytes in an element of four")
            self._position += 8
            return kind, tag[4 : 4 + n_bytes]
        content = self._bytes(self._position + 8, n_bytes)
        self._position += 8 + n_bytes + -n_bytes % 8
        return kind, content

    def _bytes(self, start: int, n_bytes: int) -> memoryview:
        content = self._content[start : start + n_bytes]
        if len(content) < n_bytes:
            raise ValueError(f"an element claims {n_bytes:,} bytes, {len(content):,} are there")
        return content


def _to_array(elements: _Elements) -> Array:
    content, order = elements.rest()
    if not content:  # how MATLAB writes [] in a structure
        no_numbers = struct.pack(f"{order}II", 9, 0)
        return Array(b"", 6, False, (0, 0), memoryview(no_numbers), order)
    flags, *_ = elements.whole_numbers() or [0]
    shape = tuple(elements.whole_numbers())
    if len(shape) < 2 or min(shape) < 0:
        raise ValueError(f"an array of the shape {shape}")
    name = bytes(elements.bytes_of_next())
    content, _ = elements.rest()
    return Array(name, flags & 0xFF, bool(flags & _COMPLEX_FLAG), shape, content, order)


def _find(file: BinaryIO, name: str) -> _Place | None:
    """Find a variable by hopping from tag to tag."""
    file.seek(0)
    header = file.read(_HEADER_BYTES)
    if not is_mat5(header):
        return None
    order = _BYTE_ORDERS[header[126:128]]
    for _ in range(_MOST_VARIABLES):
        tag = file.read(8)
        if len(tag) < 8:
            return None
        kind, n_bytes = struct.unpack(f"{order}II", tag)
        start = file.tell()
        prefix = file.read(min(n_bytes, _PREFIX_BYTES))
        if kind in (_MATRIX, _COMPRESSED) and _name_in(prefix, kind, order) == name.encode():
            return _Place(start, n_bytes, kind == _COMPRESSED, order)
        file.seek(start + n_bytes)
    return None


def _name_in(prefix: bytes, kind: int, order: _Order) -> bytes:
    """Give the name of the variable that begins like this; empty if it has none."""
    try:
        if kind == _COMPRESSED:
            prefix = zlib.decompressobj().decompress(prefix, _PREFIX_BYTES)[8:]
        return _to_array(_Elements(memoryview(prefix), order)).name
    except (ValueError, zlib.error):
        return b""


def _decompress(path: Path, name: str, content: bytes) -> bytes:
    most = most_memory(path)
    decompressor = zlib.decompressobj()
    try:
        plain = decompressor.decompress(content, most)
    except (zlib.error, MemoryError) as error:
        raise _damaged(path, error) from error
    if decompressor.unconsumed_tail:
        raise FileFormatError(
            f"{path}: the {len(content):,} bytes of the variable {name!r} become more than "
            f"{most:,}, which no measured numbers do"
        )
    return plain


def _damaged(path: Path, error: Exception) -> FileFormatError:
    return FileFormatError(f"{path}: the MAT file is damaged: {error}")
