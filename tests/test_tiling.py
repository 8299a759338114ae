import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smlmkit.errors import InvalidInputError
from smlmkit.tiling import TilePlan

sides = st.integers(1, 60)


@given(shape=st.tuples(sides, sides), tile=st.integers(1, 70), halo=st.integers(0, 20))
def test_every_pixel_is_written_once_from_its_own_place(shape, tile, halo):
    image = np.arange(shape[0] * shape[1]).reshape(shape)
    output, n_writes = np.full(shape, -1), np.zeros(shape, int)
    plan = TilePlan(shape, tile, halo)
    for read, crop, write in plan:
        output[write] = image[read][crop]
        n_writes[write] += 1
    assert np.all(n_writes == 1)
    np.testing.assert_array_equal(output, image)
    assert len(plan) == len(list(plan))


@given(shape=st.tuples(sides, sides), tile=st.integers(1, 70), halo=st.integers(0, 20))
def test_each_side_has_its_halo_or_the_border(shape, tile, halo):
    for read, crop, write in TilePlan(shape, tile, halo):
        for axis, side in enumerate(shape):
            before = write[axis].start - read[axis].start
            after = read[axis].stop - write[axis].stop
            assert before == halo or read[axis].start == 0
            assert after == halo or read[axis].stop == side
            assert crop[axis] == slice(before, before + write[axis].stop - write[axis].start)


@pytest.mark.parametrize(
    ("shape", "tile", "halo"), [((0, 4), 2, 0), ((4, 4), 0, 0), ((4, 4), 2, -1)]
)
def test_bad_plans_are_refused(shape, tile, halo):
    with pytest.raises(InvalidInputError, match="positive sides"):
        TilePlan(shape, tile, halo)
