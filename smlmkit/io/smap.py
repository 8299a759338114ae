"""SMAP: a MAT file ``*_sml.mat`` with the structure ``saveloc``, of MATLAB 5 to 7 or of 7.3 (HDF5).

**Origin.** SMAP counts camera pixels from 1, as MATLAB does, and the centre of the first one lies
at 1: ``xnm = (xpix + roi_x) * pixel_size``. In smlmkit its outer corner is 0, so that half a camera
pixel lies between them: ``x = xnm - pixel_size / 2``. Frames are counted from 1 in the file.

Lengths are nm. Fields that smlmkit does not know keep their names and their numbers.
"""

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from smlmkit.errors import FileFormatError
from smlmkit.grid import FieldOfView
from smlmkit.io import _mat5
from smlmkit.io._common import (
    camera_pixels,
    check_layout,
    opened_hdf5,
    own_dataset,
    table_from_file,
)
from smlmkit.io._text import whole
from smlmkit.localizations import Localizations

if TYPE_CHECKING:
    import h5py

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Where MATLAB puts the HDF5 file behind its own header, and where others do.
_HDF5_STARTS = (512, 0)
# What a column is taken from: the first of these fields that the file has.
_SOURCES = {
    "photons": ("phot",),
    "background": ("bg",),
    "sigma_x": ("PSFxnm",),
    "sigma_y": ("PSFynm", "PSFxnm"),
    "uncertainty_x": ("xnmerr", "xerr", "locprecnm"),
    "uncertainty_y": ("ynmerr", "yerr", "locprecnm"),
    "uncertainty_z": ("locprecznm", "znmerr", "zerr"),
}
_COUNTS = ("channel", "filenumber")
_INFO = frozenset({"cam_pixelsize_um", "roi", "numberOfFrames"})
# Very old files hold z as the stage moved, in um: the focus moves less, by the refractive indices.
_Z_OF_STAGE_UM = 1000 / 1.25
_NO_NUMBERS = np.empty(0)


class _Content(NamedTuple):
    """The fields of a file's localizations, and what is stated of the acquisition."""

    fields: dict[str, NDArray[Any]]
    info: Mapping[str, NDArray[Any]]
    n_files: int


def recognizes(path: Path, head: bytes) -> bool:
    """Tell whether a file is a MAT file with the structure of SMAP.

    Parameters
    ----------
    path : Path
        The file.
    head : bytes
        Its beginning.

    Returns
    -------
    bool
        Whether it is.

    Examples
    --------
    >>> recognizes(Path("blinks.csv"), b"x [nm],y [nm]")
    False
    """
    try:
        if _mat5.is_mat5(head):
            return _mat5.has_variable(path, "saveloc")
        return _is_hdf5(head) and _hdf5_has_localizations(path)
    except Exception:  # h5py raises anything
        return False


