"""Two independent halves of one table or one image, for everything that compares them."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import fourier_shift

from smlmkit._checks import check_whole, random_source
from smlmkit.drawing import render_histogram
from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.grid import PixelGrid, check_pixel_size
from smlmkit.images import grid_of
from smlmkit.localizations import Localizations, RandomState
from smlmkit.metrics._images import MIN_SIDE_PX, check_image, check_range
from smlmkit.samples import numeric_column

Split = Literal["auto", "frames", "random"]
ImageSplit = Literal["binomial", "checkerboard"]
Image = xr.DataArray | NDArray[Any]
Pair = tuple[NDArray[Any], NDArray[Any]]

_PIXEL_SIZE_OF_TABLES = 10.0


def halves(
    first: Localizations | Image,
    second: Image | None,
    pixel_size: float | None,
    *,
    split: Split | ImageSplit,
    n_blocks: int,
    repeats: int,
    random_state: RandomState,
) -> tuple[Iterator[Pair], float]:
    """Give the pairs of images that a table, two images or one image stand for.

    Parameters
    ----------
    first : Localizations, DataArray or ndarray of shape (height, width)
        A table, or the first or only image.
    second : DataArray or ndarray of shape (height, width), optional
        The second image.
    pixel_size : float, optional
        Edge of a pixel in nm: 10 by default for a table, needed for ndarrays, and known by a
        DataArray.
    split : {"auto", "frames", "random", "binomial", "checkerboard"}
        How a table or one image is split.
    n_blocks, repeats, random_state : int, int and int, RandomState or None
        As in `repeated_splits`.

    Returns
    -------
    pairs : iterator of tuples of two arrays
        The two images of every repeat.
    pixel_size : float
        Edge of their pixels in nm.

    Raises
    ------
    InvalidTypeError
        If `first` is neither a table nor an image, or the second image is missing or too much.
    InvalidInputError
        If the images do not fit together, their pixel size is unknown, or a parameter is out of
        range.

    Examples
    --------
    >>> table = Localizations(np.arange(0, 200, 10).reshape(10, 2))
    >>> options = {"split": "random", "n_blocks": 10, "repeats": 1, "random_state": 0}
    >>> ((first, second),), pixel_size = halves(table, None, None, **options)
    >>> float(first.sum() + second.sum()), pixel_size
    (10.0, 10.0)
    """
    if isinstance(first, Localizations):
        if second is not None:
            raise InvalidTypeError("a table is split in two: it takes no second image")
        if split == "binomial" or split == "checkerboard":
            raise InvalidInputError(f"split={split!r} is for an image; a table has 'random'")
        size = check_pixel_size(_PIXEL_SIZE_OF_TABLES if pixel_size is None else pixel_size)
        shape = PixelGrid.covering(first.field_of_view, size).shape
        if min(shape) < MIN_SIDE_PX:
            raise InvalidInputError(
                f"the field of view has {shape[0]} x {shape[1]} pixels of {size:g} nm: at least "
                f"{MIN_SIDE_PX} a side are needed"
            )
        tables = repeated_splits(first, split, n_blocks, repeats, random_state)
        return ((_count(one, size), _count(other, size)) for one, other in tables), size
    if not isinstance(first, xr.DataArray | np.ndarray):
        raise InvalidTypeError(f"expected Localizations or images, got one {type(first).__name__}")
    size = common_pixel_size(first, first if second is None else second, pixel_size)
    image = np.asarray(first)
    if split == "binomial" and second is None:
        return binomial_halves(image, repeats, random_state), size
    if repeats != 1:
        raise InvalidInputError(
            f"only tables and counts are split again and again, got repeats={repeats!r}"
        )
    if second is not None:
        if split != "auto":
            raise InvalidInputError(f"two images are not split, got split={split!r}")
        return iter([(image, np.asarray(second))]), size
    if split == "checkerboard":
        return checkerboard_halves(image), 2 * size
    raise InvalidInputError(
        f"one image cannot be split by {split!r}: give a second image, or split='binomial' for "
        "counts, or 'checkerboard'"
    )


def common_pixel_size(first: Image, second: Image, pixel_size: float | None) -> float:
    """Give the pixel size that two images and the caller agree on.

    Parameters
    ----------
    first, second : DataArray or ndarray
        The images or stacks.
    pixel_size : float, optional
        Edge of a pixel in nm, if the caller knows it.

    Returns
    -------
    float
        Edge of a pixel in nm.

    Raises
    ------
    InvalidInputError
        If nobody knows it, or they do not agree.
    """
    grids = [
        grid_of(image, stacks=True) for image in (first, second) if isinstance(image, xr.DataArray)
    ]
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


def uncertainty_of(localizations: Localizations) -> NDArray[np.float64]:
    """Give the uncertainty of every localization, the same in all directions.

    Parameters
    ----------
    localizations : Localizations
        A table with the columns ``uncertainty_x`` and, if it differs, ``uncertainty_y``.

    Returns
    -------
    ndarray of shape (n,)
        Root of the mean of the squares along x and y, in nm.

    Raises
    ------
    InvalidInputError
        If there is no such column, or it does not hold numbers.

    Examples
    --------
    >>> uncertainty_of(Localizations({"x": [1], "y": [2], "uncertainty_x": [8.0]}))
    array([8.])
    """
    along_x = numeric_column(localizations, "uncertainty_x")
    if "uncertainty_y" not in localizations:
        return np.asarray(along_x, np.float64)
    along_y = numeric_column(localizations, "uncertainty_y")
    return np.asarray(np.hypot(along_x, along_y) / np.sqrt(2))


def _count(half: Localizations, pixel_size: float) -> NDArray[Any]:
    return render_histogram(half, pixel_size).to_numpy()


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
    check_whole("repeats", repeats, low=1)
    source = random_state
    if not isinstance(source, np.random.RandomState) and (repeats > 1 or source is not None):
        source = random_source(source)
    for _ in range(repeats):
        yield localizations.split(split, n_blocks=n_blocks, random_state=source)


def binomial_halves(
    counts: NDArray[Any], repeats: int, random_state: RandomState
) -> Iterator[Pair]:
    """Share out the counts of one image between two, again and again.

    Parameters
    ----------
    counts : ndarray of shape (height, width)
        Localizations per pixel.
    repeats : int
        Number of splits, at least 1.
    random_state : int, RandomState or None
        Source of randomness.

    Yields
    ------
    tuple of two ndarray of shape (height, width)
        Two images that sum to `counts`; each localization went to either by a fair coin.

    Raises
    ------
    InvalidTypeError
        If the image does not hold real numbers.
    InvalidInputError
        If it is not two-dimensional with at least 4 pixels a side, a pixel is no whole number from
        0 to 2^53, or `repeats` is below 1.

    Examples
    --------
    >>> ((first, second),) = binomial_halves(np.full((4, 4), 6), 1, random_state=0)
    >>> first + second
    array([[6, 6, 6, 6],
           [6, 6, 6, 6],
           [6, 6, 6, 6],
           [6, 6, 6, 6]])
    """
    check_whole("repeats", repeats, low=1)
    values = check_image(counts, "the image").astype(np.float64)
    whole = (values >= 0) & (values <= 2**53) & (values == np.floor(values))
    if not whole.all():
        raise InvalidInputError(
            f"only counts can be shared out: {whole.size - int(whole.sum()):,} pixels are no whole "
            "numbers from 0; split='checkerboard' takes any image"
        )
    source, total = random_source(random_state), counts.astype(np.int64)
    for _ in range(repeats):
        first = source.binomial(total, 0.5)
        yield first, total - first


def checkerboard_halves(image: NDArray[Any]) -> Iterator[Pair]:
    """Take the two diagonals of every 2 x 2 pixels apart: pairs of half as many pixels a side.

    Parameters
    ----------
    image : ndarray of shape (height, width)
        An image of at least 8 pixels a side; of odd sides the last row or column is left out.

    Yields
    ------
    tuple of two ndarray of shape (height // 2, width // 2)
        Even rows of even columns with odd ones of odd ones, then even ones of odd ones with odd
        ones of even ones. The second image of a pair is shifted in Fourier space by the half pixel
        that it lies beside the first.

    Raises
    ------
    InvalidTypeError
        If the image does not hold real numbers.
    InvalidInputError
        If it is not two-dimensional with at least 8 pixels a side, or a value is not finite.

    References
    ----------
    Koho et al. (2019), Nature Communications 10, 3103, who correct for the shift by calibration.

    Examples
    --------
    >>> y, x = np.indices((16, 16))
    >>> wave = np.cos(2 * np.pi * x / 8)
    >>> [bool(np.allclose(first, second)) for first, second in checkerboard_halves(wave)]
    [True, True]
    """
    check_image(image, "the image", min_side_px=8)
    check_range(image, "the image", float(image.min()), float(image.max()))
    height, width = (side // 2 * 2 for side in image.shape)
    even = image[:height, :width].astype(np.float64)
    yield even[::2, ::2], _shifted(even[1::2, 1::2], (0.5, 0.5))
    yield even[::2, 1::2], _shifted(even[1::2, ::2], (0.5, -0.5))


def _shifted(image: NDArray[np.float64], shift: tuple[float, float]) -> NDArray[np.float64]:
    moved: NDArray[np.float64] = np.fft.ifft2(fourier_shift(np.fft.fft2(image), shift)).real
    return moved
