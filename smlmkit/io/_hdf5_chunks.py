"""The chunks of HDF5 datasets: what they hold is compared with what they stand for.

HDF5 does not compare. A compressed chunk takes as much memory as its bytes become, whatever its
size is said to be, and the library reads on behind the end of a chunk that turns out too short.
"""

import math
import zlib
from pathlib import Path

import h5py

from smlmkit.errors import FileFormatError

_DEFLATE, _SHUFFLE, _FLETCHER32, _LZF = 1, 2, 3, 32000
_CHECKSUM_BYTES = 4
_PIECE_BYTES = 2**20


def check_chunks(path: Path, dataset: h5py.Dataset) -> None:
    """Refuse a dataset in chunks unless all of them are there, and as large as they have to be.

    Parameters
    ----------
    path : Path
        The file, for messages.
    dataset : Dataset
        The dataset, opened by h5py.

    Raises
    ------
    FileFormatError
        If a chunk is missing or damaged, or compressed in a way whose result cannot be foretold.
    """
    filters = _check_filters(path, dataset)
    stored = _stored_chunks(path, dataset)
    n_bytes = chunk_bytes(dataset)
    for chunk in stored:
        if not filters:
            size = chunk.size
        else:
            skipped, content = dataset.id.read_direct_chunk(chunk.chunk_offset)
            applied = [code for i, code in enumerate(filters) if not skipped >> i & 1]
            size = _size_of_content(content, applied, n_bytes)
        if size != n_bytes:
            raise FileFormatError(
                f"{path}: {dataset.name} is damaged from row {chunk.chunk_offset[0]:,} on: "
                f"{chunk.size:,} bytes do not become the {n_bytes:,} of a chunk"
            )


def chunk_bytes(dataset: h5py.Dataset) -> int:
    """Give the bytes of memory that a dataset's chunk takes."""
    n_bytes: int = math.prod(dataset.chunks) * dataset.id.get_type().get_size()
    return n_bytes


def _check_filters(path: Path, dataset: h5py.Dataset) -> list[int]:
    """Give the filters that a chunk went through on its way into the file."""
    settings = dataset.id.get_create_plist()
    filters = [settings.get_filter(i) for i in range(settings.get_nfilters())]
    for code, _, _, label in filters:
        if code not in (_DEFLATE, _SHUFFLE, _FLETCHER32, _LZF):
            raise FileFormatError(
                f"{path}: {dataset.name} is compressed with {label.decode(errors='replace')!r} "
                f"(HDF5 filter {code}), which is not read: h5repack -f GZIP=4 makes it readable"
            )
    codes = [code for code, *_ in filters]
    if codes.count(_DEFLATE) + codes.count(_LZF) > 1:
        raise FileFormatError(f"{path}: {dataset.name} is compressed more than once")
    return codes


def _stored_chunks(path: Path, dataset: h5py.Dataset) -> list[h5py.h5d.StoreInfo]:
    stored: list[h5py.h5d.StoreInfo] = []
    dataset.id.chunk_iter(stored.append)
    n_needed = math.prod(
        -(-n // step) for n, step in zip(dataset.shape, dataset.chunks, strict=True)
    )
    n_there = len({chunk.chunk_offset for chunk in stored})
    if n_there != n_needed or n_there != len(stored):
        raise FileFormatError(
            f"{path}: {dataset.name} claims {dataset.nbytes:,} bytes in {n_needed:,} chunks, "
            f"of which the file holds {n_there:,}"
        )
    return stored


def _size_of_content(content: bytes, filters: list[int], most: int) -> int:
    """Give the bytes that a chunk becomes when its filters are undone; more than `most` will do."""
    size = len(content)
    for code in reversed(filters):
        if code == _FLETCHER32:
            size -= _CHECKSUM_BYTES
        elif code == _DEFLATE:
            size = _inflated_size(content[:size], most)
        elif code == _LZF:
            size = _size_of_lzf(content[:size])
    return size


def _inflated_size(content: bytes, most: int) -> int:
    inflater, size = zlib.decompressobj(), 0
    try:
        while content and not inflater.eof and size <= most:
            size += len(inflater.decompress(content, _PIECE_BYTES))
            content = inflater.unconsumed_tail
    except zlib.error:
        return -1
    return size + len(inflater.flush()) if size <= most else size


def _size_of_lzf(content: bytes) -> int:
    """Add up the literals of LZF and the repetitions, which up to three bytes stand for."""
    place, size = 0, 0
    while place < len(content):
        control = content[place]
        if control < 32:
            place += control + 2
            size += control + 1
        elif control < 224:
            place += 2
            size += (control >> 5) + 2
        else:
            size += content[place + 1] + 9 if place + 1 < len(content) else 0
            place += 3
    return size if place == len(content) else -1
