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
    is_held_out : bool
        Whether it tells of localizations that are kept from the reconstruction.
    """

    name: str
    group: str
    title: str
    unit: str
    value: Callable[[Acquisition], float | None]
    write: Callable[[float], str]
    is_held_out: bool = False

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

    def is_seen(self, acquisition: Acquisition) -> bool:
        """Tell whether there is a number that the training has spoilt.

        Parameters
        ----------
        acquisition : Acquisition
            The acquisition.

        Returns
        -------
        bool
            Whether the network has seen what should be held out.
        """
        return self.is_held_out and acquisition.is_seen and self.value(acquisition) is not None


def write_number(value: float) -> str:
    """Write a number with one decimal, as all of its column are.

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
    >>> [write_number(value) for value in (9.95, 68, 12345.67)]
    ['9.9', '68.0', '12,345.7']
    """
    return f"{value:,.1f}"


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


def _seconds(acquisition: Acquisition) -> float | None:
    """Give the time of what was done; how soon a failure shows is no such time."""
    return None if acquisition.error is not None else acquisition.seconds.get("total")


def _write_score(value: float) -> str:
    return f"{value:.3f}".replace("-", "\N{MINUS SIGN}")


def _columns() -> tuple[Column, ...]:
    points, image, work = "Localizations", "Image", "Work"
    resolution, area, likelihood = "FRC resolution", "FRC area", "Log-likelihood"
    raw, held_out = "raw", "held out"
    return (
        Column("Localizations", points, "number", "", lambda a: a.n_localizations, "{:,}".format),
        Column("Density", points, "density", "per µm²", lambda a: a.density, write_number),
        Column(
            "Median uncertainty in x",
            points,
            "uncertainty x",
            "nm",
            lambda a: a.uncertainty,
            write_number,
        ),
        Column("Area", image, "area", "µm²", _area_um2, write_number),
        Column("Pixel size", image, "pixel", "nm", lambda a: a.pixel_size, "{:g}".format),
        Column(
            f"{resolution}, {raw}",
            resolution,
            raw,
            "nm",
            lambda a: _resolution(a.raw),
            write_number,
        ),
        Column(
            f"{resolution}, {held_out}",
            resolution,
            held_out,
            "nm",
            lambda a: _resolution(a.held_out),
            write_number,
            is_held_out=True,
        ),
        Column(f"{area}, {raw}", area, raw, "", lambda a: _area(a.raw), _write_score),
        Column(
            f"{area}, {held_out}",
            area,
            held_out,
            "",
            lambda a: _area(a.held_out),
            _write_score,
            is_held_out=True,
        ),
        Column(
            f"{likelihood}, {held_out}",
            likelihood,
            held_out,
            "",
            lambda a: a.log_likelihood,
            _write_score,
            is_held_out=True,
        ),
        Column("Time", work, "time", "s", _seconds, write_number),
    )


COLUMNS = _columns()


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
        "raw": [each.raw for each in acquisitions],
        "held out": [each.held_out for each in acquisitions if not each.is_seen],
        "seen in training": [each.held_out for each in acquisitions if each.is_seen],
    }
    for kind, of_all in curves.items():
        known = [value for curve in of_all if (value := _resolution(curve)) is not None]
        if known:
            fields = "1 field" if len(known) == 1 else f"{len(known)} fields"
            name = f"median FRC resolution of {fields}, {kind}"
            figures.append((name, f"{write_number(median(known))} nm"))
    return figures
