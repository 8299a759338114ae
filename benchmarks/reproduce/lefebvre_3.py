"""Lefebvre et al., figure 3: ten sparse fields of actin, ten networks, and how far they differ.

Ten fields are simulated at 1,900 blinks per square micrometre. Ten networks learn from dynamic
pairs, each from all fields but one. All of them reconstruct every field: their mean is the
reconstruction and their mean absolute deviation from it says where they disagree. The paper's actin
was an acquisition; ours has a truth, so that the error can be shown beside the deviation.

Published: the deviation is below 10 % of the mean intensity.
"""

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from benchmarks.reproduce import recipes
from benchmarks.reproduce.simulated import (
    PIXEL_SIZE,
    PLAIN_BLINKS,
    SEEDS_OF_A_STUDY,
    expected_image,
)
from benchmarks.reproduce.study import Claim, Finding, Row, Study
from smlmkit import N2NReconstructor, Renderer, make_actin
from smlmkit.batch.identity import digest_table

N_FIELDS = 10
DENSITY = 1_900.0
FIELD_SIZE = 10_240.0
UNCERTAINTY = 10.0
ZOOM_PX = 300
NEAR_STRUCTURES = 0.05  # of the 99.9th percentile of the mean


def reproduce(study: Study) -> Finding:
    """Train on nine fields at a time and compare what all networks see in each field."""
    recipe = recipes.lefebvre(study.budget)
    samples = study.budget.samples_each(N_FIELDS, recipe)
    fields = [
        make_actin(
            field_size=FIELD_SIZE,
            density=DENSITY,
            uncertainty=UNCERTAINTY,
            random_state=SEEDS_OF_A_STUDY * study.seed + number,
            **PLAIN_BLINKS,
        )
        for number in range(N_FIELDS)
    ]
    tables = [table for table, _ in fields]
    study.report(f"simulated {N_FIELDS} fields; {N_FIELDS} trainings of {samples:,} pairs")
    models = [
        study.fit(
            f"without field {left_out}",
            N2NReconstructor(
                pixel_size=PIXEL_SIZE,
                max_samples=samples,
                random_state=SEEDS_OF_A_STUDY * study.seed + left_out,
                **recipe.parameters,
            ),
            tables[:left_out] + tables[left_out + 1 :],
            fields=[digest_table(table) for table in tables],
            left_out=left_out,
        )
        for left_out in range(N_FIELDS)
    ]
    expected = [expected_image(truth, DENSITY, UNCERTAINTY) for _, truth in fields]
    rows, first = [], None
    for number, table in enumerate(tables):
        opinions = np.stack([model.predict(table).to_numpy() for model in models])
        rows.append({"field": number, **judge(opinions, expected[number].to_numpy(), number)})
        first = opinions if first is None else first
    scores = pd.DataFrame(rows)
    return Finding(
        rows=rows,
        claims=make_claims(scores),
        draw=lambda canvas: draw(
            canvas, Renderer(PIXEL_SIZE).transform(tables[0]), first, expected[0]
        ),
        facts={"samples_each": samples, "recipe": recipe.parameters, "density": DENSITY},
        size=(16, 3.8),
    )


def judge(opinions: NDArray[np.float32], expected: NDArray[np.float32], left_out: int) -> Row:
    """Give deviation and error as shares of the mean intensity, everywhere and on structures."""
    mean = opinions.mean(axis=0)
    deviation = np.abs(opinions - mean).mean(axis=0)
    near = mean > NEAR_STRUCTURES * np.percentile(mean, 99.9)
    error = np.abs(mean - expected * (mean.sum() / expected.sum()))
    unseen = np.abs(opinions[left_out] - np.delete(opinions, left_out, axis=0).mean(axis=0))
    return {
        "deviation": float(deviation.mean() / mean.mean()),
        "deviation_near_structures": float(deviation[near].mean() / mean[near].mean()),
        "deviation_of_unseeing": float(unseen.mean() / mean.mean()),
        "error": float(error.mean() / mean.mean()),
        "share_below_10_percent": float((deviation[near] < 0.1 * mean[near]).mean()),
    }


def make_claims(scores: pd.DataFrame) -> list[Claim]:
    """Put what was published beside what was found."""
    everywhere, near = scores["deviation"], scores["deviation_near_structures"]
    return [
        Claim(
            "the deviation is below 10 % of the mean intensity",
            f"everywhere {percent(everywhere)}, on structures {percent(near)}",
            bool(everywhere.max() < 0.1),
        )
    ]


def percent(shares: pd.Series) -> str:
    """Give the mean over the fields, the least and the largest."""
    return f"{shares.mean():.1%} ({shares.min():.1%} to {shares.max():.1%})"


def draw(
    canvas: Canvas, counts: xr.DataArray, opinions: NDArray[np.float32], expected: xr.DataArray
) -> None:
    """Draw a corner of the first field: input, mean, deviation, truth."""
    mean = opinions.mean(axis=0)
    white = float(np.percentile(mean, 99.9))
    panels = {
        "input": (counts.to_numpy(), white),
        "mean of ten networks": (mean, white),
        "mean absolute deviation, 5 x": (np.abs(opinions - mean).mean(axis=0), white / 5),
        "expected": (expected.to_numpy(), white),
    }
    for ax, (title, (image, brightest)) in zip(
        canvas.subplots(1, len(panels)), panels.items(), strict=True
    ):
        corner = image[:ZOOM_PX, :ZOOM_PX]
        ax.imshow(corner, cmap="inferno", vmin=0, vmax=brightest, interpolation="nearest")
        ax.set(title=title, xticks=[], yticks=[], xlabel=f"{ZOOM_PX * PIXEL_SIZE / 1000:g} µm")
