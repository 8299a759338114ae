"""What the formats share: from columns to a table, and how to read what strangers wrote."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from smlmkit.errors import FileFormatError, InvalidInputError, InvalidTypeError
from smlmkit.grid import FieldOfView
from smlmkit.localizations import Localizations

if TYPE_CHECKING:
    import h5py

_LARGEST_TEXT_BYTES = 2**24
_DEEPEST_NESTING = 100  # the time that a YAML parser takes grows with the square of it
# The most that HDF5's own compression can gain: a dataset that claims more is not to be believed.
_HIGHEST_COMPRESSION = 1100
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


def check_numbers(localizations: Localizations, format_name: str) -> None:
    """Refuse a table with a column that is not of numbers."""
    for name in localizations:
        kind = localizations[name].dtype
        if kind.kind not in "iufb":
            raise InvalidInputError(
                f"column {name!r} (dtype {kind}) cannot be written: "
                f"a {format_name} file holds real numbers only"
            )


def own_dataset(path: Path, file: "h5py.File", name: str) -> "h5py.Dataset":
    """Give a dataset that lies in this very file, as large as it says it is."""
    import h5py

    if name not in file:
        raise FileFormatError(f"{path}: no dataset /{name}: there are {', '.join(file) or 'none'}")
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise FileFormatError(f"{path}: /{name} is a link, perhaps to another file: not followed")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise FileFormatError(
            f"{path}: /{name} is a group, as PyTables (pandas) and SMAPpy write it, "
            "expected one dataset"
        )
    if dataset.external or dataset.is_virtual:
        raise FileFormatError(f"{path}: /{name} lies in other files: not followed")
    stored = min(dataset.id.get_storage_size(), path.stat().st_size)
    is_compressed = dataset.id.get_create_plist().get_nfilters() > 0
    if dataset.nbytes > stored * (_HIGHEST_COMPRESSION if is_compressed else 1):
        raise FileFormatError(
            f"{path}: /{name} claims {dataset.nbytes:,} bytes, of which the file holds {stored:,}"
        )
    return dataset


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
