"""Kernel density estimates: a sparse image becomes a smooth one of the same mass."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smlmkit._checks import check_nonnegative, check_positive, check_whole
from smlmkit._kernels.gaussian import REACH
from smlmkit._threads import check_threads
from smlmkit._transformers import ImageTransformer, StatelessTransformer
from smlmkit.drawing import canvas_for, draw_gaussians
from smlmkit.errors import InvalidInputError
from smlmkit.grid import PixelGrid, check_pixel_size
from smlmkit.images import grid_of, to_image
from smlmkit.localizations import Localizations
from smlmkit.neighborhoods import Neighborhood, draw_by_neighbors, spread_by_windows
from smlmkit.samples import as_fovs, as_images
from smlmkit.smoothing import gaussian_profile, smooth_separably
from smlmkit.tiling import FieldFacts, TileNeeds

Pixels = NDArray[np.float32]
Floats = NDArray[np.float64]

# Beyond these the numbers of a covariance lose their meaning.
_MIN_SCALE, _MAX_SCALE = 1e-6, 1e6


class GaussianKDE(ImageTransformer):
    """Smooth images with an isotropic Gaussian.

    Parameters
    ----------
    sigma : float, default=20.0
        Standard deviation of the Gaussian in nm.
    n_threads : int, optional
        Threads to use at most, by default all, see `Renderer`. The result does not depend on it.

    See Also
    --------
    AnisotropicKDE : Smooths along structures rather than across.

    Notes
    -----
    Takes an image, a stack (every plane on its own) or a list. The Gaussian is sampled at pixel
    centres, cut off at 4 sigma and normalised. At the border what would leave the image is
    reflected back, so the sum of the image is kept. An image can be made tile by tile with a halo
    of ``4 sigma + pixel_size / 2``.

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
        grid = grid_of(image, stacks=True)
        profile = gaussian_profile(self.sigma / grid.pixel_size, grid.shape)
        smooth = np.array(image.to_numpy(), np.float32, order="C")
        for plane in _planes(smooth):
            smooth_separably(plane, profile, n_threads)
        return image.copy(data=smooth)

    def _image_needs(self, pixel_size: float) -> TileNeeds:
        return TileNeeds(reach=_smoothing_reach(self.sigma, pixel_size), pixel_size=pixel_size)


