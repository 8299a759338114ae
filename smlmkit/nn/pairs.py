"""Training pairs for Noise2Noise, drawn from the localizations themselves."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smlmkit._kernels.pairs import draw_pairs, sort_into_cells
from smlmkit.drawing import draw_counts
from smlmkit.errors import InvalidInputError
from smlmkit.grid import FieldOfView, PixelGrid

# Crops whose input half is empty teach nothing; after so many of them in a row, one is taken.
_MAX_TRIES = 20

# 2^28 cells of half a patch are a field of 524,288 x 524,288 pixels at 64 pixels a patch.
_MAX_CELLS = 2**28

# 2^30 pixels are 4 GiB for each of the two images of a field.
_MAX_PIXELS = 2**30

Points = tuple[NDArray[np.float64], NDArray[np.float64], FieldOfView]


class Pairs(ABC):
    """A source of training pairs: what a network learns from."""

    @abstractmethod
    def draw(self, n_pairs: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Draw the next pairs.

        Parameters
        ----------
        n_pairs : int
            How many.

        Returns
        -------
        inputs : ndarray of float32, shape (n_pairs, 1, side, side)
            What the network sees.
        targets : ndarray of float32, shape (n_pairs, 1, side, side)
            What it shall foretell.
        """


@dataclass(frozen=True)
class _CellSortedPoints:
    """The points of all fields of view, sorted by cell; see `smlmkit._kernels.pairs`."""

    y: NDArray[np.float64]
    x: NDArray[np.float64]
    cell_size: float
    cell_starts: NDArray[np.int64]
    field_sizes: NDArray[np.float64]
    field_cells: NDArray[np.int64]


