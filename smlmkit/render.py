"""Renderer: a table of localizations becomes an image or a stack of images."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smlmkit._checks import check_nonnegative, check_positive, check_whole
from smlmkit._kernels.gaussian import REACH
from smlmkit._threads import check_threads
from smlmkit._transformers import TableTransformer
from smlmkit.drawing import (
    SigmaRule,
    canvas_for,
    draw_counts,
    draw_gaussians,
    number_slices,
    warn_of_outside,
)
from smlmkit.errors import InvalidInputError, InvalidTypeError, UnusedRowsWarning
from smlmkit.grid import FieldOfView, PixelGrid, check_pixel_size
from smlmkit.images import DENSITY_UNITS, to_image
from smlmkit.localizations import Localizations
from smlmkit.samples import numeric_column
from smlmkit.smoothing import smooth_separably, triangular_profile
from smlmkit.tiling import TileNeeds

_LARGEST = np.finfo(np.float64).max
_UNCERTAINTIES = ["uncertainty_y", "uncertainty_x"]

Mode = Literal["histogram", "gaussian", "average_shifted"]


class Renderer(TableTransformer):
    """Render tables of localizations as images: counts, Gaussians or averages of shifted counts.

    Parameters
    ----------
    pixel_size : float, default=10.0
        Edge of a pixel in nm.
    mode : {"histogram", "gaussian", "average_shifted"}, default="histogram"
        ``"histogram"``: exact counts per pixel. ``"gaussian"``: each localization spread by a
        Gaussian of its own width, integrated over the pixels. ``"average_shifted"``: the mean of
        histograms of wider pixels, shifted by one pixel each.
    sigma : "uncertainty" or float, default="uncertainty"
        Of ``"gaussian"``, the standard deviation: each localization's ``uncertainty_y`` and
        ``uncertainty_x``, or one number in nm.
    sigma_scale : float, default=1.0
        Factor of the standard deviations.
    min_sigma, max_sigma : float, default=0.0 and None
        Floor and cap of the scaled standard deviations in nm. None is no cap.
    n_shifts : int, default=4
        Of ``"average_shifted"``, the shifts along either axis, which is the width of the
        histograms' pixels in pixels of the image.
    z_bins : int or sequence of float, optional
        Makes a stack: the edges of slices in nm, or a number of equal slices between a table's
        smallest and largest z. The upper edge of the last slice belongs to it. Files hold equal
        slices only.
    channels : "all" or sequence of int, optional
        Makes a stack with one plane for each of these values of the column ``channel``;
        localizations of other channels are not wanted. By default the channel plays no part.
    weights : str, optional
        A column, ``"photons"`` say, whose values are added up instead of ones.
    dtype : {"float32", "uint32"}, default="float32"
        Type of the pixels. uint32 is for histograms without weights, whose counts float32 holds
        exactly up to 2^24.
    grid : PixelGrid, optional
        One grid for every table, for images that must match pixel by pixel. By default each table
        gets the grid of `pixel_size` that covers its field of view.
    n_threads : int, optional
        Threads to use at most, by default all that there are (``OMP_NUM_THREADS``, if that is set
        and less). The image does not depend on it.

    Notes
    -----
    A localization at (y, x) lies in pixel (floor((y - y0) / p), floor((x - x0) / p)), computed in
    float64, where (y0, x0) is the corner of the field of view and p the pixel size.

    A Gaussian's share of a pixel is the product of differences of error functions at the pixel's
    edges, along y and along x, to 3e-6 of the largest. It is cut off at 4 standard deviations,
    where 6e-5 of its mass along either axis are left, and normalised to the localization's weight;
    the part that would lie beyond the image's border goes to the pixels inside. So whatever the
    mode, the sum of an image is the number, or total weight, of the localizations inside. Standard
    deviations below a thousandth of a pixel count as that.

    A mean of histograms of n p wide pixels over all their shifts by whole p is the histogram
    convolved with a triangle of 2 n - 1 pixels (Scott, Annals of Statistics 13, 1985); at the
    border it is reflected.

    An image can be made tile by tile: render ``table.crop(box)``, where the box is the tile and a
    halo, both of whole pixels, and drop the halo. Histograms need none, Gaussians 8 times the
    largest standard deviation and a pixel, averages of shifted histograms n - 1 pixels. A stack
    needs slices by their edges and channels by their numbers, so that they are the same in every
    tile.

    The parallel loops of all instances share one pool of threads, as many as there are cores. When
    several threads call at once, those of Dask's threaded scheduler for example, their loops take
    turns instead of multiplying; with ``n_threads=1`` each caller works alone. The sums of an image
    are float32: exact for counts up to 2^24 in a pixel, rounded to 6e-8 at each addition otherwise.

    Localizations that cannot be drawn, because they lie outside of `grid` or `z_bins`, the
    uncertainty is negative, or it, z or the weight is not finite, are counted in an
    `UnusedRowsWarning`.

    Examples
    --------
    >>> import numpy as np
    >>> from smlmkit import Localizations, Renderer
    >>> blinks = Localizations(np.array([[5.0, 15.0], [6.0, 18.0]]), field_of_view=(0, 0, 20, 30))
    >>> Renderer(pixel_size=10).fit_transform(blinks).values
    array([[0., 0., 0.],
           [2., 0., 0.]], dtype=float32)

    Gaussians, here of one width for all:

    >>> Renderer(pixel_size=10, mode="gaussian", sigma=5).transform(blinks).values.round(2)
    array([[0.22, 0.05, 0.  ],
           [1.36, 0.37, 0.  ]], dtype=float32)

    A stack of depths:

    >>> points = {"x": [5.0, 6.0], "y": [15.0, 18.0], "z": [-120.0, 40.0]}
    >>> stack = Renderer(pixel_size=10, z_bins=[-200, 0, 200]).transform(Localizations(points))
    >>> stack.dims, stack.z.values
    (('z', 'y', 'x'), array([-100.,  100.]))
    """

    def __init__(
        self,
        pixel_size: float = 10.0,
        mode: Mode = "histogram",
        *,
        sigma: float | Literal["uncertainty"] = "uncertainty",
        sigma_scale: float = 1.0,
        min_sigma: float = 0.0,
        max_sigma: float | None = None,
        n_shifts: int = 4,
        z_bins: int | Sequence[float] | NDArray[np.float64] | None = None,
        channels: Sequence[int] | Literal["all"] | None = None,
        weights: str | None = None,
        dtype: Literal["float32", "uint32"] = "float32",
        grid: PixelGrid | None = None,
        n_threads: int | None = None,
    ) -> None:
        self.pixel_size = pixel_size
        self.mode = mode
        self.sigma = sigma
        self.sigma_scale = sigma_scale
        self.min_sigma = min_sigma
        self.max_sigma = max_sigma
        self.n_shifts = n_shifts
        self.z_bins = z_bins
        self.channels = channels
        self.weights = weights
        self.dtype = dtype
        self.grid = grid
        self.n_threads = n_threads

    def _transformation(self) -> Callable[[Localizations], xr.DataArray]:
        check_pixel_size(self.pixel_size)
        if self.grid is not None and not isinstance(self.grid, PixelGrid):
            raise InvalidTypeError(f"grid must be a PixelGrid or None, got {self.grid!r}")
        if self.mode not in ("histogram", "gaussian", "average_shifted"):
            raise InvalidInputError(
                f"mode must be 'histogram', 'gaussian' or 'average_shifted', got {self.mode!r}"
            )
        if not (isinstance(self.sigma, str) and self.sigma == "uncertainty"):
            check_positive(sigma=self.sigma)
        check_positive(sigma_scale=self.sigma_scale)
        check_nonnegative(min_sigma=self.min_sigma)
        if self.max_sigma is not None:
            check_positive(max_sigma=self.max_sigma)
            if self.max_sigma < self.min_sigma:
                raise InvalidInputError(
                    f"max_sigma {self.max_sigma} is below min_sigma {self.min_sigma}"
                )
        check_whole("n_shifts", self.n_shifts, low=1)
        _check_z_bins(self.z_bins)
        _check_channels(self.channels)
        counts_only = self.mode == "histogram" and self.weights is None
        if self.dtype not in ("float32", "uint32") or (self.dtype == "uint32" and not counts_only):
            raise InvalidInputError(
                "dtype must be 'float32', or 'uint32' for a histogram without weights, "
                f"got {self.dtype!r}"
            )
        return partial(self._render, n_threads=check_threads(self.n_threads))

    def _table_needs(self, maxima: Mapping[str, float]) -> TileNeeds:
        if self.grid is not None:
            raise InvalidInputError(
                "the tiles of a field have grids of their own: give pixel_size instead of grid"
            )
        if self.z_bins is not None and np.ndim(self.z_bins) == 0:
            raise InvalidInputError(
                f"z_bins={self.z_bins!r} slices would lie elsewhere in every tile: give their edges"
            )
        if isinstance(self.channels, str):
            raise InvalidInputError(
                f"channels={self.channels!r} would be others in every tile: list them"
            )
        return TileNeeds(reach=self._reach(maxima), pixel_size=float(self.pixel_size))

    def _reach(self, maxima: Mapping[str, float]) -> float:
        """Give how far from a pixel in nm lies what may change it."""
        pixel_size = float(self.pixel_size)
        if self.mode == "histogram":
            return 0.0
        if self.mode == "average_shifted":
            return (self.n_shifts - 1) * pixel_size
        widest = _largest_uncertainty(maxima) if self.sigma == "uncertainty" else float(self.sigma)
        rule = self._sigma_rule()
        sigma = min(max(widest * rule.scale, rule.low), rule.high)
        # A Gaussian that ends at the border of what is read is normalised to the part inside, and
        # so another one over its whole width. The pixel is for rounding.
        return 2 * REACH * sigma + pixel_size

    def _sigma_rule(self) -> SigmaRule:
        cap = np.inf if self.max_sigma is None else float(self.max_sigma)
        return SigmaRule(float(self.sigma_scale), float(self.min_sigma), cap)

    def _render(self, table: Localizations, n_threads: int) -> xr.DataArray:
        table = _drop_unusable(table, self._columns_needed(table))
        channels = _channels(table, self.channels)
        # Too large a stack is refused before its edges alone fill the memory.
        n_slices = 1 if self.z_bins is None else _count_slices(self.z_bins)
        n_planes = n_slices * (1 if channels is None else len(channels))
        grid, box = canvas_for(table, self.pixel_size, self.grid, n_planes)
        edges = None
        if self.z_bins is not None:
            edges = _edges_of_slices(table["z"], self.z_bins)
            table = _drop_beyond(table, edges)
        z = None if edges is None else (edges[:-1] + edges[1:]) / 2
        stack_shape = tuple(len(labels) for labels in (channels, z) if labels is not None)
        image = np.zeros((*stack_shape, *grid.shape), self.dtype)
        planes = image.reshape(n_planes, *grid.shape)
        n_points = n_outside = 0
        for points, plane in zip(_points_of_planes(table, channels, edges), planes, strict=True):
            n_points += len(points)
            n_outside += self._draw(points, plane, grid, box, n_threads)
        warn_of_outside(n_outside, n_points, box)
        units = DENSITY_UNITS if self.weights is None else f"{self.weights} per pixel"
        return to_image(image, grid, channel=channels, z=z, units=units)

    def _columns_needed(self, table: Localizations) -> list[str]:
        """List the columns besides x and y that this rendering reads, or say which are missing."""
        needed = []
        if self.mode == "gaussian" and self.sigma == "uncertainty":
            needed += _UNCERTAINTIES
        if self.z_bins is not None:
            needed.append("z")
        if self.weights is not None:
            needed.append(self.weights)
        if self.channels is not None:
            needed.append("channel")
        for name in needed:
            if name not in table and name.startswith("uncertainty"):
                raise InvalidInputError(
                    f"there is no column {name!r}, only {', '.join(table.columns)}: "
                    "give sigma in nm"
                )
            numeric_column(table, name)
        return needed

    def _draw(
        self,
        points: Localizations,
        plane: NDArray[Any],
        grid: PixelGrid,
        box: FieldOfView,
        n_threads: int,
    ) -> int:
        """Draw a table on one plane; give the number of points outside of the box."""
        weights = (
            None if self.weights is None else points[self.weights].astype(np.float64, copy=False)
        )
        if self.mode == "gaussian":
            if self.sigma == "uncertainty":
                sigmas = points["uncertainty_y"], points["uncertainty_x"]
            else:
                sigmas = (np.array([float(self.sigma)]),) * 2
            return draw_gaussians(
                *(points.y, points.x, *sigmas, grid, box, plane),
                rule=self._sigma_rule(),
                weights=weights,
                n_threads=n_threads,
            )
        n_outside = draw_counts(
            points.y, points.x, grid, box, plane, weights=weights, n_threads=n_threads
        )
        if self.mode == "average_shifted":
            smooth_separably(plane, triangular_profile(self.n_shifts), n_threads)
        return n_outside


def _largest_uncertainty(maxima: Mapping[str, float]) -> float:
    try:
        return max(0.0, *(maxima[name] for name in _UNCERTAINTIES))
    except KeyError as missing:
        raise InvalidInputError(f"there is no column {missing}: give sigma in nm") from None


def _check_z_bins(z_bins: Any) -> None:
    if z_bins is None:
        return
    if np.ndim(z_bins) == 0:
        check_whole("z_bins", z_bins, low=1)
        return
    try:
        edges = np.asarray(z_bins, np.float64)
    except (TypeError, ValueError):
        edges = np.empty(0)
    if (
        edges.ndim != 1
        or len(edges) < 2
        or not np.all(np.isfinite(edges))
        or np.any(np.diff(edges) <= 0)
    ):
        raise InvalidInputError(
            f"z_bins must be a number of slices or at least two rising edges in nm, got {z_bins!r}"
        )


def _check_channels(channels: Any) -> None:
    if channels is None or (isinstance(channels, str) and channels == "all"):
        return
    try:
        numbers = np.asarray(channels)
    except ValueError:  # a ragged list
        numbers = np.empty(0)
    is_list = numbers.ndim == 1 and numbers.dtype.kind in "iu" and len(numbers) > 0
    if not is_list or len(np.unique(numbers)) < len(numbers):
        raise InvalidInputError(
            f"channels must be 'all', a list of different int or None, got {channels!r}"
        )


def _drop_unusable(table: Localizations, columns: list[str]) -> Localizations:
    """Leave out the rows without a usable value in one of the columns, and say how many."""
    usable: Any = np.True_
    unusable_in = []
    for name in columns:
        values = table[name]
        least = 0.0 if name in _UNCERTAINTIES else -_LARGEST
        # Without memory for a mask, which is rarely needed. A NaN makes the minimum one.
        if len(values) and not (values.min() >= least and values.max() <= _LARGEST):
            usable = usable & (values >= least) & (values <= _LARGEST)
            unusable_in.append(name)
    return _keep(table, usable, f"have no usable value of {', '.join(unusable_in)}")


def _drop_beyond(table: Localizations, edges: NDArray[np.float64]) -> Localizations:
    """Leave out the rows above and below all slices, and say how many."""
    is_within = (table["z"] >= edges[0]) & (table["z"] <= edges[-1])
    return _keep(
        table, is_within, f"lie outside of the slices from {edges[0]:g} to {edges[-1]:g} nm"
    )


def _keep(table: Localizations, kept: Any, why_not: str) -> Localizations:
    if np.all(kept):
        return table
    source = table.metadata.get("source")
    warnings.warn(
        f"{f'{source}: ' if source else ''}{np.count_nonzero(~kept):,} of {len(table):,} "
        f"localizations {why_not} and are left out",
        UnusedRowsWarning,
        stacklevel=2,
    )
    return table.select(kept)


def _channels(table: Localizations, channels: Any) -> NDArray[np.int64] | None:
    if channels is None:
        return None
    present = np.unique(table["channel"])
    if np.any(present != np.floor(present)):
        raise InvalidInputError("column 'channel' must hold whole numbers")
    if not isinstance(channels, str):
        return np.asarray(channels, np.int64)
    if len(present) == 0:
        raise InvalidInputError("channels='all' of an empty table are none: list them")
    return present.astype(np.int64)


def _count_slices(z_bins: Any) -> int:
    return int(z_bins) if np.ndim(z_bins) == 0 else len(z_bins) - 1


def _edges_of_slices(z: NDArray[np.float64], z_bins: Any) -> NDArray[np.float64]:
    try:
        return np.histogram_bin_edges(z, z_bins)
    except ValueError as error:  # more slices than numbers between the lowest and the highest
        raise InvalidInputError(f"z_bins={z_bins!r}: {error}") from None


def _points_of_planes(
    table: Localizations, channels: NDArray[np.int64] | None, edges: NDArray[np.float64] | None
) -> Iterator[Localizations]:
    """Give the rows of each channel and, within it, of each slice."""
    for channel in [None] if channels is None else channels:
        points = table if channel is None else table.select(table["channel"] == channel)
        if edges is None:
            yield points
            continue
        n_slices = len(edges) - 1
        slice_of = number_slices(points["z"], edges)
        for number in range(n_slices):
            yield points.select(slice_of == number)
