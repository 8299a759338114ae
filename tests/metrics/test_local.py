import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.metrics import local
from smlmkit.metrics.local import correlate_tiles
from smlmkit.metrics.rings import ring_correlation


def noisy_pair(shape, seed=0):
    signal, *noise = np.random.default_rng(seed).normal(size=(3, *shape))
    return signal + noise[0], signal + noise[1]


@pytest.mark.parametrize("window", ["tukey", None])
@pytest.mark.parametrize("shape", [(40, 57), (17, 90)])
@pytest.mark.parametrize(("side_px", "step_px"), [(16, 5), (17, 16), (8, 20)])
def test_equals_the_ring_correlation_of_every_tile(shape, side_px, step_px, window):
    first, second = noisy_pair(shape)
    tops, lefts = (range(0, side - side_px + 1, step_px) for side in shape)
    correlation = correlate_tiles(first, second, side_px, step_px, window=window)
    assert correlation.shape == (len(tops), len(lefts), side_px // 2 + 1)
    for row, top in enumerate(tops):
        for column, left in enumerate(lefts):
            tile = slice(top, top + side_px), slice(left, left + side_px)
            rings = ring_correlation(first[tile], second[tile], window=window)
            assert_allclose(correlation[row, column], rings.correlation, atol=1e-12)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_dtypes_give_what_float64_gives(dtype):
    first, second = (np.random.default_rng(0).random((2, 20, 30)) < 0.3).astype(dtype)
    expected = correlate_tiles(first.astype(float), second.astype(float), 10, 5)
    assert_array_equal(correlate_tiles(first, second, 10, 5), expected)


@pytest.mark.parametrize("window", ["tukey", None])
@pytest.mark.parametrize("value", [0, 0.1, 7])
def test_a_constant_tile_shares_nothing(value, window):
    first, second = noisy_pair((16, 48))
    first[:, :16] = second[:, :16] = value
    first[:, 32:] = value
    correlation = correlate_tiles(first, second, 16, 16, window=window)
    assert_array_equal(correlation[0, [0, 2]], 0)
    assert (correlation[0, 1, 1:] != 0).all()


def test_neither_threads_nor_groups_of_tiles_change_anything(nine_threads, monkeypatch):
    pair = noisy_pair((60, 110))
    monkeypatch.setattr(local, "default_threads", lambda: 1)
    expected = correlate_tiles(*pair, 12, 3)
    monkeypatch.setattr(local, "default_threads", lambda: 9)
    assert_array_equal(correlate_tiles(*pair, 12, 3), expected)
    monkeypatch.setattr(local, "_TILES_AT_A_TIME", 5)
    assert_array_equal(correlate_tiles(*pair, 12, 3), expected)


def test_images_stay_as_they_were():
    pair = noisy_pair((20, 20))
    copies = [image.copy() for image in pair]
    correlate_tiles(*pair, 10, 5)
    assert_array_equal(pair, copies)


@pytest.mark.parametrize(
    ("second", "error", "message"),
    [
        (np.ones((20, 21)), InvalidInputError, r"same shape, got \(20, 20\) and \(20, 21\)"),
        (np.ones((5, 20, 20)), InvalidInputError, "second image must be two-dimensional"),
        (np.full((20, 20), np.nan), InvalidInputError, "second image has 400 pixels that are nan"),
        (np.full((20, 20), 1e300), InvalidInputError, "second image .* too large"),
        (np.ones((20, 20), complex), InvalidTypeError, "second image must hold real numbers"),
    ],
)
def test_refuses_what_is_no_pair_of_images(second, error, message):
    with pytest.raises(error, match=message):
        correlate_tiles(np.eye(20), second, 10, 5)


def test_refuses_a_tile_that_does_not_fit():
    with pytest.raises(InvalidInputError, match=r"21 pixels does not fit .* shape \(20, 30\)"):
        correlate_tiles(*noisy_pair((20, 30)), 21, 5)
