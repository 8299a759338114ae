"""What the formats share: from columns to a table, and how to read what strangers wrote."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from smlmkit.errors import FileFormatError, InvalidInputError, InvalidTypeError, SmlmkitError
from smlmkit.grid import FieldOfView
from smlmkit.localizations import Localizations

if TYPE_CHECKING:
    import h5py

_LARGEST_TEXT_BYTES = 2**24
_DEEPEST_NESTING = 100  # the time that a YAML parser takes grows with the square of it
# The most that HDF5's own compression can gain: a dataset that claims more is not to be believed.
_HIGHEST_COMPRESSION = 1100
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MOST_NAMED = 20
# The columns of nm; any other column keeps the numbers of its file.
LENGTHS = frozenset(
    ["x", "y", "z", "uncertainty_x", "uncertainty_y", "uncertainty_z", "sigma_x", "sigma_y"]
)


def table_from_file(
    path: Path,
    columns: Mapping[str, NDArray[Any]],
    field_of_view: FieldOfView | None,
    metadata: Mapping[str, Any],
) -> Localizations:
    """Make the table of a file's columns, to which nobody else may hold a reference."""
    for values in columns.values():
        _let_share(values)
    try:
        return Localizations(columns, field_of_view=field_of_view, metadata=metadata)
    except (InvalidInputError, InvalidTypeError) as error:
        raise FileFormatError(f"{path}: {error}") from error


def camera_pixels(size_y: float, size_x: float) -> dict[str, float]:
    """Give what a table's metadata say of camera pixels, which may have two sides."""
    if size_y == size_x:
        return {"camera_pixel_size": size_x}
    return {"camera_pixel_size_y": size_y, "camera_pixel_size_x": size_x}


def check_numbers(localizations: Localizations, format_name: str) -> None:
    """Refuse a table with a column that is not of numbers."""
    for name in localizations:
        kind = localizations[name].dtype
        if kind.kind not in "iufb":
            raise InvalidInputError(
                f"column {name!r} (dtype {kind}) cannot be written: "
                f"a {format_name} file holds real numbers only"
            )


@contextmanager
def opened_hdf5(path: Path) -> Iterator["h5py.File"]:
    """Open an HDF5 file to read it; whatever fails means that it is damaged."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except SmlmkitError:
        raise
    except (OSError, RuntimeError, ValueError, TypeError, LookupError, MemoryError) as error:
        raise FileFormatError(f"{path}: the HDF5 file is damaged: {error}") from error


def is_hdf5_with(path: Path, head: bytes, test: Callable[["h5py.File"], bool]) -> bool:
    """Tell whether a file that begins like this is an HDF5 file that passes a test."""
    if not head.startswith(_HDF5_SIGNATURE):
        return False
    try:
        with opened_hdf5(path) as file:
            return test(file)
    except FileFormatError:
        return False


def own_object(path: Path, file: "h5py.File", name: str) -> "h5py.Group | h5py.Dataset":
    """Give a group or dataset that lies in this very file."""
    import h5py

    parent: h5py.Group | h5py.Dataset = file
    for part in name.split("/"):
        parts = list(parent) if isinstance(parent, h5py.Group) else []
        if part not in parts:
            there = ", ".join(parts[:_MOST_NAMED]) or "none"
            raise FileFormatError(f"{path}: no dataset /{name}: there are {there}")
        if not isinstance(parent.get(part, getlink=True), h5py.HardLink):
            raise FileFormatError(
                f"{path}: /{name} is a link, perhaps to another file: not followed"
            )
        parent = parent[part]
    return parent


def own_dataset(path: Path, file: "h5py.File", name: str) -> "h5py.Dataset":
    """Give a dataset that lies in this very file, as large as it says it is."""
    import h5py

    dataset = own_object(path, file, name)
    if not isinstance(dataset, h5py.Dataset):
        raise FileFormatError(f"{path}: /{name} is a group, expected one dataset")
    if dataset.external or dataset.is_virtual:
        raise FileFormatError(f"{path}: /{name} lies in other files: not followed")
    filters = dataset.id.get_create_plist()
    for index in range(filters.get_nfilters()):
        code, _, _, label = filters.get_filter(index)
        if not h5py.h5z.filter_avail(code):
            raise FileFormatError(
                f"{path}: /{name} is compressed with {label.decode(errors='replace')!r} "
                f"(HDF5 filter {code}), which is not installed"
            )
    stored = min(dataset.id.get_storage_size(), path.stat().st_size)
    if dataset.nbytes > stored * (_HIGHEST_COMPRESSION if filters.get_nfilters() else 1):
        raise FileFormatError(
            f"{path}: /{name} claims {dataset.nbytes:,} bytes, of which the file holds {stored:,}"
        )
    return dataset


def own_numbers(path: Path, file: "h5py.File", name: str) -> "h5py.Dataset":
    """Give a dataset of numbers, alone or in named columns, that HDF5 can read without harm."""
    dataset = own_dataset(path, file, name)
    columns = dataset.dtype.fields or {}
    for column, kind in [(column, field[0]) for column, field in columns.items()] or [
        ("", dataset.dtype)
    ]:
        if kind.base.kind not in "iufb":
            which = f"column {column!r} of /{name}" if column else f"/{name}"
            raise FileFormatError(f"{path}: {which} holds {kind}, expected numbers")
    check_layout(path, f"/{name}", dataset.id.get_type(), dataset.dtype)
    return dataset


def check_layout(path: Path, where: str, stored: "h5py.h5t.TypeID", kind: np.dtype[Any]) -> None:
    """Refuse unusual numbers: HDF5 converts them without checks, and damaged ones crash it."""
    import h5py

    if not stored.equal(h5py.h5t.py_create(kind, logical=True)):
        raise FileFormatError(f"{path}: {where} is not laid out as numbers are")


def plain_yaml_values(path: Path) -> dict[str, str]:
    """Give the plain values at the top level of all documents, as text; later ones win.

    Nothing else is looked at, so no tag, anchor or depth that a stranger wrote has any effect.
    """
    import yaml

    if path.stat().st_size > _LARGEST_TEXT_BYTES:
        raise FileFormatError(f"{path}: larger than {_LARGEST_TEXT_BYTES:,} bytes")
    nodes = _top_level_nodes(path.read_bytes())
    try:
        pairs = zip(nodes, nodes, strict=True)  # keys and values follow one another
        return {key: value for key, value in pairs if key is not None and value is not None}
    except (yaml.YAMLError, ValueError) as error:
        raise FileFormatError(f"{path}: not readable as YAML: {error}") from error


def _top_level_nodes(text: bytes) -> Iterator[str | None]:
    """Give the keys and values of each document's top mapping; None for what is no plain value."""
    import yaml

    depth, in_mapping = 0, False
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.CollectionStartEvent):
            in_mapping = in_mapping if depth else isinstance(event, yaml.MappingStartEvent)
            depth += 1
            if depth > _DEEPEST_NESTING:
                raise ValueError(f"nested more than {_DEEPEST_NESTING} levels deep")
            continue
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if (
            depth == 1
            and in_mapping
            and isinstance(event, yaml.NodeEvent | yaml.CollectionEndEvent)
        ):
            yield event.value if isinstance(event, yaml.ScalarEvent) else None


def _let_share(values: NDArray[Any]) -> None:
    """Mark an array and the memory behind it read-only: the table then takes it without a copy."""
    array: object = values
    while isinstance(array, np.ndarray):
        array.flags.writeable = False
        array = array.base
