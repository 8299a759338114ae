"""Whether the deviation of a prediction marks its errors: simulated filaments of known density.

    python -m benchmarks.uncertainty --json benchmarks/results/uncertainty.json \
        --plot docs/images/uncertainty.png

Networks learn from sparse fields of filaments and reconstruct others. The truth of a field is its
filaments, spread by the uncertainties of its localizations, and the uniform background; image and
truth have the mass of the table. The error is the absolute difference of the two, in localizations
per pixel. `deviation` is what `N2NReconstructor.predict` returns beside the image: the mean
absolute deviation of the opinions, of which there are 5 networks, 8 orientations, 4 random splits,
or all of these at once. Of a split, each half is an opinion of its own.

Scores of images are of all pixels, `error` as a share of the mass. Scores of deviations are of the
pixels near structures, where truth or image exceeds 5 % of its 99th percentile; elsewhere both
deviation and error are next to nothing, which says little and helps every correlation. Spearman's
rank correlation of deviation and error is given
- over all pixels, near structures, and as its mean within tenths of the pixels near structures by
  the image's own intensity, where "bright is uncertain" no longer helps;
- over blocks of 100 nm near structures, of sums over their pixels, and within tenths of these;
- of `intensity`: between the image itself, in place of the deviation, and the error;
- `if_calibrated`: near structures, if errors were normal with the deviation as their scale: a
  known scale leaves each error to chance, so that even then it is far from 1.
`top_tenth` is the share of the error that lies in the tenth of these pixels of the largest
deviation, `top_tenth_at_best` that in the tenth of the largest error. `factor` is the mean error
over the mean deviation, `slope` that of the error regressed on the deviation; both are 1 for a
deviation that is a size of the error.
"""

import argparse
import copy
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib_scalebar.scalebar import ScaleBar
from scipy.stats import linregress, spearmanr

from benchmarks.rendering import as_markdown
from smlmkit import GaussianKDE, Localizations, N2NReconstructor, Renderer, make_microtubules
from smlmkit._figure import save
from smlmkit.metrics.frc import frc_area

PIXEL_SIZE = 10.0
BACKGROUND = 0.02
N_POINTS = 1_000_000
NEAR_STRUCTURES = 0.05  # of the 99th percentile of truth or image
N_BINS = 10
BLOCK_PX = 10
SIGMAS = (20.0, 25.0, 30.0, 35.0, 40.0, 50.0)  # of the Gaussians to compare with, in nm
ZOOM = 1500.0  # side of the box in the picture, in nm


class Field(NamedTuple):
    """A table and the density that it was drawn from."""

    table: Localizations
    truth: xr.DataArray


class Opinions(NamedTuple):
    """How many opinions of each kind a prediction asks for."""

    networks: int
    tta: bool = False
    n_splits: int = 0


class Prediction(NamedTuple):
    """What is predicted of a field, beside its truth, in localizations per pixel."""

    truth: xr.DataArray
    image: xr.DataArray
    deviation: xr.DataArray

    @property
    def error(self) -> xr.DataArray:
        """Give the absolute difference of image and truth."""
        return abs(self.image - self.truth)


Row = dict[str, Any]


