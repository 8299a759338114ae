"""What a user hands in as X and y: tables or images, one a field of view."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.images import grid_of
from smlmkit.localizations import Localizations

Target = Localizations | xr.DataArray
"""What a reconstruction is compared with, or learns from: a dense table or an image."""


class LazyTables(Sequence[Localizations]):
    """Tables that are made when they are asked for; those who take X ask for one at a time."""


def as_fovs(X: object) -> tuple[Sequence[Localizations], bool]:
    """Check what a user hands in as X: one table, or a list with one table a field of view.

    Parameters
    ----------
    X : Localizations, DataFrame, array, or sequence of these
        The samples.

    Returns
    -------
    fovs : sequence of Localizations
        The tables; lazy ones stay so.
    single : bool
        Whether X was one table rather than a list.

    Raises
    ------
    InvalidTypeError, InvalidInputError
        If X or some of its samples cannot be used; the message names each of them.
    """
    if isinstance(X, Localizations):
        return [X], True
    if isinstance(X, LazyTables) and len(X):
        return X, False
    is_object_array = isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1
    if isinstance(X, pd.DataFrame | Mapping) or (isinstance(X, np.ndarray) and not is_object_array):
        return [Localizations(X)], True
    if isinstance(X, str | bytes) or not (isinstance(X, Sequence) or is_object_array):
        raise InvalidTypeError(
            "X must be Localizations, a DataFrame, an (n, 2) or (n, 3) array, or a list of these, "
            f"got {type(X).__name__}"
        )
    return _each(X, _as_fov, "field of view"), False  # type: ignore[arg-type]


def as_images(X: object) -> tuple[list[xr.DataArray], bool]:
    """Check what a user hands in as X: one image, or a list of images.

    Parameters
    ----------
    X : DataArray of dims ([channel,] [z,] y, x), or sequence of these
        The samples.

    Returns
    -------
    images : list of DataArray
        The images.
    single : bool
        Whether X was one image rather than a list.

    Raises
    ------
    InvalidTypeError, InvalidInputError
        If X is no image on a grid, or some of its samples are none; the message names each of them.
    """
    if isinstance(X, str | bytes) or not isinstance(X, Sequence):
        return [_as_image(X)], True
    return _each(X, _as_image, "image"), False


def as_targets(y: object, fovs: Sequence[Localizations], single: bool) -> Sequence[Target]:
    """Check what a user hands in as y: a dense table or an image for each field of view.

    Parameters
    ----------
    y : Localizations, DataArray, or sequence of these
        The targets.
    fovs : sequence of Localizations
        The fields of view that they belong to.
    single : bool
        Whether there is one table rather than a list, as `as_fovs` says.

    Returns
    -------
    sequence of Localizations or DataArray
        One a field of view; lazy ones stay so.

    Raises
    ------
    InvalidTypeError
        If there is none, or one is neither a table nor an image.
    InvalidInputError
        If there are more or fewer than fields of view.
    """
    targets = [y] if single else list(y) if isinstance(y, np.ndarray) and y.dtype == object else y
    if y is None or not isinstance(targets, Sequence):
        raise InvalidTypeError(
            f"y must hold one table or image a field of view, got {type(y).__name__}"
        )
    if len(targets) != len(fovs):
        raise InvalidInputError(
            f"X has {len(fovs)} fields of view and y {len(targets)} targets: one each is needed"
        )
    if isinstance(targets, LazyTables):
        return targets
    for position, target in enumerate(targets):
        if not isinstance(target, Localizations | xr.DataArray):
            raise InvalidTypeError(
                f"y[{position}] must be Localizations or an image, got {type(target).__name__}"
            )
    return list(targets)


def _each(samples: Sequence[Any], convert: Callable[[Any], Any], kind: str) -> list[Any]:
    """Convert every sample, or name all that cannot be."""
    converted, problems = [], []
    for position, sample in enumerate(samples):
        try:
            converted.append(convert(sample))
        except (InvalidInputError, InvalidTypeError) as error:
            problems.append(f"X[{position}]: {error}")
    if problems:
        raise InvalidInputError("\n".join(problems))
    if not converted:
        raise InvalidInputError(f"X is an empty list: it needs at least one {kind}")
    return converted


def _as_fov(sample: Any) -> Localizations:
    return sample if isinstance(sample, Localizations) else Localizations(sample)


def _as_image(sample: Any) -> xr.DataArray:
    grid_of(sample, stacks=True)
    image: xr.DataArray = sample
    if image.dtype.kind not in "iufb":
        raise InvalidInputError(f"an image holds real numbers, got dtype {image.dtype}")
    return image


def numeric_column(fov: Localizations, name: str) -> NDArray[Any]:
    """Give a column of numbers, or say what there is instead.

    Parameters
    ----------
    fov : Localizations
        The table.
    name : str
        The column.

    Returns
    -------
    ndarray of bool, int or float, shape (n,)
        The column.

    Raises
    ------
    InvalidInputError
        If there is no such column, or it does not hold real numbers.
    """
    if name not in fov:
        raise InvalidInputError(f"there is no column {name!r}, only {', '.join(fov.columns)}")
    values = fov[name]
    if values.dtype.kind not in "iufb":
        raise InvalidInputError(f"column {name!r} must hold numbers, got dtype {values.dtype}")
    return values
