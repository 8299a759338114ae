"""The figures of the papers run from end to end at a tiny budget; what they rest on is right."""

import argparse
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmarks.reproduce import (
    berberich_4a,
    berberich_4c,
    lefebvre_2a,
    lefebvre_2b,
    lefebvre_3,
    microtubules,
)
from benchmarks.reproduce.fresh import FreshHalves, _FreshPairs
from benchmarks.reproduce.microtubules import cut, simulate_network, simulate_pair
from benchmarks.reproduce.real import (
    BOTH,
    MEASURES,
    KnownField,
    compare_crops,
    crops,
    length_of,
    measure_filaments,
)
from benchmarks.reproduce.simulated import (
    DENSITY,
    PIXEL_SIZE,
    draw_again,
    expected_image,
    reference_image,
    similarities,
    simulate,
)
from benchmarks.reproduce.study import Budget, Recipe, Study
from smlmkit import N2NReconstructor, PixelGrid, Renderer, to_image
from smlmkit.metrics.filaments import two_peaks
from smlmkit.nn.checkpoint import Checkpoint

RECIPE = Recipe({"batch_size": 16}, pairs_per_minute=1000)
TINY = Budget(samples=32)


@pytest.fixture
def field():
    return simulate(0)


@pytest.fixture
def study(tmp_path):
    return Study("figure", TINY, 0, tmp_path / "figure")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10min", 2496), ("2h", 30000 - 30000 % 16), ("100samples", 100), ("paper", 1_000_000)],
)
def test_a_budget_is_shared_by_trainings(text, expected):
    assert Budget.parse(text).samples_each(4, RECIPE) == expected


@pytest.mark.parametrize("text", ["", "10", "0min", "-1h", "many", "1e3samples"])
def test_a_budget_that_is_none(text):
    with pytest.raises(argparse.ArgumentTypeError, match="not '"):
        Budget.parse(text)


def test_a_study_computes_each_step_once(study):
    calls = []
    for settings in ({"a": 1}, {"a": 1}, {"a": 2}):
        kept = study.keep("step", settings, lambda: calls.append(0) or {"n": len(calls)})
    assert len(calls) == 2
    assert kept == {"n": 2}


def small_network():
    return N2NReconstructor(
        width=2, depth=1, patch_size=32, batch_size=4, max_samples=8, random_state=0
    )


def test_a_study_trains_once(study, field, monkeypatch):
    first = study.fit("network", small_network(), [field.table])
    monkeypatch.setattr(N2NReconstructor, "fit", None)  # a second training would fail
    again = study.fit("network", small_network(), [field.table])
    np.testing.assert_array_equal(first.predict(field.table), again.predict(field.table))


def test_a_killed_training_goes_on_to_the_same_weights(study, field, monkeypatch):
    whole = small_network().fit([field.table])
    write = Checkpoint.write

    def write_once(checkpoint, state):
        if list(study.steps.iterdir()):
            raise KilledError
        write(checkpoint, state)

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "is_due", lambda _: True)
        patched.setattr(Checkpoint, "write", write_once)
        with pytest.raises(KilledError):
            study.fit("network", small_network(), [field.table])
    [left] = study.steps.iterdir()
    assert left.suffix != ".pickle"
    resumed = study.fit("network", small_network(), [field.table])
    np.testing.assert_array_equal(resumed.predict(field.table), whole.predict(field.table))
    assert [path.suffix for path in study.steps.iterdir()] == [".pickle"]


class KilledError(Exception):
    """Stands for the end of the process."""


def test_the_expected_image_is_the_mean_of_many_blinks(field):
    n_tables = 50
    tables = [draw_again(field.truth, DENSITY, seed) for seed in range(n_tables)]
    counts = sum(Renderer(PIXEL_SIZE).transform(table).to_numpy() for table in tables)
    expected = n_tables * expected_image(field.truth, DENSITY).to_numpy().astype(np.float64)
    bright = expected > 5
    chi_square = ((counts - expected)[bright] ** 2 / expected[bright]).mean()
    assert chi_square == pytest.approx(1, abs=5 * np.sqrt(2 / bright.sum()))
    assert counts[~bright].sum() == pytest.approx(expected[~bright].sum(), rel=0.05)


