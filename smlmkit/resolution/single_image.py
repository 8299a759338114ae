"""Resolution of one image on its own, without a split."""

import numpy as np

from smlmkit.metrics import decorrelation
from smlmkit.metrics.decorrelation import DecorrelationResult
from smlmkit.resolution.halves import Image, common_pixel_size


def decorrelation_resolution(
    image: Image,
    *,
    pixel_size: float | None = None,
    n_frequencies: int = 50,
    n_filters: int = 10,
) -> DecorrelationResult:
    """Estimate the resolution of one image by decorrelation analysis (Descloux et al. 2019).

    Parameters
    ----------
    image : DataArray or ndarray of shape (height, width)
        The image, at least 64 pixels a side. One in which single localizations are sharp, such as
        raw counts, has no resolution; density estimates and Gaussian renderings have one.
    pixel_size : float, optional
        Edge of a pixel in nm, needed for an ndarray.
    n_frequencies : int, default=50
        Number of discs of each curve, from 10 to 1,000.
    n_filters : int, default=10
        Number of high-pass filters in each of two passes, from 2 to 1,000.

    Returns
    -------
    DecorrelationResult
        The curves with the resolution in nm, or with the reason why there is none.

    Raises
    ------
    InvalidTypeError
        If the image does not hold real numbers.
    InvalidInputError
        If the image is not two-dimensional or too small, a value is not finite, the pixel size is
        unknown, or a parameter is out of range.

    See Also
    --------
    frc_curve : Compares two halves: sees noise that one image cannot tell from structure.

    Notes
    -----
    `smlmkit.metrics.decorrelation` has the method. It measures how far the image's spectrum stands
    out from a flat one: what is drawn, be it true or not. A wider Gaussian gives a coarser figure,
    whatever the localizations can resolve.

    Examples
    --------
    >>> from smlmkit import GaussianKDE, Renderer, decorrelation_resolution, make_microtubules
    >>> blinks, _ = make_microtubules(field_size=4000, density=5000, random_state=0)
    >>> counts = Renderer(pixel_size=10).fit_transform(blinks)
    >>> images = [GaussianKDE(sigma).fit_transform(counts) for sigma in (20, 40)]
    >>> fine, coarse = (decorrelation_resolution(image).resolution for image in images)
    >>> bool(fine < coarse)
    True
    """
    size = common_pixel_size(image, image, pixel_size)
    return decorrelation.analyse_decorrelation(
        np.asarray(image), size, n_frequencies=n_frequencies, n_filters=n_filters
    )
