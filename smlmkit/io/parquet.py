"""Parquet: smlmkit's own format for tables, which keeps everything exactly.

The schema's metadata hold, under ``smlmkit``, a JSON object with the format's ``version``, the
``field_of_view`` (nm; y_min, x_min, y_max, x_max) and the table's ``metadata``. Columns of lengths
carry the ``unit`` nm. Whatever else reads Parquet reads these files too.
"""

import json
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from smlmkit._atomic import whole_or_nothing
from smlmkit.errors import FileFormatError, InvalidInputError
from smlmkit.grid import FieldOfView, check_field_of_view
from smlmkit.io._common import LENGTHS, known_metadata, table_from_file
from smlmkit.localizations import Localizations

NOTE_KEY = b"smlmkit"
NOTE_VERSION = 1
_SIGNATURE = b"PAR1"
# A small file can claim any number of equal rows: one that would fill more memory than this is
# refused unless the file itself is large. No real positions compress a thousandfold.
_LARGE_TABLE_BYTES = 2**30
_HIGHEST_COMPRESSION = 1000


def recognizes(file: BinaryIO, head: bytes) -> bool:
    """Tell whether a file begins as Parquet does.

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
    >>> recognizes(io.BytesIO(b"PAR1"), b"PAR1"), recognizes(io.BytesIO(b"x,y"), b"x,y")
    (True, False)
    """
    del file
    return head.startswith(_SIGNATURE)


def read(
    path: Path, *, pixel_size: float | None = None, field_of_view: FieldOfView | None = None
) -> Localizations:
    """Read a Parquet file.

    A file that smlmkit wrote gives the table as it was. Any other file is read as it is if it has
    columns x and y: lengths must be in nm and frames 0-based.

    Parameters
    ----------
    path : Path
        The file.
    pixel_size : float, optional
        Without meaning here: lengths are nm.
    field_of_view : FieldOfView, optional
        The box in nm that was imaged, instead of what the file states; the smallest box of whole
        nm around the rows if it states none.

    Returns
    -------
    Localizations
        The table. Missing numbers become NaN, missing text None.

    Raises
    ------
    FileFormatError
        If the file is damaged, of a later version of smlmkit, or has a column of another kind than
        numbers, text and times.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "foreign.parquet")
    ...     pq.write_table(pa.table({"x": [10.0, 1290.0], "y": [5.0, 6.0]}), file)
    ...     blinks = read(file)
    >>> blinks.field_of_view.width, blinks.metadata
    (1281.0, {'format': 'parquet', 'source': 'foreign.parquet'})
    """
    del pixel_size
    try:
        with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=True) as file:
            check_size(path, file.metadata, path.stat().st_size)
            check_types(path, file.schema_arrow)
            table = file.read()
        columns = {name: table[name].to_numpy() for name in table.column_names}
    except FileFormatError:
        raise
    except (OSError, ValueError, TypeError, KeyError, MemoryError, pa.ArrowException) as error:
        raise FileFormatError(f"{path}: the Parquet file is damaged: {error}") from error
    stated = (table.schema.metadata or {}).get(NOTE_KEY)
    if stated is None:
        metadata = known_metadata(path, "parquet")
        return table_from_file(path, columns, field_of_view, metadata)
    box, metadata = parse_note(path, stated)
    return table_from_file(path, columns, field_of_view or box, metadata)


