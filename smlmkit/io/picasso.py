"""Picasso: an HDF5 file with one table, ``/locs``, and a YAML file of the same name beside it.

The table is a dataset of rows, or a group as pandas writes it through PyTables. Molecule maps are
tables of the same kind, whose rows are clusters: their frames are means.

**Origin.** In Picasso the centre of the first camera pixel is 0: a position is the fit's place in a
small window plus the whole number of the window's pixel. In smlmkit the outer corner of that pixel
is 0, so that half a camera pixel lies between them: ``x = (x_px + 0.5) * pixel_size``. (Picasso's
own renderer does not add this half, and shows everything half a camera pixel up and to the left.)

Positions, ``lpx``, ``lpy``, ``sx`` and ``sy`` are in camera pixels in the file, ``z`` and ``lpz``
in nm. Columns that smlmkit does not know keep their names and their numbers.
"""

import io
import json
import math
import warnings
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import h5py
import numpy as np
import yaml
from numpy.typing import NDArray

from smlmkit import __version__
from smlmkit._atomic import all_or_nothing
from smlmkit.errors import FileFormatError, InvalidInputError, UnusedRowsWarning
from smlmkit.grid import FieldOfView, PixelGrid, check_field_of_view, check_pixel_size
from smlmkit.io._common import (
    any_numbers,
    check_numbers,
    known_metadata,
    plain_yaml_values,
    table_from_file,
)
from smlmkit.io._hdf5 import is_hdf5_with, opened_hdf5, own_dataset
from smlmkit.io._hdf5_tables import Conversion, has_table, own_table, read_table
from smlmkit.io._hdf5_text import read_dataset_text
from smlmkit.localizations import Localizations

_NAMES = {
    "lpx": "uncertainty_x",
    "lpy": "uncertainty_y",
    "lpz": "uncertainty_z",
    "sx": "sigma_x",
    "sy": "sigma_y",
    "bg": "background",
    "n": "detections",
}
_PICASSO_NAMES = {table: own for own, table in _NAMES.items()}
_IN_PIXELS = frozenset({"lpx", "lpy", "sx", "sy"})
# Picasso leaves out rows where one of these is negative, and rows with any number not finite.
_NEVER_NEGATIVE = ("x", "y", "lpx", "lpy", "lpz", "photons", "ellipticity", "sx", "sy")
# float32, to which Picasso rounds positions, can carry a row this far over an edge of the field.
_ROUNDING_PX = 1e-3
_ANYWHERE = FieldOfView(-math.inf, -math.inf, math.inf, math.inf)


class _Info(NamedTuple):
    """What is stated about an acquisition, and where."""

    source: str
    values: Mapping[str, Any]


class _Record(NamedTuple):
    """What smlmkit adds to what Picasso states, so that a table comes back as it was."""

    origin: tuple[float, float]
    field_of_view: FieldOfView
    metadata: dict[str, Any]


def recognizes(file: BinaryIO, head: bytes) -> bool:
    """Tell whether a file holds ``/locs`` as Picasso or pandas writes it.

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
    >>> file = io.BytesIO()
    >>> with h5py.File(file, "w") as hdf5:
    ...     hdf5["locs"] = np.zeros(3, [("x", "f4"), ("y", "f4")])
    >>> recognizes(file, file.getvalue())
    True
    """
    return is_hdf5_with(file, head, partial(has_table, name="locs"))


