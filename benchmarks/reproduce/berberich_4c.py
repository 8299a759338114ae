"""Berberich et al., figure 4C: how close two parallel filaments may be and still be told apart.

Pairs of straight microtubules, 25 nm wide, labelled by antibodies and as sparse as in the real
fields, are simulated at distances of 30 to 150 nm, 20 times each, at a random angle. An image of
them is averaged along the filaments (one simulation has the same angle and noise at every
distance); they count as resolved where the profile has two maxima and falls by 26.5 % (Rayleigh)
between them. A simulation's smallest resolved distance is the one from which on all larger ones are
resolved.

The network of figure 4A, trained on the published targets with both losses, stands beside the
counts, the best of five Gaussians, the anisotropic estimate and a light Noise2Noise network, which
saw the same fields without any target. None of them was trained on simulated pairs. Both trainings
take the pairs that a third of the budget buys, as in figure 4A, whose network this is.

The average along the filaments knows their direction, which no method does, and takes nearly all
noise away. The label is a flat strip of 25 nm, each emitter displaced by 8 nm: 11 nm across in all,
about half as wide as a tube of two layers of antibodies. So counts and narrow kernels do best here,
though in their images nobody sees two lines; the measure says how much a method widens or merges
what it draws, not how well it fills gaps.

How sparse the real fields are, localizations for each nm of filament, `real.measure_sparsity` says;
the median over the fields is taken. Which dip the published distance stands for is not said.

Published: 89.15 ± 2.61 nm.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from benchmarks.real_microtubules import RECIPES
from benchmarks.reproduce import recipes
from benchmarks.reproduce.real import (
    BOTH,
    LOSSES,
    PIXEL_SIZE,
    RealField,
    fit_to_dense,
    measure_sparsity,
    read_fields,
)
from benchmarks.reproduce.study import Claim, Finding, Recipe, Row, Study
from smlmkit import (
    AnisotropicKDE,
    GaussianKDE,
    Localizations,
    N2NReconstructor,
    Renderer,
    make_two_filaments,
)
from smlmkit.batch.identity import digest_table
from smlmkit.metrics.filaments import averaged_profile, smallest_resolved, two_peaks

DISTANCES = tuple(range(30, 155, 5))
N_SIMULATIONS = 20
PUBLISHED = 89.15
LENGTH = 3000.0
FIELD_SIZE = 4000.0
MICROTUBULE = {
    "length": LENGTH,
    "field_size": FIELD_SIZE,
    "thickness": 25.0,
    "linkage_error": 8.0,
    "uncertainty": 10.0,
    "background": 0.05,
}
HALF_WIDTH_NM = 250.0
SIGMAS = (10, 15, 20, 25, 30)
SHOWN_DISTANCE = 70.0
MIDDLE = slice(FIELD_SIZE / 2 - 800, FIELD_SIZE / 2 + 800)
LIGHT = Recipe(RECIPES["light"], pairs_per_minute=6_000)
N2N = "Noise2Noise, light"
NETWORK = f"pix2pix, {BOTH}"


def reproduce(study: Study, data: Path) -> Finding:
    """Train both networks, simulate pairs of filaments and find the closest that are resolved."""
    training, test = read_fields(data)
    sparsity = study.keep(
        "sparsity",
        {"fields": [digest_table(field.table) for field in [*training, test]]},
        lambda: {field.name: measure_sparsity(field) for field in [*training, test]},
    )
    linear_density = float(np.median(list(sparsity.values())))
    study.report(f"{linear_density:.3f} localizations per nm of filament")
    methods = make_methods(study, training)
    rows = []
    for name, method in methods.items():
        settings = {
            "density": linear_density,
            "distances": DISTANCES,
            "simulations": N_SIMULATIONS,
            "half_width": HALF_WIDTH_NM,
            "method": repr(method),
            **MICROTUBULE,
        }
        if isinstance(method, N2NReconstructor):
            settings["network"] = repr(sorted(method.fitted_parameters_.items()))
        rows += study.keep(
            f"pairs by {name}",
            settings,
            lambda name=name: resolve_pairs(name, methods[name], linear_density, study.seed),
        )
    resolved = pd.DataFrame(rows)
    limits = find_limits(resolved)
    return Finding(
        rows=rows,
        claims=make_claims(limits),
        draw=lambda canvas: draw(canvas, resolved, limits, methods, linear_density, study.seed),
        facts={
            "localizations_per_nm": sparsity,
            "simulated_localizations_per_nm": linear_density,
            "simulation": MICROTUBULE,
            "smallest_resolved": limits.groupby("method", sort=False)["limit"]
            .agg(["mean", "std", "count"])
            .to_dict("index"),
        },
        size=(12.8, 6.4),
    )


def make_methods(study: Study, training: list[RealField]) -> dict:
    """Train the networks; give what makes an image of a table."""
    recipe = recipes.berberich(study.budget)
    samples = study.budget.samples_each(len(LOSSES), recipe)
    light = N2NReconstructor(
        pixel_size=PIXEL_SIZE,
        max_samples=study.budget.samples_each(len(LOSSES), LIGHT),
        random_state=study.seed,
        **LIGHT.parameters,
    )
    tables = [field.table for field in training]
    digests = [digest_table(table) for table in tables]
    return {
        "counts": Renderer(PIXEL_SIZE),
        **{f"Gaussian {sigma} nm": GaussianKDE(sigma) for sigma in SIGMAS},
        "anisotropic KDE": AnisotropicKDE(support="neighbors"),
        NETWORK: fit_to_dense(study, BOTH, training, recipe, samples),
        N2N: study.fit("light", light, tables, fields=digests),
    }


def resolve_pairs(name: str, method: object, linear_density: float, seed: int) -> list[Row]:
    """Look at every simulated pair."""
    rows = []
    for simulation in range(N_SIMULATIONS):
        for distance in DISTANCES:
            table, angle = simulate(distance, linear_density, N_SIMULATIONS * seed + simulation)
            found = two_peaks(*cut(reconstruct(method, table), angle))
            rows.append(
                {
                    "method": name,
                    "simulation": simulation,
                    "distance": distance,
                    "resolved": bool(found.resolved),
                    "dip": found.dip,
                }
            )
    return rows


def simulate(distance: float, linear_density: float, seed: int) -> tuple[Localizations, float]:
    """Draw a pair of filaments; simulations of one seed have one angle."""
    angle = float(np.random.default_rng(seed).uniform(0, 180))
    n_localizations = 2 * LENGTH * linear_density / (1 - MICROTUBULE["background"])
    density = n_localizations / (FIELD_SIZE / 1000) ** 2
    table, _ = make_two_filaments(
        distance, angle=angle, density=density, random_state=seed, **MICROTUBULE
    )
    return table, angle


def reconstruct(method: object, table: Localizations) -> xr.DataArray:
    """Make an image of a table, with whatever makes one."""
    if isinstance(method, N2NReconstructor):
        return method.predict(table)
    if isinstance(method, Renderer):
        return method.transform(table)
    return method.fit_transform(Renderer(PIXEL_SIZE).transform(table))


def cut(image: xr.DataArray, angle: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average an image along the filaments; offsets in nm."""
    middle = FIELD_SIZE / 2 / PIXEL_SIZE
    offset, profile = averaged_profile(
        image.to_numpy(),
        (middle, middle),
        angle=angle,
        length=0.8 * LENGTH / PIXEL_SIZE,
        half_width=HALF_WIDTH_NM / PIXEL_SIZE,
    )
    return offset * PIXEL_SIZE, profile


