"""Choose a density estimate and its scale by held-out scores, without ground truth.

    python examples/choose_density_estimate.py FOLDER --out choice.png

FOLDER holds images of counts per 10 nm pixel as spotNN_sub.png, such as the dSTORM microtubules of
Berberich et al. 2021 (repository FRCnet, MIT licence). With seven fields of 20 x 20 µm it takes a
few minutes on two cores. Counts have no frames, so the halves are random and share emitters: the
scores choose the density of the emitters that blinked, see docs/quality.md.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from PIL import Image
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import Pipeline

from smlmkit import (
    AdaptiveKDE,
    AnisotropicKDE,
    FRCScorer,
    GaussianKDE,
    Localizations,
    PoissonScorer,
    Renderer,
)

PIXEL_SIZE = 10.0
SIGMAS = [10.0, 15.0, 20.0, 25.0, 30.0, 40.0]

# What is searched: several steps, each over its own scale.
GRID = [
    {"kde": [GaussianKDE()], "kde__sigma": SIGMAS},
    {"kde": [AdaptiveKDE()], "kde__sigma": SIGMAS},
    {"kde": [AnisotropicKDE(support="window")], "kde__scale": [1.0, 2.0, 4.0, 8.0, 16.0]},
    {"kde": [AnisotropicKDE(support="neighbors")], "kde__sigma": SIGMAS},
]


def main() -> None:
    """Search, print and draw."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fields", type=int, default=7, help="at most so many")
    parser.add_argument("--tile", type=float, default=10_000, help="side of a sample in nm")
    parser.add_argument("--out", type=Path, default=Path("choice.png"))
    options = parser.parse_args()
    paths = sorted(options.folder.glob("spot*_sub.png"))[: options.fields]
    if len(paths) < 2:
        parser.error(f"{options.folder}: needs at least two images spotNN_sub.png")
    # Tiles of one field are alike: groups keep them in one fold.
    tiles = [read_counts(path).tiles(options.tile, min_localizations=100) for path in paths]
    samples = [tile for field in tiles for tile in field]
    groups = np.repeat(np.arange(len(tiles)), [len(field) for field in tiles])
    print(f"{len(samples)} tiles of {len(paths)} fields")

    search = GridSearchCV(
        Pipeline([("render", Renderer(PIXEL_SIZE)), ("kde", GaussianKDE())]),
        GRID,
        scoring={"likelihood": PoissonScorer(), "frc_area": FRCScorer()},
        refit="likelihood",  # the FRC is blind to the width of a Gaussian
        cv=GroupKFold(min(3, len(paths))),
        error_score="raise",
    ).fit(samples, groups=groups)

    table = tabulate(search.cv_results_)
    print(table.to_string(index=False, float_format="{:.4f}".format))
    print("best:", search.best_params_)
    draw(table, options.out)
    print(options.out)


def read_counts(path: Path) -> Localizations:
    """Turn counts per pixel into points, each somewhere in its pixel."""
    counts = np.asarray(Image.open(path))
    corners = np.argwhere(counts).repeat(counts[counts > 0], axis=0)
    yx = (corners + np.random.default_rng(0).random(corners.shape)) * PIXEL_SIZE
    height, width = counts.shape
    field = (0, 0, height * PIXEL_SIZE, width * PIXEL_SIZE)
    return Localizations(yx[:, ::-1], field_of_view=field, metadata={"source": path.name})


def tabulate(results: dict) -> pd.DataFrame:
    """Give a row for each candidate: its method, its scale and both scores."""
    rows = []
    for position, candidate in enumerate(results["params"]):
        (parameter,) = set(candidate) - {"kde"}
        kde = candidate["kde"]
        rows.append(
            {
                "method": f"{type(kde).__name__} {getattr(kde, 'support', '')}".strip(),
                "parameter": parameter.removeprefix("kde__"),
                "value": candidate[parameter],
                "log-likelihood": results["mean_test_likelihood"][position],
                "FRC area": results["mean_test_frc_area"][position],
            }
        )
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw both scores against the scale, a line for each method."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for ax, score in zip(axes, ("log-likelihood", "FRC area"), strict=True):
        for (method, parameter), rows in table.groupby(["method", "parameter"], sort=False):
            unit = " (nm)" if parameter == "sigma" else ""
            ax.plot(rows["value"], rows[score], "o-", label=f"{method}, {parameter}{unit}")
        ax.set(xscale="log", xlabel="scale", ylabel=f"held-out {score}")
    best = table["log-likelihood"].max()
    axes[0].set_ylim(best - 0.5, best + 0.03)  # windows as published lie far below
    axes[1].legend(frameon=False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
