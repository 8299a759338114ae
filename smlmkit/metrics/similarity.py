"""Similarity of an image to a reference: peak signal-to-noise ratio and structural similarity.

The range of values is given, never read from the images: a score must not change with their
brightest pixel. Images without a highest value need one number for all that are to be compared.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter

from smlmkit._checks import check_nonnegative, check_positive
from smlmkit.errors import InvalidInputError
from smlmkit.metrics._images import check_finite, check_image
from smlmkit.metrics.rings import Floats

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""How much each scale counts, the finest first: measured on observers (Wang et al. 2003)."""

_SIGMA_PX = 1.5
_RADIUS_PX = 5
_WINDOW_PX = 2 * _RADIUS_PX + 1

# (0.01 L)^2 and (0.03 L)^2 with the images in units of the range L.
_LUMINANCE_FLOOR = 0.01**2
_CONTRAST_FLOOR = 0.03**2


def psnr(image: ArrayLike, reference: ArrayLike, *, data_range: float) -> float:
    """Give the peak signal-to-noise ratio of an image.

    Parameters
    ----------
    image : array of shape (height, width)
        The image to be judged.
    reference : array of shape (height, width)
        What it should be, in the same units.
    data_range : float
        Highest possible value minus lowest, for instance 255 for images of 8 bits.

    Returns
    -------
    float
        The ratio in decibels, higher is better; ``inf`` when the images are equal.

    Raises
    ------
    InvalidTypeError
        If an image does not hold real numbers.
    InvalidInputError
        If the shapes differ, are not two-dimensional or empty, a value is not finite, or
        `data_range` is not a positive number.

    Notes
    -----
    10 log10(data_range^2 / mean((image - reference)^2)). The mean over several images is infinite
    as soon as one of them equals its reference.

    Examples
    --------
    >>> import numpy as np
    >>> reference = np.zeros((8, 8))
    >>> [round(psnr(reference + error, reference, data_range=1), 6) for error in (0.1, 0.01, 0)]
    [20.0, 40.0, inf]
    """
    x, y = _in_units_of(data_range, image, reference, min_side_px=1)
    error = float(np.mean((x - y) ** 2))
    return 10 * math.log10(1 / error) if error > 0 else math.inf


def ssim(image: ArrayLike, reference: ArrayLike, *, data_range: float) -> float:
    """Give the structural similarity (SSIM) of two images.

    Parameters
    ----------
    image : array of shape (height, width)
        The image to be judged, at least 11 pixels a side.
    reference : array of shape (height, width)
        What it should be, in the same units.
    data_range : float
        Highest possible value minus lowest, for instance 255 for images of 8 bits.

    Returns
    -------
    float
        The mean over all windows that lie inside of the images: 1 when these are equal, near 0
        when they share no structure, down to -1 when one is bright where the other is dark.

    Raises
    ------
    InvalidTypeError
        If an image does not hold real numbers.
    InvalidInputError
        If the shapes differ, are not two-dimensional or too small, a value is not finite, or
        `data_range` is not a positive number.

    Notes
    -----
    With means m, variances v and covariance c under a window, and L = `data_range`,

        luminance = (2 m_x m_y + (0.01 L)^2) / (m_x^2 + m_y^2 + (0.01 L)^2),
        contrast and structure = (2 c + (0.03 L)^2) / (v_x + v_y + (0.03 L)^2),

    and SSIM is the mean of their product (Wang et al. 2004). The window is the paper's, a Gaussian
    of standard deviation 1.5 on 11 x 11 pixels, so that scores compare.

    Where both images are dark, as between the structures of most localization images, the constants
    outweigh the data and both terms are near 1: unrelated images of a few points each score high.

    Examples
    --------
    >>> import numpy as np
    >>> reference = np.random.default_rng(0).random((32, 32))
    >>> images = (reference, reference / 2, 1 - reference)
    >>> [round(ssim(image, reference, data_range=1), 2) for image in images]
    [1.0, 0.64, -0.97]
    """
    x, y = _in_units_of(data_range, image, reference, min_side_px=_WINDOW_PX)
    return _mean_similarity(x, y)


