"""Lefebvre et al., figure 2A: how many blinks a reconstruction saves.

A network learns from dynamic pairs of fields that are simulated on the fly, at 10,000 blinks per
square micrometre and a localization error of 5 nm. Other fields are then drawn at densities from
1,000 to 1,000,000 and errors from 1 to 20 nm, reconstructed, and compared with the image of
2,000,000 blinks of 5 nm; so is the raw input. Reference and scaling are those of `simulated.py`; at
the training's error the other scalings stand beside it.

Published: the reconstruction's SSIM levels off at 0.8, its PSNR at 17 to 18 dB; the input overtakes
it only above 100,000 blinks per square micrometre: an order of magnitude fewer blinks.
"""

import warnings

import pandas as pd
from matplotlib.figure import Figure as Canvas

from benchmarks.reproduce import recipes
from benchmarks.reproduce.fresh import FreshHalves
from benchmarks.reproduce.simulated import (
    DENSITY,
    PIXEL_SIZE,
    SCALINGS,
    SEEDS_OF_A_STUDY,
    UNCERTAINTY,
    draw_again,
    reference_image,
    similarities,
    simulate,
)
from benchmarks.reproduce.study import Claim, Finding, Row, Study
from smlmkit import N2NReconstructor, Renderer
from smlmkit.errors import UnfamiliarTableWarning

DENSITIES = (1_000.0, 3_000.0, 10_000.0, 30_000.0, 100_000.0, 300_000.0, 1_000_000.0)
UNCERTAINTIES = (1.0, 5.0, 10.0, 20.0)
SCALING = next(iter(SCALINGS))
N_TESTS = 8
_FIRST_TEST = 500
_FIRST_TRAINING = 1_000_000
LEVEL = slice(30_000.0, 1_000_000.0)


def reproduce(study: Study) -> Finding:
    """Train once, then reconstruct fields of every density and error."""
    recipe = recipes.lefebvre(study.budget)
    samples = study.budget.samples_each(1, recipe)
    study.report(f"a training of {samples:,} pairs")
    first_seed = SEEDS_OF_A_STUDY * study.seed
    model = N2NReconstructor(
        FreshHalves(first_seed + _FIRST_TRAINING),
        pixel_size=PIXEL_SIZE,
        max_samples=samples,
        random_state=study.seed,
        **recipe.parameters,
    )
    model = study.fit("fresh", model, [simulate(first_seed + _FIRST_TEST - 1).table])
    with warnings.catch_warnings():  # that densities are unfamiliar is what is asked here
        warnings.simplefilter("ignore", UnfamiliarTableWarning)
        rows = [
            row
            for number in range(N_TESTS)
            for row in study.keep(
                f"field {number}",
                {
                    "samples": samples,
                    "densities": DENSITIES,
                    "uncertainties": UNCERTAINTIES,
                    "scalings": [*SCALINGS],
                    **recipe.parameters,
                },
                lambda number=number: score_field(model, first_seed, number),
            )
        ]
    scores = pd.DataFrame(rows)
    return Finding(
        rows=means_of(scores).reset_index().to_dict("records"),
        claims=make_claims(scores),
        draw=lambda canvas: draw(canvas, scores),
        facts={"samples": samples, "recipe": recipe.parameters, "n_fields": N_TESTS},
    )


def score_field(model: N2NReconstructor, first_seed: int, number: int) -> list[Row]:
    """Compare reconstruction and input with the reference for blinks of every kind."""
    truth = simulate(first_seed + _FIRST_TEST + number).truth
    reference = reference_image(truth, number)
    rows = []
    for density in DENSITIES:
        for uncertainty in UNCERTAINTIES:
            blinks = draw_again(truth, density, number, uncertainty=uncertainty)
            images = {
                "reconstruction": model.predict(blinks),
                "input": Renderer(PIXEL_SIZE).transform(blinks),
            }
            rows += [
                {
                    "scaling": scaling,
                    "image": name,
                    "density": density,
                    "uncertainty": uncertainty,
                    "field": number,
                    **similarities(image, reference, scaling),
                }
                for name, image in images.items()
                for scaling in (SCALINGS if uncertainty == UNCERTAINTY else [*SCALINGS][:1])
            ]
    return rows


def means_of(scores: pd.DataFrame) -> pd.DataFrame:
    """Average over the fields."""
    keys = ["scaling", "uncertainty", "image", "density"]
    return scores.groupby(keys)[["ssim", "psnr"]].mean()


def make_claims(scores: pd.DataFrame) -> list[Claim]:
    """Put what was published beside what was found, at the error of the training."""
    means = means_of(scores).loc[SCALING, UNCERTAINTY]
    network, raw = means.loc["reconstruction"], means.loc["input"]
    ahead = network["ssim"] >= raw["ssim"]
    overtaken = next((d for d in DENSITIES if d >= DENSITY and not ahead[d]), None)
    at_training = float(network["ssim"][DENSITY])
    ten_times = float(raw["ssim"][10 * DENSITY])
    level = network.loc[LEVEL]
    lowest, highest = level.min(), level.max()
    return [
        Claim(
            "SSIM levels off, at 0.8",
            f"{lowest['ssim']:.3f} to {highest['ssim']:.3f} from {LEVEL.start:,.0f} blinks/µm² on",
            bool(lowest["ssim"] >= 0.8 and highest["ssim"] - lowest["ssim"] < 0.02),
        ),
        Claim(
            "PSNR levels off, at 17 to 18 dB",
            f"{lowest['psnr']:.1f} to {highest['psnr']:.1f} dB",
            bool(lowest["psnr"] >= 17 and highest["psnr"] - lowest["psnr"] < 1),
        ),
        Claim(
            "the input overtakes above 100,000 blinks/µm²",
            f"at {overtaken:,.0f}" if overtaken else "nowhere",
            bool(overtaken is None or overtaken > 100_000),
        ),
        Claim(
            "one order of magnitude fewer blinks",
            f"SSIM of the reconstruction at 10,000: {at_training:.3f}, of the input at 100,000: "
            f"{ten_times:.3f}",
            bool(at_training >= ten_times),
        ),
    ]


def draw(canvas: Canvas, scores: pd.DataFrame) -> None:
    """Draw both measures against density, one colour for each error."""
    means = means_of(scores).loc[SCALING]
    for ax, measure, title in zip(
        canvas.subplots(1, 2), ("ssim", "psnr"), ("SSIM", "PSNR (dB)"), strict=True
    ):
        for position, uncertainty in enumerate(UNCERTAINTIES):
            for image, style in (("reconstruction", "-"), ("input", "--")):
                curve = means.loc[uncertainty, image][measure]
                label = f"{image}, {uncertainty:g} nm"
                ax.plot(curve.index, curve, style, color=f"C{position}", marker=".", label=label)
        ax.axvline(DENSITY, color="0.8", zorder=0)
        ax.set(xscale="log", xlabel="blinks per µm²", ylabel=title)
    ax.legend(frameon=False, fontsize="small")
