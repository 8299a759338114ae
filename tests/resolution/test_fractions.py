import math

import numpy as np
import pandas as pd
import pytest

from smlmkit import Localizations, frc_by_fraction, frc_curve, make_microtubules
from smlmkit.errors import InvalidInputError

COLUMNS = [
    "fraction",
    "localizations",
    "density",
    "resolution",
    "resolution_sd",
    "resolved",
    "area",
    "area_sd",
]


@pytest.fixture(scope="module")
def filaments():
    blinks, _ = make_microtubules(field_size=3000, n_filaments=8, density=2000, random_state=0)
    return blinks


@pytest.fixture(scope="module")
def by_fraction(filaments):
    return frc_by_fraction(filaments, [0.02, 0.1, 0.4, 1.0], repeats=3, random_state=0)


def test_more_localizations_share_more(by_fraction):
    assert list(by_fraction.columns) == COLUMNS
    assert by_fraction["fraction"].tolist() == [0.02, 0.1, 0.4, 1.0]
    assert (by_fraction["area"].diff()[1:] > 0.02).all()
    assert (by_fraction["area_sd"] > 0).all()
    resolved = by_fraction[by_fraction["resolved"] == 1]
    assert len(resolved) >= 2
    assert (resolved["resolution"].diff()[1:] < 0).all()


def test_fractions_are_those_of_the_table(by_fraction, filaments):
    n = by_fraction["fraction"] * len(filaments)
    spread = np.sqrt(n * (1 - by_fraction["fraction"]) / 3)  # of a mean of three
    assert (np.abs(by_fraction["localizations"] - n) <= 4 * spread).all()
    assert by_fraction["localizations"].iloc[-1] == len(filaments)
    expected = by_fraction["localizations"] / filaments.field_of_view.area_um2
    assert by_fraction["density"].to_numpy() == pytest.approx(expected.to_numpy())


def test_every_repeat_is_a_curve_of_a_thinned_table(filaments):
    source = np.random.RandomState(7)
    options = {"pixel_size": 15, "split": "random", "threshold": "half-bit"}
    curves = [
        frc_curve(filaments.thin(0.3, source), random_state=source, **options) for _ in range(3)
    ]
    (row,) = frc_by_fraction(
        filaments, [0.3], repeats=3, cutoff=0.4, random_state=7, **options
    ).itertuples()
    resolution = [curve.resolution for curve in curves]
    area = [curve.area(0.4) for curve in curves]
    assert row.resolution == pytest.approx(np.mean(resolution))
    assert row.resolution_sd == pytest.approx(np.std(resolution, ddof=1))
    assert row.area == pytest.approx(np.mean(area))
    assert row.area_sd == pytest.approx(np.std(area, ddof=1))
    assert row.resolved == 1


def test_resolved_is_the_share_with_a_resolution(filaments):
    # Pixels of 21 nm hold 42 nm: of this density, about as coarse, some draws are resolved.
    options = {"pixel_size": 21, "split": "random"}
    (row,) = frc_by_fraction(filaments, [0.25], repeats=12, random_state=0, **options).itertuples()
    source = np.random.RandomState(0)
    each = [
        frc_curve(filaments.thin(0.25, source), random_state=source, **options).resolution
        for _ in range(12)
    ]
    assert 0.1 < row.resolved < 0.9
    assert row.resolved == np.isfinite(each).mean()
    assert row.resolution == pytest.approx(np.nanmean(each))
    assert row.resolution_sd == pytest.approx(np.nanstd(each, ddof=1))


def test_random_state_decides(filaments):
    def measure(random_state):
        return frc_by_fraction(
            filaments, [0.05, 0.2], repeats=2, pixel_size=20, random_state=random_state
        )

    pd.testing.assert_frame_equal(measure(0), measure(0))
    assert (measure(0)["area"] != measure(1)["area"]).all()
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert (measure(None)["area"] != measure(None)["area"]).all()
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_one_repeat_has_no_spread(filaments):
    (row,) = frc_by_fraction(filaments, [0.5], repeats=1, random_state=0).itertuples()
    assert row.resolved == 1
    assert math.isnan(row.resolution_sd)
    assert math.isnan(row.area_sd)


def test_a_fraction_that_is_named_twice_is_drawn_twice(filaments):
    (row,) = frc_by_fraction(filaments, [0.5, 0.5], repeats=2, random_state=0).itertuples()
    assert row.resolved == 1


@pytest.mark.parametrize("options", [{}, {"split": "random", "q_correction": True}])
def test_no_localizations_share_nothing(filaments, options):
    (row,) = frc_by_fraction(filaments, [1e-9], repeats=2, random_state=0, **options).itertuples()
    assert row.localizations == row.density == row.area == row.resolved == 0
    assert math.isnan(row.resolution)


@pytest.mark.parametrize("fractions", [[0], [0.5, 1.1], [-0.1], [math.nan], []])
def test_refuses_fractions_out_of_range(filaments, fractions):
    with pytest.raises(InvalidInputError, match=r"must be in \(0, 1\], at least one, got \["):
        frc_by_fraction(filaments, fractions)


@pytest.mark.parametrize("repeats", [0, 1.5, True])
def test_refuses_repeats_that_are_no_number(filaments, repeats):
    with pytest.raises(InvalidInputError, match="repeats must be a whole number of at least 1"):
        frc_by_fraction(filaments, [0.5], repeats=repeats)


def test_refuses_what_curves_refuse(filaments):
    with pytest.raises(InvalidInputError, match="threshold must be"):
        frc_by_fraction(filaments, [0.5], threshold="2-sigma")
    with pytest.raises(InvalidInputError, match="cutoff must be in"):
        frc_by_fraction(filaments, [0.5], cutoff=0.6)


def small_table(n=100):
    rng = np.random.default_rng(0)
    columns = {
        "x": rng.uniform(0, 900, n),
        "y": rng.uniform(0, 900, n),
        "frame": np.arange(n) // 10,
    }
    return Localizations(columns, field_of_view=(0, 0, 900, 900))


def test_a_draw_with_too_few_frames_for_the_blocks_is_not_resolved():
    curve = frc_by_fraction(small_table(), [0.005, 1.0], split="frames", random_state=0)
    assert curve["resolved"][0] == 0
    assert curve["area"][0] == 0
    assert curve["localizations"][1] == 100


def test_all_fractions_are_split_alike():
    sparse = frc_by_fraction(small_table(), [0.02], split="auto", random_state=0)
    expected = frc_by_fraction(small_table(), [0.02], split="frames", random_state=0)
    assert sparse.equals(expected)


def test_a_split_that_is_impossible_is_refused():
    with pytest.raises(InvalidInputError, match="cannot split"):
        frc_by_fraction(small_table(5), split="frames")
