"""Structures to be labelled: curves, thin ones or strips around them, in the plane or in space.

A curve is a chain of straight segments, so that a place on it is found exactly from its arc length
or area, whatever the parameter it was drawn with. Points are (y, x) or (z, y, x) in nm.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from smlmkit._kernels.curves import add_lines, add_polygons, points_along
from smlmkit.errors import InvalidInputError
from smlmkit.grid import FieldOfView, PixelGrid

Floats = NDArray[np.float64]

# This share of a pixel is what rounding leaves of nothing.
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Curves:
    """Curves as n straight segments, of which each may be the middle of a strip.

    `through` makes them.

    Parameters
    ----------
    start, end : ndarray of shape (n, d)
        The ends of every segment in nm: (y, x), or (z, y, x).
    curve : ndarray of shape (n,)
        The number of the curve that each segment belongs to.
    thickness : ndarray of shape (n,)
        Width in nm of the strip around each segment; 0 for all of them, or for none.
    slant : ndarray of shape (n, 2)
        How the strip is cut at both ends: by how much of its length the cut runs ahead for each nm
        to the side.

    Notes
    -----
    The point of a strip at t in [0, 1] along a segment and u in [-thickness / 2, thickness / 2]
    across it is start + (t + u ((1 - t) slant[0] + t slant[1])) (end - start) + u normal, where the
    normal is the unit vector in the (y, x) plane at a right angle to the segment. Neighbours share
    the cut halfway between their directions, so that the strip keeps its width around a bend. No
    cut takes more than one side of a segment as a whole: at bends that are sharp for so short
    segments, two strips overlap inside and leave a notch outside.

    The area at (t, u) is in proportion to 1 + u (slant[1] - slant[0]). Hence that of a segment is
    its length times its thickness, t is uniform, and u solves a quadratic equation.

    Examples
    --------
    Pixels of 25 nm that a curve and the points drawn from it pass through:

    >>> curves = Curves.through([[[10, 0], [10, 90], [35, 90]]])
    >>> curves.raster(PixelGrid((0, 0), 25, (2, 4)))
    array([[25., 25., 25., 30.],
           [ 0.,  0.,  0., 10.]])
    >>> points, _ = curves.draw(1000, np.random.RandomState(0))
    >>> np.histogram2d(*points.T, bins=([0, 25, 50], [0, 25, 50, 75, 100]))[0]
    array([[216., 240., 201., 245.],
           [  0.,   0.,   0.,  98.]])

    The area of a ring, which is nearly 2 pi times radius times width:

    >>> angle = np.linspace(0, 2 * np.pi, 200)
    >>> circle = 100 * np.column_stack([np.sin(angle), np.cos(angle)])
    >>> round(Curves.through([circle], thickness=50, closed=True).measure)
    31415
    """

    start: Floats
    end: Floats
    curve: NDArray[np.intp]
    thickness: Floats
    slant: Floats

    @classmethod
    def through(
        cls,
        nodes: Sequence[ArrayLike],
        thickness: ArrayLike = 0.0,
        closed: ArrayLike = False,
    ) -> "Curves":
        """Join the nodes of every curve by straight segments.

        Parameters
        ----------
        nodes : sequence of arrays of shape (m, 2) or (m, 3)
            The nodes (y, x) or (z, y, x) of each curve in nm, in order.
        thickness : float or array of float, default=0.0
            Width in nm, in the (y, x) plane, of the strip around all curves or each; 0 for lines.
        closed : bool or array of bool, default=False
            Whether the last node is joined to the first one, of all curves or each.

        Returns
        -------
        Curves
            The curves, numbered in the order of `nodes`.

        Raises
        ------
        InvalidInputError
            If there is no curve, one has another shape, fewer than two nodes or nodes that are not
            finite, a thickness is negative, lines and strips are mixed, or a strip runs straight
            along z, where it has no place in the plane.
        """
        chains = _check_chains(nodes)
        thicknesses = _check_thicknesses(_one_for_each("thickness", thickness, chains))
        are_closed = _one_for_each("closed", closed, chains)
        paths = [_path_through(*curve) for curve in zip(chains, are_closed, strict=True)]
        slants = [_slants(*curve) for curve in zip(paths, thicknesses, are_closed, strict=True)]
        n_segments = [len(path) - 1 for path in paths]
        return cls(
            np.concatenate([path[:-1] for path in paths]),
            np.concatenate([path[1:] for path in paths]),
            np.repeat(np.arange(len(paths)), n_segments),
            np.repeat(thicknesses, n_segments),
            np.concatenate(slants),
        )

    @property
    def lengths(self) -> Floats:
        """Length of every segment in nm."""
        lengths: Floats = np.hypot.reduce(self.end - self.start, axis=1)
        return lengths

    @property
    def length(self) -> float:
        """Length of all curves together in nm."""
        return float(self.lengths.sum())

    @property
    def measure(self) -> float:
        """What points are uniform in: the length of lines in nm, the area of strips in nm²."""
        return float(self._measures.sum())

    def within(self, field_of_view: FieldOfView) -> "Curves":
        """Leave out what lies outside of a box, along y and x.

        Parameters
        ----------
        field_of_view : FieldOfView
            The box in nm.

        Returns
        -------
        Curves
            Lines are cut at the edges of the box. The strips of segments that may reach into it are
            kept whole. Each part keeps the number of its curve.

        Notes
        -----
        Every line start + t (end - start), t in [0, 1], is cut where it crosses the four edges
        (Liang and Barsky, ACM Transactions on Graphics 3, 1, 1984).
        """
        if self._are_strips:
            return self._only(self._reaching(field_of_view))
        lower, upper = np.array(field_of_view[:2]), np.array(field_of_view[2:])
        vector = self.end - self.start
        in_plane, start = vector[:, -2:], self.start[:, -2:]
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # along an axis
            at_lower, at_upper = (lower - start) / in_plane, (upper - start) / in_plane
        enter = np.fmin(at_lower, at_upper).max(axis=1).clip(0, 1)
        leave = np.fmax(at_lower, at_upper).min(axis=1).clip(0, 1)
        inside = enter < leave
        start, vector = self.start[inside], vector[inside]
        return replace(
            self._only(inside),
            start=start + enter[inside, None] * vector,
            end=start + leave[inside, None] * vector,
        )

    def draw(
        self, n_points: int, random_state: np.random.RandomState
    ) -> tuple[Floats, NDArray[np.intp]]:
        """Draw points, uniform in the arc length of lines or in the area of strips.

        Parameters
        ----------
        n_points : int
            Number of points.
        random_state : RandomState
            Source of randomness.

        Returns
        -------
        points : ndarray of shape (n_points, d)
            The points in nm.
        curve : ndarray of shape (n_points,)
            The number of the curve on which each point lies.

        Raises
        ------
        InvalidInputError
            If there is nothing to draw points from: the curves have no length.
        """
        if n_points > 0 and self.measure == 0:
            raise InvalidInputError(f"{n_points} points cannot lie on curves without any length")
        place = random_state.uniform(0, self.measure, n_points)
        aside = random_state.uniform(-1, 1, n_points) if self._are_strips else np.empty(0)
        points, segments = points_along(
            place,
            aside,
            np.cumsum(self._measures),
            self.start,
            self.end - self.start,
            self._normals,
            self.thickness,
            self.slant,
        )
        return points, self.curve[segments]

    def raster(self, grid: PixelGrid, field_of_view: FieldOfView | None = None) -> Floats:
        """Measure what lies in each pixel of a grid, to rounding.

        Parameters
        ----------
        grid : PixelGrid
            Any grid. One of a part, or tile, of the field costs what lies near it.
        field_of_view : FieldOfView, optional
            A box beyond whose far edges pixels may reach: only what lies before these edges counts.
            By default all that lies in the pixels does.

        Returns
        -------
        ndarray of shape (height_px, width_px)
            The length of lines in nm, or the area of strips in nm², in each pixel; where curves
            cross, of all of them together. The sum over a grid that holds all curves is `measure`.
        """
        box, size = grid.field_of_view, grid.pixel_size
        ends = (box if field_of_view is None else field_of_view)[2:]
        image = np.zeros(grid.shape)
        axes = map(_whole_and_cut, box[:2], ends, (size, size), grid.shape)
        for (rows, top, height), (columns, left, width) in product(*axes):
            shape = rows.stop - rows.start, columns.stop - columns.start
            corner = top + shape[0] * height, left + shape[1] * width
            part = FieldOfView(top, left, *corner)
            image[rows, columns] = self._in_cells((height, width), part, shape)
        return image

    def measure_within(self, field_of_view: FieldOfView) -> float:
        """Measure what lies in a box, to rounding.

        Parameters
        ----------
        field_of_view : FieldOfView
            The box in nm.

        Returns
        -------
        float
            The length of lines in nm, or the area of strips in nm², in the box.

        Examples
        --------
        >>> strip = Curves.through([[[0, -50], [0, 50]]], thickness=20)
        >>> strip.measure, strip.measure_within(FieldOfView(0, 0, 60, 40))
        (2000.0, 400.0)
        """
        sides = field_of_view.height, field_of_view.width
        return float(self._in_cells(sides, field_of_view, (1, 1))[0, 0])

    @property
    def _are_strips(self) -> bool:
        return bool(self.thickness.any())

    @property
    def _measures(self) -> Floats:
        """What points are uniform in, for every segment."""
        return self.lengths * self.thickness if self._are_strips else self.lengths

    @property
    def _steepness(self) -> Floats:
        """Length of every segment in space over its length in the plane."""
        return self.lengths / _lengths_in_plane(self.end - self.start)

    @property
    def _normals(self) -> Floats:
        """The unit vector (y, x) across every segment; 0 for those without a direction there."""
        vector = self.end - self.start
        across = np.column_stack([vector[:, -1], -vector[:, -2]])
        length = _lengths_in_plane(vector)[:, None]
        return np.divide(across, length, out=np.zeros_like(across), where=length > 0)

    @property
    def _outlines(self) -> Floats:
        """The two ends (y, x) of every line, or the four corners of every strip."""
        start, end = self.start[:, -2:], self.end[:, -2:]
        if not self._are_strips:
            return np.stack([start, end], axis=1)
        half = self.thickness[:, None] / 2
        across = half * self._normals
        ahead = half[:, None] * self.slant[:, :, None] * (end - start)[:, None]
        at_start, at_end = across + ahead[:, 0], across + ahead[:, 1]
        return np.stack([start - at_start, start + at_start, end + at_end, end - at_end], axis=1)

    def _in_cells(
        self, sides: tuple[float, float], box: FieldOfView, shape: tuple[int, int]
    ) -> Floats:
        """Measure what lies in each cell, with so long sides along y and x, of a box."""
        near = self._only(self._reaching(box))
        outlines = (near._outlines - box[:2]) / sides
        image = np.zeros(shape)
        if near._are_strips:
            add_polygons(outlines, near._steepness, image)
            image *= sides[0] * sides[1]
        else:
            add_lines(outlines, near.lengths, image)
        return image

    def _reaching(self, field_of_view: FieldOfView) -> NDArray[np.bool_]:
        """Tell of every segment whether the box around it meets another box."""
        outlines = self._outlines
        reaching: NDArray[np.bool_] = (
            (outlines.min(axis=1) <= field_of_view[2:])
            & (outlines.max(axis=1) >= field_of_view[:2])
        ).all(axis=1)
        return reaching

    def _only(self, segments: NDArray[np.bool_]) -> "Curves":
        return Curves(*(getattr(self, field.name)[segments] for field in fields(self)))


def worm_like_chains(
    centers: Floats,
    length: float,
    *,
    persistence_length: float,
    step: float,
    random_state: np.random.RandomState,
    depth: float = 0.0,
    thickness: float = 0.0,
) -> Curves:
    """Draw smooth filaments: worm-like chains in the plane, which may rise and sink in a slab.

    Parameters
    ----------
    centers : ndarray of shape (n, 2)
        The middle (y, x) of every filament in nm.
    length : float
        Contour length of every filament in the plane in nm, rounded up to an even number of steps.
    persistence_length : float
        Arc length in nm over which a filament keeps its direction; infinite for straight ones.
    step : float
        Length of a segment in the plane in nm, small against the persistence length.
    random_state : RandomState
        Source of randomness.
    depth : float, default=0.0
        Extent along z in nm of a slab around z = 0 that holds the filaments; 0 for the plane.
    thickness : float, default=0.0
        Width in nm, in the (y, x) plane, of the strip around every filament; 0 for lines.

    Returns
    -------
    Curves
        The n filaments.

    Notes
    -----
    The direction turns by a normal deviate of variance ``step / persistence_length`` from segment
    to segment, so that the cosine of the angle between two tangents an arc length s apart is
    exp(-s / (2 persistence_length)) on average, as for a thermal polymer that lies in a plane.

    In a slab, z is a Gaussian process over the arc length, mapped to be uniform between the walls:
    with the correlation exp(-(s / w)^2 / 2) at the length w = (depth^2 persistence_length)^(1/3)
    after which such a polymer is turned back by a wall (Odijk, Macromolecules 16, 1340, 1983).

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
    if depth > 0:
        arc_length = step * np.arange(2 * n_half + 1)
        wall_to_wall = np.cbrt(depth**2 * persistence_length)
        height = depth * _smooth_uniform(arc_length / wall_to_wall, len(centers), random_state)
        nodes = np.concatenate([height[:, :, None], nodes], axis=2)
    return Curves.through(list(nodes), thickness)


