"""Localizations from and to files: finds the format and hands over to its module."""

import importlib
import inspect
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from smlmkit._checks import check_choice
from smlmkit.errors import FileFormatError, InvalidInputError, InvalidTypeError
from smlmkit.grid import FieldOfView, check_field_of_view, check_pixel_size
from smlmkit.localizations import Localizations

_HEAD_BYTES = 65536
_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
_MATLAB = b"MATLAB "


class _Format(NamedTuple):
    """A file format: its module in `smlmkit.io`, and how its files begin.

    The module holds `recognizes`, `read` and, where tables are written too, `write`. It is imported
    when it is needed: to look into a file, only if the file begins like this.
    """

    module: str
    begins: bytes | tuple[bytes, ...] = b""
    is_written: bool = False


# From the most to the least specific: the first one that recognizes a file is the one to read it.
_FORMATS = {
    "parquet": _Format("parquet", b"PAR1", is_written=True),
    "smlm": _Format("smlm", _ZIP, is_written=True),
    "picasso": _Format("picasso", _HDF5, is_written=True),
    "decode": _Format("decode", (_HDF5, b"#", b"\xef\xbb\xbf#"), is_written=True),
    "smappy": _Format("smappy", _HDF5),
    "smap": _Format("smap", _MATLAB),
    "rapidstorm": _Format("rapidstorm"),
    "elyra": _Format("elyra"),
    "nstorm": _Format("nstorm"),
    "nanoimager": _Format("nanoimager"),
    "challenge": _Format("challenge"),
    "thunderstorm": _Format("thunderstorm", is_written=True),
    "csv": _Format("csv_table"),
}
# Whose reader says best what is wrong with a file that begins like this and that none recognizes.
_READER_OF_STRANGERS = {_HDF5: "picasso", _ZIP: "smlm", _MATLAB: "smap"}
_FORMAT_OF_SUFFIX = {
    ".hdf5": "picasso",
    ".h5": "picasso",
    ".csv": "thunderstorm",
    ".parquet": "parquet",
    ".smlm": "smlm",
}
# Much else has these suffixes: notes, spreadsheets, whatever MATLAB keeps. What is called .zip is
# nearly always something else: a SMLM archive of that name is read, but not looked for.
_AMBIGUOUS_SUFFIXES = (".txt", ".xls", ".mat")

TABLE_SUFFIXES = (*_FORMAT_OF_SUFFIX, *_AMBIGUOUS_SUFFIXES)
"""The suffixes of files that may be tables of localizations."""

READ_FORMATS = tuple(_FORMATS)
"""The formats that are read."""

WRITTEN_FORMATS = tuple(name for name, known in _FORMATS.items() if known.is_written)
"""The formats that are written."""


def list_tables(folder: Path) -> list[Path]:
    """List the tables of localizations in a folder.

    A suffix that only tables have is believed, so that a damaged table is not passed over in
    silence. Much else is called ``.txt``, ``.xls`` or ``.mat``: these files are looked into.

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
    ...     for name in ("b.csv", "a.HDF5", "a.yaml", "README.txt", ".c.csv"):
    ...         Path(folder, name).touch()
    ...     [path.name for path in list_tables(Path(folder))]
    ['a.HDF5', 'b.csv']
    """
    if not folder.is_dir():
        raise InvalidInputError(f"{folder}: no such folder")
    tables = [
        path
        for path in folder.iterdir()
        if may_be_table(path) and path.is_file() and not _is_something_else(path)
    ]
    if not tables:
        raise InvalidInputError(
            f"{folder}: no tables of localizations ({', '.join(TABLE_SUFFIXES)}) in it"
        )
    return sorted(tables)


def may_be_table(path: Path) -> bool:
    """Tell by its name whether a file may be a table of localizations.

    Parameters
    ----------
    path : Path
        The file; it need not exist.

    Returns
    -------
    bool
        Whether it has the suffix of one and is not hidden.

    Examples
    --------
    >>> may_be_table(Path("blinks.CSV")), may_be_table(Path("._blinks.csv"))
    (True, False)
    """
    return path.suffix.lower() in TABLE_SUFFIXES and path.name[0] != "."


