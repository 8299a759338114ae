"""How resolution follows from density: the FRC of ever fewer of the localizations."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from smlmkit._checks import check_whole, random_source
from smlmkit._rows import frame_span
from smlmkit.errors import InvalidInputError
from smlmkit.localizations import Localizations, RandomState
from smlmkit.resolution.frc import frc_curve
from smlmkit.resolution.halves import Split

FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def frc_by_fraction(
    localizations: Localizations,
    fractions: Sequence[float] = FRACTIONS,
    *,
    cutoff: float = 0.2,
    repeats: int = 5,
    random_state: RandomState = None,
    **options: Any,
) -> pd.DataFrame:
    """Measure resolution and FRC area of random fractions of a table.

    Parameters
    ----------
    localizations : Localizations
        The table.
    fractions : sequence of float, default=(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
        Shares of the localizations to keep, in (0, 1].
    cutoff : float, default=0.2
        Highest frequency of the area in cycles per pixel.
    repeats : int, default=5
        How often each fraction is drawn and split anew.
    random_state : int, RandomState or None, default=None
        Source of randomness.
    **options : dict
        Further parameters of `frc_curve`: `pixel_size`, `split`, `threshold` and so on.

    Returns
    -------
    DataFrame
        A row a fraction, with the columns ``fraction``, ``localizations`` and ``density`` (means;
        per square micrometre), ``resolution`` and ``resolution_sd`` (nm, over the repeats that have
        one), ``resolved`` (the share of these), ``area`` and ``area_sd``. A draw that is left with
        too few frames for the blocks has no resolution and an area of 0.

    Raises
    ------
    InvalidInputError
        If a fraction is not in (0, 1], `repeats` is below 1, or as `frc_curve` does.

    Notes
    -----
    Figure 2 of Berberich et al. 2021. Where the curve still falls at a fraction of 1, more
    localizations would resolve more; where it is flat, their uncertainty is the limit.

    Examples
    --------
    >>> from smlmkit import frc_by_fraction, make_microtubules
    >>> blinks, _ = make_microtubules(field_size=4000, density=5000, random_state=0)
    >>> curve = frc_by_fraction(blinks, [0.1, 1.0], repeats=2, random_state=0)
    >>> bool(curve["resolution"].iloc[1] < curve["resolution"].iloc[0])
    True
    """
    check_whole("repeats", repeats, low=1)
    wrong = [fraction for fraction in fractions if not 0 < fraction <= 1]
    if wrong or len(fractions) == 0:
        raise InvalidInputError(f"fractions must be in (0, 1], at least one, got {fractions!r}")
    source = random_source(random_state)
    n_blocks = options.get("n_blocks", 10)
    split = options["split"] = _settle(localizations, options.get("split", "auto"), n_blocks)
    rows = []
    for fraction in fractions:
        for _ in range(repeats):
            kept = localizations.thin(fraction, source)
            resolution, area = math.nan, 0.0
            if split != "frames" or _has_frames_for(kept, n_blocks):
                curve = frc_curve(kept, random_state=source, **options)
                resolution = curve.resolution
                area = float(np.nan_to_num(curve.area(cutoff)))  # constant images share nothing
            rows.append((fraction, len(kept), kept.density, resolution, area))
    each = pd.DataFrame(
        rows, columns=["fraction", "localizations", "density", "resolution", "area"]
    )
    by_fraction = each.groupby("fraction", sort=False)
    return pd.DataFrame(
        {
            "localizations": by_fraction["localizations"].mean(),
            "density": by_fraction["density"].mean(),
            "resolution": by_fraction["resolution"].mean(),
            "resolution_sd": by_fraction["resolution"].std(),
            "resolved": by_fraction["resolution"].count() / by_fraction.size(),
            "area": by_fraction["area"].mean(),
            "area_sd": by_fraction["area"].std(),
        }
    ).reset_index()


def _settle(localizations: Localizations, split: Split, n_blocks: int) -> Split:
    """Decide what "auto" is, so that all fractions are split alike; refuse what is impossible."""
    if split == "auto":
        return "frames" if _has_frames_for(localizations, n_blocks) else "random"
    localizations.split(split, n_blocks=n_blocks, random_state=0)
    return split


def _has_frames_for(localizations: Localizations, n_blocks: int) -> bool:
    return "frame" in localizations and frame_span(localizations["frame"]) >= n_blocks
