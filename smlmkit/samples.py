"""What a user hands in as X: one table, or a list with one table a field of view."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.localizations import Localizations


def as_fovs(X: object) -> tuple[list[Localizations], bool]:
    """Check what a user hands in as X: one table, or a list with one table a field of view.

    Parameters
    ----------
    X : Localizations, DataFrame, array, or sequence of these
        The samples.

    Returns
    -------
    fovs : list of Localizations
        The tables.
    single : bool
        Whether X was one table rather than a list.

    Raises
    ------
    InvalidTypeError, InvalidInputError
        If X or some of its samples cannot be used; the message names each of them.
    """
    if isinstance(X, Localizations):
        return [X], True
    is_object_array = isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1
    if isinstance(X, pd.DataFrame | Mapping) or (isinstance(X, np.ndarray) and not is_object_array):
        return [Localizations(X)], True
    if isinstance(X, str | bytes) or not (isinstance(X, Sequence) or is_object_array):
        raise InvalidTypeError(
            "X must be Localizations, a DataFrame, an (n, 2) or (n, 3) array, or a list of these, "
            f"got {type(X).__name__}"
        )
    samples: Sequence[Any] = X  # type: ignore[assignment]
    fovs, problems = [], []
    for position, sample in enumerate(samples):
        try:
            fovs.append(sample if isinstance(sample, Localizations) else Localizations(sample))
        except (InvalidInputError, InvalidTypeError) as error:
            problems.append(f"X[{position}]: {error}")
    if problems:
        raise InvalidInputError("\n".join(problems))
    if not fovs:
        raise InvalidInputError("X is an empty list: it needs at least one field of view")
    return fovs, False
