import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import gaussian_filter
from scipy.optimize import brentq
from scipy.special import j1, jn_zeros

from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.metrics.filaments import (
    RAYLEIGH_DIP,
    averaged_profile,
    smallest_resolved,
    two_peaks,
)


def pair(offset, distance, sigma=1.0, second=1.0):
    """Two Gaussians around 0, the first of height 1."""
    left, right = (
        np.exp(-(((offset - middle) / sigma) ** 2) / 2) for middle in (-distance / 2, distance / 2)
    )
    return left + second * right


def analytic_peak(distance):
    """The maximum x > 0 of two Gaussians of sigma 1: the root of x = (d/2) tanh(x d/2)."""
    half = distance / 2
    return brentq(lambda x: half * math.tanh(x * half) - x, 1e-6, half)


def analytic_dip(distance):
    return 1 - pair(0, distance) / pair(analytic_peak(distance), distance)


def plane(shape, of):
    """A function of (y, x) in pixels from the corner, read at the centres of pixels."""
    y, x = (np.arange(side) + 0.5 for side in shape)
    return of(y[:, np.newaxis], x)


class TestAveragedProfile:
    @pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ">f4", np.int16])
    @pytest.mark.parametrize("angle", [0, 30, 90, -45, 200])
    def test_of_a_plane_is_the_plane_across_the_filaments(self, angle, dtype):
        image = plane((40, 60), lambda y, x: 3 * y - x).astype(dtype)
        offset, profile = averaged_profile(
            image, (18.3, 31), angle=angle, length=14, half_width=9.1
        )
        y = 18.3 + offset * math.cos(math.radians(angle))
        x = 31 - offset * math.sin(math.radians(angle))
        assert_allclose(profile, 3 * y - x, rtol=0, atol=1e-9)

    @pytest.mark.parametrize(("length", "step"), [(10, 0.25), (9.9, 0.3), (0.5, 1)])
    def test_averages_over_the_length_and_no_further(self, length, step):
        # The mean of (x - 20)^2 over so many middles of equal parts of the length; x * y is the
        # bilinear function that bends along the diagonal.
        image = plane((40, 40), lambda y, x: (x - 20) * (y - 20))
        offset, profile = averaged_profile(
            image, (20, 20), angle=45, length=length, half_width=3, step=step
        )
        n = math.ceil(length / step)
        mean_square = length**2 / 12 * (1 - 1 / n**2)
        assert_allclose(profile, (mean_square - offset**2) / 2, atol=1e-9)

    @pytest.mark.parametrize(("half_width", "step"), [(3, 0.25), (0.3, 0.1), (2.1, 0.5), (0.2, 1)])
    def test_offsets_reach_both_ends_in_equal_steps(self, half_width, step):
        offset, profile = averaged_profile(
            np.zeros((9, 9)), (4, 5), angle=0, length=3, half_width=half_width, step=step
        )
        assert len(offset) == len(profile)
        assert offset[0] == -half_width
        assert offset[-1] == half_width
        assert_allclose(np.diff(offset), offset[1] - offset[0])
        assert offset[1] - offset[0] <= step * (1 + 1e-9)

    @pytest.mark.parametrize("angle", [0, 90, 180, 270])
    def test_reaches_the_borders_and_no_further(self, angle):
        image = np.random.default_rng(0).random((12, 12))
        inside = {"angle": angle, "length": 12, "half_width": 6, "step": 0.5}
        offset, profile = averaged_profile(image, (6, 6), **inside)
        # Samples at 0.25, 0.75, ... along a row weigh all its pixels alike but the outermost ones,
        # whose value holds on beyond their centres: all alike in the end.
        means = np.rot90(image, angle // 90).mean(axis=1)
        assert_allclose(profile[1::2], means)
        assert_allclose(profile[2:-1:2], (means[1:] + means[:-1]) / 2)
        assert_allclose(profile[[0, -1]], means[[0, -1]])
        assert_allclose(offset[[0, -1]], [-6, 6])
        for center in ((6.01, 6), (5.99, 6), (6, 6.01), (6, 5.99)):
            with pytest.raises(InvalidInputError, match="leaves the image of 12 x 12"):
                averaged_profile(image, center, **inside)

    @pytest.mark.parametrize("angle", [0, 20, 45, 90, 137])
    def test_of_two_blurred_filaments_is_the_pair_of_gaussians(self, angle):
        sigma, distance = 3.0, 9.0
        direction = math.radians(angle)
        image = plane(
            (120, 110),
            lambda y, x: pair(
                (y - 61.3) * math.cos(direction) - (x - 54.8) * math.sin(direction),
                distance,
                sigma,
                second=0.8,
            ),
        )
        offset, profile = averaged_profile(
            image, (61.3, 54.8), angle=angle, length=50, half_width=15
        )
        widened = math.sqrt(sigma**2 + 1 / 6)
        expected = sigma / widened * pair(offset, distance, widened, second=0.8)
        # Along an axis every offset has its own phase to the pixels, and its own blur.
        assert_allclose(profile, expected, atol=2e-3 if angle % 90 else 0.02)

    def test_lies_in_the_middle_of_the_image_along_its_rows_by_default(self):
        image = np.random.default_rng(0).random((21, 34))
        cut = {"length": 12, "half_width": 5}
        for ours, given in zip(
            averaged_profile(image, **cut),
            averaged_profile(image, (10.5, 17), angle=0, **cut),
            strict=True,
        ):
            assert_array_equal(ours, given)

    def test_reads_no_pixel_far_from_the_cut(self):
        image = np.full((50, 60), np.nan)
        image[10:21, 20:41] = 2
        cut = {"angle": 0, "length": 18, "half_width": 4}
        assert_array_equal(averaged_profile(image, (15, 30), **cut)[1], 2)
        image[15, 30] = np.inf
        with pytest.raises(InvalidInputError, match="the cut has 1 pixels that are nan or inf"):
            averaged_profile(image, (15, 30), **cut)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"image": np.zeros(9)}, "two-dimensional"),
            ({"image": np.zeros((1, 9))}, "at least 2 pixels"),
            ({"center": 4}, "center must be two finite numbers"),
            ({"center": (4, 4, 4)}, "center must be two"),
            ({"center": (4, math.nan)}, "center must be two"),
            ({"center": (4, "4")}, "center must be two"),
            ({"center": (4, None)}, "center must be two"),
            ({"angle": math.inf}, "angle must be in"),
            ({"angle": None}, "angle must be in"),
            ({"length": 0}, "length must be a positive"),
            ({"length": 1e300}, "leaves the image"),
            ({"half_width": -1}, "half_width must be a positive"),
            ({"step": 0.001}, r"step must be in \[0.01, 1\]"),
            ({"step": 2}, r"step must be in \[0.01, 1\]"),
        ],
    )
    def test_refuses_what_is_out_of_range(self, change, message):
        given = {"image": np.zeros((9, 9)), "center": (4, 4), "angle": 0, "length": 3}
        with pytest.raises(InvalidInputError, match=message):
            averaged_profile(**given | {"half_width": 2} | change)

    @pytest.mark.parametrize("image", [np.zeros((9, 9), complex), np.full((9, 9), "a")])
    def test_refuses_what_are_no_real_numbers(self, image):
        with pytest.raises(InvalidTypeError, match="the image must hold real numbers"):
            averaged_profile(image, (4, 4), angle=0, length=3, half_width=2)