def main() -> None:
    """Train, predict in every way, print the tables and write record and picture."""
    options = parse_options()
    fields = [make_field(options, seed) for seed in range(options.fields + options.tests)]
    tests = fields[options.fields :]
    model = make_model(options)
    model.fit([field.table for field in fields[: options.fields]])
    training_seconds = sum(history.seconds[-1] for history in model.histories_)
    ways = ways_of(options)
    predictions = {name: predict(model, way, tests) for name, way in ways.items()}
    sections = {
        "images": score_images(model, tests, predictions),
        "deviations": [
            {"opinions of": name, **mean_and_sd([score_deviation(one) for one in of_way])}
            for name, of_way in predictions.items()
        ],
        "reliability": [
            {"opinions of": name, **row}
            for name, of_way in predictions.items()
            for row in reliability(of_way)
        ],
    }
    print(f"trained in {training_seconds:.0f} s on {torch.get_num_threads()} threads\n")
    for title, rows in sections.items():
        print(f"### {title}\n\n{as_markdown([*map(without_sd, rows)])}\n")
    if options.json is not None:
        record = {
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
            "versions": {name: version(name) for name in ("smlmkit", "torch")},
            "options": {
                name: value for name, value in vars(options).items() if name not in ("json", "plot")
            },
            "training_seconds": round(training_seconds, 1),
            "sections": sections,
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    if options.plot is not None:
        options.plot.parent.mkdir(parents=True, exist_ok=True)
        draw(predictions, sections["reliability"], tests[0], options.plot)


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Deviation of a prediction beside its error.")
    parser.add_argument("--fields", type=int, default=6, help="fields to train on")
    parser.add_argument("--tests", type=int, default=3, help="fields to reconstruct")
    parser.add_argument("--size", type=float, default=5000.0, help="side of a field in nm")
    parser.add_argument("--filaments", type=int, default=12, help="filaments of a field")
    parser.add_argument("--density", type=float, default=300.0, help="localizations per µm²")
    parser.add_argument("--blinks", type=float, default=1.0, help="mean blinks of an emitter")
    parser.add_argument("--networks", type=int, default=5)
    parser.add_argument("--splits", type=int, default=4)
    parser.add_argument("--samples", type=int, default=8000, help="training pairs of a network")
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--json", type=Path, help="where to write the tables, too")
    parser.add_argument("--plot", type=Path, help="where to write the picture, a PNG")
    return parser.parse_args()


def make_field(options: argparse.Namespace, seed: int) -> Field:
    """Simulate a sparse field, and spread its filaments as its localizations are."""
    table, truth = make_microtubules(
        field_size=options.size,
        n_filaments=options.filaments,
        density=options.density,
        blinks_per_emitter=options.blinks,
        background=BACKGROUND,
        random_state=seed,
    )
    y, x = truth.curves.draw(N_POINTS, np.random.RandomState(seed))[0].T
    sigma = np.random.default_rng(seed).choice(table["uncertainty_x"], N_POINTS)
    points = Localizations(
        {"x": x, "y": y, "uncertainty_x": sigma, "uncertainty_y": sigma},
        field_of_view=table.field_of_view,
    )
    structure = Renderer(PIXEL_SIZE, mode="gaussian").transform(points)
    share = structure / structure.sum(dtype=np.float64)
    density = len(table) * ((1 - BACKGROUND) * share + BACKGROUND / share.size)
    return Field(table, structure.copy(data=density.to_numpy()))


def make_model(options: argparse.Namespace) -> N2NReconstructor:
    """Make an ensemble that minutes on a CPU can train."""
    return N2NReconstructor(
        pixel_size=PIXEL_SIZE,
        patch_size=64,
        network="light",
        depth=options.depth,
        width=options.width,
        loss="mse",
        batch_size=8,
        max_samples=options.samples,
        learning_rate=2e-3,
        schedule="linear",
        max_gradient_norm=0.1,
        n_estimators=options.networks,
        random_state=0,
    )


def ways_of(options: argparse.Namespace) -> dict[str, Opinions]:
    """Name the ways of getting several opinions."""
    return {
        f"{options.networks} networks": Opinions(options.networks),
        "8 orientations": Opinions(1, tta=True),
        f"{options.splits} splits": Opinions(1, n_splits=options.splits),
        "all of these": Opinions(options.networks, tta=True, n_splits=options.splits),
    }


def predict(model: N2NReconstructor, way: Opinions, tests: list[Field]) -> list[Prediction]:
    """Predict every field with as many opinions."""
    images, deviations = with_opinions(model, way).predict(
        [field.table for field in tests], return_deviation=True
    )
    truths = [field.truth for field in tests]
    return [Prediction(*both) for both in zip(truths, images, deviations, strict=True)]


def with_opinions(model: N2NReconstructor, way: Opinions) -> N2NReconstructor:
    """Give a model of the first networks alone."""
    chosen = copy.copy(model).set_params(tta=way.tta, n_splits=way.n_splits)
    chosen.networks_ = model.networks_[: way.networks]
    return chosen


def score_images(
    model: N2NReconstructor, tests: list[Field], predictions: dict[str, list[Prediction]]
) -> list[Row]:
    """Score the mean of the opinions, one network's single opinion and the best Gaussian."""
    tables, truths = [field.table for field in tests], [field.truth for field in tests]
    images = {"a Gaussian": [best_gaussian(field) for field in tests]}
    images["1 network"] = with_opinions(model, Opinions(1)).predict(tables)
    images |= {name: [one.image for one in of_way] for name, of_way in predictions.items()}
    return [
        {"image": name, **mean_and_sd([*map(score_image, of_method, truths)])}
        for name, of_method in images.items()
    ]


def best_gaussian(field: Field) -> xr.DataArray:
    """Blur the counts by the Gaussian of the least error, which only who knows the truth can."""
    counts = Renderer(PIXEL_SIZE).transform(field.table)
    blurred = [GaussianKDE(sigma).transform(counts) for sigma in SIGMAS]
    return min(blurred, key=lambda image: score_image(image, field.truth)["error"])


def score_image(image: xr.DataArray, truth: xr.DataArray) -> dict[str, float]:
    """Give the error as a share of the mass, and the FRC area against the truth."""
    error = float(abs(image - truth).sum(dtype=np.float64) / truth.sum(dtype=np.float64))
    return {"error": error, "frc_area_0.2": frc_area(image, truth, cutoff=0.2)}


def score_deviation(prediction: Prediction) -> dict[str, float]:
    """Say how well the deviation of a field tells where its error is."""
    near = near_structures(prediction)
    image, deviation, error = (
        values.to_numpy()[near]
        for values in (prediction.image, prediction.deviation, prediction.error)
    )
    coarse = Prediction(*map(block_sums, prediction))
    blocks = near_structures(coarse)
    of_blocks = [
        values.to_numpy()[blocks]
        for values in (coarse.image, coarse.deviation, block_sums(prediction.error))
    ]
    drawn_error = deviation * abs(np.random.default_rng(0).normal(size=deviation.size))
    return {
        "all_pixels": rank_correlation(prediction.deviation, prediction.error),
        "near_structures": rank_correlation(deviation, error),
        "within_intensities": correlation_within(image, deviation, error),
        "blocks": rank_correlation(*of_blocks[1:]),
        "blocks_within_intensities": correlation_within(*of_blocks),
        "intensity": rank_correlation(image, error),
        "if_calibrated": rank_correlation(deviation, drawn_error),
        "top_tenth": share_in_top_tenth(error, deviation),
        "top_tenth_at_best": share_in_top_tenth(error, error),
        "factor": float(error.mean() / deviation.mean()),
        "slope": float(linregress(deviation, error).slope),
    }


def near_structures(prediction: Prediction) -> np.ndarray:
    """Say which pixels are not empty, in truth or in the image."""
    both = [values.to_numpy() for values in (prediction.truth, prediction.image)]
    return np.any([v > NEAR_STRUCTURES * np.percentile(v, 99) for v in both], axis=0)


def rank_correlation(first: Any, second: Any) -> float:
    """Give Spearman's correlation over all pixels."""
    return float(spearmanr(np.ravel(first), np.ravel(second)).statistic)


def correlation_within(image: np.ndarray, deviation: np.ndarray, error: np.ndarray) -> float:
    """Give the mean rank correlation of deviation and error in tenths by the image."""
    return float(np.mean([rank_correlation(deviation[of], error[of]) for of in tenths(image)]))


def block_sums(image: xr.DataArray) -> xr.DataArray:
    """Add up the pixels of each block; what is left over at the edges is not counted."""
    return image.coarsen(y=BLOCK_PX, x=BLOCK_PX, boundary="trim").sum()


def tenths(values: np.ndarray) -> list[np.ndarray]:
    """Give the pixels in ten equal parts, from those of the smallest values to the largest."""
    return np.array_split(np.argsort(values), N_BINS)


def share_in_top_tenth(error: np.ndarray, by: np.ndarray) -> float:
    """Give the share of the error in the tenth of the pixels where something is largest."""
    return float(error[tenths(by)[-1]].sum() / error.sum())


def mean_and_sd(scores: list[dict[str, float]]) -> dict[str, float]:
    """Give each score's mean over the fields and, if there are several, standard deviation."""
    table = pd.DataFrame(scores)
    means = {str(name): float(mean) for name, mean in table.mean().items()}
    if len(table) == 1:
        return means
    return means | {f"{name}_sd": float(sd) for name, sd in table.std().items()}


def without_sd(row: Row) -> Row:
    """Leave out the standard deviations, which are for the file alone."""
    return {name: value for name, value in row.items() if not name.endswith("_sd")}


def reliability(predictions: list[Prediction]) -> list[Row]:
    """Compare error and deviation in tenths of the pixels near structures, by their deviation."""
    deviation, error = (
        np.concatenate(
            [getattr(one, name).to_numpy()[near_structures(one)] for one in predictions]
        ).astype(np.float64)
        for name in ("deviation", "error")
    )
    return [
        {
            "tenth": number,
            "deviation": float(deviation[pixels].mean()),
            "error": float(error[pixels].mean()),
            "rms_error": float(np.sqrt(np.mean(error[pixels] ** 2))),
            "error_over_deviation": float(error[pixels].mean() / deviation[pixels].mean()),
        }
        for number, pixels in enumerate(tenths(deviation), start=1)
    ]


def draw(
    predictions: dict[str, list[Prediction]], rows: list[Row], field: Field, path: Path
) -> None:
    """Draw error against deviation of every way, and a zoom of the last two in a field."""
    figure = Figure(figsize=(15, 6), dpi=100, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.5))
    draw_reliability(left.subplots(), pd.DataFrame(rows))
    draw_zoom(right.subplots(2, 3), field, {name: ones[0] for name, ones in predictions.items()})
    save(figure, path, "Error and deviation of a prediction", overwrite=True)


