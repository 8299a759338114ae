"""What the commands share: options, and files that are found, read or refused."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from smlmkit.errors import OutputError

if TYPE_CHECKING:
    from smlmkit.localizations import Localizations

POSITIVE = click.FloatRange(min=0, min_open=True)

existing = click.Path(exists=True, path_type=Path)
output = click.Path(path_type=Path)

camera_pixel_size = click.option(
    "--camera-pixel-size",
    type=float,
    metavar="NM",
    help="Camera pixel size in nm, for tables that do not state it.",
)
pixel_size = click.option(
    "--pixel-size", type=float, default=10.0, show_default=True, help="Image pixel size in nm."
)
seed = click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
overwrite = click.option("--overwrite", is_flag=True, help="Replace existing outputs.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


def find_tables(inputs: Sequence[Path]) -> list[Path]:
    """List the tables that files and folders name."""
    from smlmkit.io.tables import list_tables

    return [table for path in inputs for table in (list_tables(path) if path.is_dir() else [path])]


def read_table(path: Path, camera_pixel_size: float | None) -> "Localizations":
    """Read one table."""
    from smlmkit.io.tables import read_localizations

    return read_localizations(path, pixel_size=camera_pixel_size)


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
    text = f"{place}{message}".encode(errors="backslashreplace").decode()
    click.echo(f"smlmkit: error: {text}", err=True)
