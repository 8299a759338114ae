"""Text of variable length in HDF5 files, found in the bytes of the file itself.

HDF5 keeps such a text in a heap that it reads without end, or past its memory, if it is damaged.
Here every pointer is checked before it is followed. What a file of these bytes means is laid down
in the HDF5 File Format Specification, version 3.0.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import h5py

from smlmkit.errors import FileFormatError

_LARGEST_TEXT_BYTES = 2**24
_LARGEST_HEADER_BYTES = 2**20
_MOST_OBJECTS = 2**16  # in a heap, whose objects are counted with two bytes
_CONTINUATION, _ATTRIBUTE = 0x10, 0x0C
_POINTER = struct.Struct("<IQI")  # of a text: its length, the place of its heap, its number there


class _Message(NamedTuple):
    kind: int
    flags: int
    content: bytes


class _Block(NamedTuple):
    """A run of messages of an object's header."""

    place: int
    size: int


def read_dataset_text(path: Path, dataset: h5py.Dataset) -> str:
    """Give the text of a dataset that holds a single one.

    Parameters
    ----------
    path : Path
        The file.
    dataset : Dataset
        A dataset of it, opened by h5py.

    Returns
    -------
    str
        The text.

    Raises
    ------
    FileFormatError
        If it is not a single text, or damaged.
    """
    where = f"the dataset {dataset.name}"
    kind = h5py.check_string_dtype(dataset.dtype)
    if kind is None or dataset.shape != ():
        raise FileFormatError(f"{path}: {where} is not one text")
    if kind.length is not None:
        return _decode(path, where, dataset[()])
    place = dataset.id.get_offset()
    if place is None:
        raise FileFormatError(f"{path}: {where} is not laid out as a text is")
    with _Bytes(path, where, dataset.file) as file:
        return file.follow(file.read(place, _POINTER.size))


def read_attribute_text(path: Path, owner: h5py.Group | h5py.Dataset, name: str) -> str | None:
    """Give the text of an attribute that holds a single one.

    Parameters
    ----------
    path : Path
        The file.
    owner : Group or Dataset
        An object of it, opened by h5py.
    name : str
        The attribute's name.

    Returns
    -------
    str or None
        The text; None if there is no such attribute.

    Raises
    ------
    FileFormatError
        If it is not a single text, or damaged.
    """
    if name not in owner.attrs:
        return None
    where = f"the attribute {name} of {owner.name}"
    attribute = owner.attrs.get_id(name)
    kind = h5py.check_string_dtype(attribute.dtype)
    if kind is None or attribute.shape != ():
        raise FileFormatError(f"{path}: {where} is not one text")
    if kind.length is not None:
        return _decode(path, where, owner.attrs[name])
    with _Bytes(path, where, owner.file) as file:
        header = file.base + h5py.h5o.get_info(owner.id).addr
        for message in file.messages(header):
            if message.kind == _ATTRIBUTE and not message.flags & 2:
                found, value = file.split_attribute(message.content)
                if found == name.encode():
                    return file.follow(value)
    raise FileFormatError(f"{path}: {where} is kept where smlmkit does not read texts")


