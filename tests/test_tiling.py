import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from smlmkit.tiling import cover, grow, within

planes = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12))
sides = st.integers(1, 15)
halos = st.integers(0, 10)


def lengths(box):
    return [part.stop - part.start for part in box]


@given(planes, sides, halos)
def test_what_is_wanted_is_written_once_from_its_own_place(is_wanted, side, halo):
    image = np.arange(is_wanted.size).reshape(is_wanted.shape)
    output, n_writes = np.full(image.shape, -1), np.zeros(image.shape, int)
    for read, crop, write in cover(is_wanted, side, halo):
        assert all(0 < length <= side for length in lengths(write))
        output[write] = image[read][crop]
        n_writes[write] += 1
    assert n_writes.max() <= 1
    assert np.all(n_writes[is_wanted] == 1)
    np.testing.assert_array_equal(output[is_wanted], image[is_wanted])


@given(planes, sides)
def test_tiles_end_where_something_is_wanted(is_wanted, side):
    for tile in cover(is_wanted, side, halo=0):
        inside = is_wanted[tile.write]
        assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


@given(array_shapes(min_dims=2, max_dims=2, max_side=15), sides, halos)
def test_tiles_of_a_whole_image_are_as_few_and_as_equal_as_can_be(shape, side, halo):
    tiles = list(cover(np.ones(shape, bool), side, halo))
    n_rows, n_columns = (-(-length // side) for length in shape)
    assert len(tiles) == n_rows * n_columns
    for along_axis in zip(*(lengths(tile.write) for tile in tiles), strict=True):
        assert max(along_axis) - min(along_axis) <= 1


@pytest.mark.parametrize(("halo", "n_tiles"), [(2, 2), (3, 1)])
def test_gaps_wider_than_the_halo_part_tiles(halo, n_tiles):
    is_wanted = np.array([[1, 1, 0, 0, 0, 1]], bool)
    assert len(list(cover(is_wanted, side=10, halo=halo))) == n_tiles
    assert len(list(cover(is_wanted.T, side=10, halo=halo))) == n_tiles


@given(st.data(), array_shapes(min_dims=2, max_dims=2, max_side=20), halos)
def test_a_box_is_found_again_within_a_larger_one(data, shape, margin):
    rows, columns = (
        slice(*sorted(data.draw(st.lists(st.integers(0, length), min_size=2, max_size=2))))
        for length in shape
    )
    image = np.arange(shape[0] * shape[1]).reshape(shape)
    larger = grow((rows, columns), margin, shape)
    np.testing.assert_array_equal(
        image[larger][within((rows, columns), larger)], image[rows, columns]
    )
    for small, large, length in zip((rows, columns), larger, shape, strict=True):
        assert small.start - large.start == margin or large.start == 0
        assert large.stop - small.stop == margin or large.stop == length
