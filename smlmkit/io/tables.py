"""Localizations from and to files: finds the format and hands over to its module."""

import importlib
import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from smlmkit.errors import FileFormatError, InvalidInputError, InvalidTypeError
from smlmkit.grid import FieldOfView, check_field_of_view, check_pixel_size
from smlmkit.io.thunderstorm import is_thunderstorm
from smlmkit.localizations import Localizations

_HEAD_BYTES = 65536


class _Format(NamedTuple):
    """A file format: its module holds `read` and `write` and is imported when it is needed."""

    module: str
    suffixes: tuple[str, ...]
    recognizes: Callable[[bytes], bool]
    looks_like: str


_FORMATS = {
    "picasso": _Format(
        "smlmkit.io.picasso",
        (".hdf5", ".h5"),
        lambda head: head.startswith(b"\x89HDF\r\n\x1a\n"),
        "HDF5",
    ),
    "parquet": _Format(
        "smlmkit.io.parquet", (".parquet",), lambda head: head.startswith(b"PAR1"), "Parquet"
    ),
    "thunderstorm": _Format(
        "smlmkit.io.thunderstorm",
        (".csv",),
        is_thunderstorm,
        'text with the columns x and y in its first line, as in "x [nm]","y [nm]"',
    ),
}

TABLE_SUFFIXES = tuple(suffix for known in _FORMATS.values() for suffix in known.suffixes)
"""The suffixes of files that may be tables of localizations."""


def list_tables(folder: Path) -> list[Path]:
    """List the tables of localizations in a folder, by the suffixes of files.

    Parameters
    ----------
    folder : Path
        The folder. Hidden files in it are the system's own.

    Returns
    -------
    list of Path
        The tables, sorted.

    Raises
    ------
    InvalidInputError
        If there are none, or no such folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.csv", "a.HDF5", "a.yaml", ".c.csv"):
    ...         Path(folder, name).touch()
    ...     [path.name for path in list_tables(Path(folder))]
    ['a.HDF5', 'b.csv']
    """
    if not folder.is_dir():
        raise InvalidInputError(f"{folder}: no such folder")
    tables = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in TABLE_SUFFIXES and path.name[0] != "." and path.is_file()
    ]
    if not tables:
        raise InvalidInputError(
            f"{folder}: no tables of localizations ({', '.join(TABLE_SUFFIXES)}) in it"
        )
    return sorted(tables)


def read_localizations(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,  # noqa: A002 (the word that users of pandas and Pillow know)
    pixel_size: float | None = None,
    field_of_view: FieldOfView | Sequence[float] | None = None,
) -> Localizations:
    """Read a table of localizations; the format is found by looking into the file.

    Lengths become nm, frames 0-based, and positions refer to the outer corner of the first camera
    pixel. The module of each format says how it gets there.

    Parameters
    ----------
    path : path-like
        The file: Picasso HDF5 (with its YAML file beside it), ThunderSTORM CSV, or Parquet.
    format : {"picasso", "thunderstorm", "parquet"}, optional
        Read the file as this format, whatever it looks like.
    pixel_size : float, optional
        Edge of a camera pixel in nm. It is needed where lengths are in camera pixels and the file
        does not state it, and goes before what the file states.
    field_of_view : FieldOfView or (y_min, x_min, y_max, x_max), optional
        The box in nm that was imaged, instead of what the file states. ThunderSTORM files do not
        state any: without it, they get the smallest box of whole nm around the rows.

    Returns
    -------
    Localizations
        The table. Its metadata names the file under ``source`` and the ``format``, and holds the
        ``camera_pixel_size`` (nm) and ``n_frames`` where they are known; metadata that smlmkit
        wrote comes back instead.

    Raises
    ------
    FileFormatError
        If the file cannot be read: the message names the file, the place and what was expected.
    InvalidInputError
        If an argument has no meaning.

    Warns
    -----
    UnusedRowsWarning
        If rows are left out, because they have no position or lie outside the field of view.

    Examples
    --------
    >>> import tempfile
    >>> from smlmkit import Localizations
    >>> blinks = Localizations({"x": [10.5, 990.0], "y": [20.0, 480.0], "frame": [0, 7]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_localizations(blinks, f"{folder}/blinks.csv")
    ...     again = read_localizations(f"{folder}/blinks.csv", field_of_view=(0, 0, 500, 1000))
    >>> again["x"], again["frame"], again.metadata["format"]
    (array([ 10.5, 990. ]), array([0, 7]), 'thunderstorm')
    """
    file = Path(path)
    box = None if field_of_view is None else check_field_of_view(field_of_view)
    size = None if pixel_size is None else check_pixel_size(pixel_size)
    head = _read_head(file)
    module = _module_of(_find_format(file, head) if format is None else format)
    try:
        table: Localizations = module.read(file, pixel_size=size, field_of_view=box)
    except OSError as error:
        raise FileFormatError(f"{file}: cannot be read: {error}") from error
    return table


