"""Filters: tables become smaller tables, and counts in images are cleaned of stray ones."""

import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smlmkit._checks import check_positive, check_whole, random_source
from smlmkit._kernels.neighbors import mark_with_neighbors, sort_into_buckets
from smlmkit._threads import check_threads, run_bands
from smlmkit._transformers import ImageTransformer, TableTransformer
from smlmkit.errors import InvalidInputError
from smlmkit.grid import FieldOfView
from smlmkit.localizations import Localizations, RandomState
from smlmkit.samples import numeric_column
from smlmkit.tiling import TileNeeds

TableFunction = Callable[[Localizations], Localizations]
Range = tuple[float | None, float | None]


class LocalizationFilter(TableTransformer):
    """Keep localizations whose columns lie in given ranges.

    Parameters
    ----------
    **ranges : (low, high)
        For each column to look at, the closed range to keep; None leaves a side open. Lengths are
        in nm.

    Raises
    ------
    InvalidInputError
        At `fit` and `transform` if a range is none, at `transform` if a table lacks a column or
        holds no numbers there.

    See Also
    --------
    IsolatedFilter : Looks at neighbours.

    Notes
    -----
    A value that is NaN lies in no range, not even in (None, None). Without ranges every row is
    kept. Each column's range is a parameter of its own, so a search may vary it, also where the
    filter had none before: ``{"filter__photons": [(None, None), (500, None)]}``.

    Examples
    --------
    >>> columns = {"x": [10.0, 20.0, 30.0], "y": [10.0, 10.0, 10.0], "photons": [90, 500, 700]}
    >>> bright = LocalizationFilter(photons=(500, None), x=(None, 25))
    >>> bright
    LocalizationFilter(photons=(500, None), x=(None, 25))
    >>> bright.fit_transform(Localizations(columns))["photons"]
    array([500])
    """

    def __init__(self, /, **ranges: Range) -> None:
        self.ranges = ranges

    # scikit-learn finds parameters in the signature, which does not name these.
    def get_params(self, deep: bool = True) -> dict[str, Range]:  # noqa: ARG002
        """Give the ranges.

        Parameters
        ----------
        deep : bool, default=True
            Ignored: there are no estimators inside.

        Returns
        -------
        dict
            The range of each column.
        """
        return dict(self.ranges)

    def set_params(self, /, **ranges: Range) -> Self:
        """Set ranges, also of columns that had none.

        Parameters
        ----------
        **ranges : (low, high)
            The range of each column; other columns keep theirs.

        Returns
        -------
        LocalizationFilter
            The filter itself.
        """
        self.ranges = {**self.ranges, **ranges}
        return self

    def _transformation(self) -> TableFunction:
        ranges = {column: _check_range(column, given) for column, given in self.ranges.items()}

        def keep_in_ranges(fov: Localizations) -> Localizations:
            kept = np.ones(len(fov), dtype=bool)
            for column, (low, high) in ranges.items():
                values = numeric_column(fov, column)
                kept &= (values >= low) & (values <= high)
            return fov.select(kept)

        return keep_in_ranges

    def _table_needs(self, maxima: Mapping[str, float]) -> TileNeeds:
        highs = {column: _check_range(column, given)[1] for column, given in self.ranges.items()}
        lowered = {
            column: high for column, high in highs.items() if high < maxima.get(column, math.inf)
        }
        return TileNeeds(maxima=lowered)


class IsolatedFilter(TableTransformer):
    """Drop isolated localizations: keep those with neighbours.

    Parameters
    ----------
    radius : float, default=50.0
        How far away in nm, in x and y, another localization is still a neighbour.
    min_neighbors : int, default=3
        How many neighbours a localization needs to be kept, itself not counted.
    n_threads : int, optional
        Threads to use at most, by default all, see `Renderer`. The result does not depend on it.

    Raises
    ------
    InvalidInputError
        At `fit` and `transform` if a parameter is out of range.

    See Also
    --------
    CountFilter : The same idea for images.

    Notes
    -----
    All localizations count as neighbours, those that are dropped included, so the result does not
    depend on the order of rows.

    Examples
    --------
    >>> import numpy as np
    >>> xy = np.array([[10.0, 10.0], [40.0, 50.0], [40.0, 51.0], [500.0, 500.0]])
    >>> IsolatedFilter(radius=50, min_neighbors=1).fit_transform(Localizations(xy)).x
    array([10., 40., 40.])
    >>> IsolatedFilter(radius=50, min_neighbors=2).fit_transform(Localizations(xy)).x
    array([40.])
    """

    def __init__(
        self, radius: float = 50.0, min_neighbors: int = 3, *, n_threads: int | None = None
    ) -> None:
        self.radius = radius
        self.min_neighbors = min_neighbors
        self.n_threads = n_threads

    def _transformation(self) -> TableFunction:
        check_positive(radius=self.radius)
        check_whole("min_neighbors", self.min_neighbors, low=0)
        n_threads = check_threads(self.n_threads)

        def keep_with_neighbors(fov: Localizations) -> Localizations:
            return fov.select(
                _have_neighbors(fov, float(self.radius), int(self.min_neighbors), n_threads)
            )

        return keep_with_neighbors

    def _table_needs(self, maxima: Mapping[str, float]) -> TileNeeds:  # noqa: ARG002
        return TileNeeds(reach=float(self.radius))


