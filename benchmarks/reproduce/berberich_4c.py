"""Berberich et al., figure 4C: how close two parallel filaments may be and still be told apart.

Pairs of straight microtubules, 25 nm wide, labelled by antibodies and as sparse as in the real
fields, are simulated at distances of 30 to 150 nm, 20 times each, at a random angle. An image of
them is averaged along the filaments (one simulation has the same angle and noise at every
distance); they count as resolved where the profile has two maxima and falls by 26.5 % (Rayleigh)
between them. A simulation's smallest resolved distance is the one from which on all larger ones are
resolved.

Two networks stand beside the counts, the best of five Gaussians and the anisotropic estimate:
pix2pix, trained on dense targets with both losses as in figure 4A, and a light Noise2Noise network,
which is shown no target. Each is trained twice: on the real fields, whose filaments are wider than
the simulated ones, and on as many simulated networks of crossing filaments. None saw pairs. Every
training takes the pairs that a third of the budget buys, as in figure 4A, whose network the first
one is: all four take four thirds of the budget, or one where that network is there already.

The average along the filaments knows their direction, which no method does, and takes nearly all
noise away. The label is a flat strip of 25 nm, each emitter displaced by 8 nm: 11 nm across in all,
about half as wide as a tube of two layers of antibodies. So counts and narrow kernels do well here,
though in their images nobody sees two lines; the measure says how much a method widens or merges
what it draws, not how well it fills gaps.

How sparse and how wide the filaments of the real fields are, `real.measure_filaments` says; the
median of the sparsity is taken. Which dip the published distance stands for is not said.

Published: 89.15 ± 2.61 nm.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure as Canvas

from benchmarks.real_microtubules import RECIPES
from benchmarks.reproduce import microtubules, recipes
from benchmarks.reproduce.microtubules import cut, simulate_network, simulate_pair
from benchmarks.reproduce.real import (
    BOTH,
    LOSSES,
    PIXEL_SIZE,
    Filaments,
    KnownField,
    digest_field,
    fit_to_dense,
    measure_filaments,
    read_fields,
)
from benchmarks.reproduce.study import Claim, Finding, Recipe, Row, Study
from smlmkit import (
    AnisotropicKDE,
    GaussianKDE,
    Localizations,
    N2NReconstructor,
    Renderer,
)
from smlmkit.batch.identity import describe_estimator, digest_table
from smlmkit.metrics.filaments import RAYLEIGH_DIP, smallest_resolved, two_peaks

DISTANCES = tuple(range(30, 155, 5))
N_SIMULATIONS = 20
PUBLISHED = 89.15
SIGMAS = (10, 15, 20, 25, 30)
SHOWN_DISTANCE = 70.0
MIDDLE = slice(microtubules.PAIR_FIELD_SIZE / 2 - 800, microtubules.PAIR_FIELD_SIZE / 2 + 800)
LIGHT = Recipe(RECIPES["light"], pairs_per_minute=6_000)
PIX2PIX, N2N = "pix2pix", "Noise2Noise"
REAL, SIMULATED = "real fields", "simulations"
KDE = "anisotropic KDE"


def reproduce(study: Study, data: Path) -> Finding:
    """Train the networks, simulate pairs of filaments and find the closest that are resolved."""
    training, test = read_fields(data)
    filaments = measure_fields(study, [*training, test])
    linear_density = float(np.median([field.sparsity for field in filaments.values()]))
    study.report(f"{linear_density:.3f} localizations per nm of filament")
    networks = [
        simulate_network(linear_density, number, study.seed) for number in range(len(training))
    ]
    filaments |= {SIMULATED: measure_filaments(networks[0])}
    methods = make_methods(study, {REAL: training, SIMULATED: networks})
    first_pair, _ = simulate_pair(DISTANCES[0], linear_density, N_SIMULATIONS * study.seed)
    rows = []
    for name, method in methods.items():
        settings = {
            "pair": digest_table(first_pair),
            "distances": DISTANCES,
            "simulations": N_SIMULATIONS,
            "half_width": microtubules.HALF_WIDTH_NM,
            "length": microtubules.PAIR_LENGTH,
            "least_dip": RAYLEIGH_DIP,
            "method": describe_estimator(method),
        }
        rows += study.keep(
            f"pairs by {name}",
            settings,
            lambda name=name: resolve_pairs(name, methods[name], linear_density, study.seed),
        )
    resolved = pd.DataFrame(rows)
    limits = find_limits(resolved)
    shares = resolved.groupby(["method", "distance"], sort=False)[["resolved", "dip"]].mean()
    return Finding(
        rows=[{"table": "shares", **row} for row in shares.reset_index().to_dict("records")]
        + [{"table": "limits", **row} for row in limits.to_dict("records")],
        claims=make_claims(limits),
        draw=lambda canvas: draw(canvas, resolved, limits, methods, linear_density, study.seed),
        facts={
            "filaments": {name: measured._asdict() for name, measured in filaments.items()},
            "simulated_localizations_per_nm": linear_density,
            "smallest_resolved": limits.groupby("method", sort=False)["limit"]
            .agg(["mean", "std", "count"])
            .to_dict("index"),
        },
        size=(14.4, 6.4),
    )


def measure_fields(study: Study, fields: list[KnownField]) -> dict[str, Filaments]:
    """Measure the filaments of every field."""
    measured = study.keep(
        "filaments",
        {"fields": {field.name: digest_field(field) for field in fields}},
        lambda: {field.name: measure_filaments(field)._asdict() for field in fields},
    )
    return {name: Filaments(**values) for name, values in measured.items()}


def make_methods(study: Study, sources: dict[str, list[KnownField]]) -> dict:
    """Train the networks on every source of fields; give what makes an image of a table."""
    recipe = recipes.berberich(study.budget)
    samples = study.budget.samples_each(len(LOSSES), recipe)
    methods = {
        "counts": Renderer(PIXEL_SIZE),
        **{f"Gaussian {sigma} nm": GaussianKDE(sigma) for sigma in SIGMAS},
        KDE: AnisotropicKDE(support="neighbors"),
    }
    for source, fields in sources.items():
        light = N2NReconstructor(
            pixel_size=PIXEL_SIZE,
            max_samples=study.budget.samples_each(len(LOSSES), LIGHT),
            random_state=study.seed,
            **LIGHT.parameters,
        )
        tables = [field.table for field in fields]
        digests = [digest_table(table) for table in tables]
        methods[f"{PIX2PIX}, {source}"] = fit_to_dense(study, BOTH, fields, recipe, samples)
        methods[f"{N2N}, {source}"] = study.fit("light", light, tables, fields=digests)
    return methods


def resolve_pairs(name: str, method: object, linear_density: float, seed: int) -> list[Row]:
    """Look at every simulated pair."""
    rows = []
    for simulation in range(N_SIMULATIONS):
        for distance in DISTANCES:
            table, angle = simulate_pair(
                distance, linear_density, N_SIMULATIONS * seed + simulation
            )
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


def reconstruct(method: object, table: Localizations) -> xr.DataArray:
    """Make an image of a table, with whatever makes one."""
    if isinstance(method, N2NReconstructor):
        return method.predict(table)
    if isinstance(method, Renderer):
        return method.transform(table)
    return method.fit_transform(Renderer(PIXEL_SIZE).transform(table))


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
    for name in [*names_of_networks(), KDE, best_gaussian(by_method), "counts"]:
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


def names_of_networks() -> list[str]:
    """Name the trained networks: by what they are, and what they learned from."""
    return [f"{network}, {source}" for source in (REAL, SIMULATED) for network in (PIX2PIX, N2N)]


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
    table, angle = simulate_pair(SHOWN_DISTANCE, linear_density, N_SIMULATIONS * seed)
    shown = ["counts", best_gaussian(found), KDE, *names_of_networks()]
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
