import numpy as np
import pytest
from numpy.testing import assert_array_equal

from smlmkit import PixelGrid, to_image
from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.metrics.filaments import averaged_profile
from smlmkit.resolution.filaments import filament_profile

GRID = PixelGrid(origin=(-300, 1000), pixel_size=5, shape=(60, 80))
PIXELS = np.random.default_rng(0).random(GRID.shape)


def test_of_an_image_with_coordinates_is_cut_where_they_say():
    profile = filament_profile(
        to_image(PIXELS, GRID), (-200, 1150), angle=30, length=60, half_width=42
    )
    # (-200, 1150) is 100 and 150 nm from the corner.
    offset, expected = averaged_profile(PIXELS, (20, 30), angle=30, length=12, half_width=8.4)
    assert_array_equal(profile, expected)
    assert_array_equal(profile.offset, 5 * offset)
    assert profile.offset.attrs["units"] == "nm"
    assert profile.attrs["units"] == "localizations per pixel"


def test_of_an_array_is_cut_from_its_corner():
    profile = filament_profile(PIXELS, (100, 150), length=60, half_width=42, pixel_size=5)
    _, expected = averaged_profile(PIXELS, (20, 30), angle=0, length=12, half_width=8.4)
    assert_array_equal(profile, expected)
    assert profile.offset[-1] == 42


def test_lies_in_the_middle_by_default():
    cut = {"length": 60, "half_width": 42}
    image = to_image(PIXELS, GRID)
    assert_array_equal(filament_profile(image, **cut), filament_profile(image, (-150, 1200), **cut))


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (PIXELS, {}, "give pixel_size in nm"),
        (to_image(PIXELS, GRID), {"pixel_size": 6}, "one is needed"),
        (PIXELS[0], {"pixel_size": 5}, "two-dimensional"),
        (PIXELS, {"pixel_size": 5, "center": "a"}, "center must be two finite numbers"),
        (PIXELS, {"pixel_size": 5, "length": None}, "length must be a positive number, got None"),
        (PIXELS, {"pixel_size": 5, "half_width": -5}, "half_width must be .*, got -5"),
        (PIXELS, {"pixel_size": 5, "length": 500}, "leaves the image of 60 x 80"),
    ],
)
def test_refuses_what_does_not_fit(image, options, message):
    with pytest.raises(InvalidInputError, match=message):
        filament_profile(image, **{"length": 60, "half_width": 42} | options)


def test_refuses_what_are_no_real_numbers():
    with pytest.raises(InvalidTypeError, match="must hold real numbers"):
        filament_profile(PIXELS * 1j, length=60, half_width=42, pixel_size=5)