class CountFilter(ImageTransformer):
    """Empty the pixels of an image that hold few localizations.

    Parameters
    ----------
    min_count : float, default=2
        What a pixel must hold to keep its value; one that holds less becomes 0.

    Raises
    ------
    InvalidInputError
        At `fit` and `transform` if `min_count` is not positive.

    See Also
    --------
    IsolatedFilter : The same idea for tables, blind to the borders of pixels.

    Notes
    -----
    The published code of Berberich et al. (2021) cleans its histograms this way, with 2, before it
    estimates their density. A pixel that is NaN stays so.

    Examples
    --------
    >>> import numpy as np
    >>> from smlmkit import PixelGrid, to_image
    >>> counts = np.array([[1, 2], [0, 5]], np.float32)
    >>> image = to_image(counts, PixelGrid(origin=(0, 0), pixel_size=10, shape=(2, 2)))
    >>> CountFilter(min_count=2).fit_transform(image).values
    array([[0., 2.],
           [0., 5.]], dtype=float32)
    """

    def __init__(self, min_count: float = 2) -> None:
        self.min_count = min_count

    def _transformation(self) -> Callable[[xr.DataArray], xr.DataArray]:
        check_positive(min_count=self.min_count)

        def empty_low_counts(image: xr.DataArray) -> xr.DataArray:
            values = image.to_numpy().copy()
            values[values < self.min_count] = 0
            return image.copy(data=values)

        return empty_low_counts

    def _image_needs(self, pixel_size: float) -> TileNeeds:
        return TileNeeds(pixel_size=pixel_size)


class FrameWindow(TableTransformer):
    """Keep a random stretch of frames that holds a given share of the localizations.

    Parameters
    ----------
    fraction : float or (low, high), default=(0.05, 0.3)
        The share of the localizations, in (0, 1], or the range from which each table's share is
        drawn uniformly.
    random_state : int, RandomState or None, default=None
        Source of randomness. An int gives the same at every `transform`; the tables of a list get
        independent draws.

    Raises
    ------
    InvalidInputError
        At `fit` and `transform` if `fraction` or `random_state` cannot be used, at `transform` if
        a table has no column ``frame``.

    See Also
    --------
    Thin : Keeps localizations of all frames.

    Notes
    -----
    The window begins at one of the frames that hold localizations, drawn uniformly from those that
    leave enough of them to the end, and is the shortest one of whole frames that holds the share.
    So it may hold more than the share, by less than its last frame holds. Such windows, of 5 to
    30 %, are the sparse inputs of Berberich et al. (2021).

    Examples
    --------
    >>> import numpy as np
    >>> columns = {"x": np.zeros(100), "y": np.zeros(100), "frame": np.arange(100)}
    >>> blinks = Localizations(columns, field_of_view=(-1, -1, 1, 1))
    >>> frames = FrameWindow(fraction=0.2, random_state=0).fit_transform(blinks)["frame"]
    >>> len(frames), int(frames.max() - frames.min())
    (20, 19)
    """

    def __init__(
        self,
        fraction: float | tuple[float, float] = (0.05, 0.3),
        random_state: RandomState = None,
    ) -> None:
        self.fraction = fraction
        self.random_state = random_state

    def _transformation(self) -> TableFunction:
        low, high = self._check_fraction()
        random = random_source(self.random_state)

        def keep_window(fov: Localizations) -> Localizations:
            frame = numeric_column(fov, "frame")
            share = random.uniform(low, high)
            if len(fov) == 0:
                return fov
            first, last = _draw_window(frame, share, random)
            return fov.select((frame >= first) & (frame <= last))

        return keep_window

    def _table_needs(self, maxima: Mapping[str, float]) -> TileNeeds:  # noqa: ARG002
        raise InvalidInputError(
            "FrameWindow draws frames by all localizations of a field, which no tile knows: give "
            "LocalizationFilter(frame=(first, last)) instead"
        )

    def _check_fraction(self) -> tuple[float, float]:
        given = self.fraction
        pair = tuple(given) if isinstance(given, tuple | list) else (given, given)
        if len(pair) == 2 and all(map(_is_real, pair)) and 0 < pair[0] <= pair[1] <= 1:
            return float(pair[0]), float(pair[1])
        raise InvalidInputError(
            f"fraction must be a number in (0, 1] or a range (low, high) of such, got {given!r}"
        )