class AdaptiveKDE(ImageTransformer):
    """Smooth images with an isotropic Gaussian that is narrower where localizations are denser.

    Parameters
    ----------
    sigma : float, default=30.0
        Standard deviation of the Gaussian in nm where the density is the reference.
    exponent : float, default=0.2
        How strongly the width follows the density; 0 is a `GaussianKDE`, 0.5 is Abramson's rule.
    max_factor : float, default=2.5
        Widths stay between sigma divided by and multiplied by this factor.
    reference : float, optional
        Localizations per square micrometre. By default the geometric mean of the density at the
        image's localizations.
    n_threads : int, optional
        Threads to use at most, by default all, see `Renderer`. The result does not depend on it.

    See Also
    --------
    GaussianKDE : One Gaussian for all.
    AnisotropicKDE : Smooths along structures rather than across.

    Notes
    -----
    Takes an image, a stack (every plane on its own) or a list. The density f is first estimated by
    a `GaussianKDE` of `sigma`; then each occupied pixel is spread by a Gaussian of standard
    deviation ``sigma * (f / reference) ** -exponent`` (Abramson, Annals of Statistics 10, 1982),
    integrated over the pixels. The sum of the image is kept.

    An image can be made tile by tile with a halo of ``4 (1 + 2 max_factor) sigma`` and two pixels
    if `reference` is given.

    Examples
    --------
    >>> import numpy as np
    >>> from smlmkit import AdaptiveKDE, PixelGrid, to_image
    >>> counts = np.zeros((60, 120), np.float32)
    >>> counts[30, 30], counts[30, 90] = 1, 100
    >>> image = to_image(counts, PixelGrid(origin=(0, 0), pixel_size=10, shape=(60, 120)))
    >>> smooth = AdaptiveKDE(sigma=30).fit_transform(image)
    >>> one, hundred = smooth.values[30, 30], smooth.values[30, 90] / 100
    >>> bool(hundred > 2 * one)
    True
    """

    def __init__(
        self,
        sigma: float = 30.0,
        exponent: float = 0.2,
        max_factor: float = 2.5,
        *,
        reference: float | None = None,
        n_threads: int | None = None,
    ) -> None:
        self.sigma = sigma
        self.exponent = exponent
        self.max_factor = max_factor
        self.reference = reference
        self.n_threads = n_threads

    def _transformation(self) -> Callable[[xr.DataArray], xr.DataArray]:
        check_positive(sigma=self.sigma, max_factor=self.max_factor)
        check_nonnegative(exponent=self.exponent)
        if self.max_factor < 1:
            raise InvalidInputError(f"max_factor must be at least 1, got {self.max_factor!r}")
        if self.reference is not None:
            check_positive(reference=self.reference)
        return partial(self._estimate, n_threads=check_threads(self.n_threads))

    def _estimate(self, image: xr.DataArray, n_threads: int) -> xr.DataArray:
        grid = grid_of(image, stacks=True)
        profile = gaussian_profile(self.sigma / grid.pixel_size, grid.shape)

        def spread(counts: Pixels, density: Pixels) -> None:
            y, x, mass = _occupied_pixels(counts, grid)
            if len(mass) == 0:
                return
            pilot = counts.copy()
            smooth_separably(pilot, profile, n_threads)
            sigmas = self.sigma * self._factors(pilot[counts > 0], mass, grid.pixel_size)
            draw_gaussians(
                *(y, x, sigmas, sigmas, grid, grid.field_of_view, density),
                weights=mass,
                n_threads=n_threads,
            )

        return _estimate_planes(image, spread)

    def _image_needs(self, pixel_size: float) -> TileNeeds:
        if self.reference is None:
            raise InvalidInputError(
                "without a reference, a field's own mean density is it, which no tile knows: give "
                "reference in localizations per square micrometre"
            )
        # A Gaussian that ends at the border of what is read is normalised to the part inside, and
        # so another one over its whole width. The pixel is for rounding.
        widest = 2 * REACH * self.max_factor * self.sigma + pixel_size
        pilot = _smoothing_reach(self.sigma, pixel_size)
        return TileNeeds(reach=pilot + widest, pixel_size=pixel_size)

    def _factors(self, pilot: Pixels, mass: Floats, pixel_size: float) -> Floats:
        """Give each occupied pixel's width as a multiple of sigma."""
        log_density = np.log(np.maximum(pilot, np.finfo(np.float32).tiny).astype(np.float64))
        if self.reference is None:
            log_reference = np.average(log_density, weights=mass)
        else:
            log_reference = np.log(self.reference * (pixel_size / 1000) ** 2)
        factors = np.exp(-self.exponent * (log_density - log_reference))
        clipped: Floats = factors.clip(1 / self.max_factor, self.max_factor)
        return clipped


