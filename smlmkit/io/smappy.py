"""SMAPpy: an HDF5 file with one dataset a column in the group ``/locs``.

**Origin.** The centre of the camera's first pixel is 0, where the camera read out a part of its
chip only, the chip's first pixel: half a camera pixel lies between that and smlmkit's origin.

Positions are in nm (``x_nm``) or, before they are scaled, in camera pixels (``x_pix``). Frames are
counted from 0. What is known of the camera stands in the attribute ``metadata``, as JSON.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from smlmkit.errors import FileFormatError
from smlmkit.grid import FieldOfView
from smlmkit.io._camera import PixelSize, stated_numbers, stated_pixel_size
from smlmkit.io._common import any_numbers, known_metadata, parse_json_object, table_from_file
from smlmkit.io._hdf5 import is_hdf5_with, is_own_group, opened_hdf5, own_columns
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


def recognizes(file: BinaryIO, head: bytes) -> bool:
    """Tell whether a file holds columns of localizations in a group ``/locs``.

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
    ...     hdf5["locs/x_nm"] = hdf5["locs/y_nm"] = np.zeros(3)
    >>> recognizes(file, file.getvalue())
    True
    """
    return is_hdf5_with(file, head, _has_columns)


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
        columns = {name: dataset[()] for name, dataset in own_columns(path, file, "locs").items()}
        text = read_attribute_text(path, file, "metadata") or "{}"
    stated = parse_json_object(path, "the attribute metadata", text)
    pixel = PixelSize(pixel_size, pixel_size) if pixel_size else _stated_pixel(path, stated)
    with any_numbers():
        table = _to_table(path, columns, pixel)
    metadata = known_metadata(path, "smappy") | pixel.as_metadata()
    box = field_of_view or _stated_field(path, stated, pixel)
    return table_from_file(path, table, box, metadata)


def _has_columns(file: h5py.File) -> bool:
    if not is_own_group(file, "locs"):
        return False
    names = set(file["locs"])
    # SMAPpy makes the columns together with the first row.
    is_empty = not names and "format_version" in file.attrs
    return is_empty or {"x_nm", "y_nm"} <= names or {"x_pix", "y_pix"} <= names


def _stated_pixel(path: Path, stated: Mapping[str, Any]) -> PixelSize:
    """Give the pixel size by which positions were scaled, else that of the camera."""
    for group, key, unit_nm in (
        (stated, "pixelsize_nm_xy", 1),
        (stated, "pixelsize_nm", 1),
        (stated.get("camera"), "pixelsize_um", 1000),
        (stated.get("smap"), "pixelsize_um", 1000),
    ):
        if isinstance(group, Mapping) and group.get(key) is not None:
            return stated_pixel_size(path, key, group[key], unit_nm=unit_nm)
    raise FileFormatError(
        f"{path}: the camera pixel size is not known, of which a half lies between the origins "
        "of SMAPpy and smlmkit: pass pixel_size= (nm)"
    )


def _stated_field(path: Path, stated: Mapping[str, Any], pixel: PixelSize) -> FieldOfView | None:
    """Give the part of the chip that was read out."""
    camera = stated.get("camera")
    if not isinstance(camera, Mapping) or camera.get("roi") is None:
        return None
    return pixel.region(stated_numbers(path, "roi", camera["roi"], n_numbers=(4,)))


def _to_table(
    path: Path, columns: Mapping[str, NDArray[Any]], pixel: PixelSize
) -> dict[str, NDArray[Any]]:
    if not columns:
        return {"x": np.empty(0), "y": np.empty(0)}
    table: dict[str, NDArray[Any]] = {}
    used = set()
    for name, sources in _SOURCES.items():
        units = {"nm": 1.0}
        if name[-1] in "xy":
            units["pix"] = pixel.x if name[-1] == "x" else pixel.y
        candidates = [(f"{source}_{unit}", units[unit]) for unit in units for source in sources]
        for own, factor in candidates:
            if own in columns:
                table[name] = columns[own].astype(np.float64) * factor
                used.add(own)
                break
    table["x"] += pixel.x / 2
    table["y"] += pixel.y / 2
    for own in (columns.keys() - used) & table.keys():
        raise FileFormatError(f"{path}: column {own!r} is the second one that means {own}")
    return table | {own: values for own, values in columns.items() if own not in used}
