"""The command that makes a page of a folder of reconstructions."""

from pathlib import Path

import click

from smlmkit.cli._shared import overwrite

folder_of_results = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("out", type=folder_of_results)
@overwrite
def report(out: Path, overwrite: bool) -> None:
    """Write OUT/report.html: what reconstruct made of a folder, on one page for any browser."""
    from smlmkit.report import write_report

    click.echo(str(write_report(out, overwrite=overwrite)))