def test_the_reference_is_what_the_similarities_ask_for(field):
    reference = reference_image(field.truth, 0)
    grid = PixelGrid((0, 0), PIXEL_SIZE, reference.shape)
    same = similarities(to_image(3.0 * reference, grid), reference)
    assert same["ssim"] == pytest.approx(1, abs=1e-9)
    assert same["psnr"] > 200
    sparse = similarities(Renderer(PIXEL_SIZE).transform(field.table), reference)
    assert 0.5 < sparse["ssim"] < 0.9


def test_fresh_pairs_go_on_from_their_state(monkeypatch):
    monkeypatch.setattr("benchmarks.reproduce.fresh.PAIRS_OF_A_SET", 4)
    monkeypatch.setattr("benchmarks.reproduce.fresh.FIELDS_AT_A_TIME", 1)
    monkeypatch.setattr("benchmarks.reproduce.fresh._FIELD_SIZE", 1000.0)

    def make():
        return FreshHalves().make_pairs([], patch_size=32, pixel_size=10, seed=0)

    pairs = make()
    assert isinstance(pairs, _FreshPairs)
    pairs.draw(4)
    state = json.loads(json.dumps(pairs.get_state()))
    second = pairs.draw(4)
    resumed = make()
    resumed.set_state(state)
    for one, other in zip(second, resumed.draw(4), strict=True):
        np.testing.assert_array_equal(one, other)
    assert state["set"] == 0
    assert pairs.get_state()["set"] == 1


def tiny_recipe(monkeypatch, name, **parameters):
    recipe = Recipe({"batch_size": 16, "width": 2, "patch_size": 64, **parameters}, 1000)
    monkeypatch.setattr(f"benchmarks.reproduce.recipes.{name}", recipe)


def check_written(study, finding):
    study.write(finding)
    stem = study.folder / study.name
    record = json.loads(stem.with_suffix(".json").read_text())
    assert len(pd.read_csv(stem.with_suffix(".csv"))) == len(record["rows"]) > 0
    assert record["claims"]
    assert stem.with_suffix(".png").stat().st_size > 10_000
    return record


def test_lefebvre_2a(study, monkeypatch):
    tiny_recipe(monkeypatch, "LEFEBVRE_MINUTES")
    monkeypatch.setattr(lefebvre_2a, "DENSITIES", (1e3, 3e3, 1e4, 3e4, 1e5))
    monkeypatch.setattr(lefebvre_2a, "UNCERTAINTIES", (5.0,))
    monkeypatch.setattr(lefebvre_2a, "N_TESTS", 1)
    monkeypatch.setattr("benchmarks.reproduce.fresh.FIELDS_AT_A_TIME", 1)
    record = check_written(study, lefebvre_2a.reproduce(study))
    raw = pd.DataFrame(record["rows"]).query("image == 'input' and scaling == @lefebvre_2a.SCALING")
    assert raw["ssim"].is_monotonic_increasing
    assert raw["psnr"].is_monotonic_increasing


def test_lefebvre_2b(study, monkeypatch):
    tiny_recipe(monkeypatch, "LEFEBVRE_MINUTES")
    monkeypatch.setattr(lefebvre_2b, "N_FIELDS", 4)
    monkeypatch.setattr(lefebvre_2b, "N_FOLDS", 2)
    monkeypatch.setattr(lefebvre_2b, "LENGTHS", (0.25, 1, 4))
    monkeypatch.setattr(lefebvre_2b, "N_LOSS_PAIRS", 16)
    monkeypatch.setattr(lefebvre_2b, "CLEAN_DENSITY", 2 * DENSITY)
    record = check_written(study, lefebvre_2b.reproduce(study))
    rows = pd.DataFrame(record["rows"])
    assert len(rows.query("table == 'folds'")) == 3 * 2
    assert len(rows.query("table == 'images'")) == (3 * 3 + 1) * 4
    assert record["facts"]["pairs_of_all_fields"] == [16, 32, 128]


