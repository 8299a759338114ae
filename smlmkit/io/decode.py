"""DECODE: emitter sets in HDF5, or as CSV below three lines of comments.

**Origin.** The centre of the first camera pixel is 0, half a camera pixel from smlmkit's origin.
``x`` and ``y`` are in camera pixels or nm as the file states, ``z`` is in nm. Frames are counted
from 0. DECODE's x runs along the rows of the movie, as its own figures show it; SMAP exchanges the
two when it reads such a file, smlmkit does not.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from smlmkit import __version__
from smlmkit._atomic import whole_or_nothing
from smlmkit.errors import FileFormatError, InvalidInputError
from smlmkit.grid import FieldOfView, check_pixel_size
from smlmkit.io._camera import PixelSize, stated_pixel_size
from smlmkit.io._common import (
    any_numbers,
    check_numbers,
    known_metadata,
    parse_json_object,
    table_from_file,
)
from smlmkit.io._hdf5 import (
    check_layout,
    is_hdf5_with,
    is_own_group,
    opened_hdf5,
    own_columns,
    own_group,
)
from smlmkit.io._hdf5_text import read_attribute_text
from smlmkit.io._text import head_lines, parse_header, read_columns, whole
from smlmkit.localizations import Localizations

_FIRST_LINE = b"# DECODE EmitterSet"
_NAMES = {
    "x_sig": "uncertainty_x",
    "y_sig": "uncertainty_y",
    "z_sig": "uncertainty_z",
    "phot": "photons",
    "bg": "background",
    "frame_ix": "frame",
}
_DECODE_NAMES = {table: own for own, table in _NAMES.items()}
_VECTORS = {"xyz": "", "xyz_sig": "_sig", "xyz_cr": "_cr"}
# What each vector is a power of a length in: Cramer-Rao bounds are variances.
_POWERS = {"": 1, "_sig": 1, "_cr": 2}
# The columns that DECODE knows, with what stands for a value that is not there.
_VALUES = {"phot": np.nan, "bg": np.nan, "prob": 1.0}
_ERRORS = ("phot_sig", "phot_cr", "bg_sig", "bg_cr")
_COUNTS = {"frame_ix": 0, "id": -1}
# Where smlmkit keeps the columns that DECODE does not know, and does not look.
_OWN_GROUP = "smlmkit"


class _Content(NamedTuple):
    """The columns of a file under DECODE's names, and what it states of them."""

    columns: Mapping[str, NDArray[Any]]
    unit: object
    pixel_size: object


def recognizes(file: BinaryIO, head: bytes) -> bool:
    """Tell whether a file holds an emitter set, as HDF5 or CSV.

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
    >>> line = b"# DECODE EmitterSet"
    >>> recognizes(io.BytesIO(line), line)
    True
    """
    return _is_csv(head) or is_hdf5_with(file, head, _has_emitters)


def read(
    path: Path, *, pixel_size: float | None = None, field_of_view: FieldOfView | None = None
) -> Localizations:
    """Read a DECODE file, HDF5 or CSV.

    ``phot`` becomes ``photons``, ``bg`` ``background``, ``frame_ix`` ``frame``, and ``xyz_sig``
    becomes ``uncertainty_x/y/z``. ``z`` is left out where it is 0 in all rows, and so is a column
    without any value: so DECODE writes what is not there. The Cramer-Rao bounds ``x_cr``, ``y_cr``
    and ``z_cr`` are variances in nm². Other columns keep their names and numbers.

    Parameters
    ----------
    path : Path
        The file.
    pixel_size : float, optional
        Edge of a camera pixel in nm, instead of the ``px_size`` that is stated.
    field_of_view : FieldOfView, optional
        The box in nm that was imaged; without it, the smallest box of whole nm around the rows.

    Returns
    -------
    Localizations
        The table. A camera whose pixels are not square is noted in the metadata as
        ``camera_pixel_size_x`` and ``camera_pixel_size_y``.

    Raises
    ------
    FileFormatError
        If the file is damaged or not DECODE's, or does not state the unit or the pixel size.

    Examples
    --------
    >>> import tempfile
    >>> text = '''# DECODE EmitterSet
    ... # {"version": "0.10"}
    ... # {"xy_unit": "px", "px_size": [100, 110]}
    ... x,y,z,phot,frame_ix
    ... 0,2,-300,900,7
    ... '''
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "emitters.csv")
    ...     _ = path.write_text(text)
    ...     blinks = read(path)
    >>> {name: blinks[name].tolist() for name in blinks}
    {'x': [50.0], 'y': [275.0], 'z': [-300.0], 'photons': [900.0], 'frame': [7]}
    """
    with path.open("rb") as file:
        is_csv = _is_csv(file.read(len(_FIRST_LINE) + 3))
    content = _read_csv(path) if is_csv else _read_hdf5(path)
    pixel = PixelSize(pixel_size, pixel_size) if pixel_size else _stated_pixel(path, content)
    if content.unit not in ("px", "nm"):
        raise FileFormatError(
            f"{path}: the file states {content.unit!r:.50} as xy_unit, expected px or nm"
        )
    with any_numbers():
        table = _to_table(path, content.columns, pixel, in_pixels=content.unit == "px")
    metadata = known_metadata(path, "decode") | pixel.as_metadata()
    return table_from_file(path, table, field_of_view, metadata)


