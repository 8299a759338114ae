"""Emitters of known numbers of blinks: the corrected FRC against that of emitters that blink once.

The structures are drawn so that a random split without the correction claims too much.
"""

import functools
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.signal.windows import tukey

from smlmkit import Localizations, frc_curve, make_microtubules
from smlmkit.errors import InvalidInputError
from smlmkit.metrics.rings import ring_correlation
from smlmkit.metrics.spurious import blur_of_pairs, correct_spurious

FIELD = 5000
N_LOCALIZATIONS = 25_000


def q_of(numbers):
    """Other blinks of its emitter that a blink has, from the number of blinks of every emitter."""
    return float((numbers * (numbers - 1)).sum() / numbers.sum())


@functools.cache
def filaments(blinks_per_emitter, seed=0):
    """Give a table of filaments and its true Q; one seed gives the same filaments."""
    table, truth = make_microtubules(
        field_size=FIELD,
        n_filaments=6,
        density=1000,
        uncertainty=10,
        blinks_per_emitter=blinks_per_emitter,
        random_state=seed,
    )
    numbers = np.bincount(truth.emitter[truth.emitter >= 0])
    return table, q_of(numbers) * (truth.emitter >= 0).mean()  # background has no others


def blinks_of(emitters, numbers, uncertainty, rng):
    """Localize every emitter so many times."""
    sigma = uncertainty * rng.lognormal(sigma=0.3, size=numbers.sum())
    yx = np.repeat(emitters, numbers, axis=0) + sigma[:, None] * rng.normal(size=(len(sigma), 2))
    inside = ((yx >= 0) & (yx < FIELD)).all(axis=1)
    y, x = yx[inside].T
    return Localizations(
        {"x": x, "y": y, "uncertainty_x": sigma[inside]}, field_of_view=(0, 0, FIELD, FIELD)
    )


@functools.cache
def scattered(blinks_per_emitter, poisson=False, seed=0):
    rng = np.random.default_rng(seed)
    n_emitters = N_LOCALIZATIONS // blinks_per_emitter
    emitters = rng.uniform(0, FIELD, size=(n_emitters, 2))
    numbers = (
        rng.poisson(blinks_per_emitter, n_emitters)
        if poisson
        else rng.geometric(1 / blinks_per_emitter, n_emitters)
    )
    return blinks_of(emitters, numbers, 10, rng), q_of(numbers)


@functools.cache
def clusters(blinks_per_emitter, width, seed=0):
    """Twenty emitters each in Gaussian clusters of so many nm."""
    rng = np.random.default_rng(seed)
    n_clusters = N_LOCALIZATIONS // blinks_per_emitter // 20
    centres = np.repeat(rng.uniform(0, FIELD, size=(n_clusters, 2)), 20, axis=0)
    emitters = centres + width * rng.normal(size=centres.shape)
    numbers = rng.geometric(1 / blinks_per_emitter, len(emitters))
    return blinks_of(emitters, numbers, 10, rng), q_of(numbers)


@functools.cache
def curve_of(make, *parameters, split="random", q_correction=False):
    """Give the FRC of a table; tables and curves are made once for all tests."""
    table, _ = make(*parameters)
    return frc_curve(table, pixel_size=5, split=split, random_state=0, q_correction=q_correction)


class TestFilaments:
    """The same filaments with emitters that blink once are the reference."""

    @pytest.mark.parametrize("seed", [0, 1])
    @pytest.mark.parametrize(("blinks_per_emitter", "claims"), [(5, 0.96), (15, 0.9)])
    def test_the_random_split_claims_too_much_and_the_corrected_does_not(
        self, blinks_per_emitter, claims, seed
    ):
        reference = curve_of(filaments, 1, seed).resolution
        table = filaments, blinks_per_emitter, seed
        corrected = curve_of(*table, q_correction=True).resolution
        assert curve_of(*table).resolution < claims * reference
        assert curve_of(*table, split="frames").resolution > 0.97 * reference
        assert 0.97 * reference < corrected < 1.15 * reference

    @pytest.mark.parametrize("blinks_per_emitter", [2, 5, 15])
    def test_q_is_estimated(self, blinks_per_emitter):
        q = np.array([filaments(blinks_per_emitter, seed)[1] for seed in range(3)])
        estimate = [
            curve_of(filaments, blinks_per_emitter, seed, q_correction=True).q for seed in range(3)
        ]
        assert q.mean() == pytest.approx(2 * (blinks_per_emitter - 1), rel=0.15)
        # Filaments correlate where blinks do, and how they fall off is known from few of them.
        assert estimate == pytest.approx(q, rel=0.1, abs=3)
        assert np.mean(estimate) == pytest.approx(q.mean(), rel=0.1, abs=1)

    def test_without_blinking_little_changes(self):
        expected, corrected = (curve_of(filaments, 1, q_correction=on) for on in (False, True))
        assert math.isnan(expected.q)
        assert corrected.q < 2
        assert corrected.resolution == pytest.approx(expected.resolution, rel=0.05)


