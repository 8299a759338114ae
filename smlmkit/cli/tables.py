"""Commands about tables: what is in them, the same in another format, and simulated ones."""

import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from smlmkit._atomic import check_output
from smlmkit.cli._shared import (
    POSITIVE,
    as_json,
    existing,
    find_tables,
    name_options,
    output,
    overwrite,
    reads_tables,
    refuse_existing,
    say_error,
    seed,
)
from smlmkit.errors import SmlmkitError, UnusedRowsWarning

if TYPE_CHECKING:
    from smlmkit.localizations import Localizations

_TRUTH_PIXEL_SIZE = 10.0


@click.command()
@click.argument("inputs", nargs=-1, required=True, type=existing)
@reads_tables
@as_json
@click.pass_context
def info(
    context: click.Context, /, inputs: tuple[Path, ...], reading: dict[str, Any], as_json: bool
) -> None:
    """Say what is in tables of localizations, and which of their rows cannot be used.

    A table that cannot be read is reported and the others go on; the exit code is then 1.
    """
    described = []
    for path in find_tables(inputs):
        try:
            facts = describe(path, reading)
        except SmlmkitError as error:
            say_error(error, path)
            described.append({"file": str(path), "error": name_options(str(error))})
            continue
        described.append(facts)
        if not as_json:
            click.echo(f"{write_facts(facts)}\n")
    if as_json:
        click.echo(json.dumps(described, indent=1))
    failed = sum("error" in facts for facts in described)
    if failed and len(described) > 1:
        click.echo(f"{failed} of {len(described)} tables could not be read", err=True)
    context.exit(bool(failed))


def describe(path: Path, reading: dict[str, Any]) -> dict[str, Any]:
    """Give the facts that `info` prints."""
    from smlmkit.io._common import LENGTHS
    from smlmkit.io.tables import find_format

    # What the metadata call the format may be that of another file, of which this one was made.
    name = reading.get("format") or ("csv" if "columns" in reading else find_format(path))
    localizations, unused = read_and_list_unused(path, {**reading, "format": name})
    box, metadata = localizations.field_of_view, localizations.metadata
    facts: dict[str, Any] = {
        "file": str(path),
        "format": name,
        "localizations": len(localizations),
        "columns": {name: "nm" if name in LENGTHS else None for name in localizations.columns},
        "field of view (nm)": f"y {box.y_min:g} to {box.y_max:g}, x {box.x_min:g} to {box.x_max:g}",
        "density (per µm²)": round(localizations.density, 3),
    }
    if "frame" in localizations and len(localizations):
        frame = localizations["frame"]
        of_all = f" of {metadata['n_frames']}" if "n_frames" in metadata else ""
        facts["frames (0-based)"] = f"{frame.min()} to {frame.max()}{of_all}"
    for side in ("", "_y", "_x"):
        if f"camera_pixel_size{side}" in metadata:
            named = f"camera pixel size{side.replace('_', ' ')} (nm)"
            facts[named] = metadata[f"camera_pixel_size{side}"]
    if (median := localizations.median_uncertainty) is not None:
        facts["median uncertainty (nm)"] = round(median, 3)
    facts["unused rows"] = unused
    return facts


