"""Structures to be labelled: curves in the plane, measured along their arc length.

A curve is a chain of straight segments, so that a place on it is found exactly from its arc length,
whatever the parameter it was drawn with. Points are (y, x) in nm.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smlmkit.errors import InvalidInputError
from smlmkit.grid import FieldOfView

Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Curves:
    """Curves as n straight segments.

    Parameters
    ----------
    start, end : ndarray of shape (n, 2)
        The ends (y, x) of every segment in nm.
    curve : ndarray of shape (n,)
        The number of the curve that each segment belongs to.

    Examples
    --------
    Points of a square that are evenly spaced along it, although its corners are not:

    >>> square = Curves.through([[[0, 0], [0, 90], [10, 90]]])
    >>> square.length
    100.0
    >>> square.at(np.array([45.0, 95.0]))[0]
    array([[ 0., 45.],
           [ 5., 90.]])
    """

    start: Points
    end: Points
    curve: NDArray[np.intp]

    @classmethod
    def through(cls, nodes: Sequence[ArrayLike]) -> "Curves":
        """Join the nodes of every curve by straight segments.

        Parameters
        ----------
        nodes : sequence of arrays of shape (m, 2)
            The nodes (y, x) of each curve in nm, in order.

        Returns
        -------
        Curves
            The curves, numbered in the order of `nodes`.

        Raises
        ------
        InvalidInputError
            If there is no curve, or one has another shape or fewer than two nodes.
        """
        chains = [np.asarray(chain, dtype=np.float64) for chain in nodes]
        for number, chain in enumerate(chains):
            if chain.ndim != 2 or chain.shape[1] != 2 or len(chain) < 2:
                raise InvalidInputError(
                    f"curve {number} must have shape (m, 2) with m at least 2, got {chain.shape}"
                )
        if not chains:
            raise InvalidInputError("nodes must hold at least one curve")
        return cls(
            np.concatenate([chain[:-1] for chain in chains]),
            np.concatenate([chain[1:] for chain in chains]),
            np.repeat(np.arange(len(chains)), [len(chain) - 1 for chain in chains]),
        )

    @property
    def lengths(self) -> NDArray[np.float64]:
        """Length of every segment in nm."""
        vector = self.end - self.start
        return np.hypot(vector[:, 0], vector[:, 1])

    @property
    def length(self) -> float:
        """Length of all curves together in nm."""
        return float(self.lengths.sum())

    def within(self, field_of_view: FieldOfView) -> "Curves":
        """Cut away what lies outside of a box.

        Parameters
        ----------
        field_of_view : FieldOfView
            The box in nm.

        Returns
        -------
        Curves
            The parts inside; each keeps the number of its curve.

        Notes
        -----
        Every segment start + t (end - start), t in [0, 1], is cut where it crosses the four edges
        (Liang and Barsky, ACM Transactions on Graphics 3, 1, 1984).
        """
        lower, upper = np.array(field_of_view[:2]), np.array(field_of_view[2:])
        vector = self.end - self.start
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # along an axis
            at_lower, at_upper = (lower - self.start) / vector, (upper - self.start) / vector
        enter = np.fmin(at_lower, at_upper).max(axis=1).clip(0, 1)
        leave = np.fmax(at_lower, at_upper).min(axis=1).clip(0, 1)
        inside = enter < leave
        start, vector = self.start[inside], vector[inside]
        return Curves(
            start + enter[inside, None] * vector,
            start + leave[inside, None] * vector,
            self.curve[inside],
        )

    def at(self, arc_length: NDArray[np.float64]) -> tuple[Points, NDArray[np.intp]]:
        """Find the points at given arc lengths; the curves follow one another.

        Parameters
        ----------
        arc_length : ndarray of shape (n,)
            Distance along the curves in nm, between 0 and `length`.

        Returns
        -------
        points : ndarray of shape (n, 2)
            The points (y, x) in nm.
        curve : ndarray of shape (n,)
            The number of the curve on which each point lies.
        """
        n_segments = len(self.start)
        ends = np.concatenate([[0.0], np.cumsum(self.lengths)])
        place = np.interp(arc_length, ends, np.arange(n_segments + 1))
        segment = place.astype(np.intp).clip(max=n_segments - 1)
        start, end = self.start[segment], self.end[segment]
        return start + (place - segment)[:, None] * (end - start), self.curve[segment]


def worm_like_chains(
    centers: Points,
    length: float,
    *,
    persistence_length: float,
    step: float,
    random_state: np.random.RandomState,
) -> Curves:
    """Draw smooth filaments: worm-like chains in the plane.

    Parameters
    ----------
    centers : ndarray of shape (n, 2)
        The middle (y, x) of every filament in nm.
    length : float
        Contour length of every filament in nm, rounded up to an even number of steps.
    persistence_length : float
        Arc length in nm over which a filament keeps its direction; infinite for straight ones.
    step : float
        Length of a segment in nm, small against the persistence length.
    random_state : RandomState
        Source of randomness.

    Returns
    -------
    Curves
        The n filaments.

    Notes
    -----
    The direction turns by a normal deviate of variance ``step / persistence_length`` from segment
    to segment, so that the cosine of the angle between two tangents an arc length s apart is
    exp(-s / (2 persistence_length)) on average, as for a thermal polymer that lies in a plane.

    Examples
    --------
    >>> rng = np.random.RandomState(0)
    >>> center = np.array([[500.0, 500.0]])
    >>> chain = worm_like_chains(
    ...     center, 1000, persistence_length=20_000, step=10, random_state=rng
    ... )
    >>> round(chain.length)
    1000
    """
    n_half = int(np.ceil(length / (2 * step)))
    direction = random_state.normal(
        scale=np.sqrt(step / persistence_length), size=(len(centers), 2 * n_half)
    )
    direction[:, 0] = random_state.uniform(0, 2 * np.pi, size=len(centers))
    np.cumsum(direction, axis=1, out=direction)
    nodes = np.zeros((len(centers), 2 * n_half + 1, 2))
    np.cumsum(step * np.sin(direction), axis=1, out=nodes[:, 1:, 0])
    np.cumsum(step * np.cos(direction), axis=1, out=nodes[:, 1:, 1])
    nodes += (centers - nodes[:, n_half])[:, None]
    return Curves.through(list(nodes))
