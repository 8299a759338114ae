"""The command line: thin commands over the library.

Exit codes: 0 success; 1 an error, said on stderr as ``smlmkit: error: ...``; 2 wrong usage;
130 interrupted by Ctrl-C. Heavy libraries are imported inside the commands, so that help is quick.
"""

import json
import math
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from smlmkit import __version__
from smlmkit._atomic import check_output, make_folder
from smlmkit.errors import InvalidInputError, OutputError, SmlmkitError

if TYPE_CHECKING:
    from smlmkit.localizations import Localizations

TABLE_SUFFIXES = (".hdf5", ".h5", ".csv", ".parquet")
DEMO_COLUMNS = {
    "frc_area_0.2": "FRC area to 0.2",
    "frc_area_0.5": "FRC area to 0.5",
    "log_likelihood": "log-likelihood",
    "frc_resolution": "FRC resolution (nm)",
}
IMAGE_SUFFIXES = {"ome-zarr": ".ome.zarr", "tiff": ".tif", "png": ".png"}

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


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="smlmkit")
def commands() -> None:
    """Super-resolved images from single-molecule localizations.

    INPUTS are tables of localizations (Picasso .hdf5, ThunderSTORM .csv, .parquet) or folders of
    them.
    """


@commands.command()
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


@commands.command()
@click.argument("table", type=existing)
@click.argument("image", type=output)
@pixel_size
@click.option(
    "--mode",
    type=click.Choice(
        [
            *("histogram", "gaussian", "average-shifted"),
            *("gaussian-kde", "adaptive-kde", "anisotropic-kde", "neighbors-kde"),
        ]
    ),
    default="histogram",
    show_default=True,
    help="Counts; each localization as a Gaussian; the mean of shifted histograms; or counts and "
    "then a density estimate.",
)
@click.option(
    "--sigma",
    type=POSITIVE,
    metavar="NM",
    help="Standard deviation of the Gaussians, where the mode has one. By default the mode's; "
    "with --mode gaussian each localization's uncertainty.",
)
@click.option("--z-bins", type=click.IntRange(1), metavar="N", help="Make a stack of N depths.")
@camera_pixel_size
@overwrite
def render(
    table: Path,
    image: Path,
    pixel_size: float,
    mode: str,
    sigma: float | None,
    z_bins: int | None,
    camera_pixel_size: float | None,
    overwrite: bool,
) -> None:
    """Render TABLE as IMAGE: .ome.zarr, .tif or .png."""
    from smlmkit.io.images import image_format, write_image

    image_format(image)
    refuse_existing([image], overwrite)
    renderer = build_renderer(mode, pixel_size, sigma, z_bins)
    rendered = renderer.fit_transform(read_table(table, camera_pixel_size))
    write_image(rendered, image, overwrite=overwrite)
    shape = " x ".join(str(side) for side in rendered.shape)
    click.echo(f"{image}: {shape} px of {pixel_size:g} nm")


def build_renderer(mode: str, pixel_size: float, sigma: float | None, z_bins: int | None) -> Any:
    """Give the Pipeline of a mode of the command ``render``."""
    from sklearn.pipeline import make_pipeline

    from smlmkit.kde import AdaptiveKDE, AnisotropicKDE, GaussianKDE
    from smlmkit.render import Renderer

    if sigma is not None and mode in ("histogram", "average-shifted", "anisotropic-kde"):
        raise click.UsageError(f"--sigma means nothing with --mode {mode}")
    width: dict[str, Any] = {} if sigma is None else {"sigma": sigma}
    if mode == "gaussian":
        return Renderer(pixel_size, "gaussian", z_bins=z_bins, **width)
    if mode == "average-shifted":
        return Renderer(pixel_size, "average_shifted", z_bins=z_bins)
    counts = Renderer(pixel_size, z_bins=z_bins)
    if mode == "histogram":
        return counts
    density_estimates = {
        "gaussian-kde": GaussianKDE(**width),
        "adaptive-kde": AdaptiveKDE(**width),
        "anisotropic-kde": AnisotropicKDE(),
        "neighbors-kde": AnisotropicKDE(support="neighbors", **width),
    }
    return make_pipeline(counts, density_estimates[mode])