class DynamicPairs(Pairs):
    """Draw every training pair anew from the point clouds: the *dynamic* strategy.

    A field of view is chosen in proportion to its area, then a square crop with uniformly
    distributed centre, angle and mirroring. Each localization in it is dropped with probability
    ``1 - keep``; the others go to the input or to the target by a fair coin, and both are binned.
    A crop whose *input* is empty is drawn anew, field of view included, up to 20 times. The target
    has no say in this, so its expectation given the input stays what it is in the data.

    Parameters
    ----------
    fields : sequence of (y, x, field_of_view)
        The points of each field of view: two arrays of shape (n,) in nm and the box.
    patch_size : int
        Side of a crop in pixels.
    pixel_size : float
        Edge of a pixel in nm.
    keep : float
        Share of the localizations that take part, in (0, 1].
    seed : int
        Seed of the draws.

    Raises
    ------
    InvalidInputError
        If no localization is there, or a field of view cannot hold a rotated crop.

    References
    ----------
    Lefebvre et al. (2020), Noise2Noise for single-molecule localization microscopy.
    """

    def __init__(
        self,
        fields: Sequence[Points],
        *,
        patch_size: int,
        pixel_size: float,
        keep: float,
        seed: int,
    ) -> None:
        patch = f"a rotated patch of {patch_size} px of {pixel_size:g} nm"
        _check_fields(fields, patch, math.sqrt(2) * patch_size * pixel_size)
        self._points = _sort_fields(fields, cell_size=patch_size * pixel_size / 2)
        self._cumulative_area = _accumulate_area(fields)
        self._patch_size = patch_size
        self._pixel_size = float(pixel_size)
        self._keep = float(keep)
        self._rng = np.random.default_rng(seed)

    def draw(self, n_pairs: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Draw the next pairs.

        Parameters
        ----------
        n_pairs : int
            How many.

        Returns
        -------
        inputs : ndarray of float32, shape (n_pairs, 1, patch_size, patch_size)
            Counts per pixel of a subset of the localizations in each crop.
        targets : ndarray of float32, shape (n_pairs, 1, patch_size, patch_size)
            Counts per pixel of another subset of the same crops, disjoint from the first.
        """
        shape = (n_pairs, self._patch_size, self._patch_size)
        inputs, targets = np.empty(shape, np.float32), np.empty(shape, np.float32)
        draw_pairs(
            self._rng,
            (self._points.y, self._points.x),
            self._points.cell_starts,
            self._points.cell_size,
            self._points.field_sizes,
            self._points.field_cells,
            self._cumulative_area,
            self._pixel_size,
            self._keep,
            _MAX_TRIES,
            inputs,
            targets,
        )
        return inputs[:, np.newaxis], targets[:, np.newaxis]


class FixedPairs(Pairs):
    """Crop every training pair from two noisy images of a field of view: the *fixed* strategy.

    Each field of view is split once: every localization goes to one of two halves by a fair coin,
    and both halves are binned. Every pair is the same crop of both, as in Noise2Noise between two
    exposures. A field of view is chosen in proportion to its area, then the crop's place, in whole
    pixels, one of the eight flips and quarter turns of a square, and which half is the input, all
    with equal probabilities. A crop whose *input* is empty is drawn anew, field of view included,
    up to 20 times. The target has no say in this, so its expectation given the input stays what it
    is in the data.

    Parameters
    ----------
    fields : sequence of (y, x, field_of_view)
        The points of each field of view: two arrays of shape (n,) in nm and the box.
    patch_size : int
        Side of a crop in pixels.
    pixel_size : float
        Edge of a pixel in nm.
    seed : int
        Seed of the split and of the draws.

    Raises
    ------
    InvalidInputError
        If no localization is there, or a field of view cannot hold a crop.

    References
    ----------
    Lefebvre et al. (2020), Noise2Noise for single-molecule localization microscopy.
    Lehtinen et al. (2018), Noise2Noise: learning image restoration without clean data.
    """

    def __init__(
        self,
        fields: Sequence[Points],
        *,
        patch_size: int,
        pixel_size: float,
        seed: int,
    ) -> None:
        patch = f"a patch of {patch_size} px of {pixel_size:g} nm"
        _check_fields(fields, patch, patch_size * pixel_size)
        self._rng = np.random.default_rng(seed)
        self._fields = [_render_halves(points, pixel_size, self._rng) for points in fields]
        self._cumulative_area = _accumulate_area(fields)
        self._patch_size = patch_size

    def draw(self, n_pairs: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Draw the next pairs.

        Parameters
        ----------
        n_pairs : int
            How many.

        Returns
        -------
        inputs : ndarray of float32, shape (n_pairs, 1, patch_size, patch_size)
            Counts per pixel of one half of the localizations in each crop.
        targets : ndarray of float32, shape (n_pairs, 1, patch_size, patch_size)
            Counts per pixel of the other half.
        """
        pairs = np.empty((2, n_pairs, 1, self._patch_size, self._patch_size), np.float32)
        for number in range(n_pairs):
            for _ in range(_MAX_TRIES):
                pair = self._draw_pair()
                if pair[0].any():
                    break
            pairs[:, number, 0] = pair
        return pairs[0], pairs[1]

    def _draw_pair(self) -> NDArray[np.float32]:
        """Draw a crop in any of its eight orientations: first the input, then the target."""
        rng, side = self._rng, self._patch_size
        halves = self._fields[np.searchsorted(self._cumulative_area, rng.random(), side="right")]
        top, left = (rng.integers(n_px - side, endpoint=True) for n_px in halves.shape[1:])
        order, y_step, x_step = 1 - 2 * rng.integers(2, size=3)
        pair = halves[:, top : top + side, left : left + side][::order, ::y_step, ::x_step]
        return pair.swapaxes(1, 2) if rng.integers(2) else pair


def _render_halves(
    points: Points, pixel_size: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Split points by fair coins and count each half per pixel; shape (2, height_px, width_px)."""
    y, x, box = points
    grid = PixelGrid.covering(box, pixel_size)
    if math.prod(grid.shape) > _MAX_PIXELS:
        raise _too_large(box)
    in_first = rng.random(len(y)) < 0.5
    halves = np.zeros((2, *grid.shape), np.float32)
    for image, in_half in zip(halves, (in_first, ~in_first), strict=True):
        draw_counts(y[in_half], x[in_half], grid, box, image)
    return halves


def _check_fields(fields: Sequence[Points], patch: str, side: float) -> None:
    """Refuse fields of view that cannot hold a patch, which needs `side` nm, or without points."""
    # As in the grid that covers a field of view, 1e-12 forgives float error in whole multiples.
    too_small = [
        f"field of view {position} is {box.height:.6g} x {box.width:.6g} nm"
        for position, (_, _, box) in enumerate(fields)
        if min(box.height, box.width) < side * (1 - 1e-12)
    ]
    if too_small:
        raise InvalidInputError(
            f"{'; '.join(too_small)}: {patch} needs {side:.0f} nm a side; "
            "lower patch_size or leave the field out"
        )
    if not any(len(y) for y, _, _ in fields):
        raise InvalidInputError("there are no localizations to learn from")


def _too_large(box: FieldOfView) -> InvalidInputError:
    return InvalidInputError(f"{box} is too large to train on; is there an outlier in it?")


def _accumulate_area(fields: Sequence[Points]) -> NDArray[np.float64]:
    """Give the share of the area up to and including each field of view."""
    areas = np.array([box.height * box.width for _, _, box in fields])
    shares: NDArray[np.float64] = np.cumsum(areas) / areas.sum()
    shares[-1] = 1.0
    return shares


def _sort_fields(fields: Sequence[Points], cell_size: float) -> _CellSortedPoints:
    sorted_y, sorted_x, starts, sizes, cells = [], [], [], [], []
    n_points = n_cells = 0
    for y, x, box in fields:
        shape = (math.ceil(box.height / cell_size), math.ceil(box.width / cell_size))
        if shape[0] * shape[1] > _MAX_CELLS:
            raise _too_large(box)
        field_y, field_x, field_starts = sort_into_cells(
            y, x, (box.y_min, box.x_min), cell_size, shape
        )
        sorted_y.append(field_y)
        sorted_x.append(field_x)
        starts.append(field_starts[:-1] + n_points)
        sizes.append((box.height, box.width))
        cells.append((n_cells, *shape))
        n_points += len(y)
        n_cells += shape[0] * shape[1]
    return _CellSortedPoints(
        y=np.concatenate(sorted_y),
        x=np.concatenate(sorted_x),
        cell_size=cell_size,
        cell_starts=np.concatenate([*starts, [n_points]]),
        field_sizes=np.array(sizes, np.float64),
        field_cells=np.array(cells, np.int64),
    )
