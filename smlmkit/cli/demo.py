"""The command that shows everything in a few minutes."""

from pathlib import Path

import click

from smlmkit.cli._shared import POSITIVE, output, seed

SCORE_NAMES = {
    "frc_area_0.2": "FRC area to 0.2",
    "frc_area_0.5": "FRC area to 0.5",
    "log_likelihood": "log-likelihood",
    "frc_resolution": "FRC resolution (nm)",
}


@click.command()
@click.argument("folder", type=output, default=Path("smlmkit-demo"))
@click.option("--minutes", type=POSITIVE, default=3.0, show_default=True, help="Time to train.")
@seed
def demo(folder: Path, minutes: float, seed: int) -> None:
    """Simulate acquisitions, train on them, reconstruct and score, all into FOLDER."""
    from smlmkit.demo import run_demo

    result = run_demo(folder, minutes=minutes, seed=seed, report=click.echo)
    click.echo("\nHalf of the blinks of a field that was not trained on, against the other half:\n")
    click.echo(result.scores.rename(columns=SCORE_NAMES).round(3).to_string())
    click.echo(f"\nmodel: {result.model}")
    click.echo("\n".join(f"picture: {path}" for path in result.pictures))