def write_localizations(
    localizations: Localizations,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,  # noqa: A002
    overwrite: bool = False,
    **options: Any,
) -> None:
    """Write a table of localizations.

    Parquet keeps everything exactly. Picasso and ThunderSTORM files are for those programs: their
    modules say what these formats cannot hold.

    Parameters
    ----------
    localizations : Localizations
        The table.
    path : path-like
        Where to write. The suffix names the format: ``.parquet``, ``.hdf5`` or ``.h5`` (Picasso,
        which also writes a ``.yaml`` file), ``.csv`` (ThunderSTORM).
    format : {"picasso", "thunderstorm", "parquet"}, optional
        The format, whatever the suffix is.
    overwrite : bool, default=False
        Whether files that stand there are replaced.
    **options
        What the format's ``write`` takes: Picasso needs ``pixel_size`` (nm) for a table whose
        metadata hold no ``camera_pixel_size``, and ``uncertainty`` (nm) for one without columns
        of uncertainties.

    Raises
    ------
    InvalidInputError
        If the format is unknown, or cannot hold the table: the message names the column.
    InvalidTypeError
        If it is no table, or the format does not take an option.
    OutputError
        If the file exists and is not to be replaced, or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from smlmkit import Localizations
    >>> blinks = Localizations({"x": [10.5], "y": [20.0]}, metadata={"label": "Alexa 647"})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_localizations(blinks, f"{folder}/blinks.parquet")
    ...     read_localizations(f"{folder}/blinks.parquet") == blinks
    True
    """
    if not isinstance(localizations, Localizations):
        raise InvalidTypeError(f"expected Localizations, got {type(localizations).__name__}")
    file = Path(path)
    name = _format_of_suffix(file) if format is None else format
    module = _module_of(name)
    known = inspect.signature(module.write).parameters.keys() - {"localizations", "path"}
    for option in options.keys() - known:
        raise InvalidTypeError(f"the {name} format takes no option {option!r}")
    module.write(localizations, file, overwrite=overwrite, **options)


def _read_head(path: Path) -> bytes:
    try:
        with path.open("rb") as handle:
            head = handle.read(_HEAD_BYTES)
    except FileNotFoundError:
        raise FileFormatError(f"{path}: no such file") from None
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read: {error.strerror}") from error
    if not head:
        raise FileFormatError(f"{path}: the file is empty")
    return head


def _find_format(path: Path, head: bytes) -> str:
    for name, candidate in _FORMATS.items():
        if candidate.recognizes(head):
            return name
    known = "; ".join(f"{name}: {candidate.looks_like}" for name, candidate in _FORMATS.items())
    raise FileFormatError(f"{path}: its beginning is that of no known format ({known})")


def _format_of_suffix(path: Path) -> str:
    for name, candidate in _FORMATS.items():
        if path.suffix.lower() in candidate.suffixes:
            return name
    known = ", ".join(TABLE_SUFFIXES)
    raise InvalidInputError(
        f"{path}: the suffix names no format; known are {known}, or pass format="
    )


def _module_of(name: str) -> Any:
    if name not in _FORMATS:
        raise InvalidInputError(f"format must be one of {', '.join(_FORMATS)}, got {name!r}")
    return importlib.import_module(_FORMATS[name].module)