def _whole_and_cut(
    start: float, end: float, size: float, n_pixels: int
) -> list[tuple[slice, float, float]]:
    """Part pixels along an axis into whole ones and one that is cut: where they are, their size."""
    n_whole = min(max(math.floor((end - start) / size + _ROUNDING), 0), n_pixels)
    parts = [(slice(0, n_whole), start, size)] if n_whole > 0 else []
    last = start + n_whole * size
    if n_whole < n_pixels and end - last > _ROUNDING * size:
        parts.append((slice(n_whole, n_whole + 1), last, end - last))
    return parts


def _smooth_uniform(
    place: Floats, n_curves: int, random_state: np.random.RandomState, n_waves: int = 30
) -> Floats:
    """Draw smooth functions of a place, uniform in [-0.5, 0.5]: ranks of a Gaussian process.

    The process is a sum of waves with normal frequencies, so that its correlation is normal, too.
    """
    process = np.zeros((n_curves, len(place)))
    for _ in range(n_waves):
        frequency = random_state.normal(size=(n_curves, 1))
        phase = random_state.uniform(0, 2 * np.pi, size=(n_curves, 1))
        process += np.cos(frequency * place + phase)
    ranks: Floats = ndtr(np.sqrt(2 / n_waves) * process) - 0.5
    return ranks


