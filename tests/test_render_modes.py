"""Gaussians, averages of shifted histograms, stacks, weights: Renderer beyond plain counts."""

import itertools

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from smlmkit import Localizations, PixelGrid, Renderer
from smlmkit.drawing import draw_counts
from smlmkit.errors import InvalidInputError, UnusedRowsWarning
from smlmkit.images import grid_of
from smlmkit.tiling import cover

FIELD = (-30.0, 100.0, 570.0, 900.0)
SIZE = 10.0
MODES = ["histogram", "gaussian", "average_shifted"]


def table_of(n=300, seed=0, field=FIELD, **columns):
    rng = np.random.default_rng(seed)
    points = {
        "y": rng.uniform(field[0], field[2], n),
        "x": rng.uniform(field[1], field[3], n),
        "uncertainty_y": rng.gamma(6, 2.5, n),
        "uncertainty_x": rng.gamma(6, 2.5, n),
        "photons": rng.gamma(4, 300, n),
        "z": rng.uniform(-400, 400, n),
        "channel": rng.integers(0, 3, n),
    }
    return Localizations({**points, **columns}, field_of_view=field)


def render(table, mode="gaussian", **parameters):
    return Renderer(**{"pixel_size": SIZE, "mode": mode, **parameters}).fit_transform(table)


def exact_gaussians(table, sigma_y, sigma_x, weights=1.0, cut=4.0):
    """Integrate every Gaussian over every pixel in float64, as the docstring says."""
    grid = PixelGrid.covering(table.field_of_view, SIZE)

    def shares(position, sigma, origin, n_pixels):
        edges = origin + SIZE * np.arange(n_pixels + 1)
        t = ((edges - position[:, None]) / np.broadcast_to(sigma, len(table))[:, None]).clip(
            -cut, cut
        )
        parts = np.diff(ndtr(t), axis=1)
        return parts / parts.sum(axis=1, keepdims=True)

    rows = shares(table.y, sigma_y, grid.origin[0], grid.shape[0])
    columns = shares(table.x, sigma_x, grid.origin[1], grid.shape[1])
    weights = np.broadcast_to(weights, len(table))
    return np.einsum("k,ki,kj->ij", weights, rows, columns)


class TestGaussian:
    def test_individual_uncertainties(self):
        table = table_of()
        expected = exact_gaussians(table, table["uncertainty_y"], table["uncertainty_x"])
        np.testing.assert_allclose(render(table), expected, atol=3e-6 * expected.max())

    def test_one_sigma_for_all(self):
        table = table_of()
        for sigma in (3, 12.5, 80, 1e4):
            expected = exact_gaussians(table, sigma, sigma)
            image = render(table, sigma=sigma)
            np.testing.assert_allclose(image, expected, atol=3e-6 * expected.max())

    def test_scale_floor_and_cap(self):
        table = table_of()
        image = render(table, sigma_scale=2, min_sigma=20, max_sigma=35)
        sigmas = [(2 * table[name]).clip(20, 35) for name in ("uncertainty_y", "uncertainty_x")]
        expected = exact_gaussians(table, *sigmas)
        np.testing.assert_allclose(image, expected, atol=3e-6 * expected.max())

    def test_cutting_at_four_sigma_is_a_small_error(self):
        table = table_of()
        whole = exact_gaussians(table, 15, 15, cut=30)
        assert abs(render(table, sigma=15) - whole).max() < 2e-4 * whole.max()

    def test_no_width_at_all_is_a_point(self):
        y, x = np.random.default_rng(0).integers(0, 30, (2, 300)) * SIZE
        none = np.zeros(300)
        columns = {"y": y + 7.5, "x": x + 105.0, "uncertainty_x": none, "uncertainty_y": none}
        table = Localizations(columns, field_of_view=FIELD)
        np.testing.assert_allclose(render(table), render(table, "histogram"), atol=1e-5)

    def test_the_limits_of_the_field_belong_to_its_border_pixels(self):
        y, x = [FIELD[0], np.nextafter(FIELD[2], 0)], [FIELD[1], np.nextafter(FIELD[3], 0)]
        image = render(Localizations({"y": y, "x": x}, field_of_view=FIELD), sigma=1e-6)
        assert image[0, 0] == image[-1, -1] == pytest.approx(1)

    def test_more_points_than_are_sorted_at_once(self):
        table = table_of(10_000)
        expected = exact_gaussians(table, 15, 15)
        np.testing.assert_allclose(render(table, sigma=15), expected, atol=1e-5 * expected.max())

    def test_uncertainties_that_are_none_are_left_out_with_a_warning(self):
        bad = np.array([10.0, np.nan, -1.0, np.inf, 10.0])
        table = table_of(5, uncertainty_x=bad)
        with pytest.warns(UnusedRowsWarning, match="3 of 5 localizations have no usable value"):
            image = render(table)
        assert image.sum() == pytest.approx(2)

    def test_a_table_without_uncertainties_says_what_to_do(self):
        table = Localizations(np.ones((3, 2)), field_of_view=(0, 0, 50, 50))
        with pytest.raises(InvalidInputError, match=r"no column 'uncertainty_y'.*give sigma"):
            render(table)
        with pytest.raises(InvalidInputError, match=r"X\[1\]: there is no column"):
            render([table_of(), table])

    @pytest.mark.parametrize("sigma", [1e-320, 1e5, 1e20, 1e300])
    def test_any_width_keeps_the_mass(self, sigma):
        assert float(render(table_of(), sigma=sigma).sum()) == pytest.approx(300, rel=1e-5)

    def test_one_absurd_width_spoils_nothing_else(self):
        table = table_of(100, uncertainty_x=np.append(np.full(99, 10.0), 1e22))
        image = render(table, n_threads=1)
        assert float(image.sum()) == pytest.approx(100, rel=1e-5)
        others = render(table.select(slice(0, 99))).to_numpy()
        assert abs(image - others).max() < 2 / image.shape[1]


