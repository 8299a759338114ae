"""Tiles of an image as pure integers: where to read, what to keep, where to write."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Slices = tuple[slice, slice]


class Tile(NamedTuple):
    """One tile: read ``image[read]``, process it, and set ``output[write] = processed[crop]``.

    Parameters
    ----------
    read : tuple of slice
        What to read of the image: the tile and its halo.
    crop : tuple of slice
        Which part of the processed array is the tile.
    write : tuple of slice
        Where in the output the tile stands.
    """

    read: Slices
    crop: Slices
    write: Slices


def cover(is_wanted: NDArray[np.bool_], side: int, halo: int) -> Iterator[Tile]:
    """Cover what is wanted of an image with tiles that are processed with a halo and written once.

    Parameters
    ----------
    is_wanted : ndarray of bool, shape (height, width)
        What must lie in a tile.
    side : int
        Greatest side of a tile. Tiles side by side are about equally large.
    halo : int
        Pixels around a tile that are read with it; the image's border cuts the halo. Gaps between
        what is wanted that are not wider are bridged.

    Yields
    ------
    Tile
        What to read, to keep and to write.

    Examples
    --------
    >>> for tile in cover(np.ones((4, 10), bool), side=5, halo=2):
    ...     print(tile.read[1], tile.crop[1], tile.write[1])
    slice(0, 7, None) slice(0, 5, None) slice(0, 5, None)
    slice(3, 10, None) slice(2, 7, None) slice(5, 10, None)
    """
    height, width = is_wanted.shape
    for band in _pieces(is_wanted, side, halo):
        for columns in _pieces(is_wanted[band].T, side, halo):
            for rows in _pieces(is_wanted[band, columns], side, gap=side):
                write = slice(band.start + rows.start, band.start + rows.stop), columns
                read = grow(write, halo, (height, width))
                yield Tile(read, within(write, read), write)


def grow(box: Slices, margin: int, shape: tuple[int, int]) -> Slices:
    """Add a margin to a box, as far as the plane goes.

    Parameters
    ----------
    box : tuple of slice
        Rows and columns.
    margin : int
        What to add on all four sides.
    shape : tuple of int
        Height and width of the plane.

    Returns
    -------
    tuple of slice
        Rows and columns of the larger box.

    Examples
    --------
    >>> grow((slice(5, 8), slice(2, 4)), 3, shape=(10, 20))
    (slice(2, 10, None), slice(0, 7, None))
    """
    rows, columns = (
        slice(max(part.start - margin, 0), min(part.stop + margin, length))
        for part, length in zip(box, shape, strict=True)
    )
    return rows, columns


def within(box: Slices, outer: Slices) -> Slices:
    """Tell where a box lies in a larger one.

    Parameters
    ----------
    box, outer : tuple of slice
        Rows and columns on the same plane.

    Returns
    -------
    tuple of slice
        Rows and columns of `box`, counted from the corner of `outer`.

    Examples
    --------
    >>> within((slice(5, 8), slice(2, 4)), outer=(slice(2, 10), slice(0, 7)))
    (slice(3, 6, None), slice(2, 4, None))
    """
    rows, columns = (
        slice(part.start - around.start, part.stop - around.start)
        for part, around in zip(box, outer, strict=True)
    )
    return rows, columns


def _pieces(is_wanted: NDArray[np.bool_], side: int, gap: int) -> Iterator[slice]:
    """Cut the first axis into pieces up to `side` long that hold what is wanted."""
    places = np.flatnonzero(is_wanted.any(axis=1))
    for run in np.split(places, np.flatnonzero(np.diff(places) > gap + 1) + 1):
        if run.size:
            start, stop = int(run[0]), int(run[-1]) + 1
            n_pieces = -(-(stop - start) // side)
            edges = [start + (stop - start) * i // n_pieces for i in range(n_pieces + 1)]
            yield from map(slice, edges[:-1], edges[1:])