def find_format(path: Path) -> str:
    """Find a table's format by looking into the file once, at its beginning.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    str
        The format, as `read_localizations` takes it.

    Raises
    ------
    FileFormatError
        If the file cannot be read, is empty, damaged, or of no known format.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "blinks.dat")
    ...     _ = file.write_text('"x [nm]","y [nm]"')
    ...     find_format(file)
    'thunderstorm'
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            name = _recognize(file, head)
    except OSError as error:
        raise _not_readable(path, error) from error
    if name is None:
        raise _explain(path, head)
    return name


def read_localizations(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,  # noqa: A002 (the word that users of pandas and Pillow know)
    pixel_size: float | None = None,
    field_of_view: FieldOfView | Sequence[float] | None = None,
    columns: Mapping[str, str] | None = None,
    table: str | None = None,
) -> Localizations:
    """Read a table of localizations; the format is found by looking into the file.

    Lengths become nm, frames 0-based, and positions refer to the outer corner of the first camera
    pixel. The module of each format in `smlmkit.io` says how it gets there.

    Parameters
    ----------
    path : path-like
        The file: Picasso, SMAPpy or DECODE HDF5, ``.smlm``, SMAP, rapidSTORM, Zeiss Elyra, Nikon
        N-STORM, ONI Nanoimager, the SMLM challenge's or DECODE's CSV, ThunderSTORM, Parquet. What
        lies beside it and belongs to it, such as Picasso's YAML file, is found.
    format : str, optional
        Read the file as this format, whatever it looks like: "picasso", "smappy", "decode", "smlm",
        "smap", "rapidstorm", "elyra", "nstorm", "nanoimager", "challenge", "thunderstorm",
        "parquet", or "csv" for any other table in a text file.
    pixel_size : float, optional
        Edge of a camera pixel in nm. It is needed where lengths are in camera pixels and the file
        does not state it, and goes before what the file states.
    field_of_view : FieldOfView or (y_min, x_min, y_max, x_max), optional
        The box in nm that was imaged, instead of what the file states. Many formats do not state
        any: without it, they get the smallest box of whole nm around the rows.
    columns : mapping of str to str, optional
        Read any table in a text file: for each name of smlmkit the file's column, with its unit
        where the file does not state it, as in ``{"x": "PosX [um]", "y": "PosY [um]"}``.
    table : str, optional
        Read this one of the tables of a ``.smlm`` file.

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
    InvalidTypeError
        If `columns` is no mapping of names.

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
    name = format
    if name is None:
        name = find_format(file) if columns is None else "csv"
    check_choice("format", name, READ_FORMATS)
    module = _module_of(name)
    given = {"columns": columns, "table": table}
    options = {option: value for option, value in given.items() if value is not None}
    for option in options.keys() - inspect.signature(module.read).parameters.keys():
        raise InvalidInputError(f"{option}= means nothing to the {name} format")
    try:
        if not file.exists():
            raise FileFormatError(f"{file}: no such file")
        read: Localizations = module.read(file, pixel_size=size, field_of_view=box, **options)
    except OSError as error:
        raise _not_readable(file, error) from error
    return read


def write_localizations(
    localizations: Localizations,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,  # noqa: A002
    overwrite: bool = False,
    **options: Any,
) -> None:
    """Write a table of localizations.

    Parquet keeps everything exactly. The other formats are for other programs: their modules say
    what they cannot hold.

    Parameters
    ----------
    localizations : Localizations
        The table.
    path : path-like
        Where to write. The suffix names the format: ``.parquet``, ``.hdf5`` or ``.h5`` (Picasso,
        which also writes a ``.yaml`` file), ``.csv`` (ThunderSTORM), ``.smlm``.
    format : {"picasso", "thunderstorm", "smlm", "decode", "parquet"}, optional
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
    name = format_to_write(file) if format is None else format
    for option in options.keys() - options_to_write(name):
        raise InvalidTypeError(f"the {name} format takes no option {option!r}")
    _module_of(name).write(localizations, file, overwrite=overwrite, **options)


def format_to_write(path: Path) -> str:
    """Tell which format the suffix of an output names.

    Parameters
    ----------
    path : Path
        The output.

    Returns
    -------
    str
        The format, as `write_localizations` takes it.

    Raises
    ------
    InvalidInputError
        If the suffix names none.

    Examples
    --------
    >>> format_to_write(Path("blinks.csv"))
    'thunderstorm'
    """
    if path.suffix.lower() not in _FORMAT_OF_SUFFIX:
        raise InvalidInputError(
            f"{path}: the suffix names no format; known are {', '.join(_FORMAT_OF_SUFFIX)}, "
            "or pass format="
        )
    return _FORMAT_OF_SUFFIX[path.suffix.lower()]


def options_to_write(name: str) -> set[str]:
    """Tell which options a format's ``write`` takes.

    Parameters
    ----------
    name : str
        The format.

    Returns
    -------
    set of str
        The names of the options, without ``overwrite``, which all take.

    Raises
    ------
    InvalidInputError
        If tables are not written in such a format.

    Examples
    --------
    >>> sorted(options_to_write("picasso"))
    ['pixel_size', 'uncertainty']
    """
    check_choice("format", name, WRITTEN_FORMATS)
    parameters = inspect.signature(_module_of(name).write).parameters
    return set(parameters) - {"localizations", "path", "overwrite"}


def _recognize(file: BinaryIO, head: bytes) -> str | None:
    """Give the first format that recognizes a file, which nobody opens a second time."""
    for name, known in _FORMATS.items():
        if head.startswith(known.begins) and _module_of(name).recognizes(file, head):
            return name
    return None


def _not_readable(path: Path, error: OSError) -> FileFormatError:
    if isinstance(error, FileNotFoundError):
        return FileFormatError(f"{path}: no such file")
    return FileFormatError(f"{path}: cannot be read: {error.strerror or error}")


def _explain(path: Path, head: bytes) -> FileFormatError:
    """Say why a file is of no known format, as the reader sees it that is closest to it."""
    if not head:
        return FileFormatError(f"{path}: the file is empty")
    for begins, reader in _READER_OF_STRANGERS.items():
        if head.startswith(begins):
            try:
                read_localizations(path, format=reader)
            except FileFormatError as error:
                return error
    known = ", ".join(name for name in READ_FORMATS if name != "csv")
    return FileFormatError(
        f"{path}: its beginning is that of no known format ({known}). Any other table in a text "
        "file is read by naming its columns, as in columns={'x': 'PosX [um]', 'y': 'PosY [um]'}"
    )


def _is_something_else(path: Path) -> bool:
    """Tell whether a file of an ambiguous suffix holds no table."""
    if path.suffix.lower() not in _AMBIGUOUS_SUFFIXES:
        return False
    try:
        find_format(path)
    except FileFormatError:
        return True
    return False


def _module_of(name: str) -> Any:
    return importlib.import_module(f"smlmkit.io.{_FORMATS[name].module}")
