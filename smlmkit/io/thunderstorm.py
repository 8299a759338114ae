"""ThunderSTORM CSV: the first line names columns and units, as in ``"id","frame","x [nm]"``.

Positions refer to the outer corner of the first camera pixel, as everywhere in smlmkit. Frames are
counted from 1 in the file; some programs that write such files count from 0.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from smlmkit._atomic import whole_or_nothing
from smlmkit.errors import InvalidInputError
from smlmkit.grid import FieldOfView
from smlmkit.io._common import LENGTHS, check_numbers, known_metadata, table_from_file
from smlmkit.io._named_columns import (
    PHOTON_UNITS,
    Meaning,
    Names,
    first_line_of,
    parse_names,
    read_first_line,
    read_named_columns,
)
from smlmkit.io._text import Column
from smlmkit.localizations import Localizations

if TYPE_CHECKING:
    import pyarrow as pa

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


def recognizes(file: BinaryIO, head: bytes) -> bool:
    """Tell whether a file names the columns x and y in its first line, as ThunderSTORM does.

    Parameters
    ----------
    file : BinaryIO
        The file, open to be read.
    head : bytes
        How it begins.

    Returns
    -------
    bool
        Whether it does.

    Examples
    --------
    >>> import io
    >>> header = b'"id","frame","x [nm]","y [nm]"'
    >>> recognizes(io.BytesIO(header), header)
    True
    """
    del file
    names = _parse_names(first_line_of(head))
    return {"x", "y"} <= {column.name for column in names.columns}


def read(
    path: Path, *, pixel_size: float | None = None, field_of_view: FieldOfView | None = None
) -> Localizations:
    r"""Read a ThunderSTORM file, comma- or tab-separated.

    Lengths and areas in nm, um or px become nm and nm²; the unit stands in the header. ``sigma``
    and ``uncertainty`` (or ``uncertainty_xy``) hold for x and y alike. ``intensity`` and ``offset``
    become ``photons`` and ``background`` if they are in photons and keep their names otherwise.
    ``frame`` is the file's number less one, unless a frame 0 shows that the file counts from 0.
    Other columns keep their names. Empty cells and NaN are missing values.

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
    names = _parse_names(read_first_line(path))
    columns = read_named_columns(
        path, names, _meanings(names.columns), pixel_size=pixel_size, counts=("id",)
    )
    metadata = known_metadata(path, "thunderstorm", pixel_size)
    return table_from_file(path, columns, field_of_view, metadata)


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


def _parse_names(line: str) -> Names:
    return parse_names(line, "\t,", brackets=[("[", "]")])


def _meanings(columns: list[Column]) -> list[Meaning]:
    """Tell what columns stand for: one that has a table's very name goes before any other."""
    own_names = {column.name for column in columns}
    return [
        tuple(name for name in _meaning(column) if name == column.name or name not in own_names)
        for column in columns
    ]


def _meaning(column: Column) -> Meaning:
    in_photons = column.unit in PHOTON_UNITS
    if column.name in _PHOTONS and column.unit and in_photons:
        return (_PHOTONS[column.name],)
    if column.name in _IN_PHOTONS and not in_photons:
        return (str(column),)
    return _MEANINGS.get(column.name, (column.name,))


def _from_table(localizations: Localizations) -> dict[Column, NDArray[Any]]:
    check_numbers(localizations, "ThunderSTORM")
    left = {name: localizations[name] for name in localizations}
    for name in left:
        comes_back = name.isprintable() and _parse_names(name).columns == [(name, "")]
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
