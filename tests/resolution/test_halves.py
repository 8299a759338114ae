"""Halves of one image: a structure finer sampled than its resolution, counted with shot noise."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import gaussian_filter

from smlmkit import frc_curve
from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.grid import PixelGrid
from smlmkit.images import to_image
from smlmkit.resolution.halves import binomial_halves, checkerboard_halves


class TestBinomial:
    def test_halves_sum_to_the_counts(self):
        counts = np.random.default_rng(0).poisson(3, size=(20, 30))
        for first, second in binomial_halves(counts, 3, random_state=0):
            assert_array_equal(first + second, counts)
            assert (first >= 0).all()
            assert (second >= 0).all()

    def test_each_localization_goes_by_a_fair_coin(self):
        ((first, _),) = binomial_halves(np.full((200, 200), 12), 1, random_state=0)
        assert first.mean() == pytest.approx(6, rel=0.01)
        assert first.var() == pytest.approx(3, rel=0.03)

    def test_halves_of_shot_noise_are_independent_shot_noise(self):
        counts = np.random.default_rng(0).poisson(4, size=(300, 300))
        ((first, second),) = binomial_halves(counts, 1, random_state=0)
        for half in (first, second):
            assert half.mean() == pytest.approx(2, rel=0.01)
            assert half.var() == pytest.approx(2, rel=0.03)
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.01

    def test_random_state_decides(self):
        counts = np.full((9, 9), 20)
        before = np.random.get_state()[1].copy()  # noqa: NPY002

        def halves(random_state):
            return [first for first, _ in binomial_halves(counts, 2, random_state)]

        first, second = halves(0)
        assert_array_equal(halves(0), [first, second])
        assert (first != second).any()
        assert (halves(1)[0] != first).any()
        assert (halves(None)[0] != halves(None)[0]).any()
        assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002

    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.float16, np.float32, np.int64])
    def test_counts_may_have_any_type(self, dtype):
        counts = (np.arange(64).reshape(8, 8) % 2 * 250).astype(dtype)
        ((first, second),) = binomial_halves(counts, 1, random_state=0)
        assert_array_equal(first + second, counts.astype(int))

    def test_counts_may_be_as_many_as_float64_tells_apart(self):
        ((first, second),) = binomial_halves(np.full((4, 4), 2.0**53), 1, random_state=0)
        assert_array_equal(first + second, 2**53)
        assert_allclose(first, 2**52, rtol=1e-6)

    @pytest.mark.parametrize("bad", [0.5, -1, math.nan, math.inf, 2.0**54])
    def test_refuses_what_are_no_counts(self, bad):
        counts = np.ones((8, 8))
        counts[1, 2:5] = bad
        with pytest.raises(InvalidInputError, match="3 pixels are no whole numbers from 0"):
            frc_curve(counts, pixel_size=5, split="binomial")

    def test_repeats_average_the_curves(self):
        counts = np.random.default_rng(0).poisson(2, size=(40, 40))
        curve = frc_curve(counts, pixel_size=5, split="binomial", repeats=3, random_state=0)
        each = [
            frc_curve(*pair, pixel_size=5).correlation for pair in binomial_halves(counts, 3, 0)
        ]
        assert_allclose(curve.correlation, np.mean(each, axis=0))


def waves(shape):
    """Sum waves that half as many pixels a side can hold; they go on beyond the borders."""
    rng = np.random.default_rng(0)
    height, width = (side // 2 * 2 for side in shape)
    highest = (height // 2 - 1) // 2, (width // 2 - 1) // 2
    y, x = np.indices(shape)
    return sum(
        np.cos(2 * np.pi * (ky * y / height + kx * x / width) + rng.uniform(0, 2 * np.pi))
        for ky in range(highest[0] + 1)
        for kx in range(-highest[1], highest[1] + 1)
    )


class TestCheckerboard:
    @pytest.mark.parametrize("shape", [(16, 16), (18, 22), (17, 25), (20, 9), (8, 8)])
    def test_both_diagonals_show_the_same_places(self, shape):
        image = waves(shape)
        even = image[: shape[0] // 2 * 2, : shape[1] // 2 * 2]
        (first, second), (third, fourth) = checkerboard_halves(image)
        assert_array_equal(first, even[::2, ::2])
        assert_array_equal(third, even[::2, 1::2])
        assert_allclose(second, first, rtol=0, atol=1e-10)
        assert_allclose(fourth, third, rtol=0, atol=1e-10)
        assert np.abs(first - third).max() > 0.1

    def test_noise_of_pixels_does_not_correlate(self):
        noise = np.random.default_rng(0).normal(size=(200, 200))
        curve = frc_curve(noise, pixel_size=5, split="checkerboard")
        assert abs(curve.area(0.5)) < 0.02
        assert np.abs(curve.correlation[10:]).max() < 0.2

    def test_every_pixel_counts_once(self):
        image = np.random.default_rng(0).normal(size=(12, 14))
        seen = [half.sum() for pair in checkerboard_halves(image) for half in pair]
        assert sum(seen) == pytest.approx(image.sum())

    def test_pixels_are_twice_as_large(self):
        image = np.random.default_rng(0).normal(size=(30, 41))
        curve = frc_curve(image, pixel_size=5, split="checkerboard")
        assert curve.pixel_size == 10
        assert curve.frequency[-1] == pytest.approx(7 / 15 / 10)
        pairs = checkerboard_halves(image)
        each = [frc_curve(*pair, pixel_size=10).correlation for pair in pairs]
        assert_allclose(curve.correlation, np.mean(each, axis=0))

    def test_refuses_pixels_that_are_not_finite(self):
        image = np.ones((16, 16))
        image[5, 5:8] = math.nan
        with pytest.raises(InvalidInputError, match="image has 3 pixels that are nan or infinite"):
            frc_curve(image, pixel_size=5, split="checkerboard")


@pytest.fixture(scope="module")
def density():
    """Give a smooth structure, 1 on average, finer sampled than it is resolved."""
    noise = gaussian_filter(np.random.default_rng(0).normal(size=(300, 340)), 5, mode="wrap")
    bright = np.exp(noise / noise.std())
    return bright / bright.mean()


@pytest.mark.parametrize("counts", [2, 10])
@pytest.mark.parametrize(("split", "share"), [("binomial", 1 / 2), ("checkerboard", 1 / 4)])
def test_one_image_resolves_what_two_of_as_many_counts_do(density, split, share, counts):
    """Binomial halves hold half of the counts each, the quarters of a checkerboard a fourth."""
    rng = np.random.default_rng(1)
    expected = frc_curve(*rng.poisson(share * counts * density, (2, *density.shape)), pixel_size=5)
    image = rng.poisson(counts * density)
    curve = frc_curve(image, pixel_size=5, split=split, random_state=0)
    assert 20 < expected.resolution < 80
    assert curve.resolution == pytest.approx(expected.resolution, rel=0.15)


def test_an_image_on_a_grid_knows_its_pixel_size(density):
    counts = np.random.default_rng(0).poisson(density).astype(np.float32)
    image = to_image(counts, PixelGrid((100, 200), 7, density.shape))
    assert frc_curve(image, split="checkerboard").pixel_size == 14
    curve = frc_curve(image, split="binomial", random_state=0)
    assert curve.pixel_size == 7
    expected = frc_curve(counts, pixel_size=7, split="binomial", random_state=0)
    assert_array_equal(curve.correlation, expected.correlation)


@pytest.mark.parametrize(("split", "side"), [("binomial", 4), ("checkerboard", 8)])
class TestRefuses:
    def test_too_few_pixels(self, split, side):
        wrong, right = np.eye(side + 4, side - 1), np.eye(side + 4, side)
        with pytest.raises(InvalidInputError, match=rf"at least {side} pixels a side, got shape"):
            frc_curve(wrong, pixel_size=5, split=split)
        assert frc_curve(right, pixel_size=5, split=split, random_state=0).frequency[0] == 0

    def test_stacks(self, split, side):
        with pytest.raises(InvalidInputError, match="must be two-dimensional"):
            frc_curve(np.ones((20, 20, 20)), pixel_size=5, split=split)

    @pytest.mark.parametrize("dtype", [complex, str])
    def test_what_are_no_real_numbers(self, split, side, dtype):
        with pytest.raises(InvalidTypeError, match="must hold real numbers"):
            frc_curve(np.ones((20, 20)).astype(dtype), pixel_size=5, split=split)

    def test_arrays_without_pixel_size(self, split, side):
        with pytest.raises(InvalidInputError, match="give pixel_size in nm"):
            frc_curve(np.ones((20, 20)), split=split)
