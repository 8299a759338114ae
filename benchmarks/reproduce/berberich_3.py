"""Berberich et al., figure 3: how soon a network learns, by its targets and by its loss.

Five kinds of network learn the density of all localizations of a field from 30 % of them, drawn
anew for every crop (`SparseToDense`): with MS-SSIM and FRC as loss, from the counts themselves,
from a Gaussian estimate or from the published anisotropic one with kernels of the same size (the
norm of their covariance); and from the latter with either loss alone. 30 % of the held-out field
are shown to each, and the reconstruction is compared twice:

- with the network's own kind of target, from all localizations, as in the paper: MS-SSIM and FRC
  area, crop by crop and scaled as in `real.py`;
- with the counts of the other 70 %: FRC area. The published counts have no frames, so both parts
  hold blinks of the same emitters: what keeps single clusters of blinks sharp scores too well here,
  the counts themselves most of all.

The paper follows one long training, up to 10^5 steps of one image, by a validation every 250 of
them. Here every point is a training of its own, whose step size falls to 0: what its number of
pairs can buy. So a trace's wobble is that of whole trainings.

Published: MS-SSIM and FRC do not trade off, a network that is trained on both is as good in either
as one that is trained on it alone; density estimates as targets improve convergence, anisotropic
ones most.
"""

import math
from pathlib import Path
from typing import NamedTuple

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
    gain_of,
    read_fields,
)
from benchmarks.reproduce.study import Claim, Finding, Recipe, Study
from smlmkit import (
    AnisotropicKDE,
    GaussianKDE,
    Localizations,
    N2NReconstructor,
    Renderer,
    SparseToDense,
)
from smlmkit.batch.identity import digest_table
from smlmkit.metrics.frc import frc_area

LENGTHS = (1 / 8, 1 / 4, 1 / 2, 1)
SHARE = 0.3
SCALE = 4.0  # square pixels: the norm of a kernel's covariance
TARGETS = {
    "counts": Renderer(PIXEL_SIZE),
    "Gaussian": GaussianKDE(PIXEL_SIZE * math.sqrt(SCALE / math.sqrt(2))),
    "anisotropic": AnisotropicKDE(scale=SCALE),
}


class Kind(NamedTuple):
    """What a network learns, and by which loss."""

    target: str
    loss: str

    def __str__(self) -> str:
        return f"{self.target}, {self.loss}"


KINDS = [
    *(Kind(target, BOTH) for target in TARGETS),
    *(Kind("anisotropic", loss) for loss in LOSSES if loss != BOTH),
]


def reproduce(study: Study, data: Path) -> Finding:
    """Train every kind of network with rising numbers of pairs."""
    recipe = recipes.berberich(study.budget)
    samples = study.budget.samples_each(math.ceil(len(KINDS) * sum(LENGTHS)), recipe)
    batch = recipe.parameters["batch_size"]
    lengths = sorted({max(batch, round(share * samples)) for share in LENGTHS})
    training, test = read_fields(data)
    study.report(f"{len(KINDS)} kinds of network, trained with {lengths} pairs each")
    shown, hidden = part(test.table, study.seed)
    hidden_counts = Renderer(PIXEL_SIZE).transform(hidden)
    rows, images = [], {}
    for kind in KINDS:
        target = draw_target(kind.target, test.table)
        for n_pairs in lengths:
            model = train(study, kind, training, recipe, n_pairs)
            image = images[kind] = model.predict(shown)
            held_out = frc_area(image, hidden_counts, cutoff=0.2)
            rows += [
                {**kind._asdict(), "pairs": n_pairs, "crop": crop, **scores, "held_out": held_out}
                for crop, scores in enumerate(compare_crops(image, target))
            ]
    scores = pd.DataFrame(rows)
    return Finding(
        rows=rows,
        claims=make_claims(scores),
        draw=lambda canvas: draw(canvas, scores, images, shown, test),
        facts={
            "pairs": lengths,
            "recipe": recipe.parameters,
            "losses": LOSSES,
            "targets": {name: repr(target) for name, target in TARGETS.items()},
            "shown": len(shown),
            "held_out_area_of_counts": frc_area(
                Renderer(PIXEL_SIZE).transform(shown), hidden_counts, cutoff=0.2
            ),
        },
        size=(12.8, 6.4),
    )


def part(table: Localizations, seed: int) -> tuple[Localizations, Localizations]:
    """Part a table at random into what is shown and what is not."""
    is_shown = np.random.default_rng(seed).random(len(table)) < SHARE
    return table.select(is_shown), table.select(~is_shown)