class _Bytes:
    """The bytes of an HDF5 file, read with an eye on where they end."""

    def __init__(self, path: Path, where: str, file: h5py.File) -> None:
        self._path, self._where = path, where
        self.base = file.userblock_size
        if file.id.get_create_plist().get_sizes() != (8, 8):
            raise self._damaged("places are not written with 8 bytes")
        self._handle: BinaryIO = path.open("rb")
        self._size = path.stat().st_size

    def __enter__(self) -> "_Bytes":
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.close()

    def _damaged(self, reason: str) -> FileFormatError:
        return FileFormatError(f"{self._path}: {self._where} is damaged: {reason}")

    def read(self, place: int, size: int) -> bytes:
        if not 0 <= place <= self._size - size:
            raise self._damaged(f"{size:,} bytes at {place:,} are not in the file")
        self._handle.seek(place)
        return self._handle.read(size)

    def follow(self, pointer: bytes) -> str:
        """Give the text that a pointer leads to."""
        if len(pointer) != _POINTER.size:
            raise self._damaged("its pointer is cut off")
        length, heap, number = _POINTER.unpack(pointer)
        if length == 0:
            return ""
        if length > _LARGEST_TEXT_BYTES:
            raise self._damaged(f"it claims {length:,} bytes")
        place, size = self._find_in_heap(self.base + heap, number)
        if size != length:
            raise self._damaged(f"it claims {length:,} bytes, and {size:,} are kept")
        return _decode(self._path, self._where, self.read(place, size))

    def _find_in_heap(self, heap: int, number: int) -> tuple[int, int]:
        """Give the place and size of a heap's object."""
        magic, version, size = struct.unpack("<4sB3xQ", self.read(heap, 16))
        if magic != b"GCOL" or version != 1:
            raise self._damaged(f"there is no heap at {heap:,}")
        place, end = heap + 16, heap + size
        for _ in range(_MOST_OBJECTS):
            if place + 16 > end:
                break
            index, length = struct.unpack("<H6xQ", self.read(place, 16))
            if index == number:
                return place + 16, length
            if index == 0:  # the rest is free
                break
            place += 16 + -(-length // 8) * 8
        raise self._damaged(f"the heap at {heap:,} holds no object {number}")

    def messages(self, header: int) -> Iterator[_Message]:
        """Give the messages of an object's header."""
        is_new = self.read(header, 4) == b"OHDR"
        blocks = [self._first_new_block(header) if is_new else self._first_old_block(header)]
        n_bytes = 0
        for block in blocks:  # grows while it is walked
            n_bytes += block.size + 8
            if n_bytes > _LARGEST_HEADER_BYTES:
                raise self._damaged("the header that it stands in has no end")
            content = self.read(block.place, block.size)
            for message in self._split(content, self._prefix(header) if is_new else "<HHB3x"):
                if message.kind == _CONTINUATION:
                    place, size = self._unpack("<QQ", message.content)
                    # The newer blocks have a signature before and a checksum behind them.
                    margin = 4 if is_new else 0
                    blocks.append(_Block(self.base + place + margin, max(size - 2 * margin, 0)))
                yield message

    def _first_old_block(self, header: int) -> _Block:
        version, size = struct.unpack("<B7xI4x", self.read(header, 16))
        if version != 1:
            raise self._damaged(f"there is no header at {header:,}")
        return _Block(header + 16, size)

    def _first_new_block(self, header: int) -> _Block:
        (flags,) = self.read(header + 5, 1)
        # Four times and two numbers of attributes may come before the size.
        place = header + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        return _Block(place + width, int.from_bytes(self.read(place, width), "little"))

    def _prefix(self, header: int) -> str:
        """Give the layout of what stands before each message of a newer header."""
        (flags,) = self.read(header + 5, 1)
        return "<BHB2x" if flags & 4 else "<BHB"

    def _split(self, block: bytes, prefix: str) -> Iterator[_Message]:
        place, width = 0, struct.calcsize(prefix)
        while place + width <= len(block):
            kind, size, flags = struct.unpack_from(prefix, block, place)
            place += width
            yield _Message(kind, flags, block[place : place + size])
            place += size

    def split_attribute(self, content: bytes) -> tuple[bytes, bytes]:
        """Give the name and the value of an attribute."""
        version, *sizes = self._unpack("<BxHHH", content)
        place = 9 if version == 3 else 8
        step = 8 if version == 1 else 1  # the first version pads its parts
        name = content[place : place + sizes[0]].partition(b"\0")[0]
        return name, content[place + sum(-(-size // step) * step for size in sizes) :][:16]

    def _unpack(self, layout: str, content: bytes) -> tuple[int, ...]:
        if len(content) < struct.calcsize(layout):
            raise self._damaged("the header that it stands in is cut off")
        return struct.unpack_from(layout, content)


def _decode(path: Path, where: str, text: bytes) -> str:
    try:
        return bytes(text).rstrip(b"\0").decode()
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path}: {where} is not text in UTF-8: {error}") from error