def read_and_list_unused(
    path: Path, reading: dict[str, Any]
) -> tuple["Localizations", list[dict[str, Any]]]:
    """Read a table; list the rows that could not be used, which are warned of all the same."""
    from smlmkit.io.tables import read_localizations

    unused: list[dict[str, Any]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", UnusedRowsWarning)
        say = warnings.showwarning

        def say_and_list(message: Warning | str, *where: Any, **how: Any) -> None:
            if isinstance(message, UnusedRowsWarning):
                unused.extend(describe_unused(message))
            say(message, *where, **how)

        warnings.showwarning = say_and_list
        return read_localizations(path, **reading), unused


def describe_unused(warning: UnusedRowsWarning) -> list[dict[str, Any]]:
    """Give the reasons that a warning of unused rows knows, or else what it says."""
    return [
        {"reason": reason, "count": rows.n, "first_rows": rows.first}
        for reason, rows in warning.reasons.items()
    ] or [{"reason": str(warning)}]


def write_facts(facts: dict[str, Any]) -> str:
    """Write the facts about a table for people: a line each, and one for each reason."""
    columns = [f"{name} ({unit})" if unit else name for name, unit in facts["columns"].items()]
    unused = [write_reason(**reason) for reason in facts["unused rows"]] or ["none"]
    told = facts | {"columns": ", ".join(columns), "unused rows": f"\n{'':>26}".join(unused)}
    return "\n".join(f"{name:>24}: {value}" for name, value in told.items())


def write_reason(reason: str, count: int = 0, first_rows: Sequence[int] = ()) -> str:
    """Write why rows are not used and, as far as it is known, which."""
    if not count:
        return reason
    numbers = ", ".join(map(str, first_rows))
    return f"{count:,} {reason} (counted from 0: {numbers}{', ...' * (count > len(first_rows))})"


@click.command()
@click.argument("table", metavar="IN", type=existing)
@click.argument("output", metavar="OUT", type=output)
@click.option(
    "--format",
    "output_format",
    metavar="FORMAT",
    help="Format of OUT, whatever its suffix: picasso, thunderstorm, smlm, decode or parquet.",
)
@reads_tables
@click.option(
    "--uncertainty",
    type=POSITIVE,
    metavar="NM",
    help="Uncertainty of all localizations, for Picasso, which needs one.",
)
@overwrite
def convert(
    table: Path,
    output: Path,
    output_format: str | None,
    reading: dict[str, Any],
    uncertainty: float | None,
    overwrite: bool,
) -> None:
    """Convert the table IN to OUT: .parquet, .hdf5 (Picasso), .csv (ThunderSTORM), .smlm."""
    from smlmkit.io.tables import (
        format_to_write,
        options_to_write,
        read_localizations,
        write_localizations,
    )

    name = output_format or format_to_write(output)
    known = options_to_write(name)
    if uncertainty is not None and "uncertainty" not in known:
        raise click.UsageError(f"--uncertainty means nothing to the {name} format")
    refuse_existing([output], overwrite)
    check_output(output, overwrite=overwrite)
    localizations = read_localizations(table, **reading)
    given = {"pixel_size": reading.get("pixel_size"), "uncertainty": uncertainty}
    options = {
        option: value for option, value in given.items() if option in known and value is not None
    }
    write_localizations(localizations, output, format=name, overwrite=overwrite, **options)
    click.echo(f"{output}: {len(localizations):,} localizations, {name}")


@click.command()
@click.argument("folder", type=output)
@click.option("--acquisitions", "-n", type=click.IntRange(1), default=4, show_default=True)
@click.option(
    "--structure",
    type=click.Choice(["microtubules", "actin", "primitives"]),
    default="microtubules",
    show_default=True,
)
@click.option("--field-size", type=POSITIVE, help="Side in nm; the structure's own by default.")
@click.option("--filaments", type=click.IntRange(1), help="Single filaments; 20 by default.")
@click.option("--density", type=POSITIVE, default=500.0, show_default=True, help="Per µm².")
@click.option("--uncertainty", type=POSITIVE, default=10.0, show_default=True, help="Median, nm.")
@click.option("--blinks-per-emitter", type=float, default=5.0, show_default=True)
@click.option("--frames", "n_frames", type=click.IntRange(1), default=10_000, show_default=True)
@click.option("--truth", is_flag=True, help="Also write fov_NN_truth.tif, the expected image.")
@seed
@overwrite
def simulate(
    folder: Path,
    acquisitions: int,
    structure: str,
    field_size: float | None,
    filaments: int | None,
    truth: bool,
    seed: int,
    overwrite: bool,
    **parameters: Any,
) -> None:
    """Simulate acquisitions as Picasso files in FOLDER."""
    from smlmkit.io.images import write_image
    from smlmkit.simulate import make_acquisitions, make_actin, make_microtubules, make_primitives

    if filaments is not None and structure == "primitives":
        raise click.UsageError("--filaments means nothing to primitives")
    makers: dict[str, Callable[..., Any]] = {
        "microtubules": make_microtubules,
        "actin": make_actin,
        "primitives": make_primitives,
    }
    given = {"field_size": field_size, "n_filaments": filaments}
    parameters |= {name: value for name, value in given.items() if value is not None}
    paths, truths = make_acquisitions(
        folder,
        acquisitions,
        make=makers[structure],
        random_state=seed,
        overwrite=overwrite,
        **parameters,
    )
    for path, drawn_from in zip(paths, truths, strict=True):
        click.echo(str(path))
        if truth:
            image = path.with_name(f"{path.stem}_truth.tif")
            write_image(drawn_from.image(_TRUTH_PIXEL_SIZE), image, overwrite=overwrite)
            click.echo(str(image))
