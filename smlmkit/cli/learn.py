"""The command that trains Noise2Noise."""

from pathlib import Path
from typing import Any

import click

from smlmkit._atomic import check_output
from smlmkit.cli._shared import (
    POSITIVE,
    existing,
    find_tables,
    output,
    overwrite,
    pixel_size,
    reads_tables,
    seed,
)


@click.command()
@click.argument("inputs", nargs=-1, required=True, type=existing)
@click.option("--out", "-o", required=True, type=output, help="The model file, *.smlmkit.")
@click.option(
    "--strategy",
    type=click.Choice(["dynamic", "fixed", "sparse2dense"]),
    default="dynamic",
    show_default=True,
    help="Draw every training pair anew, split every table once, or learn density estimates.",
)
@pixel_size
@click.option("--patch-size", type=int, default=64, show_default=True, help="In pixels.")
@click.option(
    "--network", type=click.Choice(["unet", "pix2pix", "light"]), default="unet", show_default=True
)
@click.option("--width", type=int, help="Filters a convolution; by default the paper's.")
@click.option("--depth", type=int, help="Levels of the network; by default the paper's.")
@click.option(
    "--loss", default="smooth_l1", show_default=True, help="Such as 'ms_ssim + frc + 0.1*l1'."
)
@click.option("--batch-size", type=int, default=128, show_default=True)
@click.option("--max-samples", type=int, default=1_000_000, show_default=True)
@click.option("--max-minutes", type=POSITIVE, help="Time limit of training.")
@click.option("--learning-rate", type=float, default=1e-4, show_default=True)
@click.option(
    "--schedule",
    type=click.Choice(["constant", "linear", "cosine", "one_cycle"]),
    default="constant",
    show_default=True,
    help="How the learning rate changes.",
)
@click.option("--max-gradient-norm", type=POSITIVE, help="Shorten longer gradients to this.")
@click.option("--early-stopping", is_flag=True, help="Hold out tables, stop at their best score.")
@click.option("--epoch-size", type=int, default=100_000, show_default=True, help="In pairs.")
@click.option("--n-estimators", type=int, default=1, show_default=True, help="Of an ensemble.")
@click.option(
    "--checkpoint-folder",
    type=click.Path(file_okay=False),
    help="Save the state there every minute; after a crash the same command goes on.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, ...")
@seed
@reads_tables
@overwrite
@click.pass_context
def train(
    context: click.Context,
    /,
    inputs: tuple[Path, ...],
    out: Path,
    max_minutes: float | None,
    seed: int,
    reading: dict[str, Any],
    overwrite: bool,
    **parameters: Any,
) -> None:
    """Train Noise2Noise on tables, without ground truth.

    The defaults are those of the paper, which take hours on a GPU. For minutes on a CPU:
    --network light --patch-size 128 --batch-size 16 --loss "mse + 0.02*frc" --learning-rate 1e-3
    --schedule linear --max-gradient-norm 0.1 --precision auto --max-minutes 10.
    Ctrl-C ends training early and saves the weights reached so far.
    """
    from smlmkit.io.tables import read_localizations
    from smlmkit.reconstruct import N2NReconstructor

    check_output(out, overwrite=overwrite)
    fovs = [read_localizations(path, **reading) for path in find_tables(inputs)]
    max_seconds = None if max_minutes is None else 60 * max_minutes
    model = N2NReconstructor(max_seconds=max_seconds, random_state=seed, **parameters)
    model.fit(fovs)
    model.save(out, overwrite=overwrite)
    histories = model.histories_
    score = model.training_summary_["held_out_score"]
    click.echo(
        f"{out}: trained on {model.training_summary_['n_fields']} tables, "
        f"{sum(history.samples[-1] for history in histories):,} pairs in "
        f"{sum(history.seconds[-1] for history in histories):.0f} s, last loss "
        f"{histories[-1].loss[-1]:.4g}, stopped by {histories[-1].stopped_by}"
        + ("" if score is None else f", held-out FRC area {score:.4f}")
    )
    if histories[-1].stopped_by == "interrupt":
        context.exit(130)
