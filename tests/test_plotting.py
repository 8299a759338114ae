"""Pictures of images, judged pixel by pixel."""

import re
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from smlmkit.errors import InvalidInputError, InvalidTypeError, OutputError
from smlmkit.grid import PixelGrid
from smlmkit.images import to_image
from smlmkit.plotting import save_comparison, save_image

BLACK, WHITE = (mpl.colormaps["inferno"](level, bytes=True) for level in (0.0, 1.0))
MARGIN = 16


def make_image(values, pixel_size=10.0, origin=(0, 0), **labels):
    return to_image(values, PixelGrid(origin, pixel_size, values.shape[-2:]), **labels)


def noise(height, width):
    return np.random.default_rng(0).random((height, width), dtype=np.float32)


def look_at(path):
    """Give the RGBA pixels of a PNG and its description."""
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.array(picture.convert("RGBA")), picture.info["Description"]


def picture_of(image, folder, **options):
    save_image(image, folder / "picture.png", overwrite=True, **options)
    return look_at(folder / "picture.png")[0]


def comparison_of(images, folder, **options):
    save_comparison(images, folder / "picture.png", overwrite=True, **options)
    return look_at(folder / "picture.png")[0]


def enlarged(values, factor):
    """Give the colours of values, from 0 to their maximum, each as a square."""
    colours = mpl.colormaps["inferno"](values / values.max(), bytes=True)
    return np.kron(colours, np.ones((factor, factor, 1), np.uint8))


def first_panel(picture, height, width):
    """Cut the panel at the lower left, above its scale bar."""
    panel = picture[-MARGIN - height : -MARGIN, MARGIN : MARGIN + width]
    return panel[: height * 3 // 4]


@settings(deadline=None, max_examples=15)
@given(
    shape=st.tuples(st.integers(256, 500), st.integers(256, 500)),
    corner=st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)),
    pixel_size=st.floats(0.1, 1e4),
)
def test_each_pixel_has_its_colour_except_under_the_scale_bar(
    tmp_path_factory, shape, corner, pixel_size
):
    values = noise(*shape)
    picture = picture_of(make_image(values, pixel_size, corner), tmp_path_factory.getbasetemp())
    share = np.clip(values / np.percentile(values, 99.9), 0, 1)
    differs = (picture != mpl.colormaps["inferno"](share, bytes=True)).any(axis=2)
    rows, columns = np.nonzero(differs)
    assert len(rows) > 100  # the scale bar is there
    assert rows.min() > 0.7 * shape[0]
    assert columns.min() > 0.5 * shape[1]


@pytest.mark.parametrize(
    ("shape", "pixel_size", "length"),
    [
        ((400, 1000), 1, 200),  # 200 nm, the round length under a quarter
        ((400, 1000), 10, 200),  # 2 µm
        ((40, 100), 10, 60),  # 200 nm, enlarged 3 times
        ((900, 9000), 1, 667),  # 2 µm, reduced 3 times
    ],
)
def test_scale_bar_is_as_long_as_it_says(tmp_path, shape, pixel_size, length):
    picture = picture_of(make_image(np.zeros(shape, np.float32), pixel_size), tmp_path)
    is_bar = (picture == 255).all(axis=2)
    assert is_bar.sum(axis=1).max() == pytest.approx(length, abs=1)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 1), (256, 256)),
        ((100, 50), (300, 150)),
        ((255, 3), (510, 6)),
        ((256, 256), (256, 256)),
        ((300, 1), (300, 1)),
        ((4096, 2), (4096, 2)),
        ((4097, 5), (2049, 3)),
    ],
)
def test_only_small_and_huge_images_change_size(tmp_path, shape, expected):
    assert picture_of(make_image(np.ones(shape)), tmp_path).shape[:2] == expected


def test_enlarged_pixels_are_squares_of_one_colour(tmp_path):
    values = np.array([[1, 0, 0], [0, 0, 0]])
    picture = picture_of(make_image(values), tmp_path)
    assert picture.shape == (172, 258, 4)
    assert (picture[:86, :86] == WHITE).all()
    assert (picture[:86, 86:] == BLACK).all()


