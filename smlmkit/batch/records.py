"""What is known of one acquisition: facts, held-out scores, and a part of its raw counts."""

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from smlmkit._atomic import whole_or_nothing
from smlmkit.batch._collecting import collect_warnings
from smlmkit.batch.identity import file_digests, file_state
from smlmkit.batch.needs import needs_of
from smlmkit.batch.points import TiledPoints, sort_by_tiles
from smlmkit.drawing import render_histogram
from smlmkit.errors import InvalidInputError, InvalidTypeError, SmlmkitError
from smlmkit.grid import PixelGrid, check_pixel_size
from smlmkit.images import DENSITY_UNITS, STACK_DIMS, grid_of, images_of
from smlmkit.io.images import write_image
from smlmkit.io.ome_zarr import read_image
from smlmkit.io.tables import read_localizations
from smlmkit.localizations import Localizations
from smlmkit.metrics.likelihood import poisson_log_likelihood
from smlmkit.resolution import FRCCurve, frc_curve
from smlmkit.scoring import FRCScorer, count_held_out
from smlmkit.tiling import FieldFacts, Slices, grow

# The side of what is correlated; larger fields are measured where they are densest.
_MEASURED_PX = 4096
_CROP_PX = 1024
_CELL_PX = 64
# A PNG has no more than 4096 pixels a side anyway; a TIFF is opened as a whole.
_MOST_PIXELS = {".png": 2**24, ".tif": 2**27}
_MOST_CURVE_POINTS = 512


class Source(NamedTuple):
    """The file of an acquisition, and what reading it takes.

    Parameters
    ----------
    file : Path
        The table.
    points : Path
        Where its localizations are written, sorted by place.
    camera_pixel_size : float or None
        Edge of a camera pixel in nm, for files that do not state it.
    """

    file: Path
    points: Path
    camera_pixel_size: float | None


def prepare(_: None, source: Source) -> dict[str, Any]:
    """Sort the localizations of an acquisition by place into a file of their own.

    Parameters
    ----------
    _ : None
        Jobs of this kind share nothing.
    source : Source
        The acquisition.

    Returns
    -------
    dict
        What JSON can hold: ``state`` and ``digests`` of the file, ``points``: the digest of the
        rows, ``warnings``, and ``facts`` for its record.

    Raises
    ------
    FileFormatError, InvalidInputError
        If the file cannot be read.
    OutputError
        If the sorted file cannot be written.
    """
    state = file_state(source.file)
    table: Path | Localizations = source.file
    with collect_warnings() as warned:
        if source.camera_pixel_size is not None and source.file.suffix.lower() != ".parquet":
            table = read_localizations(source.file, pixel_size=source.camera_pixel_size)
        points = sort_by_tiles(table, source.points)
    box = points.field_of_view
    facts = {
        "localizations": points.n_points,
        "density_per_um2": points.n_points / box.area_um2,
        "median_uncertainty_nm": points.median("uncertainty_x"),
        "field_of_view_nm": list(box),
    }
    return {
        "state": state,
        "digests": file_digests(source.file),
        "points": points.digest,
        "warnings": warned,
        "facts": facts,
    }


@dataclass(frozen=True)
class Measurement:
    """How acquisitions are measured.

    Parameters
    ----------
    estimator : estimator or Pipeline
        Fitted where it needs to be.
    seed : int
        Source of randomness of the split in two halves.
    """

    estimator: Any
    seed: int


def measure(measurement: Measurement, job: tuple[Path, Path]) -> dict[str, Any]:
    """Score the reconstruction of half of an acquisition against the other half.

    Parameters
    ----------
    measurement : Measurement
        How.
    job : tuple of Path
        The sorted localizations, and where a part of the counts is written, ``*.npz``.

    Returns
    -------
    dict
        For the acquisition's record: ``frc``, ``log_likelihood``, ``measured_px`` and ``crop_px``
        (boxes of pixels of the image: top, left, bottom, right), and ``warnings``.

    Raises
    ------
    OutputError
        If the counts cannot be written.

    Notes
    -----
    As `smlmkit.FRCScorer` and `smlmkit.PoissonScorer` do with their defaults, on one split of the
    localizations by frames where there are frames: areas are those up to 0.2 cycles per pixel of
    10 nm. A field of more than 4096 pixels a side is measured in the densest part of that size.
    Stacks are measured by the sum of their planes.
    """
    path, counts_file = job
    points = TiledPoints.open(path)
    needs = needs_of(measurement.estimator, FieldFacts(None, points.maxima))
    grid = PixelGrid.covering(points.field_of_view, check_pixel_size(needs.pixel_size))
    window = _densest_window(points, grid)
    table = points.read(grid, window)
    counts = render_histogram(table, grid.pixel_size)
    crop = _densest_crop(counts.to_numpy())
    with whole_or_nothing(counts_file, overwrite=True) as partial, partial.open("wb") as file:
        np.savez_compressed(file, before=counts.to_numpy()[crop])
    measured: dict[str, Any] = {
        "measured_px": _edges(window),
        "crop_px": _edges(crop, window),
        "frc": {"raw": None, "held_out": None},
        "log_likelihood": None,
        "warnings": [],
    }
    try:
        measured |= _score(measurement, table)
    except SmlmkitError as error:
        measured["warnings"].append(f"not scored: {error}")
    return measured


