"""Lefebvre et al., figure 2B: supervised training, fixed and dynamic pairs, equal samples.

64 fields of 256 x 256 px are simulated, with a table of the paper's training density each and, for
the supervised strategy, a second table ten times as dense. `GridSearchCV` trains every strategy on
three quarters of the fields, four times, and scores the loss of its own kind of pairs on the rest.
Then each strategy learns from all 64 fields, from a quarter of the folds' pairs to 16 times as
many, and reconstructs 64 others, which shows where it is heading. Reference and scaling are those
of `simulated.py`.

Published: the losses of the folds differ by 0.8 to 2.5 %; SSIM dynamic > n2c > fixed, with
differences significant at 0.005 in a two-sample t-test; PSNR does not differ. That test takes the
64 fields for two independent samples, although they are the same ones; the paired test, which is
shown beside it, sees smaller differences.
"""

import math
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from matplotlib.figure import Figure as Canvas
from scipy.stats import ttest_ind, ttest_rel
from sklearn.model_selection import GridSearchCV, KFold
from torch.nn.functional import smooth_l1_loss

from benchmarks.reproduce import recipes
from benchmarks.reproduce.simulated import (
    DENSITY,
    FIELD_PX,
    PIXEL_SIZE,
    SEEDS_OF_A_STUDY,
    WHITE_PERCENTILE,
    Field,
    draw_again,
    expected_image,
    reference_image,
    similarities,
    simulate,
)
from benchmarks.reproduce.study import Claim, Finding, Row, Study
from smlmkit import Localizations, N2NReconstructor, Renderer
from smlmkit.batch.identity import digest_table
from smlmkit.strategies import resolve_strategy

N_FIELDS = 64
N_FOLDS = 4
STRATEGIES = ("n2c", "fixed", "dynamic")
CLEAN_DENSITY = 10 * DENSITY
LENGTHS = (0.25, 1, 4, 16)
"""Of the trainings on all fields, in units of a fold's."""

SIGNIFICANT = 0.005
N_LOSS_PAIRS = 1024


class KeptReconstructor(N2NReconstructor):
    """An `N2NReconstructor` whose trainings are kept by the study, so that a search can go on."""

    study: Study

    def fit(self, X: Any, y: Any = None) -> "KeptReconstructor":
        """Train, or take what was trained before."""
        plain = N2NReconstructor(**self.get_params(deep=False))
        fields = [digest_table(table) for table in X]
        name = f"{self.strategy} on {len(X)} fields"
        fitted = self.study.fit(name, plain, X, y, fields=fields, clean_density=CLEAN_DENSITY)
        self.__dict__.update(fitted.__dict__)
        return self


def reproduce(study: Study) -> Finding:
    """Search over the strategies, then train on all fields and test on others."""
    recipe = recipes.lefebvre(study.budget)
    n_trainings = math.ceil(len(STRATEGIES) * (N_FOLDS + sum(LENGTHS)))
    samples = study.budget.samples_each(n_trainings, recipe)
    batch = recipe.parameters["batch_size"]
    lengths = [max(batch, round(length * samples)) for length in LENGTHS]
    first_seed = SEEDS_OF_A_STUDY * study.seed
    seeds = range(first_seed, first_seed + N_FIELDS)
    training = [simulate(seed) for seed in seeds]
    sparse = [field.table for field in training]
    clean = [
        draw_again(field.truth, CLEAN_DENSITY, seed)
        for seed, field in zip(seeds, training, strict=True)
    ]
    study.report(f"simulated {N_FIELDS} fields; folds of {samples:,} pairs, then {lengths}")
    model = KeptReconstructor(
        pixel_size=PIXEL_SIZE, max_samples=samples, random_state=study.seed, **recipe.parameters
    )
    KeptReconstructor.study = study
    folds = search(model, sparse, clean)
    tests = [simulate(N_FIELDS + seed) for seed in seeds]
    rows = [
        {"strategy": "input", "pairs": lengths[-1], **scores}
        for scores in score_images(Renderer(PIXEL_SIZE).transform, tests)
    ]
    for n_pairs in lengths:
        for strategy in STRATEGIES:
            model.set_params(strategy=strategy, max_samples=n_pairs).fit(sparse, clean)
            rows += [
                {"strategy": strategy, "pairs": n_pairs, **scores}
                for scores in score_images(model.predict, tests)
            ]
    curve = pd.DataFrame(rows)
    images = curve[curve["pairs"] == lengths[-1]]
    return Finding(
        rows=[{"table": "folds", **row} for row in folds]
        + [{"table": "images", **row} for row in rows],
        claims=make_claims(pd.DataFrame(folds), images),
        draw=lambda canvas: draw(canvas, curve, images, tests[0], model),
        facts={
            "pairs_of_folds": samples,
            "pairs_of_all_fields": lengths,
            "recipe": recipe.parameters,
            "t_tests": compare(images),
            "means": means_of(curve).reset_index().to_dict("records"),
        },
        size=(15, 4),
    )


def search(
    model: KeptReconstructor, sparse: list[Localizations], clean: list[Localizations]
) -> list[Row]:
    """Cross-validate every strategy; give a row for each fold."""
    found = GridSearchCV(
        model,
        {"strategy": list(STRATEGIES)},
        scoring=score_fold,
        cv=KFold(N_FOLDS),
        refit=False,
        error_score="raise",
    ).fit(sparse, clean)
    results = found.cv_results_
    return [
        {
            "strategy": strategy,
            "fold": fold,
            "loss": -results[f"split{fold}_test_negative_loss"][position],
        }
        for position, strategy in enumerate(results["param_strategy"])
        for fold in range(N_FOLDS)
    ]


