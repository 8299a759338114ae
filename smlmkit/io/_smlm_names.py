"""What the columns of ``.smlm`` files are called there and in smlmkit."""

import re
from collections.abc import Iterable

from smlmkit.errors import InvalidInputError
from smlmkit.io._common import LENGTHS
from smlmkit.io._text import Column

_IN_PHOTONS = {
    "intensity": "photons",
    "offset": "background",
    "local_background": "background",
}
# What a column stands for, where that is not a column of the same name: in ShareLoc's own words, in
# those of Locan and of ThunderSTORM.
_MEANINGS = {
    **{f"{axis}_precision": (f"uncertainty_{axis}",) for axis in "xyz"},
    **{f"position_{axis}": (axis,) for axis in "xyz"},
    **{f"psf_sigma_{axis}": (f"sigma_{axis}",) for axis in "xy"},
    **dict.fromkeys(("uncertainty", "uncertainty_xy"), ("uncertainty_x", "uncertainty_y")),
    **dict.fromkeys(("sigma", "psf_sigma"), ("sigma_x", "sigma_y")),
    "sigma1": ("sigma_x",),
    "sigma2": ("sigma_y",),
}
_WRITTEN = {
    "photons": Column("intensity", "photon"),
    "background": Column("background", "photon"),
    "frame": Column("frame", "frame"),
    **{f"uncertainty_{axis}": Column(f"{axis}_precision", "nm") for axis in "xyz"},
}
# ShareLoc's web page makes intensity_photon_ of ThunderSTORM's "intensity [photon]".
_UNIT_IN_NAME = re.compile(r"(.+)_(nm|um|px|photon|photons)_")
_MICRO = str.maketrans("µμ", "uu")


def to_column(header: str, unit: str) -> Column:
    """Give the column that a header and a unit stand for."""
    sanitized = _UNIT_IN_NAME.fullmatch(header)
    name, unit_in_name = sanitized.groups() if sanitized else (header, "")
    return Column(name, unit.strip().translate(_MICRO) or unit_in_name)


def meanings_of(column: Column) -> tuple[str, ...]:
    """Give the columns of smlmkit that a column stands for."""
    if column.unit in ("photon", "photons") and column.name in _IN_PHOTONS:
        return (_IN_PHOTONS[column.name],)
    return _MEANINGS.get(column.name, (column.name,))


def headers_to_write(names: Iterable[str]) -> dict[str, Column]:
    """Give each column of a table the name and the unit in which it is written."""
    headers = {
        name: _WRITTEN.get(name, Column(name, "nm" if name in LENGTHS else "")) for name in names
    }
    taken = [header for header, _ in headers.values()]
    for name, (header, unit) in headers.items():
        comes_back = meanings_of(to_column(header, unit)) == (name,)
        if not name or not comes_back or taken.count(header) > 1:
            raise InvalidInputError(
                f"column {name!r}: a .smlm file would give it back as another one; rename it"
            )
    return headers
