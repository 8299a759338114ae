"""Berberich et al., figure 4A: networks trained on MS-SSIM, on the FRC, and on both.

Three networks learn the published dense targets of all fields but one, alike but for their loss:
1 - MS-SSIM, 1 - area of the FRC up to 0.2 cycles per pixel, or the sum of both and a tenth of the
absolute difference. Each reconstructs the field that is held out; PSNR, mean square error, MS-SSIM
and FRC areas are taken on crops of it, scaled as `real.py` says. The counts themselves, a Gaussian
and the anisotropic estimate of the same localizations stand beside them.

The paper trains on eight fields and tests on 20 random crops of a ninth one that is not among ours,
512 px wide, each through the network once with dropout on. Here the whole field is predicted with
dropout off and cut into 16 crops that do not overlap, so that the standard error over crops is that
of independent parts; how much one training differs from another is not in it. The FRC keeps its
sign and has a window. The paper's tenth is of mean squares.

Published: trained on both, the network is best or as good as the best in every measure.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure as Canvas

from benchmarks.reproduce import recipes
from benchmarks.reproduce.real import (
    BOTH,
    LOSSES,
    MEASURES,
    PIXEL_SIZE,
    KnownField,
    compare_crops,
    fit_to_dense,
    gain_of,
    read_fields,
)
from benchmarks.reproduce.study import Claim, Finding, Study
from smlmkit import AnisotropicKDE, GaussianKDE, Renderer

ESTIMATES = {
    "Gaussian 30 nm": GaussianKDE(30),
    "anisotropic KDE": AnisotropicKDE(support="neighbors"),
}
ZOOM_NM = 4000.0


def reproduce(study: Study, data: Path) -> Finding:
    """Train with each loss and compare on the held-out field."""
    recipe = recipes.berberich(study.budget)
    samples = study.budget.samples_each(len(LOSSES), recipe)
    training, test = read_fields(data)
    study.report(f"{len(LOSSES)} trainings of {samples:,} pairs on {len(training)} fields")
    counts = Renderer(PIXEL_SIZE).transform(test.table)
    images = {"counts": counts}
    images |= {name: estimate.fit_transform(counts) for name, estimate in ESTIMATES.items()}
    for loss in LOSSES:
        model = fit_to_dense(study, loss, training, recipe, samples)
        images[loss] = model.predict(test.table)
    rows = [
        {"method": name, "crop": number, **scores}
        for name, image in images.items()
        for number, scores in enumerate(compare_crops(image, test.dense))
    ]
    scores = pd.DataFrame(rows)
    return Finding(
        rows=rows,
        claims=make_claims(scores),
        draw=lambda canvas: draw(canvas, scores, images, test),
        facts={
            "samples_each": samples,
            "recipe": recipe.parameters,
            "losses": LOSSES,
            "training_fields": [field.name for field in training],
            "test_field": test.name,
            "means": summarize(scores)["mean"].unstack().to_dict("index"),
            "standard_errors": summarize(scores)["sem"].unstack().to_dict("index"),
        },
        size=(13.6, 5.4),
    )


def summarize(scores: pd.DataFrame) -> pd.DataFrame:
    """Give mean and standard error over crops of every method and measure."""
    measured = scores.drop(columns="crop").melt("method", var_name="measure")
    by_method = measured.groupby(["method", "measure"], sort=False)["value"]
    return by_method.agg(["mean", "sem"])


def make_claims(scores: pd.DataFrame) -> list[Claim]:
    """Put what was published beside what was found, measure by measure."""
    summary = summarize(scores)
    by_loss = {loss: scores[scores["method"] == loss] for loss in LOSSES}
    singles = [loss for loss in LOSSES if loss != BOTH]
    claims = []
    for measure, title in MEASURES.items():
        digits = 2 if measure == "psnr" else 4
        found = ", ".join(
            f"{loss} {summary.loc[(loss, measure), 'mean']:.{digits}f} "
            f"± {summary.loc[(loss, measure), 'sem']:.{digits}f}"
            for loss in LOSSES
        )
        gains = {loss: gain_of(by_loss[BOTH], by_loss[loss], measure) for loss in singles}
        found += "; gain over " + ", ".join(f"{loss} {gain}" for loss, gain in gains.items())
        holds = all(gain.is_none_or_more for gain in gains.values())
        claims.append(Claim(f"{title}: {BOTH} is best, or equal to a standard error", found, holds))
    return claims


def draw(
    canvas: Canvas, scores: pd.DataFrame, images: dict[str, xr.DataArray], test: KnownField
) -> None:
    """Draw the measures of every method, and a part of the held-out field."""
    charts, pictures = canvas.subfigures(2, 1, height_ratios=[1.2, 1])
    summary = summarize(scores)
    names = list(images)
    colours = ["0.6"] * (len(names) - len(LOSSES)) + ["C0", "C1", "C2"]
    for ax, (measure, title) in zip(
        charts.subplots(1, len(MEASURES)), MEASURES.items(), strict=True
    ):
        found = summary.xs(measure, level="measure").loc[names]
        ax.errorbar(found["mean"], names, xerr=found["sem"], fmt="none", ecolor="0.4")
        ax.scatter(found["mean"], names, c=colours, zorder=3)
        ax.invert_yaxis()
        ax.set_title(title, fontsize=9)
        ax.tick_params(labelsize=7, labelleft=measure == next(iter(MEASURES)))

    top, left = (side / 2 - ZOOM_NM / 2 for side in test.table.field_of_view[2:])
    box = {"y": slice(top, top + ZOOM_NM), "x": slice(left, left + ZOOM_NM)}
    shown = {**images, "published target": test.dense}
    for ax, (title, image) in zip(pictures.subplots(1, len(shown)), shown.items(), strict=True):
        white = np.percentile(image, 99.9)
        ax.imshow(image.sel(box), cmap="inferno", vmin=0, vmax=white, interpolation="nearest")
        ax.set_title(title, fontsize=8)
        ax.set(xticks=[], yticks=[])