def write(
    localizations: Localizations,
    path: Path,
    *,
    overwrite: bool = False,
    pixel_size: float | None = None,
) -> None:
    """Write a DECODE file in HDF5, in camera pixels and float32 as DECODE itself does.

    DECODE finds all that it knows: what the table does not have is not a number, a probability of
    1, frame 0 or the id -1. Other columns stand in a group of their own, which DECODE does not read
    and `read` does. The file holds neither the field of view nor the metadata.

    Parameters
    ----------
    localizations : Localizations
        The table.
    path : Path
        Where to write.
    overwrite : bool, default=False
        Whether a file that stands there is replaced.
    pixel_size : float, optional
        Edge of a camera pixel in nm; by default what the table's metadata hold.

    Raises
    ------
    InvalidInputError
        If the camera pixel size is not known, a column is not of numbers, or its name has another
        meaning in such a file.
    OutputError
        If the file exists and is not to be replaced, or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> blinks = Localizations({"x": [150.0], "y": [250.0], "photons": [900.0]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(blinks, Path(folder, "emitters.h5"), pixel_size=100)
    ...     with h5py.File(f"{folder}/emitters.h5") as hdf5:
    ...         print(hdf5["data/xyz"][()], hdf5["data/phot"][()], hdf5["meta"].attrs["xy_unit"])
    [[1. 2. 0.]] [900.] px
    """
    check_numbers(localizations, "DECODE")
    pixel = _pixel_to_write(localizations, pixel_size)
    columns = _from_table(localizations, pixel)
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.create_group("meta").attrs.update(xy_unit="px", px_size=np.array(pixel, np.float32))
        file.create_group("decode").attrs["version"] = f"smlmkit {__version__}"
        _fill(file, columns, len(localizations))
    with whole_or_nothing(path, overwrite=overwrite) as partial:
        partial.write_bytes(content.getbuffer())


def _is_csv(head: bytes) -> bool:
    return head.removeprefix(b"\xef\xbb\xbf").startswith(_FIRST_LINE)


def _has_emitters(file: h5py.File) -> bool:
    return is_own_group(file, "data") and {"xyz", "frame_ix"} <= set(file["data"])


def _read_csv(path: Path) -> _Content:
    lines = head_lines(path, 4)
    if len(lines) < 4:
        raise FileFormatError(f"{path}: {len(lines)} lines, expected 3 of comments and a header")
    stated = parse_json_object(path, "line 3", lines[2].removeprefix("#"))
    names = [column.name for column in parse_header(lines[3], ",")]
    if not {"x", "y"} <= set(names):
        there = ", ".join(names)
        raise FileFormatError(f"{path}: line 4 names {there:.500}, expected at least x and y")
    columns = read_columns(path, names, delimiter=",", first_line=5)
    for name in columns.keys() & _COUNTS.keys():
        columns[name] = whole(columns[name])
    return _Content(columns, stated.get("xy_unit"), stated.get("px_size"))


def _read_hdf5(path: Path) -> _Content:
    with opened_hdf5(path) as file:
        if not _has_emitters(file):
            raise FileFormatError(f"{path}: no group /data of emitters, as DECODE writes it")
        columns: dict[str, NDArray[Any]] = {}
        for group in ("data", _OWN_GROUP) if _OWN_GROUP in list(file) else ("data",):
            for own, dataset in own_columns(path, file, group).items():
                for name, values in _split_vectors(path, own, dataset).items():
                    if name in columns:
                        raise FileFormatError(f"{path}: two columns are named {name!r}")
                    columns[name] = values
        meta = own_group(path, file, "meta")
        return _Content(
            columns, read_attribute_text(path, meta, "xy_unit"), _stored_pixel(path, meta)
        )


