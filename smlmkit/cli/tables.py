"""Commands about tables: what is in them, and simulated ones."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from smlmkit.cli._shared import (
    as_json,
    camera_pixel_size,
    existing,
    find_tables,
    output,
    overwrite,
    read_table,
    seed,
)

if TYPE_CHECKING:
    from smlmkit.localizations import Localizations


@click.command()
@click.argument("inputs", nargs=-1, required=True, type=existing)
@camera_pixel_size
@as_json
def info(inputs: tuple[Path, ...], camera_pixel_size: float | None, as_json: bool) -> None:
    """Say what is in tables of localizations."""
    described = []
    for path in find_tables(inputs):
        facts = describe(path, read_table(path, camera_pixel_size))
        described.append(facts)
        if not as_json:
            click.echo("\n".join(f"{name:>24}: {value}" for name, value in facts.items()) + "\n")
    if as_json:
        click.echo(json.dumps(described, indent=1))


def describe(path: Path, localizations: "Localizations") -> dict[str, Any]:
    """Give the facts that `info` prints."""
    box = localizations.field_of_view
    facts: dict[str, Any] = {
        "file": str(path),
        "format": localizations.metadata.get("format", "unknown"),
        "localizations": len(localizations),
        "columns": ", ".join(localizations.columns),
        "field of view (nm)": f"y {box.y_min:g} to {box.y_max:g}, x {box.x_min:g} to {box.x_max:g}",
        "density (per µm²)": round(localizations.density, 3),
    }
    if "frame" in localizations and len(localizations):
        frame = localizations["frame"]
        facts["frames (0-based)"] = f"{frame.min()} to {frame.max()}"
    if (median := localizations.median_uncertainty) is not None:
        facts["median uncertainty (nm)"] = round(median, 3)
    return facts


@click.command()
@click.argument("folder", type=output)
@click.option("--acquisitions", "-n", type=click.IntRange(1), default=4, show_default=True)
@click.option("--field-size", type=float, default=20_000.0, show_default=True, help="Side in nm.")
@click.option("--filaments", type=click.IntRange(1), default=20, show_default=True)
@click.option("--density", type=float, default=500.0, show_default=True, help="Per µm².")
@click.option("--uncertainty", type=float, default=10.0, show_default=True, help="Median, nm.")
@click.option("--blinks-per-emitter", type=float, default=5.0, show_default=True)
@seed
@overwrite
def simulate(
    folder: Path, acquisitions: int, filaments: int, seed: int, overwrite: bool, **parameters: float
) -> None:
    """Simulate acquisitions of filaments as Picasso files in FOLDER."""
    from smlmkit.simulate.datasets import make_acquisitions

    paths = make_acquisitions(
        folder,
        acquisitions,
        n_filaments=filaments,
        random_state=seed,
        overwrite=overwrite,
        **parameters,
    )
    for path in paths:
        click.echo(str(path))