def ms_ssim(
    image: ArrayLike,
    reference: ArrayLike,
    *,
    data_range: float,
    weights: Sequence[float] = MS_SSIM_WEIGHTS,
) -> float:
    """Give the structural similarity of two images over several scales (MS-SSIM).

    Parameters
    ----------
    image : array of shape (height, width)
        The image to be judged. For n scales every side has at least 10 * 2^(n - 1) + 1 pixels, so
        that a window fits into the coarsest one: 161 for five scales.
    reference : array of shape (height, width)
        What it should be, in the same units.
    data_range : float
        Highest possible value minus lowest, for instance 255 for images of 8 bits.
    weights : sequence of float, default=MS_SSIM_WEIGHTS
        The exponent of every scale, the finest first: as many scales as weights. The default holds
        the five of Wang et al. 2003.

    Returns
    -------
    float
        The similarity in [0, 1], 1 when the images are equal.

    Raises
    ------
    InvalidTypeError
        If an image does not hold real numbers.
    InvalidInputError
        If the shapes differ, are not two-dimensional or too small for so many scales, a value is
        not finite, `data_range` is not a positive number, or `weights` is empty or holds a negative
        number.

    Notes
    -----
    The product over the scales of mean(contrast and structure)^weight, at the coarsest scale of
    mean(luminance * contrast and structure)^weight, with the terms of `ssim` (Wang et al. 2003).
    From one scale to the next 2 x 2 pixels become their mean; an odd side has its last row
    doubled for this, as in TensorFlow. A negative mean, of which no power is real, counts as 0:
    images that are opposites at one scale score 0 and differ no further.

    Examples
    --------
    >>> import numpy as np
    >>> reference = np.random.default_rng(0).random((176, 176))
    >>> images = (reference, reference / 2, 1 - reference)
    >>> [round(ms_ssim(image, reference, data_range=1), 2) for image in images]
    [1.0, 0.82, 0.0]
    """
    if len(weights) == 0:
        raise InvalidInputError("weights must hold a number for every scale, got none")
    check_nonnegative(**{f"weights[{i}]": weight for i, weight in enumerate(weights)})
    n_halvings = len(weights) - 1
    min_side_px = (_WINDOW_PX - 1) * 2**n_halvings + 1
    x, y = _in_units_of(data_range, image, reference, min_side_px=min_side_px)
    means = []
    for _ in range(n_halvings):
        _, structure = _compare_windows(x, y)
        means.append(float(structure.mean()))
        x, y = _halve(x), _halve(y)
    means.append(_mean_similarity(x, y))
    return float(np.prod(np.maximum(means, 0) ** np.asarray(weights, dtype=np.float64)))


def _mean_similarity(x: Floats, y: Floats) -> float:
    luminance, structure = _compare_windows(x, y)
    return float((luminance * structure).mean())


def _compare_windows(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Give the luminance and the contrast-and-structure term of every window."""
    mean_x, mean_y = _window_means(x), _window_means(y)
    product, power = mean_x * mean_y, mean_x**2 + mean_y**2
    covariance = _window_means(x * y) - product
    variances = _window_means(x**2 + y**2) - power
    luminance: Floats = (2 * product + _LUMINANCE_FLOOR) / (power + _LUMINANCE_FLOOR)
    structure: Floats = (2 * covariance + _CONTRAST_FLOOR) / (variances + _CONTRAST_FLOOR)
    return luminance, structure


def _window_means(values: Floats) -> Floats:
    """Average under the Gaussian window wherever it lies inside of the image."""
    means: Floats = gaussian_filter(values, _SIGMA_PX, radius=_RADIUS_PX)
    return means[_RADIUS_PX:-_RADIUS_PX, _RADIUS_PX:-_RADIUS_PX]


def _halve(image: Floats) -> Floats:
    """Average 2 x 2 pixels; the last row or column of an odd side is its own neighbour."""
    even = np.pad(image, [(0, side % 2) for side in image.shape], mode="edge")
    height, width = even.shape
    halved: Floats = even.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
    return halved


def _in_units_of(
    data_range: float, image: ArrayLike, reference: ArrayLike, *, min_side_px: int
) -> tuple[Floats, Floats]:
    """Check the parameters that all measures share and divide both images by the range."""
    check_positive(data_range=data_range)
    x = check_image(image, "the image", min_side_px=min_side_px)
    y = check_image(reference, "the reference", min_side_px=min_side_px)
    if x.shape != y.shape:
        raise InvalidInputError(
            f"image and reference must have the same shape, got {x.shape} and {y.shape}"
        )
    check_finite(x, "the image")
    check_finite(y, "the reference")
    return x.astype(np.float64) / float(data_range), y.astype(np.float64) / float(data_range)
