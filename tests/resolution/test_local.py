import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import gaussian_filter

from smlmkit import frc_curve, frc_map, write_image
from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.grid import PixelGrid
from smlmkit.images import grid_of, to_image
from smlmkit.localizations import Localizations

SIZE = 10  # nm a pixel


def pair_of(shape=(70, 95), sigma=2.0, noise=0.5, seed=0):
    """Blur one structure, the same for both images, and add noise."""
    rng = np.random.default_rng(seed)
    structure = gaussian_filter(rng.normal(size=shape), sigma)
    return tuple(structure / structure.std() + noise * rng.normal(size=(2, *shape)))


def on_grid(image, origin=(-300, 1200)):
    return to_image(image, PixelGrid(origin, SIZE, image.shape))


@pytest.fixture
def table():
    """Blinks of emitters in a field that does not start at 0, none in its right third."""
    rng = np.random.default_rng(0)
    emitters = rng.uniform([-700, 2100], [300, 3200], size=(300, 2))
    yx = np.repeat(emitters, 15, axis=0) + rng.normal(scale=10, size=(4500, 2))
    y, x = yx[((yx >= [-700, 2000]) & (yx < [300, 3400])).all(axis=1)].T
    frame = rng.integers(500, size=len(x))
    return Localizations({"x": x, "y": y, "frame": frame}, field_of_view=(-700, 2000, 300, 3800))


