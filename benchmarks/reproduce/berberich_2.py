"""Berberich et al., figures 1 and 2: density estimates and what the FRC says of ever fewer blinks.

A fraction of a field's localizations is drawn at random. Three questions are asked of it:

- *halves*: how well do its own raw halves correlate (`frc_by_fraction`)? The published counts have
  no frames, so both halves hold blinks of the same emitters, and correlate better than the
  structure.
- *all*: how well does its density estimate correlate with the estimate of all localizations of the
  same kind, as in the paper? The fraction is part of all, so that even at frequencies that hold
  noise only, raw counts correlate by the root of the fraction. A kernel does not change that: the
  ring correlation is blind to isotropic filters, and one that links localizations to structures
  links the same ones in both images.
- *truth*: how well does it correlate with what a simulated field of microtubules was drawn from?
  Here every gain is real.

The estimates are counts, Gaussians of several widths, the published anisotropic estimate at scales
of 1 to 4 and the one whose kernels follow neighbours. Nothing is trained. The paper's fields are
tables of one acquisition each; ours are the published counts of a time window, every localization
anywhere in its pixel.

Published: the area of the correlation up to 0.2 and 0.5 cycles per pixel rises with the fraction;
the anisotropic estimate keeps filaments that are sampled sparsely as lines.
"""

from pathlib import Path

import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from benchmarks.reproduce.real import CUTOFFS, PIXEL_SIZE, KnownField, read_fields
from benchmarks.reproduce.simulated import expected_image
from benchmarks.reproduce.study import Claim, Finding, Row, Study
from smlmkit import (
    AnisotropicKDE,
    GaussianKDE,
    Localizations,
    Renderer,
    frc_by_fraction,
    frc_curve,
    make_microtubules,
)

FRACTIONS = (0.05, 0.1, 0.2, 0.5, 1.0)
SPARSE = 0.1
N_SPLITS = 3
SIMULATED = {"field_size": 20_000.0, "n_filaments": 40, "density": 300.0, "uncertainty": 10.0}
"""As long filaments and as many localizations as the real fields have."""

ESTIMATES = {
    "counts": None,
    **{f"Gaussian {sigma} nm": GaussianKDE(sigma) for sigma in (10, 20, 30, 40)},
    **{f"anisotropic, scale {scale}": AnisotropicKDE(scale=scale) for scale in (1, 2, 3, 4)},
    "anisotropic, neighbours": AnisotropicKDE(support="neighbors"),
}
SHOWN = ("counts", "Gaussian 30 nm", "anisotropic, scale 4", "anisotropic, neighbours")
HALVES_NM = (-1500.0, 1500.0)
"""What is shown of the held-out field, from its middle."""


def reproduce(study: Study, data: Path) -> Finding:
    """Measure every real field and a simulated one."""
    training, test = read_fields(data)
    fields = [*training, test]
    settings = {"fractions": FRACTIONS, "splits": N_SPLITS, "estimates": list(ESTIMATES)}
    rows = []
    for field in fields:
        rows += study.keep(field.name, settings, lambda field=field: measure(field, study.seed))
    simulated, truth = make_microtubules(random_state=study.seed, **SIMULATED)
    reference = expected_image(truth, SIMULATED["density"], SIMULATED["uncertainty"])
    rows += study.keep(
        "simulated",
        {**settings, **SIMULATED},
        lambda: measure_truth(simulated, reference, study.seed),
    )
    measured = pd.DataFrame(rows)
    return Finding(
        rows=rows,
        claims=make_claims(measured),
        draw=lambda canvas: draw(canvas, measured, test, study.seed),
        facts={
            "localizations": {field.name: len(field.table) for field in fields},
            "simulated": {**SIMULATED, "localizations": len(simulated)},
        },
        size=(12.8, 6.4),
    )


def measure(field: KnownField, seed: int) -> list[Row]:
    """Correlate raw halves, and the estimates of fractions with those of all localizations."""
    rows = [
        {"question": "halves", "field": field.name, "estimate": "counts", **row}
        for row in correlate_halves(field.table, seed)
    ]
    for name in ESTIMATES:
        of_all = estimate(name, field.table)
        for fraction in FRACTIONS[:-1]:
            image = estimate(name, field.table.thin(fraction, seed))
            where = {"question": "all", "field": field.name, "estimate": name}
            rows.append({**where, "fraction": fraction, **correlate(image, of_all)})
    return rows


def measure_truth(table: Localizations, reference: xr.DataArray, seed: int) -> list[Row]:
    """Correlate the estimates of fractions with the expected density."""
    return [
        {
            "question": "truth",
            "field": "simulated",
            "estimate": name,
            "fraction": fraction,
            **correlate(estimate(name, table.thin(fraction, seed)), reference),
        }
        for name in ESTIMATES
        for fraction in FRACTIONS
    ]


def correlate_halves(table: Localizations, seed: int) -> list[Row]:
    """Give resolution and areas of raw halves at every fraction."""
    both = [
        frc_by_fraction(table, FRACTIONS, cutoff=cutoff, repeats=N_SPLITS, random_state=seed)
        for cutoff in CUTOFFS
    ]
    columns = both[0][["fraction", "resolution"]].assign(
        **{f"area_{cutoff}": found["area"] for cutoff, found in zip(CUTOFFS, both, strict=True)}
    )
    return columns.to_dict("records")


