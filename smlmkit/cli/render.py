"""The command that renders a table as an image."""

from pathlib import Path
from typing import Any

import click

from smlmkit.cli._shared import (
    POSITIVE,
    existing,
    output,
    overwrite,
    pixel_size,
    reads_tables,
    refuse_existing,
)


@click.command()
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
@reads_tables
@overwrite
def render(
    table: Path,
    image: Path,
    pixel_size: float,
    mode: str,
    sigma: float | None,
    z_bins: int | None,
    reading: dict[str, Any],
    overwrite: bool,
) -> None:
    """Render TABLE as IMAGE: .ome.zarr, .tif or .png."""
    from smlmkit.io.images import image_format, write_image
    from smlmkit.io.tables import read_localizations

    image_format(image)
    refuse_existing([image], overwrite)
    renderer = build_renderer(mode, pixel_size, sigma, z_bins)
    rendered = renderer.fit_transform(read_localizations(table, **reading))
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