class Thin(TableTransformer):
    """Keep every localization with the same probability, independently.

    Parameters
    ----------
    fraction : float, default=0.5
        Probability of keeping a localization, in [0, 1].
    random_state : int, RandomState or None, default=None
        Source of randomness. An int gives the same at every `transform`; the tables of a list get
        independent draws.

    Raises
    ------
    InvalidInputError
        At `fit` and `transform` if `fraction` or `random_state` cannot be used.

    See Also
    --------
    Localizations.thin : What is done to each table.
    FrameWindow : Keeps a stretch of frames.

    Examples
    --------
    >>> import numpy as np
    >>> blinks = Localizations(np.arange(2000.0).reshape(1000, 2))
    >>> 400 < len(Thin(fraction=0.5, random_state=0).fit_transform(blinks)) < 600
    True
    """

    def __init__(self, fraction: float = 0.5, random_state: RandomState = None) -> None:
        self.fraction = fraction
        self.random_state = random_state

    def _transformation(self) -> TableFunction:
        if not (_is_real(self.fraction) and 0 <= self.fraction <= 1):
            raise InvalidInputError(f"fraction must be a number in [0, 1], got {self.fraction!r}")
        random = random_source(self.random_state)
        return lambda fov: fov.thin(self.fraction, random)

    def _table_needs(self, maxima: Mapping[str, float]) -> TileNeeds:  # noqa: ARG002
        raise InvalidInputError(
            "Thin draws anew for every tile, and tiles overlap: thin the whole table before, by "
            "Localizations.thin"
        )


def _is_real(number: object) -> bool:
    return isinstance(number, Real) and not isinstance(number, bool)


def _check_range(column: str, given: Any) -> tuple[float, float]:
    """Turn (low, high) with None for an open side into two numbers."""
    if isinstance(given, tuple | list) and len(given) == 2:
        low = -math.inf if given[0] is None else given[0]
        high = math.inf if given[1] is None else given[1]
        if _is_real(low) and _is_real(high) and low <= high:
            return float(low), float(high)
    raise InvalidInputError(
        f"the range of {column!r} must be (low, high), numbers with low <= high or None for an "
        f"open side, got {given!r}"
    )


def _draw_window(
    frame: NDArray[np.int64], share: float, random: np.random.RandomState
) -> tuple[int, int]:
    """Draw the first and last frame of a window that holds at least a share of the n > 0 rows."""
    frames, counts = np.unique(frame, return_counts=True)
    held = np.cumsum(counts)  # up to and including each frame
    before = held - counts
    # Rounded first: 0.07 * 100 is a little more than 7.
    n_wanted = max(1, math.ceil(round(share * len(frame), 6)))
    n_starts = np.searchsorted(before, len(frame) - n_wanted, side="right")
    start = random.randint(n_starts)
    last = np.searchsorted(held, before[start] + n_wanted)
    return int(frames[start]), int(frames[last])


def _have_neighbors(
    fov: Localizations, radius: float, min_neighbors: int, n_threads: int
) -> NDArray[np.bool_]:
    """Tell which rows have so many others within the radius."""
    field, n_points = fov.field_of_view, len(fov)
    # Cells a little larger than the radius, so that rounding puts no neighbour two cells away; in
    # units of cells rounding errors grow with the field, hence its billionth.
    cell_size = max(radius, 1e-9 * max(field.height, field.width)) * (1 + 1e-5)
    grid = (field.y_min, field.x_min), cell_size, _table_shape(field, cell_size, n_points)
    points = sort_into_buckets(fov.y, fov.x, *grid)
    # More than n - 1 others nobody has; unlike the parameter, n fits into the kernel's integers.
    wanted = min(min_neighbors, n_points)
    marks = np.empty(n_points, dtype=bool)

    def mark(start: int, stop: int) -> None:
        mark_with_neighbors(points, *grid, radius, wanted, start, stop, marks)

    run_bands(mark, n_points, n_threads, min_rows=20_000)
    return marks


def _table_shape(field: FieldOfView, cell_size: float, n_points: int) -> tuple[int, int]:
    """Give powers of two from 4 on that cover the field's cells, or fewer: four buckets a point."""
    rows, columns = (
        max(4, 1 << int(extent / cell_size).bit_length()) for extent in (field.height, field.width)
    )
    while rows * columns > max(16, 4 * n_points):
        rows, columns = (rows // 2, columns) if rows > columns else (rows, columns // 2)
    return rows, columns
