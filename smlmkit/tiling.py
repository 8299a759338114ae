"""Tiles of an image as pure integers: where to read, what to keep, where to write."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

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
class TilePlan:
    """Cut an image into tiles that are processed with a halo and written once.

    Parameters
    ----------
    shape : tuple of int
        Shape of the image in pixels.
    tile : int
        Side of a tile in pixels; those at the far borders may be smaller.
    halo : int
        Pixels around a tile that are read with it; the image's border cuts the halo.

    Raises
    ------
    InvalidInputError
        If a side or the tile is not positive, or the halo is negative.

    Examples
    --------
    >>> [(tile.read[1], tile.write[1]) for tile in TilePlan((4, 10), tile=5, halo=2)]
    [(slice(0, 7, None), slice(0, 5, None)), (slice(3, 10, None), slice(5, 10, None))]
    """

    shape: tuple[int, int]
    tile: int
    halo: int

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or self.tile < 1 or self.halo < 0:
            raise InvalidInputError(
                f"tiles need positive sides and a halo of at least 0, got shape {self.shape}, "
                f"tile {self.tile}, halo {self.halo}"
            )

    def __len__(self) -> int:
        rows, columns = (-(-side // self.tile) for side in self.shape)
        return rows * columns

    def __iter__(self) -> Iterator[Tile]:
        height, width = self.shape
        for top in range(0, height, self.tile):
            for left in range(0, width, self.tile):
                rows, columns = self._axis(top, height), self._axis(left, width)
                yield Tile(*zip(rows, columns, strict=True))

    def _axis(self, start: int, side: int) -> tuple[slice, slice, slice]:
        """Give what to read, keep and write along one axis."""
        stop = min(start + self.tile, side)
        read_start, read_stop = max(start - self.halo, 0), min(stop + self.halo, side)
        return (
            slice(read_start, read_stop),
            slice(start - read_start, stop - read_start),
            slice(start, stop),
        )
