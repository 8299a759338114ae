import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import gaussian_filter

from smlmkit.errors import InvalidInputError
from smlmkit.metrics.frc import (
    correlation_sd,
    frc_area,
    frc_ceiling,
    smooth_curve,
    smoothed_sd,
    threshold_curve,
)
from smlmkit.metrics.rings import ring_correlation
from smlmkit.resolution.curve import read_curve


def read(*repeats, pixel_size=10, threshold="1/7", count=1000, smoothing=0):
    """Read the curve of one or more correlations on rings 1/20 cycles per pixel apart."""
    correlations = np.atleast_2d(np.array(repeats, float))
    n_rings = correlations.shape[1]
    return read_curve(
        np.arange(n_rings) / 20,
        list(correlations),
        np.broadcast_to(count, n_rings),
        np.broadcast_to(count, n_rings),
        pixel_size,
        threshold=threshold,
        smoothing=smoothing,
    )


def curve_of(rings, pixel_size, **options):
    return read_curve(
        rings.frequency,
        [rings.correlation],
        rings.count,
        rings.n_independent,
        pixel_size,
        **options,
    )


class TestResolution:
    def test_lies_where_the_line_between_two_rings_meets_the_threshold(self):
        curve = read(1, 1, 1 / 7 + 0.3, 1 / 7 - 0.1, 0)
        assert curve.resolution == pytest.approx(1 / ((2 + 0.75) / 200))
        assert curve.reason == ""
        assert_allclose(curve.frequency, [0, 0.005, 0.01, 0.015, 0.02])

    def test_is_read_at_the_first_of_two_crossings(self):
        assert read(1, 1, 0, 1, 0).resolution == read(1, 1, 0, 0, 0).resolution

    def test_does_not_see_ring_0(self):
        assert read(-1, 1, 0, 0).resolution == read(1, 1, 0, 0).resolution

    def test_is_nan_with_a_reason_when_the_curve_starts_below(self):
        curve = read(1, 0.1, 1, 0)
        assert math.isnan(curve.resolution)
        assert curve.reason == "the curve starts below the 1/7 threshold"

    def test_is_nan_with_a_reason_when_the_curve_never_crosses(self):
        curve = read(1, 1, 1, 0.9)
        assert math.isnan(curve.resolution)
        assert "never falls below the 1/7 threshold" in curve.reason
        assert "better than 66.7 nm" in curve.reason

    @pytest.mark.parametrize("value", [0, 3])
    def test_is_nan_with_a_reason_for_constant_images(self, value):
        constant, image = np.full((20, 20), value), np.random.default_rng(0).random((20, 20))
        curve = curve_of(ring_correlation(constant, image), 10)
        assert math.isnan(curve.resolution)
        assert curve.reason == "an image is constant: there is nothing to correlate"
        assert math.isnan(curve.area())

    def test_skips_rings_that_cannot_reach_the_threshold(self):
        count = np.array([1, 8, 100, 100, 100])
        assert read(1, 0.9, 0.9, 0.9, 0, threshold="3-sigma", count=count).reason == ""
        curve = read(1, 0.9, 0.9, threshold="3-sigma", count=8)
        assert curve.reason == "the images have too few pixels for the 3-sigma threshold"

    @pytest.mark.parametrize("pixel_size", [5, 10])
    def test_of_blurred_noise_is_the_one_of_the_formula(self, pixel_size):
        # FRC(q) = S / (S + N) with S = snr exp(-(2 pi sigma q)^2) meets 1/7 at S / N = 1/6.
        snr, sigma = 4, 2.5
        rng = np.random.default_rng(0)
        blurred = gaussian_filter(rng.normal(size=(384, 400)), sigma, mode="wrap")
        first, second = math.sqrt(snr) * blurred + rng.normal(size=(2, 384, 400))
        curve = curve_of(ring_correlation(first, second), pixel_size)
        expected = 2 * math.pi * sigma * pixel_size / math.sqrt(math.log(6 * snr))
        assert curve.resolution == pytest.approx(expected, rel=0.04)