def score_fold(model: KeptReconstructor, X: Any, y: Any) -> dict[str, float]:
    """Give the loss of the strategy's own pairs from fields that were not trained on."""
    strategy = resolve_strategy(model.strategy)
    pairs = strategy.make_pairs(
        X, y, patch_size=model.patch_size, pixel_size=model.pixel_size, seed=0
    )
    inputs, targets = map(torch.from_numpy, pairs.draw(N_LOSS_PAIRS))
    network = model.networks_[0].eval()
    with torch.inference_mode():
        predicted = torch.cat([network(batch) for batch in inputs.split(64)])
        return {"negative_loss": -float(smooth_l1_loss(predicted, targets))}


def score_images(
    draw_image: Callable[[Localizations], xr.DataArray], tests: Sequence[Field]
) -> list[Row]:
    """Compare images of fields with what many more blinks show."""
    return [
        {
            "field": number,
            **similarities(draw_image(field.table), reference_image(field.truth, number)),
        }
        for number, field in enumerate(tests)
    ]


def means_of(images: pd.DataFrame) -> pd.DataFrame:
    """Average over the fields."""
    return images.groupby(["strategy", "pairs"])[["ssim", "psnr"]].mean()


def compare(images: pd.DataFrame) -> list[Row]:
    """Test every pair of strategies for a difference of their means."""
    rows = []
    for measure in ("ssim", "psnr"):
        by_strategy = {name: group[measure] for name, group in images.groupby("strategy")}
        for one, other in combinations(STRATEGIES, 2):
            test = ttest_ind(by_strategy[one], by_strategy[other])
            difference = float(by_strategy[one].mean() - by_strategy[other].mean())
            rows.append(
                {
                    "measure": measure,
                    "strategies": f"{one} - {other}",
                    "difference": difference,
                    "p": float(test.pvalue),
                    "p_paired": float(ttest_rel(by_strategy[one], by_strategy[other]).pvalue),
                }
            )
    return rows


def make_claims(folds: pd.DataFrame, images: pd.DataFrame) -> list[Claim]:
    """Put what was published beside what was found."""
    loss = folds.groupby("strategy")["loss"]
    spread = (loss.std() / loss.mean()).reindex(STRATEGIES)
    means = images.groupby("strategy")[["ssim", "psnr"]].mean()
    ssim, psnr = means["ssim"], means["psnr"]
    p_values = {
        measure: [row["p"] for row in compare(images) if row["measure"] == measure]
        for measure in ("ssim", "psnr")
    }
    return [
        Claim(
            "losses of the folds differ by 0.8 to 2.5 %",
            ", ".join(f"{name} {100 * value:.1f} %" for name, value in spread.items()),
            bool((spread <= 0.025).all()),
        ),
        Claim(
            f"SSIM: dynamic > n2c > fixed, each p < {SIGNIFICANT}",
            ", ".join(f"{name} {ssim[name]:.3f}" for name in ssim.sort_values().index[::-1])
            + f"; largest p {max(p_values['ssim']):.2g}",
            bool(
                ssim["dynamic"] > ssim["n2c"] > ssim["fixed"]
                and max(p_values["ssim"]) < SIGNIFICANT
            ),
        ),
        Claim(
            f"PSNR does not differ (p > {SIGNIFICANT})",
            ", ".join(f"{name} {psnr[name]:.2f} dB" for name in STRATEGIES)
            + f"; least p {min(p_values['psnr']):.2g}",
            bool(min(p_values["psnr"]) > SIGNIFICANT),
        ),
    ]


def draw(
    canvas: Canvas,
    curve: pd.DataFrame,
    images: pd.DataFrame,
    field: Field,
    model: N2NReconstructor,
) -> None:
    """Draw both measures as boxes, SSIM against the number of pairs, and one field."""
    axes = canvas.subplots(1, 6, width_ratios=[1.3, 1.3, 1.3, 1, 1, 1])
    names = ["input", *STRATEGIES]
    for ax, measure, title in zip(axes, ("ssim", "psnr"), ("SSIM", "PSNR (dB)"), strict=False):
        groups = [images.loc[images["strategy"] == name, measure] for name in names]
        ax.boxplot(groups, tick_labels=names, showfliers=False)
        ax.set(title=title)
    for name in STRATEGIES:
        means = means_of(curve).loc[name, "ssim"]
        axes[2].plot(means.index, means, "o-", label=name)
    axes[2].set(title="mean SSIM", xlabel="training pairs", xscale="log")
    axes[2].legend(frameon=False)
    shown = {
        "input": Renderer(PIXEL_SIZE).transform(field.table),
        "dynamic": model.predict(field.table),
        "expected": expected_image(field.truth, DENSITY),
    }
    white = float(np.percentile(shown["expected"], WHITE_PERCENTILE))
    for ax, (title, image) in zip(axes[3:], shown.items(), strict=True):
        ax.imshow(image, cmap="inferno", vmin=0, vmax=white, interpolation="nearest")
        ax.set(title=title, xticks=[], yticks=[], xlabel=f"{FIELD_PX * PIXEL_SIZE / 1000:g} µm")