class AnisotropicKDE(StatelessTransformer):
    """Spread localizations along the structure that they lie on rather than across.

    Each localization is spread by its own Gaussian, which has the shape of what lies around it:
    long along a filament, narrow across.

    Parameters
    ----------
    window : int, default=11
        Side of the window in pixels, odd.
    scale : float, default=1.0
        Size of the Gaussians: the Frobenius norm of their covariance in square pixels.
    mode : {"integrated", "berberich"}, default="integrated"
        ``"berberich"`` gives what the code published with Berberich et al. (2021) gives;
        ``"integrated"`` is the same idea without its defects, see Notes.
    support : {"window", "neighbors"}, default="window"
        What shapes a Gaussian: the counts in a fixed window of pixels, or the localizations around
        it by distance in nm, which suits sparse data. Each has its own parameters: `window`,
        `scale` and `mode` belong to the former, the following to the latter.
    radius : float, default=130.0
        Standard deviation of the neighbourhood that gives the shape, in nm.
    sigma : float, default=25.0
        Standard deviation of the Gaussians across the structure, in nm; at least half a pixel.
    max_aspect : float, default=2.0
        How many times longer along than across a Gaussian may be.
    sharpening : float, default=0.3
        Share of the way, across the structure, to the mean of the neighbours by which a Gaussian is
        moved, in [0, 1].
    pixel_size : float, default=10.0
        Edge of a pixel in nm of the image that a table becomes. Images keep their own.
    n_threads : int, optional
        Threads to use at most, by default all, see `Renderer`. The result does not depend on it.

    See Also
    --------
    GaussianKDE : One isotropic Gaussian for all.
    AdaptiveKDE : Isotropic Gaussians that follow the density.

    Notes
    -----
    **Windows.** Takes an image, a stack (every plane on its own) or a list. With w the counts in
    the window around an occupied pixel, at offsets d from it::

        S = sum(w),  m = sum(w d) / S,  Sigma = sum(w (d - m)(d - m)^T) / S
        K(d) = exp(-d^T C^-1 d / 2),    C = scale Sigma / ||Sigma||_F

    and the pixel's count is spread over the window as K, normalised to sum 1 [1]_ [2]_.

    ``"berberich"`` adds 0.001 to the four corners of every window and samples K at pixel centres;
    pixels nearer to the border than half a window are dropped. So an image in other units gives
    another result, mass is lost at the border, and a filament is blurred differently at different
    angles, because a thin digital line looks infinitely thin along the axes and the diagonals only.

    ``"integrated"`` raises the principal variances of Sigma, and after scaling those of C, to 1/4
    square pixel at least and integrates K over every pixel (to 5e-4 of the largest share). With
    half a pixel of standard deviation a filament is blurred alike at all angles, within 3 %. K is
    normalised over the part of the window inside of the image, so mass is kept.

    An image can be made tile by tile with a halo of ``window - 1`` pixels.

    **Neighbors.** Takes tables too; an image is taken as counts of localizations at pixel centres.
    The neighbours of a localization, at offsets d, are weighted by w = (1 - q / 8)² where
    q = d^T W^-1 d < 8, a biweight of covariance W. From their scatter about their mean,
    T = sum(w (d - m)(d - m)^T), with 8 imagined round neighbours added, follow the direction u of
    the structure and the aspect a, whose square is the ratio of the eigenvalues::

        T + 8 radius² I  ->  u, a;    W = radius² (a u u^T + v v^T / a);    v across u

    starting from W = radius² I, three times. The Gaussian of a localization with many neighbours is
    C = sigma² (a² u u^T + v v^T), moved across u by `sharpening` times the way to the mean of its
    neighbours, weighted with 1.75² C (data sharpening [3]_, against the widening by the Gaussian).
    With n neighbours, weighted with C, it has the share n / (n + 0.3) only: the rest of an isolated
    localization goes to a round Gaussian of standard deviation ``max_aspect * sigma`` where it is.
    Nothing is lost: the sum of the image is the number of localizations. Gaussians are sampled at
    pixel centres with a pixel's own variance added, which is their integral over pixels to 2 % of
    the largest share for sigma half a pixel and to 1e-3 from 1.3 pixels on.

    The time goes with the number of localizations times that of their neighbours. With s the
    larger of sigma and half a pixel, an image can be made tile by tile with a halo of
    ``(4 max_aspect + 5 sharpening) s + max(3 sqrt(max_aspect) radius, 9 max_aspect s)`` and a
    pixel. A table is drawn on the grid that covers its field of view; for another one, or for
    depths, put a `Renderer` before.

    References
    ----------
    .. [1] Berberich et al., "Fourier ring correlation and anisotropic kernel density estimation
       improve deep learning based SMLM reconstruction of microtubules", Front. Bioinform. 1 (2021).
    .. [2] Chen, Ho, Chiou, "Nonparametric filament estimation", arXiv:1401.1867 (2014).
    .. [3] Choi, Hall, "Data sharpening as a prelude to density estimation", Biometrika 86 (1999).

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
        support: Literal["window", "neighbors"] = "window",
        radius: float = 130.0,
        sigma: float = 25.0,
        max_aspect: float = 2.0,
        sharpening: float = 0.3,
        pixel_size: float = 10.0,
        n_threads: int | None = None,
    ) -> None:
        self.window = window
        self.scale = scale
        self.mode = mode
        self.support = support
        self.radius = radius
        self.sigma = sigma
        self.max_aspect = max_aspect
        self.sharpening = sharpening
        self.pixel_size = pixel_size
        self.n_threads = n_threads

    def _samples(self, X: Any) -> tuple[Sequence[Any], bool]:
        first = X[0] if isinstance(X, Sequence) and not isinstance(X, str) and X else X
        if self.support == "window" or isinstance(first, xr.DataArray):
            return as_images(X)
        return as_fovs(X)

    def _transformation(self) -> Callable[[Any], xr.DataArray]:
        check_whole("window", self.window, low=3)
        if self.window % 2 == 0:
            raise InvalidInputError(f"window must be odd, got {self.window}")
        check_positive(
            scale=self.scale, radius=self.radius, sigma=self.sigma, max_aspect=self.max_aspect
        )
        check_pixel_size(self.pixel_size)
        if self.mode not in ("integrated", "berberich"):
            raise InvalidInputError(f"mode must be 'integrated' or 'berberich', got {self.mode!r}")
        if self.support not in ("window", "neighbors"):
            raise InvalidInputError(
                f"support must be 'window' or 'neighbors', got {self.support!r}"
            )
        if not _MIN_SCALE <= self.scale <= _MAX_SCALE:
            raise InvalidInputError(
                f"scale must be from {_MIN_SCALE:g} to {_MAX_SCALE:g}, got {self.scale!r}"
            )
        if self.max_aspect < 1:
            raise InvalidInputError(f"max_aspect must be at least 1, got {self.max_aspect!r}")
        check_nonnegative(sharpening=self.sharpening)
        if self.sharpening > 1:
            raise InvalidInputError(f"sharpening must be in [0, 1], got {self.sharpening!r}")
        n_threads = check_threads(self.n_threads)
        if self.support == "window":
            return partial(self._spread_windows, n_threads=n_threads)
        return partial(self._spread_by_neighbors, n_threads=n_threads)

    def _spread_windows(self, image: xr.DataArray, n_threads: int) -> xr.DataArray:
        spread = partial(
            spread_by_windows,
            window=self.window,
            scale=float(self.scale),
            integrated=self.mode == "integrated",
            n_threads=n_threads,
        )
        return _estimate_planes(image, spread)

    def _spread_by_neighbors(
        self, sample: xr.DataArray | Localizations, n_threads: int
    ) -> xr.DataArray:
        parameters = (self.radius, self.sigma, self.max_aspect, self.sharpening)
        shape = Neighborhood(*map(float, parameters))
        if isinstance(sample, Localizations):
            grid, box = canvas_for(sample, self.pixel_size, None)
            density = np.zeros(grid.shape, np.float32)
            points = sample.y, sample.x, np.ones(len(sample))
            draw_by_neighbors(*points, shape, grid, box, density, n_threads)
            return to_image(density, grid)
        grid = grid_of(sample, stacks=True)

        def spread(counts: Pixels, density: Pixels) -> None:
            points = _occupied_pixels(counts, grid)
            draw_by_neighbors(*points, shape, grid, grid.field_of_view, density, n_threads)

        return _estimate_planes(sample, spread)

    def _tile_needs(self, facts: FieldFacts) -> TileNeeds:
        if self.support == "window":
            size = facts.pixel_size_for("AnisotropicKDE")
            return TileNeeds(reach=(self.window - 1) * size, pixel_size=size)
        size = float(self.pixel_size) if facts.pixel_size is None else facts.pixel_size
        # As the docstring says; each of its numbers is rounded up but for the fraction of a pixel
        # that a Gaussian is wider by the pixel's own variance.
        sigma = max(self.sigma, size / 2)
        drawn = 4 * self.max_aspect * sigma + 5 * self.sharpening * sigma
        shaped_by = max(3 * math.sqrt(self.max_aspect) * self.radius, 9 * self.max_aspect * sigma)
        return TileNeeds(reach=drawn + shaped_by + size, pixel_size=size)


def _smoothing_reach(sigma: float, pixel_size: float) -> float:
    return 4 * sigma + pixel_size / 2


def _estimate_planes(image: xr.DataArray, spread: Callable[[Pixels, Pixels], None]) -> xr.DataArray:
    """Estimate the density of each plane; `spread` fills an empty one from one of counts."""
    counts = _counts_of(image)
    density = np.zeros(counts.shape, np.float32)
    for counts_plane, density_plane in zip(_planes(counts), _planes(density), strict=True):
        spread(counts_plane, density_plane)
    return image.copy(data=density)


def _planes(values: NDArray[Any]) -> NDArray[Any]:
    """Give the planes of a stack one after the other, as views."""
    return values.reshape(-1, *values.shape[-2:])


def _occupied_pixels(counts: Pixels, grid: PixelGrid) -> tuple[Floats, Floats, Floats]:
    """Give y and x in nm and the count of every pixel that is not empty."""
    row, column = np.nonzero(counts)
    return grid.centers_y[row], grid.centers_x[column], counts[row, column].astype(np.float64)


def _counts_of(image: xr.DataArray) -> Pixels:
    """Give the pixels as C-contiguous float32; numbers below 0 and NaN are refused."""
    counts: Pixels = np.ascontiguousarray(image.to_numpy(), np.float32)
    # A NaN makes the minimum one; of the infinities only the sum knows.
    if not (counts.min() >= 0 and np.isfinite(counts.sum(dtype=np.float64))):
        n_bad = int(np.count_nonzero(~((counts >= 0) & np.isfinite(counts))))
        raise InvalidInputError(
            f"{n_bad:,} pixels are negative or not finite: a density estimate needs counts"
        )
    return counts
