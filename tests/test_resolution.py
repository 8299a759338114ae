import math

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from smlmkit import frc_curve, frc_resolution
from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.grid import PixelGrid
from smlmkit.images import to_image
from smlmkit.localizations import Localizations
from smlmkit.metrics.rings import ring_correlation
from smlmkit.resolution import repeated_splits

FIELD = (0, 0, 1500, 1800)


def emitters(n, seed=0):
    return np.random.default_rng(seed).uniform(100, 1400, size=(n, 2))


@pytest.fixture
def table():
    """40 blinks of each of 60 emitters, 10 nm precision, spread over 1000 frames."""
    rng = np.random.default_rng(1)
    x, y = (np.repeat(emitters(60), 40, axis=0) + rng.normal(scale=10, size=(2400, 2))).T
    columns = {"x": x, "y": y, "frame": rng.integers(1000, size=2400)}
    return Localizations(columns, field_of_view=FIELD)


def images(shape=(30, 40), pixel_size=20, origin=(0, 0), seed=0):
    signal, *noise = np.random.default_rng(seed).normal(size=(3, *shape))
    grid = PixelGrid(origin, pixel_size, shape)
    return [to_image(signal + 0.5 * n, grid) for n in noise]


class TestImages:
    def test_know_their_pixel_size(self):
        first, second = images()
        curve = frc_curve(first, second)
        assert curve.pixel_size == 20
        assert curve.frequency[-1] == pytest.approx(0.5 / 20)
        expected = ring_correlation(first.values, second.values).correlation
        assert_array_equal(curve.correlation, expected)

    def test_as_arrays_need_one(self):
        first, second = (image.values for image in images())
        assert frc_curve(first, second, pixel_size=20).pixel_size == 20
        with pytest.raises(InvalidInputError, match="give pixel_size in nm"):
            frc_curve(first, second)

    def test_may_be_one_image_and_one_array(self):
        first, second = images()
        assert frc_curve(first, second.values).pixel_size == 20

    def test_must_lie_on_one_grid(self):
        with pytest.raises(InvalidInputError, match="different grids"):
            frc_curve(images()[0], images(origin=(10, 0))[1])
        with pytest.raises(InvalidInputError, match="different grids"):
            frc_curve(images()[0], images(shape=(30, 39))[1])

    def test_must_have_the_pixel_size_that_is_given(self):
        with pytest.raises(InvalidInputError, match=r"pixel size \[10.0, 20.0\] nm: one is needed"):
            frc_curve(*images(), pixel_size=10)


class TestTable:
    def test_resolution_follows_from_the_precision(self, table):
        # Emitters that blink often enough are resolved to between 2 and 4 times the precision.
        curve = frc_curve(table, pixel_size=5)
        assert 20 < curve.resolution < 40
        assert curve.reason == ""
        assert curve.pixel_size == 5

    def test_has_10_nm_pixels_unless_told(self, table):
        assert frc_curve(table).pixel_size == 10

    def test_alternates_blocks_of_frames_without_randomness(self, table):
        first, second = frc_curve(table), frc_curve(table)
        assert_array_equal(first.correlation, second.correlation)

    def test_repeats_give_a_standard_deviation(self, table):
        curve = frc_curve(table, repeats=4, random_state=0)
        assert 0 < curve.resolution_sd < 10
        assert frc_curve(table, repeats=4, random_state=0).resolution_sd == curve.resolution_sd
        assert frc_curve(table, repeats=4, random_state=1).resolution_sd != curve.resolution_sd

    def test_repeats_leave_the_global_random_state_alone(self, table):
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        assert math.isfinite(frc_curve(table, repeats=2).resolution_sd)
        assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002

    def test_random_split_claims_too_much_of_blinks_that_share_an_error(self):
        # Each of 400 blinks has one error of 15 nm for its ten frames.
        rng = np.random.default_rng(0)
        blinks = rng.permutation(np.repeat(emitters(40), 10, axis=0))
        blinks = blinks + rng.normal(scale=15, size=blinks.shape)
        x, y = (np.repeat(blinks, 10, axis=0) + rng.normal(scale=3, size=(4000, 2))).T
        table = Localizations({"x": x, "y": y, "frame": np.arange(4000)}, field_of_view=FIELD)
        honest = frc_resolution(table, pixel_size=5, split="frames")
        assert frc_resolution(table, pixel_size=5, split="random", random_state=0) < 0.6 * honest

    def test_of_one_localization_has_no_resolution(self):
        curve = frc_curve(Localizations(np.array([[50.0, 50.0]]), field_of_view=FIELD))
        assert math.isnan(curve.resolution)
        assert "constant" in curve.reason

    def test_in_one_frame_cannot_be_split_by_frames(self, table):
        still = Localizations({"x": table.x, "y": table.y, "frame": np.zeros(len(table), int)})
        assert math.isfinite(frc_resolution(still, random_state=0))
        with pytest.raises(InvalidInputError, match="cannot split 1 frames"):
            frc_resolution(still, split="frames")


def test_frc_resolution_is_the_one_of_the_curve(table):
    assert frc_resolution(table, pixel_size=8) == frc_curve(table, pixel_size=8).resolution
    assert math.isnan(frc_resolution(images()[0], images()[0]))


def test_one_image_is_not_enough(table):
    with pytest.raises(InvalidInputError, match="one image cannot be split by 'auto'"):
        frc_curve(images()[0])
    with pytest.raises(InvalidTypeError, match="got one DataFrame"):
        frc_curve(pd.DataFrame({"x": [1.0], "y": [2.0]}))
    with pytest.raises(InvalidTypeError, match="no second image"):
        frc_curve(table, images()[0])


def test_splits_start_where_a_single_split_does(table):
    (first, _), (other, _) = repeated_splits(table, "frames", 10, repeats=2, random_state=3)
    assert first == table.split("frames", random_state=3)[0]
    assert other != first


def test_at_least_one_split_is_needed(table):
    with pytest.raises(InvalidInputError, match="repeats must be a whole number of at least 1"):
        frc_curve(table, repeats=0)
