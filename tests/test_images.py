"""Arrays on grids become images and come back."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.grid import PixelGrid
from smlmkit.images import DENSITY_UNITS, grid_of, to_image

# The first example pays for imports.
in_its_own_time = settings(deadline=None)
GRID = PixelGrid(origin=(100, -50), pixel_size=10, shape=(4, 5))


@st.composite
def grids(draw, min_side=1):
    """Grids anywhere within a millimetre of zero."""
    sides = st.integers(min_side, 12)
    origins = st.floats(-1e6, 1e6)
    return PixelGrid(
        origin=draw(st.tuples(origins, origins)),
        pixel_size=draw(st.floats(0.1, 1e4)),
        shape=draw(st.tuples(sides, sides)),
    )


def blank(grid):
    return to_image(np.zeros(grid.shape, np.float32), grid)


def assert_same_place(found, expected):
    assert (found.shape, found.pixel_size) == (expected.shape, expected.pixel_size)
    np.testing.assert_allclose(found.origin, expected.origin, rtol=0, atol=1e-3 * found.pixel_size)


@in_its_own_time
@given(grids())
def test_grid_survives_the_round_trip(grid):
    assert_same_place(grid_of(blank(grid)), grid)


@in_its_own_time
@given(grids())
def test_coordinates_are_the_pixel_centres_inside_the_field(grid):
    image = blank(grid)
    box = grid.field_of_view
    for centres, low, high in ((image.y, box.y_min, box.y_max), (image.x, box.x_min, box.x_max)):
        edges = np.linspace(low, high, len(centres) + 1)
        np.testing.assert_allclose(centres, (edges[1:] + edges[:-1]) / 2, rtol=1e-9, atol=1e-9)


@in_its_own_time
@given(grids(), st.data())
def test_a_slice_keeps_its_place(grid, data):
    bounds = []
    for side in grid.shape:
        first = data.draw(st.integers(0, side - 1))
        bounds.append((first, data.draw(st.integers(first + 1, side))))
    (top, bottom), (left, right) = bounds
    corner = (
        grid.origin[0] + top * grid.pixel_size,
        grid.origin[1] + left * grid.pixel_size,
    )
    expected = PixelGrid(corner, grid.pixel_size, (bottom - top, right - left))
    assert_same_place(grid_of(blank(grid)[top:bottom, left:right]), expected)


@in_its_own_time
@given(grids(min_side=3), st.integers(2, 5), st.sampled_from(["y", "x"]))
def test_strides_that_leave_two_pixels_are_refused(grid, step, axis):
    image = blank(grid)
    step = min(step, image.sizes[axis] - 1)
    with pytest.raises(InvalidInputError, match=f"the {axis} coordinates are not"):
        grid_of(image.isel({axis: slice(None, None, step)}))


@in_its_own_time
@given(grids(min_side=2), st.sampled_from(["y", "x"]))
def test_reversed_axes_are_refused(grid, axis):
    with pytest.raises(InvalidInputError, match=f"the {axis} coordinates"):
        grid_of(blank(grid).isel({axis: slice(None, None, -1)}))


def test_image_shares_memory_and_says_what_it_means():
    values = np.arange(20.0).reshape(GRID.shape)
    image = to_image(values, GRID, units="photons", name="sum")
    assert np.shares_memory(image.to_numpy(), values)
    assert image.attrs == {"units": "photons", "pixel_size": 10.0}
    assert (image.name, image.dims) == ("sum", ("y", "x"))
    assert image.y.attrs == image.x.attrs == {"units": "nm"}
    assert blank(GRID).attrs["units"] == DENSITY_UNITS


def test_array_of_another_shape_is_refused():
    with pytest.raises(InvalidInputError, match=r"\(5, 4\).*\(4, 5\)"):
        to_image(np.zeros((5, 4)), GRID)


@pytest.mark.parametrize("thing", [np.zeros((4, 5)), None, xr.Dataset()])
def test_what_is_no_image_is_refused(thing):
    with pytest.raises(InvalidTypeError, match=type(thing).__name__):
        grid_of(thing)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda image: image.T, "dims"),
        (lambda image: image[0], "dims"),
        (lambda image: image.expand_dims("z"), "dims"),
        (lambda image: image.drop_vars("y"), "coordinates"),
        (lambda image: image.drop_attrs(), "pixel_size"),
        (lambda image: image[:0], "at least one pixel"),
        (lambda image: image.assign_attrs(pixel_size=11), "not 11"),
        (lambda image: image.assign_attrs(pixel_size=-10), "pixel_size"),
        (lambda image: image.assign_coords(y=[0, 10, 20, 31]), "the y coordinates"),
        (lambda image: image.assign_coords(x=np.full(5, np.nan)), "the origin of a grid is"),
    ],
)
def test_what_has_no_grid_is_refused(spoil, message):
    with pytest.raises(InvalidInputError, match=message):
        grid_of(spoil(blank(GRID)))