@commands.command()
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
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True)
@seed
@camera_pixel_size
@as_json
def frc(
    inputs: tuple[Path, ...],
    pixel_size: float,
    threshold: Any,
    split: Any,
    repeats: int,
    seed: int,
    camera_pixel_size: float | None,
    as_json: bool,
) -> None:
    """Measure the FRC resolution of tables, each split in two."""
    from smlmkit.resolution import frc_curve

    measured = []
    for path in find_tables(inputs):
        curve = frc_curve(
            read_table(path, camera_pixel_size),
            pixel_size=pixel_size,
            threshold=threshold,
            split=split,
            repeats=repeats,
            random_state=seed,
        )
        measured.append(
            {
                "file": str(path),
                "resolution_nm": number_or_none(curve.resolution),
                "resolution_sd_nm": number_or_none(curve.resolution_sd),
                "area_0.2": number_or_none(curve.area(0.2)),
                "threshold": threshold,
                "reason": curve.reason,
            }
        )
        if not as_json:
            spread = "" if math.isnan(curve.resolution_sd) else f" ± {curve.resolution_sd:.1f}"
            found = curve.reason or f"{curve.resolution:.1f}{spread} nm"
            click.echo(f"{path}: {found}, area up to 0.2 cycles/pixel {curve.area(0.2):.3f}")
    if as_json:
        click.echo(json.dumps(measured, indent=1))


@commands.command()
@click.argument("inputs", nargs=-1, required=True, type=existing)
@click.option("--out", "-o", required=True, type=output, help="The model file, *.smlmkit.")
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


@commands.command()
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


@commands.command()
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


@commands.command()
@click.argument("folder", type=output, default=Path("smlmkit-demo"))
@click.option("--minutes", type=POSITIVE, default=3.0, show_default=True, help="Time to train.")
@seed
def demo(folder: Path, minutes: float, seed: int) -> None:
    """Simulate acquisitions, train on them, reconstruct and score, all into FOLDER."""
    from smlmkit.demo import run_demo

    result = run_demo(folder, minutes=minutes, seed=seed, report=click.echo)
    click.echo("\nHalf of the blinks of a field that was not trained on, against the other half:\n")
    click.echo(result.scores.rename(columns=DEMO_COLUMNS).round(3).to_string())
    click.echo(f"\nmodel: {result.model}")
    click.echo("\n".join(f"picture: {path}" for path in result.pictures))


def find_tables(inputs: Sequence[Path]) -> list[Path]:
    """List the tables that files and folders name."""
    tables: list[Path] = []
    for path in inputs:
        if path.is_dir():
            inside = sorted(filter(is_table, path.iterdir()))
            if not inside:
                raise InvalidInputError(
                    f"{path}: no tables of localizations ({', '.join(TABLE_SUFFIXES)}) in it"
                )
            tables += inside
        else:
            tables.append(path)
    return tables


def is_table(path: Path) -> bool:
    """Tell whether a path looks like a table; hidden files are the system's own."""
    is_hidden = path.name.startswith(".")
    return path.suffix.lower() in TABLE_SUFFIXES and not is_hidden and path.is_file()


def read_table(path: Path, camera_pixel_size: float | None) -> "Localizations":
    """Read one table."""
    from smlmkit.io.tables import read_localizations

    return read_localizations(path, pixel_size=camera_pixel_size)


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


def refuse_existing(paths: Sequence[Path], overwrite: bool) -> None:
    """Stop before work starts if an output is there already."""
    there = [str(path) for path in paths if path.exists()]
    if there and not overwrite:
        raise OutputError(f"{', '.join(there)}: exists already; --overwrite replaces it")


def refuse_duplicates(tables: Sequence[Path]) -> None:
    """Stop if two tables would be written under one name."""
    stems = [path.stem for path in tables]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise InvalidInputError(f"several tables are called {', '.join(twice)}: rename them")


def number_or_none(value: float) -> float | None:
    """Give None for nan, which JSON does not have."""
    return None if math.isnan(value) else value


def say_error(error: Exception) -> None:
    """Print an error for people and scripts; a bare MemoryError has no words of its own."""
    click.echo(f"smlmkit: error: {str(error) or 'not enough memory'}", err=True)


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
