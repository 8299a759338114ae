"""Density estimates of half of a real sparse field, judged by the other half.

The fields are those of `real_microtubules`. Each is split in two at random; every estimate of half
A is compared with the raw half B: area of the FRC up to 0.2 cycles per pixel, and Poisson
log-likelihood per localization. The best Gaussian is chosen anew for every field and split, by the
score itself; all other methods keep their parameters on all fields.

    SMLMKIT_TEST_DATA=... python -m benchmarks.held_out_densities

--picture draws the densest 3 x 3 µm of one field's half instead, next to the published target.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.real_microtubules import PIXEL_SIZE, densest_corner, read_counts
from smlmkit import AdaptiveKDE, AnisotropicKDE, GaussianKDE, Localizations, Renderer, to_image
from smlmkit.images import grid_of
from smlmkit.plotting import save_comparison
from smlmkit.scoring import compare_held_out

SIGMAS = np.arange(15, 45, 2.5)
SCORES = ["frc_area_0.2", "log_likelihood"]
BEST_GAUSSIAN = "best Gaussian of the field"


def main() -> None:
    """Score all methods on all fields; print and write the tables."""
    options = parse_options()
    if options.picture is not None:
        draw_field(options.data / "spot12", options.picture)
        return
    rows = []
    for path in sorted(options.data.glob("spot*_sub.png"))[: options.fields]:
        table = read_counts(path)
        for split in range(options.splits):
            halves = table.split(by="random", random_state=split)
            for method, scores in score_methods(*halves, options.variants):
                rows.append({"field": path.name[:6], "split": split, "method": method, **scores})
    scores = pd.DataFrame(rows)
    means = scores.groupby(["field", "method"], sort=False)[SCORES].mean()
    print(means.unstack("field").swaplevel(axis=1).sort_index(axis=1).round(4).T.to_string())
    gains = gains_over_gaussian(scores)
    print(gains.round(4).to_string())
    options.out.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "options": {k: v for k, v in vars(options).items() if k not in ("data", "out")},
        "scores": json.loads(scores.to_json(orient="records", double_precision=6)),
        "gains_over_best_gaussian": json.loads(gains.to_json(orient="index", double_precision=6)),
    }
    options.out.write_text(json.dumps(record, indent=1) + "\n")


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = os.environ.get("SMLMKIT_TEST_DATA")
    parser.add_argument("--data", type=Path, default=Path(data) / "frcnet" if data else None)
    parser.add_argument("--fields", type=int, help="how many fields; by default all")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument(
        "--variants", action="store_true", help="also vary each parameter of the neighbours' mode"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("benchmarks/results/held_out_densities.json")
    )
    parser.add_argument("--picture", type=Path, help="only draw a field, to this PNG")
    options = parser.parse_args()
    if options.data is None:
        parser.error("give --data or set SMLMKIT_TEST_DATA")
    return options


def score_methods(
    half_a: Localizations, half_b: Localizations, variants: bool
) -> list[tuple[str, dict[str, float]]]:
    """Give each method's scores; of the Gaussians those that are best, score by score."""
    counts = Renderer(PIXEL_SIZE).transform(half_a)

    def score(kde: Any) -> dict[str, float]:
        compared = compare_held_out(kde.transform(counts), half_a, half_b)
        return {name: compared[name] for name in SCORES}

    gaussians = pd.DataFrame([score(GaussianKDE(sigma)) for sigma in SIGMAS])
    methods = fixed_methods() | (neighbor_variants() if variants else {})
    return [
        (BEST_GAUSSIAN, gaussians.max().to_dict()),
        *((method, score(kde)) for method, kde in methods.items()),
    ]


def fixed_methods() -> dict[str, Any]:
    """Give the methods with the parameters that they have on all fields."""
    return {
        "adaptive isotropic": AdaptiveKDE(),
        "window 11, scale 1": AnisotropicKDE(),
        "window 11, scale 4": AnisotropicKDE(scale=4),
        "window 21, scale 16": AnisotropicKDE(window=21, scale=16),
        "published, window 11, scale 1": AnisotropicKDE(mode="berberich"),
        "published, window 21, scale 16": AnisotropicKDE(window=21, scale=16, mode="berberich"),
        "neighbors": AnisotropicKDE(support="neighbors"),
    }


def neighbor_variants() -> dict[str, Any]:
    """Give the neighbours' mode with one parameter changed at a time."""
    changes = [
        *({"radius": radius} for radius in (100, 160)),
        *({"sigma": sigma} for sigma in (22.5, 27.5)),
        *({"max_aspect": aspect} for aspect in (1.0, 1.5, 2.5)),
        *({"sharpening": share} for share in (0.0, 0.15, 0.45)),
    ]
    return {
        f"neighbors, {name} {value:g}": AnisotropicKDE(support="neighbors", **{name: value})
        for change in changes
        for name, value in change.items()
    }


def gains_over_gaussian(scores: pd.DataFrame) -> pd.DataFrame:
    """Give each method's mean and smallest gain over the best Gaussian of the same half."""
    by_half = scores.set_index(["field", "split", "method"])[SCORES]
    gains = (
        by_half
        - by_half.xs(BEST_GAUSSIAN, level="method")
        .reindex(by_half.index.droplevel("method"))
        .to_numpy()
    )
    return (
        gains.groupby("method", sort=False)
        .agg(["mean", "min"])
        .set_axis([f"{score}, {what}" for score in SCORES for what in ("mean", "least")], axis=1)
    )


def draw_field(field: Path, path: Path) -> None:
    """Draw half of a field's localizations by several methods, and what the authors published."""
    half_a, _ = read_counts(Path(f"{field}_sub.png")).split(by="random", random_state=0)
    counts = Renderer(PIXEL_SIZE).transform(half_a)
    published = np.asarray(Image.open(f"{field}_full.png")).astype(np.float32)
    neighbors = AnisotropicKDE(support="neighbors").transform(counts)
    images = {
        "half of the localizations": counts,
        "Gaussian, 32.5 nm": GaussianKDE(32.5).transform(counts),
        "AnisotropicKDE, window 21, scale 16": AnisotropicKDE(21, 16).transform(counts),
        "AnisotropicKDE, neighbors": neighbors,
        "published dense target": to_image(published, grid_of(counts), units="arbitrary"),
    }
    top, left = densest_corner(neighbors, side=300)
    box = (top, left, top + 3000, left + 3000)
    save_comparison(images, path, field_of_view=box, columns=5, panel_px=300, overwrite=True)


if __name__ == "__main__":
    main()
