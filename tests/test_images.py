"""Arrays on grids become images and come back."""

import re

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


@pytest.mark.parametrize(
    ("shape", "labels", "expected"),
    [
        ((5, 4), {}, (4, 5)),
        ((1, 4, 5), {}, (4, 5)),
        ((4, 5), {"z": [0]}, (1, 4, 5)),
        ((3, 4, 5), {"z": [0, 1]}, (2, 4, 5)),
        ((3, 4, 5), {"channel": [7]}, (1, 4, 5)),
        ((3, 2, 4, 5), {"channel": [0, 1], "z": [0, 1, 2]}, (2, 3, 4, 5)),
    ],
)
def test_array_of_another_shape_is_refused(shape, labels, expected):
    message = re.escape(f"shape {shape}, its coordinates {expected}")
    with pytest.raises(InvalidInputError, match=message):
        to_image(np.zeros(shape), GRID, **labels)


LABELS = {"channel": [0, 3], "z": [-100, 0, 50]}


@pytest.mark.parametrize("dims", [("channel",), ("z",), ("channel", "z")])
def test_a_stack_has_channels_and_slices_before_the_pixels(dims):
    labels = {dim: LABELS[dim] for dim in dims}
    values = np.zeros((*map(len, labels.values()), *GRID.shape), np.uint32)
    stack = to_image(values, GRID, **labels)
    assert np.shares_memory(stack.to_numpy(), values)
    assert stack.dims == (*dims, "y", "x")
    for dim, expected in labels.items():
        assert stack[dim].to_numpy().tolist() == expected
        assert stack[dim].dtype == (np.float64 if dim == "z" else np.int64)
        assert stack[dim].attrs == ({"units": "nm"} if dim == "z" else {})
    xr.testing.assert_identical(stack[(0,) * len(dims)].drop_vars(dims), blank(GRID).astype(int))


@in_its_own_time
@given(grids(), st.sampled_from([("channel",), ("z",), ("channel", "z")]))
def test_grid_of_a_stack_is_that_of_its_images(grid, dims):
    labels = {dim: LABELS[dim] for dim in dims}
    stack = to_image(np.zeros((*map(len, labels.values()), *grid.shape)), grid, **labels)
    assert grid_of(stack, stacks=True) == grid_of(blank(grid))
    assert grid_of(stack[(-1,) * len(dims)], stacks=True) == grid_of(blank(grid))
    with pytest.raises(InvalidInputError, match=re.escape(f"dims (y, x), got {stack.dims}")):
        grid_of(stack)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda stack: stack.transpose("z", "channel", "y", "x"), "dims"),
        (lambda stack: stack.transpose("channel", "y", "x", "z"), "dims"),
        (lambda stack: stack.rename(z="depth"), "dims"),
        (lambda stack: stack.expand_dims("time"), "dims"),
        (lambda stack: stack.drop_vars("z"), "coordinates channel, z, y, x"),
        (lambda stack: stack.drop_vars("channel"), "coordinates channel, z, y, x"),
        (lambda stack: stack[:, :0], "at least one pixel"),
        (lambda stack: stack[:, ::-1], "z coordinates .* rise"),
        (lambda stack: stack.assign_coords(z=[0, 1, 1]), "z coordinates .* rise"),
        (lambda stack: stack.assign_coords(z=[0, 1, np.inf]), "z coordinates .* finite"),
        (lambda stack: stack.assign_coords(z=[np.nan, 1, 2]), "z coordinates .* finite"),
        (lambda stack: stack.assign_coords(z=["a", "b", "c"]), "z coordinates"),
        (lambda stack: stack.assign_coords(channel=["a", "b"]), "channel .* whole numbers"),
        (lambda stack: stack.assign_coords(x=np.arange(5)), "the x coordinates"),
    ],
)
def test_stacks_without_sense_are_refused(spoil, message):
    stack = to_image(np.zeros((2, 3, *GRID.shape)), GRID, **LABELS)
    with pytest.raises(InvalidInputError, match=message):
        grid_of(spoil(stack), stacks=True)


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