def write(localizations: Localizations, path: Path, *, overwrite: bool = False) -> None:
    """Write a Parquet file, from which `read` gives an equal table.

    Parameters
    ----------
    localizations : Localizations
        The table.
    path : Path
        Where to write.
    overwrite : bool, default=False
        Whether a file that stands there is replaced.

    Raises
    ------
    InvalidInputError
        If a column holds something else than numbers, text or times.
    OutputError
        If the file exists and is not to be replaced, or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> blinks = Localizations({"x": [10.5], "y": [20.0], "photons": [900]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(blinks, Path(folder, "blinks.parquet"))
    ...     schema = pq.read_schema(Path(folder, "blinks.parquet"))
    >>> schema.field("x").metadata[b"unit"]
    b'nm'
    """
    arrays = {name: to_arrow(name, localizations[name]) for name in localizations}
    fields = [
        pa.field(name, array.type, metadata={"unit": "nm"} if name in LENGTHS else None)
        for name, array in arrays.items()
    ]
    note = {
        "version": NOTE_VERSION,
        "field_of_view": localizations.field_of_view,
        "metadata": localizations.metadata,
    }
    schema = pa.schema(fields, metadata={NOTE_KEY: json.dumps(note)})
    table = pa.Table.from_arrays(list(arrays.values()), schema=schema)
    with whole_or_nothing(path, overwrite=overwrite) as partial:
        pq.write_table(table, partial, compression="zstd", write_page_checksum=True)


def check_size(path: Path, claimed: pq.FileMetaData, file_bytes: int) -> None:
    """Refuse a file that claims more rows than it can hold.

    Parameters
    ----------
    path : Path
        The file, for the message.
    claimed : FileMetaData
        What its footer says.
    file_bytes : int
        How large it is.

    Raises
    ------
    FileFormatError
        If the rows would fill a thousand times as much memory, and more than a GiB.
    """
    table_bytes = 8 * claimed.num_rows * claimed.num_columns
    if table_bytes > max(_LARGE_TABLE_BYTES, _HIGHEST_COMPRESSION * file_bytes):
        raise FileFormatError(
            f"{path}: a file of {file_bytes:,} bytes cannot hold the {claimed.num_rows:,} rows of "
            f"{claimed.num_columns} columns that it claims"
        )


def check_types(path: Path, schema: pa.Schema) -> None:
    """Refuse a file with a column of anything but numbers, text and times.

    Parameters
    ----------
    path : Path
        The file, for the message.
    schema : Schema
        Its columns.

    Raises
    ------
    FileFormatError
        If there is such a column.
    """
    for field in schema:
        if not _is_plain(field.type):
            raise FileFormatError(
                f"{path}: column {field.name!r} is of type {field.type}, "
                "expected numbers, text or times"
            )


def _is_plain(kind: pa.DataType) -> bool:
    tests = (
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_boolean,
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_temporal,
    )
    return any(test(kind) for test in tests)


def parse_note(path: Path, stated: bytes) -> tuple[FieldOfView, dict[str, Any]]:
    """Read what the schema's metadata say of a table.

    Parameters
    ----------
    path : Path
        The file, for messages.
    stated : bytes
        The JSON under ``smlmkit``.

    Returns
    -------
    field_of_view : FieldOfView
        The box in nm that was imaged.
    metadata : dict
        What else is known of the acquisition.

    Raises
    ------
    FileFormatError
        If it is damaged or of another version.
    """
    try:
        note = json.loads(stated)
        if note["version"] != NOTE_VERSION:
            raise FileFormatError(
                f"{path}: written in version {note['version']} of the format; "
                f"this smlmkit knows version {NOTE_VERSION}"
            )
        return check_field_of_view(note["field_of_view"]), dict(note["metadata"])
    except FileFormatError:
        raise
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: the schema metadata are damaged: {error!r}") from error


def to_arrow(name: str, values: NDArray[Any]) -> pa.Array:
    """Give a column as Parquet holds it.

    Parameters
    ----------
    name : str
        The column's name, for messages.
    values : ndarray of shape (n,)
        The column.

    Returns
    -------
    Array
        The same values.

    Raises
    ------
    InvalidInputError
        If it holds something else than numbers, text or times.
    """
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    try:
        # In a column of Python objects, None and NaN both stand for missing text.
        array = pa.array(native, from_pandas=native.dtype.kind == "O")
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise InvalidInputError(
            f"column {name!r} (dtype {values.dtype}) cannot be written as Parquet: {error}"
        ) from error
    if not _is_plain(array.type):
        raise InvalidInputError(
            f"column {name!r} cannot be written as Parquet: it holds {array.type}, "
            "expected numbers, text or times"
        )
    return array
