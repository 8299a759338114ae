"""SMAP: a MAT file ``*_sml.mat`` with the structure ``saveloc``, of MATLAB 5 to 7 or of 7.3 (HDF5).

**Origin.** SMAP counts camera pixels from 1, as MATLAB does, and the centre of the first one lies
at 1: ``xnm = (xpix + roi_x) * pixel_size``. In smlmkit its outer corner is 0, so that half a camera
pixel lies between them: ``x = xnm - pixel_size / 2``. Frames are counted from 1 in the file.

Lengths are nm. Fields that smlmkit does not know keep their names and their numbers.
"""

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from smlmkit.errors import FileFormatError
from smlmkit.grid import FieldOfView
from smlmkit.io import _mat5
from smlmkit.io._camera import PixelSize, stated_pixel_size
from smlmkit.io._common import Claims, any_numbers, known_metadata, table_from_file
from smlmkit.io._hdf5 import (
    check_layout,
    is_hdf5,
    is_hdf5_with,
    is_own_group,
    opened_hdf5,
    own_dataset,
    own_group,
)
from smlmkit.io._hdf5_text import read_attribute_text
from smlmkit.io._text import whole
from smlmkit.localizations import Localizations

if TYPE_CHECKING:
    import h5py

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
_MOST_STATED = 4  # of the numbers of which one or two are expected


class _Content(NamedTuple):
    """The fields of a file's localizations, and what is stated of the acquisition."""

    fields: dict[str, NDArray[Any]]
    info: Mapping[str, NDArray[Any]]
    n_files: int


def recognizes(file: BinaryIO, head: bytes) -> bool:
    """Tell whether a file is a MAT file with the structure of SMAP.

    Parameters
    ----------
    file : BinaryIO
        The file, open to be read.
    head : bytes
        How it begins.

    Returns
    -------
    bool
        Whether it is.

    Examples
    --------
    >>> import io
    >>> from scipy.io import savemat
    >>> file = io.BytesIO()
    >>> savemat(file, {"saveloc": {"loc": {"xnm": 150.0, "ynm": 1990.0}}})
    >>> recognizes(file, file.getvalue())
    True
    """
    if _mat5.is_mat5(head):
        return _mat5.has_variable(file, "saveloc")
    return is_hdf5_with(file, head, _has_localizations)


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
    content = _read_hdf5(path) if is_hdf5(head) else _read_mat5(path)
    pixel = PixelSize(pixel_size, pixel_size) if pixel_size else _stated_pixel(path, content.info)
    with any_numbers():
        columns = _to_table(path, content.fields, pixel)
    metadata = known_metadata(path, "smap") | pixel.as_metadata()
    box = field_of_view
    if content.n_files == 1:
        roi = content.info.get("roi", _NO_NUMBERS)
        box = box or (pixel.region(roi.tolist()) if len(roi) == 4 else None)
        n_frames = content.info.get("numberOfFrames", _NO_NUMBERS)
        if len(n_frames) == 1 and 0 < n_frames[0] < 2**53:
            metadata["n_frames"] = max(int(n_frames[0]), _count_frames(columns))
    return table_from_file(path, columns, box, metadata)


def _count_frames(columns: Mapping[str, NDArray[Any]]) -> int:
    """Count the frames up to the last one with a localization."""
    frames = columns.get("frame", _NO_NUMBERS)
    return int(frames.max(initial=-1)) + 1 if frames.dtype.kind == "i" else 0


def _has_localizations(file: "h5py.File") -> bool:
    return is_own_group(file, "saveloc") and is_own_group(file["saveloc"], "loc")


def _read_hdf5(path: Path) -> _Content:
    with opened_hdf5(path) as file:
        loc = own_group(path, file, "saveloc/loc")
        fields = _hdf5_fields(path, loc, list(loc))
        if "file" not in list(file["saveloc"]):
            return _Content(fields, {}, 0)
        infos = _hdf5_infos(path, own_group(path, file, "saveloc/file"))
        info = _hdf5_fields(path, infos[0], _INFO.intersection(infos[0])) if infos else {}
        return _Content(fields, info, len(infos))


