import numpy as np
import pytest
from scipy import stats

from smlmkit.simulate.blinks import (
    CAMERA_PIXEL_SIZE,
    OUTLIER_FACTOR,
    PSF_SIGMA,
    draw_blink_counts,
    draw_errors,
    draw_frames,
    draw_uncertainty,
    photons_for,
)


@pytest.fixture
def rng():
    return np.random.RandomState(0)


def elapsed_frames(frames, counts):
    """Give the gap before each blink but the first of its emitter."""
    same_emitter = np.diff(np.repeat(np.arange(len(counts)), counts)) == 0
    return np.diff(frames)[same_emitter]


class TestBlinkCounts:
    @pytest.mark.parametrize("n_blinks", [0, 1, 7, 1000])
    @pytest.mark.parametrize("mean", [1.0, 1.5, 30.0])
    def test_exactly_so_many_blinks_are_shared_out(self, n_blinks, mean, rng):
        counts = draw_blink_counts(n_blinks, mean, rng)
        assert counts.sum() == n_blinks
        assert (counts >= 1).all()

    def test_their_number_is_geometric(self, rng):
        mean = 4.0
        counts = draw_blink_counts(200_000, mean, rng)
        k = np.arange(1, 20)
        expected = np.append(stats.geom.pmf(k, 1 / mean), stats.geom.sf(19, 1 / mean))
        seen = np.bincount(counts.clip(max=20), minlength=21)[1:]
        assert stats.chisquare(seen, expected * len(counts)).pvalue > 0.01

    def test_emitters_blink_once_where_the_mean_is_one(self, rng):
        assert (draw_blink_counts(50, 1.0, rng) == 1).all()


class TestFrames:
    @pytest.mark.parametrize("mean", [3.0, 8.0])
    def test_blinks_of_an_emitter_follow_with_geometric_gaps(self, mean, rng):
        counts = np.full(20_000, 5)
        frames = draw_frames(counts, 100_000, rng, frames_between_blinks=mean)
        gaps = elapsed_frames(frames, counts)
        k = np.arange(1, 15)
        expected = np.append(stats.geom.pmf(k, 1 / mean), stats.geom.sf(14, 1 / mean)) * len(gaps)
        seen = np.bincount(gaps.clip(max=15), minlength=16)[1:]
        assert stats.chisquare(seen, expected).pvalue > 0.01

    def test_first_blinks_are_uniform_over_the_acquisition(self, rng):
        first = draw_frames(np.ones(50_000, int), 1000, rng)
        assert stats.chisquare(np.bincount(first, minlength=1000)).pvalue > 0.01

    @pytest.mark.parametrize("bleaching", [None, 5.0])
    @pytest.mark.parametrize("n_frames", [1, 2, 10, 1000])
    def test_emitters_that_fit_stay_within_the_acquisition(self, n_frames, bleaching, rng):
        counts = draw_blink_counts(5000, 8.0, rng)
        frames = draw_frames(counts, n_frames, rng, bleaching=bleaching)
        assert frames.shape == (5000,)
        assert (elapsed_frames(frames, counts) >= 1).all()
        last = np.cumsum(counts) - 1
        start, end = frames[last - counts + 1], frames[last]
        fits = end - start < n_frames
        assert start[fits].min() >= 0
        assert end[fits].max() < n_frames
        # The acquisition is a part of the time that the others take.
        assert (start[~fits] <= 0).all()
        assert (end[~fits] >= n_frames - 1).all()

    def test_of_a_long_lasting_emitter_any_part_is_seen(self, rng):
        counts = np.full(200, 5000)
        frames = draw_frames(counts, 100, rng).reshape(200, 5000)
        share = -frames[:, 0] / (frames[:, -1] - frames[:, 0])
        assert stats.kstest(share, "uniform").pvalue > 0.01
        seen = frames[(frames >= 0) & (frames < 100)]
        assert stats.chisquare(np.bincount(seen, minlength=100)).pvalue > 0.01

    def test_first_blinks_decline_exponentially_where_emitters_bleach(self, rng):
        n_frames, bleaching = 100_000, 30_000
        first = draw_frames(np.ones(50_000, int), n_frames, rng, bleaching=bleaching)
        truncated = stats.truncexpon(n_frames / bleaching, scale=bleaching)
        assert stats.kstest(first + rng.random_sample(len(first)), truncated.cdf).pvalue > 0.01

    def test_slow_bleaching_is_none(self):
        counts = np.full(1000, 3)
        frames, slow = (
            draw_frames(counts, 1000, np.random.RandomState(0), bleaching=bleaching)
            for bleaching in (None, 1e15)
        )
        np.testing.assert_array_equal(frames, slow)

    @pytest.mark.parametrize("bleaching", [1e-300, 0.1, 5.0])
    def test_fast_bleaching_puts_everything_at_the_start(self, bleaching, rng):
        counts = draw_blink_counts(5000, 2.0, rng)
        frames = draw_frames(counts, 10_000, rng, bleaching=bleaching)
        first = np.cumsum(counts) - counts
        assert frames.min() == 0
        assert frames[first].mean() <= bleaching

    def test_no_emitter_has_no_frame(self, rng):
        assert draw_frames(np.array([], int), 10, rng).shape == (0,)


