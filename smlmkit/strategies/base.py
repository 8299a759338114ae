"""What the strategies share: from tables to clouds of points, and to pairs."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from smlmkit.drawing import check_slice_edges
from smlmkit.localizations import Localizations
from smlmkit.nn.clouds import PointCloud, TargetImage
from smlmkit.nn.pairs import CropPairs, Draw, Pairs
from smlmkit.samples import Target
from smlmkit.strategies._sources import Slab, as_cloud, cut_out


class Strategy(BaseEstimator, ABC):
    """How training pairs are made: what the input shows of each crop, and what the target.

    A strategy is an estimator's parameter: it can be cloned, and a search may vary its parameters.

    Notes
    -----
    Fields of view are drawn in proportion to their area. A crop whose *input* is empty teaches
    nothing and is drawn anew, field of view included, up to 20 times. The target has no say in
    this: choosing crops by it would favour those with a chance excess of localizations, and bias
    what the network learns upwards.
    """

    name: ClassVar[str]
    """What `resolve_strategy` knows it by."""

    needs_targets: ClassVar[bool] = False
    """Whether pairs need a second table or an image of every field of view."""

    @abstractmethod
    def check_parameters(self) -> None:
        """Refuse parameters that cannot be used.

        Raises
        ------
        InvalidInputError, InvalidTypeError
            If one of them is of the wrong kind or out of range; the message names it.
        """

    def make_pairs(
        self,
        fovs: Sequence[Localizations],
        targets: Sequence[Target] | None = None,
        *,
        patch_size: int,
        pixel_size: float,
        z_edges: ArrayLike | None = None,
        seed: int,
    ) -> Pairs:
        """Make the source of pairs that a network learns from.

        Parameters
        ----------
        fovs : sequence of Localizations
            The tables, one a field of view.
        targets : sequence of Localizations or of DataArray, optional
            What the strategies that need targets learn to foretell: for each field of view a table,
            or an image in expected localizations per pixel. Others do not look at it.
        patch_size : int
            Side of a crop in pixels.
        pixel_size : float
            Edge of a pixel in nm.
        z_edges : array-like of shape (n_slices + 1,), optional
            The rising edges of slices in nm; the upper edge of the last one belongs to it. Without
            them there is one plane, for localizations of every depth.
        seed : int
            Seed of the draws.

        Returns
        -------
        Pairs
            A source of pairs of shape (n, n_slices, patch_size, patch_size).

        Raises
        ------
        InvalidInputError, InvalidTypeError
            If a parameter, a table or a target cannot be used; the message names it.

        Warns
        -----
        UnusedRowsWarning
            If localizations of a table lie outside of the slices.
        """
        self.check_parameters()
        edges = check_slice_edges("z_edges", z_edges)
        slabs = [cut_out(fov, edges, f"X[{i}]") for i, fov in enumerate(fovs)]
        # Not the generator of the pairs, whose draws may not follow the tickets.
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
        clouds = [
            as_cloud(slab, self._tickets(slab.table, rng, f"X[{i}]"))
            for i, slab in enumerate(slabs)
        ]
        return CropPairs(
            clouds,
            self._draw(),
            self._targets(slabs, targets, pixel_size, edges),
            patch_size=patch_size,
            pixel_size=pixel_size,
            n_slices=1 if edges is None else len(edges) - 1,
            seed=seed,
        )

    @abstractmethod
    def _draw(self) -> Draw:
        """Say which tickets input and target take."""

    def _tickets(
        self,
        fov: Localizations,  # noqa: ARG002
        rng: np.random.Generator,  # noqa: ARG002
        label: str,  # noqa: ARG002
    ) -> NDArray[np.float64] | None:
        """Give each localization's own ticket; None where all have the ticket 0."""
        return None

    def _targets(
        self,
        slabs: Sequence[Slab],  # noqa: ARG002
        targets: Sequence[Target] | None,  # noqa: ARG002
        pixel_size: float,  # noqa: ARG002
        z_edges: NDArray[np.float64] | None,  # noqa: ARG002
    ) -> list[PointCloud] | list[TargetImage] | None:
        """Give what targets show; None where they show other localizations of the same table."""
        return None
