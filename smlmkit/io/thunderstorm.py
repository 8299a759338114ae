"""ThunderSTORM CSV: the first line names columns and units, as in ``"id","frame","x [nm]"``.

Positions refer to the outer corner of the first camera pixel, as everywhere in smlmkit. Frames are
counted from 1 in the file.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from smlmkit._atomic import whole_or_nothing
from smlmkit.errors import FileFormatError, InvalidInputError
from smlmkit.grid import FieldOfView
from smlmkit.io._common import LENGTHS, check_numbers, table_from_file
from smlmkit.localizations import Localizations

if TYPE_CHECKING:
    import pyarrow as pa

_QUOTES = str.maketrans("", "", "\"'`")
# A micro sign, a Greek mu, and the micro sign of a Latin-1 file that was opened as UTF-8.
_MICRO = str.maketrans("µμ\udcb5", "uuu")
_MISSING = ("", "NaN", "nan", "NA", "N/A", "null")
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


class _Column(NamedTuple):
    name: str
    unit: str

    def __str__(self) -> str:
        return f"{self.name} [{self.unit}]" if self.unit else self.name


_IN_PHOTONS = {table: _Column(own, "photon") for own, table in _PHOTONS.items()}


def is_thunderstorm(head: bytes) -> bool:
    """Tell whether a file that begins like this names the columns x and y in its first line.

    Parameters
    ----------
    head : bytes
        The beginning of the file.

    Returns
    -------
    bool
        Whether it does.

    Examples
    --------
    >>> is_thunderstorm(b'"id","frame","x [nm]","y [nm]"'), is_thunderstorm(b"a,b")
    (True, False)
    """
    text = head.decode("utf-8-sig", "surrogateescape")
    first_line = (text.splitlines() or [""])[0]
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
    with _open_text(path) as handle:
        first_line = handle.readline()
        header, delimiter = _parse_header(first_line)
        # pandas reads faster from a path, but stumbles over a quote that is never closed.
        is_balanced = first_line.count('"') % 2 == 0
        cells = _read_cells(path, None if is_balanced else handle, header, delimiter)
    columns = _to_table(path, header, cells, pixel_size)
    metadata: dict[str, Any] = {"source": path.name, "format": "thunderstorm"}
    if pixel_size is not None:
        metadata["camera_pixel_size"] = pixel_size
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


def _parse_header(line: str) -> tuple[list[_Column], str]:
    """Give the columns and the delimiter; quotes and blanks may stand anywhere."""
    delimiter = "\t" if "\t" in line else ","
    columns = []
    for cell in line.translate(_QUOTES).split(delimiter):
        name, _, unit = cell.rpartition("[") if "[" in cell else (cell, "", "")
        unit = unit.strip().removesuffix("]").strip().translate(_MICRO)
        columns.append(_Column(" ".join(name.split()), unit))
    return columns, delimiter


def _open_text(path: Path) -> TextIO:
    """Open a text file such that no byte is an error: what is not UTF-8 becomes a surrogate."""
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _read_cells(
    path: Path, after_header: TextIO | None, header: list[_Column], delimiter: str
) -> list[NDArray[np.float64]]:
    try:
        frame = pd.read_csv(
            after_header or path,
            sep=delimiter,
            compression=None,
            header=None,
            skiprows=0 if after_header else 1,
            names=list(range(len(header))),
            dtype=np.float64,
            na_values=list(_MISSING),
            keep_default_na=False,
            encoding_errors="surrogateescape",
        )
    except ValueError as error:
        problem = _find_bad_row(path, header, delimiter, numbers=True) or str(error).strip()
        raise FileFormatError(f"{path}: {problem}") from None
    # pandas fills short rows with NaN, and takes the surplus of a long first row for an index.
    may_be_ragged = not isinstance(frame.index, pd.RangeIndex) or frame.iloc[:, -1].hasnans
    if may_be_ragged and (problem := _find_bad_row(path, header, delimiter, numbers=False)):
        raise FileFormatError(f"{path}: {problem}")
    return [frame[index].to_numpy() for index in range(len(header))]


def _find_bad_row(path: Path, header: list[_Column], delimiter: str, *, numbers: bool) -> str:
    """Describe the first row that has too few or too many cells or, if asked for, no number."""
    for line, row in _rows(path, delimiter):
        if len(row) != len(header):
            return f"line {line} has {len(row)} cells, the first line names {len(header)} columns"
        for column, cell in zip(header, row if numbers else [], strict=False):
            if not _is_number(cell):
                return f"line {line}, column '{column}': {cell!r} is not a number"
    return ""


def _rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Give the line number and the cells of every row that is not blank, as far as they go."""
    with _open_text(path) as handle:
        handle.readline()
        rows = csv.reader(handle, delimiter=delimiter)
        try:
            for row in rows:
                if "".join(row).strip() or len(row) > 1:
                    yield rows.line_num + 1, row
        except csv.Error as error:
            yield rows.line_num + 1, [f"<{error}>"]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell.strip() in _MISSING
    return "_" not in cell


