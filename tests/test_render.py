import math

import numpy as np
import pandas as pd
import pytest
import sklearn
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from smlmkit import FieldOfView, Localizations, PixelGrid, Renderer
from smlmkit.errors import InvalidInputError, InvalidTypeError, UnusedRowsWarning
from smlmkit.images import grid_of

in_its_own_time = settings(deadline=None)

# Multiples of 1/8 and pixels of 4 nm: every quotient is exact, so ties are where one sees them.
FIELD = FieldOfView(-16.0, 8.0, 112.0, 104.0)
SIZE = 4.0


def exact_table(n=500, seed=0):
    rng = np.random.default_rng(seed)
    columns = {
        "x": rng.integers(8 * 8, 104 * 8, n) / 8,
        "y": rng.integers(-16 * 8, 112 * 8, n) / 8,
    }
    return Localizations(columns, field_of_view=FIELD)


def count_slowly(table, grid):
    """Count as the convention is written down: half-open pixels, one after the other."""
    counts = np.zeros(grid.shape)
    for y, x in zip(table.y, table.x, strict=True):
        row = math.floor((y - grid.origin[0]) / grid.pixel_size)
        column = math.floor((x - grid.origin[1]) / grid.pixel_size)
        counts[row, column] += 1
    return counts


def render(table, **parameters):
    return Renderer(**{"pixel_size": SIZE, **parameters}).fit_transform(table)


@st.composite
def awkward_tables(draw):
    """Draw points in a field with edges of any float, some of them just below the upper edge."""
    corner = np.array(draw(st.tuples(*[st.floats(-1e5, 1e5)] * 2)))
    extent = np.array(draw(st.tuples(*[st.floats(0.1, 1e4)] * 2)))
    field = FieldOfView(*corner.tolist(), *(corner + extent).tolist())
    fractions = draw(st.lists(st.tuples(*[st.floats(0, 1)] * 2), max_size=20))
    points = corner + np.array(fractions).reshape(-1, 2) * extent
    y, x = points.clip(field[:2], np.nextafter(field[2:], field[:2])).T
    return Localizations({"x": x, "y": y}, field_of_view=field)


def size_for(table, n_pixels):
    """Give the pixel size with which so many pixels, whole or not, lie across the longer side."""
    return max(table.field_of_view.height, table.field_of_view.width) / n_pixels


pixels_across = st.floats(0.5, 200) | st.integers(1, 200).map(float)


class TestCounts:
    def test_they_are_those_of_a_slow_count(self):
        table = exact_table()
        image = render(table)
        grid = PixelGrid.covering(FIELD, SIZE)
        np.testing.assert_array_equal(image.values, count_slowly(table, grid))

    def test_they_are_those_of_numpy(self):
        table = exact_table()
        edges = [np.arange(-16, 113, SIZE), np.arange(8, 105, SIZE)]
        expected, _, _ = np.histogram2d(table.y, table.x, bins=edges)
        np.testing.assert_array_equal(render(table).values, expected)

    def test_an_edge_between_pixels_belongs_to_the_upper_one(self):
        table = Localizations(np.array([[12.0, -16.0], [11.875, -12.0]]), field_of_view=FIELD)
        image = render(table).values
        assert image[0, 1] == image[1, 0] == 1

    def test_many_in_one_pixel_are_exact(self):
        points = np.tile([[10.0, 0.0]], (123_457, 1))
        assert render(Localizations(points, field_of_view=FIELD)).max() == 123_457

    @in_its_own_time
    @given(awkward_tables(), pixels_across)
    def test_every_localization_counts_once(self, table, n_pixels):
        image = render(table, pixel_size=size_for(table, n_pixels))
        assert image.sum() == len(table)

    @in_its_own_time
    @given(awkward_tables(), pixels_across)
    def test_the_grid_that_covers_the_field_changes_nothing(self, table, n_pixels):
        size = size_for(table, n_pixels)
        grid = PixelGrid.covering(table.field_of_view, size)
        # Rounding can leave the last float of the field outside of the grid: see the next test.
        box = grid.field_of_view
        table = table.select((table.y < box.y_max) & (table.x < box.x_max))
        xr.testing.assert_identical(render(table, grid=grid), render(table, pixel_size=size))

    def test_the_order_of_rows_does_not_matter(self):
        table = exact_table()
        shuffled = table.select(np.random.default_rng(1).permutation(len(table)))
        xr.testing.assert_identical(render(shuffled), render(table))

    def test_a_shift_by_whole_pixels_shifts_the_image(self):
        table = exact_table()
        dy, dx = 7 * SIZE, -3 * SIZE
        field = FieldOfView(FIELD[0] + dy, FIELD[1] + dx, FIELD[2] + dy, FIELD[3] + dx)
        shifted = Localizations({"x": table.x + dx, "y": table.y + dy}, field_of_view=field)
        image, moved = render(table), render(shifted)
        np.testing.assert_array_equal(moved.values, image.values)
        np.testing.assert_array_equal(moved.y, image.y + dy)
        np.testing.assert_array_equal(moved.x, image.x + dx)

    def test_a_tile_is_the_part_of_the_whole(self):
        table = exact_table()
        tile = table.crop((FIELD.y_min + 5 * SIZE, FIELD.x_min + 2 * SIZE, 64.0, 96.0))
        part = render(table)[5:20, 2:22]
        xr.testing.assert_identical(render(tile), part)

    def test_halves_of_a_split_add_up_to_the_whole(self):
        table = exact_table()
        first, second = (render(half) for half in table.split(random_state=0))
        np.testing.assert_array_equal(first + second, render(table))

    def test_columns_that_are_strided_or_single_precision_count_alike(self):
        table = exact_table(60)
        points = np.column_stack([table.x, table.y])
        points.flags.writeable = False
        strided = Localizations(points, field_of_view=FIELD)
        single = Localizations(points.astype(np.float32), field_of_view=FIELD)
        for other in (strided, single):
            xr.testing.assert_identical(render(other), render(table))

    def test_an_empty_table_gives_an_image_of_zeros(self):
        image = render(exact_table(0))
        assert image.shape == (32, 24)
        assert not image.any()