@pytest.mark.parametrize("table", [(scattered, 5), (scattered, 15), (scattered, 5, True)])
class TestScatteredEmitters:
    """Emitters at random places have no structure: all that correlates is their blinking."""

    def test_a_random_split_claims_a_resolution_and_the_corrected_none(self, table):
        # The errors of 10 nm of two blinks of one emitter.
        assert 20 < curve_of(*table).resolution < 60
        corrected = curve_of(*table, q_correction=True)
        # The few samples of the first rings may lie above the threshold, and then tell so.
        found_by_chance = corrected.resolution_error > 0.4 * corrected.resolution
        assert found_by_chance or corrected.reason == "the curve starts below the 1/7 threshold"
        assert not corrected.resolution < 150
        assert abs(corrected.correlation[1:60].mean()) < 0.15
        assert curve_of(*table).correlation[1:60].mean() > 0.6

    def test_what_is_left_scatters_around_nothing_as_the_error_says(self, table):
        # A Q that is known, not one that is chosen such that nothing is left.
        make, *parameters = table
        corrected = curve_of(*table, q_correction=make(*parameters)[1])
        z = corrected.correlation[20:] / corrected.correlation_error[20:]
        assert z.std() == pytest.approx(1, abs=0.2)

    def test_q_is_estimated(self, table):
        make, *parameters = table
        _, q = make(*parameters)
        expected = 5 if len(parameters) == 2 else 2 * (parameters[0] - 1)
        assert q == pytest.approx(expected, rel=0.1)
        assert curve_of(*table, q_correction=True).q == pytest.approx(q, rel=0.12)


@pytest.mark.parametrize("width", [20, 40, 100])
def test_clusters_are_told_from_blinking(width):
    table = clusters, 5, width
    _, q = clusters(5, width)
    # With the Q that is known, what is left is the blur of the clusters.
    expected = curve_of(*table, q_correction=q).resolution
    corrected = curve_of(*table, q_correction=True)
    assert corrected.q == pytest.approx(q, rel=0.12)
    assert corrected.resolution == pytest.approx(expected, rel=0.15)
    assert curve_of(*table).resolution < 0.7 * expected


def test_a_given_q_is_used():
    given = curve_of(scattered, 5, q_correction=3)
    assert given.q == 3
    assert given.resolution > curve_of(scattered, 5).resolution
    none = curve_of(scattered, 5, q_correction=0)
    assert none.q == 0
    assert_allclose(none.correlation, curve_of(scattered, 5).correlation, atol=1e-12)


def test_repeats_average_q():
    table, _ = scattered(5)
    curve = frc_curve(
        table, pixel_size=8, split="random", repeats=2, random_state=0, q_correction=True
    )
    source = np.random.RandomState(0)
    each = [
        frc_curve(table, pixel_size=8, split="random", random_state=source, q_correction=True)
        for _ in range(2)
    ]
    assert each[0].q != each[1].q
    assert curve.q == pytest.approx(np.mean([one.q for one in each]))
    assert_allclose(curve.correlation, np.mean([one.correlation for one in each], axis=0))


