"""FRCScorer: the Fourier ring correlation with held-out localizations or with a target."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import pandas as pd
import xarray as xr

from smlmkit._checks import check_between
from smlmkit.drawing import render_histogram
from smlmkit.errors import InvalidInputError
from smlmkit.grid import check_pixel_size
from smlmkit.images import grid_of
from smlmkit.localizations import Localizations
from smlmkit.metrics.frc import area_up_to, frc_area, frc_ceiling
from smlmkit.resolution import frc_curve
from smlmkit.samples import Target, as_fovs, as_targets
from smlmkit.scoring._fields import draw_target, reconstruct, tabulate
from smlmkit.scoring._halves import REFERENCE_PIXEL, HeldOut, HeldOutScorer


@dataclass(frozen=True, kw_only=True)
class FRCScorer(HeldOutScorer):
    """Score an estimator by the Fourier ring correlation, without ground truth or with it.

    Parameters
    ----------
    split : {"auto", "frames", "random"}, default="auto"
        How a field of view is split, see `Localizations.split`.
    n_blocks : int, default=10
        Number of blocks of frames.
    repeats : int, default=1
        How often every field of view is split anew.
    random_state : int, RandomState or None, default=0
        Source of randomness of the splits. An int starts anew at every field of view and in every
        call, so that estimators are compared on the same halves. None draws others each time; only
        a single split by frames then alternates the blocks, always alike. A RandomState moves on
        from field to field, so that the candidates of a search see other halves.
    reference : {"heldout", "target"}, default="heldout"
        What a reconstruction is compared with. ``"heldout"``: that of half A of each field of view
        with the raw histogram of half B. ``"target"``: that of the whole field with y, a dense
        table, which is counted on the reconstruction's grid, or an image on that grid.
    measure : {"area", "resolution"}, default="area"
        The mean correlation up to `cutoff`, or minus the resolution in nm at the 1/7 threshold. A
        curve that never falls below counts as the finest that the pixels hold, twice their size,
        and one that starts below or is of a constant image as the field's shorter side.
    cutoff : float, default=0.2
        Highest frequency of the area in cycles per pixel of `pixel_size`, at most 0.5.
    pixel_size : float, default=10.0
        The pixel in nm to which `cutoff` refers, so that reconstructions of every pixel size are
        judged on the same frequencies. Those that its pixels cannot hold earn 0.

    Raises
    ------
    InvalidInputError
        If a parameter is unknown or out of range.

    See Also
    --------
    PoissonScorer : Sees scale and blur, which this one does not.

    Notes
    -----
    The area is the mean over rings up to the cutoff of FRC(P, B), where P is the reconstruction of
    half A and B the raw histogram of half B on the grid of P. Ring by ring its expectation is
    largest where P is proportional to the true density. It is blind to a gain per ring, hence to
    every isotropic linear filter: a search over the width of a Gaussian needs `PoissonScorer`. A
    constant reconstruction shares nothing with B and scores 0.

    Where emitters blink repeatedly, split by frames: a random split puts blinks of one emitter into
    both halves and rewards images of the emitters that blinked.

    Examples
    --------
    >>> import numpy as np
    >>> from smlmkit import FRCScorer, Localizations, Renderer
    >>> rng = np.random.default_rng(0)
    >>> emitters = rng.uniform(0, 1000, size=(20, 2))
    >>> blinks = np.repeat(emitters, 50, axis=0) + rng.normal(scale=8, size=(1000, 2))
    >>> fovs = [Localizations(blinks, field_of_view=(-50, -50, 1050, 1050))]
    >>> scorer = FRCScorer(repeats=3)
    >>> 0.7 < scorer(Renderer(pixel_size=10).fit(fovs), fovs) < 1
    True
    >>> scorer.score_fields(Renderer(pixel_size=10).fit(fovs), fovs).shape
    (3, 3)
    """

    reference: Literal["heldout", "target"] = "heldout"
    measure: Literal["area", "resolution"] = "area"
    cutoff: float = 0.2
    pixel_size: float = REFERENCE_PIXEL

    def __post_init__(self) -> None:
        super().__post_init__()
        check_pixel_size(self.pixel_size)
        check_between(0, 0.5, closed="right", cutoff=self.cutoff)
        if self.reference not in ("heldout", "target"):
            raise InvalidInputError(
                f"reference must be 'heldout' or 'target', got {self.reference!r}"
            )
        if self.measure not in ("area", "resolution"):
            raise InvalidInputError(f"measure must be 'area' or 'resolution', got {self.measure!r}")

    def score_headroom(self, estimator: Any, X: object) -> pd.DataFrame:
        """Score held-out areas between those of the raw half and the best that there can be.

        Parameters
        ----------
        estimator : estimator or Pipeline
            Fitted, with a `predict` or else a `transform` that makes an image of a table.
        X : Localizations or list of Localizations
            The fields of view.

        Returns
        -------
        DataFrame
            Columns ``field``, ``repeat``, ``score``, ``raw``: the area of half A as it is,
            ``ceiling``: that of the true density, and ``share``: (score - raw) / (ceiling - raw),
            the share of the headroom that the estimator took; nan where there is none.

        Raises
        ------
        InvalidInputError, InvalidTypeError
            If a field of view cannot be scored, which the message names.

        Notes
        -----
        In expectation, where both halves are draws of one density, no reconstruction of half A
        scores more than that density without noise, whose correlation with half B
        `smlmkit.metrics.frc.frc_ceiling` reads from the two halves, at most 1 a ring. A bead or
        bleaching breaks this, and a score may then lie above the ceiling. Blinks of one emitter in
        both halves inflate all three areas, the ceiling most: they then speak of the emitters that
        happened to blink rather than of the structure that carries them. A split by frames avoids
        most of this, a random one none of it.

        Examples
        --------
        >>> from smlmkit import FRCScorer, Renderer, make_microtubules
        >>> blinks, _ = make_microtubules(field_size=3000, density=1000, random_state=0)
        >>> table = FRCScorer().score_headroom(Renderer(), blinks)
        >>> bool(table["raw"][0] == table["score"][0] < table["ceiling"][0])
        True
        """
        return tabulate(partial(self._headroom, estimator), as_fovs(X)[0])

    def _headroom(self, estimator: Any, fov: Localizations) -> Iterator[dict[str, float]]:
        for held_out in self.hold_out(estimator, fov):
            grid = grid_of(held_out.image)
            raw_half = render_histogram(held_out.half_a, grid.pixel_size, grid)
            score = self._area(held_out.image, held_out.counts)
            raw = self._area(raw_half, held_out.counts)
            ceiling = self._area(raw_half, held_out.counts, frc_ceiling)
            share = (score - raw) / (ceiling - raw) if ceiling > raw else math.nan
            yield {"score": score, "raw": raw, "ceiling": ceiling, "share": share}

    def _targets(
        self, fovs: Sequence[Localizations], y: object, single: bool
    ) -> Sequence[Target | None]:
        if self.reference == "target":
            return as_targets(y, fovs, single)
        return super()._targets(fovs, y, single)

    def _score_field(
        self, estimator: Any, fov: Localizations, target: Any
    ) -> list[dict[str, float]]:
        if target is None:
            return super()._score_field(estimator, fov, target)
        image = reconstruct(estimator, fov)
        return [{"score": self._measure(image, draw_target(target, image))}]

    def _compare(self, held_out: HeldOut) -> dict[str, float]:
        return {"score": self._measure(held_out.image, held_out.counts)}

    def _measure(self, image: xr.DataArray, reference: xr.DataArray) -> float:
        if self.measure == "area":
            return self._area(image, reference)
        curve = frc_curve(image, reference)
        if not curve.reason:
            return -curve.resolution
        never_crosses = bool((curve.smoothed[1:] >= curve.threshold_curve[1:]).all())
        return -curve.pixel_size * (2 if never_crosses else min(image.shape))

    def _area(self, image: xr.DataArray, reference: xr.DataArray, area: Any = frc_area) -> float:
        cutoff = self.cutoff * grid_of(image).pixel_size / self.pixel_size
        return area_up_to(cutoff, image.to_numpy(), reference.to_numpy(), area)
