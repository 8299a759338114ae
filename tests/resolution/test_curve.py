import math

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import gaussian_filter

from smlmkit import frc_curve
from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.localizations import Localizations
from smlmkit.metrics.frc import correlation_sd
from smlmkit.metrics.rings import ring_correlation
from smlmkit.resolution.curve import read_curve

SIZE = 10


def pair_of(shape=(64, 80), sigma=2.0, noise=0.5, seed=0):
    rng = np.random.default_rng(seed)
    structure = gaussian_filter(rng.normal(size=shape), sigma)
    return tuple(structure / structure.std() + noise * rng.normal(size=(2, *shape)))


@pytest.fixture
def curve():
    return frc_curve(*pair_of(), pixel_size=SIZE)


class TestErrors:
    def test_are_those_of_the_formula(self, curve):
        rings = ring_correlation(*pair_of())
        expected = correlation_sd(curve.smoothed, rings.n_independent)
        assert_array_equal(curve.correlation_error, expected)
        assert 0 < curve.resolution_error < 0.2 * curve.resolution

    def test_shrink_with_the_field(self, curve):
        large = frc_curve(*pair_of((256, 320)), pixel_size=SIZE)
        assert large.resolution == pytest.approx(curve.resolution, rel=0.1)
        assert large.resolution_error == pytest.approx(curve.resolution_error / 4, rel=0.5)

    @pytest.mark.parametrize("noise", [0, 20])
    def test_are_nan_without_a_resolution(self, noise):
        curve = frc_curve(*pair_of(noise=noise, seed=1), pixel_size=SIZE)
        assert math.isnan(curve.resolution)
        assert math.isnan(curve.resolution_error)

    def test_of_one_of_many_repeats_are_not_their_spread(self):
        counts = np.random.default_rng(0).poisson(3 * np.exp(pair_of(noise=0)[0]))
        curve = frc_curve(counts, pixel_size=SIZE, split="binomial", repeats=4, random_state=0)
        assert curve.resolution_sd > 0
        assert curve.resolution_error > 0
        assert curve.resolution_sd != curve.resolution_error


class TestUnusualImages:
    """What a curve says of images that hold nothing, too little or too much."""

    @pytest.mark.parametrize("value", [0, 4])
    def test_constant(self, value):
        curve = frc_curve(np.full((20, 20), value), pair_of((20, 20))[0], pixel_size=SIZE)
        assert curve.reason == "an image is constant: there is nothing to correlate"
        assert np.isnan([curve.resolution, curve.resolution_error, curve.area()]).all()

    def test_independent(self):
        for seed in range(20):
            pair = np.random.default_rng(seed).normal(size=(2, 60, 60))
            curve = frc_curve(*pair, pixel_size=SIZE, threshold="3-sigma", smoothing=0.2)
            assert curve.reason == "the curve starts below the 3-sigma threshold"

    def test_opposite(self):
        image = pair_of()[0]
        curve = frc_curve(image, -image, pixel_size=SIZE)
        assert_allclose(curve.correlation[1:], -1)
        assert curve.reason == "the curve starts below the 1/7 threshold"

    def test_equal(self):
        image = pair_of()[0]
        curve = frc_curve(image, image, pixel_size=SIZE)
        assert "better than 20 nm, the finest that these pixels hold" in curve.reason
        assert curve.area() == pytest.approx(1)

    def test_crossing_twice_resolve_up_to_the_first(self):
        # Structure at low and at high frequencies, noise alone between them.
        rng = np.random.default_rng(0)
        low, noise, fine = rng.normal(size=(3, 128, 128))
        low = 10 * gaussian_filter(low, 3, mode="wrap")
        between = gaussian_filter(noise, 1) - gaussian_filter(noise, 2)
        high = fine - gaussian_filter(fine, 1.0, mode="wrap")
        first, second = (low + high + s * 20 * between for s in (1, -1))
        curve = frc_curve(first, second, pixel_size=SIZE, window=None)
        falls = (curve.smoothed[1:-1] >= 1 / 7) & (curve.smoothed[2:] < 1 / 7)
        assert curve.smoothed[-1] > 0.5
        assert falls.sum() == 1
        after = int(np.flatnonzero(falls)[0]) + 2
        assert curve.frequency[after - 1] <= 1 / curve.resolution <= curve.frequency[after]

    def test_of_the_least_size(self):
        curve = frc_curve(*pair_of((4, 4)), pixel_size=SIZE)
        assert len(curve.frequency) == 3
        with pytest.raises(InvalidInputError, match="at least 4 pixels a side"):
            frc_curve(*pair_of((3, 4)), pixel_size=SIZE)


class TestRefusedImages:
    def test_of_other_shapes(self):
        first, second = pair_of()
        with pytest.raises(InvalidInputError, match=r"got \(64, 80\) and \(64, 79\)"):
            frc_curve(first, second[:, 1:], pixel_size=SIZE)

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_that_are_not_finite(self, bad):
        first, second = pair_of()
        second[3, 5:9] = bad
        with pytest.raises(InvalidInputError, match="second image has 4 pixels that are nan"):
            frc_curve(first, second, pixel_size=SIZE)

    def test_too_large_to_be_squared(self):
        first, second = pair_of()
        with pytest.raises(InvalidInputError, match="too large to be squared"):
            frc_curve(1e160 * first, second, pixel_size=SIZE)

    def test_that_are_none(self):
        table = Localizations(np.eye(2))
        with pytest.raises(InvalidTypeError, match="second image must hold real numbers"):
            frc_curve(pair_of()[0], table, pixel_size=SIZE)
        with pytest.raises(InvalidInputError, match="split='binomial' is for an image"):
            frc_curve(table, split="binomial")

    @pytest.mark.parametrize("pixel_size", [0, -5, math.nan, "fine"])
    def test_with_a_pixel_size_that_is_none(self, pixel_size):
        with pytest.raises(InvalidInputError, match="pixel_size must be a positive number"):
            frc_curve(*pair_of(), pixel_size=pixel_size)


