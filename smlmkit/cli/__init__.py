"""The command line: thin commands over the library.

Exit codes: 0 success; 1 an error, said on stderr as ``smlmkit: error: ...``; 2 wrong usage;
130 interrupted by Ctrl-C. Heavy libraries are imported inside the commands, so that help is quick.
"""

import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

import click

from smlmkit import __version__
from smlmkit.cli._shared import say_error
from smlmkit.cli.demo import demo
from smlmkit.cli.learn import train
from smlmkit.cli.quality import frc
from smlmkit.cli.reconstruct import reconstruct
from smlmkit.cli.render import render
from smlmkit.cli.report import report
from smlmkit.cli.tables import convert, info, simulate
from smlmkit.errors import SmlmkitError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="smlmkit")
def commands() -> None:
    """Super-resolved images from single-molecule localizations.

    INPUTS are tables of localizations (Picasso .hdf5, ThunderSTORM .csv, .parquet, .smlm, SMAP
    .mat and others) or folders of them.
    """


for command in (info, convert, render, frc, train, reconstruct, report, simulate, demo):
    commands.add_command(command)


def say_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning without Python's file and line."""
    click.echo(f"smlmkit: warning: {message}", err=True)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with its code."""
    warnings.showwarning = say_warning
    try:
        code = commands.main(arguments, prog_name="smlmkit", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("smlmkit: interrupted", err=True)
        sys.exit(130)
    except (SmlmkitError, MemoryError) as error:
        say_error(error)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)
