import numpy as np
import pytest
from scipy.stats import norm
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from smlmkit import (
    AdaptiveKDE,
    AnisotropicKDE,
    GaussianKDE,
    Localizations,
    PixelGrid,
    Renderer,
    SmlmkitError,
    to_image,
)
from smlmkit.tiling import cover


def image_of(values, pixel_size=10.0):
    values = np.asarray(values, np.float32)
    return to_image(values, PixelGrid((0, 0), pixel_size, values.shape))


def test_one_blink_becomes_the_normal_density():
    counts = np.zeros((101, 101))
    counts[50, 50] = 1
    smooth = GaussianKDE(sigma=60).fit_transform(image_of(counts)).to_numpy()
    profile = norm.pdf(np.arange(-50, 51) * 10, scale=60) * 10
    np.testing.assert_allclose(smooth, np.outer(profile, profile), atol=2e-6)


@pytest.mark.parametrize("sigma", [1.0, 35.0, 2000.0])
def test_mass_is_kept_also_at_the_border(sigma):
    counts = np.zeros((40, 30))
    counts[0, 0], counts[39, 15], counts[20, 29] = 5, 2, 1
    smooth = GaussianKDE(sigma).fit_transform(image_of(counts))
    assert float(smooth.sum()) == pytest.approx(8, rel=1e-5)


def test_sigma_is_in_nanometres():
    rng = np.random.default_rng(0)
    blinks = Localizations(rng.normal(1000, 10, (5000, 2)), field_of_view=(0, 0, 2000, 2000))
    for pixel_size in (5, 20):
        image = make_pipeline(Renderer(pixel_size), GaussianKDE(50)).fit_transform(blinks)
        variance = float((image * (image.x - 1000) ** 2).sum() / image.sum())
        assert variance == pytest.approx(10**2 + 50**2, rel=0.05)


def test_one_image_or_a_list_on_the_same_grid():
    images = [image_of(np.eye(5)), image_of(np.ones((3, 4)), pixel_size=20)]
    kde = GaussianKDE()
    smooth = kde.fit_transform(images)
    assert [one.shape for one in smooth] == [(5, 5), (3, 4)]
    np.testing.assert_array_equal(smooth[1].x, images[1].x)
    assert smooth[0].identical(kde.transform(images[0]))
    assert images[0].identical(image_of(np.eye(5)))


@pytest.mark.parametrize("sigma", [0, -1, np.nan, np.inf])
def test_a_bad_sigma_is_refused(sigma):
    with pytest.raises(SmlmkitError, match="sigma must be a positive number"):
        GaussianKDE(sigma).fit_transform(image_of(np.eye(3)))


def test_an_array_without_a_grid_is_refused():
    with pytest.raises(SmlmkitError, match="expected an image as xarray"):
        GaussianKDE().fit_transform(np.eye(3))


def test_the_number_of_threads_changes_nothing(nine_threads):
    counts = image_of(np.random.default_rng(0).poisson(0.2, (150, 90)))
    one = GaussianKDE(35, n_threads=1).transform(counts)
    for n_threads in (2, 3, 9):
        assert GaussianKDE(35, n_threads=n_threads).transform(counts).identical(one)


@pytest.mark.parametrize("kde", [GaussianKDE(25), AdaptiveKDE(25), AnisotropicKDE()])
def test_a_stack_in_another_memory_order_is_the_same(kde):
    planes = np.random.default_rng(0).poisson(0.2, (2, 3, 20, 30)).astype(np.float32)
    grid = PixelGrid((0, 0), 10.0, (20, 30))
    labels = {"channel": [0, 1], "z": [-100, 0, 100]}
    swapped = np.ascontiguousarray(planes.swapaxes(0, 1)).swapaxes(0, 1)
    expected = kde.transform(to_image(planes, grid, **labels))
    assert kde.transform(to_image(swapped, grid, **labels)).identical(expected)
    assert not np.array_equal(expected, planes)


@pytest.mark.parametrize("sigma", [1e-323, 1e12])
def test_any_width_keeps_the_mass(sigma):
    smooth = GaussianKDE(sigma).transform(image_of(np.eye(40, 30)))
    assert float(smooth.sum()) == pytest.approx(30, rel=1e-5)


def test_complex_images_are_refused():
    image = to_image(np.eye(3) * 1j, PixelGrid((0, 0), 10.0, (3, 3)))
    with pytest.raises(SmlmkitError, match="an image holds real numbers, got dtype complex128"):
        GaussianKDE().transform(image)


def test_planes_of_a_stack_are_images_of_their_own():
    planes = np.random.default_rng(0).poisson(0.2, (3, 20, 30)).astype(np.uint32)
    grid = PixelGrid((0, 0), 10.0, (20, 30))
    stack = GaussianKDE(15).fit_transform(to_image(planes, grid, z=[-100, 0, 100]))
    assert stack.dims == ("z", "y", "x")
    assert stack.dtype == np.float32
    alone = GaussianKDE(15).fit_transform(image_of(planes[2]))
    np.testing.assert_array_equal(stack.sel(z=100), alone)


def test_tiles_with_their_halo_are_the_whole():
    image = image_of(np.random.default_rng(0).poisson(0.2, (70, 90)))
    kde = GaussianKDE(sigma=20)
    whole, tiled = kde.transform(image), np.full(image.shape, np.nan)
    for tile in cover(np.ones(image.shape, bool), 32, halo=8):
        tiled[tile.write] = kde.transform(image[tile.read]).to_numpy()[tile.crop]
    np.testing.assert_allclose(tiled, whole, rtol=1e-6)


def test_clone():
    assert clone(GaussianKDE(sigma=7)).get_params() == {"sigma": 7, "n_threads": None}
