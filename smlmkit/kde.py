"""Kernel density estimates: a sparse image becomes a smooth one of the same mass."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy.ndimage import gaussian_filter
from sklearn.base import BaseEstimator, TransformerMixin

from smlmkit._checks import check_positive
from smlmkit.images import grid_of


class GaussianKDE(TransformerMixin, BaseEstimator):
    """Smooth images with an isotropic Gaussian.

    Parameters
    ----------
    sigma : float, default=20.0
        Standard deviation of the Gaussian in nm.

    Notes
    -----
    The Gaussian is sampled at pixel centres, cut off at 4 sigma and normalised. At the border what
    would leave the image is reflected back, so the sum of the image is kept.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from smlmkit import GaussianKDE, Localizations, Renderer
    >>> blink = Localizations(np.array([[250.0, 250.0]]), field_of_view=(0, 0, 500, 500))
    >>> image = make_pipeline(Renderer(pixel_size=10), GaussianKDE(sigma=20)).fit_transform(blink)
    >>> image.shape, round(float(image.sum()), 5)
    ((50, 50), 1.0)
    """

    def __init__(self, sigma: float = 20.0) -> None:
        self.sigma = sigma

    def fit(self, X: object, y: object = None) -> "GaussianKDE":  # noqa: ARG002
        """Check the parameters; nothing is learnt.

        Parameters
        ----------
        X : DataArray or list of DataArray
            The images.
        y : None
            Ignored.

        Returns
        -------
        GaussianKDE
            The estimator itself.
        """
        self._check_parameters()
        return self

    def transform(self, X: Any) -> Any:
        """Smooth one image or a list of images.

        Parameters
        ----------
        X : DataArray or list of DataArray, dims (y, x)
            The images.

        Returns
        -------
        DataArray or list of DataArray
            The smoothed images, float32; one for one, a list for a list.
        """
        self._check_parameters()
        if isinstance(X, Sequence):
            return [self._smooth(image) for image in X]
        return self._smooth(X)

    def _check_parameters(self) -> None:
        check_positive(sigma=self.sigma)

    def _smooth(self, image: xr.DataArray) -> xr.DataArray:
        sigma_px = self.sigma / grid_of(image).pixel_size
        smooth = gaussian_filter(image.to_numpy().astype(np.float32), sigma_px, mode="reflect")
        return image.copy(data=smooth)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.no_validation = True
        tags.input_tags.two_d_array = False
        return tags
