"""Commands that train Noise2Noise and reconstruct with it."""

from pathlib import Path
from typing import Any

import click

from smlmkit._atomic import check_output, make_folder
from smlmkit.cli._shared import (
    POSITIVE,
    camera_pixel_size,
    existing,
    find_tables,
    output,
    overwrite,
    pixel_size,
    read_table,
    refuse_duplicates,
    refuse_existing,
    say_error,
    seed,
)
from smlmkit.errors import SmlmkitError

IMAGE_SUFFIXES = {"ome-zarr": ".ome.zarr", "tiff": ".tif", "png": ".png"}


@click.command()
@click.argument("inputs", nargs=-1, required=True, type=existing)
@click.option("--out", "-o", required=True, type=output, help="The model file, *.smlmkit.")
@click.option(
    "--strategy",
    type=click.Choice(["dynamic", "fixed"]),
    default="dynamic",
    show_default=True,
    help="Draw every training pair anew, or split every table once.",
)
@pixel_size
@click.option("--patch-size", type=int, default=64, show_default=True, help="In pixels.")
@click.option("--width", type=int, default=48, show_default=True, help="Filters a convolution.")
@click.option("--depth", type=int, default=4, show_default=True, help="Levels of the U-Net.")
@click.option("--batch-size", type=int, default=128, show_default=True)
@click.option("--max-samples", type=int, default=1_000_000, show_default=True)
@click.option("--max-minutes", type=POSITIVE, help="Time limit of training.")
@click.option("--learning-rate", type=float, default=1e-4, show_default=True)
@click.option(
    "--schedule",
    type=click.Choice(["constant", "linear"]),
    default="constant",
    show_default=True,
    help="Whether the learning rate stays or falls to 0.",
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, ...")
@seed
@camera_pixel_size
@overwrite
@click.pass_context
def train(
    context: click.Context,
    /,
    inputs: tuple[Path, ...],
    out: Path,
    max_minutes: float | None,
    seed: int,
    camera_pixel_size: float | None,
    overwrite: bool,
    **parameters: Any,
) -> None:
    """Train Noise2Noise on tables, without ground truth.

    The defaults are those of the paper, which take hours on a GPU. For minutes on a CPU:
    --width 24 --batch-size 16 --learning-rate 1e-3 --schedule linear --max-minutes 10.
    Ctrl-C ends training early and saves the weights reached so far.
    """
    from smlmkit.reconstruct import N2NReconstructor

    check_output(out, overwrite=overwrite)
    fovs = [read_table(path, camera_pixel_size) for path in find_tables(inputs)]
    max_seconds = None if max_minutes is None else 60 * max_minutes
    model = N2NReconstructor(max_seconds=max_seconds, random_state=seed, **parameters)
    model.fit(fovs)
    model.save(out, overwrite=overwrite)
    history = model.history_
    click.echo(
        f"{out}: trained on {len(fovs)} tables, {history.samples[-1]:,} pairs in "
        f"{history.seconds[-1]:.0f} s, last loss {history.loss[-1]:.4g}, "
        f"stopped by {history.stopped_by}"
    )
    if history.stopped_by == "interrupt":
        context.exit(130)


@click.command()
@click.argument("inputs", nargs=-1, required=True, type=existing)
@click.argument("out", type=output)
@click.option("--model", "-m", required=True, type=existing, help="What train wrote.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(list(IMAGE_SUFFIXES)),
    default=["ome-zarr", "png"],
    show_default=True,
    help="May be given several times.",
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, ...")
@camera_pixel_size
@overwrite
@click.pass_context
def reconstruct(
    context: click.Context,
    /,
    inputs: tuple[Path, ...],
    out: Path,
    model: Path,
    formats: tuple[str, ...],
    device: str,
    camera_pixel_size: float | None,
    overwrite: bool,
) -> None:
    """Reconstruct every table with a trained MODEL into the folder OUT.

    A table that cannot be read is reported and the others go on; the exit code is then 1.
    """
    from smlmkit.io.images import write_image
    from smlmkit.reconstruct import load_model

    tables = find_tables(inputs)
    targets = {path: [out / (path.stem + IMAGE_SUFFIXES[f]) for f in formats] for path in tables}
    refuse_duplicates(tables)
    refuse_existing([image for images in targets.values() for image in images], overwrite)
    fitted = load_model(model, device=device)
    make_folder(out)
    failed = 0
    for path, images in targets.items():
        try:
            reconstruction = fitted.predict(read_table(path, camera_pixel_size))
        except SmlmkitError as error:
            say_error(error)
            failed += 1
            continue
        for image in images:
            write_image(reconstruction, image, overwrite=overwrite)
            click.echo(str(image))
    if failed:
        click.echo(f"{failed} of {len(targets)} tables could not be reconstructed", err=True)
        context.exit(1)
