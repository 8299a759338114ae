"""Reconstruction of a table by trained networks."""

import math
import warnings
from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from smlmkit.drawing import render_counts
from smlmkit.errors import EmptyPredictionWarning, TrainingDivergedError
from smlmkit.localizations import Localizations
from smlmkit.nn.base import Network
from smlmkit.nn.inference import predict_image
from smlmkit.reconstruct.validation import count_planes


def reconstruct_field(
    networks: Sequence[Network],
    fov: Localizations,
    pixel_size: float,
    z_edges: NDArray[np.float64] | None,
    device: torch.device,
    *,
    tta: bool,
    split_seeds: Sequence[int],
    precision: str,
    return_deviation: bool,
    scale_to_mass: bool,
) -> tuple[xr.DataArray, xr.DataArray | None]:
    """Give the networks' mean opinion of a table, as it is or scaled to the table's own mass.

    Parameters
    ----------
    networks : sequence of Network
        On the device, in the state for prediction.
    fov : Localizations
        The table.
    pixel_size : float
        Edge of a pixel in nm.
    z_edges : ndarray of float64, shape (n_slices + 1,), or None
        The edges of the slices of depth in nm.
    device : torch.device
        Where to compute.
    tta : bool
        Whether to average over the eight orientations.
    split_seeds : sequence of int
        A random split of the table for each; none for the whole table.
    precision : str
        As in `smlmkit.nn.inference.predict_image`.
    return_deviation : bool
        Whether the mean absolute deviation of the opinions is wanted.
    scale_to_mass : bool
        Whether to scale the image to the number of localizations.

    Returns
    -------
    image : DataArray, dims ([z,] y, x)
        Expected localizations per pixel.
    deviation : DataArray of the same shape, or None
        In the same units.

    Raises
    ------
    TrainingDivergedError
        If an output is not finite.

    Warns
    -----
    EmptyPredictionWarning
        If the networks see nothing in a table that holds localizations, which cannot be scaled.
    """
    image = render_counts(fov, pixel_size, z_edges)
    counts = image.to_numpy().reshape(-1, *image.shape[-2:])
    shown = [counts]
    if split_seeds:
        shown = [
            count_planes(half, pixel_size, z_edges)
            for seed in split_seeds
            for half in fov.split("random", random_state=seed)
        ]
    density, deviation = predict_image(
        networks,
        shown,
        device,
        tta=tta,
        return_deviation=return_deviation,
        precision=precision,
    )
    mass = float(counts.sum(dtype=np.float64))
    predicted_mass = float(density.sum(dtype=np.float64))
    if not math.isfinite(predicted_mass):
        raise TrainingDivergedError("the network's output is not finite: its training diverged")
    if scale_to_mass:
        factor = mass_factor(mass, predicted_mass)
        _scale(density, factor)
        if deviation is not None:
            _scale(deviation, factor)
        image.attrs["mass_factor"] = factor
    image = image.copy(data=density.reshape(image.shape))
    if deviation is None:
        return image, None
    return image, image.copy(data=deviation.reshape(image.shape)).rename("deviation")


def _scale(image: NDArray[np.float32], factor: float) -> None:
    """Multiply in float64: a factor may be beyond what float32 holds, where outputs are tiny."""
    np.multiply(image, factor, out=image, dtype=np.float64, casting="same_kind")


def mass_factor(mass: float, predicted_mass: float) -> float:
    """Give the factor that makes the sum of an image the number of localizations.

    Parameters
    ----------
    mass : float
        Localizations that the networks saw.
    predicted_mass : float
        Sum of their output.

    Returns
    -------
    float
        The factor; 0 where the output is.

    Warns
    -----
    EmptyPredictionWarning
        If the networks see nothing in a table that holds localizations.
    """
    if mass and not predicted_mass:
        warnings.warn(
            f"the network sees nothing in a table of {mass:,.0f} localizations: the image is 0",
            EmptyPredictionWarning,
            stacklevel=4,
        )
    return mass / predicted_mass if predicted_mass else 0.0