def draw_pictures(store: Path, pictures: tuple[Path, ...]) -> list[str]:
    """Write an image in other formats, of the finest level that is not too large.

    Parameters
    ----------
    store : Path
        The OME-Zarr.
    pictures : tuple of Path
        The files; their suffixes say the formats. Those that are there are replaced.

    Returns
    -------
    list of str
        What could not be drawn, and why.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    warned = []
    for path in pictures:
        try:
            image = _read_fitting(store, _MOST_PIXELS[path.suffix])
            write_image(image.load(), path, overwrite=True)
        except (InvalidInputError, InvalidTypeError) as error:
            warned.append(f"{path.name}: {error}")
    return warned


def _read_fitting(store: Path, most_pixels: int) -> xr.DataArray:
    """Read the finest level of an image that is not too large."""
    levels = (read_image(store, level) for level in itertools.count())
    return next(image for image in levels if image.size <= most_pixels)


def _score(measurement: Measurement, table: Localizations) -> dict[str, Any]:
    half_a, half_b = table.split("auto", random_state=measurement.seed)
    with collect_warnings():  # a half is sparser than what the estimator knows
        image = _project(images_of(measurement.estimator, half_a))
    counts, exposure = count_held_out(image, half_a, half_b)
    grid = grid_of(image)
    raw_half = render_histogram(half_a, grid.pixel_size, grid)
    likelihood = None
    if image.attrs.get("units") == DENSITY_UNITS:
        likelihood = poisson_log_likelihood(
            counts.to_numpy(), image.to_numpy(), exposure=exposure
        ) + 2 * math.log(FRCScorer.pixel_size / grid.pixel_size)
    return {
        "frc": {
            "raw": describe_curve(frc_curve(raw_half, counts)),
            "held_out": describe_curve(frc_curve(image, counts)),
        },
        "log_likelihood": likelihood,
    }


def describe_curve(curve: FRCCurve) -> dict[str, Any]:
    """Say in JSON what a Fourier ring correlation says.

    Parameters
    ----------
    curve : FRCCurve
        The curve.

    Returns
    -------
    dict
        ``frequency_per_nm``, ``correlation`` and ``threshold`` of at most 512 points, each the mean
        of neighbouring rings; ``resolution_nm``, ``area`` (up to 0.2 cycles per pixel of 10 nm) and
        ``reason``. What is not a number is None.
    """
    cutoff = FRCScorer.cutoff * curve.pixel_size / FRCScorer.pixel_size
    # Frequencies that the pixels cannot hold are not correlated.
    area = curve.area(min(cutoff, 0.5)) * min(1.0, 0.5 / cutoff)
    return {
        "frequency_per_nm": _thinned(curve.frequency),
        "correlation": _thinned(curve.correlation),
        "threshold": _thinned(curve.threshold_curve),
        "resolution_nm": _number_or_none(curve.resolution),
        "area": _number_or_none(area),
        "reason": curve.reason,
    }


def _project(image: xr.DataArray) -> xr.DataArray:
    """Add up the planes of a stack."""
    planes = [dim for dim in STACK_DIMS if dim in image.dims]
    return image.sum(planes, keep_attrs=True) if planes else image


def _densest_window(points: TiledPoints, grid: PixelGrid) -> Slices:
    whole = slice(0, grid.shape[0]), slice(0, grid.shape[1])
    if max(grid.shape) <= _MEASURED_PX:
        return whole
    counts = points.coarse_counts(_CELL_PX * grid.pixel_size)
    return _densest_box(counts, grid.shape, _MEASURED_PX)


def _densest_crop(counts: NDArray[np.float32]) -> Slices:
    starts = [np.arange(0, side, _CELL_PX) for side in counts.shape]
    by_cell = np.add.reduceat(np.add.reduceat(counts, starts[0], axis=0), starts[1], axis=1)
    return _densest_box(by_cell, (counts.shape[0], counts.shape[1]), _CROP_PX)


def _densest_box(counts: NDArray[Any], shape: tuple[int, int], side_px: int) -> Slices:
    """Find the box of up to `side_px` pixels a side, made of cells, with the largest sum."""
    sums = np.zeros([length + 1 for length in counts.shape])
    sums[1:, 1:] = counts.cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    height, width = (min(side_px // _CELL_PX, length) for length in counts.shape)
    by_row = sums[height:] - sums[:-height]
    by_corner = by_row[:, width:] - by_row[:, :-width]
    row, column = np.unravel_index(np.argmax(by_corner), by_corner.shape)
    top, left = int(row) * _CELL_PX, int(column) * _CELL_PX
    box = slice(top, top + height * _CELL_PX), slice(left, left + width * _CELL_PX)
    return grow(box, 0, shape)


def _edges(box: Slices, outer: Slices | None = None) -> list[int]:
    """Give top, left, bottom and right of a box, which may be counted from an outer one."""
    top, left = (0, 0) if outer is None else (outer[0].start, outer[1].start)
    rows, columns = box
    return [rows.start + top, columns.start + left, rows.stop + top, columns.stop + left]


def _thinned(values: NDArray[np.float64]) -> list[float | None]:
    starts = np.arange(0, len(values), -(-len(values) // _MOST_CURVE_POINTS))
    means = np.add.reduceat(values, starts) / np.diff([*starts, len(values)])
    return [_number_or_none(float(f"{mean:.6g}")) for mean in means]


def _number_or_none(value: float) -> float | None:
    """Give None for what JSON does not have."""
    return float(value) if math.isfinite(value) else None
