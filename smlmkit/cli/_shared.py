"""What the commands share: options, and files that are found, read or refused."""

import ast
import functools
import math
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from smlmkit.errors import OutputError

POSITIVE = click.FloatRange(min=0, min_open=True)

existing = click.Path(exists=True, path_type=Path)
output = click.Path(path_type=Path)

_CAMERA_PIXEL_SIZE: dict[str, Any] = {
    "type": float,
    "metavar": "NM",
    "help": "Camera pixel size in nm, for tables that do not state it.",
}
camera_pixel_size = click.option("--camera-pixel-size", **_CAMERA_PIXEL_SIZE)
pixel_size = click.option(
    "--pixel-size", type=float, default=10.0, show_default=True, help="Image pixel size in nm."
)
seed = click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
overwrite = click.option("--overwrite", is_flag=True, help="Replace existing outputs.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def split_columns(
    context: click.Context,  # noqa: ARG001
    parameter: click.Parameter,  # noqa: ARG001
    given: Sequence[str],
) -> dict[str, str] | None:
    """Give the column of the file for each name, or say what is wrong with an option."""
    columns: dict[str, str] = {}
    for pair in given:
        name, _, column = pair.partition("=")
        if not name or not column:
            raise click.BadParameter(f"{pair!r} is not of the kind NAME=COLUMN")
        if name in columns:
            raise click.BadParameter(f"{name!r} is given twice")
        columns[name] = column
    return columns or None


# The option of each parameter of `read_localizations`.
_READING: dict[str, tuple[str, dict[str, Any]]] = {
    "format": (
        "--input-format",
        {
            "metavar": "FORMAT",
            "help": "Format of the input, which is found by looking into it otherwise.",
        },
    ),
    "pixel_size": ("--camera-pixel-size", _CAMERA_PIXEL_SIZE),
    "field_of_view": (
        "--field-of-view",
        {
            "type": float,
            "nargs": 4,
            "metavar": "Y_MIN X_MIN Y_MAX X_MAX",
            "help": "The box in nm that was imaged, for tables that do not state it.",
        },
    ),
    "columns": (
        "--column",
        {
            "metavar": "NAME=COLUMN",
            "multiple": True,
            "callback": split_columns,
            "help": "Read any table in a text file, in which a column of smlmkit has this name and "
            "unit, as in x='PosX [um]'. Once for each column.",
        },
    ),
    "table": (
        "--table",
        {"metavar": "NAME", "help": "Read this one of the tables of a .smlm file."},
    ),
}


def reads_tables(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of `read_localizations`, as one mapping: ``reading``."""

    @functools.wraps(command)
    def with_reading(*arguments: Any, **parameters: Any) -> Any:
        given = {name: parameters.pop(f"read_{name}") for name in _READING}
        reading = {name: value for name, value in given.items() if value is not None}
        return command(*arguments, reading=reading, **parameters)

    for name, (flag, settings) in reversed(_READING.items()):
        with_reading = click.option(flag, f"read_{name}", **settings)(with_reading)
    return with_reading


# What errors of the library tell to pass, and the option that passes it.
_OPTIONS = {name: flag for name, (flag, _) in _READING.items()} | {
    "format": "--format",
    "uncertainty": "--uncertainty",
    "overwrite": "--overwrite",
    "redo": "--redo",
}
_PARAMETER = re.compile(rf"(?<!\S)({'|'.join(_OPTIONS)})=(True|{{.*}})?(?![^\s,;:.)])")


def name_options(message: str) -> str:
    """Name options where a message of the library names Python's parameters."""

    def name_option(found: re.Match[str]) -> str:
        parameter, value = found.groups()
        flag = _OPTIONS[parameter]
        if parameter != "columns" or value is None:
            return flag
        try:
            columns = ast.literal_eval(value).items()
        except (ValueError, SyntaxError, AttributeError):
            return flag
        return " ".join(f"{flag} {shlex.quote(f'{name}={column}')}" for name, column in columns)

    return _PARAMETER.sub(name_option, message)


def find_tables(inputs: Sequence[Path]) -> list[Path]:
    """List the tables that files and folders name."""
    from smlmkit.io.tables import list_tables

    return [table for path in inputs for table in (list_tables(path) if path.is_dir() else [path])]


def refuse_existing(paths: Sequence[Path], overwrite: bool) -> None:
    """Stop before work starts if an output is there already."""
    there = [str(path) for path in paths if path.exists()]
    if there and not overwrite:
        raise OutputError(f"{', '.join(there)}: exists already; --overwrite replaces it")


def number_or_none(value: float) -> float | None:
    """Give None for nan, which JSON does not have."""
    return None if math.isnan(value) else value


def say_error(error: Exception, file: Path | None = None) -> None:
    """Print an error for people and scripts, with the file that it is about.

    A bare MemoryError has no words of its own; errors of reading name the file themselves.
    """
    message = str(error) or "not enough memory"
    place = "" if file is None or str(file) in message else f"{file}: "
    # Names of files and columns may hold bytes that are no text.
    text = f"{place}{name_options(message)}".encode(errors="backslashreplace").decode()
    click.echo(f"smlmkit: error: {text}", err=True)
