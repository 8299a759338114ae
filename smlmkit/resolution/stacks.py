"""Resolution of z-stacks: Fourier shell correlation, and the FRC of every slice."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smlmkit._checks import check_positive
from smlmkit.drawing import render_counts
from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.grid import PixelGrid, check_pixel_size
from smlmkit.localizations import Localizations, RandomState
from smlmkit.metrics.frc import Threshold, check_reading
from smlmkit.metrics.rings import Window, ring_correlation
from smlmkit.resolution.curve import FRCCurve, read_curve
from smlmkit.resolution.halves import Split, common_pixel_size, repeated_splits
from smlmkit.samples import numeric_column

# Of a stack in float64, 2 GiB.
_MAX_VOXELS = 2**28


def fourier_shell_correlation(
    first: Localizations | xr.DataArray,
    second: xr.DataArray | None = None,
    *,
    pixel_size: float = 20.0,
    slice_thickness: float | None = None,
    threshold: Threshold = "1/7",
    smoothing: float = 0.1,
    window: Window = "tukey",
    split: Split = "auto",
    n_blocks: int = 10,
    repeats: int = 1,
    random_state: RandomState = None,
) -> FRCCurve:
    """Correlate two z-stacks, or the two halves of a table with z, shell by shell.

    Parameters
    ----------
    first : Localizations or DataArray of dims (z, y, x)
        A table with the column ``z``, which is split in two and counted per voxel; or the first
        stack, of evenly spaced slices.
    second : DataArray of dims (z, y, x), optional
        The second stack, on the grid of the first one.
    pixel_size : float, default=20
        For a table, edge of a pixel in nm.
    slice_thickness : float, optional
        For a table, distance of the slices in nm; by default that of the pixels.
    threshold : {"1/7", "half-bit", "one-bit", "3-sigma"}, default="1/7"
        What the curve must stay above.
    smoothing : float, default=0.1
        Span of the smoothing as a share of the shells, as in `frc_curve`.
    window : {"tukey"} or None, default="tukey"
        Taper an eighth of the stack at every face, or leave the stacks as they are.
    split : {"auto", "frames", "random"}, default="auto"
        How a table is split, see `Localizations.split`.
    n_blocks : int, default=10
        Number of blocks of frames.
    repeats : int, default=1
        How often a table is split anew; the curves are averaged.
    random_state : int, RandomState or None, default=None
        Source of randomness of the splits.

    Returns
    -------
    FRCCurve
        The correlation over shells of equal frequency and the resolution in nm, averaged over all
        directions. The shells end where the coarser of pixels and slices does.

    Raises
    ------
    InvalidTypeError
        If `first` is neither a table nor a stack, or the second stack is missing or too much.
    InvalidInputError
        If the stacks do not fit together or their slices are unevenly spaced, there are fewer than
        4 slices, or a parameter is out of range.

    See Also
    --------
    frc_of_slices : The lateral resolution at every depth.

    Examples
    --------
    >>> import numpy as np
    >>> from smlmkit import Localizations, fourier_shell_correlation
    >>> rng = np.random.default_rng(0)
    >>> emitters = np.repeat(rng.uniform(0, 1000, size=(150, 3)), 40, axis=0)
    >>> blinks = Localizations(emitters + rng.normal(scale=15, size=emitters.shape))
    >>> curve = fourier_shell_correlation(blinks, pixel_size=10, random_state=0)
    >>> 30 < curve.resolution < 60
    True
    """
    check_reading(threshold, smoothing)
    correlations = []
    for stacks in _pairs_of_stacks(
        first, second, pixel_size, slice_thickness, split, n_blocks, repeats, random_state
    ):
        shells = ring_correlation(
            stacks.first,
            stacks.second,
            window=window,
            spacing=_distance(stacks.z) / stacks.pixel_size,
        )
        correlations.append(shells.correlation)
    return read_curve(
        shells.frequency,
        correlations,
        shells.count,
        shells.n_independent,
        stacks.pixel_size,
        threshold=threshold,
        smoothing=smoothing,
    )


def frc_of_slices(
    first: Localizations | xr.DataArray,
    second: xr.DataArray | None = None,
    *,
    pixel_size: float = 10.0,
    slice_thickness: float | None = None,
    threshold: Threshold = "1/7",
    smoothing: float = 0.1,
    window: Window = "tukey",
    split: Split = "auto",
    n_blocks: int = 10,
    repeats: int = 1,
    random_state: RandomState = None,
) -> dict[float, FRCCurve]:
    """Correlate two z-stacks, or the two halves of a table with z, ring by ring in every slice.

    Parameters
    ----------
    first : Localizations or DataArray of dims (z, y, x)
        A table with the column ``z``, which is split in two and counted per voxel; or the first
        stack.
    second : DataArray of dims (z, y, x), optional
        The second stack, on the grid of the first one.
    pixel_size : float, default=10
        For a table, edge of a pixel in nm.
    slice_thickness : float, optional
        For a table, distance of the slices in nm; by default ten pixels.
    threshold : {"1/7", "half-bit", "one-bit", "3-sigma"}, default="1/7"
        What the curves must stay above.
    smoothing : float, default=0.1
        Span of the smoothing as a share of the rings, as in `frc_curve`.
    window : {"tukey"} or None, default="tukey"
        Taper an eighth of every slice at its borders, or leave the slices as they are.
    split : {"auto", "frames", "random"}, default="auto"
        How a table is split, see `Localizations.split`.
    n_blocks : int, default=10
        Number of blocks of frames.
    repeats : int, default=1
        How often a table is split anew; the curves are averaged.
    random_state : int, RandomState or None, default=None
        Source of randomness of the splits.

    Returns
    -------
    dict of float to FRCCurve
        The curve of every slice by the z of its centre in nm, from low to high.

    Raises
    ------
    InvalidTypeError
        If `first` is neither a table nor a stack, or the second stack is missing or too much.
    InvalidInputError
        If the stacks do not fit together or a parameter is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from smlmkit import Localizations, frc_of_slices
    >>> rng = np.random.default_rng(0)
    >>> emitters = np.repeat(rng.uniform(0, 1000, size=(100, 3)), 50, axis=0)
    >>> depth = emitters[:, 2:] / 1000  # the deeper, the less certain
    >>> blinks = Localizations(emitters + rng.normal(size=emitters.shape) * (10 + 20 * depth))
    >>> curves = frc_of_slices(blinks, slice_thickness=400, random_state=0)
    >>> resolutions = [curve.resolution for curve in curves.values()]
    >>> bool(resolutions[0] < resolutions[1] < resolutions[2])
    True
    """
    check_reading(threshold, smoothing)
    correlations: list[list[NDArray[np.float64]]] = []
    thickness = 10 * check_pixel_size(pixel_size) if slice_thickness is None else slice_thickness
    for stacks in _pairs_of_stacks(
        first, second, pixel_size, thickness, split, n_blocks, repeats, random_state
    ):
        slices = [
            ring_correlation(*planes, window=window)
            for planes in zip(stacks.first, stacks.second, strict=True)
        ]
        correlations.append([rings.correlation for rings in slices])
    rings = slices[0]
    return {
        float(z): read_curve(
            rings.frequency,
            of_slice,
            rings.count,
            rings.n_independent,
            stacks.pixel_size,
            threshold=threshold,
            smoothing=smoothing,
        )
        for z, of_slice in zip(stacks.z, zip(*correlations, strict=True), strict=True)
    }


class _Stacks(NamedTuple):
    """Two stacks on one grid, and the centres of their slices in nm."""

    first: NDArray[Any]
    second: NDArray[Any]
    z: NDArray[np.float64]
    pixel_size: float


def _pairs_of_stacks(
    first: Localizations | xr.DataArray,
    second: xr.DataArray | None,
    pixel_size: float,
    slice_thickness: float | None,
    split: Split,
    n_blocks: int,
    repeats: int,
    random_state: RandomState,
) -> Iterator[_Stacks]:
    if isinstance(first, Localizations):
        if second is not None:
            raise InvalidTypeError("a table is split in two: it takes no second stack")
        size = check_pixel_size(pixel_size)
        edges = _slice_edges(first, size if slice_thickness is None else slice_thickness, size)
        for half, other in repeated_splits(first, split, n_blocks, repeats, random_state):
            yield _Stacks(
                render_counts(half, size, edges).to_numpy(),
                render_counts(other, size, edges).to_numpy(),
                (edges[1:] + edges[:-1]) / 2,
                size,
            )
        return
    if not (isinstance(first, xr.DataArray) and isinstance(second, xr.DataArray)):
        raise InvalidTypeError(
            "expected Localizations or two stacks as xarray.DataArray, got "
            f"{type(first).__name__} and {type(second).__name__}"
        )
    for stack in (first, second):
        if stack.dims != ("z", "y", "x"):
            raise InvalidInputError(f"a stack has the dims (z, y, x), got {stack.dims}")
    size = common_pixel_size(first, second, None)
    z = first["z"].to_numpy()
    if len(z) != len(second["z"]) or not np.allclose(z, second["z"], rtol=0, atol=1e-3 * size):
        raise InvalidInputError("the stacks do not have the same slices")
    yield _Stacks(first.to_numpy(), second.to_numpy(), z, size)


def _slice_edges(table: Localizations, thickness: float, pixel_size: float) -> NDArray[np.float64]:
    check_positive(slice_thickness=thickness)
    z = numeric_column(table, "z")
    if len(z) == 0 or not np.isfinite(z).all():
        raise InvalidInputError("every localization needs a finite z, and there must be one")
    n_slices = math.floor((z.max() - z.min()) / thickness) + 1
    n_pixels = math.prod(PixelGrid.covering(table.field_of_view, pixel_size).shape)
    if n_slices * n_pixels > _MAX_VOXELS:
        raise InvalidInputError(
            f"{n_slices:,} slices of {thickness:g} nm from z = {z.min():g} to {z.max():g} nm with "
            f"{n_pixels:,} pixels are too many; is there an outlier?"
        )
    edges = z.min() + thickness * np.arange(n_slices + 1)
    edges[-1] = max(edges[-1], z.max())  # rounding may put the largest z beyond
    return np.asarray(edges)


def _distance(z: NDArray[np.float64]) -> float:
    """Give the distance of evenly spaced slices in nm."""
    if len(z) < 2:
        raise InvalidInputError("a stack of one slice has no shells: use frc_curve")
    distances = np.diff(z)
    if not np.allclose(distances, distances[0], rtol=1e-3):
        raise InvalidInputError(
            f"the slices must be evenly spaced, got {distances.min():g} to {distances.max():g} nm"
        )
    return float(distances.mean())
