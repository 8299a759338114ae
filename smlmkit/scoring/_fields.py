"""What every scorer shares: it goes through fields of view and names the one that fails."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import xarray as xr

from smlmkit.drawing import render_histogram
from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.images import grid_of, images_of
from smlmkit.localizations import Localizations
from smlmkit.samples import Target, as_fovs


@dataclass(frozen=True, kw_only=True)
class FieldScorer(ABC):
    """A callable (estimator, X, y=None) -> float; a subclass says how to `_score_field`."""

    def __call__(self, estimator: Any, X: object, y: object = None) -> float:
        """Score an estimator.

        Parameters
        ----------
        estimator : estimator or Pipeline
            Fitted, with a `predict` or else a `transform` that makes an image of a table.
        X : Localizations or list of Localizations
            The fields of view.
        y : Localizations, DataArray or list of these, optional
            The target of each field of view, where the scorer has one; otherwise ignored.

        Returns
        -------
        float
            Mean score over fields of view and repeats; higher is better.

        Raises
        ------
        InvalidInputError, InvalidTypeError
            If a field of view cannot be scored, which the message names.
        """
        return float(self.score_fields(estimator, X, y)["score"].mean())

    def score_fields(self, estimator: Any, X: object, y: object = None) -> pd.DataFrame:
        """Score every field of view and repeat on its own.

        Parameters
        ----------
        estimator : estimator or Pipeline
            Fitted, with a `predict` or else a `transform` that makes an image of a table.
        X : Localizations or list of Localizations
            The fields of view.
        y : Localizations, DataArray or list of these, optional
            The target of each field of view, where the scorer has one; otherwise ignored.

        Returns
        -------
        DataFrame
            Columns ``field`` (position in X), ``repeat`` and ``score``.

        Raises
        ------
        InvalidInputError, InvalidTypeError
            If a field of view cannot be scored, which the message names.
        """
        fovs, single = as_fovs(X)
        targets = self._targets(fovs, y, single)
        return tabulate(partial(self._score_field, estimator), fovs, targets)

    @abstractmethod
    def _targets(
        self, fovs: Sequence[Localizations], y: object, single: bool
    ) -> Sequence[Target | None]:
        """Give what each field of view is compared with, None for itself."""

    @abstractmethod
    def _score_field(
        self, estimator: Any, fov: Localizations, target: Any
    ) -> list[dict[str, float]]:
        """Give the ``score`` of every repeat, with what else belongs to it."""


def tabulate(
    score_field: Callable[..., Iterable[dict[str, float]]], *samples: Sequence[Any]
) -> pd.DataFrame:
    """Score every field of view: a row for each repeat, or an error that names the field."""
    rows = []
    for position, sample in enumerate(zip(*samples, strict=True)):
        try:
            rows += [
                {"field": position, "repeat": repeat, **scores}
                for repeat, scores in enumerate(score_field(*sample))
            ]
        except (InvalidInputError, InvalidTypeError) as error:
            raise type(error)(f"X[{position}]: {error}") from error
    return pd.DataFrame(rows)


def reconstruct(estimator: Any, fov: Localizations) -> xr.DataArray:
    """Make an image of a table by whatever the estimator is."""
    image: xr.DataArray = images_of(estimator, fov)
    grid_of(image)
    return image


def draw_target(target: Target, image: xr.DataArray) -> xr.DataArray:
    """Give a target on the grid of a reconstruction; a table is counted there."""
    grid = grid_of(image)
    if isinstance(target, Localizations):
        counts = render_histogram(target, grid.pixel_size, grid)
        if not counts.any():
            raise InvalidInputError(
                f"the target has no localization on the reconstruction's {grid}"
            )
        return counts
    if not grid_of(target).is_close(grid):
        raise InvalidInputError(
            f"the target lies on {grid_of(target)}, the reconstruction on {grid}"
        )
    return target
