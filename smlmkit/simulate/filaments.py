"""Filaments through a field of view: single ones, and bundles of them."""

import math

import numpy as np
from scipy.interpolate import PchipInterpolator

from smlmkit.grid import FieldOfView
from smlmkit.simulate.structures import Curves, Floats, worm_like_chains

# Longest straight piece of a filament in nm.
_LONGEST_STEP = 20.0
# Standard deviation in radians of the directions of bundles.
_DIRECTION_SPREAD = math.radians(15)
# Arc length in nm after which a filament of a bundle has another place across it.
_WANDERING_LENGTH = 2000.0
# How many times as stiff as a filament a bundle is.
_BUNDLE_STIFFNESS = 10.0


def draw_filaments(
    field: FieldOfView,
    n_filaments: int,
    persistence_length: float,
    random_state: np.random.RandomState,
    *,
    depth: float = 0.0,
    thickness: float = 0.0,
) -> Curves:
    """Draw filaments that reach past the field on both sides, unless they curl up in it.

    Parameters
    ----------
    field : FieldOfView
        The field.
    n_filaments : int
        Number of filaments, each through a point drawn uniformly from the field.
    persistence_length : float
        Arc length in nm over which filaments keep their direction.
    random_state : RandomState
        Source of randomness.
    depth : float, default=0.0
        Extent along z in nm within which filaments rise and sink.
    thickness : float, default=0.0
        Width of the filaments in nm; 0 for lines.

    Returns
    -------
    Curves
        The filaments.

    Raises
    ------
    InvalidInputError
        If there is no filament.

    Examples
    --------
    >>> rng = np.random.RandomState(0)
    >>> filaments = draw_filaments(FieldOfView(0, 0, 600, 800), 3, 40_000, rng)
    >>> np.bincount(filaments.curve, filaments.lengths).round()
    array([2000., 2000., 2000.])
    """
    return worm_like_chains(
        random_state.uniform(field[:2], field[2:], size=(n_filaments, 2)),
        2 * math.hypot(field.height, field.width),
        persistence_length=persistence_length,
        step=min(_LONGEST_STEP, persistence_length / 10),
        random_state=random_state,
        depth=depth,
        thickness=thickness,
    )


def draw_bundles(
    field: FieldOfView,
    n_bundles: int,
    n_filaments: tuple[int, int],
    width: tuple[float, float],
    persistence_length: float,
    random_state: np.random.RandomState,
) -> list[Floats]:
    """Draw bundles of filaments in about the same direction through the field.

    Parameters
    ----------
    field : FieldOfView
        The field.
    n_bundles : int
        Number of bundles, each through a point drawn uniformly from the field.
    n_filaments : (int, int)
        The fewest and the most filaments of a bundle.
    width : (float, float)
        The least and the largest width of a bundle in nm.
    persistence_length : float
        Arc length in nm over which a single filament keeps its direction; a bundle is ten times as
        stiff.
    random_state : RandomState
        Source of randomness.

    Returns
    -------
    list of ndarray of shape (m, 2)
        The nodes (y, x) of every filament, bundle by bundle.

    Notes
    -----
    A filament's place across its bundle is uniform and another one every 2 um, with a monotone
    cubic in between, which never leaves the bundle.

    Examples
    --------
    >>> rng = np.random.RandomState(0)
    >>> field = FieldOfView(0, 0, 3000, 4000)
    >>> len(draw_bundles(field, 2, (10, 10), (100, 300), 17_000, rng))
    20
    """
    if n_bundles == 0:
        return []
    middles = nodes_of(
        draw_filaments(field, n_bundles, _BUNDLE_STIFFNESS * persistence_length, random_state)
    )
    direction = random_state.uniform(0, 2 * np.pi)
    directions = random_state.normal(direction, _DIRECTION_SPREAD, n_bundles)
    numbers = random_state.randint(n_filaments[0], n_filaments[1] + 1, n_bundles)
    widths = random_state.uniform(*width, n_bundles)
    return [
        filament
        for middle, angle, number, bundle_width in zip(
            middles, directions, numbers, widths, strict=True
        )
        for filament in _bundle(_turned(middle, angle), number, bundle_width, random_state)
    ]


def nodes_of(chains: Curves) -> list[Floats]:
    """Give the nodes of worm-like chains but for the last one of each.

    Parameters
    ----------
    chains : Curves
        Curves with equally many segments.

    Returns
    -------
    list of ndarray of shape (m, d)
        The nodes of each in nm.
    """
    return list(chains.start.reshape(chains.curve[-1] + 1, -1, chains.start.shape[1]))


def _turned(nodes: Floats, angle: float) -> Floats:
    """Turn a chain around its middle so that its ends lie in a direction from one another."""
    place = nodes[:, 1] + 1j * nodes[:, 0]
    middle = place[len(place) // 2]
    chord = np.angle(place[-1] - place[0])
    place = middle + (place - middle) * np.exp(1j * (angle - chord))
    return np.column_stack([place.imag, place.real])


def _bundle(
    middle: Floats, n_filaments: int, width: float, random_state: np.random.RandomState
) -> Floats:
    """Draw filaments along the middle of a bundle: nodes of shape (n_filaments, m, 2)."""
    along = np.gradient(middle, axis=0)
    across = np.column_stack([along[:, 1], -along[:, 0]]) / np.hypot(*along.T)[:, None]
    step = math.dist(middle[0], middle[1])
    arc_length = step * np.arange(len(middle))
    anchors = np.arange(0, arc_length[-1] + 2 * _WANDERING_LENGTH, _WANDERING_LENGTH)
    places = random_state.uniform(-width / 2, width / 2, size=(n_filaments, len(anchors)))
    offset = PchipInterpolator(anchors, places, axis=1)(arc_length)
    filaments: Floats = middle + offset[:, :, None] * across
    return filaments