def read(
    path: Path, *, pixel_size: float | None = None, field_of_view: FieldOfView | None = None
) -> Localizations:
    """Read a file of SMAP.

    ``xnm``, ``ynm`` and ``znm`` become x, y and z; ``phot`` becomes ``photons``, ``bg``
    ``background``, ``PSFxnm`` and ``PSFynm`` ``sigma_x/y``. ``xnmerr`` and ``ynmerr`` (or ``xerr``
    and ``yerr``) become ``uncertainty_x/y``, in files without them ``locprecnm`` holds for both;
    ``uncertainty_z`` is ``locprecznm``, or else ``znmerr`` or ``zerr``. Fields that are empty or
    hold no numbers are left out; complex numbers are missing values. The field of view is the
    region of the camera, ``roi``, if the localizations come from one acquisition.

    Parameters
    ----------
    path : Path
        The file.
    pixel_size : float, optional
        Edge of a camera pixel in nm, instead of ``cam_pixelsize_um`` that the file states.
    field_of_view : FieldOfView, optional
        The box in nm that was imaged, instead of what is stated; without either, the smallest box
        of whole nm around the rows.

    Returns
    -------
    Localizations
        The table.

    Raises
    ------
    FileFormatError
        If the file is damaged or not SMAP's, or the camera pixel size is stated nowhere.

    Examples
    --------
    >>> import tempfile
    >>> from scipy.io import savemat
    >>> info = {"cam_pixelsize_um": [0.1, 0.1], "roi": [0, 0, 10, 20]}
    >>> loc = {"xnm": [[150.0]], "ynm": [[1990.0]], "frame": [[1.0]]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     savemat(f"{folder}/a_sml.mat", {"saveloc": {"loc": loc, "file": {"info": info}}})
    ...     blinks = read(Path(folder, "a_sml.mat"))
    >>> blinks["x"], blinks["y"], blinks["frame"], blinks.field_of_view.height
    (array([100.]), array([1940.]), array([0]), 2000.0)
    """
    with path.open("rb") as handle:
        head = handle.read(1024)
    content = _read_hdf5(path) if _is_hdf5(head) else _read_mat5(path)
    size_x, size_y = (pixel_size, pixel_size) if pixel_size else _stated_sizes(path, content.info)
    with np.errstate(over="ignore", invalid="ignore"):  # numbers may be anything
        columns = _to_table(path, content.fields, size_x, size_y)
    metadata: dict[str, Any] = {"source": path.name, "format": "smap"}
    metadata |= camera_pixels(size_y, size_x)
    box = field_of_view
    if content.n_files == 1:
        box = box or _stated_field(content.info, size_x, size_y)
        n_frames = content.info.get("numberOfFrames", _NO_NUMBERS)
        if len(n_frames) == 1 and 0 < n_frames[0] < 2**53:
            metadata["n_frames"] = int(n_frames[0])
    return table_from_file(path, columns, box, metadata)


def _is_hdf5(head: bytes) -> bool:
    return any(head.startswith(_HDF5_SIGNATURE, start) for start in _HDF5_STARTS)


def _hdf5_has_localizations(path: Path) -> bool:
    with opened_hdf5(path) as file:
        return _is_group(_own_group(path, file, "saveloc"), "loc")


def _read_hdf5(path: Path) -> _Content:
    with opened_hdf5(path) as file:
        saveloc = _own_group(path, file, "saveloc")
        loc = _own_group(path, saveloc, "loc")
        fields = _hdf5_fields(path, loc, list(loc))
        if "file" not in list(saveloc):
            return _Content(fields, {}, 0)
        info, n_files = _hdf5_info(path, _own_group(path, saveloc, "file"))
        return _Content(fields, _hdf5_fields(path, info, _INFO.intersection(info)), n_files)


def _hdf5_info(path: Path, file: "h5py.Group") -> tuple["h5py.Group", int]:
    """Give what is stated of the first file, and the number of files."""
    import h5py

    if _is_group(file, "info"):
        return file["info"], 1
    references = own_dataset(path, file.file, "saveloc/file/info")
    if h5py.check_ref_dtype(references.dtype) is not h5py.Reference or not references.size:
        raise FileFormatError(f"{path}: {references.name} is no structure")
    first = file.file[references[()].flat[0]]
    if not isinstance(first, h5py.Group):
        raise FileFormatError(f"{path}: {references.name} holds no structures")
    return first, references.size


def _hdf5_fields(
    path: Path, group: "h5py.Group", names: Collection[str]
) -> dict[str, NDArray[Any]]:
    """Give the fields that hold numbers; MATLAB writes an empty one as its shape, in one row."""
    fields = {}
    for name in names:
        if _is_group(group, name):
            continue
        dataset = own_dataset(path, group.file, f"{group.name}/{name}".removeprefix("/"))
        is_complex = dataset.dtype.names == ("real", "imag")
        if not (is_complex or dataset.dtype.kind in "iuf"):
            continue
        if dataset.ndim != 2:
            fields[name] = _NO_NUMBERS
            continue
        check_layout(path, dataset.name, dataset.id.get_type(), dataset.dtype)
        values = dataset[()].ravel()
        fields[name] = _mat5.real(values["real"], values["imag"]) if is_complex else values
    return fields


def _own_group(path: Path, parent: "h5py.Group", name: str) -> "h5py.Group":
    if not _is_group(parent, name):
        raise FileFormatError(f"{path}: {parent.name} holds no structure {name!r} as SMAP's do")
    return parent[name]


