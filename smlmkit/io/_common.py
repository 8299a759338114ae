"""What the formats share: from columns to a table, and how to read what strangers wrote."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smlmkit.errors import FileFormatError, InvalidInputError, InvalidTypeError
from smlmkit.grid import FieldOfView
from smlmkit.localizations import Localizations

_LARGEST_TEXT_BYTES = 2**24
_DEEPEST_NESTING = 100  # the time that a YAML parser takes grows with the square of it
# Single columns shrink to a thousandth, but not all those of a table whose positions were measured:
# what shrinks further must be small.
_HIGHEST_COMPRESSION = 100
_SMALL_BYTES = 2**28
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


def known_metadata(path: Path, format_name: str, pixel_size: float | None = None) -> dict[str, Any]:
    """Give what is known of any table that was read."""
    known: dict[str, Any] = {"source": path.name, "format": format_name}
    return known if pixel_size is None else known | {"camera_pixel_size": pixel_size}


def most_memory(path: Path) -> int:
    """Give the bytes of memory that the content of a file of this size may take."""
    return max(_SMALL_BYTES, _HIGHEST_COMPRESSION * path.stat().st_size)


class Claims:
    """The memory that the parts of a file claim, as a sum that stays in proportion to the file.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._most, self._n_bytes = path, most_memory(path), 0

    def add(self, what: str, n_bytes: int) -> None:
        """Refuse a file that goes too far with one more claim."""
        self._n_bytes += n_bytes
        if self._n_bytes > self._most:
            raise FileFormatError(
                f"{self._path}: {what} claims {n_bytes:,} bytes of memory, with all before it "
                f"{self._n_bytes:,}: no table in a file of this size takes more than "
                f"{self._most:,}"
            )


def any_numbers() -> np.errstate:
    """Let numbers of any size and kind be reckoned with in silence: strangers wrote them."""
    return np.errstate(over="ignore", invalid="ignore")


def parse_json_object(path: Path, where: str, text: str | bytes) -> dict[str, Any]:
    """Give the object that a text in JSON is."""
    try:
        stated = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: {where} is not readable as JSON: {error}") from error
    if not isinstance(stated, dict):
        raise FileFormatError(f"{path}: {where} is {stated!r:.50}, expected an object in JSON")
    return stated


def check_numbers(localizations: Localizations, format_name: str) -> None:
    """Refuse a table with a column that is not of numbers."""
    for name in localizations:
        kind = localizations[name].dtype
        if kind.kind not in "iufb":
            raise InvalidInputError(
                f"column {name!r} (dtype {kind}) cannot be written: "
                f"a {format_name} file holds real numbers only"
            )


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
