"""Simulated data sets in the manner of scikit-learn's ``make_*``: localizations and their truth."""

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smlmkit._atomic import make_folder
from smlmkit._checks import check_between, check_positive, check_whole, random_source
from smlmkit.errors import InvalidInputError, OutputError, UnusedRowsWarning
from smlmkit.grid import FieldOfView
from smlmkit.io.tables import write_localizations
from smlmkit.localizations import Localizations, RandomState
from smlmkit.simulate.blinks import draw_blink_counts, draw_frames, draw_uncertainty, photons_for
from smlmkit.simulate.structures import Curves, worm_like_chains

CAMERA_PIXEL_SIZE = 100.0
"""Edge in nm of a pixel of the simulated camera."""

_LONGEST_STEP = 20.0
"""Longest straight piece of a filament in nm."""


@dataclass(frozen=True, eq=False)
class Truth:
    """What a simulated table was drawn from.

    Parameters
    ----------
    emitters : Localizations
        The m emitters at their true places, those included that were never seen. The column
        ``structure`` holds the number of the curve each one sits on.
    emitter : ndarray of shape (n,)
        For each of the n localizations the row of its emitter in `emitters`, -1 for background.
    curves : Curves
        The labelled structures inside the field of view.

    Examples
    --------
    >>> blinks, truth = make_filaments(field_size=2000, random_state=0)
    >>> from_emitter = truth.emitter >= 0
    >>> error = blinks.x[from_emitter] - truth.emitters.x[truth.emitter[from_emitter]]
    >>> bool(np.median(np.abs(error)) < 10)
    True
    """

    emitters: Localizations
    emitter: NDArray[np.intp]
    curves: Curves

    def structure(self, spacing: float = 1.0) -> Localizations:
        """Cover the structures with evenly spaced points: rendered, the image without any noise.

        Parameters
        ----------
        spacing : float, default=1.0
            Arc length between neighbouring points in nm.

        Returns
        -------
        Localizations
            The points, with the field of view of the emitters.

        Raises
        ------
        InvalidInputError
            If the spacing is not positive.

        Examples
        --------
        >>> from smlmkit import Renderer
        >>> _, truth = make_filaments(field_size=1000, random_state=0)
        >>> image = Renderer(pixel_size=10).fit_transform(truth.structure())
        >>> bool(abs(float(image.sum()) - truth.curves.length) <= 1)
        True
        """
        check_positive(spacing=spacing)
        arc_length = np.arange(spacing / 2, self.curves.length, spacing)
        return _place_on(self.curves, arc_length, self.emitters.field_of_view)


