"""Stacks: the slices of depth are the network's channels."""

import numpy as np
import pytest

from smlmkit import GaussianKDE, Localizations, N2NReconstructor, Renderer, load_model
from smlmkit.errors import InvalidInputError, UnfamiliarTableWarning, UnusedRowsWarning
from smlmkit.metrics.frc import frc_area
from smlmkit.metrics.likelihood import poisson_log_likelihood

QUICK = {
    "max_samples": 16,
    "batch_size": 4,
    "patch_size": 16,
    "depth": 2,
    "width": 4,
    "random_state": 0,
}
EDGES = [-300.0, -100.0, 100.0, 300.0]


def tilted_lines(seed, n_lines=14, density_per_um=100):
    """Sparse blinks on straight lines that rise through the slices, 15 nm off, 40 nm in depth."""
    rng = np.random.default_rng(seed)
    starts = np.linspace(200, 5800, n_lines)
    n = rng.poisson(density_per_um * 6 * n_lines)
    x = rng.uniform(0, 6000, n)
    columns = {
        "x": x,
        "y": rng.choice(starts, n) + rng.normal(0, 15, n),
        "z": 0.095 * x - 285 + rng.normal(0, 40, n),
    }
    inside = (columns["y"] >= 0) & (columns["y"] < 6000) & (np.abs(columns["z"]) < 300)
    return Localizations(
        {name: values[inside] for name, values in columns.items()},
        field_of_view=(0, 0, 6000, 6000),
    )


def test_a_stack_foretells_the_other_half_better_than_its_input_and_gaussians():
    model = N2NReconstructor(
        z_bins=EDGES,
        max_samples=3000,
        batch_size=8,
        patch_size=32,
        depth=2,
        width=12,
        residual=True,
        loss="mse",
        learning_rate=2e-3,
        schedule="linear",
        random_state=0,
    ).fit([tilted_lines(seed) for seed in range(3)])
    half_a, half_b = tilted_lines(9).split("random", random_state=0)
    raw, held_out = (Renderer(z_bins=EDGES).transform(half) for half in (half_a, half_b))

    def scores(stack):
        planes = list(zip(stack.to_numpy(), held_out.to_numpy(), strict=True))
        return (
            np.mean([frc_area(*pair) for pair in planes]),
            np.mean([poisson_log_likelihood(counts, image) for image, counts in planes]),
        )

    area, likelihood = scores(model.predict(half_a))
    others = [scores(GaussianKDE(sigma).transform(raw)) for sigma in (10, 15, 20, 30, 40)]
    assert area > max(other for other, _ in [scores(raw), *others])
    assert likelihood > max(other for _, other in others)


def test_dims_depths_mass_and_round_trip(tmp_path):
    table = tilted_lines(0)
    model = N2NReconstructor(z_bins=np.array(EDGES), **QUICK).fit(table)
    stack = model.predict(table)
    assert stack.dims == ("z", "y", "x")
    assert stack.z.to_numpy().tolist() == [-200, 0, 200]
    assert float(stack.sum()) == pytest.approx(len(table), rel=1e-5)
    model.save(tmp_path / "model.smlmkit")
    assert load_model(tmp_path / "model.smlmkit").predict(table).identical(stack)


def test_slices_see_one_another():
    """As channels: what lies in one slice changes what comes out in the next."""
    table = tilted_lines(0)
    model = N2NReconstructor(z_bins=EDGES, **QUICK).fit(table)
    lowest = table.select(table["z"] < -100)
    both, alone = (model.predict(one) for one in (table, lowest))
    ratio = both.attrs["mass_factor"] / alone.attrs["mass_factor"]
    assert np.abs(both[0].to_numpy() - ratio * alone[0].to_numpy()).max() > 1e-3


def test_localizations_beyond_the_slices_are_told():
    table = tilted_lines(0)
    model = N2NReconstructor(z_bins=[-100.0, 0.0, 100.0], **QUICK)
    with pytest.warns(UnusedRowsWarning, match="localizations lie outside of the slices"):
        model.fit(table)
    n_inside = int((np.abs(table["z"]) <= 100).sum())
    assert float(model.predict(table).sum()) == pytest.approx(n_inside, rel=1e-5)


def test_slices_changed_after_training_are_told():
    table = tilted_lines(0)
    model = N2NReconstructor(z_bins=EDGES, **QUICK).fit(table).set_params(z_bins=None)
    with pytest.warns(UnfamiliarTableWarning, match="z_bins is None now, but the network was tr"):
        assert model.predict(table).dims == ("z", "y", "x")


def test_a_table_without_depths_is_named():
    table = tilted_lines(0)
    flat = Localizations({"x": table.x, "y": table.y}, field_of_view=table.field_of_view)
    with pytest.raises(InvalidInputError, match=r"X\[1\]: there is no column 'z'"):
        N2NReconstructor(z_bins=EDGES, **QUICK).fit([table, flat])
