"""Training pairs, drawn from the localizations themselves: what a network learns from."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smlmkit._kernels.pairs import add_crops, draw_crops, sample_crops
from smlmkit.errors import InvalidInputError
from smlmkit.nn.clouds import PointCloud, TargetImage, check_clouds, lay_out, sort_points

# Crops whose input is empty teach nothing; after so many of them in a row, one is taken.
_MAX_TRIES = 20

Images = NDArray[np.float32]
Intervals = NDArray[np.float64]


class Pairs(ABC):
    """A source of training pairs: what a network learns from."""

    @abstractmethod
    def draw(self, n_pairs: int) -> tuple[Images, Images]:
        """Draw the next pairs.

        Parameters
        ----------
        n_pairs : int
            How many.

        Returns
        -------
        inputs : ndarray of float32, shape (n_pairs, n_slices, side, side)
            What the network sees.
        targets : ndarray of float32, shape (n_pairs, n_slices, side, side)
            What it shall foretell.
        """

    @abstractmethod
    def get_state(self) -> dict[str, Any]:
        """Tell where the draws are, so that others of the same making can go on from there.

        Returns
        -------
        dict
            What JSON can hold.
        """

    @abstractmethod
    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from where other pairs of the same making were.

        Parameters
        ----------
        state : dict
            What their `get_state` gave.

        Raises
        ------
        InvalidInputError
            If it is no such state.
        """


@dataclass(frozen=True)
class Draw:
    """Which localizations of a crop its input takes, and which its target.

    Every localization holds a ticket: its own one plus a random part from [0, lot) that is drawn
    anew in every sample. An image takes those whose ticket lies in its interval.

    Parameters
    ----------
    intervals : callable
        Turns uniform numbers from [0, 1) of shape (n, 2), two a sample, into intervals
        ``[low, high)`` of shape (n, 2, 2), the input's and the target's of each sample.
    lot : float, default=1.0
        How much of a ticket is random, in [0, 1]; 0 for tickets that stay.
    aligned : bool, default=False
        Whether crops are of whole pixels in the eight orientations, rather than at any place and
        angle.
    """

    intervals: Callable[[NDArray[np.float64]], Intervals]
    lot: float = 1.0
    aligned: bool = False


class CropPairs(Pairs):
    """Draw every pair as the same square crop of a field of view, from its points.

    A field of view is chosen in proportion to its area, then a crop with uniformly distributed
    centre, angle and mirroring. The input counts some of its points; the target counts others or
    those of a second cloud, or it is sampled from an image. A crop whose *input* is empty is drawn
    anew, field of view included, up to 20 times; its intervals stay. The target has no say in this,
    so its expectation given the input stays what it is in the data.

    Parameters
    ----------
    clouds : sequence of PointCloud
        The points of each field of view.
    draw : Draw
        Which of them input and target take.
    targets : sequence of PointCloud or of TargetImage, optional
        For each field of view, what the target shows instead: all points of another cloud with the
        same box, or an image, sampled bilinearly and scaled to a crop's pixels.
    patch_size : int
        Side of a crop in pixels.
    pixel_size : float
        Edge of a pixel in nm.
    n_slices : int, default=1
        How many planes there are.
    seed : int
        Seed of the draws.

    Raises
    ------
    InvalidInputError
        If no localization is there, or a field of view cannot hold a crop or is too large.
    """

    def __init__(
        self,
        clouds: Sequence[PointCloud],
        draw: Draw,
        targets: Sequence[PointCloud] | Sequence[TargetImage] | None = None,
        *,
        patch_size: int,
        pixel_size: float,
        n_slices: int = 1,
        seed: int,
    ) -> None:
        check_clouds(clouds, patch_size, pixel_size, aligned=draw.aligned)
        boxes = [cloud.box for cloud in clouds]
        self._layout = lay_out(boxes, patch_size, pixel_size, aligned=draw.aligned)
        self._points = sort_points(clouds, self._layout, pixel_size)
        self._draw = draw
        self._images = [
            (target, _pixels_from_corner(target, cloud, pixel_size))
            for target, cloud in zip(targets or (), clouds, strict=targets is not None)
            if isinstance(target, TargetImage)
        ]
        dense = [target for target in targets or () if isinstance(target, PointCloud)]
        self._target_points = sort_points(dense, self._layout, pixel_size) if dense else None
        self._shape = (n_slices, patch_size, patch_size)
        # The intervals have a generator of their own: crops take as many numbers as it happens.
        self._rng = np.random.default_rng(seed)
        (self._interval_rng,) = self._rng.spawn(1)

    def draw(self, n_pairs: int) -> tuple[Images, Images]:
        """Draw the next pairs.

        Parameters
        ----------
        n_pairs : int
            How many. The same pairs follow one another however they are batched.

        Returns
        -------
        inputs : ndarray of float32, shape (n_pairs, n_slices, patch_size, patch_size)
            Counts per pixel of some localizations in each crop.
        targets : ndarray of float32, shape (n_pairs, n_slices, patch_size, patch_size)
            Counts per pixel of others in the same crop, or the expected ones.
        """
        intervals = self._draw.intervals(self._interval_rng.random((n_pairs, 2)))
        crops = np.empty((n_pairs, 6))
        pairs = np.zeros((2, n_pairs, *self._shape), np.float32)
        points, lot = self._points, float(self._draw.lot)
        draw_crops(self._rng, self._layout, points, lot, intervals, _MAX_TRIES, crops, pairs)
        inputs, targets = pairs
        if self._target_points is not None:
            add_crops(self._rng, self._layout, self._target_points, crops, targets)
        for field, (image, (offset, ratio)) in enumerate(self._images):
            sample_crops(image.pixels, offset, ratio, field, crops, targets)
        return inputs, targets

    def get_state(self) -> dict[str, Any]:
        """Tell where the draws are, so that others of the same making can go on from there.

        Returns
        -------
        dict
            What JSON can hold: the states of both random generators.
        """
        return {
            "crops": self._rng.bit_generator.state,
            "intervals": self._interval_rng.bit_generator.state,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from where other pairs of the same making were.

        Parameters
        ----------
        state : dict
            What their `get_state` gave.

        Raises
        ------
        InvalidInputError
            If it is no such state.
        """
        try:
            self._rng.bit_generator.state = state["crops"]
            self._interval_rng.bit_generator.state = state["intervals"]
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            raise InvalidInputError(f"this is no state of training pairs: {error!r}") from error


def _pixels_from_corner(
    image: TargetImage, cloud: PointCloud, pixel_size: float
) -> tuple[tuple[float, float], float]:
    """Give the pixel of an image at the corner of a field of view, and how many make one of ours.

    Numbers are counted between the centres of pixels.
    """
    (y, x), size = image.grid.origin, image.grid.pixel_size
    offset = (cloud.box.y_min - y) / size - 0.5, (cloud.box.x_min - x) / size - 0.5
    return offset, pixel_size / size
