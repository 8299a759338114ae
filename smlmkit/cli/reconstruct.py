"""The command that reconstructs whole folders of acquisitions."""

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from smlmkit.cli._shared import camera_pixel_size, existing, output, say_error, seed
from smlmkit.errors import SmlmkitError

if TYPE_CHECKING:
    import pandas as pd
    from distributed import Client


@click.command()
@click.argument("folder", type=existing)
@click.argument("out", type=output)
@click.option("--model", "-m", type=existing, help="What train wrote.")
@click.option(
    "--pipeline",
    "-p",
    type=existing,
    metavar="YAML",
    help="Steps and their parameters: a list such as '- Renderer: {pixel_size: 10}'.",
)
@click.option(
    "--train",
    type=click.Choice(["each", "pooled"]),
    help="Train the network of --pipeline first: on each acquisition one, or one on all.",
)
@click.option(
    "--scheduler", metavar="ADDRESS", help="Use the Dask cluster there, such as tcp://host:8786."
)
@click.option("--workers", type=click.IntRange(1), help="Start so many processes here.")
@click.option("--slurm", type=click.IntRange(1), help="Have SLURM start so many workers.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(["ome-zarr", "tiff", "png"]),
    default=["ome-zarr", "png"],
    show_default=True,
    help="May be given several times. OME-Zarr is always written.",
)
@click.option("--tile", type=int, metavar="PX", help="Side of a tile; by default what suits.")
@click.option(
    "--ngff",
    type=click.Choice(["0.5", "0.4"]),
    default="0.5",
    show_default=True,
    help="Version of OME-Zarr.",
)
@click.option(
    "--pyramid",
    type=click.Choice(["mean", "sum", "none"]),
    default="mean",
    show_default=True,
    help="How pixels are joined in the coarser levels.",
)
@click.option("--tta", is_flag=True, help="Average over the eight flips and quarter turns.")
@click.option(
    "--deviation", is_flag=True, help="Also write where the opinions differ, as *_deviation."
)
@click.option("--device", help="Of the network: cpu, cuda, ...; by default a GPU if there is one.")
@seed
@camera_pixel_size
@click.option("--redo", is_flag=True, help="Replace results of other parameters or files.")
@click.pass_context
def reconstruct(
    context: click.Context,
    /,
    folder: Path,
    out: Path,
    model: Path | None,
    pipeline: Path | None,
    scheduler: str | None,
    workers: int | None,
    slurm: int | None,
    pyramid: str,
    tta: bool,
    device: str | None,
    **options: Any,
) -> None:
    """Reconstruct every acquisition in FOLDER, of any size, and measure the results in OUT.

    Of each there are an OME-Zarr, a record and a row in summary.csv. An acquisition that fails is
    recorded and the others go on; the exit code is then 1. After Ctrl-C or a crash, the same
    command goes on where it stopped. For a page with images and curves: smlmkit report OUT.
    """
    if sum(value is not None for value in (scheduler, workers, slurm)) > 1:
        raise click.UsageError("give one of --scheduler, --workers and --slurm")
    if options["train"] is not None and pipeline is None:
        raise click.UsageError("--train needs a --pipeline that ends with N2NReconstructor")
    estimator = make_estimator(model, pipeline, tta=tta, device=device)
    from smlmkit.batch.folder import reconstruct_folder

    with _interrupts_answered(), cluster(scheduler, workers, slurm) as client:
        if client is not None:
            click.echo(f"dashboard: {client.dashboard_link}", err=True)
        try:
            summary = reconstruct_folder(
                estimator,
                folder,
                out,
                client=client,
                pyramid=None if pyramid == "none" else pyramid,  # type: ignore[arg-type]
                command=shlex.join(sys.argv),
                **options,
            )
        except KeyboardInterrupt:
            click.echo("smlmkit: interrupted; the same command goes on from here", err=True)
            context.exit(130)
    n_failed = say_results(summary, folder, out)
    if n_failed:
        click.echo(_say_counts(len(summary), summary.attrs["n_tried"], n_failed), err=True)
        context.exit(1)


def make_estimator(
    model: Path | None, pipeline: Path | None, *, tta: bool, device: str | None
) -> Any:
    """Read what shall make the images."""
    if (model is None) == (pipeline is None):
        raise click.UsageError("give either --model or --pipeline")
    estimator: Any
    if model is not None:
        from smlmkit.reconstruct import load_model

        estimator = learner = load_model(model)
    else:
        from smlmkit.pipelines import read_pipeline

        estimator = read_pipeline(pipeline)  # type: ignore[arg-type]
        learner = estimator[-1]
    changes: dict[str, Any] = {"tta": True} if tta else {}
    if device is not None:
        changes["device"] = device
    if unknown := changes.keys() - learner.get_params(deep=False).keys():
        names = " and ".join(f"--{name}" for name in sorted(unknown))
        raise click.UsageError(f"{names}: the pipeline ends with no network")
    learner.set_params(**changes)
    return estimator


@contextmanager
def cluster(
    scheduler: str | None, workers: int | None, slurm: int | None
) -> "Iterator[Client | None]":
    """Give the Dask cluster that was asked for, if any."""
    from smlmkit.batch.cluster import connect, local_workers, slurm_workers

    with ExitStack() as stack:
        if scheduler is not None:
            yield stack.enter_context(connect(scheduler))
        elif workers is not None:
            yield stack.enter_context(local_workers(workers))
        elif slurm is not None:
            yield stack.enter_context(slurm_workers(slurm))
        else:
            yield None


def say_results(summary: "pd.DataFrame", folder: Path, out: Path) -> int:
    """Print where the images are and what failed; give how many failed."""
    failed = summary[summary["status"] == "failed"]
    tables = folder if folder.is_dir() else folder.parent
    for file, error in zip(failed["file"], failed["error"], strict=True):
        say_error(SmlmkitError(error), tables / file)
    for image in summary["image"].dropna():
        click.echo(str(out / image))
    click.echo(str(out / "summary.csv"))
    return len(failed)


def _say_counts(n_all: int, n_tried: int, n_failed: int) -> str:
    if n_tried == n_all:
        return f"{n_failed} of {n_all} acquisitions failed"
    return f"{n_all - n_tried} done before, {n_tried} tried, {n_failed} failed"


@contextmanager
def _interrupts_answered() -> Iterator[None]:
    """Answer the first Ctrl-C at once, for it may take a while until all is in order."""

    def answer(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # Not by echo, which may be at work itself when this interrupts it.
        os.write(2, b"smlmkit: stopping; jobs at work are finished first\n")
        signal.default_int_handler(number, frame)

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # somebody else's
        yield
        return
    signal.signal(signal.SIGINT, answer)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