def test_lefebvre_3(study, monkeypatch):
    tiny_recipe(monkeypatch, "LEFEBVRE_MINUTES")
    monkeypatch.setattr(lefebvre_3, "N_FIELDS", 2)
    monkeypatch.setattr(lefebvre_3, "FIELD_SIZE", 2560.0)
    record = check_written(study, lefebvre_3.reproduce(study))
    for row in record["rows"]:  # of two networks, the unseeing one is as far from the other
        assert row["deviation_of_unseeing"] == pytest.approx(2 * row["deviation"], rel=1e-4)


def test_berberich_4a(study, monkeypatch, field, tmp_path):
    for name in ("spot01", "spot12"):
        counts = Renderer(PIXEL_SIZE).transform(draw_again(field.truth, 2000, 0)).to_numpy()
        dense = expected_image(field.truth, DENSITY).to_numpy()
        for suffix, image in (("sub", counts.astype(np.uint8)), ("full", dense.astype(np.uint16))):
            Image.fromarray(np.tile(image, (2, 2))).save(tmp_path / f"{name}_{suffix}.png")
    monkeypatch.setattr("benchmarks.reproduce.real.CROP_PX", 256)
    tiny_recipe(monkeypatch, "BERBERICH_MINUTES", network="pix2pix", depth=5, norm="none")
    record = check_written(study, berberich_4a.reproduce(study, tmp_path))
    assert len(record["rows"]) == 4 * 6
    assert len(record["claims"]) == 5


def holds(claims):
    return [claim.holds for claim in claims]


def table_2a(reconstruction):
    densities = lefebvre_2a.DENSITIES
    return pd.DataFrame(
        {
            "scaling": lefebvre_2a.SCALING,
            "uncertainty": 5.0,
            "image": image,
            "density": density,
            "ssim": ssim,
            "psnr": 20 * ssim,
        }
        for image, values in (
            ("reconstruction", reconstruction),
            ("input", (0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.99)),
        )
        for density, ssim in zip(densities, values, strict=True)
    )


@pytest.mark.parametrize(
    ("reconstruction", "expected"),
    [
        ((0.4, 0.8, 0.85, 0.86, 0.86, 0.86, 0.86), [True, True, True, True]),
        ((0.8, 0.85, 0.9, 0.9, 0.91, 0.91, 0.91), [True, True, True, True]),
        ((0.8, 0.8, 0.8, 0.82, 0.86, 0.9, 0.95), [False, False, True, True]),  # still rising
        ((0.6, 0.65, 0.71, 0.72, 0.72, 0.72, 0.72), [False, False, False, False]),
    ],
)
def test_claims_of_figure_2a(reconstruction, expected):
    assert holds(lefebvre_2a.make_claims(table_2a(reconstruction))) == expected


@pytest.mark.parametrize(
    ("step", "loss_spread", "expected"),
    [(0.05, 0.01, [True, True, False]), (1e-5, 0.2, [False, False, True])],
)
def test_claims_of_figure_2b(step, loss_spread, expected):
    rng = np.random.default_rng(0)
    order = ["fixed", "n2c", "dynamic"]
    images = pd.DataFrame(
        {"strategy": name, "ssim": 0.8 + step * k + noise, "psnr": 20 + 20 * step * k + noise}
        for k, name in enumerate(order)
        for noise in rng.normal(0, 0.01, 64)
    )
    folds = pd.DataFrame(
        {"strategy": name, "loss": 1 + loss_spread * fold} for name in order for fold in range(2)
    )
    assert holds(lefebvre_2b.make_claims(folds, images)) == expected


@pytest.mark.parametrize(("deviation", "expected"), [(0.09, True), (0.11, False)])
def test_claims_of_figure_3(deviation, expected):
    scores = pd.DataFrame({"deviation": [0.08, deviation], "deviation_near_structures": 0.05})
    assert holds(lefebvre_3.make_claims(scores)) == [expected]


