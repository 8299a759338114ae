"""Checks for estimators that take fields of view, for this library and for yours.

scikit-learn's ``check_estimator`` passes such estimators after its clone check alone, because X is
no two-dimensional array.
"""

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from sklearn.base import clone

from smlmkit.grid import PixelGrid
from smlmkit.images import grid_of, images_of
from smlmkit.localizations import Localizations

Check = Callable[[Any, list[Localizations]], None]


def check_fov_estimator(estimator: Any, fovs: list[Localizations] | None = None) -> list[str]:
    """Check that an estimator follows the conventions of smlmkit and scikit-learn.

    Parameters
    ----------
    estimator : estimator
        Not fitted; has `fit` and either `predict` or `transform`, tables in and images out, and
        gives the same result whenever it is fitted to the same tables.
    fovs : list of Localizations, optional
        At least two tables to check it with.

    Returns
    -------
    list of str
        Names of the checks that ran, all of them passed.

    Raises
    ------
    AssertionError
        If a check fails.

    Examples
    --------
    >>> from smlmkit import Renderer
    >>> len(check_fov_estimator(Renderer(pixel_size=50)))
    8
    """
    fovs = example_fovs() if fovs is None else fovs
    for check in _CHECKS:
        check(estimator, fovs)
    return [check.__name__ for check in _CHECKS]


def example_fovs(n_fovs: int = 2, n_localizations: int = 2000) -> list[Localizations]:
    """Make small tables of equal length, which code that stacks samples would confuse.

    Parameters
    ----------
    n_fovs : int, default=2
        How many tables.
    n_localizations : int, default=2000
        Rows of each table.

    Returns
    -------
    list of Localizations
        Points uniform in fields of view of different shapes, with frames.
    """
    rng = np.random.default_rng(0)
    fovs = []
    for number in range(n_fovs):
        box = (0.0, 0.0, 2000.0 + 100 * number, 3000.0)
        columns = {
            "x": rng.uniform(box[1], box[3], n_localizations),
            "y": rng.uniform(box[0], box[2], n_localizations),
            "frame": np.arange(n_localizations),
        }
        fovs.append(Localizations(columns, field_of_view=box))
    return fovs


def _check_constructor_keeps_parameters(estimator: Any, fovs: list[Localizations]) -> None:  # noqa: ARG001
    parameters = estimator.get_params(deep=False)
    rebuilt = type(estimator)(**parameters)
    for name, value in rebuilt.get_params(deep=False).items():
        assert value is parameters[name], f"the constructor changes {name}"


def _check_fit_returns_self_and_keeps_parameters(estimator: Any, fovs: list[Localizations]) -> None:
    fresh = clone(estimator)
    before = fresh.get_params()
    assert fresh.fit(fovs) is fresh, "fit must return self"
    assert fresh.get_params() == before, "fit must not change parameters"


def _check_takes_y(estimator: Any, fovs: list[Localizations]) -> None:
    clone(estimator).fit(fovs, None)


def _check_one_in_one_out(estimator: Any, fovs: list[Localizations]) -> None:
    fitted = clone(estimator).fit(fovs)
    single, several = images_of(fitted, fovs[0]), images_of(fitted, fovs)
    assert isinstance(single, xr.DataArray), "one table gives one image"
    assert isinstance(several, list), "a list of tables gives a list of images"
    assert len(several) == len(fovs), "one image for each table"
    xr.testing.assert_allclose(several[0], single, rtol=1e-5, atol=1e-7)


def _check_images_are_on_a_grid(estimator: Any, fovs: list[Localizations]) -> None:
    fitted = clone(estimator).fit(fovs)
    for fov, image in zip(fovs, images_of(fitted, fovs), strict=True):
        grid = grid_of(image)
        assert image.dtype == np.float32, "images are float32"
        covering = PixelGrid.covering(fov.field_of_view, grid.pixel_size)
        assert grid.is_close(covering), f"the image lies on {grid}, the table on {covering}"


def _check_input_is_not_changed(estimator: Any, fovs: list[Localizations]) -> None:
    copies = pickle.loads(pickle.dumps(fovs))  # noqa: S301
    images_of(clone(estimator).fit(fovs), fovs)
    assert fovs == copies, "the tables were changed"


def _check_refit_gives_the_same(estimator: Any, fovs: list[Localizations]) -> None:
    first, second = (images_of(clone(estimator).fit(fovs), fovs[0]) for _ in range(2))
    xr.testing.assert_identical(first, second)


def _check_pickle_predicts_the_same(estimator: Any, fovs: list[Localizations]) -> None:
    fitted = clone(estimator).fit(fovs)
    restored = pickle.loads(pickle.dumps(fitted))  # noqa: S301
    xr.testing.assert_identical(images_of(fitted, fovs[0]), images_of(restored, fovs[0]))


_CHECKS: list[Check] = [
    _check_constructor_keeps_parameters,
    _check_fit_returns_self_and_keeps_parameters,
    _check_takes_y,
    _check_one_in_one_out,
    _check_images_are_on_a_grid,
    _check_input_is_not_changed,
    _check_refit_gives_the_same,
    _check_pickle_predicts_the_same,
]