class TestFormula:
    sigma = np.array([6.0, 9.0, 15.0])

    def pair(self):
        return np.random.default_rng(0).poisson(2, size=(2, 40, 50))

    @pytest.mark.parametrize("window", ["tukey", None])
    def test_is_the_published_one(self, window):
        images, q, pixel_size = self.pair(), 0.4, 8
        rings = ring_correlation(*images, window=window)
        weights = np.outer(tukey(40, 0.25), tukey(50, 0.25)) ** 2 if window else 1
        n = (images.sum(axis=0) * weights).sum()
        blur = blur_of_pairs(rings.frequency / pixel_size, self.sigma, pixel_size)
        spurious = n / 4 * q * rings.count * blur
        expected = (rings.shared - spurious) / np.sqrt(
            (rings.first_power - spurious) * (rings.second_power - spurious)
        )
        corrected = correct_spurious(rings, images, self.sigma, pixel_size, window=window, q=q)
        assert corrected.q == q
        assert_allclose(corrected.correlation[1:], expected.clip(-1, 1)[1:])
        assert corrected.correlation[0] == (0 if window else pytest.approx(expected[0]))
        powers = np.array([rings.first_power, rings.second_power])[:, 1:]
        left = (1 - spurious[1:] / powers).prod(axis=0)
        assert_allclose(corrected.n_independent[1:], (rings.n_independent[1:] * left).clip(min=1))

    @pytest.mark.parametrize("sigma", [2.0, 6.0, 15.0])
    def test_blur_is_that_of_pairs_that_were_counted_per_pixel(self, sigma):
        frequency, pixel_size = np.array([0, 0.01, 0.03, 0.05]), 10.0
        rng = np.random.default_rng(0)
        emitters = rng.uniform(0, pixel_size, size=(400_000, 2))
        uncertainty = sigma * rng.choice([0.5, 1.0, 1.5], size=(2, len(emitters), 1))
        blinks = emitters + rng.normal(size=(2, *emitters.shape)) * uncertainty
        y, x = np.diff(np.floor(blinks / pixel_size), axis=0)[0].T * pixel_size
        angle = rng.uniform(0, 2 * np.pi, size=len(y))
        along = y * np.sin(angle) + x * np.cos(angle)
        expected = np.cos(2 * np.pi * frequency[:, np.newaxis] * along).mean(axis=1)
        blur = blur_of_pairs(frequency, uncertainty.ravel(), pixel_size)
        assert_allclose(blur, expected, atol=0.006)
        assert blur[0] == pytest.approx(1, abs=0.001)

    @pytest.mark.parametrize(("uncertainty", "blinks"), [(3, 5), (3, 15), (5, 15)])
    def test_q_is_right_for_pixels_larger_than_the_uncertainty(self, uncertainty, blinks):
        table, _ = make_microtubules(
            field_size=5000,
            n_filaments=6,
            density=1000,
            uncertainty=uncertainty,
            blinks_per_emitter=blinks,
            random_state=0,
        )
        curve = frc_curve(table, split="random", q_correction=True, random_state=0, pixel_size=10)
        assert curve.q == pytest.approx(2 * (blinks - 1), rel=0.15)

    def test_uncertainties_that_are_none_are_left_out(self):
        images = self.pair()
        rings = ring_correlation(*images)
        expected = correct_spurious(rings, images, self.sigma, 8, q=0.4).correlation
        unusable = [np.nan, -3.0, 0.0, np.inf]
        corrected = correct_spurious(rings, images, [*unusable, *self.sigma], 8, q=0.4)
        assert_array_equal(corrected.correlation, expected)
        with pytest.raises(InvalidInputError, match="no uncertainty is positive and finite"):
            correct_spurious(rings, images, unusable, 8)

    @pytest.mark.parametrize("q", [None, 2.0])
    def test_of_a_constant_image_is_nan(self, q):
        images = self.pair()[0], np.ones((40, 50))
        corrected = correct_spurious(ring_correlation(*images), images, self.sigma, 8, q=q)
        assert np.isnan(corrected.correlation).all()
        assert math.isnan(corrected.q) if q is None else corrected.q == q

    def test_a_ring_of_which_all_is_spurious_shares_nothing(self):
        images = self.pair()
        corrected = correct_spurious(ring_correlation(*images), images, self.sigma, 8, q=1e6)
        assert_array_equal(corrected.correlation[:3], 0)

    @pytest.mark.parametrize("q", [-1, math.nan, math.inf])
    def test_refuses_a_q_out_of_range(self, q):
        images = self.pair()
        with pytest.raises(InvalidInputError, match=f"q must be finite and not negative, got {q}"):
            correct_spurious(ring_correlation(*images), images, self.sigma, 8, q=q)

    def test_refuses_to_estimate_from_too_few_rings(self):
        images = self.pair()
        with pytest.raises(InvalidInputError, match=r"only 1 rings show pairs .* 60 nm uncertain"):
            correct_spurious(ring_correlation(*images), images, [60.0], 8)


class TestRefuses:
    points = np.tile([[5.0, 5.0], [95.0, 95.0]], (9, 1))
    y, x = points.T
    table = Localizations({"x": x, "y": y, "frame": np.arange(18), "uncertainty_x": x + 1})

    def test_a_table_without_uncertainty(self):
        with pytest.raises(InvalidInputError, match="no column 'uncertainty_x', only x, y"):
            frc_curve(Localizations(self.points), split="random", q_correction=True)

    @pytest.mark.parametrize("split", ["auto", "frames"])
    def test_another_split(self, split):
        with pytest.raises(InvalidInputError, match="that of the random split of a table"):
            frc_curve(self.table, split=split, q_correction=True)

    def test_images(self):
        with pytest.raises(InvalidInputError, match="that of the random split of a table"):
            frc_curve(np.eye(9), np.eye(9), pixel_size=5, split="random", q_correction=2)

    @pytest.mark.parametrize("q", [-1, math.nan, math.inf, "many", None])
    def test_a_q_that_is_no_number(self, q):
        with pytest.raises(InvalidInputError, match=f"q_correction must be a number .* {q!r}"):
            frc_curve(self.table, split="random", q_correction=q)


def test_of_one_localization_there_is_nothing_to_correct():
    one = Localizations({"x": [5.0], "y": [5.0], "uncertainty_x": [9.0]})
    for q_correction in (True, 2.0):
        curve = frc_curve(one, pixel_size=0.1, split="random", q_correction=q_correction)
        assert curve.reason == "an image is constant: there is nothing to correlate"