def _hdf5_infos(path: Path, file: "h5py.Group") -> list["h5py.Group"]:
    """Give what is stated of each file: one structure, or references to some."""
    import h5py

    if "info" not in list(file):
        return []
    if is_own_group(file, "info"):
        return [file["info"]]
    references = own_dataset(path, file.file, "saveloc/file/info")
    if h5py.check_ref_dtype(references.dtype) is not h5py.Reference:
        raise FileFormatError(f"{path}: {references.name} is no structure")
    infos = [file.file[reference] for reference in references[()].flat]
    if not infos or not all(isinstance(info, h5py.Group) for info in infos):
        raise FileFormatError(f"{path}: {references.name} holds no structures")
    return infos


def _hdf5_fields(
    path: Path, group: "h5py.Group", names: Collection[str]
) -> dict[str, NDArray[Any]]:
    """Give the fields that hold numbers; MATLAB writes an empty one as its shape, in one row."""
    claims = Claims(path)
    fields = {}
    for name in names:
        if is_own_group(group, name):
            continue
        dataset = own_dataset(path, group.file, f"{group.name}/{name}".removeprefix("/"))
        is_complex = dataset.dtype.names == ("real", "imag")
        is_text = read_attribute_text(path, dataset, "MATLAB_class") == "char"
        if is_text or not (is_complex or dataset.dtype.kind in "iuf"):
            continue
        if dataset.ndim != 2:
            fields[name] = _NO_NUMBERS
            continue
        check_layout(path, dataset.name, dataset.id.get_type(), dataset.dtype)
        claims.add(dataset.name, dataset.nbytes)
        values = dataset[()].ravel()
        fields[name] = _mat5.real(values["real"], values["imag"]) if is_complex else values
    return fields


def _read_mat5(path: Path) -> _Content:
    saveloc = _mat5.structure_fields(path, _mat5.read_variable(path, "saveloc"))
    if "loc" not in saveloc:
        raise FileFormatError(f"{path}: saveloc holds no structure 'loc' as SMAP's do")
    if (n_tables := math.prod(saveloc["loc"].shape)) != 1:
        raise FileFormatError(f"{path}: saveloc.loc holds {n_tables:,} structures, expected one")
    fields = _mat5_fields(path, saveloc["loc"])
    if "file" not in saveloc:
        return _Content(fields, {}, 0)
    info = _mat5.structure_fields(path, saveloc["file"]).get("info")
    stated = {} if info is None else _mat5_fields(path, info)
    return _Content(fields, stated, math.prod(saveloc["file"].shape))


def _mat5_fields(path: Path, structure: _mat5.Array) -> dict[str, NDArray[Any]]:
    claims = Claims(path)
    fields = {}
    for name, array in _mat5.structure_fields(path, structure).items():
        claims.add(f"the field {name!r}", array.n_bytes)
        values = _mat5.numbers(path, array)
        if values is not None:
            fields[name] = values
    return fields


def _to_table(
    path: Path, fields: Mapping[str, NDArray[Any]], pixel: PixelSize
) -> dict[str, NDArray[Any]]:
    for name in ("xnm", "ynm"):
        if name not in fields:
            known = ", ".join(fields) or "none"
            raise FileFormatError(f"{path}: saveloc.loc has no field {name!r}: there are {known}")
    left = {name: values for name, values in fields.items() if len(values)}
    table = {
        "x": left.pop("xnm", _NO_NUMBERS).astype(np.float64) - pixel.x / 2,
        "y": left.pop("ynm", _NO_NUMBERS).astype(np.float64) - pixel.y / 2,
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


def _stated_pixel(path: Path, info: Mapping[str, NDArray[Any]]) -> PixelSize:
    if "cam_pixelsize_um" not in info:
        raise FileFormatError(
            f"{path}: the camera pixel size is not known, as saveloc.file.info states no "
            "cam_pixelsize_um: pass pixel_size= (nm)"
        )
    stated = info["cam_pixelsize_um"][:_MOST_STATED].tolist()
    return stated_pixel_size(path, "cam_pixelsize_um", stated, unit_nm=1000)
