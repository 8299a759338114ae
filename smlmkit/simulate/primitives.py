"""Geometrical primitives at random: curved and straight lines, outlines and rings.

They are the structures that Lefebvre et al. (2020) train on: of a few simple kinds, and random in
all the rest.
"""

from collections.abc import Sequence
from numbers import Real

import numpy as np
from scipy.interpolate import BSpline

from smlmkit._checks import (
    check_between,
    check_choice,
    check_nonnegative,
    check_positive,
    check_whole,
)
from smlmkit.errors import InvalidInputError
from smlmkit.grid import FieldOfView
from smlmkit.simulate.structures import Curves, Floats

KINDS = ("spline", "line", "circle", "ellipse", "ring")
"""The kinds of primitives that `draw_primitives` knows."""

_CLOSED = ("circle", "ellipse", "ring")
# So many segments stay within 1 / 25,000 of a circle's diameter from it.
_N_SEGMENTS = 360
_DEGREE = 3
_CONTROL_POINTS = (4, 8)
_SHARPEST_TURN = np.pi / 3
_SHORT_OVER_LONG_AXIS = (0.2, 1.0)


def draw_primitives(
    field: FieldOfView,
    n_primitives: int | tuple[int, int],
    *,
    kinds: str | Sequence[str],
    size: float | tuple[float, float],
    thickness: float | tuple[float, float],
    random_state: np.random.RandomState,
) -> Curves:
    """Draw primitives whose middles are uniform in a field; they may reach past it.

    Every kind is as likely, every number uniform in its range, every orientation as likely.

    Parameters
    ----------
    field : FieldOfView
        The box in nm in which the middles lie.
    n_primitives : int or (int, int)
        How many, or the fewest and the most.
    kinds : {"spline", "line", "circle", "ellipse", "ring"} or sequence of them
        What is drawn:

        - ``"spline"``: a cubic B-spline with 4 to 8 control points, a walk of even steps that turns
          by up to 60 degrees after each and fits into a square of side `size`;
        - ``"line"``: a straight line of length `size`;
        - ``"circle"``: a closed outline of diameter `size`;
        - ``"ellipse"``: one whose long axis is `size`, the short one from a fifth of that on;
        - ``"ring"``: an annulus of outer diameter `size`, whose width is uniform from the thickness
          up to that of a filled disc.
    size : float or (float, float)
        Extent of a primitive in nm, or the smallest and the largest.
    thickness : float or (float, float)
        Width in nm, or the narrowest and the widest, of the strip along lines and outlines, which
        adds to their size; 0 for lines without any, and then no rings. At most half the smallest
        size.
    random_state : RandomState
        Source of randomness.

    Returns
    -------
    Curves
        The primitives.

    Raises
    ------
    InvalidInputError
        If a kind is unknown, a range does not rise or is out of its limits, or primitives with and
        without a thickness would be mixed: a range of thicknesses starts at 0, or a ring has none.

    Examples
    --------
    >>> shapes = draw_primitives(
    ...     FieldOfView(0, 0, 2000, 2000),
    ...     (3, 6),
    ...     kinds=("line", "ring"),
    ...     size=(200, 400),
    ...     thickness=20,
    ...     random_state=np.random.RandomState(0),
    ... )
    >>> len(np.unique(shapes.curve))
    3
    """
    kinds = _check_kinds(kinds)
    fewest, most = whole_range("n_primitives", n_primitives)
    sizes = positive_range("size", size)
    thicknesses = range_of("thickness", thickness)
    _check_thicknesses(thicknesses, sizes[0], kinds)

    drawn = []
    for _ in range(random_state.randint(fewest, most + 1)):
        kind = kinds[random_state.randint(len(kinds))]
        middle = random_state.uniform(field[:2], field[2:])
        nodes, width = _draw_one(
            kind, random_state.uniform(*sizes), random_state.uniform(*thicknesses), random_state
        )
        drawn.append((middle + nodes, width, kind in _CLOSED))
    nodes_of_all, widths, are_closed = zip(*drawn, strict=True)
    return Curves.through(nodes_of_all, thickness=widths, closed=are_closed)


def range_of(name: str, value: float | tuple[float, float]) -> tuple[float, float]:
    """Give a range, of which a single number is both ends.

    Parameters
    ----------
    name : str
        Name of the parameter.
    value : float or (float, float)
        A number, or the smallest and the largest one.

    Returns
    -------
    (float, float)
        Both ends.

    Raises
    ------
    InvalidInputError
        If it is neither; the message names the parameter.

    Examples
    --------
    >>> range_of("size", 200), range_of("size", (200, 400))
    ((200, 200), (200, 400))
    """
    ends = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(ends) != 2 or not all(isinstance(end, Real) for end in ends) or not ends[0] <= ends[1]:
        raise InvalidInputError(
            f"{name} must be a number or the smallest and the largest one, got {value!r}"
        )
    return ends[0], ends[1]