class TestRepeats:
    repeats = ([1, 1, 0.8, 0, 0], [1, 1, 1, 0.2, 0])

    def test_average_the_curves_and_spread_the_resolutions(self):
        curve = read(*self.repeats)
        each = [read(one).resolution for one in self.repeats]
        assert_allclose(curve.correlation, [1, 1, 0.9, 0.1, 0])
        assert min(each) < curve.resolution < max(each)
        assert curve.resolution_sd == pytest.approx(np.std(each, ddof=1))

    def test_one_has_no_spread(self):
        assert math.isnan(read(self.repeats[0]).resolution_sd)

    def test_one_without_resolution_leaves_no_spread(self):
        curve = read(*self.repeats, [1, 1, 1, 0.2, 0.2])
        assert math.isfinite(curve.resolution)
        assert math.isnan(curve.resolution_sd)


class TestThreshold:
    count = np.array([8, 100, 5000])

    def test_formulas_are_the_published_ones(self):
        root = np.sqrt(self.count)
        half_bit = (0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root)
        one_bit = (0.5 + 2.4142 / root) / (1.5 + 1.4142 / root)
        assert_allclose(threshold_curve("half-bit", self.count), half_bit, rtol=1e-4)
        assert_allclose(threshold_curve("one-bit", self.count), one_bit, rtol=1e-4)
        assert_allclose(threshold_curve("3-sigma", self.count), 3 / np.sqrt(self.count / 2))
        assert_array_equal(threshold_curve("1/7", self.count), 1 / 7)

    def test_bits_ask_for_more_the_more_bits(self):
        assert (
            threshold_curve("one-bit", self.count) > threshold_curve("half-bit", self.count)
        ).all()

    def test_refuses_an_unknown_name(self):
        with pytest.raises(InvalidInputError, match="'3-sigma', got '2-sigma'"):
            threshold_curve("2-sigma", self.count)


class TestSmoothing:
    def test_keeps_a_parabola(self):
        correlation = 1 - np.linspace(0, 1, 101) ** 2
        curve = read(*correlation, smoothing=0.3)
        assert_allclose(curve.smoothed, correlation, atol=1e-12)

    def test_lowers_noise_and_leaves_the_curve_itself_alone(self):
        noise = np.random.default_rng(0).normal(scale=0.1, size=201)
        curve = read(*noise, smoothing=0.2)
        assert curve.smoothed[1:].std() < curve.correlation[1:].std() / 3
        assert_array_equal(curve.correlation, noise)
        assert curve.smoothed[0] == curve.correlation[0]

    @pytest.mark.parametrize(("n_rings", "smoothing"), [(50, 0), (4, 0.9)])
    def test_of_no_or_too_few_rings_changes_nothing(self, n_rings, smoothing):
        correlation = np.linspace(1, 0, n_rings) ** 3
        assert_array_equal(read(*correlation, smoothing=smoothing).smoothed, correlation)

    @pytest.mark.parametrize("smoothing", [-0.1, 1, math.nan, "a", None])
    def test_refuses_a_span_out_of_range(self, smoothing):
        with pytest.raises(InvalidInputError, match=r"smoothing must be in \[0, 1\)"):
            read(1, 0, smoothing=smoothing)


