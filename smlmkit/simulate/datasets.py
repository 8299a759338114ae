"""Simulated data sets in the manner of scikit-learn's ``make_*``: localizations and their truth."""

import math
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from smlmkit._atomic import make_folder
from smlmkit._checks import (
    check_between,
    check_nonnegative,
    check_positive,
    check_whole,
    random_source,
)
from smlmkit.errors import OutputError, UnusedRowsWarning
from smlmkit.io.tables import write_localizations
from smlmkit.localizations import Localizations, RandomState
from smlmkit.simulate.acquisition import field_of_size, make_blinks
from smlmkit.simulate.filaments import draw_bundles, draw_filaments, nodes_of
from smlmkit.simulate.primitives import KINDS, draw_primitives, positive_range, whole_range
from smlmkit.simulate.structures import Curves
from smlmkit.simulate.truth import Truth


def make_microtubules(
    *,
    field_size: float | Sequence[float] = 20_000.0,
    n_filaments: int = 20,
    persistence_length: float = 40_000.0,
    depth: float = 0.0,
    thickness: float = 0.0,
    random_state: RandomState = None,
    **acquisition: Any,
) -> tuple[Localizations, Truth]:
    """Simulate a network of microtubules: single filaments that cross one another.

    Parameters
    ----------
    field_size : float or sequence of float, default=20_000
        Side of the square field of view in nm, or (height, width).
    n_filaments : int, default=20
        Number of filaments, each through a point drawn uniformly from the field.
    persistence_length : float, default=40_000
        Arc length in nm over which filaments keep their direction: the smaller, the curlier.
    depth : float, default=0
        Extent along z in nm within which filaments rise and sink; 0 for a flat table without z.
    thickness : float, default=0
        Width of the filaments in nm: of flat strips, labelled evenly across; 0 for lines.
        Microtubules themselves are 25 nm wide.
    random_state : int, RandomState or None, default=None
        Source of randomness.
    **acquisition
        How the filaments are imaged, ``density`` for example: the parameters of `make_blinks`.

    Returns
    -------
    localizations : Localizations
        The blinks, as `make_blinks` gives them.
    truth : Truth
        The emitters and filaments they were drawn from.

    Raises
    ------
    InvalidInputError
        If a parameter is out of range; the message names it.

    Notes
    -----
    Filaments are worm-like chains.

    Examples
    --------
    >>> blinks, truth = make_microtubules(field_size=(3000, 4000), density=1000, random_state=0)
    >>> blinks.columns
    ('x', 'y', 'frame', 'photons', 'uncertainty_x', 'uncertainty_y')
    >>> len(blinks), len(truth.emitters)
    (11957, 2400)
    """
    field = field_of_size(field_size)
    check_positive(persistence_length=persistence_length)
    check_nonnegative(depth=depth, thickness=thickness)
    check_whole("n_filaments", n_filaments, low=1)
    rng = random_source(random_state)
    filaments = draw_filaments(
        field, n_filaments, persistence_length, rng, depth=depth, thickness=thickness
    )
    return make_blinks(filaments, field_size=field_size, random_state=rng, **acquisition)