class TestImage:
    def test_it_knows_where_it_lies_and_what_it_means(self):
        image = render(exact_table())
        assert isinstance(image, xr.DataArray)
        assert image.dims == ("y", "x")
        assert image.dtype == np.float32
        assert image.attrs == {"units": "localizations per pixel", "pixel_size": SIZE}
        assert grid_of(image) == PixelGrid((-16, 8), SIZE, (32, 24))

    def test_a_field_that_is_no_whole_number_of_pixels_is_covered(self):
        table = Localizations(np.array([[9.5, 4.0]]), field_of_view=(0, 0, 5, 10))
        image = render(table)
        assert image.shape == (2, 3)
        assert image.values[1, 2] == 1


class TestGrid:
    def test_tables_share_a_grid(self):
        grid = PixelGrid((-20, 0), SIZE, (40, 30))
        tables = [exact_table(50), exact_table(60, seed=1).crop((0, 20, 50, 60))]
        images = render(tables, grid=grid)
        for table, image in zip(tables, images, strict=True):
            assert grid_of(image) == grid
            np.testing.assert_array_equal(image, count_slowly(table, grid))

    def test_its_pixel_size_goes_before_the_other(self):
        image = render(exact_table(), pixel_size=999, grid=PixelGrid((-16, 8), 8, (16, 12)))
        assert image.attrs["pixel_size"] == 8

    def test_localizations_outside_of_it_are_counted_in_a_warning(self):
        table = Localizations(
            np.array([[12.0, 0.0], [50.0, 0.0], [60.0, 4.0]]), field_of_view=FIELD
        )
        with pytest.warns(UnusedRowsWarning, match="1 of 3 localizations lie outside"):
            image = render(table, grid=PixelGrid((0, 40), SIZE, (2, 10)))
        assert image.sum() == 2


class TestSamples:
    def test_one_in_one_out_and_a_list_in_a_list_out(self):
        table = exact_table()
        single, several = render(table), render([table])
        assert isinstance(several, list)
        xr.testing.assert_identical(several[0], single)

    @pytest.mark.parametrize("lengths", [(20, 20), (20, 30, 0)])
    def test_each_table_gets_its_own_image(self, lengths):
        tables = [exact_table(n, seed=n) for n in lengths]
        for table, image in zip(tables, render(tables), strict=True):
            xr.testing.assert_identical(image, render(table))

    def test_other_kinds_of_table_are_converted(self):
        points = np.array([[1.0, 2.0], [3.0, 9.0]])
        expected = render(Localizations(points))
        for X in (points, pd.DataFrame(points, columns=["x", "y"])):
            xr.testing.assert_identical(render(X), expected)
            xr.testing.assert_identical(render([X])[0], expected)

    def test_a_bad_sample_is_named(self):
        with pytest.raises(InvalidInputError, match=r"X\[1\]"):
            render([exact_table(), "locs.csv"])


class TestEstimator:
    def test_parameters_are_kept_and_cloned(self):
        grid = PixelGrid((0, 0), 5, (2, 2))
        renderer = Renderer(pixel_size=5, grid=grid)
        assert renderer.get_params()["grid"] is grid
        assert clone(renderer).get_params() == renderer.get_params()
        assert renderer.set_params(pixel_size=7).pixel_size == 7
        assert "pixel_size=7" in repr(renderer)

    def test_it_needs_no_fit(self):
        table = exact_table()
        xr.testing.assert_identical(Renderer(SIZE).transform(table), render(table))

    def test_fit_gives_itself(self):
        renderer = Renderer()
        assert renderer.fit([exact_table()]) is renderer

    def test_a_pipeline_takes_it(self):
        pipeline = make_pipeline(Renderer())
        image = pipeline.set_params(renderer__pixel_size=SIZE).fit_transform(exact_table())
        xr.testing.assert_identical(image, render(exact_table()))

    def test_images_stay_images_whatever_output_scikit_learn_is_set_to(self):
        assert not hasattr(Renderer(), "set_output")
        with sklearn.config_context(transform_output="pandas"):
            assert isinstance(render(exact_table()), xr.DataArray)

    @pytest.mark.parametrize("size", [0, -5, math.nan, math.inf, None, "wide"])
    def test_a_bad_pixel_size_is_refused_at_fit_and_transform(self, size):
        renderer = Renderer(pixel_size=size)
        for method in (renderer.fit, renderer.transform):
            with pytest.raises(InvalidInputError, match="pixel_size"):
                method(exact_table())

    def test_what_is_no_grid_is_refused(self):
        with pytest.raises(InvalidTypeError, match="grid must be a PixelGrid"):
            Renderer(grid=(0, 0)).fit(exact_table())
