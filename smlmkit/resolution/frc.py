"""Fourier ring correlation and resolution of a table, of two images or of one."""

import math
from typing import Any

import numpy as np

from smlmkit._checks import check_nonnegative
from smlmkit.errors import InvalidInputError
from smlmkit.localizations import Localizations, RandomState
from smlmkit.metrics.frc import Threshold, check_reading
from smlmkit.metrics.rings import RingCorrelation, Window, ring_correlation
from smlmkit.metrics.spurious import SpuriousCorrelation, correct_spurious
from smlmkit.resolution.curve import FRCCurve, read_curve
from smlmkit.resolution.halves import Image, ImageSplit, Split, halves, uncertainty_of


def frc_curve(
    first: Localizations | Image,
    second: Image | None = None,
    *,
    pixel_size: float | None = None,
    threshold: Threshold = "1/7",
    smoothing: float = 0.1,
    window: Window = "tukey",
    split: Split | ImageSplit = "auto",
    n_blocks: int = 10,
    repeats: int = 1,
    random_state: RandomState = None,
    q_correction: bool | float = False,
) -> FRCCurve:
    """Correlate two images, or the halves of a table or of one image, ring by ring.

    Parameters
    ----------
    first : Localizations, DataArray or ndarray of shape (height, width)
        A table, which is split in two and counted per pixel; or the first, or only, image.
    second : DataArray or ndarray of shape (height, width), optional
        The second image, on the grid of the first one.
    pixel_size : float, optional
        Edge of a pixel in nm: 10 by default for a table, needed for ndarrays, and known by a
        DataArray.
    threshold : {"1/7", "half-bit", "one-bit", "3-sigma"}, default="1/7"
        What the curve must stay above; `smlmkit.metrics.frc.threshold_curve` has the formulas.
    smoothing : float, default=0.1
        Span of the smoothing as a share of the rings, in [0, 1): over at least five rings, a
        parabola is fitted around every ring. 0 does not smooth.
    window : {"tukey"} or None, default="tukey"
        Taper an eighth of the image at every border, or leave the images as they are.
    split : {"auto", "frames", "random", "binomial", "checkerboard"}, default="auto"
        How a table is split, see `Localizations.split`; blinks that a random split puts in both
        halves make the resolution look better than it is. How one image is split: ``"binomial"``
        shares out its counts by fair coins, the random split of an image; ``"checkerboard"``
        correlates the two diagonals of every 2 x 2 pixels, for images whose pixels have
        independent noise and are at least four times finer than their resolution. The curve then
        has pixels twice as large.
    n_blocks : int, default=10
        Number of blocks of frames.
    repeats : int, default=1
        How often a table or an image's counts are split anew; the curves are averaged, and the
        resolutions' standard deviation is given from two on. A checkerboard has two pairs and
        always their spread.
    random_state : int, RandomState or None, default=None
        Source of randomness of the splits. None with one repeat alternates the blocks.
    q_correction : bool or float, default=False
        Whether to take off what emitters that blink more than once add to a random split of a
        table, so that it does not claim too much (Nieuwenhuizen et al. 2013). A number is their Q,
        True estimates it; the result holds it. Needs the uncertainty of the localizations.
        `smlmkit.metrics.spurious` has the formulas.

    Returns
    -------
    FRCCurve
        The curve with its resolution in nm, or with the reason why there is none.

    Raises
    ------
    InvalidTypeError
        If `first` is neither a table nor an image, or the second image is missing or too much.
    InvalidInputError
        If the images do not fit together, a pixel is not finite, the pixel size is unknown, or a
        parameter is out of range or does not fit the others.

    Notes
    -----
    FRC(q) = Re sum(F1 F2*) / sqrt(sum |F1|^2 sum |F2|^2) over rings of equal width, signed
    (Nieuwenhuizen et al. 2013). Nothing is padded; images need not be square.

    Examples
    --------
    >>> import numpy as np
    >>> from smlmkit import Localizations, frc_curve
    >>> rng = np.random.default_rng(0)
    >>> emitters = rng.uniform(0, 2000, size=(100, 2))
    >>> blinks = np.repeat(emitters, 50, axis=0) + rng.normal(scale=10, size=(5000, 2))
    >>> table = Localizations(blinks, field_of_view=(-50, -50, 2050, 2050))
    >>> curve = frc_curve(table, random_state=0)
    >>> 20 < curve.resolution < 40
    True
    >>> frc_curve(table, pixel_size=50, random_state=0).reason
    'the curve never falls below the 1/7 threshold: the resolution is better than 100 nm, ...'
    """
    check_reading(threshold, smoothing)
    known_q = uncertainty = None
    if not isinstance(q_correction, bool):
        check_nonnegative(q_correction=q_correction)
        known_q = float(q_correction)
    if q_correction is not False:
        if not isinstance(first, Localizations) or split != "random":
            raise InvalidInputError("the Q-correction is that of the random split of a table")
        uncertainty = uncertainty_of(first)
    pairs, size = halves(
        first,
        second,
        pixel_size,
        split=split,
        n_blocks=n_blocks,
        repeats=repeats,
        random_state=random_state,
    )
    correlations, worths, qs = [], [], []
    for pair in pairs:
        rings = ring_correlation(*pair, window=window)
        result: RingCorrelation | SpuriousCorrelation = rings
        if uncertainty is not None:
            result = correct_spurious(rings, pair, uncertainty, size, window=window, q=known_q)
            qs.append(result.q)
        correlations.append(result.correlation)
        worths.append(result.n_independent)
    return read_curve(
        rings.frequency,
        correlations,
        rings.count,
        np.mean(worths, axis=0),
        size,
        threshold=threshold,
        smoothing=smoothing,
        q=float(np.mean(qs)) if qs else math.nan,
    )


def frc_resolution(
    first: Localizations | Image, second: Image | None = None, **options: Any
) -> float:
    """Give the resolution of a table or of two images in nm.

    Parameters
    ----------
    first : Localizations, DataArray or ndarray of shape (height, width)
        A table, or the first image.
    second : DataArray or ndarray of shape (height, width), optional
        The second image.
    **options : dict
        Further parameters of `frc_curve`.

    Returns
    -------
    float
        The resolution in nm; nan when there is none, and `frc_curve` then tells the reason.

    Raises
    ------
    InvalidTypeError, InvalidInputError
        As `frc_curve` does.

    Examples
    --------
    >>> import numpy as np
    >>> from smlmkit import frc_resolution
    >>> image = np.random.default_rng(0).poisson(1.0, size=(64, 64))
    >>> frc_resolution(image, image, pixel_size=10)  # never falls below the threshold
    nan
    """
    return frc_curve(first, second, **options).resolution
