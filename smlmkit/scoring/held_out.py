"""Scoring without ground truth: how well the reconstruction of one half foretells the other half.

A scorer splits every field of view in two, reconstructs half A and compares the result with the raw
histogram of half B. B's noise is independent of the reconstruction, so invented structure earns
nothing. Scoring one reconstruction against the other would not do: a method's habits correlate.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import xarray as xr

from smlmkit.drawing import render_histogram
from smlmkit.errors import InvalidInputError
from smlmkit.images import grid_of
from smlmkit.localizations import Localizations, RandomState
from smlmkit.metrics.likelihood import poisson_log_likelihood
from smlmkit.resolution import Split, frc_curve, repeated_splits
from smlmkit.scoring._fields import FieldScorer, Target, reconstruct

REFERENCE_PIXEL = 10.0
"""Edge in nm of the pixel to which scores of every pixel size refer."""


class HeldOut(NamedTuple):
    """A reconstruction of half A, what it was made from, and the held-out half B."""

    image: xr.DataArray
    half_a: Localizations
    counts: xr.DataArray
    exposure: float


@dataclass(frozen=True, kw_only=True)
class HeldOutScorer(FieldScorer):
    """What the held-out scorers share: a subclass says how to `_compare` image and counts."""

    split: Split = "auto"
    n_blocks: int = 10
    repeats: int = 1
    random_state: RandomState = 0

    def _targets(
        self,
        fovs: list[Localizations],
        y: object,  # noqa: ARG002
        single: bool,  # noqa: ARG002
    ) -> Sequence[Target | None]:
        return [None] * len(fovs)

    def _score_field(
        self,
        estimator: Any,
        fov: Localizations,
        target: Any,  # noqa: ARG002
    ) -> list[dict[str, float]]:
        return [self._compare(held_out) for held_out in self.hold_out(estimator, fov)]

    def hold_out(self, estimator: Any, fov: Localizations) -> Iterator[HeldOut]:
        """Reconstruct half A of a field of view and count half B, once a repeat.

        Parameters
        ----------
        estimator : estimator or Pipeline
            Fitted, with a `predict` or else a `transform` that makes an image of a table.
        fov : Localizations
            The field of view.

        Yields
        ------
        HeldOut
            The reconstruction and what it is compared with.

        Raises
        ------
        InvalidInputError
            If a half is empty or has no localization on the reconstruction's grid.
        """
        for halves in repeated_splits(
            fov, self.split, self.n_blocks, self.repeats, self.random_state
        ):
            if 0 in map(len, halves):
                raise InvalidInputError(
                    f"a half is empty after splitting {len(fov)} localizations in two"
                )
            image = reconstruct(estimator, halves[0])
            yield HeldOut(image, halves[0], *count_held_out(image, *halves))

    @abstractmethod
    def _compare(self, held_out: HeldOut) -> dict[str, float]:
        """Score a reconstruction of half A against the counts of half B."""


def count_held_out(
    image: xr.DataArray, half_a: Localizations, half_b: Localizations
) -> tuple[xr.DataArray, float]:
    """Count half B on the grid of a reconstruction of half A.

    Parameters
    ----------
    image : DataArray of dims (y, x)
        The reconstruction.
    half_a : Localizations
        What was reconstructed.
    half_b : Localizations
        What was held out.

    Returns
    -------
    counts : DataArray of dims (y, x)
        Localizations of half B per pixel.
    exposure : float
        Localizations of half B for one of half A, both on the grid.

    Raises
    ------
    InvalidInputError
        If a half has no localization on the grid.
    """
    grid = grid_of(image)
    counts = render_histogram(half_b, grid.pixel_size, grid)
    n_reconstructed = len(half_a.crop(grid.field_of_view))
    if n_reconstructed == 0 or not counts.any():
        raise InvalidInputError(f"a half has no localization on the reconstruction's {grid}")
    return counts, float(counts.sum()) / n_reconstructed


def compare_held_out(
    image: xr.DataArray, half_a: Localizations, half_b: Localizations
) -> dict[str, float]:
    """Compare a reconstruction of half A with the raw half B by every held-out measure.

    Parameters
    ----------
    image : DataArray of dims (y, x)
        The reconstruction.
    half_a : Localizations
        What was reconstructed.
    half_b : Localizations
        What was held out.

    Returns
    -------
    dict of float
        ``frc_area_0.2`` and ``frc_area_0.5`` (up to so many cycles per pixel), ``log_likelihood``
        (nats per localization, per pixel of the image) and ``frc_resolution`` (nm; nan when there
        is none).

    Raises
    ------
    InvalidInputError
        If a half has no localization on the image's grid.
    """
    counts, exposure = count_held_out(image, half_a, half_b)
    curve = frc_curve(image, counts)
    return {
        "frc_area_0.2": curve.area(0.2),
        "frc_area_0.5": curve.area(0.5),
        "log_likelihood": poisson_log_likelihood(
            counts.to_numpy(), image.to_numpy(), exposure=exposure
        ),
        "frc_resolution": curve.resolution,
    }


@dataclass(frozen=True, kw_only=True)
class PoissonScorer(HeldOutScorer):
    """Score an estimator by the Poisson log-likelihood of held-out localizations.

    Parameters
    ----------
    split : {"auto", "frames", "random"}, default="auto"
        How a field of view is split, see `Localizations.split`.
    n_blocks : int, default=10
        Number of blocks of frames.
    repeats : int, default=1
        How often every field of view is split anew.
    random_state : int, RandomState or None, default=0
        Source of randomness of the splits, the same for every field of view. An int compares
        estimators on the same halves.
    background : float, default=0.01
        Share of the localizations, in (0, 1), that a uniform background explains, so that none has
        probability 0.

    Raises
    ------
    InvalidInputError
        If `background` is out of range.

    See Also
    --------
    FRCScorer : Blind to scale and to isotropic linear filters.

    Notes
    -----
    With the reconstruction P of the n_A localizations of half A as expected localizations per
    pixel, half B's n_B localizations are expected at lambda = P n_B / n_A, mixed with the
    background; `smlmkit.metrics.likelihood.poisson_log_likelihood` has the formula. P is not
    normalised. The score is in nats per localization and refers to a pixel of 10 nm whatever the
    pixel size of P (log lambda is taken per 100 nm²), so that pixel sizes can be compared.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from smlmkit import GaussianKDE, Localizations, PoissonScorer, Renderer
    >>> rng = np.random.default_rng(0)
    >>> emitters = rng.uniform(0, 1000, size=(20, 2))
    >>> blinks = np.repeat(emitters, 50, axis=0) + rng.normal(scale=15, size=(1000, 2))
    >>> fov = Localizations(blinks, field_of_view=(-100, -100, 1100, 1100))
    >>> score = PoissonScorer()
    >>> sigmas = [2, 10, 50]
    >>> scores = [score(make_pipeline(Renderer(), GaussianKDE(s)).fit(fov), fov) for s in sigmas]
    >>> sigmas[np.argmax(scores)]
    10
    """

    background: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.background < 1:
            raise InvalidInputError(f"background must be in (0, 1), got {self.background!r}")

    def _compare(self, held_out: HeldOut) -> dict[str, float]:
        score = poisson_log_likelihood(
            held_out.counts.to_numpy(),
            held_out.image.to_numpy(),
            exposure=held_out.exposure,
            background=self.background,
        )
        pixel_size = grid_of(held_out.image).pixel_size
        return {"score": score + 2 * math.log(REFERENCE_PIXEL / pixel_size)}