def find_limits(resolved: pd.DataFrame) -> pd.DataFrame:
    """Give the smallest resolved distance of every method and simulation."""
    return pd.DataFrame(
        {
            "method": method,
            "simulation": simulation,
            "limit": smallest_resolved(pairs["distance"], pairs["resolved"].to_numpy(bool)),
        }
        for (method, simulation), pairs in resolved.groupby(["method", "simulation"], sort=False)
    )


def make_claims(limits: pd.DataFrame) -> list[Claim]:
    """Put what was published beside what was found."""
    by_method = limits.groupby("method", sort=False)["limit"].agg(["mean", "std", "count"])
    claims = []
    for name in (NETWORK, N2N, "anisotropic KDE", best_gaussian(by_method), "counts"):
        mean, spread, count = by_method.loc[name]
        claims.append(
            Claim(
                f"{PUBLISHED} ± 2.61 nm",
                f"{name}: {mean:.1f} ± {spread:.1f} nm, "
                f"in {count:.0f} of {N_SIMULATIONS} simulations",
                bool(mean <= PUBLISHED and count == N_SIMULATIONS),
            )
        )
    return claims


def best_gaussian(by_method: pd.DataFrame) -> str:
    """Name the Gaussian that resolves the closest pairs, of those that do so most often."""
    gaussians = by_method[by_method.index.str.startswith("Gaussian")]
    return gaussians.sort_values(["count", "mean"], ascending=[False, True]).index[0]


def draw(
    canvas: Canvas,
    resolved: pd.DataFrame,
    limits: pd.DataFrame,
    methods: dict,
    linear_density: float,
    seed: int,
) -> None:
    """Draw the limits, how many pairs are resolved, and one pair with its profiles."""
    charts, pictures = canvas.subfigures(2, 1, height_ratios=[1.4, 1])
    by_limit, by_distance, profiles = charts.subplots(1, 3)
    found = limits.groupby("method", sort=False)["limit"].agg(["mean", "std", "count"])
    by_limit.errorbar(found["mean"], found.index, xerr=found["std"], fmt="o")
    by_limit.axvline(PUBLISHED, c="0.5", ls="--", lw=1)
    by_limit.invert_yaxis()
    by_limit.set(title="smallest resolved distance (nm)\ndashed: published")
    share = resolved.groupby(["method", "distance"], sort=False)["resolved"].mean()
    table, angle = simulate(SHOWN_DISTANCE, linear_density, N_SIMULATIONS * seed)
    shown = ("counts", best_gaussian(found), "anisotropic KDE", NETWORK, N2N)
    for name, ax in zip(shown, pictures.subplots(1, len(shown)), strict=True):
        image = reconstruct(methods[name], table)
        offset, profile = cut(image, angle)
        by_distance.plot(DISTANCES, 100 * share[name], label=name)
        profiles.plot(offset, profile / profile.max())
        part = image.sel(y=MIDDLE, x=MIDDLE)
        ax.imshow(part, cmap="inferno", vmin=0, vmax=np.percentile(image, 99.8))
        ax.set_title(name, fontsize=8)
        ax.set(xticks=[], yticks=[])
    by_distance.set(title="pairs resolved (%)", xlabel="distance (nm)")
    by_distance.legend(fontsize=7, frameon=False)
    profiles.set(title=f"profile across {SHOWN_DISTANCE:g} nm", xlabel="offset (nm)")