def _split_vectors(path: Path, own: str, dataset: h5py.Dataset) -> dict[str, NDArray[Any]]:
    """Give the columns that a dataset holds: three, one or, where it is empty, none."""
    if dataset.shape is None:
        return {}
    if dataset.ndim == 2 and dataset.shape[1] == 3 and own in _VECTORS:
        vectors = dataset[()]
        return {axis + _VECTORS[own]: vectors[:, i] for i, axis in enumerate("xyz")}
    if dataset.ndim != 1 or own in _VECTORS:
        raise FileFormatError(
            f"{path}: {dataset.name} has the shape {dataset.shape}, not a column's"
        )
    return {own: dataset[()]}


def _stored_pixel(path: Path, meta: h5py.Group) -> object:
    if "px_size" not in meta.attrs:
        return None
    stored = meta.attrs.get_id("px_size")
    if stored.dtype.kind not in "iuf" or stored.shape != (2,):
        return "something else"
    check_layout(path, "the attribute px_size", stored.get_type(), stored.dtype)
    return meta.attrs["px_size"].tolist()


def _stated_pixel(path: Path, content: _Content) -> PixelSize:
    if content.pixel_size is None:
        raise FileFormatError(
            f"{path}: the file does not state the camera pixel size: pass pixel_size= (nm)"
        )
    return stated_pixel_size(path, "px_size", content.pixel_size, n_numbers=(2,))


def _to_table(
    path: Path, columns: Mapping[str, NDArray[Any]], pixel: PixelSize, *, in_pixels: bool
) -> dict[str, NDArray[Any]]:
    table: dict[str, NDArray[Any]] = {}
    for own, values in columns.items():
        name = _NAMES.get(own, own)
        if name in table:
            raise FileFormatError(f"{path}: column {own!r} is the second one that means {name}")
        if own == "z" and not values.any():
            continue
        if len(values) and values.dtype.kind == "f" and np.isnan(values).all():
            continue
        table[name] = values.astype(values.dtype.newbyteorder("="))
    for axis, edge in pixel._asdict().items():
        if axis not in table:
            raise FileFormatError(f"{path}: column {axis!r} holds no numbers")
        for own, power in _POWERS.items():
            name = _NAMES.get(axis + own, axis + own)
            if name in table:
                factor = edge**power if in_pixels else 1.0
                table[name] = table[name].astype(np.float64) * factor
        table[axis] += edge / 2
    return table


def _pixel_to_write(localizations: Localizations, pixel_size: float | None) -> PixelSize:
    stated = localizations.metadata
    edges = [
        stated.get(f"camera_pixel_size_{axis}", stated.get("camera_pixel_size"))
        if pixel_size is None
        else pixel_size
        for axis in PixelSize._fields
    ]
    if None in edges:
        raise InvalidInputError(
            "DECODE files are in camera pixels, and the table's metadata hold no "
            "'camera_pixel_size': pass pixel_size= (nm)"
        )
    return PixelSize(*map(check_pixel_size, edges))


def _from_table(localizations: Localizations, pixel: PixelSize) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {}
    for name in localizations:
        has_place = name.isprintable() and name not in ("", ".") and "/" not in name
        if name in _NAMES or name in _VECTORS or not has_place:
            raise InvalidInputError(
                f"column {name!r}: a DECODE file would give it back as another one; rename it"
            )
        columns[_DECODE_NAMES.get(name, name)] = localizations[name]
    for axis, edge in pixel._asdict().items():
        columns[axis] = columns[axis] - edge / 2
        for own, power in _POWERS.items():
            if axis + own in columns:
                columns[axis + own] = columns[axis + own] / edge**power
    return columns


def _fill(file: h5py.File, columns: dict[str, NDArray[Any]], n_rows: int) -> None:
    """Write the columns to the datasets where DECODE looks for them, and the rest elsewhere."""
    left = dict(columns)
    data = file.create_group("data")
    for vector, suffix in _VECTORS.items():
        missing = np.full(n_rows, np.nan if suffix else 0.0)
        is_there = any(axis + suffix in left for axis in "xyz")
        axes = [left.pop(axis + suffix, missing) for axis in "xyz"]
        data[vector] = np.stack(axes, axis=1).astype(np.float32) if is_there else h5py.Empty("f")
    for own, value in _VALUES.items():
        data[own] = left.pop(own, np.full(n_rows, value)).astype(np.float32)
    for own in _ERRORS:
        data[own] = left.pop(own).astype(np.float32) if own in left else h5py.Empty("f")
    for own, count in _COUNTS.items():
        data[own] = left.pop(own, np.full(n_rows, count, np.int64))
    for own, values in left.items():
        file[f"{_OWN_GROUP}/{own}"] = values
