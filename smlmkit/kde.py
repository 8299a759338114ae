"""Kernel density estimates: a sparse image becomes a smooth one of the same mass."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smlmkit._checks import check_positive, check_whole
from smlmkit._kernels.anisotropic import spread_windows
from smlmkit._threads import check_threads, run_bands
from smlmkit._transformers import ImageTransformer
from smlmkit.errors import InvalidInputError
from smlmkit.images import grid_of
from smlmkit.smoothing import gaussian_profile, smooth_separably

Pixels = NDArray[np.float32]


class GaussianKDE(ImageTransformer):
    """Smooth images with an isotropic Gaussian.

    Parameters
    ----------
    sigma : float, default=20.0
        Standard deviation of the Gaussian in nm.
    n_threads : int, optional
        Threads to use, by default all. The result does not depend on it.

    See Also
    --------
    AnisotropicKDE : Smooths along structures rather than across.

    Notes
    -----
    Takes an image, a stack (every plane on its own) or a list. The Gaussian is sampled at pixel
    centres, cut off at 4 sigma and normalised. At the border what would leave the image is
    reflected back, so the sum of the image is kept.

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

    def __init__(self, sigma: float = 20.0, *, n_threads: int | None = None) -> None:
        self.sigma = sigma
        self.n_threads = n_threads

    def _transformation(self) -> Callable[[xr.DataArray], xr.DataArray]:
        check_positive(sigma=self.sigma)
        return partial(self._smooth, n_threads=check_threads(self.n_threads))

    def _smooth(self, image: xr.DataArray, n_threads: int) -> xr.DataArray:
        profile = gaussian_profile(self.sigma / grid_of(image, stacks=True).pixel_size)
        smooth = image.to_numpy().astype(np.float32)
        for plane in _planes(smooth):
            smooth_separably(plane, profile, n_threads)
        return image.copy(data=smooth)


class AnisotropicKDE(ImageTransformer):
    """Spread every occupied pixel along the structure that it lies on.

    Each pixel's count is spread by its own Gaussian, which has the shape of the counts in the
    window around it: long along a filament, narrow across.

    Parameters
    ----------
    window : int, default=11
        Side of the window in pixels, odd.
    scale : float, default=1.0
        Size of the Gaussians: the Frobenius norm of their covariance in square pixels.
    mode : {"integrated", "berberich"}, default="integrated"
        ``"berberich"`` gives what the code published with Berberich et al. (2021) gives;
        ``"integrated"`` is the same idea without its defects, see Notes.
    n_threads : int, optional
        Threads to use, by default all. The result does not depend on it.

    See Also
    --------
    GaussianKDE : One isotropic Gaussian for all.

    Notes
    -----
    Takes an image, a stack (every plane on its own) or a list. With w the counts in the window
    around an occupied pixel, at offsets d from it::

        S = sum(w),  m = sum(w d) / S,  Sigma = sum(w (d - m)(d - m)^T) / S
        K(d) = exp(-d^T C^-1 d / 2),    C = scale Sigma / ||Sigma||_F

    and the pixel's count is spread over the window as K, normalised to sum 1 (Chen et al. 2014;
    Berberich et al. 2021).

    ``"berberich"`` adds 0.001 to the four corners of every window and samples K at pixel centres;
    pixels nearer to the border than half a window are dropped. So an image in other units gives
    another result, mass is lost at the border, and a filament is blurred differently at different
    angles, because a thin digital line looks infinitely thin along the axes and the diagonals only.

    ``"integrated"`` raises the principal variances of Sigma, and after scaling those of C, to 1/4
    square pixel at least and integrates K over every pixel (to 5e-4 of the largest share). With
    half a pixel of standard deviation a filament is blurred alike at all angles, within 3 %. K is
    normalised over the part of the window inside of the image, so mass is kept.

    An image can be made tile by tile with a halo of ``window - 1`` pixels.

    References
    ----------
    .. [1] Berberich et al., "Fourier ring correlation and anisotropic kernel density estimation
       improve deep learning based SMLM reconstruction of microtubules", Front. Bioinform. 1 (2021).
    .. [2] Chen, Ho, Chiou, "Nonparametric filament estimation", arXiv:1401.1867 (2014).

    Examples
    --------
    >>> import numpy as np
    >>> from smlmkit import AnisotropicKDE, PixelGrid, to_image
    >>> line = np.zeros((15, 15), np.float32)
    >>> line[7, 2:13] = 1
    >>> grid = PixelGrid(origin=(0, 0), pixel_size=10, shape=(15, 15))
    >>> smooth = AnisotropicKDE(scale=4).fit_transform(to_image(line, grid))
    >>> smooth.sel(x=75).values[5:10].round(2)
    array([0.  , 0.16, 0.68, 0.16, 0.  ], dtype=float32)
    """

    def __init__(
        self,
        window: int = 11,
        scale: float = 1.0,
        mode: Literal["integrated", "berberich"] = "integrated",
        *,
        n_threads: int | None = None,
    ) -> None:
        self.window = window
        self.scale = scale
        self.mode = mode
        self.n_threads = n_threads

    def _transformation(self) -> Callable[[xr.DataArray], xr.DataArray]:
        check_whole("window", self.window, low=3)
        if self.window % 2 == 0:
            raise InvalidInputError(f"window must be odd, got {self.window}")
        check_positive(scale=self.scale)
        if self.mode not in ("integrated", "berberich"):
            raise InvalidInputError(f"mode must be 'integrated' or 'berberich', got {self.mode!r}")
        return partial(self._estimate, n_threads=check_threads(self.n_threads))

    def _estimate(self, image: xr.DataArray, n_threads: int) -> xr.DataArray:
        counts = _counts(image)
        density = np.zeros(counts.shape, np.float32)
        half, scale, integrated = self.window // 2, float(self.scale), self.mode == "integrated"
        for counts_plane, density_plane in zip(_planes(counts), _planes(density), strict=True):
            run_bands(
                partial(spread_windows, counts_plane, half, scale, integrated, density_plane),
                counts_plane.shape[0],
                n_threads,
                min_rows=4 * self.window,
            )
        return image.copy(data=density)


def _planes(values: NDArray[Any]) -> NDArray[Any]:
    """Give the planes of a stack one after the other, as views."""
    return values.reshape(-1, *values.shape[-2:])


def _counts(image: xr.DataArray) -> Pixels:
    """Give the pixels as C-contiguous float32, which numbers below 0 and NaN cannot be."""
    counts: Pixels = np.ascontiguousarray(image.to_numpy(), np.float32)
    # A NaN makes the minimum one; of the infinities only the sum knows.
    if not (counts.min() >= 0 and np.isfinite(counts.sum(dtype=np.float64))):
        n_bad = int(np.count_nonzero(~((counts >= 0) & np.isfinite(counts))))
        raise InvalidInputError(
            f"{n_bad:,} pixels are negative or not finite: a density estimate needs counts"
        )
    return counts