def _is_group(parent: "h5py.Group", name: str) -> bool:
    """Tell whether there is a group of this name in this very file."""
    import h5py

    is_here = isinstance(parent.get(name, getlink=True), h5py.HardLink)
    return is_here and parent.get(name, getclass=True) is h5py.Group


def _read_mat5(path: Path) -> _Content:
    saveloc = _mat5.structure_fields(path, _mat5.read_variable(path, "saveloc"))
    if "loc" not in saveloc:
        raise FileFormatError(f"{path}: saveloc holds no structure 'loc' as SMAP's do")
    fields = _mat5_fields(path, saveloc["loc"])
    if "file" not in saveloc:
        return _Content(fields, {}, 0)
    info = _mat5.structure_fields(path, saveloc["file"]).get("info")
    stated = {} if info is None else _mat5_fields(path, info)
    return _Content(fields, stated, math.prod(saveloc["file"].shape))


def _mat5_fields(path: Path, structure: _mat5.Array) -> dict[str, NDArray[Any]]:
    arrays = _mat5.structure_fields(path, structure)
    fields = {name: _mat5.numbers(path, array) for name, array in arrays.items()}
    return {name: values for name, values in fields.items() if values is not None}


def _to_table(
    path: Path, fields: Mapping[str, NDArray[Any]], size_x: float, size_y: float
) -> dict[str, NDArray[Any]]:
    for name in ("xnm", "ynm"):
        if name not in fields:
            known = ", ".join(fields) or "none"
            raise FileFormatError(f"{path}: saveloc.loc has no field {name!r}: there are {known}")
    left = {name: values for name, values in fields.items() if len(values)}
    table = {
        "x": left.pop("xnm", _NO_NUMBERS).astype(np.float64) - size_x / 2,
        "y": left.pop("ynm", _NO_NUMBERS).astype(np.float64) - size_y / 2,
    }
    z = left.pop("znm", None)
    if "z" in left:  # goes before znm in SMAP as well
        z = left.pop("z") * np.float64(_Z_OF_STAGE_UM)
    if z is not None:
        table["z"] = z.astype(np.float64)
    if "frame" in left:
        table["frame"] = whole(left.pop("frame").astype(np.float64)) - 1
    used = set()
    for column, sources in _SOURCES.items():
        if source := next((name for name in sources if name in left), None):
            table[column] = left[source]
            used.add(source)
    for name, values in left.items():
        if name in used:
            continue
        if name in table:
            raise FileFormatError(f"{path}: saveloc.loc has two fields that mean {name}")
        table[name] = whole(values.astype(np.float64)) if name in _COUNTS else values
    return table


def _stated_sizes(path: Path, info: Mapping[str, NDArray[Any]]) -> tuple[float, float]:
    """Give the edges of a camera pixel along x and y in nm."""
    if "cam_pixelsize_um" not in info:
        raise FileFormatError(
            f"{path}: the camera pixel size is not known, as saveloc.file.info states no "
            "cam_pixelsize_um: pass pixel_size= (nm)"
        )
    sizes = [float(size) * 1000 for size in info["cam_pixelsize_um"]]
    if len(sizes) not in (1, 2) or not all(0 < size < math.inf for size in sizes):
        raise FileFormatError(
            f"{path}: saveloc.file.info states {info['cam_pixelsize_um'][:4].tolist()} as "
            "cam_pixelsize_um, expected one or two positive numbers: pass pixel_size= (nm)"
        )
    return sizes[0], sizes[-1]


def _stated_field(
    info: Mapping[str, NDArray[Any]], size_x: float, size_y: float
) -> FieldOfView | None:
    """Give the region of the camera, if one is stated: x, y, width and height in pixels."""
    roi = info.get("roi", _NO_NUMBERS)
    if len(roi) != 4:
        return None
    x, y, width, height = map(float, roi)
    field = FieldOfView(y * size_y, x * size_x, (y + height) * size_y, (x + width) * size_x)
    is_box = field.height > 0 and field.width > 0 and all(map(math.isfinite, field))
    return field if is_box else None