class TestStandardDeviation:
    """One structure imaged again and again: the noise is fresh, the signal stays."""

    @pytest.mark.parametrize("window", ["tukey", None])
    @pytest.mark.parametrize("snr", [0, 0.3, 2, 10])
    def test_of_the_correlation_is_the_formula(self, snr, window):
        rng = np.random.default_rng(0)
        signal = math.sqrt(snr) * rng.normal(size=(48, 60))
        repeats = [
            ring_correlation(*(signal + rng.normal(size=(2, 48, 60))), window=window)
            for _ in range(400)
        ]
        correlation = np.array([rings.correlation for rings in repeats])
        formula = correlation_sd(correlation.mean(axis=0), repeats[0].n_independent)
        ratio = correlation.std(axis=0)[1:] / formula[1:]
        assert ratio.mean() == pytest.approx(1, abs=0.04)
        assert ratio.min() > 0.8  # 400 repeats: sampling alone gives 0.9 to 1.1
        assert ratio.max() < 1.2

    def test_of_a_negative_correlation_is_that_of_noise(self):
        sd = correlation_sd(np.array([-0.5, 0.0]), np.array([25.0, 25.0]))
        assert_allclose(sd, 0.2)

    @pytest.mark.parametrize("span", [0, 0.1, 0.3])
    def test_of_the_smoothed_curve_is_what_the_filter_leaves_of_independent_errors(self, span):
        rng = np.random.default_rng(0)
        sd = np.linspace(0.2, 0.05, 101)
        smoothed = [smooth_curve(sd * rng.normal(size=101), span) for _ in range(2000)]
        ratio = np.std(smoothed, axis=0) / smoothed_sd(sd, span)
        assert ratio == pytest.approx(1, abs=0.08)

    def test_of_too_few_rings_is_that_of_the_curve(self):
        sd = np.array([0.1, 0.2, 0.1])
        assert_array_equal(smoothed_sd(sd, 0.5), sd)

    @staticmethod
    def repeated_resolutions(smoothing):
        rng = np.random.default_rng(0)
        signal = math.sqrt(8) * gaussian_filter(rng.normal(size=(160, 160)), 2.5, mode="wrap")
        curves = [
            curve_of(
                ring_correlation(*(signal + rng.normal(size=(2, 160, 160)))),
                10,
                smoothing=smoothing,
            )
            for _ in range(150)
        ]
        resolution = np.array([curve.resolution for curve in curves])
        error = np.array([curve.resolution_error for curve in curves])
        assert np.isfinite(resolution).all()
        # Single curves dip below the threshold far from the others: quartiles do not see them.
        spread = np.subtract(*np.quantile(resolution, [0.75, 0.25])) / 1.349
        return spread, np.median(error)

    def test_of_the_resolution_is_the_spread_of_repeated_acquisitions(self):
        spread, error = self.repeated_resolutions(smoothing=0.1)
        assert error == pytest.approx(spread, rel=0.3)

    def test_of_the_resolution_of_an_unsmoothed_curve_is_an_upper_bound(self):
        spread, error = self.repeated_resolutions(smoothing=0)
        assert spread < error < 2.5 * spread

    def test_of_no_resolution_is_nan(self):
        assert math.isnan(read(1, 1, 1, 1).resolution_error)

    def test_of_the_resolution_is_the_one_at_the_crossing_by_the_slope(self):
        # A straight line with a slope of -0.1 per ring, which are 0.005 cycles/nm apart.
        line = np.linspace(1.1, 0.1, 11)
        curve = read(*line, count=400)
        sd = np.interp(1 / curve.resolution, curve.frequency, curve.correlation_error)
        assert curve.resolution_error == pytest.approx(sd * 0.005 / 0.1 * curve.resolution**2)


class TestArea:
    @pytest.mark.parametrize("shape", [(30, 30), (15, 40), (35, 25)])
    def test_is_the_mean_over_the_rings_up_to_the_cutoff_without_ring_0(self, shape):
        first, second = np.random.default_rng(0).poisson(1, size=(2, *shape))
        rings = ring_correlation(first, second)
        last = min(shape) // 5
        expected = rings.correlation[1 : last + 1].mean()
        assert frc_area(first, second, cutoff=0.2) == pytest.approx(expected, abs=1e-15)
        assert curve_of(rings, 12.3).area(0.2) == pytest.approx(expected, abs=1e-15)
        assert frc_area(first, second, cutoff=0.5) == pytest.approx(rings.correlation[1:].mean())

    def test_of_noise_is_0_in_the_mean(self):
        rng = np.random.default_rng(0)
        areas = [frc_area(*rng.normal(size=(2, 64, 64)), cutoff=0.5) for _ in range(100)]
        assert abs(np.mean(areas)) < 0.01

    @pytest.mark.parametrize("cutoff", [0, -0.2, 0.6, math.nan, "a", None])
    def test_refuses_a_cutoff_out_of_range(self, cutoff):
        with pytest.raises(InvalidInputError, match=r"cutoff must be in \(0, 0.5\]"):
            frc_area(np.eye(8), np.eye(8), cutoff=cutoff)

    def test_refuses_a_cutoff_below_the_first_ring(self):
        with pytest.raises(InvalidInputError, match=r"the first one is at 0\.125"):
            frc_area(np.eye(8), np.eye(8), cutoff=0.1)


def test_the_curve_shows_its_numbers_and_not_its_arrays():
    assert repr(read(1, 1, 0, 0)).startswith(
        "FRCCurve(threshold='1/7', pixel_size=10.0, resolution"
    )


def test_the_ceiling_of_halves_of_unlike_densities_is_at_most_1():
    image = np.random.default_rng(0).poisson(2, size=(64, 64))
    assert frc_ceiling(image, image, cutoff=0.5) == pytest.approx(1)
    bead = image.copy()
    bead[32, 32] += 3000
    assert frc_ceiling(bead, image + bead // 8) <= 1
