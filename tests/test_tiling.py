import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from smlmkit.errors import InvalidInputError
from smlmkit.tiling import FieldFacts, TileGrid, TileNeeds, cover, grow, within

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


shapes = array_shapes(min_dims=2, max_dims=2, max_side=20)


@given(shapes, sides, halos)
def test_regular_tiles_hold_every_pixel_once(shape, side, halo):
    image = np.arange(shape[0] * shape[1]).reshape(shape)
    output, n_writes = np.full(shape, -1), np.zeros(shape, int)
    tiles = TileGrid(shape, side, halo)
    for read, crop, write in tiles:
        output[write] = image[read][crop]
        n_writes[write] += 1
    assert np.all(n_writes == 1)
    np.testing.assert_array_equal(output, image)
    assert len(list(tiles)) == len(tiles) == tiles.n_rows * tiles.n_columns


@given(shapes, sides, halos)
def test_regular_tiles_lie_at_multiples_of_their_side_and_come_row_by_row(shape, side, halo):
    tiles = TileGrid(shape, side, halo)
    places = [(row, column) for row in range(tiles.n_rows) for column in range(tiles.n_columns)]
    for place, tile in zip(places, tiles, strict=True):
        assert tile == tiles.tile(*place)
        for number, part, around, length in zip(place, tile.write, tile.read, shape, strict=True):
            assert part == slice(number * side, min(length, (number + 1) * side))
            assert around == slice(max(part.start - halo, 0), min(part.stop + halo, length))


@pytest.mark.parametrize("place", [(-1, 0), (0, -1), (2, 0), (0, 3)])
def test_a_tile_that_is_not_there_is_refused(place):
    with pytest.raises(InvalidInputError, match=r"there is no tile \(.*\) in 2 x 3 tiles"):
        TileGrid((10, 15), 5, 1).tile(*place)


@pytest.mark.parametrize(
    ("shape", "side", "halo", "message"),
    [
        ((0, 5), 3, 1, "height must be a whole number of at least 1, got 0"),
        ((5, 2.5), 3, 1, "width must be a whole number"),
        ((5, 5), 0, 1, "side must be a whole number of at least 1, got 0"),
        ((5, 5), 3, -1, "halo must be a whole number of at least 0, got -1"),
    ],
)
def test_odd_tiles_are_refused(shape, side, halo, message):
    with pytest.raises(InvalidInputError, match=message):
        TileGrid(shape, side, halo)


@pytest.mark.parametrize(
    ("reach", "multiple", "pixel_size", "halo"),
    [
        (0, 1, 10, 0),
        (40, 1, 10, 4),
        (40.1, 1, 10, 5),
        (64 * 13.3, 16, 13.3, 64),
        (3 * 0.1, 1, 0.1, 3),  # 0.30000000000000004
        (641, 16, 10, 80),
        (1, 8, 10, 8),
    ],
)
def test_a_halo_is_the_reach_in_whole_multiples(reach, multiple, pixel_size, halo):
    assert TileNeeds(reach, multiple, pixel_size).halo_px == halo


def test_tables_have_no_halo_in_pixels():
    with pytest.raises(InvalidInputError, match="a halo has pixels only where an image leaves"):
        _ = TileNeeds(reach=5).halo_px


def test_facts_tell_tables_and_images_apart():
    tables, images = FieldFacts(None, {}), FieldFacts(5.0, {})
    tables.check_tables("Painter")
    assert images.pixel_size_for("Painter") == 5
    with pytest.raises(InvalidInputError, match="Painter takes tables, but images reach it"):
        images.check_tables("Painter")
    with pytest.raises(InvalidInputError, match="Painter takes images, but tables reach it"):
        tables.pixel_size_for("Painter")
