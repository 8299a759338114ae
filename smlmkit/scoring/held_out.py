"""Reconstructions of one half against the raw other half, whose noise they do not know.

B's noise is independent of the reconstruction of half A, so invented structure earns nothing.
Scoring one reconstruction against the other would not do: a method's habits correlate.
"""

import xarray as xr

from smlmkit.drawing import render_histogram
from smlmkit.errors import InvalidInputError
from smlmkit.images import grid_of
from smlmkit.localizations import Localizations
from smlmkit.metrics.likelihood import poisson_log_likelihood
from smlmkit.resolution import frc_curve


def count_held_out(
    image: xr.DataArray, half_a: Localizations, half_b: Localizations
) -> tuple[xr.DataArray, float]:
    """Count half B on the grid of a reconstruction of half A.

    Parameters
    ----------
    image : DataArray of dims (y, x)
        The reconstruction.
    half_a : Localizations
        What was reconstructed.
    half_b : Localizations
        What was held out.

    Returns
    -------
    counts : DataArray of dims (y, x)
        Localizations of half B per pixel.
    exposure : float
        Localizations of half B for one of half A, both on the grid.

    Raises
    ------
    InvalidInputError
        If a half has no localization on the grid.
    """
    grid = grid_of(image)
    counts = render_histogram(half_b, grid.pixel_size, grid)
    n_reconstructed = len(half_a.crop(grid.field_of_view))
    if n_reconstructed == 0 or not counts.any():
        raise InvalidInputError(f"a half has no localization on the reconstruction's {grid}")
    return counts, float(counts.sum()) / n_reconstructed


def compare_held_out(
    image: xr.DataArray, half_a: Localizations, half_b: Localizations
) -> dict[str, float]:
    """Compare a reconstruction of half A with the raw half B by every held-out measure.

    Parameters
    ----------
    image : DataArray of dims (y, x)
        The reconstruction.
    half_a : Localizations
        What was reconstructed.
    half_b : Localizations
        What was held out.

    Returns
    -------
    dict of float
        ``frc_area_0.2`` and ``frc_area_0.5`` (up to so many cycles per pixel), ``log_likelihood``
        (nats per localization, per pixel of the image) and ``frc_resolution`` (nm; nan when there
        is none).

    Raises
    ------
    InvalidInputError
        If a half has no localization on the image's grid.
    """
    counts, exposure = count_held_out(image, half_a, half_b)
    curve = frc_curve(image, counts)
    return {
        "frc_area_0.2": curve.area(0.2),
        "frc_area_0.5": curve.area(0.5),
        "log_likelihood": poisson_log_likelihood(
            counts.to_numpy(), image.to_numpy(), exposure=exposure
        ),
        "frc_resolution": curve.resolution,
    }