def draw_target(name: str, table: Localizations) -> xr.DataArray:
    """Draw what networks learn to draw of a table."""
    if name == "counts":
        return TARGETS[name].transform(table)
    return TARGETS[name].fit_transform(Renderer(PIXEL_SIZE).transform(table))


def train(
    study: Study, kind: Kind, fields: list[KnownField], recipe: Recipe, n_pairs: int
) -> N2NReconstructor:
    """Train one network."""
    model = N2NReconstructor(
        strategy=SparseToDense(target=TARGETS[kind.target], share=SHARE),
        pixel_size=PIXEL_SIZE,
        loss=LOSSES[kind.loss],
        max_samples=n_pairs,
        random_state=study.seed,
        **recipe.parameters,
    )
    tables = [field.table for field in fields]
    name = f"{kind} {n_pairs}".replace(",", "")
    return study.fit(name, model, tables, fields=[digest_table(table) for table in tables])


def make_claims(scores: pd.DataFrame) -> list[Claim]:
    """Put what was published beside what was found after the longest training."""
    last = scores[scores["pairs"] == scores["pairs"].max()]
    ends = {kind: last[(last[["target", "loss"]] == kind).all(axis=1)] for kind in KINDS}
    both = ends[Kind("anisotropic", BOTH)]
    claims = []
    for loss, measure in (("MS-SSIM", "ms_ssim"), ("FRC", "frc_area_0.2")):
        alone = ends[Kind("anisotropic", loss)]
        claims.append(
            Claim(
                f"{MEASURES[measure]}: trained on both no worse than on {loss} alone",
                f"{both[measure].mean():.4f} and {alone[measure].mean():.4f}, gain "
                f"{gain_of(both, alone, measure)}",
                gain_of(both, alone, measure).is_none_or_more,
            )
        )
    held_out = (
        scores[scores["loss"] == BOTH]
        .groupby(["target", "pairs"])["held_out"]
        .mean()
        .unstack("target")
    )
    found = "; ".join(
        f"{target} " + ", ".join(f"{area:.4f}" for area in held_out[target]) for target in TARGETS
    )
    lengths = ", ".join(f"{pairs:,}" for pairs in held_out.index)
    for one, other in (("Gaussian", "counts"), ("anisotropic", "Gaussian")):
        claims.append(
            Claim(
                f"{one} targets converge sooner than {other}",
                f"FRC area to held-out localizations after {lengths} pairs: {found}",
                bool((held_out[one] > held_out[other]).all()),
            )
        )
    return claims


def draw(
    canvas: Canvas,
    scores: pd.DataFrame,
    images: dict[Kind, xr.DataArray],
    shown: Localizations,
    test: KnownField,
) -> None:
    """Draw the measures against the number of pairs, and the last reconstructions."""
    charts, pictures = canvas.subfigures(2, 1, height_ratios=[1.4, 1])
    titles = {
        "ms_ssim": "MS-SSIM to its own target",
        "frc_area_0.2": "FRC area to its own target",
        "held_out": "FRC area to held-out localizations",
    }
    axes = charts.subplots(1, len(titles))
    for ax, (measure, title) in zip(axes, titles.items(), strict=True):
        for kind in KINDS:
            trace = scores[(scores[["target", "loss"]] == kind).all(axis=1)]
            found = trace.groupby("pairs")[measure].agg(["mean", "sem"])
            style = "o-" if kind.loss == BOTH else "s--"
            ax.errorbar(found.index, found["mean"], found["sem"], fmt=style, ms=4, label=str(kind))
        ax.set(title=title, xlabel="training pairs", xscale="log")
        ax.set_xticks(found.index, [f"{pairs:,}" for pairs in found.index])
        ax.minorticks_off()
    axes[0].legend(fontsize=7, frameon=False)

    middle = test.table.field_of_view.height / 2
    box = dict.fromkeys(("y", "x"), slice(middle - 1500, middle + 1500))
    named = {f"{SHARE:.0%} of the counts": Renderer(PIXEL_SIZE).transform(shown)}
    named |= {str(kind): image for kind, image in images.items()} | {"published": test.dense}
    for ax, (title, image) in zip(pictures.subplots(1, len(named)), named.items(), strict=True):
        white = np.percentile(image, 99.9)
        ax.imshow(image.sel(box), cmap="inferno", vmin=0, vmax=white, interpolation="nearest")
        ax.set_title(title, fontsize=7)
        ax.set(xticks=[], yticks=[])