class TestTwoPeaks:
    offset = np.linspace(-8, 8, 3201)  # 0.005 apart

    @pytest.mark.parametrize("distance", [2.2, 2.5, 3.0, 4.0, 6.0])
    def test_of_two_gaussians_are_the_analytic_ones(self, distance):
        result = two_peaks(self.offset, pair(self.offset, distance))
        peak = analytic_peak(distance)
        assert_allclose(result.peaks, (-peak, peak), atol=0.0026)
        assert result.distance == pytest.approx(2 * peak, abs=0.0051)
        assert result.dip == pytest.approx(analytic_dip(distance), abs=1e-5)

    @pytest.mark.parametrize("sigma", [0.5, 1.0])
    def test_without_least_dip_part_at_sparrows_limit_of_two_sigma(self, sigma):
        for distance, expected in ((1.98, False), (2.02, True)):
            profile = pair(self.offset, distance * sigma, sigma)
            assert two_peaks(self.offset, profile, least_dip=0).resolved is expected

    def test_by_default_part_at_rayleighs_dip(self):
        limit = brentq(lambda distance: analytic_dip(distance) - RAYLEIGH_DIP, 2.1, 4)
        assert limit == pytest.approx(2.80, abs=0.005)  # as the docstring says
        for factor, expected in ((0.998, False), (1.002, True)):
            result = two_peaks(self.offset, pair(self.offset, factor * limit))
            assert result.resolved is expected
            assert result.distance > 0

    def test_rayleighs_dip_is_that_of_two_airy_patterns(self):
        first_dark = jn_zeros(1, 1)[0]
        middle = (2 * j1(first_dark / 2) / (first_dark / 2)) ** 2
        assert pytest.approx(1 - 2 * middle, abs=5e-5) == RAYLEIGH_DIP

    def test_do_not_depend_on_the_scale_the_unit_or_the_direction(self):
        profile = pair(self.offset, 3.5, second=0.8)
        one = two_peaks(self.offset, profile)
        scaled = two_peaks(10 * self.offset + 7, 123 * profile)
        assert_allclose(scaled.peaks, 10 * np.array(one.peaks) + 7)
        assert scaled.dip == pytest.approx(one.dip)
        mirrored = two_peaks(self.offset, profile[::-1])
        assert_allclose(mirrored.peaks, [-one.peaks[1], -one.peaks[0]], atol=1e-12)
        assert mirrored.dip == one.dip

    def test_dip_is_the_fall_from_the_lower_maximum_by_the_height_of_the_higher(self):
        result = two_peaks(range(7), [0, 4, 3, 1, 2, 3, 0])
        assert result == (True, (1.0, 5.0), 4.0, 0.5)

    def test_are_the_pair_with_the_largest_dip_of_all(self):
        rng = np.random.default_rng(0)
        for _ in range(200):
            profile = np.pad(rng.integers(0, 9, size=10), 1)
            largest = max(
                min(profile[i], profile[k]) - profile[i : k + 1].min()
                for i in range(12)
                for k in range(i, 12)
            )
            result = two_peaks(range(12), profile)
            assert result.dip == pytest.approx(largest / profile.max())
            if largest:
                i, k = map(int, result.peaks)
                assert min(profile[i], profile[k]) - profile[i : k + 1].min() == largest

    @pytest.mark.parametrize(
        "profile",
        [
            [0, 1, 2, 1, 0],
            [2, 1, 0, 1, 2],  # rises towards both ends
            [3, 1, 2, 1, 3],
            [1, 1, 1, 1, 1],
            [0, 2, 2, 2, 0],
            [0, 0, 0, 0, 0],
            [-3, -1, -2, -1, -3],  # nothing there
        ],
    )
    def test_fewer_than_two_maxima_are_nan_and_not_resolved(self, profile):
        resolved, peaks, distance, dip = two_peaks(range(5), profile)
        assert resolved is False
        assert np.isnan([*peaks, distance]).all()
        assert dip == 0

    def test_a_plateau_lies_at_its_middle(self):
        assert two_peaks(range(9), [0, 2, 2, 2, 0, 0, 2, 1, 0]).peaks == (2.0, 6.0)

    def test_neither_a_speck_nor_a_ripple_on_the_flank_is_a_filament(self):
        single = pair(self.offset, 0, second=0)
        speck = two_peaks(self.offset, single + 0.1 * pair(self.offset, 12, 0.3, second=0))
        assert speck.dip == pytest.approx(0.1, abs=0.01)
        ripple = two_peaks(self.offset, single + 0.05 * np.sin(12 * self.offset))
        assert 0 < ripple.dip < 0.1
        assert not speck.resolved
        assert not ripple.resolved

    def test_one_of_them_is_the_highest_maximum_be_it_a_speck(self):
        assert two_peaks(range(9), [0, 100, 0, 0, 10, 0, 11, 0, 0]) == (False, (1, 6), 5, 0.11)

    @pytest.mark.parametrize(
        ("offset", "profile", "message"),
        [
            ([0, 1], [0, 1], r"same shape of at least \(3,\), got \(2,\) and \(2,\)"),
            ([0, 1, 2], [0, 1, 2, 3], "same shape"),
            ([[0, 1, 2]], [[0, 1, 2]], r"offset must be one-dimensional, got shape \(1, 3\)"),
            ([0, 1, 2], [0, math.nan, 1], "profile has 1 values that are nan or infinite"),
            ([0, math.inf, 2], [0, 1, 1], "offset has 1 values"),
            ([0, 1, 1], [0, 1, 1], "offset must rise"),
        ],
    )
    def test_refuse_samples_that_do_not_fit(self, offset, profile, message):
        with pytest.raises(InvalidInputError, match=message):
            two_peaks(offset, profile)

    def test_refuse_what_are_no_real_numbers(self):
        with pytest.raises(InvalidTypeError, match="profile must hold real numbers"):
            two_peaks(range(3), ["a", "b", "c"])

    @pytest.mark.parametrize("least_dip", [-0.1, 1, math.nan, None])
    def test_refuse_a_least_dip_out_of_range(self, least_dip):
        with pytest.raises(InvalidInputError, match=r"least_dip must be in \[0, 1\)"):
            two_peaks(range(3), range(3), least_dip=least_dip)


