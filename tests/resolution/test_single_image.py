import numpy as np
import pytest

from smlmkit import GaussianKDE, Renderer, decorrelation_resolution, make_microtubules
from smlmkit.errors import InvalidInputError
from smlmkit.metrics import decorrelation


@pytest.fixture(scope="module")
def image():
    blinks, _ = make_microtubules(field_size=(2000, 3000), density=3000, random_state=0)
    return GaussianKDE(20).fit_transform(Renderer(pixel_size=10).fit_transform(blinks))


def test_an_image_knows_its_pixel_size_and_an_array_is_told(image):
    expected = decorrelation.analyse_decorrelation(image.to_numpy(), 10).resolution
    assert decorrelation_resolution(image).resolution == expected
    assert decorrelation_resolution(image.to_numpy(), pixel_size=20).resolution == 2 * expected


def test_the_pixel_size_must_be_known_and_agree(image):
    with pytest.raises(InvalidInputError, match="give pixel_size in nm"):
        decorrelation_resolution(image.to_numpy())
    with pytest.raises(InvalidInputError, match="one is needed"):
        decorrelation_resolution(image, pixel_size=12)


def test_options_reach_the_method(image):
    result = decorrelation_resolution(image, n_frequencies=20, n_filters=4)
    assert result.filtered.shape == (4, 20)


def test_a_constant_image_has_a_reason():
    result = decorrelation_resolution(np.ones((64, 64)), pixel_size=10)
    assert np.isnan(result.resolution)
    assert "constant" in result.reason
