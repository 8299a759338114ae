"""Noise2Noise on real microtubules: train on six fields of view, reconstruct the seventh.

The fields are dSTORM of alpha-tubulin (Berberich et al. 2021, repository FRCnet, MIT licence), as
counts per 10 nm pixel. Each count becomes that many localizations anywhere in its pixel. The test
field is split in two at random; half A is reconstructed and compared with the raw half B: area of
the FRC up to 0.2 and 0.5 cycles per pixel, and Poisson log-likelihood per localization.

    SMLMKIT_TEST_DATA=... python -m benchmarks.real_microtubules --minutes 30
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr
from PIL import Image

from smlmkit import GaussianKDE, Localizations, N2NReconstructor, PixelGrid, Renderer, to_image
from smlmkit.nn.devices import resolve_device
from smlmkit.plotting import save_comparison
from smlmkit.scoring import compare_held_out

PIXEL_SIZE = 10.0
SIGMAS_PX = (1.0, 1.5, 2.0, 3.0, 4.0)
N_SPLITS = 3

RECIPES = {
    # The paper's network with half its filters, and nothing else.
    "plain": {
        "width": 24,
        "patch_size": 96,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "schedule": "linear",
    },
    # What earned its place on these fields.
    "light": {
        "network": "light",
        "patch_size": 128,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "schedule": "linear",
        "loss": "mse + 0.02*frc",
        "max_gradient_norm": 0.1,
        "precision": "auto",
    },
}


def main() -> None:
    """Train, score and write the figures, the table and the picture."""
    options = parse_options()
    names = sorted(path.name[:6] for path in options.data.glob("spot*_sub.png"))
    if options.test not in names:
        raise SystemExit(f"no field {options.test} in {options.data}; there are {names}")
    fovs = {name: read_counts(options.data / f"{name}_sub.png") for name in names}
    test = fovs.pop(options.test)
    recipe = RECIPES[options.recipe] | ({"width": options.width} if options.width else {})
    model = N2NReconstructor(
        pixel_size=PIXEL_SIZE,
        max_seconds=60 * options.minutes,
        random_state=0,
        **recipe,
    )
    started = time.monotonic()
    model.fit(list(fovs.values()))
    [history] = model.histories_
    print(
        f"trained on {', '.join(fovs)}: {history.samples[-1]:,} samples of "
        f"{model.patch_size} px in {time.monotonic() - started:.0f} s "
        f"on {torch.get_num_threads()} threads"
    )
    halves, scores = score_methods(test, model)
    summary = summarize(scores)
    print(summary.to_string())
    options.out.mkdir(parents=True, exist_ok=True)
    record = {
        "test_field": options.test,
        "training_fields": list(fovs),
        "localizations": {name: len(fov) for name, fov in {**fovs, options.test: test}.items()},
        "samples": history.samples[-1],
        "training_seconds": round(history.seconds[-1], 1),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "device": str(resolve_device(model.device)),
        "options": {"minutes": options.minutes, "recipe": options.recipe, **recipe},
        "scores": json.loads(scores.to_json(orient="records", double_precision=6)),
    }
    stem = options.out / f"real_microtubules_{options.test}_{options.recipe}"
    stem.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    draw_zoom(halves, options.data / f"{options.test}_full.png", summary, stem.with_suffix(".png"))


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = os.environ.get("SMLMKIT_TEST_DATA")
    parser.add_argument("--data", type=Path, default=Path(data) / "frcnet" if data else None)
    parser.add_argument("--test", default="spot04", help="the field that is not trained on")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--recipe", choices=RECIPES, default="light")
    parser.add_argument("--width", type=int, help="filters, if not the recipe's")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    if options.data is None:
        parser.error("give --data or set SMLMKIT_TEST_DATA")
    return options


def read_counts(path: Path) -> Localizations:
    """Turn an image of counts into a table: each count is a point somewhere in its pixel."""
    counts = np.asarray(Image.open(path))
    rng = np.random.default_rng(0)
    row, column = np.nonzero(counts)
    repeats = counts[row, column]
    corners = np.repeat(np.column_stack([column, row]), repeats, axis=0)
    xy = (corners + rng.random(corners.shape)) * PIXEL_SIZE
    height, width = counts.shape
    field = (0, 0, height * PIXEL_SIZE, width * PIXEL_SIZE)
    return Localizations(xy, field_of_view=field, metadata={"source": path.name})


def score_methods(
    test: Localizations, model: N2NReconstructor
) -> tuple[dict[str, xr.DataArray], pd.DataFrame]:
    """Score each method on random halves; also give the images of the first split."""
    rows, first_images = [], {}
    for split in range(N_SPLITS):
        half_a, half_b = test.split(by="random", random_state=split)
        raw = Renderer(PIXEL_SIZE).transform(half_a)
        images = {"raw": raw}
        for sigma in SIGMAS_PX:
            images[f"Gaussian {sigma:g} px"] = GaussianKDE(sigma * PIXEL_SIZE).transform(raw)
        images["N2N"] = model.set_params(tta=False).predict(half_a)
        images["N2N, mean of 8 orientations"] = model.set_params(tta=True).predict(half_a)
        first_images = first_images or images
        for method, image in images.items():
            scores = compare_held_out(image, half_a, half_b)
            rows.append({"method": method, "split": split, **scores})
    return first_images, pd.DataFrame(rows)


def summarize(scores: pd.DataFrame) -> pd.DataFrame:
    """Give mean and standard deviation over the splits, in the order of the methods."""
    return scores.drop(columns="split").groupby("method", sort=False).agg(["mean", "std"]).round(5)


def draw_zoom(
    images: dict[str, xr.DataArray], dense: Path, summary: pd.DataFrame, path: Path
) -> None:
    """Draw raw, best Gaussian, N2N and the published dense target side by side."""
    gaussians = summary[summary.index.str.startswith("Gaussian")]
    best = gaussians["log_likelihood", "mean"].idxmax()
    target = np.asarray(Image.open(dense)).astype(np.float32)
    grid = PixelGrid((0, 0), PIXEL_SIZE, target.shape)
    n2n = images["N2N, mean of 8 orientations"]
    top, left = densest_corner(n2n, side=300)
    save_comparison(
        {
            "half of the blinks": images["raw"],
            f"{best}": images[best],
            "Noise2Noise": n2n,
            "published dense target": to_image(target, grid, units="arbitrary"),
        },
        path,
        field_of_view=(top, left, top + 3000, left + 3000),
        overwrite=True,
    )


def densest_corner(image: xr.DataArray, side: int) -> tuple[float, float]:
    """Find the corner (nm) of the square of `side` pixels that holds most localizations."""
    blocks = image.coarsen(y=side, x=side, boundary="trim").sum().to_numpy()
    row, column = np.unravel_index(blocks.argmax(), blocks.shape)
    return float(row * side * PIXEL_SIZE), float(column * side * PIXEL_SIZE)


if __name__ == "__main__":
    main()