def make_filaments(
    *,
    field_size: float | Sequence[float] = 20_000.0,
    n_filaments: int = 20,
    density: float = 500.0,
    uncertainty: float = 10.0,
    blinks_per_emitter: float = 5.0,
    n_frames: int = 10_000,
    background: float = 0.02,
    persistence_length: float = 40_000.0,
    random_state: RandomState = None,
) -> tuple[Localizations, Truth]:
    """Simulate a field of view of microtubule-like filaments.

    Parameters
    ----------
    field_size : float or sequence of float, default=20_000
        Side of the square field of view in nm, or (height, width).
    n_filaments : int, default=20
        Number of filaments, each through a point drawn uniformly from the field.
    density : float, default=500
        Localizations per square micrometre of the whole field.
    uncertainty : float, default=10
        Median uncertainty of a localization in nm; they are spread log-normally around it.
    blinks_per_emitter : float, default=5
        Mean of the geometric number of blinks of an emitter, at least 1.
    n_frames : int, default=10_000
        Length of the acquisition; an emitter's blinks lie a few frames apart.
    background : float, default=0.02
        Fraction of the localizations that belong to no emitter: uniform in the field.
    persistence_length : float, default=40_000
        Arc length in nm over which filaments keep their direction: the smaller, the curlier.
    random_state : int, RandomState or None, default=None
        Source of randomness.

    Returns
    -------
    localizations : Localizations
        The blinks in the order of their frames, with the columns ``x``, ``y``, ``frame``,
        ``photons``, ``uncertainty_x`` and ``uncertainty_y`` and the field of view
        (0, 0, height, width). Exactly ``density * area`` of them, rounded, are drawn; the few that
        their error carries out of the field are left out.
    truth : Truth
        The emitters and filaments they were drawn from.

    Raises
    ------
    InvalidInputError
        If a parameter is out of range; the message names it.

    Notes
    -----
    Filaments are worm-like chains, emitters lie on them uniformly in arc length. A blink's error is
    normal in x and y with the standard deviation that stands in its uncertainty. The simulation
    follows Lefebvre et al. 2020, with blinking and background added.

    Examples
    --------
    >>> blinks, truth = make_filaments(field_size=(3000, 4000), density=1000, random_state=0)
    >>> blinks.columns
    ('x', 'y', 'frame', 'photons', 'uncertainty_x', 'uncertainty_y')
    >>> len(blinks), len(truth.emitters)
    (11957, 2400)
    """
    field = _field_of_size(field_size)
    check_positive(persistence_length=persistence_length)
    check_whole("n_filaments", n_filaments, low=1)
    rng = random_source(random_state)
    return _acquire(
        _draw_filaments(field, n_filaments, persistence_length, rng),
        field,
        rng,
        density=density,
        uncertainty=uncertainty,
        blinks_per_emitter=blinks_per_emitter,
        n_frames=n_frames,
        background=background,
    )


def make_acquisitions(
    folder: str | os.PathLike[str],
    n_acquisitions: int = 4,
    *,
    overwrite: bool = False,
    random_state: RandomState = None,
    **parameters: Any,
) -> list[Path]:
    """Write a folder of simulated acquisitions as Picasso files, ``fov_01.hdf5`` and so on.

    `smlmkit.read_localizations` gives back what `make_filaments` made. Picasso itself leaves out
    the first half camera pixel of each axis, where its positions are negative.

    Parameters
    ----------
    folder : path-like
        Where to write; made if it is not there.
    n_acquisitions : int, default=4
        Number of fields of view, each with filaments of its own.
    overwrite : bool, default=False
        Whether acquisitions of the same name are replaced; others stay in the folder.
    random_state : int, RandomState or None, default=None
        Source of randomness. The first acquisitions are the same however many are made.
    **parameters
        What every field of view is like: the parameters of `make_filaments`.

    Returns
    -------
    list of Path
        The files, in order. Each has a YAML file of the same name beside it.

    Raises
    ------
    OutputError
        If the folder holds ``fov_*`` files and they are not to be replaced, or cannot be written.
    InvalidInputError
        If a parameter is out of range.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> files = make_acquisitions(folder.name, 2, field_size=2000, random_state=0)
    >>> [file.name for file in files]
    ['fov_01.hdf5', 'fov_02.hdf5']
    >>> folder.cleanup()
    """
    check_whole("n_acquisitions", n_acquisitions, low=1)
    folder = Path(folder)
    if not overwrite and any(folder.glob("fov_*")):
        raise OutputError(
            f"{folder} holds files named fov_* already; "
            "pass overwrite=True to replace those of the same name"
        )
    make_folder(folder)
    seeds = random_source(random_state).randint(np.iinfo(np.int32).max, size=n_acquisitions)
    paths = []
    for number, seed in enumerate(seeds, start=1):
        localizations, _ = make_filaments(**parameters, random_state=seed)
        path = folder / f"fov_{number:02d}.hdf5"
        with warnings.catch_warnings():  # every file would warn of what the docstring says
            warnings.simplefilter("ignore", UnusedRowsWarning)
            write_localizations(localizations, path, format="picasso", overwrite=overwrite)
        paths.append(path)
    return paths


