"""Scorers that compare pixel by pixel with a target: for simulations and dense acquisitions."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smlmkit._checks import check_positive
from smlmkit.errors import InvalidInputError
from smlmkit.images import grid_of
from smlmkit.localizations import Localizations
from smlmkit.metrics.similarity import ms_ssim, psnr, ssim
from smlmkit.samples import Target, as_targets
from smlmkit.scoring._fields import FieldScorer, draw_target, reconstruct


@dataclass(frozen=True, kw_only=True)
class _SimilarityScorer(FieldScorer):
    """What these scorers share: a subclass says how to `_compare` two arrays."""

    data_range: float

    def __post_init__(self) -> None:
        check_positive(data_range=self.data_range)

    def _targets(
        self, fovs: Sequence[Localizations], y: object, single: bool
    ) -> Sequence[Target | None]:
        return as_targets(y, fovs, single)

    def _score_field(
        self, estimator: Any, fov: Localizations, target: Any
    ) -> list[dict[str, float]]:
        image = reconstruct(estimator, fov)
        return [{"score": self._compare(image.to_numpy(), _expected(image, fov, target))}]

    @abstractmethod
    def _compare(self, image: NDArray[Any], expected: NDArray[Any]) -> float:
        """Compare a reconstruction with what it should be."""


def _expected(image: xr.DataArray, fov: Localizations, target: Target) -> NDArray[Any]:
    """Give what a reconstruction of `fov` should be; a table is scaled to its localizations."""
    expected = draw_target(target, image).to_numpy()
    if not isinstance(target, Localizations):
        return expected
    grid = grid_of(image)
    n_reconstructed = len(fov.crop(grid.field_of_view))
    if n_reconstructed == 0:
        raise InvalidInputError(f"there is no localization on the reconstruction's {grid}")
    scaled: NDArray[Any] = expected * (n_reconstructed / expected.sum(dtype=np.float64))
    return scaled


@dataclass(frozen=True, kw_only=True)
class PSNRScorer(_SimilarityScorer):
    """Score an estimator by the peak signal-to-noise ratio with a target.

    Parameters
    ----------
    data_range : float
        Difference of the largest and the least value that an image may have, in localizations per
        pixel, the same for all methods that are compared: say, a high quantile of the targets.

    Raises
    ------
    InvalidInputError
        If `data_range` is not a positive number.

    See Also
    --------
    SSIMScorer : Compares structures rather than values.

    Notes
    -----
    The whole field of view is reconstructed and compared with its y: an image on the same grid as
    it is, or a table, whose counts are scaled to the number of localizations that X has on the
    grid, which makes them what X would hold without noise. `smlmkit.metrics.similarity.psnr` has
    the formula. Higher is better; in dB.

    Examples
    --------
    >>> from smlmkit import GaussianKDE, Renderer, PSNRScorer, make_microtubules
    >>> from sklearn.pipeline import make_pipeline
    >>> dense, _ = make_microtubules(field_size=2000, density=50_000, random_state=0)
    >>> sparse = dense.thin(0.05, random_state=0)
    >>> score = PSNRScorer(data_range=5.0)
    >>> smooth = make_pipeline(Renderer(), GaussianKDE(10))
    >>> bool(score(Renderer(), sparse, dense) < score(smooth, sparse, dense))
    True
    """

    def _compare(self, image: NDArray[Any], expected: NDArray[Any]) -> float:
        return psnr(image, expected, data_range=self.data_range)


@dataclass(frozen=True, kw_only=True)
class SSIMScorer(_SimilarityScorer):
    """Score an estimator by the structural similarity with a target.

    Parameters
    ----------
    data_range : float
        Difference of the largest and the least value that an image may have, in localizations per
        pixel, the same for all methods that are compared: say, a high quantile of the targets.

    Raises
    ------
    InvalidInputError
        If `data_range` is not a positive number.

    See Also
    --------
    MSSSIMScorer : The same at several scales.

    Notes
    -----
    The whole field of view is reconstructed and compared with its y: an image on the same grid as
    it is, or a table, whose counts are scaled to the number of localizations that X has on the
    grid, which makes them what X would hold without noise. `smlmkit.metrics.similarity.ssim` has
    the formula. Images that are mostly empty score high whatever they hold.

    Examples
    --------
    >>> from smlmkit import GaussianKDE, Renderer, SSIMScorer, make_microtubules
    >>> from sklearn.pipeline import make_pipeline
    >>> dense, _ = make_microtubules(field_size=2000, density=50_000, random_state=0)
    >>> sparse = dense.thin(0.05, random_state=0)
    >>> score = SSIMScorer(data_range=5.0)
    >>> smooth = make_pipeline(Renderer(), GaussianKDE(10))
    >>> bool(score(Renderer(), sparse, dense) < score(smooth, sparse, dense))
    True
    """

    def _compare(self, image: NDArray[Any], expected: NDArray[Any]) -> float:
        return ssim(image, expected, data_range=self.data_range)


@dataclass(frozen=True, kw_only=True)
class MSSSIMScorer(_SimilarityScorer):
    """Score an estimator by the multi-scale structural similarity with a target.

    Parameters
    ----------
    data_range : float
        Difference of the largest and the least value that an image may have, in localizations per
        pixel, the same for all methods that are compared: say, a high quantile of the targets.

    Raises
    ------
    InvalidInputError
        If `data_range` is not a positive number.

    See Also
    --------
    SSIMScorer : The same at the finest scale alone.

    Notes
    -----
    The whole field of view is reconstructed and compared with its y: an image on the same grid as
    it is, or a table, whose counts are scaled to the number of localizations that X has on the
    grid, which makes them what X would hold without noise. `smlmkit.metrics.similarity.ms_ssim` has
    the formula. Images that are mostly empty score high whatever they hold.

    Examples
    --------
    >>> from smlmkit import GaussianKDE, Renderer, MSSSIMScorer, make_microtubules
    >>> from sklearn.pipeline import make_pipeline
    >>> dense, _ = make_microtubules(field_size=2000, density=50_000, random_state=0)
    >>> sparse = dense.thin(0.05, random_state=0)
    >>> score = MSSSIMScorer(data_range=5.0)
    >>> smooth = make_pipeline(Renderer(), GaussianKDE(10))
    >>> bool(score(Renderer(), sparse, dense) < score(smooth, sparse, dense))
    True
    """

    def _compare(self, image: NDArray[Any], expected: NDArray[Any]) -> float:
        return ms_ssim(image, expected, data_range=self.data_range)