@pytest.mark.parametrize("window", ["tukey", None])
@pytest.mark.parametrize("threshold", ["1/7", "half-bit"])
@pytest.mark.parametrize(("tile", "step", "smoothing"), [(320, 110, 0.2), (250, None, 0)])
def test_equals_the_curve_of_every_tile(tile, step, smoothing, threshold, window):
    first, second = map(on_grid, pair_of())
    options = {"threshold": threshold, "window": window, "smoothing": smoothing}
    resolution = frc_map(first, second, tile=tile, step=step, **options)
    assert np.isfinite(resolution).mean() > 0.5
    for y, x in np.ndindex(resolution.shape):
        centre = resolution.y[y], resolution.x[x]
        inside = {
            axis: slice(float(middle) - tile / 2, float(middle) + tile / 2)
            for axis, middle in zip("yx", centre, strict=True)
        }
        crops = first.sel(inside), second.sel(inside)
        assert crops[0].shape == (tile // SIZE, tile // SIZE)
        expected = frc_curve(*crops, **options).resolution
        assert float(resolution[y, x]) == pytest.approx(expected, rel=1e-5, nan_ok=True)


def test_lies_where_the_tiles_centres_are():
    resolution = frc_map(*map(on_grid, pair_of()), tile=300, step=200)
    assert resolution.shape == (3, 4)
    assert_allclose(resolution.y, [-150, 50, 250])
    assert_allclose(resolution.x, [1350, 1550, 1750, 1950])
    assert resolution.dtype == np.float32
    assert resolution.dims == ("y", "x")
    assert resolution.attrs == {"units": "nm", "pixel_size": 200.0, "tile": 300.0}
    assert resolution.name == "resolution"
    grid = grid_of(resolution)
    assert grid.origin == pytest.approx((-250, 1250))
    assert grid.pixel_size == 200


def test_of_a_table_lies_in_its_field(table):
    resolution = frc_map(table, tile=500, random_state=0)
    assert_allclose(resolution.y, np.arange(-700 + 250, 300 - 250 + 1, 120))  # 12 of 12.5 pixels
    assert_allclose(resolution.x, np.arange(2000 + 250, 3800 - 250 + 1, 120))
    assert 20 < float(resolution.sel(x=2600, method="nearest").median()) < 50


def test_of_a_table_is_that_of_the_images_of_its_halves(table):
    expected = frc_map(*(half_image(half, 8) for half in table.split("frames")), tile=400, step=150)
    assert_array_equal(frc_map(table, pixel_size=8, tile=400, step=150), expected)


def half_image(half, pixel_size):
    counts = np.zeros((125, 225))
    row = np.floor((half.y + 700) / pixel_size).astype(int)
    column = np.floor((half.x - 2000) / pixel_size).astype(int)
    np.add.at(counts, (row, column), 1)
    return to_image(counts, PixelGrid((-700, 2000), pixel_size, counts.shape))


def test_is_nan_where_there_is_nothing(table):
    resolution = frc_map(table, tile=300, step=100)
    empty = resolution.sel(x=slice(3400 + 150, None))
    assert empty.size > 10
    assert np.isnan(empty).all()
    assert np.isfinite(resolution.sel(x=slice(2300, 3000))).mean() > 0.8


def test_shows_where_an_image_is_blurred():
    rng = np.random.default_rng(0)
    structure = rng.normal(size=(120, 240))
    sharp, blurred = (gaussian_filter(structure, sigma) for sigma in (1.5, 3))
    mixed = np.where(np.arange(240) < 120, sharp / sharp.std(), blurred / blurred.std())
    pair = mixed + rng.normal(size=(2, *mixed.shape))
    resolution = frc_map(*pair, pixel_size=SIZE, tile=600, step=200)
    left, right = resolution.sel(x=slice(0, 900)), resolution.sel(x=slice(1500, None))
    # FRC = s / (s + n) meets 1/7 where the structure's power s is a sixth of the noise's n.
    for half, sigma in ((left, 1.5), (right, 3)):
        snr = 4 * np.pi * sigma**2
        expected = 2 * np.pi * sigma * SIZE / math.sqrt(math.log(6 * snr))
        assert np.isfinite(half).all()
        assert float(half.median()) == pytest.approx(expected, rel=0.12)


@pytest.mark.parametrize(
    ("tile", "step", "side_px", "step_px"),
    [(204, 104, 20, 10), (196, 96, 20, 10), (100, None, 10, 2), (80, None, 8, 2), (80, 6, 8, 1)],
)
def test_rounds_to_whole_pixels(tile, step, side_px, step_px):
    resolution = frc_map(*pair_of((31, 40)), pixel_size=SIZE, tile=tile, step=step)
    assert resolution.attrs["tile"] == side_px * SIZE
    assert resolution.attrs["pixel_size"] == step_px * SIZE
    assert resolution.shape == tuple((side - side_px) // step_px + 1 for side in (31, 40))
    assert float(resolution.y[0]) == side_px * SIZE / 2


@pytest.mark.parametrize("tiles_at_a_time", [1, 10, 37])
def test_does_not_depend_on_how_many_tiles_are_held_at_a_time(monkeypatch, tiles_at_a_time):
    expected = frc_map(*pair_of(), pixel_size=SIZE, tile=300, step=70)
    monkeypatch.setattr("smlmkit.resolution.local._TILES_AT_A_TIME", tiles_at_a_time)
    assert frc_map(*pair_of(), pixel_size=SIZE, tile=300, step=70).identical(expected)


def test_a_tile_may_be_the_whole_image():
    first, second = pair_of((40, 40))
    resolution = frc_map(first, second, pixel_size=SIZE, tile=400, smoothing=0.1)
    expected = frc_curve(first, second, pixel_size=SIZE).resolution
    assert float(resolution.squeeze()) == pytest.approx(expected)


def test_repeats_average_the_curves(table):
    crop = table.crop((-700, 2000, -300, 2400))
    options = {"split": "random", "repeats": 4, "random_state": 0, "smoothing": 0.2}
    resolution = frc_map(crop, tile=400, **options)
    assert float(resolution.squeeze()) == pytest.approx(frc_curve(crop, **options).resolution)
    other = frc_map(crop, tile=400, **{**options, "random_state": 1})
    assert float(other.squeeze()) != float(resolution.squeeze())


@pytest.mark.parametrize(("split", "factor"), [("binomial", 1), ("checkerboard", 2)])
def test_of_one_image_is_that_of_its_halves(split, factor):
    structure = pair_of((100, 120), sigma=4, noise=0)[0]
    counts = np.random.default_rng(0).poisson(5 * np.exp(structure))
    resolution = frc_map(on_grid(counts), tile=600, step=200, split=split, random_state=0)
    assert resolution.attrs["pixel_size"] == 200
    assert_allclose(resolution.y, [0, 200, 400])
    expected = frc_curve(
        counts, pixel_size=SIZE, split=split, random_state=0, smoothing=0.2
    ).resolution
    assert float(resolution.median()) == pytest.approx(expected, rel=0.25)
    with pytest.raises(InvalidInputError, match=f"pixels of {factor * SIZE} nm"):
        frc_map(on_grid(counts), tile=70, split=split)


def test_one_image_of_two_knows_the_grid():
    first, second = pair_of()
    expected = frc_map(on_grid(first), on_grid(second), tile=300)
    for pair in [(on_grid(first), second), (first, on_grid(second))]:
        assert frc_map(*pair, tile=300).identical(expected)


def test_can_be_written_as_an_image(tmp_path):
    resolution = frc_map(*map(on_grid, pair_of()), tile=300)
    write_image(resolution, tmp_path / "map.tif")
    assert (tmp_path / "map.tif").stat().st_size > resolution.nbytes


class TestRefuses:
    @pytest.mark.parametrize("tile", [0, -5, math.nan, math.inf, "wide"])
    def test_a_tile_that_is_no_length(self, tile):
        with pytest.raises(
            InvalidInputError, match=f"tile must be a positive number, got {tile!r}"
        ):
            frc_map(*pair_of(), pixel_size=SIZE, tile=tile)

    @pytest.mark.parametrize("step", [0, -5, math.nan, math.inf, "wide"])
    def test_a_step_that_is_no_length(self, step):
        with pytest.raises(
            InvalidInputError, match=f"step must be a positive number, got {step!r}"
        ):
            frc_map(*pair_of(), pixel_size=SIZE, tile=300, step=step)

    def test_a_tile_or_a_step_below_a_few_pixels(self):
        with pytest.raises(InvalidInputError, match="tile=74 and step=None are 7 and 2 pixels"):
            frc_map(*pair_of(), pixel_size=SIZE, tile=74)
        with pytest.raises(InvalidInputError, match="tile=100 and step=4 are 10 and 0 pixels"):
            frc_map(*pair_of(), pixel_size=SIZE, tile=100, step=4)

    def test_a_tile_larger_than_the_image(self):
        with pytest.raises(InvalidInputError, match=r"71 pixels does not fit .* \(70, 95\)"):
            frc_map(*pair_of(), pixel_size=SIZE, tile=710)

    def test_images_that_do_not_fit_together(self):
        first, second = pair_of()
        with pytest.raises(InvalidInputError, match="different grids"):
            frc_map(on_grid(first), on_grid(second, (-300, 1210)), tile=300)
        with pytest.raises(InvalidInputError, match=r"same shape, got \(70, 95\) and \(70, 94\)"):
            frc_map(first, second[:, :94], pixel_size=SIZE, tile=300)

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_pixels_that_are_not_finite(self, bad):
        first, second = pair_of()
        second[3, :5] = bad
        with pytest.raises(InvalidInputError, match="second image has 5 pixels that are nan"):
            frc_map(first, second, pixel_size=SIZE, tile=300)

    def test_what_is_no_image(self):
        stack = np.ones((9, 70, 95))
        with pytest.raises(InvalidInputError, match="first image must be two-dimensional"):
            frc_map(stack, stack, pixel_size=SIZE, tile=300)
        with pytest.raises(InvalidTypeError, match="must hold real numbers, got complex128"):
            frc_map(stack[0] + 0j, stack[0], pixel_size=SIZE, tile=300)
        with pytest.raises(InvalidTypeError, match="got one list"):
            frc_map([[1.0]], tile=300)

    def test_nan_anywhere_before_work_starts(self, monkeypatch):
        monkeypatch.setattr("smlmkit.resolution.local._TILES_AT_A_TIME", 1)
        first, second = pair_of()
        second = second.copy()
        second[-1, -5:] = np.nan
        with pytest.raises(InvalidInputError, match="second image has 5 pixels that are nan"):
            frc_map(first, second, pixel_size=SIZE, tile=300)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"threshold": "2-sigma"}, "got '2-sigma'"),
            ({"smoothing": 1}, r"smoothing must be in \[0, 1\)"),
            ({"window": "hann"}, "window must be 'tukey' or None"),
        ],
    )
    def test_parameters_out_of_range(self, options, message):
        with pytest.raises(InvalidInputError, match=message):
            frc_map(*pair_of(), pixel_size=SIZE, tile=300, **options)
