"""What a network was trained on, and whether a table is like it."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smlmkit.drawing import render_histogram
from smlmkit.errors import UnfamiliarTableWarning
from smlmkit.localizations import Localizations

CELL_SIZE = 640.0
"""Side in nm of the cells whose localizations make a density: 64 pixels of 10 nm."""

_FAMILIAR_RATIO = 4.0
"""A density or an uncertainty beyond the training's by more than this factor is unfamiliar."""


def describe_tables(fovs: Sequence[Localizations]) -> dict[str, Any]:
    """Describe tables by what a network gets used to.

    Parameters
    ----------
    fovs : sequence of Localizations
        The tables, at least one of them with localizations.

    Returns
    -------
    dict
        ``n_fields``, ``n_localizations``, ``density``: least and greatest typical density of a
        table per µm², and ``uncertainty``: least and greatest median in nm, or None where no table
        has the columns.
    """
    described = [describe_table(fov) for fov in fovs]
    densities = [density for density, _ in described if density is not None]
    uncertainties = [uncertainty for _, uncertainty in described if uncertainty is not None]
    return {
        "n_fields": len(fovs),
        "n_localizations": sum(map(len, fovs)),
        "density": [min(densities), max(densities)],
        "uncertainty": [min(uncertainties), max(uncertainties)] if uncertainties else None,
    }


def merge_descriptions(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Describe what a network has seen in two trainings, one after the other.

    Parameters
    ----------
    first, second : mapping
        What `describe_tables` gave.

    Returns
    -------
    dict
        Of the same kind; a table that was in both counts twice.
    """
    merged: dict[str, Any] = {
        name: first[name] + second[name] for name in ("n_fields", "n_localizations")
    }
    for name in ("density", "uncertainty"):
        values = [*(first[name] or []), *(second[name] or [])]
        merged[name] = [min(values), max(values)] if values else None
    return merged


def warn_if_unfamiliar(
    density: float | None,
    uncertainty: float | None,
    description: Mapping[str, Any],
    name: str,
    *,
    stacklevel: int,
) -> None:
    """Warn where a table is far from those of the training, by how much.

    Parameters
    ----------
    density : float or None
        Typical density of the table that is to be reconstructed, as `describe_table` gives it.
    uncertainty : float or None
        Its median uncertainty in nm.
    description : mapping
        What `describe_tables` gave.
    name : str
        What to call the table.
    stacklevel : int
        Of the warning, as if the caller gave it.

    Warns
    -----
    UnfamiliarTableWarning
        If its typical density or its median uncertainty is more than 4 times what the training
        tables had at most, or less than a quarter of what they had at least.
    """
    for value, known, what, unit in (
        (density, description["density"], "density", "localizations per µm²"),
        (uncertainty, description["uncertainty"], "median uncertainty", "nm"),
    ):
        if value is None or known is None:
            continue
        least, greatest = known
        if least / _FAMILIAR_RATIO <= value <= greatest * _FAMILIAR_RATIO:
            continue
        nearest = least if value < least else greatest
        factor = max(value / nearest, nearest / value)
        warnings.warn(
            f"{name}: its {what} of {value:.3g} {unit} is {factor:.1f} times "
            f"{'below the least' if value < least else 'above the greatest'} of the training "
            f"tables, {nearest:.3g}: the network does not know such tables",
            UnfamiliarTableWarning,
            stacklevel=stacklevel + 1,
        )


def describe_table(fov: Localizations) -> tuple[float | None, float | None]:
    """Give what a network gets used to of one table.

    Parameters
    ----------
    fov : Localizations
        The table.

    Returns
    -------
    density : float or None
        As `typical_density` gives it; None of an empty table.
    uncertainty : float or None
        Median of ``uncertainty_x`` in nm; None without the column.
    """
    counts = render_histogram(fov, CELL_SIZE).to_numpy()
    return typical_density(counts), _median_uncertainty(fov)


def typical_density(counts: NDArray[Any]) -> float | None:
    """Give the mean over localizations of the density around each: empty area plays no part.

    Parameters
    ----------
    counts : ndarray of shape (height, width)
        Localizations in cells of `CELL_SIZE`.

    Returns
    -------
    float or None
        Localizations per µm²; None where there are none.
    """
    weights = counts.astype(np.float64)
    total = weights.sum()
    return float((weights**2).sum() / total / (CELL_SIZE / 1000) ** 2) if total else None


def _median_uncertainty(fov: Localizations) -> float | None:
    if "uncertainty_x" not in fov or len(fov) == 0:
        return None
    median = float(np.median(fov["uncertainty_x"]))
    return median if 0 < median < np.inf else None