def estimate(name: str, table: Localizations) -> xr.DataArray:
    """Draw a density estimate of a table."""
    counts = Renderer(PIXEL_SIZE).transform(table)
    kind = ESTIMATES[name]
    return counts if kind is None else kind.fit_transform(counts)


def correlate(image: xr.DataArray, reference: xr.DataArray) -> Row:
    """Give resolution and areas of the correlation of two images."""
    curve = frc_curve(image.to_numpy(), reference.to_numpy(), pixel_size=PIXEL_SIZE)
    areas = {f"area_{cutoff}": curve.area(cutoff) for cutoff in CUTOFFS}
    return {"resolution": curve.resolution, **areas}


def make_claims(measured: pd.DataFrame) -> list[Claim]:
    """Put what was published beside what was found."""
    halves = measured[measured["question"] == "halves"]
    areas = halves.pivot(index="field", columns="fraction", values=["area_0.2", "area_0.5"])
    rises = [
        (areas[f"area_{cutoff}"].diff(axis=1).iloc[:, 1:] > 0).all(axis=None) for cutoff in CUTOFFS
    ]
    few, many = (areas["area_0.2"][fraction] for fraction in (SPARSE, 1.0))
    of_truth = at_fraction(measured, "truth", SPARSE)
    windows = of_truth[of_truth.index.str.startswith("anisotropic, scale")]
    gaussians = of_truth[of_truth.index.str.startswith("Gaussian")]
    best, neighbours = windows.idxmax(), of_truth["anisotropic, neighbours"]
    return [
        Claim(
            "the area up to 0.2 and 0.5 cycles/px rises with the fraction",
            f"in {len(areas)} fields, raw halves, up to 0.2: {few.mean():.3f} at {SPARSE:.0%}, "
            f"{many.mean():.3f} at all",
            bool(all(rises)),
        ),
        Claim(
            f"anisotropic estimates restore filaments from {SPARSE:.0%} of the localizations "
            "better than counts or any isotropic kernel, to which the FRC is blind",
            f"area to the truth, up to 0.2: {best} {windows.max():.3f}, neighbours "
            f"{neighbours:.3f}, best Gaussian {gaussians.max():.3f}",
            bool(max(windows.max(), neighbours) > gaussians.max()),
        ),
    ]


def at_fraction(measured: pd.DataFrame, question: str, fraction: float) -> pd.Series:
    """Give the mean area up to 0.2 of every estimate."""
    chosen = (measured["question"] == question) & (measured["fraction"] == fraction)
    return measured[chosen].groupby("estimate", sort=False)["area_0.2"].mean()


def draw(canvas: Canvas, measured: pd.DataFrame, test: KnownField, seed: int) -> None:
    """Draw the measures against the fraction, and estimates of a part of the held-out field."""
    charts, pictures = canvas.subfigures(2, 1, height_ratios=[1.15, 1])
    resolution, halves, of_all, of_truth = charts.subplots(1, 4)
    draw_halves(resolution, halves, measured[measured["question"] == "halves"])
    draw_estimates(of_all, measured[measured["question"] == "all"])
    draw_estimates(of_truth, measured[measured["question"] == "truth"])
    of_all.set(title="estimate of the fraction and of all\n(mean of real fields)")
    of_truth.set(title="estimate of the fraction\nand the simulated truth")
    of_all.legend(fontsize=6, frameon=False, loc="lower right")

    few = test.table.thin(SPARSE, seed)
    shown = {f"{name}, {SPARSE:.0%}": estimate(name, few) for name in SHOWN}
    shown["published estimate of the acquisition"] = test.dense
    middle = slice(*(test.table.field_of_view.height / 2 + half for half in HALVES_NM))
    for ax, (title, image) in zip(pictures.subplots(1, len(shown)), shown.items(), strict=True):
        part = image.sel(y=middle, x=middle)
        white = float(part.quantile(0.995)) or float(part.max())
        ax.imshow(part, cmap="inferno", vmin=0, vmax=white, interpolation="nearest")
        ax.set_title(title, fontsize=8)
        ax.set(xticks=[], yticks=[])


def draw_halves(resolution: Axes, area: Axes, halves: pd.DataFrame) -> None:
    """Draw what raw halves say of every field."""
    for name, field in halves.groupby("field"):
        (line,) = resolution.plot(100 * field["fraction"], field["resolution"], "o-", ms=3)
        for cutoff, style in zip(CUTOFFS, ("o-", "o--"), strict=True):
            label = name if cutoff == CUTOFFS[0] else None
            values = field[f"area_{cutoff}"]
            area.plot(100 * field["fraction"], values, style, ms=3, c=line.get_color(), label=label)
    resolution.set(title="raw halves: resolution (nm)", yscale="log")
    area.set(title=f"raw halves: area up to\n{CUTOFFS[0]} (lines), {CUTOFFS[1]} (dashed)")
    area.legend(fontsize=6, frameon=False)
    for ax in (resolution, area):
        ax.set(xlabel="localizations (%)")


def draw_estimates(ax: Axes, measured: pd.DataFrame) -> None:
    """Draw the area of every estimate against the fraction."""
    for name in ESTIMATES:
        area = measured[measured["estimate"] == name].groupby("fraction")["area_0.2"].mean()
        style = ":" if name.startswith("Gaussian") else "-"
        ax.plot(100 * area.index, area, style, marker="o", ms=3, label=name)
    ax.set(xlabel="localizations (%)", ylabel="FRC area up to 0.2 cycles/px")
