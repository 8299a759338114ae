"""SMAPpy: an HDF5 file with one dataset a column in the group ``/locs``.

**Origin.** The centre of the camera's first pixel is 0, where the camera read out a part of its
chip only, the chip's first pixel: half a camera pixel lies between that and smlmkit's origin.

Positions are in nm (``x_nm``) or, before they are scaled, in camera pixels (``x_pix``). Frames are
counted from 0. What is known of the camera stands in the attribute ``metadata``, as JSON.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from smlmkit.errors import FileFormatError
from smlmkit.grid import FieldOfView
from smlmkit.io._common import (
    camera_pixels,
    is_hdf5_with,
    opened_hdf5,
    own_numbers,
    own_object,
    table_from_file,
)
from smlmkit.io._hdf5_text import read_attribute_text
from smlmkit.localizations import Localizations

# The columns that can stand for one of smlmkit's, best first, less their unit.
_SOURCES = {
    "x": ("x",),
    "y": ("y",),
    "z": ("z",),
    "uncertainty_x": ("x_err", "xy_err", "loc_precision"),
    "uncertainty_y": ("y_err", "xy_err", "loc_precision"),
    "uncertainty_z": ("z_err", "loc_precision_z"),
    "sigma_x": ("sigma_x", "sigma"),
    "sigma_y": ("sigma_y", "sigma"),
}


class _PixelSize(NamedTuple):
    x: float
    y: float


def recognizes(path: Path, head: bytes) -> bool:
    """Tell whether a file holds columns of localizations in a group ``/locs``.

    Parameters
    ----------
    path : Path
        The file.
    head : bytes
        How it begins.

    Returns
    -------
    bool
        Whether it does.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "locs.h5")
    ...     with h5py.File(path, "w") as hdf5:
    ...         hdf5["locs/x_nm"] = hdf5["locs/y_nm"] = np.zeros(3)
    ...     recognizes(path, path.read_bytes()), recognizes(path, b"x,y")
    (True, False)
    """
    return is_hdf5_with(path, head, _has_columns)


def read(
    path: Path, *, pixel_size: float | None = None, field_of_view: FieldOfView | None = None
) -> Localizations:
    """Read a SMAPpy file.

    ``x_nm``, ``y_nm`` and ``z_nm`` become ``x``, ``y`` and ``z``, ``x_err_nm`` and the like
    ``uncertainty_x/y/z``, ``sigma_nm`` or ``sigma_x_nm`` and ``sigma_y_nm`` become ``sigma_x/y``.
    Where there is only ``xy_err_nm``, it holds for x and y. The same names in camera pixels, as in
    ``x_pix``, are used where there is none in nm. Other columns keep their names and numbers.

    Parameters
    ----------
    path : Path
        The file.
    pixel_size : float, optional
        Edge of a camera pixel in nm, instead of what the file states.
    field_of_view : FieldOfView, optional
        The box in nm that was imaged, instead of the part of the chip that the file states.

    Returns
    -------
    Localizations
        The table.

    Raises
    ------
    FileFormatError
        If the file is damaged or not SMAPpy's, or does not state the camera pixel size.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "locs.h5")
    ...     with h5py.File(path, "w") as hdf5:
    ...         hdf5["locs/x_nm"], hdf5["locs/y_nm"] = [250.0], [0.0]
    ...         hdf5.attrs["metadata"] = '{"pixelsize_nm": 100}'
    ...     blinks = read(path)
    >>> blinks["x"], blinks["y"], blinks.metadata["camera_pixel_size"]
    (array([300.]), array([50.]), 100.0)
    """
    with opened_hdf5(path) as file:
        if not _has_columns(file):
            raise FileFormatError(f"{path}: no group /locs of columns, as SMAPpy writes it")
        columns = {name: _read_column(path, file, name) for name in own_object(path, file, "locs")}
        stated = _parse_json(path, read_attribute_text(path, file, "metadata") or "{}")
    size = _PixelSize(pixel_size, pixel_size) if pixel_size else _stated_size(path, stated)
    if size is None:
        raise FileFormatError(
            f"{path}: the camera pixel size is not known, of which a half lies between the origins "
            "of SMAPpy and smlmkit: pass pixel_size= (nm)"
        )
    table = _to_table(path, columns, size)
    metadata = {"source": path.name, "format": "smappy"} | camera_pixels(size.y, size.x)
    return table_from_file(
        path, table, field_of_view or _stated_field(path, stated, size), metadata
    )


def _has_columns(file: h5py.File) -> bool:
    if "locs" not in list(file) or not isinstance(file.get("locs", getlink=True), h5py.HardLink):
        return False
    group = file["locs"]
    if not isinstance(group, h5py.Group):
        return False
    names = set(group)
    # SMAPpy makes the columns together with the first row.
    is_empty = not names and "format_version" in file.attrs
    return is_empty or {"x_nm", "y_nm"} <= names or {"x_pix", "y_pix"} <= names


def _read_column(path: Path, file: h5py.File, name: str) -> NDArray[Any]:
    dataset = own_numbers(path, file, f"locs/{name}")
    if dataset.ndim != 1 or dataset.dtype.names:
        raise FileFormatError(f"{path}: /locs/{name} is not a column of numbers")
    values: NDArray[Any] = dataset[()]
    return values


def _parse_json(path: Path, text: str) -> dict[str, Any]:
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise FileFormatError(
            f"{path}: the attribute metadata is not an object in JSON: {error}"
        ) from error


def _stated_size(path: Path, stated: Mapping[str, Any]) -> _PixelSize | None:
    """Give the pixel size in nm by which positions were scaled, else that of the camera."""
    for group, key, nm in (
        (stated, "pixelsize_nm_xy", 1),
        (stated, "pixelsize_nm", 1),
        (stated.get("camera"), "pixelsize_um", 1000),
        (stated.get("smap"), "pixelsize_um", 1000),
    ):
        if isinstance(group, Mapping) and group.get(key) is not None:
            sizes = _numbers(path, key, group[key], lengths=(1, 2))
            if not min(sizes) > 0:
                raise FileFormatError(f"{path}: the file states {group[key]!r} as {key}")
            return _PixelSize(sizes[0] * nm, sizes[-1] * nm)
    return None


def _stated_field(path: Path, stated: Mapping[str, Any], size: _PixelSize) -> FieldOfView | None:
    """Give the part of the chip that was read out."""
    camera = stated.get("camera")
    if not isinstance(camera, Mapping) or camera.get("roi") is None:
        return None
    left, top, width, height = _numbers(path, "roi", camera["roi"], lengths=(4,))
    if width <= 0 or height <= 0:
        return None
    return FieldOfView(
        top * size.y, left * size.x, (top + height) * size.y, (left + width) * size.x
    )


def _numbers(path: Path, key: str, stated: Any, *, lengths: tuple[int, ...]) -> list[float]:
    try:
        numbers = [float(value) for value in (stated if isinstance(stated, list) else [stated])]
    except (TypeError, ValueError, OverflowError):
        numbers = []
    if len(numbers) not in lengths or not all(map(math.isfinite, numbers)):
        raise FileFormatError(
            f"{path}: the file states {str(stated)[:50]} as {key}, expected "
            f"{' or '.join(map(str, lengths))} numbers"
        )
    return numbers


def _to_table(
    path: Path, columns: Mapping[str, NDArray[Any]], size: _PixelSize
) -> dict[str, NDArray[Any]]:
    if not columns:
        return {"x": np.empty(0), "y": np.empty(0)}
    table: dict[str, NDArray[Any]] = {}
    used = set()
    for name, sources in _SOURCES.items():
        units = {"nm": 1.0}
        if name[-1] in "xy":
            units["pix"] = size.x if name[-1] == "x" else size.y
        candidates = [(f"{source}_{unit}", units[unit]) for unit in units for source in sources]
        for own, factor in candidates:
            if own in columns:
                table[name] = columns[own].astype(np.float64) * factor
                used.add(own)
                break
    table["x"] += size.x / 2
    table["y"] += size.y / 2
    for own in (columns.keys() - used) & table.keys():
        raise FileFormatError(f"{path}: column {own!r} is the second one that means {own}")
    return table | {own: values for own, values in columns.items() if own not in used}