def make_actin(
    *,
    field_size: float | Sequence[float] = 10_000.0,
    n_bundles: int = 6,
    filaments_per_bundle: int | tuple[int, int] = (8, 20),
    bundle_width: float | tuple[float, float] = (100.0, 400.0),
    n_filaments: int = 20,
    persistence_length: float = 17_000.0,
    random_state: RandomState = None,
    **acquisition: Any,
) -> tuple[Localizations, Truth]:
    """Simulate actin: bundles of filaments side by side, and single filaments across them.

    Parameters
    ----------
    field_size : float or sequence of float, default=10_000
        Side of the square field of view in nm, or (height, width).
    n_bundles : int, default=6
        Number of bundles, each through a point drawn uniformly from the field, in one direction
        give or take 15 degrees.
    filaments_per_bundle : int or (int, int), default=(8, 20)
        How many filaments a bundle has, or the fewest and the most.
    bundle_width : float or (float, float), default=(100, 400)
        Width of a bundle in nm, or the least and the largest.
    n_filaments : int, default=20
        Number of single filaments, in any direction.
    persistence_length : float, default=17_000
        Arc length in nm over which single filaments keep their direction, by default that of actin;
        a bundle is ten times as stiff.
    random_state : int, RandomState or None, default=None
        Source of randomness.
    **acquisition
        How the filaments are imaged, ``density`` for example: the parameters of `make_blinks`.

    Returns
    -------
    localizations : Localizations
        The blinks, as `make_blinks` gives them.
    truth : Truth
        The emitters and filaments they were drawn from. The filaments of the bundles come first,
        bundle by bundle.

    Raises
    ------
    InvalidInputError
        If a parameter is out of range, which the message names, or there is no filament.

    Notes
    -----
    Filaments are lines in the plane. Those of a bundle wander between its edges, to a new place
    across it every 2 um, and so cross one another at small angles.

    Examples
    --------
    >>> blinks, truth = make_actin(field_size=3000, n_bundles=2, density=2000, random_state=0)
    >>> len(blinks), len(np.unique(truth.curves.curve))
    (17947, 52)
    """
    field = field_of_size(field_size)
    check_positive(persistence_length=persistence_length)
    check_whole("n_bundles", n_bundles, low=0)
    check_whole("n_filaments", n_filaments, low=0 if n_bundles else 1)
    bundle_sizes = whole_range("filaments_per_bundle", filaments_per_bundle)
    widths = positive_range("bundle_width", bundle_width)
    rng = random_source(random_state)
    filaments = draw_bundles(field, n_bundles, bundle_sizes, widths, persistence_length, rng)
    if n_filaments:
        filaments += nodes_of(draw_filaments(field, n_filaments, persistence_length, rng))
    curves = Curves.through(filaments)
    return make_blinks(curves, field_size=field_size, random_state=rng, **acquisition)


def make_primitives(
    *,
    field_size: float | Sequence[float] = 2560.0,
    n_primitives: int | tuple[int, int] = (5, 15),
    kinds: str | Sequence[str] = KINDS,
    size: float | tuple[float, float] = (200.0, 1500.0),
    thickness: float | tuple[float, float] = (10.0, 60.0),
    random_state: RandomState = None,
    **acquisition: Any,
) -> tuple[Localizations, Truth]:
    """Simulate random geometrical shapes, as in Lefebvre et al. 2020.

    Parameters
    ----------
    field_size : float or sequence of float, default=2560
        Side of the square field of view in nm, or (height, width).
    n_primitives : int or (int, int), default=(5, 15)
        How many shapes, or the fewest and the most.
    kinds : str or sequence of str, default=("spline", "line", "circle", "ellipse", "ring")
        Of which kinds they are, each equally likely.
    size : float or (float, float), default=(200, 1500)
        Extent of a shape in nm, or the smallest and the largest.
    thickness : float or (float, float), default=(10, 60)
        Width of lines and outlines in nm, or the narrowest and the widest; rings are at least as
        wide. 0 for lines without any: `kinds` must then not name rings.
    random_state : int, RandomState or None, default=None
        Source of randomness.
    **acquisition
        How the shapes are imaged, ``density`` for example: the parameters of `make_blinks`.

    Returns
    -------
    localizations : Localizations
        The blinks, as `make_blinks` gives them.
    truth : Truth
        The emitters and shapes they were drawn from.

    Raises
    ------
    InvalidInputError
        If a parameter is out of range; the message names it.

    Notes
    -----
    `smlmkit.simulate.primitives.draw_primitives` says how places, sizes and forms are drawn.
    Emitters are uniform in the area of the shapes, or in the arc length of those without thickness;
    where shapes overlap, they add up.

    Examples
    --------
    >>> blinks, truth = make_primitives(
    ...     density=1000, blinks_per_emitter=1, background=0, random_state=0
    ... )
    >>> truth.image().shape
    (1280, 1280)
    """
    rng = random_source(random_state)
    primitives = draw_primitives(
        field_of_size(field_size),
        n_primitives,
        kinds=kinds,
        size=size,
        thickness=thickness,
        random_state=rng,
    )
    return make_blinks(primitives, field_size=field_size, random_state=rng, **acquisition)