@pytest.mark.parametrize(("gain", "expected"), [(0.02, True), (-0.02, False), (-0.001, True)])
def test_claims_of_figure_4a(gain, expected):
    noise = np.random.default_rng(0).normal(0, 0.01, 16)
    noise -= noise.mean()
    scores = pd.DataFrame(
        {
            "method": loss,
            "crop": crop,
            **dict.fromkeys(MEASURES, 0.8 + sign * (gain + noise[crop])),
            "mse": 0.8 - sign * (gain + noise[crop]),
        }
        for loss, sign in ((BOTH, 1), ("MS-SSIM", 0), ("FRC", 0))
        for crop in range(16)
    )
    assert holds(berberich_4a.make_claims(scores)) == [expected] * len(MEASURES)


def test_claims_of_figure_4c():
    limits = {
        "pix2pix, real fields": [80.0] * 20,
        "Noise2Noise, real fields": [80.0] * 19 + [np.nan],  # not resolved once
        "pix2pix, simulations": [90.0] * 20,
        "Noise2Noise, simulations": [60.0] * 20,
        "anisotropic KDE": [95.0] * 20,
        "Gaussian 10 nm": [40.0] + [np.nan] * 19,
        "Gaussian 20 nm": [60.0] * 20,
        "counts": [50.0] * 20,
    }
    table = pd.DataFrame(limits).melt(var_name="method", value_name="limit")
    claims = berberich_4c.make_claims(table)
    assert holds(claims) == [True, False, False, True, False, True, True]
    assert claims[5].ours.startswith("Gaussian 20 nm")


def test_images_equal_to_their_reference_are_as_good_as_can_be():
    reference = np.random.default_rng(0).gamma(2, size=(1100, 600)).astype(np.float32)
    image = to_image(reference, PixelGrid((0, 0), 10, reference.shape))
    scores = pd.DataFrame(compare_crops(2 * image, image))
    assert len(scores) == len(list(crops(reference.shape))) == 2
    assert (scores["mse"] < 1e-12).all()
    np.testing.assert_allclose(scores[["ms_ssim", "frc_area_0.2", "frc_area_0.5"]], 1, atol=1e-6)


def test_the_length_of_a_skeleton():
    diagonal = np.eye(11, dtype=bool)
    assert length_of(diagonal) == pytest.approx(10 * np.sqrt(2) * PIXEL_SIZE)
    assert length_of(np.ones((1, 11), bool)) == pytest.approx(10 * PIXEL_SIZE)


def test_filaments_far_apart_are_told_apart_by_counting():
    counts = Renderer(PIXEL_SIZE)
    for distance, expected in ((150, True), (20, False)):
        table, angle = simulate_pair(distance, 0.2, 0)
        assert two_peaks(*cut(counts.transform(table), angle)).resolved == expected


def test_simulated_filaments_are_as_sparse_as_asked_for_and_as_wide_as_their_parts(monkeypatch):
    filaments = measure_filaments(simulate_network(0.2, number=0, study_seed=0))
    assert filaments.sparsity == pytest.approx(0.2, rel=0.1)
    # A strip of 25 nm, the label, the localization; the skeleton is on whole pixels.
    assert filaments.width == pytest.approx(np.sqrt(25**2 / 12 + 8**2 + 10**2), rel=0.1)
    monkeypatch.setitem(microtubules.BLINKS, "linkage_error", 0.0)
    narrower = measure_filaments(simulate_network(0.2, number=0, study_seed=0))
    assert filaments.width**2 - narrower.width**2 == pytest.approx(8**2, rel=0.2)


def test_real_fields_keep_their_mass(real_data):
    field = berberich_4a.read_fields(real_data / "frcnet")[1]
    assert isinstance(field, KnownField)
    assert float(field.dense.sum()) == pytest.approx(len(field.table), rel=1e-5)