class TestSmallestResolved:
    @pytest.mark.parametrize(
        ("distances", "resolved", "expected"),
        [
            ([10, 20, 30], [False, True, True], 20),
            ([30, 10, 20], [True, False, True], 20),  # in any order
            ([10, 20, 30, 40], [True, False, True, True], 30),  # by chance at 10
            ([10, 20], [True, True], 10),
            ([10, 20, 20, 30], [False, True, False, True], 30),  # both at 20
            ([10, 20], [True, False], math.nan),
            ([20, 20], [True, False], math.nan),
            ([10], [False], math.nan),
        ],
    )
    def test_is_where_all_larger_ones_are_resolved(self, distances, resolved, expected):
        assert smallest_resolved(distances, resolved) == pytest.approx(expected, nan_ok=True)

    @pytest.mark.parametrize(
        ("distances", "resolved", "message"),
        [
            ([], [], r"at least \(1,\), got \(0,\)"),
            ([1, 2], [True], "same shape"),
            (1, True, "one-dimensional"),
            ([1, math.nan], [True, True], "distances has 1 values"),
        ],
    )
    def test_refuses_pairs_that_do_not_fit(self, distances, resolved, message):
        with pytest.raises(InvalidInputError, match=message):
            smallest_resolved(distances, resolved)

    def test_refuses_what_are_no_booleans(self):
        with pytest.raises(InvalidTypeError, match="resolved must hold booleans, got float64"):
            smallest_resolved([1, 2], [0.1, 0.2])