def _to_table(
    path: Path,
    header: list[_Column],
    cells: list[NDArray[np.float64]],
    pixel_size: float | None,
) -> dict[str, NDArray[Any]]:
    names = {column.name for column in header}
    columns: dict[str, NDArray[Any]] = {}
    for position, (column, values) in enumerate(zip(header, cells, strict=True), start=1):
        if not column.name:
            raise FileFormatError(f"{path}: column {position} has no name")
        meanings = _meanings(column)
        factor = _factor(path, column, pixel_size, is_length=not LENGTHS.isdisjoint(meanings))
        if factor != 1:
            values = values * factor
        if column.name == "frame":
            values = values - 1
        if column.name in _COUNTS:
            values = _whole(values)
        for name in meanings:
            if name != column.name and name in names:
                continue  # the column of that very name is more precise
            if name in columns:
                raise FileFormatError(f"{path}: '{column}' is the second column that means {name}")
            columns[name] = values
    return columns


def _meanings(column: _Column) -> tuple[str, ...]:
    if column.unit in ("photon", "photons") and column.name in _PHOTONS:
        return (_PHOTONS[column.name],)
    return _MEANINGS.get(column.name, (column.name,))


def _factor(path: Path, column: _Column, pixel_size: float | None, *, is_length: bool) -> float:
    """Give the nm (or nm²) in the column's unit; 1 for what is neither."""
    unit, is_area = column.unit.removesuffix("^2"), column.unit.endswith("^2")
    if unit not in ("nm", "um", "px") or (is_length and is_area):
        if is_length:
            raise FileFormatError(
                f"{path}: the unit of column '{column}' is unknown: expected nm, um or px, "
                f"as in '{column.name} [nm]'"
            )
        return 1.0
    if unit == "px" and pixel_size is None:
        raise FileFormatError(
            f"{path}: column '{column}' is in camera pixels: pass pixel_size= (nm)"
        )
    factor = {"nm": 1.0, "um": 1000.0, "px": pixel_size or 0.0}[unit]
    return factor**2 if is_area else factor


def _whole(values: NDArray[np.float64]) -> NDArray[Any]:
    """Turn counts into integers, if none is missing."""
    is_whole = bool(np.all(np.abs(values) < 2**53)) and np.array_equal(values, np.floor(values))
    return values.astype(np.int64) if is_whole else values


def _from_table(localizations: Localizations) -> dict[_Column, NDArray[Any]]:
    check_numbers(localizations, "ThunderSTORM")
    left = {name: localizations[name] for name in localizations}
    for name in left:
        comes_back = name.isprintable() and _parse_header(name)[0] == [(name, "")]
        if name in _MEANINGS or not name or not comes_back:
            raise InvalidInputError(
                f"column {name!r}: a ThunderSTORM file would give it back as another one; rename it"
            )
    columns = {_Column("id", ""): left.pop("id", np.arange(1, len(localizations) + 1))}
    if "frame" in left:
        columns[_Column("frame", "")] = left.pop("frame") + 1
    for name in ("x", "y", "z"):
        if name in left:
            columns[_Column(name, "nm")] = left.pop(name)
    columns |= _sigmas_from_table(left) | _uncertainties_from_table(left)
    for name, values in left.items():
        columns[_IN_PHOTONS.get(name) or _Column(name, "nm" if name in LENGTHS else "")] = values
    return columns


def _sigmas_from_table(left: dict[str, NDArray[Any]]) -> dict[_Column, NDArray[Any]]:
    if not {"sigma_x", "sigma_y"} <= left.keys():
        return {}
    sigma_x, sigma_y = left.pop("sigma_x"), left.pop("sigma_y")
    if np.array_equal(sigma_x, sigma_y, equal_nan=True):
        return {_Column("sigma", "nm"): sigma_x}
    return {_Column("sigma1", "nm"): sigma_x, _Column("sigma2", "nm"): sigma_y}


def _uncertainties_from_table(left: dict[str, NDArray[Any]]) -> dict[_Column, NDArray[Any]]:
    if not {"uncertainty_x", "uncertainty_y"} <= left.keys():
        return {}
    both = _Column("uncertainty_xy", "nm")
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