def draw_reliability(ax: Axes, table: pd.DataFrame) -> None:
    """Draw the mean error in tenths of the pixels over their mean deviation."""
    for name, of_way in table.groupby("opinions of", sort=False):
        ax.plot(of_way["deviation"], of_way["error"], marker="o", markersize=4, label=name)
    ends = table[["deviation", "error"]].to_numpy()
    ends = [ends.min(), ends.max()]
    ax.plot(ends, ends, color="0.4", linestyle="--", lw=1, label="error = deviation")
    ax.set(
        xscale="log",
        yscale="log",
        aspect="equal",
        xlabel="mean deviation of the opinions (localizations per pixel)",
        ylabel="mean error (localizations per pixel)",
        title="Pixels near structures, in tenths by deviation",
    )
    ax.grid(which="both", color="0.92", lw=0.6)
    ax.legend(frameon=False)


def draw_zoom(axes: np.ndarray, field: Field, predictions: dict[str, Prediction]) -> None:
    """Draw the fullest box: densities on one scale, error and deviations on another."""
    *_, splits, name = predictions
    one = predictions[name]
    densities = {
        "truth": one.truth,
        "localizations": Renderer(PIXEL_SIZE).transform(field.table),
        f"image, {name}": one.image,
    }
    errors = {
        f"absolute error, {name}": one.error,
        f"deviation, {name}": one.deviation,
        f"deviation, {splits}": predictions[splits].deviation,
    }
    top, left = fullest_corner(one.truth)
    box = {"y": slice(top, top + ZOOM), "x": slice(left, left + ZOOM)}
    draw_row(axes[0], {title: image.sel(box) for title, image in densities.items()}, "inferno")
    draw_row(axes[1], {title: image.sel(box) for title, image in errors.items()}, "viridis")