class TestPrecision:
    def test_uncertainty_is_log_normal_around_its_median(self, rng):
        sigma = draw_uncertainty(50_000, 12.0, rng, spread=0.3)
        assert stats.kstest(np.log(sigma / 12) / 0.3, "norm").pvalue > 0.01

    def test_without_a_spread_all_are_alike(self, rng):
        assert (draw_uncertainty(100, 12.0, rng, spread=0) == 12).all()

    def test_photons_explain_the_uncertainty(self):
        sigma = np.array([5.0, 10.0, 40.0])
        np.testing.assert_allclose(PSF_SIGMA / np.sqrt(photons_for(sigma)), sigma)

    @pytest.mark.parametrize("background", [0.0, 0.5, 10.0, 1000.0])
    def test_photons_and_background_give_the_uncertainty_of_thompson(self, background):
        sigma = np.array([3.0, 10.0, 40.0, 300.0])
        n = photons_for(sigma, background=background)
        shot_noise = PSF_SIGMA**2 / n
        of_background = 8 * np.pi * PSF_SIGMA**4 * background / (CAMERA_PIXEL_SIZE * n) ** 2
        np.testing.assert_allclose(np.sqrt(shot_noise + of_background), sigma)


class TestErrors:
    def test_they_are_normal_with_the_uncertainty_and_independent_along_the_axes(self, rng):
        sigma = rng.uniform(2, 30, 40_000)
        errors = draw_errors(sigma, 3, rng)
        assert errors.shape == (3, 40_000)
        for error in errors:
            assert stats.kstest(error / sigma, "norm").pvalue > 0.01
        off_diagonal = np.corrcoef(errors / sigma)[np.triu_indices(3, 1)]
        assert (np.abs(off_diagonal) < 4 / np.sqrt(40_000)).all()

    def test_outliers_have_larger_errors_along_all_axes(self, rng):
        sigma = np.full(100_000, 7.0)
        share = 0.2
        errors = draw_errors(sigma, 2, rng, outliers=share)
        scaled = errors / 7.0

        def mixture(value):
            inside = stats.norm.cdf(value)
            return (1 - share) * inside + share * stats.norm.cdf(value / OUTLIER_FACTOR)

        for axis in scaled:
            assert stats.kstest(axis, mixture).pvalue > 0.01
        far_y, far_x = np.abs(scaled) > 5
        # An outlier along one axis is one along the other: more than 5 of 10 deviations away.
        assert far_x[far_y].mean() == pytest.approx(2 * stats.norm.sf(0.5), abs=0.01)
