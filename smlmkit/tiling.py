"""Tiles of an image as pure integers: where to read, what to keep, where to write.

And what makes a tile come out as the same part of the whole image does.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from smlmkit._checks import check_whole
from smlmkit.errors import InvalidInputError

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


@dataclass(frozen=True)
class TileGrid:
    """Regular tiles that cover an image: each pixel is in one of them.

    Iteration gives them row by row.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the image in pixels.
    side : int
        Side of a tile in pixels. The last row and column of tiles have what is left.
    halo : int
        Pixels around a tile that are read with it; the image's border cuts the halo.

    Raises
    ------
    InvalidInputError
        If a number is not whole, `halo` is negative, or another one is not positive.

    Examples
    --------
    >>> tiles = TileGrid(shape=(4, 10), side=6, halo=2)
    >>> tiles.n_rows, tiles.n_columns
    (1, 2)
    >>> for tile in tiles:
    ...     print(tile.read[1], tile.crop[1], tile.write[1])
    slice(0, 8, None) slice(0, 6, None) slice(0, 6, None)
    slice(4, 10, None) slice(2, 6, None) slice(6, 10, None)
    """

    shape: tuple[int, int]
    side: int
    halo: int

    def __post_init__(self) -> None:
        for name, length in zip(("height", "width"), self.shape, strict=True):
            check_whole(name, length, low=1)
        check_whole("side", self.side, low=1)
        check_whole("halo", self.halo, low=0)

    @property
    def n_rows(self) -> int:
        """Rows of tiles."""
        return -(-self.shape[0] // self.side)

    @property
    def n_columns(self) -> int:
        """Columns of tiles."""
        return -(-self.shape[1] // self.side)

    def tile(self, row: int, column: int) -> Tile:
        """Give one of the tiles.

        Parameters
        ----------
        row, column : int
            Its place, counted from 0.

        Returns
        -------
        Tile
            What to read, to keep and to write.

        Raises
        ------
        InvalidInputError
            If there is no such tile.
        """
        if not (0 <= row < self.n_rows and 0 <= column < self.n_columns):
            raise InvalidInputError(
                f"there is no tile ({row}, {column}) in {self.n_rows} x {self.n_columns} tiles"
            )
        top, left = row * self.side, column * self.side
        write = (
            slice(top, min(top + self.side, self.shape[0])),
            slice(left, min(left + self.side, self.shape[1])),
        )
        read = grow(write, self.halo, self.shape)
        return Tile(read, within(write, read), write)

    def __len__(self) -> int:
        return self.n_rows * self.n_columns

    def __iter__(self) -> Iterator[Tile]:
        for row in range(self.n_rows):
            for column in range(self.n_columns):
                yield self.tile(row, column)


class FieldFacts(NamedTuple):
    """What is known of a field of view before any of it is read.

    Parameters
    ----------
    pixel_size : float or None
        Edge of a pixel in nm of the images that reach an estimator; None where tables do.
    maxima : mapping of float
        The largest finite value of each column of numbers, -inf where there is none.
    """

    pixel_size: float | None
    maxima: Mapping[str, float]

    def check_tables(self, taker: str) -> None:
        """Refuse images where tables are taken.

        Parameters
        ----------
        taker : str
            Who takes them.

        Raises
        ------
        InvalidInputError
            If images reach it.
        """
        if self.pixel_size is not None:
            raise InvalidInputError(f"{taker} takes tables, but images reach it")

    def pixel_size_for(self, taker: str) -> float:
        """Give the pixel size of the images that reach an estimator.

        Parameters
        ----------
        taker : str
            Who takes them.

        Returns
        -------
        float
            Edge of a pixel in nm.

        Raises
        ------
        InvalidInputError
            If tables reach it.
        """
        if self.pixel_size is None:
            raise InvalidInputError(
                f"{taker} takes images, but tables reach it: put a Renderer before"
            )
        return self.pixel_size


class TileNeeds(NamedTuple):
    """What an estimator needs so that a tile comes out as that part of the whole image does.

    Parameters
    ----------
    reach : float, default=0.0
        How far from a pixel in nm lies what may change it: the least halo of a tile.
    multiple : int, default=1
        Borders of a tile and of its halo lie at multiples of so many pixels, or at the image's end.
    pixel_size : float or None, default=None
        Edge of a pixel in nm of the images that leave the estimator; None where tables do.
    scales_to_mass : bool, default=False
        Whether the estimator scales an image to the number of localizations in it, which only the
        whole field tells. A tile's output is then asked for without, by
        ``predict(..., scale_to_mass=False)``.
    empty_is_zero : bool, default=True
        Whether the image of no localizations is zero.
    maxima : mapping of float, optional
        The largest values of the columns in which the estimator leaves only smaller ones.
    """

    reach: float = 0.0
    multiple: int = 1
    pixel_size: float | None = None
    scales_to_mass: bool = False
    empty_is_zero: bool = True
    maxima: Mapping[str, float] | None = None

    @property
    def halo_px(self) -> int:
        """The reach in whole pixels of the image, a multiple of `multiple`."""
        if self.pixel_size is None:
            raise InvalidInputError("a halo has pixels only where an image leaves the estimator")
        # 1e-9 forgives float error where the reach is a whole number of multiples.
        n_multiples = math.ceil(self.reach / (self.pixel_size * self.multiple) * (1 - 1e-9))
        return n_multiples * self.multiple


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
