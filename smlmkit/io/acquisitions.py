"""The acquisitions below a folder, as samples that are read when they are asked for."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from smlmkit.errors import FileFormatError, InvalidInputError
from smlmkit.grid import FieldOfView, check_field_of_view, check_pixel_size
from smlmkit.io.tables import TABLE_SUFFIXES, find_format, may_be_table, read_localizations
from smlmkit.localizations import Localizations
from smlmkit.samples import LazyTables

_N_REASONS_TOLD = 3
_PROTOCOL = "-protocol.txt"  # how ThunderSTORM made the table beside it, whose name stands before

Samples = slice | Sequence[int] | NDArray[np.integer] | NDArray[np.bool_]


class _Table(NamedTuple):
    """A file and the format that it was recognized as."""

    path: Path
    format: str


class Acquisitions(LazyTables):
    """Tables of localizations in files: each is read when it is asked for, not before.

    It is what scikit-learn takes as X, one sample a file; `scan_acquisitions` makes it. An integer
    gives a table; a slice, a mask or several numbers give the acquisitions of these files, of which
    none is read. Only the table that was read last is kept in memory, one for all that was made by
    indexing; any other is read anew when it is asked for. A pickle holds no tables. Transformers,
    scorers and `predict` take them one by one, also as targets; what they make of them is a list.
    Training draws from all of them, and holds them.

    Parameters
    ----------
    tables : sequence of (Path, str)
        The files and their formats, as `read_localizations` takes them.
    pixel_size : float, optional
        Edge of a camera pixel in nm, for all files.
    field_of_view : FieldOfView or (y_min, x_min, y_max, x_max), optional
        The box in nm that was imaged, for all files.
    unreadable : mapping of Path to str, optional
        Files that are left out, and why.

    Attributes
    ----------
    pixel_size : float or None
        Edge of a camera pixel in nm, instead of what the files state.
    field_of_view : FieldOfView or None
        The box in nm that was imaged, instead of what the files state.
    unreadable : dict of Path to str
        Files that are left out, and why.

    Raises
    ------
    InvalidInputError
        If `pixel_size` is not positive, or `field_of_view` no box.

    See Also
    --------
    scan_acquisitions : Finds the acquisitions below a folder.

    Examples
    --------
    >>> import tempfile
    >>> from smlmkit import write_localizations
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("a.csv", "b.csv", "c.csv"):
    ...         write_localizations(Localizations({"x": [1.0], "y": [2.0]}), Path(folder, name))
    ...     X = scan_acquisitions(folder)
    ...     table, others = X[0], X[[2, 1]]
    >>> table.metadata["source"], [path.name for path in others.paths]
    ('a.csv', ['c.csv', 'b.csv'])
    """

    def __init__(
        self,
        tables: Sequence[tuple[Path, str]],
        *,
        pixel_size: float | None = None,
        field_of_view: FieldOfView | Sequence[float] | None = None,
        unreadable: Mapping[Path, str] | None = None,
    ) -> None:
        self.pixel_size = None if pixel_size is None else check_pixel_size(pixel_size)
        self.field_of_view = None if field_of_view is None else check_field_of_view(field_of_view)
        self.unreadable = dict(unreadable or {})
        self._tables = [_Table(*table) for table in tables]
        self._read: Callable[[_Table], Localizations] = lru_cache(maxsize=1)(
            partial(_read, pixel_size=self.pixel_size, field_of_view=self.field_of_view)
        )

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files, one a sample."""
        return tuple(table.path for table in self._tables)

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats of the files."""
        return tuple(table.format for table in self._tables)

    @property
    def shape(self) -> tuple[int]:
        """The number of samples: scikit-learn takes samples out of what has a shape by one index.

        It would read those of any other sequence one by one, and hold all of them in a list.
        """
        return (len(self),)

    @property
    def _maker(self) -> "partial[Acquisitions]":
        """What makes acquisitions of other files that are read in the same way."""
        return partial(
            Acquisitions,
            pixel_size=self.pixel_size,
            field_of_view=self.field_of_view,
            unreadable=self.unreadable,
        )

    def __len__(self) -> int:
        return len(self._tables)

    @overload
    def __getitem__(self, index: int | np.integer) -> Localizations: ...
    @overload
    def __getitem__(self, index: Samples) -> "Acquisitions": ...
    def __getitem__(self, index: Any) -> "Localizations | Acquisitions":
        numbers = np.arange(len(self))[index]
        if numbers.ndim == 0:
            return self._read(self._tables[int(numbers)])
        if numbers.ndim > 1:
            raise IndexError(f"acquisitions have one axis, got the index {index!r}")
        subset = self._maker([self._tables[number] for number in numbers])
        subset._read = self._read
        return subset

    def __reduce__(self) -> tuple[Any, ...]:
        return self._maker, (self._tables,)

    def __repr__(self) -> str:
        names = [path.name for path in self.paths]
        ends = names if len(names) < 4 else [*names[:2], "...", names[-1]]
        unreadable = f"; {len(self.unreadable)} unreadable" if self.unreadable else ""
        return f"Acquisitions({len(self)}: {', '.join(ends)}{unreadable})"


def scan_acquisitions(
    folder: str | os.PathLike[str],
    *,
    pixel_size: float | None = None,
    field_of_view: FieldOfView | Sequence[float] | None = None,
) -> Acquisitions:
    """Find the acquisitions in a folder and in all folders below it.

    A file with the suffix of a table is an acquisition if its beginning is that of a known format,
    into which one look is taken; the rest is read when an acquisition is asked for. What belongs to
    a table, such as Picasso's YAML file or ThunderSTORM's protocol, is no acquisition of its own,
    and not unreadable. Hidden files and folders,
    OME-Zarr images and links to folders are passed over.

    Parameters
    ----------
    folder : path-like
        Where to look.
    pixel_size : float, optional
        Edge of a camera pixel in nm, for tables that do not state it; it goes before what they
        state.
    field_of_view : FieldOfView or (y_min, x_min, y_max, x_max), optional
        The box in nm that was imaged, for tables that do not state it; it goes before what they
        state. Without it, these have fields of different sizes.

    Returns
    -------
    Acquisitions
        A sequence of tables, sorted by path, each read when it is asked for. Its ``unreadable``
        maps each file that has the suffix of a table and is none, and each folder that cannot be
        looked into, to the reason.

    Raises
    ------
    InvalidInputError
        If there is no such folder, or no acquisition below it, `pixel_size` is not positive, or
        `field_of_view` no box.

    Examples
    --------
    >>> import tempfile
    >>> from smlmkit import write_localizations
    >>> blinks = Localizations({"x": [10.5, 990.0], "y": [20.0, 480.0]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, "monday").mkdir()
    ...     write_localizations(blinks, Path(folder, "monday", "cell.csv"))
    ...     _ = Path(folder, "notes.txt").write_text("A wet day.")
    ...     X = scan_acquisitions(folder)
    ...     len(X[0]), [path.name for path in X.unreadable]
    (2, ['notes.txt'])
    """
    size = None if pixel_size is None else check_pixel_size(pixel_size)
    box = None if field_of_view is None else check_field_of_view(field_of_view)
    root = Path(folder)
    if not root.is_dir():
        raise InvalidInputError(f"{root}: no such folder")
    tables: list[_Table] = []
    unreadable: dict[Path, str] = {}
    for path in _possible_tables(root, unreadable):
        try:
            tables.append(_Table(path, _format_of(path)))
        except FileFormatError as error:
            unreadable[path] = str(error).removeprefix(f"{path}: ")
    if not tables:
        raise InvalidInputError(_say_nothing_found(root, unreadable))
    return Acquisitions(tables, pixel_size=size, field_of_view=box, unreadable=unreadable)


def _possible_tables(root: Path, unreadable: dict[Path, str]) -> list[Path]:
    """List the files with the suffix of a table; note the folders that cannot be looked into."""

    def note(error: OSError) -> None:
        unreadable[Path(error.filename)] = f"cannot be read: {error.strerror}"

    files: list[Path] = []
    for folder, subfolders, names in os.walk(root, onerror=note):
        subfolders[:] = [name for name in subfolders if not _is_passed_over(name)]
        files += [Path(folder, name) for name in names if may_be_table(Path(name))]
    there = set(files)
    return sorted(path for path in files if not _is_protocol(path, there))


def _is_protocol(path: Path, there: set[Path]) -> bool:
    table = path.name.removesuffix(_PROTOCOL)
    return table != path.name and any(
        path.with_name(table + suffix) in there for suffix in TABLE_SUFFIXES
    )


def _is_passed_over(folder: str) -> bool:
    return folder.startswith(".") or folder.lower().endswith(".ome.zarr")


def _format_of(path: Path) -> str:
    """Look into a file, if it is one: a pipe would be waited for."""
    try:
        is_file = path.is_file()
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read: {error.strerror}") from error
    if not is_file:
        raise FileFormatError(f"{path}: a link to nothing, or no plain file")
    return find_format(path)


def _say_nothing_found(root: Path, unreadable: Mapping[Path, str]) -> str:
    reasons = [f"{path}: {reason}" for path, reason in unreadable.items()]
    told = [*reasons[:_N_REASONS_TOLD], *(["..."] if len(reasons) > _N_REASONS_TOLD else [])]
    return "\n".join(
        [f"{root}: no tables of localizations ({', '.join(TABLE_SUFFIXES)}) in or below it", *told]
    )


def _read(table: _Table, **options: Any) -> Localizations:
    return read_localizations(table.path, format=table.format, **options)