def whole_range(name: str, value: int | tuple[int, int]) -> tuple[int, int]:
    """Give a range of whole numbers from 1 on, as `range_of` does.

    Parameters
    ----------
    name : str
        Name of the parameter.
    value : int or (int, int)
        A number, or the smallest and the largest one.

    Returns
    -------
    (int, int)
        Both ends.

    Raises
    ------
    InvalidInputError
        If it is neither, or a number is not whole or below 1; the message names the parameter.

    Examples
    --------
    >>> whole_range("n_primitives", 3)
    (3, 3)
    """
    fewest, most = range_of(name, value)
    for number in (fewest, most):
        check_whole(name, number, low=1)
    return int(fewest), int(most)


def positive_range(name: str, value: float | tuple[float, float]) -> tuple[float, float]:
    """Give a range of positive numbers, as `range_of` does.

    Parameters
    ----------
    name : str
        Name of the parameter.
    value : float or (float, float)
        A number, or the smallest and the largest one.

    Returns
    -------
    (float, float)
        Both ends.

    Raises
    ------
    InvalidInputError
        If it is neither, or a number is not positive; the message names the parameter.

    Examples
    --------
    >>> positive_range("size", (200, 400))
    (200, 400)
    """
    ends = range_of(name, value)
    for end in ends:
        check_positive(**{name: end})
    return ends


def _draw_one(
    kind: str, size: float, thickness: float, rng: np.random.RandomState
) -> tuple[Floats, float]:
    """Draw the nodes of a primitive around (0, 0), and give the width of the strip along them."""
    if kind == "ring":
        width = rng.uniform(thickness, size / 2)
        return _ellipse(size - width, size - width), width
    if kind == "circle":
        return _ellipse(size, size), thickness
    if kind == "ellipse":
        return _turn(_ellipse(size * rng.uniform(*_SHORT_OVER_LONG_AXIS), size), rng), thickness
    if kind == "line":
        return _turn(np.array([[0.0, -size / 2], [0.0, size / 2]]), rng), thickness
    return _spline(size, rng), thickness


def _spline(size: float, rng: np.random.RandomState) -> Floats:
    n_control = rng.randint(_CONTROL_POINTS[0], _CONTROL_POINTS[1] + 1)
    turns = rng.uniform(-_SHARPEST_TURN, _SHARPEST_TURN, size=n_control)
    turns[0] = rng.uniform(0, 2 * np.pi)
    direction = np.cumsum(turns)
    control = np.cumsum(np.column_stack([np.sin(direction), np.cos(direction)]), axis=0)
    lower, upper = control.min(axis=0), control.max(axis=0)
    control = size * (control - (lower + upper) / 2) / (upper - lower).max()
    # The first and the last knot are repeated for the spline to begin and end at control points.
    knots = np.arange(-_DEGREE, n_control + 1).clip(0, n_control - _DEGREE)
    nodes: Floats = BSpline(knots, control, _DEGREE)(np.linspace(0, knots[-1], _N_SEGMENTS + 1))
    return nodes


def _ellipse(height: float, width: float) -> Floats:
    angle = np.linspace(0, 2 * np.pi, _N_SEGMENTS, endpoint=False)
    nodes: Floats = np.column_stack([height / 2 * np.sin(angle), width / 2 * np.cos(angle)])
    return nodes


def _turn(nodes: Floats, rng: np.random.RandomState) -> Floats:
    """Turn nodes around (0, 0) by an angle that is drawn."""
    angle = rng.uniform(0, 2 * np.pi)
    turned: Floats = nodes @ [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turned


def _check_kinds(kinds: str | Sequence[str]) -> tuple[str, ...]:
    names = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    if not names:
        raise InvalidInputError("kinds must name at least one kind of primitive")
    for name in names:
        check_choice("kinds", name, KINDS)
    return names


def _check_thicknesses(
    thicknesses: tuple[float, float], smallest_size: float, kinds: Sequence[str]
) -> None:
    thinnest, thickest = thicknesses
    check_between(0, smallest_size / 2, thickness=thickest)
    check_nonnegative(thickness=thinnest)
    if thinnest == 0 and (thickest > 0 or "ring" in kinds):
        raise InvalidInputError(
            "primitives with a thickness and without cannot be mixed, and rings have one: "
            f"thickness must be above 0, got {thicknesses} for {', '.join(kinds)}"
        )
