"""Image resolution by Fourier ring correlation, of a table or of two images."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smlmkit._checks import random_source
from smlmkit.drawing import render_histogram
from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.grid import check_pixel_size
from smlmkit.images import grid_of
from smlmkit.localizations import Localizations, RandomState
from smlmkit.metrics.frc import FRCCurve, Threshold, curve_from_rings
from smlmkit.metrics.rings import RingCorrelation, Window, ring_correlation

Split = Literal["auto", "frames", "random"]
Image = xr.DataArray | NDArray[Any]

_PIXEL_SIZE_OF_TABLES = 10.0


def frc_curve(
    first: Localizations | Image,
    second: Image | None = None,
    *,
    pixel_size: float | None = None,
    threshold: Threshold = "1/7",
    smoothing: float = 0.1,
    window: Window = "tukey",
    split: Split = "auto",
    n_blocks: int = 10,
    repeats: int = 1,
    random_state: RandomState = None,
) -> FRCCurve:
    """Correlate two images, or the two halves of a table, ring by ring in Fourier space.

    Parameters
    ----------
    first : Localizations, DataArray or ndarray of shape (height, width)
        A table, which is split in two and counted per pixel; or the first image.
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
    split : {"auto", "frames", "random"}, default="auto"
        How a table is split, see `Localizations.split`. Blinks that a random split puts in both
        halves make the resolution look better than it is.
    n_blocks : int, default=10
        Number of blocks of frames.
    repeats : int, default=1
        How often a table is split anew; the curves are averaged, and the resolutions' standard
        deviation is given from two on.
    random_state : int, RandomState or None, default=None
        Source of randomness of the splits. None with one repeat alternates the blocks.

    Returns
    -------
    FRCCurve
        The curve with its resolution in nm, or with the reason why there is none.

    Raises
    ------
    InvalidTypeError
        If `first` is neither a table nor an image with a second one.
    InvalidInputError
        If the images do not fit together, a pixel is not finite, the pixel size is unknown, or a
        parameter is out of range.

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
    if isinstance(first, Localizations):
        if second is not None:
            raise InvalidTypeError("a table is split in two: it takes no second image")
        size = check_pixel_size(_PIXEL_SIZE_OF_TABLES if pixel_size is None else pixel_size)
        rings = [
            _correlate_tables(*halves, size, window)
            for halves in repeated_splits(first, split, n_blocks, repeats, random_state)
        ]
    elif second is None:
        raise InvalidTypeError(
            f"expected Localizations or two images, got one {type(first).__name__}"
        )
    else:
        size = _common_pixel_size(first, second, pixel_size)
        rings = [ring_correlation(np.asarray(first), np.asarray(second), window=window)]
    return curve_from_rings(rings, size, threshold=threshold, smoothing=smoothing)


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


def repeated_splits(
    localizations: Localizations,
    split: Split,
    n_blocks: int,
    repeats: int,
    random_state: RandomState,
) -> Iterator[tuple[Localizations, Localizations]]:
    """Split a table in two, again and again from one source of randomness.

    Parameters
    ----------
    localizations : Localizations
        The table.
    split : {"auto", "frames", "random"}
        How to split, see `Localizations.split`.
    n_blocks : int
        Number of blocks of frames.
    repeats : int
        Number of splits, at least 1.
    random_state : int, RandomState or None
        Source of randomness. None with one repeat alternates the blocks of frames.

    Yields
    ------
    tuple of Localizations
        The two halves.

    Raises
    ------
    InvalidInputError
        If `repeats` is below 1 or the table cannot be split so.

    Examples
    --------
    >>> import numpy as np
    >>> table = Localizations(np.arange(20.0).reshape(10, 2))
    >>> [len(a) + len(b) for a, b in repeated_splits(table, "random", 10, 3, random_state=0)]
    [10, 10, 10]
    """
    if repeats < 1:
        raise InvalidInputError(f"repeats must be at least 1, got {repeats!r}")
    source = random_state
    if not isinstance(source, np.random.RandomState) and (repeats > 1 or source is not None):
        source = random_source(source)
    for _ in range(repeats):
        yield localizations.split(split, n_blocks=n_blocks, random_state=source)


def _correlate_tables(
    first: Localizations, second: Localizations, pixel_size: float, window: Window
) -> RingCorrelation:
    images = [render_histogram(half, pixel_size).to_numpy() for half in (first, second)]
    return ring_correlation(images[0], images[1], window=window)


def _common_pixel_size(first: Image, second: Image, pixel_size: float | None) -> float:
    """Give the pixel size that two images and the caller agree on."""
    grids = [grid_of(image) for image in (first, second) if isinstance(image, xr.DataArray)]
    if len(grids) == 2 and not grids[0].is_close(grids[1]):
        raise InvalidInputError(f"the images lie on different grids: {grids[0]} and {grids[1]}")
    sizes = {grids[0].pixel_size} if grids else set()
    if pixel_size is not None:
        sizes.add(check_pixel_size(pixel_size))
    if len(sizes) != 1:
        raise InvalidInputError(
            f"the images have the pixel size {sorted(sizes)} nm: one is needed"
            if sizes
            else "arrays do not know their pixel size: give pixel_size in nm"
        )
    return sizes.pop()
