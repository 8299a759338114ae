"""Noise2Noise by smlmkit and by CAREamics: the same pairs, weights, minutes and cores.

    benchmarks/install_careamics.sh DIR
    python -m benchmarks.careamics --peers DIR
    python -m benchmarks.careamics --peers DIR --data "$SMLMKIT_TEST_DATA/frcnet" --test spot04

Without --peers it measures smlmkit alone. Fields are simulated, or real ones (see
`real_microtubules`) of which all but --test are for training. Every method trains in a process of
its own, one after another on the same cores and in one environment each, for --minutes of training
without importing, compiling and reading. Then it predicts half A of each test field, which is
compared with the raw half B. Negative values are set to 0 and the sum is made that of half A, for
all alike.

What is the same: pixels of 10 nm, the fields, the side of a patch, the pairs in a batch, Adam and
its learning rate at the start, crops anywhere in 8 orientations, each half once as the input.
CAREamics gets two images of counts a field, halves by fair coins; "smlmkit, fixed" splits the same
tables once in the same way; "smlmkit, dynamic" draws every pair anew, which images cannot do;
"smlmkit, plain" does that with the paper's network and loss and nothing else.

What is each one's own: CAREamics trains its U-Net at its default depth, its even number of channels
chosen such that the weights come nearest to ours, with its batch normalization, its normalization
of images by mean and deviation, its augmentations, its rate that falls on plateaus of the loss of 8
patches set aside, its process that loads data, and its Lightning trainer with a time limit instead
of epochs. Its loss is the squared error, next to ours and with the mean as its best answer, and in
a row of its own the absolute error that it ships with: its best answer is the median, which is 0
where few pixels are hit. Ours has a rate that falls linearly, the same network beside a learned
blur and a little of the FRC in its loss. That was chosen on the real fields, spot04 in particular.
"""

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray

from benchmarks.real_microtubules import read_counts
from benchmarks.rendering import as_markdown
from smlmkit import Localizations, N2NReconstructor, Renderer, make_microtubules
from smlmkit.scoring import compare_held_out

PIXEL_SIZE = 10.0
FIELD = {"n_filaments": 20, "density": 500.0, "blinks_per_emitter": 1.0}
FIRST_TEST_SEED = 1000
CAREAMICS_DEPTH = 2  # its default

# Plain: the paper's network and loss. The others: what learned real fields soonest, with the same
# network beside a blur.
RECIPE = {"residual": True, "loss": "mse + 0.02*frc", "max_gradient_norm": 0.1}
OURS: dict[str, dict[str, Any]] = {
    "plain": {"strategy": "dynamic"},
    "fixed": {"strategy": "fixed", **RECIPE},
    "dynamic": {"strategy": "dynamic", **RECIPE},
}

Halves = tuple[Localizations, Localizations]
Figures = dict[str, Any]


def main() -> None:
    """Train and score every method, print the table and write it to a file."""
    options = parse_options()
    hold_to_cores(options.threads)
    training, tests = make_fields(options)
    halves = [
        test.split(by="random", random_state=split)
        for test in tests
        for split in range(options.splits)
    ]
    inputs = [half_a for half_a, _ in halves]
    methods = {}
    for name in options.ours:
        methods[f"smlmkit, {name}"] = train_ours(OURS[name], training, inputs, options)
    if options.peers is not None:
        weights = methods[f"smlmkit, {options.ours[0]}"][1]["weights"]
        for loss in options.losses:
            methods[f"CAREamics, {loss}"] = train_careamics(
                loss, weights, training, inputs, options
            )
    scores = score_all({name: images for name, (images, _) in methods.items()}, halves)
    figures = {name: figures for name, (_, figures) in methods.items()}
    rows = make_rows(figures, scores)
    print(as_markdown(rows))
    record = {
        "machine": f"{platform.machine()}, {options.threads} threads",
        "options": {k: v for k, v in vars(options).items() if k not in ("data", "peers", "json")},
        "fields": {
            "source": "simulated" if options.data is None else "real",
            "training": [len(table) for table in training],
            "test": [len(table) for table in tests],
        },
        "figures": figures,
        "rows": rows,
        "scores": scores.to_dict(orient="records"),
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(record, indent=1) + "\n")


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path, help="the environment install_careamics.sh made")
    parser.add_argument("--data", type=Path, help="a folder of real fields; simulated without")
    parser.add_argument("--test", default="spot04", help="the real field that is not trained on")
    parser.add_argument("--fields", type=int, default=6, help="simulated fields to train on")
    parser.add_argument("--field-size", type=float, default=10_000, help="their side in nm")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training, each")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--width", type=int, default=24, help="filters of our U-Net")
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--ours", nargs="+", choices=OURS, default=list(OURS))
    parser.add_argument("--losses", nargs="+", choices=("mse", "mae"), default=["mse", "mae"])
    parser.add_argument("--splits", type=int, default=3, help="of each test field into halves")
    parser.add_argument("--seed", type=int, default=1, help="above 0, as CAREamics wants it")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/careamics.json"))
    return parser.parse_args()


