"""The table of acquisitions: its columns, and the figures over all of them."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

from smlmkit.report.results import Acquisition, Curve

NOTHING = "\N{EN DASH}"


class Column(NamedTuple):
    """A column of numbers.

    Parameters
    ----------
    name : str
        What it is, in full.
    group : str
        The heading above this one and its neighbours of the same group.
    title : str
        The heading under that.
    unit : str
        The unit of its numbers.
    value : callable
        Takes an acquisition and gives the number, None where there is none.
    write : callable
        Turns a number into text.
    """

    name: str
    group: str
    title: str
    unit: str
    value: Callable[[Acquisition], float | None]
    write: Callable[[float], str]

    def text(self, acquisition: Acquisition) -> str:
        """Give what the table shows of an acquisition.

        Parameters
        ----------
        acquisition : Acquisition
            The acquisition.

        Returns
        -------
        str
            Its number, a dash for none.
        """
        value = self.value(acquisition)
        return NOTHING if value is None else self.write(value)


def write_number(value: float) -> str:
    """Write a number with three digits, or with all before the point.

    Parameters
    ----------
    value : float
        The number.

    Returns
    -------
    str
        The text.

    Examples
    --------
    >>> [write_number(value) for value in (0.01234, 1.5, 12345.6)]
    ['0.0123', '1.5', '12,346']
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def write_resolution(curve: Curve | None) -> str:
    """Write the resolution of a curve with its unit.

    Parameters
    ----------
    curve : Curve or None
        The curve.

    Returns
    -------
    str
        The text, a dash for none.
    """
    if curve is None or curve.resolution is None:
        return NOTHING
    return f"{write_number(curve.resolution)} nm"


def _area_um2(acquisition: Acquisition) -> float | None:
    if acquisition.shape is None or acquisition.pixel_size is None:
        return None
    height, width = acquisition.shape
    return height * width * (acquisition.pixel_size / 1000) ** 2


def _resolution(curve: Curve | None) -> float | None:
    return None if curve is None else curve.resolution


def _area(curve: Curve | None) -> float | None:
    return None if curve is None else curve.area


def _write_score(value: float) -> str:
    return f"{value:.3f}".replace("-", "\N{MINUS SIGN}")


_PER_AREA = "per µm²"
_RAW, _HELD_OUT = "raw", "held out"

COLUMNS = (
    Column(
        "Localizations", "Localizations", "number", "", lambda a: a.n_localizations, "{:,}".format
    ),
    Column("Density", "Localizations", "density", _PER_AREA, lambda a: a.density, write_number),
    Column(
        "Median uncertainty",
        "Localizations",
        "uncertainty",
        "nm",
        lambda a: a.uncertainty,
        write_number,
    ),
    Column("Area", "Image", "area", "µm²", _area_um2, write_number),
    Column("Pixel size", "Image", "pixel", "nm", lambda a: a.pixel_size, write_number),
    Column(
        "FRC resolution, raw",
        "FRC resolution",
        _RAW,
        "nm",
        lambda a: _resolution(a.raw),
        write_number,
    ),
    Column(
        "FRC resolution, held out",
        "FRC resolution",
        _HELD_OUT,
        "nm",
        lambda a: _resolution(a.held_out),
        write_number,
    ),
    Column("FRC area, raw", "FRC area", _RAW, "", lambda a: _area(a.raw), _write_score),
    Column(
        "FRC area, held out", "FRC area", _HELD_OUT, "", lambda a: _area(a.held_out), _write_score
    ),
    Column(
        "Log-likelihood, held out",
        "Log-likelihood",
        _HELD_OUT,
        "",
        lambda a: a.log_likelihood,
        _write_score,
    ),
    Column("Time", "Work", "time", "s", lambda a: a.seconds.get("total"), write_number),
)


def summarize(acquisitions: Sequence[Acquisition]) -> list[tuple[str, str]]:
    """Give the figures over all acquisitions.

    Parameters
    ----------
    acquisitions : sequence of Acquisition
        The acquisitions.

    Returns
    -------
    list of (str, str)
        What each figure is, and the figure.
    """
    n_done = sum(each.error is None for each in acquisitions)
    figures = [
        ("acquisitions reconstructed", f"{n_done} of {len(acquisitions)}"),
        ("localizations", f"{sum(each.n_localizations or 0 for each in acquisitions):,}"),
    ]
    curves = {
        "median FRC resolution, raw": [each.raw for each in acquisitions],
        "median FRC resolution, held out": [each.held_out for each in acquisitions],
    }
    for name, of_all in curves.items():
        known = [value for curve in of_all if (value := _resolution(curve)) is not None]
        if known:
            figures.append((name, f"{write_number(median(known))} nm"))
    return figures
