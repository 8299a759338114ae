import math
import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smlmkit import FieldOfView, PixelGrid
from smlmkit.errors import InvalidInputError
from smlmkit.grid import check_field_of_view, check_pixel_size

in_its_own_time = settings(deadline=None)

NOT_A_SIZE = [0, -1, math.nan, math.inf, None, "wide", (1, 2)]


@st.composite
def boxes(draw):
    """Draw a box anywhere, with edges that need not be round numbers."""
    corner = draw(st.tuples(*[st.floats(-1e6, 1e6)] * 2))
    height, width = draw(st.tuples(*[st.floats(1e-2, 1e6)] * 2))
    return FieldOfView(corner[0], corner[1], corner[0] + height, corner[1] + width)


class TestFieldOfView:
    def test_extents_and_area(self):
        box = FieldOfView(100.0, 200.0, 1100.0, 2700.0)
        assert (box.height, box.width, box.area_um2) == (1000, 2500, 2.5)

    @in_its_own_time
    @given(boxes(), boxes())
    def test_union_is_the_smallest_box_around_both(self, first, second):
        union = first.union(second)
        assert union == second.union(first)
        assert union[:2] == tuple(map(min, first[:2], second[:2]))
        assert union[2:] == tuple(map(max, first[2:], second[2:]))
        assert union.union(first) == union

    @pytest.mark.parametrize("box", [[0, 1, 2, 3], np.arange(4), iter((0, 1, 2, 3))])
    def test_any_four_numbers_become_floats(self, box):
        field = check_field_of_view(box)
        assert field == (0, 1, 2, 3)
        assert all(type(edge) is float for edge in field)

    @pytest.mark.parametrize(
        "box", [None, 5, (0, 0, 1), (0, 0, 1, 1, 1), (0, 0, "a", 1), "0011", [[0, 0], [1, 1]]]
    )
    def test_what_is_not_four_numbers_is_refused(self, box):
        with pytest.raises(InvalidInputError, match="y_min, x_min, y_max, x_max"):
            check_field_of_view(box)

    @pytest.mark.parametrize(
        "box", [(0, 0, 0, 1), (0, 0, 1, 0), (5, 0, 1, 1), (0, 0, math.nan, 1), (-math.inf, 0, 1, 1)]
    )
    def test_a_box_without_area_is_refused(self, box):
        with pytest.raises(InvalidInputError, match="must be finite with y_min < y_max"):
            check_field_of_view(box)


class TestPixelSize:
    @pytest.mark.parametrize("size", [10, 10.0, np.float32(10), np.int64(10)])
    def test_any_positive_number_becomes_a_float(self, size):
        assert check_pixel_size(size) == 10
        assert type(check_pixel_size(size)) is float

    @pytest.mark.parametrize("size", [*NOT_A_SIZE, "10", True])
    def test_anything_else_is_refused(self, size):
        with pytest.raises(InvalidInputError, match="pixel_size must be a positive number"):
            check_pixel_size(size)


class TestPixelGrid:
    def test_pixels_lie_where_the_conventions_say(self):
        grid = PixelGrid(origin=(-5, 100), pixel_size=10, shape=(2, 3))
        assert grid.field_of_view == FieldOfView(-5.0, 100.0, 15.0, 130.0)
        np.testing.assert_array_equal(grid.centers_y, [0, 10])
        np.testing.assert_array_equal(grid.centers_x, [105, 115, 125])

    @in_its_own_time
    @given(boxes(), st.floats(1, 5000))
    def test_covering_gives_the_smallest_grid_that_covers_a_box(self, box, n_pixels):
        size = box.width / n_pixels
        grid = PixelGrid.covering(box, size)
        assert grid.origin == box[:2]
        for n, extent in zip(grid.shape, (box.height, box.width), strict=True):
            assert n * size >= extent * (1 - 1e-11)
            assert n == 1 or (n - 1) * size < extent

    @in_its_own_time
    @given(st.integers(1, 100_000), st.sampled_from([0.1, 0.3, 1.1, 7.7, 16.3, 106.7, 1 / 3]))
    def test_a_whole_number_of_pixels_gets_no_pixel_more(self, n, size):
        box = FieldOfView(0.0, 0.0, n * size, size)
        assert PixelGrid.covering(box, size).shape == (n, 1)

    def test_a_pixel_larger_than_the_box_is_enough(self):
        assert PixelGrid.covering(FieldOfView(0.0, 0.0, 3.0, 5.0), 100).shape == (1, 1)

    def test_grids_with_the_same_numbers_are_equal_and_hash_alike(self):
        first = PixelGrid((0, 0), 10, (2, 3))
        second = PixelGrid([0.0, np.float64(0)], np.float32(10), np.array([2, 3]))
        assert first == second
        assert hash(first) == hash(second)
        assert first != PixelGrid((0, 0), 10, (3, 2))
        assert pickle.loads(pickle.dumps(first)) == first

    def test_a_grid_does_not_change(self):
        grid = PixelGrid((0, 0), 10, (2, 3))
        with pytest.raises(FrozenInstanceError):
            grid.pixel_size = 5

    @pytest.mark.parametrize("size", NOT_A_SIZE)
    def test_a_bad_pixel_size_is_refused(self, size):
        with pytest.raises(InvalidInputError, match="pixel_size"):
            PixelGrid((0, 0), size, (2, 3))

    @pytest.mark.parametrize("origin", [(math.nan, 0), (0, math.inf), 0, (0,), (0, 0, 0), "ab"])
    def test_a_bad_origin_is_refused(self, origin):
        with pytest.raises(InvalidInputError, match="origin"):
            PixelGrid(origin, 10, (2, 3))

    @pytest.mark.parametrize("shape", [(0, 3), (2, -1), (2.7, 3), (math.nan, 3), 5, (2, 3, 4)])
    def test_a_bad_shape_is_refused(self, shape):
        with pytest.raises(InvalidInputError, match="shape"):
            PixelGrid((0, 0), 10, shape)

    def test_covering_checks_the_box(self):
        with pytest.raises(InvalidInputError, match="field_of_view"):
            PixelGrid.covering(FieldOfView(0, 0, 0, 5), 10)