def read(
    path: Path, *, pixel_size: float | None = None, field_of_view: FieldOfView | None = None
) -> Localizations:
    """Read a Picasso file.

    The camera pixel size and the field of view, (0, 0) to (``Height``, ``Width``) in camera pixels,
    stand in the YAML file beside it or else in its dataset ``/metadata``; where several documents
    state a key, the last one counts. ``lpx``, ``lpy`` and ``lpz`` become ``uncertainty_x/y/z``,
    ``sx`` and ``sy`` become ``sigma_x/y``, ``bg`` becomes ``background``, ``n`` or ``n_locs``
    becomes ``detections``. In a molecule map, which has a column ``std_frame``, ``frame`` becomes
    ``mean_frame``.

    Parameters
    ----------
    path : Path
        The HDF5 file.
    pixel_size : float, optional
        Edge of a camera pixel in nm, instead of the ``Pixelsize`` that is stated.
    field_of_view : FieldOfView, optional
        The box in nm that was imaged, instead of what is stated.

    Returns
    -------
    Localizations
        The table.

    Raises
    ------
    FileFormatError
        If the file is damaged or not Picasso's, or if what is needed is stated nowhere.

    Examples
    --------
    >>> import tempfile
    >>> columns = [("frame", "u4"), ("x", "f4"), ("y", "f4")]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with h5py.File(f"{folder}/locs.hdf5", "w") as hdf5:
    ...         hdf5["locs"] = np.array([(0, 0.0, 9.0)], columns)
    ...     _ = Path(folder, "locs.yaml").write_text("{Width: 10, Height: 10, Pixelsize: 100}")
    ...     blinks = read(Path(folder, "locs.hdf5"))
    >>> blinks["x"], blinks["y"], blinks.field_of_view.width
    (array([50.]), array([950.]), 1000.0)
    """
    with opened_hdf5(path) as file:
        own_table(path, file, "locs")  # whether it is Picasso's at all is said first
        info = _read_info(path, file)
        stated_size = _stated(path, info, "Pixelsize")
        size = pixel_size or stated_size
        if size is None:
            raise _unknown(path, info, "camera pixel size", "Pixelsize", "pixel_size=")
        # What smlmkit noted in nm holds for the pixel size that it wrote.
        record = _parse_record(path, info) if size == stated_size else None
        columns = read_table(path, file, "locs", _conversions(size, record))
    metadata = known_metadata(path, "picasso", size)
    n_frames = _stated(path, info, "Frames")
    if n_frames is not None:
        metadata["n_frames"] = int(n_frames)
    if record:
        metadata |= record.metadata
    box = field_of_view or (record.field_of_view if record else _stated_field(path, info, size))
    return table_from_file(path, _to_table(path, columns), box, metadata)


def write(
    localizations: Localizations,
    path: Path,
    *,
    overwrite: bool = False,
    pixel_size: float | None = None,
    uncertainty: float | None = None,
) -> None:
    """Write a Picasso file, and the YAML file of the same name beside it.

    Picasso knows no negative positions: a field of view that reaches below 0 nm is shifted until it
    begins at 0. The shift, the field of view and the metadata are noted under the key ``smlmkit``,
    so that `read` gives the table back, to float64 rounding. A table without frames gets frame 0.

    Parameters
    ----------
    localizations : Localizations
        The table.
    path : Path
        Where to write the HDF5 file.
    overwrite : bool, default=False
        Whether files that stand there are replaced.
    pixel_size : float, optional
        Edge of a camera pixel in nm; ``camera_pixel_size`` of the table's metadata by default.
    uncertainty : float, optional
        The uncertainty in nm of a table that has no columns ``uncertainty_x`` and
        ``uncertainty_y``, which Picasso needs.

    Raises
    ------
    InvalidInputError
        If the camera pixel size or the uncertainties are not known, a column is not of numbers, its
        name has another meaning in such a file, or frames are negative.
    OutputError
        If a file exists and is not to be replaced, or cannot be written.

    Warns
    -----
    UnusedRowsWarning
        If Picasso will leave out rows: those in the outermost half camera pixel, where its
        positions are negative, and those with a number that is not finite.

    Examples
    --------
    >>> import tempfile
    >>> blinks = Localizations({"x": [150.0], "y": [250.0]}, field_of_view=(0, 0, 500, 900))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(blinks, Path(folder, "locs.hdf5"), pixel_size=100, uncertainty=8)
    ...     with h5py.File(f"{folder}/locs.hdf5") as hdf5:
    ...         print(hdf5["locs"].dtype.names, hdf5["locs"][0].tolist())
    ('frame', 'x', 'y', 'lpx', 'lpy') (0, 1.0, 2.0, 0.08, 0.08)
    """
    sidecar = path.with_suffix(".yaml")
    if sidecar == path:
        raise InvalidInputError(f"{path}: .yaml is the suffix of the file beside a Picasso file")
    if uncertainty is not None and not 0 < uncertainty < math.inf:
        raise InvalidInputError(f"uncertainty must be a positive number of nm, got {uncertainty!r}")
    size = _camera_pixel_size(localizations, pixel_size)
    field = localizations.field_of_view
    origin = (min(field.y_min, 0.0), min(field.x_min, 0.0))
    records = _to_records(localizations, origin, size, uncertainty)
    _warn_of_rows_that_picasso_leaves_out(records)
    record = _Record(origin, field, localizations.metadata)
    covered = FieldOfView(*origin, field.y_max, field.x_max)
    height, width = PixelGrid.covering(covered, size).shape
    info = {
        "Generated by": f"smlmkit {__version__}",
        "Width": width,
        "Height": height,
        "Frames": _count_frames(localizations, records),
        "Pixelsize": size,
        "smlmkit": json.dumps(record._asdict()),
    }
    # The HDF5 file holds all that the YAML file does: it comes first.
    with all_or_nothing([path, sidecar], overwrite=overwrite) as (hdf5_file, yaml_file):
        hdf5_file.write_bytes(_hdf5_content(records, info))
        yaml_file.write_text(yaml.safe_dump(info, sort_keys=False), encoding="utf-8")