class TestAverageShifted:
    @pytest.mark.parametrize("n_shifts", [1, 2, 3, 5])
    def test_it_is_the_mean_of_shifted_histograms(self, n_shifts):
        """Wide pixels, shifted by one narrow pixel each; what is inside the field is compared."""
        table = table_of(2000)
        image = render(table, "average_shifted", n_shifts=n_shifts).to_numpy()
        total = np.zeros(image.shape)
        wide = n_shifts * SIZE
        for shift_y in range(n_shifts):
            for shift_x in range(n_shifts):
                corner = (FIELD[0] - wide + shift_y * SIZE, FIELD[1] - wide + shift_x * SIZE)
                n_wide = [-(-side // n_shifts) + 2 for side in image.shape]
                grid = PixelGrid(corner, wide, n_wide)
                counts = render(table, "histogram", grid=grid).to_numpy() / n_shifts**2
                fine = counts.repeat(n_shifts, axis=0).repeat(n_shifts, axis=1)
                top, left = n_shifts - shift_y, n_shifts - shift_x
                total += fine[top : top + image.shape[0], left : left + image.shape[1]]
        inner = (slice(n_shifts, -n_shifts),) * 2
        np.testing.assert_allclose(image[inner], total[inner] / n_shifts**2, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
class TestEveryMode:
    @settings(deadline=None, max_examples=40)
    @given(
        n=st.integers(0, 60),
        size=st.floats(3, 900),
        sigma=st.floats(1e-3, 1e4),
        seed=st.integers(0, 1000),
    )
    def test_mass_is_the_number_of_localizations(self, mode, n, size, sigma, seed):
        image = render(table_of(n, seed), mode, pixel_size=size, sigma=sigma)
        assert float(image.sum(dtype=float)) == pytest.approx(n, rel=1e-5)
        assert image.dtype == np.float32

    def test_weights_add_up(self, mode):
        table = table_of()
        image = render(table, mode, weights="photons")
        assert float(image.sum(dtype=float)) == pytest.approx(table["photons"].sum(), rel=1e-5)
        assert image.attrs["units"] == "photons per pixel"
        ones = table_of(photons=np.ones(300))
        np.testing.assert_allclose(
            render(ones, mode, weights="photons"), render(ones, mode), rtol=1e-6
        )

    def test_a_weight_counts_as_often(self, mode):
        table = table_of(50)
        twice = render(table.select(np.repeat(np.arange(50), 2)), mode)
        weighted = render(table_of(50, photons=np.full(50, 2.0)), mode, weights="photons")
        np.testing.assert_allclose(weighted, twice, rtol=1e-5, atol=1e-7)

    def test_the_order_of_rows_does_not_matter(self, mode):
        table = table_of(5000)
        shuffled = table.select(np.random.default_rng(1).permutation(5000))
        np.testing.assert_allclose(render(shuffled, mode), render(table, mode), atol=1e-5)

    def test_a_shift_by_whole_pixels_shifts_the_image(self, mode):
        field = (0.0, 0.0, 1600.0, 1600.0)
        table = table_of(400, field=(500.0, 500.0, 900.0, 900.0))
        columns = {name: table[name] for name in table}
        moved = {**columns, "y": table.y + 64 * SIZE / 2, "x": table.x - 16 * SIZE}
        here, there = (
            render(Localizations(points, field_of_view=field), mode) for points in (columns, moved)
        )
        np.testing.assert_allclose(there, np.roll(here, (32, -16), axis=(0, 1)), atol=3e-6)

    def test_the_number_of_threads_changes_nothing(self, mode, nine_threads):
        table = table_of(30_000, field=(0.0, 0.0, 8000.0, 3000.0))
        one = render(table, mode, n_threads=1)
        for n_threads in (2, 3, 9):
            xr.testing.assert_identical(render(table, mode, n_threads=n_threads), one)

    def test_tiles_with_their_halo_are_the_whole(self, mode):
        table = table_of(3000)
        parameters = {"mode": mode, "max_sigma": 20, "n_shifts": 5}
        halo = {"histogram": 0, "gaussian": 16, "average_shifted": 4}[mode]
        whole = render(table, **parameters)
        grid, tiled = grid_of(whole), np.full(whole.shape, np.nan)
        for tile in cover(np.ones(whole.shape, bool), 20, halo=halo):
            rows, columns = tile.read
            y, x = grid.origin
            box = (
                y + rows.start * SIZE,
                x + columns.start * SIZE,
                y + rows.stop * SIZE,
                x + columns.stop * SIZE,
            )
            tiled[tile.write] = render(table.crop(box), **parameters).to_numpy()[tile.crop]
        np.testing.assert_allclose(tiled, whole, atol=1e-6 * float(whole.max()))

    def test_an_empty_table_gives_an_image_of_zeros(self, mode):
        image = render(table_of(0), mode)
        assert image.shape == (60, 80)
        assert not image.any()

    def test_what_lies_outside_of_the_grid_is_counted_in_a_warning(self, mode):
        grid = PixelGrid((0, 300), SIZE, (20, 20))
        table = table_of()
        n_inside = np.count_nonzero(
            (table.y >= 0) & (table.y < 200) & (table.x >= 300) & (table.x < 500)
        )
        with pytest.warns(UnusedRowsWarning, match=f"{300 - n_inside} of 300 localizations lie"):
            image = render(table, mode, grid=grid)
        assert float(image.sum()) == pytest.approx(n_inside, rel=1e-5)

    def test_slices_are_renderings_of_their_rows(self, mode):
        table, edges = table_of(), [-400, -100, 50, 400]
        stack = render(table, mode, z_bins=edges)
        assert stack.dims == ("z", "y", "x")
        np.testing.assert_array_equal(stack.z, [-250, -25, 225])
        for number, (low, high) in enumerate(itertools.pairwise(edges)):
            rows = (table["z"] >= low) & (table["z"] < high)
            np.testing.assert_array_equal(stack[number], render(table.select(rows), mode))

    def test_channels_are_renderings_of_their_rows(self, mode):
        table = table_of()
        stack = render(table, mode, channels="all", z_bins=2)
        assert stack.dims == ("channel", "z", "y", "x")
        np.testing.assert_array_equal(stack.channel, [0, 1, 2])
        rows = table["channel"] == 2
        expected = render(table.select(rows), mode, channels=[2])
        np.testing.assert_allclose(stack.sel(channel=2).sum("z"), expected[0], atol=1e-5)
        chosen = render(table, mode, channels=[2, 7])
        np.testing.assert_array_equal(chosen[0], expected[0])
        assert not chosen[1].any()


class TestSlices:
    def test_a_number_of_slices_divides_the_depth_and_keeps_both_ends(self):
        table = table_of(4, z=[0.0, 10.0, 20.0, 40.0])
        stack = render(table, "histogram", z_bins=4)
        np.testing.assert_array_equal(stack.z, [5, 15, 25, 35])
        np.testing.assert_array_equal(stack.sum(["y", "x"]), [1, 1, 1, 1])

    def test_what_lies_above_and_below_is_counted_in_a_warning(self):
        table = table_of(4, z=[-1.0, 0.0, 100.0, 101.0])
        with pytest.warns(UnusedRowsWarning, match="2 of 4 localizations lie outside of the sl"):
            stack = render(table, "histogram", z_bins=[0, 50, 100])
        np.testing.assert_array_equal(stack.sum(["y", "x"]), [1, 1])

    @pytest.mark.parametrize("bins", [0, 2.5, [5], [0, 0], [1, 0], [0, np.nan], [[0, 1]]])
    def test_bins_that_are_none_are_refused(self, bins):
        with pytest.raises(InvalidInputError, match="z_bins"):
            render(table_of(), z_bins=bins)

    def test_a_table_without_depth_is_refused(self):
        table = Localizations(np.ones((3, 2)), field_of_view=(0, 0, 50, 50))
        with pytest.raises(InvalidInputError, match="no column 'z'"):
            render(table, "histogram", z_bins=3)

    def test_more_slices_than_numbers_are_refused(self):
        with pytest.raises(InvalidInputError, match="z_bins=100"):
            render(table_of(2, z=[1e17, 1e17 + 16]), z_bins=100)

    def test_too_many_pixels_in_all_are_refused(self):
        with pytest.raises(InvalidInputError, match="1,000,000,000 planes"):
            render(table_of(), z_bins=10**9)
        with pytest.raises(InvalidInputError, match="1,000,000 planes of 60 x 80 pixels"):
            render(table_of(), z_bins=1_000_000)


class TestTypes:
    def test_integer_counts(self):
        image = render(table_of(), "histogram", dtype="uint32")
        assert image.dtype == np.uint32
        np.testing.assert_array_equal(image, render(table_of(), "histogram"))

    def test_more_localizations_than_float32_counts_one_by_one(self):
        """Beyond 2^24, adding one to a float32 changes nothing."""
        n, chunk = 2**24 + 3, np.full(2**24 + 3, 5.0)
        grid = PixelGrid((0, 0), 10, (130, 2))
        image = np.zeros(grid.shape, np.float32)
        draw_counts(chunk, chunk, grid, grid.field_of_view, image)
        assert image[0, 0] == np.float32(n) > 2**24
        assert image.sum() == image[0, 0]

    @pytest.mark.parametrize(
        "parameters",
        [
            {"mode": "gaussian", "dtype": "uint32"},
            {"mode": "histogram", "dtype": "uint32", "weights": "photons"},
            {"mode": "histogram", "dtype": "float64"},
        ],
    )
    def test_other_types_are_refused(self, parameters):
        with pytest.raises(InvalidInputError, match="dtype must be 'float32'"):
            render(table_of(), **parameters)

    def test_a_column_of_text_is_no_weight(self):
        table = table_of(2, quality=np.array(["good", "bad"]))
        with pytest.raises(InvalidInputError, match=r"X\[0\]: column 'quality' must hold numbers"):
            Renderer(weights="quality").transform([table])

    def test_channels_that_are_no_whole_numbers_are_refused(self):
        table = table_of(2, channel=[0.5, 1.0])
        with pytest.raises(InvalidInputError, match="column 'channel' must hold whole numbers"):
            Renderer(channels="all").transform(table)
        whole = Renderer(channels="all").transform(table_of(2, channel=[0.0, 1.0]))
        assert whole.channel.dtype == np.int64

    def test_all_channels_of_an_empty_table_are_refused(self):
        with pytest.raises(InvalidInputError, match="channels='all' of an empty table"):
            Renderer(channels="all").transform(table_of(0))

    def test_weights_that_are_no_numbers_are_left_out_with_a_warning(self):
        table = table_of(4, photons=[1.0, np.nan, 3.0, np.inf])
        with pytest.warns(UnusedRowsWarning, match="2 of 4 localizations have no usable value of"):
            image = render(table, "histogram", weights="photons")
        assert image.sum() == 4


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"mode": "kde"}, "mode must be 'histogram', 'gaussian' or"),
        ({"sigma": 0}, "sigma must be a positive number"),
        ({"sigma": "photons"}, "sigma must be a positive number"),
        ({"sigma_scale": -1}, "sigma_scale must be a positive number"),
        ({"min_sigma": -1}, "min_sigma must be a number from 0 on"),
        ({"max_sigma": 0}, "max_sigma must be a positive number"),
        ({"min_sigma": 5, "max_sigma": 4}, "max_sigma 4 is below min_sigma 5"),
        ({"n_shifts": 0}, "n_shifts must be a whole number"),
        ({"channels": "red"}, "channels must be 'all'"),
        ({"channels": [0.5]}, "channels must be 'all'"),
        ({"channels": []}, "channels must be 'all'"),
        ({"channels": [1, 1]}, "channels must be 'all', a list of different int"),
        ({"channels": [[1], [2, 3]]}, "channels must be 'all'"),
        ({"z_bins": ["low", "high"]}, "z_bins must be a number of slices"),
        ({"sigma": np.array([1.0, 2.0])}, "sigma must be a positive number"),
        ({"n_threads": 0}, "n_threads must be a whole number"),
    ],
)
def test_bad_parameters_are_refused_at_fit_and_transform(parameters, message):
    renderer = Renderer(**parameters)
    for method in (renderer.fit, renderer.transform):
        with pytest.raises(InvalidInputError, match=message):
            method(table_of())