def test_huge_images_are_reduced_to_the_mean_of_what_is_finite(tmp_path):
    values = np.zeros((600, 5000))
    values[:, :2] = [[4, 0], [np.nan, np.inf]] * 300
    values[:, 2:4] = [[4, 0], [4, np.nan]] * 300
    values[:, 4:6] = np.nan
    picture = picture_of(make_image(values), tmp_path, percentile=100)
    share = [(4 + 0) / 2 / (8 / 3), 1.0, np.nan, 0.0]
    colours = mpl.colormaps["inferno"].with_extremes(bad=(0, 0, 0, 0))(share, bytes=True)
    assert picture.shape == (300, 2500, 4)
    assert (picture[:, [0, 1, 3]] == colours[[0, 1, 3]]).all()
    assert (picture[:, 2, 3] == 0).all()


@pytest.mark.parametrize(
    ("value", "colour"),
    [(0, BLACK), (-3, BLACK), (5, WHITE), (1e-45, WHITE)],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_images_have_one_colour(tmp_path, value, colour, dtype):
    picture = picture_of(make_image(np.full((300, 300), value, dtype)), tmp_path)
    assert (picture[:200] == colour).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", [300, 5000])
def test_images_without_a_finite_pixel_are_transparent(tmp_path, value, side):
    picture = picture_of(make_image(np.full((300, side), value, np.float32)), tmp_path)
    assert (picture[:100, :, 3] == 0).all()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "float64", ">f4"])
def test_every_kind_of_real_number_can_be_drawn(tmp_path, dtype):
    picture = picture_of(make_image(np.eye(300).astype(dtype)), tmp_path)
    assert (picture[0, :2] == [WHITE, BLACK]).all()


def test_brightest_value_is_a_percentile_of_what_is_above_zero(tmp_path):
    values = np.zeros((300, 300), np.float32)
    values[0, :101] = np.arange(101)
    values[0, 101:103] = 3e38, -3e38
    image = make_image(values).assign_attrs(units="photons per µm²")
    save_image(image, tmp_path / "picture.png", percentile=50)
    picture, description = look_at(tmp_path / "picture.png")
    assert description == "brightest: 51 photons per µm²"
    assert (picture[0, 51:102] == WHITE).all()
    assert (picture[0, 50] != WHITE).any()
    assert (picture[0, 102] == BLACK).all()


def test_gamma_and_colour_map(tmp_path):
    values = np.zeros((300, 300))
    values[0, :2] = 0.25, 1
    picture = picture_of(make_image(values), tmp_path, gamma=0.5, cmap="gray", percentile=100)
    assert picture[0, :3].tolist() == [[128] * 3 + [255], [255] * 4, [0] * 3 + [255]]


def test_settings_of_the_user_are_neither_obeyed_nor_changed(tmp_path):
    image = make_image(noise(300, 300))
    plain = picture_of(image, tmp_path)
    meddling = {"savefig.dpi": 300, "savefig.bbox": "tight", "image.origin": "lower"}
    with mpl.rc_context(meddling):
        assert (picture_of(image, tmp_path) == plain).all()
        assert {name: mpl.rcParams[name] for name in meddling} == meddling