def make_two_filaments(
    distance: float,
    *,
    length: float = 3000.0,
    angle: float | None = 0.0,
    thickness: float = 0.0,
    field_size: float | Sequence[float] = 4000.0,
    random_state: RandomState = None,
    **acquisition: Any,
) -> tuple[Localizations, Truth]:
    """Simulate two straight parallel filaments, to see at which distance they are told apart.

    Parameters
    ----------
    distance : float
        Distance in nm between the middles of the filaments, which lie on both sides of the field's
        centre.
    length : float, default=3000
        Length of both in nm; what lies outside of the field is not labelled.
    angle : float or None, default=0
        Their direction in degrees from the x axis towards the y axis; None for a random one.
    thickness : float, default=0
        Width in nm of both: of flat strips, labelled evenly across, not of hollow tubes.
    field_size : float or sequence of float, default=4000
        Side of the square field of view in nm, or (height, width).
    random_state : int, RandomState or None, default=None
        Source of randomness.
    **acquisition
        How the filaments are imaged, ``density`` for example: the parameters of `make_blinks`.

    Returns
    -------
    localizations : Localizations
        The blinks, as `make_blinks` gives them.
    truth : Truth
        The emitters and the two filaments they were drawn from.

    Raises
    ------
    InvalidInputError
        If a parameter is out of range; the message names it.

    Examples
    --------
    >>> blinks, truth = make_two_filaments(60, uncertainty=5, background=0, random_state=0)
    >>> np.unique(truth.emitters.y)
    array([1970., 2030.])
    """
    field = field_of_size(field_size)
    check_positive(distance=distance, length=length)
    check_nonnegative(thickness=thickness)
    rng = random_source(random_state)
    if angle is None:
        angle = rng.uniform(0, 180)
    else:
        check_between(-360, 360, angle=angle)
    along = np.array([math.sin(math.radians(angle)), math.cos(math.radians(angle))])
    across = np.array([along[1], -along[0]])
    # No more of a line than the field's diagonal can lie in it.
    length = min(length, math.hypot(field.height, field.width))
    center = np.array([field.height, field.width]) / 2
    ends = np.outer([-length / 2, length / 2], along)
    pair = [center + side * distance / 2 * across + ends for side in (-1, 1)]
    curves = Curves.through(pair, thickness)
    return make_blinks(curves, field_size=field_size, random_state=rng, **acquisition)


def make_acquisitions(
    folder: str | os.PathLike[str],
    n_acquisitions: int = 4,
    *,
    make: Callable[..., tuple[Localizations, Truth]] = make_microtubules,
    overwrite: bool = False,
    random_state: RandomState = None,
    **parameters: Any,
) -> tuple[list[Path], list[Truth]]:
    """Write a folder of simulated acquisitions as Picasso files, ``fov_01.hdf5`` and so on.

    Where there are 100 or more, all numbers have as many digits as the last, so that a listing of
    the folder by name is in order.

    `smlmkit.read_localizations` gives back what `make` made. Picasso itself leaves out
    the first half camera pixel of each axis, where its positions are negative.

    Parameters
    ----------
    folder : path-like
        Where to write; made if it is not there.
    n_acquisitions : int, default=4
        Number of fields of view, each with structures of its own.
    make : callable, default=make_microtubules
        What makes a field of view: any of the ``make_*`` functions, or another that takes
        ``random_state`` and gives localizations and their truth.
    overwrite : bool, default=False
        Whether acquisitions of the same name are replaced; others stay in the folder.
    random_state : int, RandomState or None, default=None
        Source of randomness. The first acquisitions are the same however many are made.
    **parameters
        What every field of view is like: the parameters of `make`.

    Returns
    -------
    files : list of Path
        The files, in order. Each has a YAML file of the same name beside it.
    truths : list of Truth
        What each was drawn from; its ``emitter`` speaks of the rows of the file.

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
    >>> files, truths = make_acquisitions(folder.name, 2, field_size=2000, random_state=0)
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
    n_digits = max(2, len(str(n_acquisitions)))
    paths, truths = [], []
    for number, seed in enumerate(seeds, start=1):
        localizations, truth = make(**parameters, random_state=seed)
        path = folder / f"fov_{number:0{n_digits}d}.hdf5"
        with warnings.catch_warnings():  # every file would warn of what the docstring says
            warnings.simplefilter("ignore", UnusedRowsWarning)
            write_localizations(localizations, path, format="picasso", overwrite=overwrite)
        paths.append(path)
        truths.append(truth)
    return paths, truths
