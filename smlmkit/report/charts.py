"""Curves as the paths of an SVG: numbers only, the page draws them."""

import math
from dataclasses import dataclass

import numpy as np

from smlmkit.report.results import Acquisition, Curve, Floats

WIDTH, HEIGHT = 300, 168
LEFT, RIGHT, TOP, BOTTOM = 30, 292, 10, 134

_LOWEST, _HIGHEST = -0.1, 1.0
_MOST_POINTS = 160


@dataclass(frozen=True)
class Line:
    """A curve in a chart.

    Parameters
    ----------
    kind : {"raw", "held-out"}
        Which of the two.
    path : str
        The curve in the units of the chart.
    threshold : str
        The threshold likewise; empty if there is none.
    crossing : float or None
        Where along x the resolution lies.
    """

    kind: str
    path: str
    threshold: str
    crossing: float | None


@dataclass(frozen=True)
class Chart:
    """The correlations of one acquisition.

    Parameters
    ----------
    lines : tuple of Line
        Its curves.
    x_ticks, y_ticks : tuple of (float, str)
        Where the ticks lie and what they say.
    """

    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]


def highest_frequency(acquisitions: tuple[Acquisition, ...]) -> float:
    """Give where the axis of frequencies ends, the same for all so that charts can be compared.

    Parameters
    ----------
    acquisitions : tuple of Acquisition
        All acquisitions.

    Returns
    -------
    float
        In cycles per nm; 0 if there are no curves.
    """
    curves = [curve for each in acquisitions for curve in (each.raw, each.held_out)]
    return max((_last(curve.frequency) for curve in curves if curve is not None), default=0.0)


def make_chart(acquisition: Acquisition, highest: float) -> Chart | None:
    """Lay out the curves of an acquisition.

    Parameters
    ----------
    acquisition : Acquisition
        The acquisition.
    highest : float
        Where the axis of frequencies ends, in cycles per nm.

    Returns
    -------
    Chart or None
        The chart; None if there is nothing to draw.
    """
    curves = {"raw": acquisition.raw, "held-out": acquisition.held_out}
    lines = [_line(kind, curve, highest) for kind, curve in curves.items() if curve is not None]
    drawn = tuple(line for line in lines if line.path)
    if not drawn:
        return None
    return Chart(
        lines=drawn,
        x_ticks=tuple((_x(tick / 1000, highest), f"{tick:g}") for tick in _ticks(1000 * highest)),
        y_ticks=tuple((_y(tick), f"{tick:g}") for tick in (0.0, 0.5, 1.0)),
    )


def _line(kind: str, curve: Curve, highest: float) -> Line:
    crossing = None if curve.resolution is None else 1 / curve.resolution
    return Line(
        kind=kind,
        path=_path(curve.frequency, curve.correlation, highest),
        threshold=(
            "" if curve.threshold is None else _path(curve.frequency, curve.threshold, highest)
        ),
        crossing=_x(crossing, highest) if crossing is not None and crossing <= highest else None,
    )


def _path(frequency: Floats, values: Floats, highest: float) -> str:
    """Draw a curve from ring 1 on, the mean of neighbours where there are too many of them."""
    known = (frequency > 0) & np.isfinite(frequency) & np.isfinite(values)
    frequency, values = frequency[known], values[known].clip(_LOWEST, _HIGHEST)
    n_pieces = min(len(values), _MOST_POINTS)
    if n_pieces < 2:
        return ""
    pieces = zip(np.array_split(frequency, n_pieces), np.array_split(values, n_pieces), strict=True)
    points = (f"{_x(f.mean(), highest):.1f} {_y(v.mean()):.1f}" for f, v in pieces)
    return f"M{' L'.join(points)}"


def _ticks(highest: float) -> list[float]:
    """Give three to seven round numbers from 0 to the highest.

    Examples
    --------
    >>> _ticks(50)
    [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]
    >>> _ticks(12.5)
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0]
    """
    power = 10.0 ** math.floor(math.log10(highest))
    step = next(s for s in (0.2 * power, 0.5 * power, power, 2 * power) if highest / s < 7)
    return [round(i * step, 12) for i in range(int(highest / step * (1 + 1e-9)) + 1)]


def _x(frequency: float, highest: float) -> float:
    return round(LEFT + (RIGHT - LEFT) * float(frequency) / highest, 2)


def _y(value: float) -> float:
    return round(BOTTOM - (BOTTOM - TOP) * (float(value) - _LOWEST) / (_HIGHEST - _LOWEST), 2)


def _last(frequency: Floats) -> float:
    return float(np.nanmax(frequency, initial=0.0))