def draw_row(axes: np.ndarray, images: dict[str, xr.DataArray], cmap: str) -> None:
    """Draw images side by side, all on the scale of the first."""
    brightest = float(np.percentile(next(iter(images.values())), 99.8))
    for ax, (title, values) in zip(axes, images.items(), strict=True):
        drawn = ax.imshow(values, cmap=cmap, vmin=0, vmax=brightest, interpolation="nearest")
        ax.set_title(title, fontsize=10)
        ax.set_axis_off()
        ax.add_artist(scale_bar())
    axes[0].figure.colorbar(drawn, ax=[*axes], label="localizations per pixel", shrink=0.9)


def scale_bar() -> ScaleBar:
    """Make a scale bar for axes in pixels."""
    return ScaleBar(
        PIXEL_SIZE,
        "nm",
        location="lower right",
        length_fraction=0.25,
        color="white",
        box_color="black",
        box_alpha=0.35,
    )


def fullest_corner(image: xr.DataArray) -> tuple[float, float]:
    """Find the corner (nm) of the box of the zoom that holds most mass."""
    side = min(round(ZOOM / PIXEL_SIZE), *image.shape)
    blocks = image.coarsen(y=side, x=side, boundary="trim").sum().to_numpy()
    row, column = np.unravel_index(blocks.argmax(), blocks.shape)
    return float(row * side * PIXEL_SIZE), float(column * side * PIXEL_SIZE)


if __name__ == "__main__":
    main()
