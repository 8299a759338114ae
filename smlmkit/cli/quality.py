"""The command that measures the resolution of tables."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from smlmkit._atomic import check_output
from smlmkit.cli._shared import (
    as_json,
    existing,
    find_tables,
    number_or_none,
    output,
    overwrite,
    pixel_size,
    reads_tables,
    refuse_existing,
    say_error,
    seed,
)
from smlmkit.errors import SmlmkitError

if TYPE_CHECKING:
    import pandas as pd

    from smlmkit.resolution import FRCCurve


@click.command()
@click.argument("inputs", nargs=-1, required=True, type=existing)
@pixel_size
@click.option(
    "--threshold",
    type=click.Choice(["1/7", "half-bit", "one-bit", "3-sigma"]),
    default="1/7",
    show_default=True,
)
@click.option(
    "--split",
    type=click.Choice(["auto", "frames", "random"]),
    default="auto",
    show_default=True,
    help="How a table is split in two.",
)
@click.option(
    "--q-correction",
    is_flag=True,
    help="With --split random, take off the correlation of blinks of one emitter.",
)
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--by-fraction",
    is_flag=True,
    help="Measure 1 % to 100 % of the localizations: would more of them resolve more?",
)
@click.option("--plot", type=output, metavar="PNG", help="Draw the curves.")
@seed
@reads_tables
@overwrite
@as_json
@click.pass_context
def frc(
    context: click.Context,
    /,
    inputs: tuple[Path, ...],
    repeats: int,
    by_fraction: bool,
    plot: Path | None,
    seed: int,
    reading: dict[str, Any],
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure the FRC resolution of tables, each split in two.

    A table that cannot be measured is reported and the others go on; the exit code is then 1.
    """
    from smlmkit.io.tables import read_localizations
    from smlmkit.resolution import frc_by_fraction, frc_curve

    if options["q_correction"] and options["split"] != "random":
        raise click.UsageError("--q-correction corrects --split random")
    if plot is not None:
        if plot.suffix.lower() != ".png":
            raise click.UsageError(f"--plot draws a PNG, not {plot.name!r}")
        refuse_existing([plot], overwrite)
        check_output(plot, overwrite=overwrite)
    tables = find_tables(inputs)
    curves: dict[str, FRCCurve] = {}
    fractions: dict[str, pd.DataFrame] = {}
    measured = []
    for path in tables:
        name = str(path)
        try:
            table = read_localizations(path, **reading)
            curve = frc_curve(table, repeats=repeats, random_state=seed, **options)
            facts = describe_curve(curve, name, len(table), table.density)
            if by_fraction:
                by_density = frc_by_fraction(table, repeats=repeats, random_state=seed, **options)
                fractions[name] = by_density
                facts["by_fraction"] = json.loads(by_density.to_json(orient="records"))
        except SmlmkitError as error:
            say_error(error, path)
            continue
        curves[name] = curve
        measured.append(facts)
    if as_json:
        click.echo(json.dumps(measured, indent=1))
    elif measured:
        click.echo(tabulate(measured))
        for name, by_density in fractions.items():
            click.echo(f"\n{name}, by fraction of its localizations:\n{write_table(by_density)}")
    if plot is not None and measured:
        from smlmkit._charts import save_frc

        save_frc(curves, fractions, plot, overwrite=overwrite)
    failed = len(tables) - len(measured)
    if failed:
        click.echo(f"{failed} of {len(tables)} tables could not be measured", err=True)
        context.exit(1)


def describe_curve(curve: "FRCCurve", name: str, n: int, density: float) -> dict[str, Any]:
    """Give the facts that `frc` prints; None for what there is not."""
    return {
        "file": name,
        "localizations": n,
        "density_per_um2": round(density, 3),
        "resolution_nm": number_or_none(curve.resolution),
        "resolution_sd_nm": number_or_none(curve.resolution_sd),
        "resolution_error_nm": number_or_none(curve.resolution_error),
        "area_0.2": number_or_none(curve.area(0.2)),
        "threshold": curve.threshold,
        "q": number_or_none(curve.q),
        "reason": curve.reason,
    }


def tabulate(measured: list[dict[str, Any]]) -> str:
    """Write a table for people: a line a file, and below why one has no resolution."""
    import pandas as pd

    titles = {
        "file": "file",
        "localizations": "localizations",
        "density_per_um2": "per µm²",
        "resolution_nm": "resolution (nm)",
        "resolution_sd_nm": "sd",
        "area_0.2": "area to 0.2",
        "q": "Q",
    }
    rows = pd.DataFrame(measured)[list(titles)].astype({"q": float}).dropna(axis=1, how="all")
    text = write_table(rows.rename(columns=titles))
    reasons = [f"{facts['file']}: {facts['reason']}" for facts in measured if facts["reason"]]
    return "\n".join([text, *reasons])


def write_table(table: "pd.DataFrame") -> str:
    """Write a table in aligned columns, numbers with four digits."""
    return table.to_string(index=False, float_format="{:.4g}".format, na_rep="-")