@pytest.fixture
def ax():
    """Give axes that are drawn by no window, and close all figures after the test."""
    with mpl.rc_context({"backend": "Agg"}):
        figure, ax = pyplot.subplots()
        yield ax
        figure.canvas.draw()  # whatever was drawn can be shown
        pyplot.close("all")


def labels_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


class TestPlot:
    def test_draws_on_the_given_axes(self, curve, ax):
        assert curve.plot(ax) is ax
        assert len(pyplot.get_fignums()) == 1
        smoothed, raw, threshold = ax.lines[:3]
        for line, values in [
            (smoothed, curve.smoothed),
            (raw, curve.correlation),
            (threshold, curve.threshold_curve),
        ]:
            assert_array_equal(line.get_xdata(), curve.frequency[1:])
            assert_array_equal(line.get_ydata(), values[1:])
        assert_allclose(ax.lines[3].get_xdata(), 1 / curve.resolution)
        assert ax.get_xlabel() == "spatial frequency (cycles/nm)"
        assert ax.get_ylabel() == "Fourier correlation"
        assert ax.get_xlim() == pytest.approx((0, 0.5 / SIZE))
        assert labels_of(ax) == [f"{curve.resolution:.4g} nm", "threshold 1/7"]

    def test_draws_on_new_axes(self, curve, ax):
        drawn = curve.plot()
        assert drawn is not ax
        assert drawn.figure.number in pyplot.get_fignums()
        drawn.figure.canvas.draw()

    def test_shows_the_error_as_a_band(self, curve, ax):
        curve.plot(ax)
        ((band,),) = (collection.get_paths() for collection in ax.collections)
        edges = (curve.smoothed + np.outer([-1, 1], curve.correlation_error))[:, 1:]
        assert band.vertices[:, 1].min() == pytest.approx(edges.min())
        assert band.vertices[:, 1].max() == pytest.approx(edges.max())

    def test_two_curves_share_axes(self, curve, ax):
        noisy = frc_curve(*pair_of((32, 32), noise=8, seed=3), pixel_size=4, smoothing=0)
        noisy.plot(ax, label="few")
        curve.plot(ax, label="many")
        assert labels_of(ax) == ["few", "threshold 1/7", "many"]
        assert ax.get_xlim() == pytest.approx((0, 0.5 / 4))
        assert ax.get_ylim()[0] <= noisy.smoothed[1:].min()
        colours = {line.get_color() for line in ax.lines[:2]}
        assert len(colours) == 1
        assert curve.plot(ax).lines[-2].get_color() not in colours

    @pytest.mark.parametrize("second", [np.ones((20, 20)), np.eye(20), -np.eye(20)])
    def test_of_a_curve_without_resolution_says_so(self, second, ax):
        curve = frc_curve(np.eye(20), second, pixel_size=SIZE)
        assert curve.reason
        curve.plot(ax)
        assert labels_of(ax)[0] == "no resolution"
        assert ax.get_xlim() == pytest.approx((0, 0.05))
        assert ax.get_ylim()[0] <= np.nan_to_num(curve.correlation[1:]).min()

    def test_of_the_smallest_images(self, ax):
        frc_curve(*pair_of((4, 4)), pixel_size=SIZE, threshold="3-sigma").plot(ax)
        assert labels_of(ax) == ["no resolution", "threshold 3-sigma"]
        assert ax.lines[2].get_ydata().max() <= 1


def test_a_curve_that_does_not_fall_around_its_crossing_has_no_error():
    frequency = np.arange(40) / 80
    dip = np.where(np.arange(40) < 20, 0.4, 0.9)
    dip[20] = 0.1
    count = np.full(40, 1000)
    curve = read_curve(frequency, [dip], count, count, 10, smoothing=0)
    assert np.isfinite(curve.resolution)
    assert np.isnan(curve.resolution_error)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "random"}, "two images are not split, got split='random'"),
        ({"repeats": 2}, "only tables and counts are split again and again, got repeats=2"),
    ],
)
def test_two_images_are_not_split(options, message):
    images = np.random.default_rng(0).random((2, 20, 20))
    with pytest.raises(InvalidInputError, match=message):
        frc_curve(*images, pixel_size=10, **options)


def test_a_field_of_few_pixels_is_named():
    table = Localizations(np.array([[5.0, 5.0], [20.0, 30.0]]), field_of_view=(0, 0, 35, 35))
    with pytest.raises(InvalidInputError, match=r"has 2 x 2 pixels of 20 nm: at least 4 a side"):
        frc_curve(table, pixel_size=20)


@pytest.mark.parametrize("options", [{"threshold": "2-sigma"}, {"smoothing": 1}])
def test_a_curve_that_could_not_be_read_is_not_measured(monkeypatch, options):
    monkeypatch.setattr("smlmkit.resolution.frc.halves", lambda *_, **__: pytest.fail("measured"))
    with pytest.raises(InvalidInputError):
        frc_curve(*np.ones((2, 20, 20)), pixel_size=10, **options)