def _draw_filaments(
    field: FieldOfView, n_filaments: int, persistence_length: float, rng: np.random.RandomState
) -> Curves:
    """Draw filaments that reach past the field on both sides, unless they curl up in it."""
    filaments = worm_like_chains(
        rng.uniform(field[:2], field[2:], size=(n_filaments, 2)),
        2 * math.hypot(field.height, field.width),
        persistence_length=persistence_length,
        step=min(_LONGEST_STEP, persistence_length / 10),
        random_state=rng,
    )
    return filaments.within(field)


def _acquire(
    curves: Curves,
    field: FieldOfView,
    rng: np.random.RandomState,
    *,
    density: float,
    uncertainty: float,
    blinks_per_emitter: float,
    n_frames: int,
    background: float,
) -> tuple[Localizations, Truth]:
    """Label the curves, let the emitters blink and localize the blinks."""
    check_positive(density=density, uncertainty=uncertainty)
    check_whole("n_frames", n_frames, low=1)
    check_between(1, 1e9, blinks_per_emitter=blinks_per_emitter)
    check_between(0, 1, background=background)
    n_localizations = round(density * field.area_um2)
    n_background = round(background * n_localizations)

    blink_counts = draw_blink_counts(n_localizations - n_background, blinks_per_emitter, rng)
    emitters = _place_on(curves, rng.uniform(0, curves.length, len(blink_counts)), field)
    emitter = np.repeat(np.arange(len(emitters)), blink_counts)
    sigma = draw_uncertainty(n_localizations, uncertainty, rng)
    error_y, error_x = sigma[: len(emitter)] * rng.normal(size=(2, len(emitter)))
    stray_y, stray_x = rng.uniform(field[:2], field[2:], size=(n_background, 2)).T
    stray_frame = rng.randint(n_frames, size=n_background)

    table = {
        "x": np.append(emitters.x[emitter] + error_x, stray_x),
        "y": np.append(emitters.y[emitter] + error_y, stray_y),
        "frame": np.append(draw_frames(blink_counts, n_frames, rng), stray_frame),
        "photons": photons_for(sigma),
        "uncertainty_x": sigma,
        "uncertainty_y": sigma,
    }
    emitter = np.append(emitter, np.full(n_background, -1))
    rows = _rows_in_field(table, field)
    localizations = Localizations(
        {name: column[rows] for name, column in table.items()},
        field_of_view=field,
        metadata={"camera_pixel_size": CAMERA_PIXEL_SIZE, "n_frames": int(n_frames)},
    )
    return localizations, Truth(emitters, emitter[rows], curves)


def _place_on(curves: Curves, arc_length: NDArray[np.float64], field: FieldOfView) -> Localizations:
    """Make a table of the points at these arc lengths; ends of curves on the upper edge move in."""
    points, structure = curves.at(arc_length)
    y, x = points.clip(field[:2], np.nextafter(field[2:], field[:2])).T
    return Localizations({"x": x, "y": y, "structure": structure}, field_of_view=field)


def _rows_in_field(table: dict[str, NDArray[Any]], field: FieldOfView) -> NDArray[np.intp]:
    """List the rows inside of the field in the order of their frames."""
    x, y = table["x"], table["y"]
    inside = (field.y_min <= y) & (y < field.y_max) & (field.x_min <= x) & (x < field.x_max)
    by_frame = np.argsort(table["frame"], kind="stable")
    return by_frame[inside[by_frame]]


def _field_of_size(field_size: float | Sequence[float]) -> FieldOfView:
    sides = list(field_size) if isinstance(field_size, Sequence) else [field_size, field_size]
    if len(sides) != 2:
        raise InvalidInputError(f"field_size must be a side or (height, width), got {field_size!r}")
    for side in sides:
        check_positive(field_size=side)
    return FieldOfView(0.0, 0.0, float(sides[0]), float(sides[1]))