def _read_info(path: Path, file: h5py.File) -> _Info:
    """Read what the YAML file states or, if there is none, the dataset /metadata."""
    sidecar = path.with_suffix(".yaml")
    if sidecar.is_file() and sidecar != path:
        return _Info(sidecar.name, plain_yaml_values(sidecar))
    if "metadata" not in list(file):
        return _Info("", {})
    text = read_dataset_text(path, own_dataset(path, file, "metadata"))
    return _Info("the dataset /metadata", _parse_json(path, text))


def _parse_json(path: Path, text: str) -> dict[str, Any]:
    """Give what the documents in /metadata state; later ones win."""
    try:
        documents = json.loads(text)
        return {key: value for document in documents for key, value in dict(document).items()}
    except (ValueError, TypeError, RecursionError) as error:
        raise FileFormatError(
            f"{path}: the dataset /metadata is not a list of objects in JSON: {error}"
        ) from error


def _stated(path: Path, info: _Info, key: str) -> float | None:
    """Give the positive number that is stated under a key; None if there is none."""
    if key not in info.values:
        return None
    try:
        value = float(info.values[key])
    except (TypeError, ValueError):
        value = math.nan
    if not 0 < value < math.inf:
        raise FileFormatError(
            f"{path}: {info.source} states {info.values[key]!r} as {key}, "
            "expected a positive number"
        )
    return value


def _unknown(path: Path, info: _Info, what: str, key: str, argument: str) -> FileFormatError:
    reason = f"{info.source} states no {key}: pass {argument}"
    if not info.source:
        reason = (
            f"there is no {path.with_suffix('.yaml').name} beside the file and no dataset "
            "/metadata in it: pass pixel_size= (nm) and field_of_view= (nm) to read it without"
        )
    return FileFormatError(f"{path}: the {what} is not known; {reason}")


def _stated_field(path: Path, info: _Info, size: float) -> FieldOfView:
    height, width = _stated(path, info, "Height"), _stated(path, info, "Width")
    if height is None or width is None:
        raise _unknown(path, info, "field of view", "Width and Height", "field_of_view= (nm)")
    return FieldOfView(0.0, 0.0, height * size, width * size)


def _parse_record(path: Path, info: _Info) -> _Record | None:
    if "smlmkit" not in info.values:
        return None
    try:
        fields = json.loads(info.values["smlmkit"])
        y, x = map(float, fields["origin"])
        if not math.isfinite(y + x):
            raise ValueError(f"origin {y}, {x}")
        field = check_field_of_view(fields["field_of_view"])
        return _Record((y, x), field, dict(fields["metadata"]))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise FileFormatError(
            f"{path}: what {info.source} states under smlmkit is damaged: {error!r}"
        ) from error


def _conversions(size: float, record: _Record | None) -> dict[str, Conversion]:
    """Give what turns the columns in camera pixels into nm."""

    def position(px: NDArray[Any], *, start: float, low: float, high: float) -> NDArray[np.float64]:
        nm = px.astype(np.float64)
        with any_numbers():
            nm += 0.5
            nm *= size
            nm += start
            _settle(nm, low, high, size * _ROUNDING_PX)
        return nm

    def length(px: NDArray[Any]) -> NDArray[Any]:
        native = px.astype(px.dtype.newbyteorder("="), copy=False)
        with any_numbers():
            nm: NDArray[Any] = native * size
        return nm

    (y, x), field = (record.origin, record.field_of_view) if record else ((0.0, 0.0), _ANYWHERE)
    return {
        **dict.fromkeys(_IN_PIXELS, length),
        "y": partial(position, start=y, low=field.y_min, high=field.y_max),
        "x": partial(position, start=x, low=field.x_min, high=field.x_max),
    }