def hold_to_cores(n_threads: int) -> None:
    """Hold this process, and so all that it starts, to some cores and as many threads."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:n_threads])
    os.environ["OMP_NUM_THREADS"] = str(n_threads)


def make_fields(options: argparse.Namespace) -> tuple[list[Localizations], list[Localizations]]:
    """Give the fields to train on, and others to test on."""
    if options.data is None:
        seeds = [*range(options.fields), FIRST_TEST_SEED, FIRST_TEST_SEED + 1]
        fields = [
            make_microtubules(**FIELD, field_size=options.field_size, random_state=seed)[0]
            for seed in seeds
        ]
        return fields[: options.fields], fields[options.fields :]
    paths = {path.name[:6]: path for path in sorted(options.data.glob("spot*_sub.png"))}
    if options.test not in paths:
        raise SystemExit(f"no field {options.test} in {options.data}; there are {list(paths)}")
    test = read_counts(paths.pop(options.test))
    return [read_counts(path) for path in paths.values()], [test]


def train_ours(
    choices: dict[str, Any],
    training: Sequence[Localizations],
    inputs: Sequence[Localizations],
    options: argparse.Namespace,
) -> tuple[list[NDArray[np.float32]], Figures]:
    """Train smlmkit and predict, in a process of its own."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh) as process:
        return process.submit(fit_and_predict, choices, training, inputs, options).result()


def fit_and_predict(
    choices: dict[str, Any],
    training: Sequence[Localizations],
    inputs: Sequence[Localizations],
    options: argparse.Namespace,
) -> tuple[list[NDArray[np.float32]], Figures]:
    """Train smlmkit and predict."""
    model = N2NReconstructor(
        pixel_size=PIXEL_SIZE,
        patch_size=options.patch,
        width=options.width,
        batch_size=options.batch,
        max_samples=10**12,
        max_seconds=60 * options.minutes,
        learning_rate=options.learning_rate,
        schedule="linear",
        device="cpu",
        random_state=options.seed,
        verbose=False,
        **choices,
    ).fit(training)
    started = time.monotonic()
    images = [image.to_numpy() for image in model.predict(inputs)]
    (network,), (history,) = model.networks_, model.histories_
    return images, {
        "weights": sum(weights.numel() for weights in network.parameters()),
        "samples": history.samples[-1],
        "seconds": history.seconds[-1],
        "prediction_seconds": time.monotonic() - started,
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("smlmkit", "numpy", "torch")},
    }


def train_careamics(
    loss: str,
    n_weights: int,
    training: Sequence[Localizations],
    inputs: Sequence[Localizations],
    options: argparse.Namespace,
) -> tuple[list[NDArray[np.float32]], Figures]:
    """Train CAREamics and predict, in its environment."""
    task = {
        "weights": n_weights,
        "depth": CAREAMICS_DEPTH,
        "loss": loss,
        "patch": options.patch,
        "batch": options.batch,
        "learning_rate": options.learning_rate,
        "seconds": 60 * options.minutes,
        "seed": options.seed,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "task.json").write_text(json.dumps(task))
        for number, table in enumerate(training):
            pair = table.split(by="random", random_state=options.seed)
            np.save(folder / f"pair_{number}.npy", [count(half).to_numpy() for half in pair])
        for number, half in enumerate(inputs):
            np.save(folder / f"input_{number}.npy", count(half).to_numpy())
        python = options.peers / "bin" / "python"
        subprocess.run(
            [python, "-m", "benchmarks.careamics_worker", folder],
            cwd=Path(__file__).parents[1],
            env=os.environ | {"HOME": name},  # what it imports leaves folders there
            stdout=sys.stderr,
            check=True,
        )
        images = [np.load(folder / f"prediction_{number}.npy") for number in range(len(inputs))]
        return images, json.loads((folder / "figures.json").read_text())


def count(table: Localizations) -> xr.DataArray:
    """Count localizations per pixel."""
    return Renderer(PIXEL_SIZE).transform(table)


def score_all(
    predictions: dict[str, list[NDArray[np.float32]]], halves: Sequence[Halves]
) -> pd.DataFrame:
    """Score every method, and half A itself, on each pair of halves."""
    rows = []
    for number, (half_a, half_b) in enumerate(halves):
        raw = count(half_a)
        images = {"half A itself": raw.to_numpy()}
        images |= {method: images[number] for method, images in predictions.items()}
        for method, values in images.items():
            image = raw.copy(data=scale_to_mass(values, len(half_a)))
            scores = compare_held_out(image, half_a, half_b)
            rows.append({"method": method, "halves": number, **scores})
    return pd.DataFrame(rows)


def scale_to_mass(values: NDArray[np.float32], mass: float) -> NDArray[np.float32]:
    """Set negative values to 0 and the sum to `mass`; an image of zeros stays one."""
    density = np.maximum(values, 0)
    total = density.sum(dtype=np.float64)
    return density * np.float32(mass / total) if total else density


def make_rows(figures: dict[str, Figures], scores: pd.DataFrame) -> list[dict[str, Any]]:
    """Put the figures of training beside mean and deviation of the scores."""
    rows = []
    for method, each in scores.groupby("method", sort=False):
        own = figures.get(method)
        row = {"method": method}
        for name in ("weights", "samples", "seconds"):
            row[name] = "" if own is None else own[name]
        row["samples/s"] = "" if own is None else own["samples"] / own["seconds"]
        for name in ("frc_area_0.2", "frc_area_0.5", "log_likelihood"):
            row[name] = float(each[name].mean())
            row[f"± {name}"] = float(each[name].std())
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