def test_pyplot_is_not_involved(tmp_path):
    code = (
        "import sys, numpy as np; from smlmkit import plotting, images, grid; "
        "image = images.to_image(np.eye(9), grid.PixelGrid((0, 0), 1, (9, 9))); "
        "plotting.save_comparison({'eye': image}, sys.argv[1]); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "picture.png"], check=True)


def luminance(picture):
    """Give the relative luminance of sRGB colours."""
    level = picture[..., :3] / 255
    linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def without_bars(picture):
    """Cut what lies above the scale bar and the depth bar."""
    return picture[: len(picture) * 3 // 4]


ONLY_WHITE = mpl.colors.ListedColormap(["white"])


def test_what_lies_in_one_slice_has_its_colour(tmp_path):
    # A slice 2 of 5 is empty; unequal distances are drawn as they are.
    values = np.zeros((5, 300, 400), np.uint32)
    for index, column in ((0, 0), (1, 100), (3, 200), (4, 300)):
        values[index, :, column : column + 100] = 3
    stack = make_image(values, z=[-100, 0, 100, 200, 400])
    picture = without_bars(picture_of(stack, tmp_path, cmap="turbo"))
    expected = mpl.colormaps["turbo"]([0.0, 0.2, 0.6, 1.0], bytes=True)
    assert (abs(picture[:, ::100].astype(int) - expected) <= 1).all()
    by_default = without_bars(picture_of(stack, tmp_path))[0, ::100].astype(int)
    assert len(np.unique(by_default, axis=0)) == 4
    # From violet to red.
    assert by_default[0, 2] > by_default[0, 0]
    assert by_default[-1, 0] > by_default[-1, 2]


def test_default_colours_of_depth_are_even_and_equally_bright(tmp_path):
    values = np.eye(100)[:, np.newaxis, :].repeat(40, axis=1)
    picture = picture_of(make_image(values, z=np.arange(100.0)), tmp_path)
    colours = picture[0, ::3]
    assert len(colours) == 100
    light = luminance(colours)
    assert light.max() / light.min() < 1.03
    steps = np.linalg.norm(np.diff(oklab(colours), axis=0), axis=1)
    # The colours are whole numbers, so single steps vary; runs of ten do not.
    runs = steps[:90].reshape(9, 10).sum(axis=1)
    assert runs.max() / runs.min() < 1.3


def oklab(picture):
    """Give sRGB colours in Ottosson's perceptually even space."""
    level = picture[..., :3] / 255
    linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    cones = linear @ np.array(
        [
            [0.4122214708, 0.2119034982, 0.0883024619],
            [0.5363325363, 0.6806995451, 0.2817188376],
            [0.0514459929, 0.1073969566, 0.6299787005],
        ]
    )
    return np.cbrt(cones) @ np.array(
        [
            [0.2104542553, 1.9779984951, 0.0259040371],
            [0.7936177850, -2.4285922050, 0.7827717662],
            [-0.0040720468, 0.4505937099, -0.8086757660],
        ]
    )


def test_slices_mix_like_light(tmp_path):
    values = np.zeros((2, 300, 300))
    values[:, :, :100] = [[[2.0]], [[2.0]]]
    values[:, :, 100:200] = [[[3.0]], [[1.0]]]
    cmap = mpl.colors.ListedColormap(["red", "blue"])
    picture = picture_of(make_image(values, z=[0.0, 1.0]), tmp_path, cmap=cmap)
    # 188 and 225 are halves and three quarters of the light of 255, 137 a quarter.
    assert picture[0, ::100].tolist() == [[188, 0, 188, 255], [225, 0, 137, 255], [0, 0, 0, 255]]


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_slices=st.integers(1, 6),
    gamma=st.sampled_from([0.5, 1.0, 2.0]),
    percentile=st.sampled_from([60, 99.9, 100]),
)
def test_brightness_is_that_of_the_sum_however_slices_share_it(
    tmp_path_factory, seed, n_slices, gamma, percentile
):
    rng = np.random.default_rng(seed)
    flat = make_image(rng.poisson(3, (300, 300)).astype(np.float64))
    shares = rng.dirichlet(np.full(n_slices, 0.3), (300, 300)).transpose(2, 0, 1)
    stack = make_image(shares * flat.to_numpy(), z=np.arange(n_slices) * 50.0)
    folder = tmp_path_factory.getbasetemp()
    options = {"gamma": gamma, "percentile": percentile}
    expected = without_bars(picture_of(flat, folder, cmap="gray", **options))
    white = without_bars(picture_of(stack, folder, cmap=ONLY_WHITE, **options))
    assert abs(white.astype(int) - expected).max() <= 2  # of matplotlib's 256 levels of grey
    coloured = without_bars(picture_of(stack, folder, **options))
    full = luminance(np.array([0x42, 0xB7, 0x30]))
    np.testing.assert_allclose(luminance(coloured), full * luminance(expected), atol=0.012)


def test_slices_that_are_negative_or_not_finite(tmp_path):
    values = np.zeros((2, 300, 6))
    values[:] = [[[4, 4, -5, -1, np.nan, 0]], [[0, -2, 1, 5, 3, np.inf]]]
    cmap = mpl.colors.ListedColormap(["red", "blue"])
    stack = make_image(values, z=[0.0, 1.0])
    picture = picture_of(stack, tmp_path, cmap=cmap, percentile=100)
    red, half_red, black, blue = (
        [255, 0, 0, 255],
        [128, 0, 0, 255],
        [0, 0, 0, 255],
        [0, 0, 255, 255],
    )
    assert picture[0, :4].tolist() == [red, half_red, black, blue]
    assert (picture[0, 4:, 3] == 0).all()


def test_stacks_without_a_finite_or_positive_pixel(tmp_path):
    for value, alpha in ((np.nan, 0), (0, 255), (-1, 255)):
        stack = make_image(np.full((3, 300, 300), value, np.float32), z=[0, 1, 2])
        picture = without_bars(picture_of(stack, tmp_path))
        assert (picture[..., 3] == alpha).all()
        assert (picture[..., :3] == 255 - alpha).all()


def test_depth_bar_shows_the_colours_at_the_lower_left(tmp_path):
    stack = make_image(np.zeros((3, 300, 400), np.float32), z=[-250.0, 0.0, 250.0])
    picture = picture_of(stack, tmp_path, cmap="turbo").astype(int)
    flat = picture_of(stack[0], tmp_path, cmap="gray").astype(int)
    rows, columns = np.nonzero((picture != flat).any(axis=2))
    assert rows.min() > 0.75 * 300
    assert columns.max() < 0.5 * 400
    colourful = picture.max(axis=2, initial=0, where=[True] * 3 + [False]) - picture.min(axis=2)
    bar = picture[np.argmax((colourful > 20).sum(axis=1))]
    start = np.flatnonzero(colourful.max(axis=0) > 20)[0]
    expected = mpl.colormaps["turbo"](np.linspace(0, 1, 100), bytes=True)
    assert abs(bar[start : start + 100] - expected).max() <= 24  # at most a pixel beside


def test_depth_bar_of_one_slice_has_its_colour(tmp_path):
    stack = make_image(np.full((1, 300, 400), 2.0), z=[-30.0])
    picture = picture_of(stack, tmp_path, cmap="turbo").astype(int)
    colour = mpl.colormaps["turbo"](0.5, bytes=True)
    assert (abs(without_bars(picture) - colour) <= 1).all()
    assert ((abs(picture[-20:, :100] - colour) <= 1).all(axis=2).all(axis=1)).any()


@pytest.mark.parametrize("shape", [(1, 1), (300, 1), (3, 400), (20, 7000)])
def test_stacks_of_every_shape_can_be_drawn(tmp_path, shape):
    expected = picture_of(make_image(np.ones(shape)), tmp_path).shape
    slices = make_image(np.ones((2, *shape)), z=[0.0, 1.0])
    assert picture_of(slices, tmp_path).shape == expected
    channels = make_image(np.ones((2, *shape)), channel=[0, 1])
    assert picture_of(channels, tmp_path).shape == expected


def test_huge_stacks_are_reduced_to_means(tmp_path):
    values = np.zeros((2, 600, 5000), np.float32)
    values[0, ::2, ::2] = 4  # a mean of 1
    values[1, :, :2500] = 3
    stack = make_image(values, z=[0.0, 1.0]).assign_attrs(units="V")
    picture = picture_of(stack, tmp_path, cmap=ONLY_WHITE, percentile=100)
    assert picture.shape == (300, 2500, 4)
    assert (picture[:100, :1250] == 255).all()
    assert (picture[:100, 1250:, :3] == 64).all()
    assert look_at(tmp_path / "picture.png")[1] == "brightest: 4 V, summed over z"


MAGENTA, GREEN, CYAN, YELLOW = [255, 0, 255], [0, 255, 0], [0, 255, 255], [255, 255, 0]


def test_channels_have_colours_and_brightness_of_their_own(tmp_path):
    values = np.zeros((4, 300, 600))
    for index, brightest in enumerate((1, 1000, 3, 0.2)):
        values[index, :, index * 100 : index * 100 + 50] = brightest
        values[index, :, index * 100 + 50 : index * 100 + 100] = brightest / 2
    values[:2, :, 400:500] = [[[1]], [[1000]]]
    stack = make_image(values, channel=[1, 2, 5, 9]).assign_attrs(units="V")
    picture = picture_of(stack, tmp_path)[0, ::50, :3]
    full = [MAGENTA, GREEN, CYAN, YELLOW]
    assert picture[:8:2].tolist() == full
    assert picture[1:8:2].tolist() == (np.array(full) // 255 * 128).tolist()
    assert picture[8:].tolist() == [[255] * 3] * 2 + [[0] * 3] * 2
    assert look_at(tmp_path / "picture.png")[1] == (
        "brightest: channel 1 (magenta) 1, channel 2 (green) 1000, channel 5 (cyan) 3, "
        "channel 9 (yellow) 0.2 V"
    )


def test_one_channel_is_a_grey_picture_in_colour(tmp_path):
    values = noise(300, 400)
    grey = picture_of(make_image(values), tmp_path, cmap="gray", gamma=0.5).astype(int)
    coloured = picture_of(make_image(values[np.newaxis], channel=[3]), tmp_path, gamma=0.5)
    difference = without_bars(coloured - grey)
    # matplotlib knows 256 levels of grey and cuts off what is between.
    assert abs(difference[..., [0, 2, 3]]).max() <= 2
    assert (without_bars(coloured)[..., 1] == 0).all()


def test_channels_that_are_not_finite_are_transparent(tmp_path):
    values = np.ones((2, 300, 4))
    values[:] = [[[1, np.nan, 1, -np.inf]], [[1, 1, np.inf, np.nan]]]
    picture = picture_of(make_image(values, channel=[0, 1]), tmp_path)
    assert picture[0, :, 3].tolist() == [255, 0, 0, 0]


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ({"channel": range(5)}, {}, r"5 channels and 4 colours: .*sel\(channel="),
        ({"channel": [0, 1]}, {"cmap": "gray"}, "cmap: channels have colours of their own"),
        ({"channel": [0], "z": [0.0]}, {}, r"not both.*sum\('z'.*sel\(channel="),
        ({"z": [0.0, 1.0]}, {"cmap": "deep"}, "cmap: 'deep'"),
        ({"z": [0.0, 1.0]}, {"gamma": -1}, "gamma"),
    ],
)
def test_stacks_that_cannot_be_drawn_are_refused(tmp_path, labels, options, message):
    stack = make_image(np.ones((*map(len, labels.values()), 9, 9)), **labels)
    with pytest.raises(InvalidInputError, match=message):
        save_image(stack, tmp_path / "picture.png", **options)
    with pytest.raises(InvalidInputError, match="image 'stack': an image has the dims"):
        save_comparison({"stack": stack}, tmp_path / "picture.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("choose", [{"channel": 1}, {"z": 5.0}])
def test_what_the_message_says_can_be_drawn(tmp_path, choose):
    stack = make_image(np.ones((2, 2, 9, 9)), channel=[0, 1], z=[0.0, 5.0])
    picture_of(stack.sel(choose), tmp_path)
    picture_of(stack.sum("z", keep_attrs=True), tmp_path)


def test_comparison_shows_the_same_box_of_every_image(tmp_path):
    values = noise(100, 120)
    images = {
        "coarse": make_image(values, 10),
        "fine": make_image(np.kron(values, np.ones((2, 2), np.float32)), 5),
    }
    picture = comparison_of(
        images, tmp_path, field_of_view=(200, 300, 800, 900), panel_px=480, percentile=100
    )
    first = first_panel(picture, 480, 480)
    np.testing.assert_array_equal(first, enlarged(values[20:80, 30:90], 8)[:360])
    second = first_panel(picture[:, 480 + MARGIN :], 480, 480)
    np.testing.assert_array_equal(second, first)
    assert picture.shape[1] == 2 * 480 + 3 * MARGIN


def test_comparison_shows_by_default_what_all_images_cover(tmp_path):
    values = noise(50, 50)
    images = {"left": make_image(values), "right": make_image(values, origin=(100, 200))}
    picture = comparison_of(images, tmp_path, panel_px=300, percentile=100)
    # 40 x 30 pixels; 8 times 40 is the whole multiple nearest to 300.
    np.testing.assert_array_equal(
        first_panel(picture, 320, 240), enlarged(values[10:, 20:], 8)[:240]
    )


def test_comparison_has_titles_and_rows(tmp_path):
    images = dict.fromkeys(["one", "$two_{}$", "a long title " * 9], make_image(noise(60, 60)))
    picture = comparison_of(images, tmp_path, columns=2, panel_px=240)
    assert picture.shape[1] == 2 * 240 + 3 * MARGIN
    assert (picture.shape[0] - MARGIN) % 2 == 0
    row_height = (picture.shape[0] - MARGIN) // 2
    background = picture[0, 0]
    above_first_row = picture[: row_height - 240]
    is_text = (above_first_row != background).any(axis=(0, 2))
    assert is_text[MARGIN : MARGIN + 240].any()
    assert is_text[2 * MARGIN + 240 : -MARGIN].any()
    above_second_row = picture[row_height + MARGIN : 2 * row_height - 240]
    is_text = (above_second_row != background).any(axis=(0, 2))
    assert is_text[MARGIN : MARGIN + 240].any()
    assert not is_text[:MARGIN].any()
    assert not is_text[MARGIN + 240 :].any()  # a long title stays above its panel


def test_contrast_is_each_panels_own_or_shared(tmp_path):
    dim, bright = (make_image(np.full((60, 60), value)) for value in (1.0, 4.0))
    images = {"dim": dim, "bright": bright}
    each = comparison_of(images, tmp_path)
    assert (first_panel(each, 480, 480) == WHITE).all()
    shared = comparison_of(images, tmp_path, contrast="shared", percentile=100)
    assert (first_panel(shared, 480, 480) == mpl.colormaps["inferno"](0.25, bytes=True)).all()
    assert "dim 4, bright 4" in look_at(tmp_path / "picture.png")[1]


def test_large_images_are_averaged_into_their_panel(tmp_path):
    checkers = np.indices((800, 800)).sum(axis=0) % 2
    picture = comparison_of({"checkers": make_image(checkers)}, tmp_path, panel_px=200, cmap="gray")
    panel = first_panel(picture, 200, 200)[5:-5, 5:-5, 0]
    assert panel.min() > 100
    assert panel.max() < 155


def test_what_an_image_does_not_cover_stays_background(tmp_path):
    images = {"half": make_image(np.ones((40, 20))), "full": make_image(np.ones((40, 40)))}
    picture = comparison_of(images, tmp_path, field_of_view=(0, 0, 400, 400), panel_px=400)
    panel = first_panel(picture, 400, 400)
    assert (panel[:, :200] == WHITE).all()
    assert (panel[:, 200:] == picture[0, 0]).all()


SMALL = make_image(noise(20, 20))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cmap": "infernal"}, "cmap: 'infernal'"),
        ({"cmap": 3}, "cmap: "),
        ({"percentile": 0}, "percentile"),
        ({"percentile": 101}, "percentile"),
        ({"percentile": np.nan}, "percentile"),
        ({"gamma": 0}, "gamma"),
        ({"gamma": np.inf}, "gamma"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path, options, message):
    with pytest.raises(InvalidInputError, match=message):
        save_image(SMALL, tmp_path / "picture.png", **options)
    with pytest.raises(InvalidInputError, match=message):
        save_comparison({"small": SMALL}, tmp_path / "picture.png", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        ({}, {}, "empty"),
        ({"a": SMALL}, {"contrast": "both"}, "contrast"),
        ({"a": SMALL}, {"columns": 0}, "columns"),
        ({"a": SMALL}, {"panel_px": 0}, "panel_px"),
        ({"a": SMALL}, {"field_of_view": (0, 0, 0, 10)}, "field_of_view"),
        ({"a": SMALL}, {"field_of_view": (0, 200, 10, 210)}, "'a' covers .* shows nothing"),
        ({"a": SMALL, "b": make_image(noise(5, 5), origin=(200, 0))}, {}, "no place in common"),
        ({"a": SMALL, "b": make_image(noise(5, 5), 20)}, {"contrast": "shared"}, "pixel size"),
        ({"a": SMALL, "b": SMALL.assign_attrs(units="V")}, {"contrast": "shared"}, "unit"),
    ],
)
def test_comparisons_without_sense_are_refused(tmp_path, images, options, message):
    with pytest.raises(InvalidInputError, match=message):
        save_comparison(images, tmp_path / "picture.png", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("thing", [np.zeros((2, 2)), SMALL.astype(complex), SMALL.astype(str)])
def test_what_is_no_image_of_real_numbers_is_refused(tmp_path, thing):
    with pytest.raises(InvalidTypeError):
        save_image(thing, tmp_path / "picture.png")
    with pytest.raises(InvalidTypeError, match="image 'thing'"):
        save_comparison({"small": SMALL, "thing": thing}, tmp_path / "picture.png")
    with pytest.raises(InvalidTypeError, match="mapping"):
        save_comparison([thing], tmp_path / "picture.png")


@pytest.mark.parametrize(
    "save", [save_image, lambda image, path: save_comparison({"a": image}, path)]
)
def test_existing_pictures_stay(tmp_path, save):
    path = tmp_path / "picture.png"
    path.write_text("old")
    with pytest.raises(OutputError, match=re.escape(str(path))):
        save(SMALL, path)
    assert path.read_text() == "old"