def _check_chains(nodes: Sequence[ArrayLike]) -> list[Floats]:
    """Give the nodes of all curves as arrays, or say what is wrong with them."""
    chains = [np.asarray(chain, dtype=np.float64) for chain in nodes]
    if not chains:
        raise InvalidInputError("nodes must hold at least one curve")
    for number, chain in enumerate(chains):
        if chain.ndim != 2 or chain.shape[1] not in (2, 3) or len(chain) < 2:
            raise InvalidInputError(
                f"curve {number} must have shape (m, 2) or (m, 3) with m at least 2, "
                f"got {chain.shape}"
            )
        if chain.shape[1] != chains[0].shape[1]:
            raise InvalidInputError(f"curve {number} must have as many axes as the others")
        if not np.isfinite(chain).all():
            raise InvalidInputError(f"curve {number} has nodes that are not finite")
    return chains


def _one_for_each(name: str, values: ArrayLike, curves: list[Floats]) -> NDArray[Any]:
    """Repeat one number for all curves, or check that there is one for each."""
    numbers = np.asarray(values)
    if numbers.shape not in ((), (len(curves),)):
        raise InvalidInputError(
            f"{name} must be one number or one for each of {len(curves)} curves, got {values!r}"
        )
    for_each: NDArray[Any] = np.broadcast_to(numbers, len(curves))
    return for_each


