"""ThunderSTORM CSV: the first line names columns and units, as in ``"id","frame","x [nm]"``.

Positions refer to the outer corner of the first camera pixel, as everywhere in smlmkit. Frames are
counted from 1 in the file.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from smlmkit._atomic import whole_or_nothing
from smlmkit.errors import FileFormatError, InvalidInputError
from smlmkit.grid import FieldOfView
from smlmkit.io._common import LENGTHS, check_numbers, table_from_file
from smlmkit.io._named_columns import first_line_of
from smlmkit.io._text import Column, head_lines, length_factor, parse_header, read_columns, whole
from smlmkit.localizations import Localizations

if TYPE_CHECKING:
    import pyarrow as pa

_COUNTS = frozenset({"id", "frame", "detections", "channel"})
_PHOTONS = {"intensity": "photons", "offset": "background"}
# What a ThunderSTORM column stands for, where that is not a column of the same name.
_MEANINGS = {
    "sigma": ("sigma_x", "sigma_y"),
    "sigma1": ("sigma_x",),
    "sigma2": ("sigma_y",),
    "uncertainty": ("uncertainty_x", "uncertainty_y"),
    "uncertainty_xy": ("uncertainty_x", "uncertainty_y"),
}


_IN_PHOTONS = {table: Column(own, "photon") for own, table in _PHOTONS.items()}


def recognizes(path: Path, head: bytes) -> bool:
    """Tell whether a file names the columns x and y in its first line, as ThunderSTORM does.

    Parameters
    ----------
    path : Path
        The file.
    head : bytes
        Its beginning.

    Returns
    -------
    bool
        Whether it does.

    Examples
    --------
    >>> file = Path("blinks.csv")
    >>> recognizes(file, b'"id","frame","x [nm]","y [nm]"'), recognizes(file, b"a,b")
    (True, False)
    """
    del path
    first_line = first_line_of(head)
    return {"x", "y"} <= {column.name for column in _parse_header(first_line)[0]}


def read(
    path: Path, *, pixel_size: float | None = None, field_of_view: FieldOfView | None = None
) -> Localizations:
    r"""Read a ThunderSTORM file, comma- or tab-separated.

    Lengths and areas in nm, um or px become nm and nm²; the unit stands in the header. ``sigma``
    and ``uncertainty`` (or ``uncertainty_xy``) hold for x and y alike. ``intensity`` and ``offset``
    become ``photons`` and ``background`` if they are in photons and keep their names otherwise.
    ``frame`` is the file's number less one. Empty cells and NaN are missing values.

    Parameters
    ----------
    path : Path
        The file.
    pixel_size : float, optional
        Edge of a camera pixel in nm, for columns in px.
    field_of_view : FieldOfView, optional
        The box in nm that was imaged; without it, the smallest box of whole nm around the rows.

    Returns
    -------
    Localizations
        The table.

    Raises
    ------
    FileFormatError
        If the header lacks a column or a unit, if a row has another number of cells than the
        header, or a cell is no number: the message names line and column.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "blinks.csv")
    ...     _ = file.write_text('"frame","x [um]","y [px]","sigma [nm]"\n1,0.5,2,130\n')
    ...     blinks = read(file, pixel_size=100)
    >>> {name: blinks[name].tolist() for name in blinks}
    {'frame': [0], 'x': [500.0], 'y': [200.0], 'sigma_x': [130.0], 'sigma_y': [130.0]}
    """
    header, delimiter = _parse_header("".join(head_lines(path, 1)))
    columns = _columns_of(path, header)
    factors = {column: _factor(path, column, pixel_size) for column in columns.values()}
    names = list(map(str, header))
    wanted = set(map(str, factors))
    cells = read_columns(path, names, delimiter=delimiter, first_line=2, wanted=wanted)
    values = {
        column: _to_own_units(column, cells.pop(str(column)), factor)
        for column, factor in factors.items()
    }
    table = {name: values[column] for name, column in columns.items()}
    metadata: dict[str, Any] = {"source": path.name, "format": "thunderstorm"}
    if pixel_size is not None:
        metadata["camera_pixel_size"] = pixel_size
    return table_from_file(path, table, field_of_view, metadata)


def write(localizations: Localizations, path: Path, *, overwrite: bool = False) -> None:
    """Write a ThunderSTORM file.

    It holds all columns and neither the field of view nor the metadata. A column ``id`` (from 1)
    is added if there is none. Where ``uncertainty_x`` and ``uncertainty_y`` differ, ThunderSTORM
    finds their root mean square as ``uncertainty_xy``, and they follow as columns of their own.

    Parameters
    ----------
    localizations : Localizations
        The table.
    path : Path
        Where to write.
    overwrite : bool, default=False
        Whether a file that stands there is replaced.

    Raises
    ------
    InvalidInputError
        If a column is not of numbers, or its name has another meaning in such a file.
    OutputError
        If the file exists and is not to be replaced, or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> blinks = Localizations({"x": [10.5], "y": [20], "frame": [0], "photons": [900]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(blinks, Path(folder, "blinks.csv"))
    ...     print(Path(folder, "blinks.csv").read_text())
    "id","frame","x [nm]","y [nm]","intensity [photon]"
    1,1,10.5,20,900
    """
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    columns = _from_table(localizations)
    header = ",".join(f'"{column}"' for column in columns)
    table = pa.Table.from_arrays(
        [_printable(values) for values in columns.values()], names=list(map(str, columns))
    )
    options = pa_csv.WriteOptions(include_header=False, quoting_style="none")
    with whole_or_nothing(path, overwrite=overwrite) as partial, partial.open("wb") as handle:
        handle.write(f"{header}\n".encode())
        pa_csv.write_csv(table, handle, options)


def _parse_header(line: str) -> tuple[list[Column], str]:
    """Give the columns and the delimiter."""
    delimiter = "\t" if "\t" in line else ","
    return parse_header(line, delimiter, brackets=[("[", "]")]), delimiter


def _columns_of(path: Path, header: list[Column]) -> dict[str, Column]:
    """Give the column of the file for every column of the table."""
    names = {column.name for column in header}
    columns: dict[str, Column] = {}
    for position, column in enumerate(header, start=1):
        if not column.name:
            raise FileFormatError(f"{path}: column {position} has no name")
        for name in _meanings(column):
            if name != column.name and name in names:
                continue  # the column of that very name is more precise
            if name in columns:
                raise FileFormatError(f"{path}: '{column}' is the second column that means {name}")
            columns[name] = column
    return columns


def _meanings(column: Column) -> tuple[str, ...]:
    if column.unit in ("photon", "photons") and column.name in _PHOTONS:
        return (_PHOTONS[column.name],)
    return _MEANINGS.get(column.name, (column.name,))


def _factor(path: Path, column: Column, pixel_size: float | None) -> float:
    """Give the nm (or nm²) in the column's unit; 1 for what is neither."""
    if not LENGTHS.isdisjoint(_meanings(column)):
        return length_factor(path, column, pixel_size)
    unit = column.unit.removesuffix("^2")
    if unit not in ("nm", "um", "px"):
        return 1.0
    factor = length_factor(path, column._replace(unit=unit), pixel_size)
    return factor**2 if column.unit.endswith("^2") else factor


def _to_own_units(column: Column, values: NDArray[np.float64], factor: float) -> NDArray[Any]:
    if factor != 1:
        values = values * factor
    if column.name == "frame":
        values = values - 1
    return whole(values) if column.name in _COUNTS else values


def _from_table(localizations: Localizations) -> dict[Column, NDArray[Any]]:
    check_numbers(localizations, "ThunderSTORM")
    left = {name: localizations[name] for name in localizations}
    for name in left:
        comes_back = name.isprintable() and _parse_header(name)[0] == [(name, "")]
        if name in _MEANINGS or not name or not comes_back:
            raise InvalidInputError(
                f"column {name!r}: a ThunderSTORM file would give it back as another one; rename it"
            )
    columns = {Column("id", ""): left.pop("id", np.arange(1, len(localizations) + 1))}
    if "frame" in left:
        columns[Column("frame", "")] = left.pop("frame") + 1
    for name in ("x", "y", "z"):
        if name in left:
            columns[Column(name, "nm")] = left.pop(name)
    columns |= _sigmas_from_table(left) | _uncertainties_from_table(left)
    for name, values in left.items():
        columns[_IN_PHOTONS.get(name) or Column(name, "nm" if name in LENGTHS else "")] = values
    return columns


def _sigmas_from_table(left: dict[str, NDArray[Any]]) -> dict[Column, NDArray[Any]]:
    if not {"sigma_x", "sigma_y"} <= left.keys():
        return {}
    sigma_x, sigma_y = left.pop("sigma_x"), left.pop("sigma_y")
    if np.array_equal(sigma_x, sigma_y, equal_nan=True):
        return {Column("sigma", "nm"): sigma_x}
    return {Column("sigma1", "nm"): sigma_x, Column("sigma2", "nm"): sigma_y}


def _uncertainties_from_table(left: dict[str, NDArray[Any]]) -> dict[Column, NDArray[Any]]:
    if not {"uncertainty_x", "uncertainty_y"} <= left.keys():
        return {}
    both = Column("uncertainty_xy", "nm")
    along_x, along_y = left["uncertainty_x"], left["uncertainty_y"]
    if np.array_equal(along_x, along_y, equal_nan=True):
        del left["uncertainty_x"], left["uncertainty_y"]
        return {both: along_x}
    return {both: np.hypot(along_x, along_y) / np.sqrt(2)}


def _printable(values: NDArray[Any]) -> "pa.Array":
    """Give a column as Java can parse it too: 0 and 1 for False and True, NaN and Infinity."""
    import pyarrow as pa
    import pyarrow.compute as pa_compute

    if values.dtype.kind == "b":
        values = values.astype(np.uint8)
    if values.dtype.kind == "f" and values.dtype.itemsize not in (4, 8):
        values = values.astype(np.float64)
    array = pa.array(values.astype(values.dtype.newbyteorder("="), copy=False))
    if np.isfinite(values).all():
        return array
    text = pa_compute.replace_substring(array.cast(pa.string()), "nan", "NaN")
    return pa_compute.replace_substring(text, "inf", "Infinity")
