"""Scorers without ground truth: how well the reconstruction of one half foretells the other half.

A scorer splits every field of view in two, reconstructs half A and compares the result with the raw
histogram of half B. B's noise is independent of the reconstruction, so invented structure earns
nothing. Scoring one reconstruction against the other would not do: a method's habits correlate.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import pandas as pd
import xarray as xr

from smlmkit.drawing import render_histogram
from smlmkit.errors import InvalidInputError
from smlmkit.grid import check_pixel_size
from smlmkit.images import grid_of
from smlmkit.localizations import Localizations, RandomState
from smlmkit.metrics.frc import frc_area
from smlmkit.metrics.likelihood import poisson_log_likelihood
from smlmkit.resolution import Split, frc_curve, repeated_splits
from smlmkit.samples import as_fovs

_REFERENCE_PIXEL = 10.0
"""Edge in nm of the pixel to which likelihoods of every pixel size refer."""


@dataclass(frozen=True, kw_only=True)
class _HeldOutScorer(ABC):
    """What the held-out scorers share: a subclass says how to `_compare` image and counts."""

    split: Split = "auto"
    n_blocks: int = 10
    repeats: int = 1
    random_state: RandomState = 0

    def __call__(self, estimator: Any, X: object, y: object = None) -> float:  # noqa: ARG002
        """Score an estimator on held-out halves.

        Parameters
        ----------
        estimator : estimator or Pipeline
            Fitted, with a `predict` or else a `transform` that makes an image of a table.
        X : Localizations or list of Localizations
            The fields of view.
        y : None
            Ignored.

        Returns
        -------
        float
            Mean score over fields of view and repeats; higher is better.

        Raises
        ------
        InvalidInputError
            If a field of view cannot be scored, which the message names.
        """
        return float(self.score_fields(estimator, X)["score"].mean())

    def score_fields(self, estimator: Any, X: object) -> pd.DataFrame:
        """Score every field of view and repeat on its own.

        Parameters
        ----------
        estimator : estimator or Pipeline
            Fitted, with a `predict` or else a `transform` that makes an image of a table.
        X : Localizations or list of Localizations
            The fields of view.

        Returns
        -------
        DataFrame
            Columns ``field`` (position in X), ``repeat`` and ``score``.

        Raises
        ------
        InvalidInputError
            If a field of view cannot be scored, which the message names.
        """
        rows = []
        for position, fov in enumerate(as_fovs(X)[0]):
            try:
                scores = self._score_repeats(estimator, fov)
            except InvalidInputError as error:
                raise InvalidInputError(f"X[{position}]: {error}") from error
            rows += [(position, repeat, score) for repeat, score in enumerate(scores)]
        return pd.DataFrame(rows, columns=["field", "repeat", "score"])

    def _score_repeats(self, estimator: Any, fov: Localizations) -> list[float]:
        reconstruct = estimator.predict if hasattr(estimator, "predict") else estimator.transform
        scores = []
        for halves in repeated_splits(
            fov, self.split, self.n_blocks, self.repeats, self.random_state
        ):
            if 0 in map(len, halves):
                raise InvalidInputError(
                    f"a half is empty after splitting {len(fov)} localizations in two"
                )
            image = reconstruct(halves[0])
            scores.append(self._compare(image, *count_held_out(image, *halves)))
        return scores

    @abstractmethod
    def _compare(self, image: xr.DataArray, counts: xr.DataArray, exposure: float) -> float:
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
class FRCScorer(_HeldOutScorer):
    """Score an estimator by the Fourier ring correlation with held-out localizations.

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
    cutoff : float, default=0.2
        Highest frequency in cycles per pixel of `pixel_size`, at most 0.5.
    pixel_size : float, default=10.0
        The pixel in nm to which `cutoff` refers, so that reconstructions of every pixel size are
        judged on the same frequencies. Those that its pixels cannot hold earn 0.

    Raises
    ------
    InvalidInputError
        If `cutoff` or `pixel_size` is out of range.

    See Also
    --------
    PoissonScorer : Sees scale and blur, which this one does not.

    Notes
    -----
    The score is the mean over rings up to the cutoff of FRC(P, B), where P is the reconstruction of
    half A and B the raw histogram of half B on the grid of P. Ring by ring its expectation is
    largest where P is proportional to the true density. It is blind to a gain per ring, hence to
    every isotropic linear filter: a search over the width of a Gaussian needs `PoissonScorer`. A
    constant reconstruction shares nothing with B and scores 0.

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

    cutoff: float = 0.2
    pixel_size: float = _REFERENCE_PIXEL

    def __post_init__(self) -> None:
        check_pixel_size(self.pixel_size)
        if not 0 < self.cutoff <= 0.5:
            raise InvalidInputError(f"cutoff must be in (0, 0.5], got {self.cutoff!r}")

    def _compare(self, image: xr.DataArray, counts: xr.DataArray, exposure: float) -> float:  # noqa: ARG002
        cutoff = self.cutoff * grid_of(image).pixel_size / self.pixel_size
        area = frc_area(image.to_numpy(), counts.to_numpy(), cutoff=min(cutoff, 0.5))
        if math.isnan(area):
            return 0.0
        return area * min(1.0, 0.5 / cutoff)


@dataclass(frozen=True, kw_only=True)
class PoissonScorer(_HeldOutScorer):
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

    def _compare(self, image: xr.DataArray, counts: xr.DataArray, exposure: float) -> float:
        score = poisson_log_likelihood(
            counts.to_numpy(),
            image.to_numpy(),
            exposure=exposure,
            background=self.background,
        )
        return score + 2 * math.log(_REFERENCE_PIXEL / grid_of(image).pixel_size)