class TestBlinks:
    """From blinks to the smallest distance: sigma is that of the blinks and of the smoothing."""

    @staticmethod
    def image(distance, n_blinks, seed, angle=25, error=2.0, blur=1.5):
        rng = np.random.default_rng(seed)
        along = rng.uniform(-60, 60, n_blinks)
        across = rng.choice([-0.5, 0.5], n_blinks) * distance
        turn = math.radians(angle)
        y = along * math.sin(turn) + across * math.cos(turn)
        x = along * math.cos(turn) - across * math.sin(turn)
        errors = rng.normal(scale=error, size=(2, n_blinks))
        edges = np.arange(-75, 76)
        counts = np.histogram2d(y + errors[0], x + errors[1], bins=(edges, edges))[0]
        return gaussian_filter(counts, blur)

    def result(self, distance, n_blinks, seed, **options):
        image = self.image(distance, n_blinks, seed, **options)
        return two_peaks(*averaged_profile(image, (75, 75), angle=25, length=100, half_width=15))

    def test_many_part_at_the_analytic_distance(self):
        # Errors, smoothing, pixels and interpolation.
        sigma = math.sqrt(2.0**2 + 1.5**2 + 1 / 12 + 1 / 6)
        distances = np.arange(5.0, 10.01, 0.25)
        results = [self.result(distance, 200_000, 0) for distance in distances]
        smallest = smallest_resolved(distances, [result.resolved for result in results])
        assert smallest == pytest.approx(2.80 * sigma, abs=0.35)
        assert results[-1].dip == pytest.approx(analytic_dip(10 / sigma), abs=0.03)
        assert results[-1].distance == pytest.approx(10, abs=0.5)

    def test_raw_counts_of_one_filament_have_dips_but_are_not_taken_for_two(self):
        results = [self.result(0, 300, seed, blur=0) for seed in range(100)]
        assert np.mean([result.dip > 0 for result in results]) > 0.5
        assert not any(result.resolved for result in results)