def _check_thicknesses(thicknesses: NDArray[Any]) -> NDArray[Any]:
    if not ((thicknesses >= 0) & (thicknesses < np.inf)).all():
        raise InvalidInputError(f"thickness must be a number from 0 on, got {thicknesses}")
    if thicknesses.any() and not thicknesses.all():
        raise InvalidInputError(
            f"all curves must be lines or all strips, got the thicknesses {thicknesses}"
        )
    return thicknesses


def _path_through(nodes: Floats, is_closed: bool) -> Floats:
    """Give the nodes that lie elsewhere than the one before, with the first again at the end."""
    path = np.concatenate([nodes, nodes[:1]]) if is_closed else nodes
    moves = (np.diff(path, axis=0) != 0).any(axis=1)
    distinct: Floats = path[np.concatenate([[True], moves])]
    return distinct


def _slants(path: Floats, thickness: float, is_closed: bool) -> Floats:
    """Cut the strip around a path at its nodes, halfway between the directions on both sides."""
    if thickness == 0 or len(path) == 1:
        return np.zeros((len(path) - 1, 2))
    vector = np.diff(path, axis=0)
    length = _lengths_in_plane(vector)
    if not length.all():
        raise InvalidInputError("a curve with a thickness runs straight along z")
    direction = np.arctan2(vector[:, -2], vector[:, -1])
    turn = np.roll(direction, -1) - direction
    # No cut takes more than all of a side of the two segments that it parts.
    longest = np.minimum(length, np.roll(length, -1)) / thickness
    ahead = np.tan(turn / 2).clip(-longest, longest)
    ahead[-1] *= is_closed
    slants: Floats = np.column_stack([np.roll(ahead, 1), -ahead]) / length[:, None]
    return slants


def _lengths_in_plane(vector: Floats) -> Floats:
    lengths: Floats = np.hypot(vector[:, -2], vector[:, -1])
    return lengths