def _to_table(path: Path, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    if not {"x", "y"} <= columns.keys():
        raise FileFormatError(
            f"{path}: /locs has the columns {', '.join(columns) or 'none'}, "
            "expected at least x and y"
        )
    table: dict[str, NDArray[Any]] = {}
    for own, values in columns.items():
        name = _meaning(own, columns)
        if name in table:
            raise FileFormatError(f"{path}: column {own!r} is the second one that means {name}")
        table[name] = values
    return table


def _meaning(own: str, all_own: Collection[str]) -> str:
    """Give the name in smlmkit of a column in a Picasso file that has all of these."""
    if own == "frame" and "std_frame" in all_own:
        return "mean_frame"
    if own == "n_locs" and "n" not in all_own:
        return "detections"
    return _NAMES.get(own, own)


def _settle(values: NDArray[np.float64], low: float, high: float, slack: float) -> None:
    """Put rows that rounding carried over an edge of the field back onto it."""
    if np.all((values >= low) & (values < high)):
        return
    values[(values < low) & (values >= low - slack)] = low
    values[(values >= high) & (values < high + slack)] = np.nextafter(high, low)


def _camera_pixel_size(localizations: Localizations, pixel_size: float | None) -> float:
    if pixel_size is None:
        pixel_size = localizations.metadata.get("camera_pixel_size")
    if pixel_size is None:
        raise InvalidInputError(
            "Picasso files are in camera pixels, and the table's metadata hold no "
            "'camera_pixel_size': pass pixel_size= (nm)"
        )
    return check_pixel_size(pixel_size)


def _to_records(
    localizations: Localizations,
    origin: tuple[float, float],
    size: float,
    uncertainty: float | None,
) -> NDArray[Any]:
    check_numbers(localizations, "Picasso")
    names = {name: _PICASSO_NAMES.get(name, name) for name in localizations}
    if "std_frame" in names and "mean_frame" in names:
        names["mean_frame"] = "frame"
    columns: dict[str, NDArray[Any]] = {"frame": np.zeros(len(localizations), np.uint32)}
    for name, own in names.items():
        if _meaning(own, names.values()) != name or not name.isprintable() or not name:
            raise InvalidInputError(
                f"column {name!r}: a Picasso file would give it back as another one; rename it"
            )
        values = localizations[name]
        columns[own] = values / size if own in _IN_PIXELS else values
    for own in ("lpx", "lpy"):
        if own not in columns and uncertainty is None:
            raise InvalidInputError(
                f"Picasso needs {_NAMES[own]!r}, which the table does not have: "
                "pass uncertainty= (nm)"
            )
        columns.setdefault(own, np.full(len(localizations), (uncertainty or 0) / size))
    if len(localizations) and not 0 <= columns["frame"].min() <= columns["frame"].max() < 2**32:
        raise InvalidInputError("Picasso's frames are whole numbers from 0 to 2**32 - 1")
    if "frame" in localizations:
        columns["frame"] = columns["frame"].astype(np.uint32)
    for axis, start in zip("yx", origin, strict=True):
        columns[axis] = (columns[axis] - start) / size - 0.5
    records = np.empty(len(localizations), [(own, v.dtype) for own, v in columns.items()])
    for own, values in columns.items():
        records[own] = values
    return records


def _count_frames(localizations: Localizations, records: NDArray[Any]) -> int:
    seen = int(records["frame"].max()) + 1 if len(records) else 1
    stated = localizations.metadata.get("n_frames")
    return max(seen, stated) if isinstance(stated, int) else seen


def _warn_of_rows_that_picasso_leaves_out(records: NDArray[Any]) -> None:
    left_out = np.zeros(len(records), bool)
    for name in records.dtype.names or ():
        left_out |= ~np.isfinite(records[name])
        if name in _NEVER_NEGATIVE:
            left_out |= records[name] < 0
    if n_left_out := int(left_out.sum()):
        warnings.warn(
            f"Picasso will leave out {n_left_out:,} of {len(records):,} rows, whose position is "
            "negative in camera pixels or which hold a number that Picasso does not take",
            UnusedRowsWarning,
            stacklevel=4,
        )


def _hdf5_content(records: NDArray[Any], info: Mapping[str, Any]) -> memoryview:
    """Make the HDF5 file in memory: on a full disk, HDF5 itself would not let go of its file."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.create_dataset("locs", data=records)
        # Of fixed length: a damaged text of variable length makes HDF5 hang when it is read.
        file.create_dataset("metadata", data=np.bytes_(json.dumps([info])))
    return content.getbuffer()
