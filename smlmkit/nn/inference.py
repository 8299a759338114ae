"""Prediction of images of any size in overlapping tiles, without work where nothing is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter
from torch import Tensor

from smlmkit.nn.base import Network
from smlmkit.nn.devices import autocast, resolve_precision
from smlmkit.tiling import Slices, cover

Image = NDArray[np.float32]

# With its halo of 64 a tile of the paper's U-Net is then 448 pixels a side. Larger ones read less
# twice, but the allocator maps and clears the memory of their features anew for each layer.
_TILE = 320


class _Orientation(NamedTuple):
    """One of the eight ways to lay an image: transposed or not, then mirrored along some axes."""

    transpose: bool
    mirrored: tuple[int, ...]

    def apply(self, image: Tensor) -> Tensor:
        """Lay an image of shape (..., height, width) in this way."""
        return (image.mT if self.transpose else image).flip(self.mirrored)

    def apply_to_box(self, box: Slices, shape: tuple[int, int]) -> Slices:
        """Tell where a box of an image of some shape is after that."""
        step = -1 if self.transpose else 1
        rows, columns = (
            slice(length - part.stop, length - part.start) if axis in self.mirrored else part
            for axis, part, length in zip((-2, -1), box[::step], shape[::step], strict=True)
        )
        return rows, columns

    def undo(self, image: Tensor) -> Tensor:
        """Lay it back."""
        image = image.flip(self.mirrored)
        return image.mT if self.transpose else image


_UPRIGHT = _Orientation(transpose=False, mirrored=())
_ORIENTATIONS = [
    _Orientation(transpose, mirrored)
    for transpose in (False, True)
    for mirrored in ((), (-1,), (-2,), (-2, -1))
]


def predict_image(
    networks: Sequence[Network],
    images: Sequence[Image],
    device: torch.device,
    *,
    tta: bool = False,
    return_deviation: bool = False,
    precision: str = "float32",
    tile: int | None = None,
) -> tuple[Image, Image | None]:
    """Give the mean opinion of networks on an image, tile by tile.

    An opinion is what one network says about one image in one orientation. The result is that
    of the networks applied to the whole image, padded with zeros below and to the right to sides
    that they take.

    Parameters
    ----------
    networks : sequence of Network
        On `device`, in the state for prediction (``eval``).
    images : sequence of ndarray of float32, shape (n_slices, height, width)
        Localizations per pixel of the same field: of the whole table, or of parts of it.
    device : torch.device
        Where to compute.
    tta : bool, default=False
        Whether each network sees each image in all eight orientations.
    return_deviation : bool, default=False
        Whether the deviation is wanted, too.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="float32"
        Numbers that convolutions compute with, see `smlmkit.nn.devices.resolve_precision`.
    tile : int or None, default=None
        Greatest side in pixels of a tile without its halo; rounded up to a multiple of the
        networks'. None is 320, or more for networks that see far.

    Returns
    -------
    mean : ndarray of float32, shape (n_slices, height, width)
        Mean of the opinions.
    deviation : ndarray of the same shape or None
        Mean absolute deviation of the opinions from their mean, if wanted.

    Raises
    ------
    InvalidInputError
        If the device does not compute with the precision.

    Notes
    -----
    A tile is read with a halo that holds all that its output depends on. Where nothing is within
    the halo, the output only depends on the distances to the borders and the place in the grid of
    the poolings. So it is computed once, on an image just large enough to have all of these, and
    copied to where it belongs; tiles cover the rest.

    Outputs that are not finite are handed on. Beside the images, memory is that of a tile.
    """
    panel = _Panel(
        networks,
        device,
        _ORIENTATIONS if tta else [_UPRIGHT],
        resolve_precision(precision, device),
        return_deviation,
    )
    multiple, halo = networks[0].multiple, networks[0].halo
    n_slices, height, width = images[0].shape
    shape = (height + -height % multiple, width + -width % multiple)
    results = [np.empty((n_slices, height, width), np.float32) for _ in range(1 + return_deviation)]

    depends = _blocks_that_depend(images, multiple, halo)
    if not depends.all():
        nothing = [np.zeros((n_slices, 0, 0), np.float32)] * len(images)
        rows, columns = (_places_in_little(side, multiple, halo) for side in shape)
        little = (slice(0, int(rows.max()) + 1), slice(0, int(columns.max()) + 1))
        for result, judged in zip(results, panel.judge(nothing, little, little), strict=True):
            for y in range(height):
                result[:, y] = judged[:, rows[y], columns[:width]]
    side = -(-(tile or max(_TILE, 2 * halo)) // multiple)
    for tile_in_blocks in cover(depends, side, halo // multiple):
        read, crop, write = (_times(part, multiple) for part in tile_in_blocks)
        judgements = panel.judge(images, read, crop)
        for result, judged in zip(results, judgements, strict=True):
            target = result[(..., *write)]
            target[:] = judged[:, : target.shape[1], : target.shape[2]]
    return results[0], results[1] if return_deviation else None


@dataclass(frozen=True)
class _Panel:
    """All who are asked, and how."""

    networks: Sequence[Network]
    device: torch.device
    orientations: Sequence[_Orientation]
    precision: str
    return_deviation: bool

    @torch.inference_mode()
    def judge(self, images: Sequence[Image], read: Slices, crop: Slices) -> list[Image]:
        """Read a part of the images and give the mean, and the deviation, on a part of that."""
        opinions = torch.stack(
            [
                self._opinion(network, orientation, patch, crop)
                for patch in [self._patch(image, read) for image in images]
                for network in self.networks
                for orientation in self.orientations
            ]
        )
        mean = opinions.mean(dim=0)
        judgements = [mean]
        if self.return_deviation:
            judgements.append(opinions.sub_(mean).abs_().mean(dim=0))
        return [judgement.cpu().numpy() for judgement in judgements]

    def _opinion(
        self, network: Network, orientation: _Orientation, patch: Tensor, keep: Slices
    ) -> Tensor:
        """Give what a network makes of a part of an image, nothing below 0."""
        _, height, width = patch.shape
        batch = orientation.apply(patch)[None].contiguous(memory_format=torch.channels_last)
        with autocast(self.device, self.precision):
            output = network(batch, orientation.apply_to_box(keep, (height, width)))[0]
        return orientation.undo(output).float().clamp(min=0)

    def _patch(self, image: Image, read: Slices) -> Tensor:
        """Take a part of an image, with zeros beyond its end."""
        there = image[(..., *read)]
        height, width = (part.stop - part.start for part in read)
        patch = np.zeros((len(image), height, width), np.float32)
        patch[:, : there.shape[1], : there.shape[2]] = there
        return torch.from_numpy(patch).to(self.device)


def _blocks_that_depend(images: Sequence[Image], multiple: int, halo: int) -> NDArray[np.bool_]:
    """Find the blocks of `multiple` pixels a side near enough to a count to be changed by it."""
    _, height, width = images[0].shape
    is_occupied = np.zeros((-(-height // multiple), -(-width // multiple)), dtype=bool)
    starts = np.arange(0, width, multiple)
    for image in images:
        for row in range(len(is_occupied)):
            columns = image[:, row * multiple : (row + 1) * multiple].any(axis=(0, 1))
            is_occupied[row] |= np.logical_or.reduceat(columns, starts)
    depends: NDArray[np.bool_] = maximum_filter(
        is_occupied, 2 * (halo // multiple) + 1, mode="constant"
    )
    return depends


def _places_in_little(side: int, multiple: int, halo: int) -> NDArray[np.intp]:
    """Give the place along an axis of the smallest empty image that is like each place in this one.

    It is as far from the borders, as far as they are within the halo, and in the same place of the
    grid of the poolings.
    """
    little = min(side, 2 * halo + multiple)
    places = np.arange(side)
    from_far_end = places - side + little
    inside = halo + places % multiple
    return np.select([places < halo, from_far_end >= little - halo], [places, from_far_end], inside)


def _times(box: Slices, factor: int) -> Slices:
    rows, columns = (slice(part.start * factor, part.stop * factor) for part in box)
    return rows, columns
