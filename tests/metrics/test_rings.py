import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.signal.windows import tukey

from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.metrics import rings as rings_module
from smlmkit.metrics.rings import ring_correlation

shapes = st.tuples(st.integers(4, 24), st.integers(4, 24))
seeds = st.integers(0, 2**32 - 1)


def noisy_pair(shape, seed):
    signal, *noise = np.random.default_rng(seed).normal(size=(3, *shape))
    return signal + noise[0], signal + noise[1]


def ring_correlation_slow(first, second, window):
    """The formula as written: full transforms, one dense mask a ring."""
    height, width = first.shape
    n = min(first.shape)
    taper = np.outer(tukey(height, 0.25), tukey(width, 0.25)) if window else 1
    if window:
        first = first - np.average(first, weights=taper)
        second = second - np.average(second, weights=taper)
    f, g = np.fft.fft2(first * taper), np.fft.fft2(second * taper)
    y, x = np.arange(height), np.arange(width)
    y, x = np.minimum(y, height - y) * n / height, np.minimum(x, width - x) * n / width
    radius = np.rint(np.sqrt(y[:, None] ** 2 + x[None, :] ** 2))
    masks = [radius == ring for ring in range(n // 2 + 1)]
    with np.errstate(invalid="ignore"):  # 0 / 0 in ring 0 without a mean
        correlation = [
            (f[mask] * g[mask].conj()).sum().real
            / np.sqrt((abs(f[mask]) ** 2).sum() * (abs(g[mask]) ** 2).sum())
            for mask in masks
        ]
    return np.array(correlation), np.array([mask.sum() for mask in masks])


@pytest.mark.parametrize("window", ["tukey", None])
@pytest.mark.parametrize("shape", [(16, 16), (17, 17), (16, 23), (31, 12), (100, 75), (4, 9)])
def test_equals_the_full_transform_with_dense_masks(shape, window):
    first, second = noisy_pair(shape, seed=0)
    correlation, count = ring_correlation_slow(first, second, window)
    rings = ring_correlation(first, second, window=window)
    if window:
        correlation[0] = 0
    assert_allclose(rings.correlation, correlation, rtol=0, atol=1e-12)
    assert_array_equal(rings.count, count)
    assert_allclose(rings.frequency, np.arange(len(count)) / min(shape))


def shell_correlation_slow(first, second, window, spacing):
    """The formula as written: the frequency of every sample in cycles per pixel, a mask a shell."""
    n = min(first.shape[1:])
    if window:
        tapers = [tukey(side, 0.25) for side in first.shape]
        taper = np.einsum("i,j,k->ijk", *tapers)
        first, second = ((im - np.average(im, weights=taper)) * taper for im in (first, second))
    f, g = np.fft.fftn(first), np.fft.fftn(second)
    depth, height, width = first.shape
    axes = np.fft.fftfreq(depth, spacing), np.fft.fftfreq(height), np.fft.fftfreq(width)
    shell = np.rint(n * np.sqrt(sum(axis**2 for axis in np.ix_(*axes))))
    nyquist = min(0.5, 0.5 / spacing)
    masks = [shell == k for k in range(n // 2 + 1) if k / n <= nyquist + 1e-9]
    sums = [
        [(f[m] * g[m].conj()).sum().real, (abs(f[m]) ** 2).sum(), (abs(g[m]) ** 2).sum(), m.sum()]
        for m in masks
    ]
    return np.array(sums).T


@pytest.mark.parametrize("window", ["tukey", None])
@pytest.mark.parametrize("spacing", [0.5, 1.0, 2.5])
@pytest.mark.parametrize("shape", [(8, 16, 16), (9, 15, 17), (4, 22, 13), (25, 6, 7)])
def test_shells_equal_the_full_transform_with_dense_masks(shape, spacing, window):
    first, second = noisy_pair(shape, seed=0)
    *sums, count = shell_correlation_slow(first, second, window, spacing)
    shells = ring_correlation(first, second, window=window, spacing=spacing)
    assert_array_equal(shells.count, count)
    assert_allclose(shells.frequency, np.arange(len(count)) / min(shape[1:]))
    measured = shells.shared, shells.first_power, shells.second_power
    assert_allclose(np.array(measured)[:, 1:], np.array(sums)[:, 1:], rtol=1e-9)
    shared, *powers = sums
    expected = shared[1:] / np.sqrt(np.prod(powers, axis=0))[1:]
    assert_allclose(shells.correlation[1:], expected, atol=1e-12)


@pytest.mark.parametrize("spacing", [0, -1, np.nan, np.inf, 6.01])
def test_refuses_slices_that_leave_no_shell(spacing):
    with pytest.raises(InvalidInputError, match="slices must lie between 0 and 6 pixels apart"):
        ring_correlation(*noisy_pair((5, 12, 14), seed=0), spacing=spacing)


def test_shells_are_those_of_stacks_and_rings_of_images():
    stacks, images = noisy_pair((5, 12, 14), seed=0), noisy_pair((12, 14), seed=0)
    with pytest.raises(InvalidInputError, match=r"must be two-dimensional .* \(5, 12, 14\)"):
        ring_correlation(*stacks)
    with pytest.raises(InvalidInputError, match=r"must be three-dimensional .* \(12, 14\)"):
        ring_correlation(*images, spacing=1)


@pytest.mark.parametrize(("shape", "spacing"), [((203, 331), None), ((11, 65, 70), 1.5)])
def test_the_number_of_threads_changes_nothing(shape, spacing, nine_threads, monkeypatch):
    pair = noisy_pair(shape, seed=0)

    def sums(n_threads):
        monkeypatch.setattr(rings_module, "default_threads", lambda: n_threads)
        rings = ring_correlation(*pair, spacing=spacing)
        return rings.shared, rings.first_power, rings.second_power

    alone = sums(1)
    assert_array_equal(sums(2), alone)
    assert_array_equal(sums(9), alone)


@given(shape=shapes, seed=seeds)
def test_an_image_correlates_with_itself_and_not_with_its_negative(shape, seed):
    image = np.random.default_rng(seed).normal(size=shape)
    assert_allclose(ring_correlation(image, image).correlation[1:], 1)
    assert_allclose(ring_correlation(image, -image).correlation[1:], -1)


def test_a_common_mean_does_not_correlate_noise():
    """Counts have a mean; under a window it must not leak into the first rings."""
    first, second = np.random.default_rng(0).poisson(0.1, size=(2, 512, 512))
    correlation = ring_correlation(first, second).correlation
    assert abs(correlation[1:10].mean()) < 0.2  # ten rings of few samples; 0.9 with the mean
    assert abs(correlation[1:].mean()) < 0.01


@given(shape=shapes, seed=seeds, gain=st.floats(1e-6, 1e6))
def test_neither_the_order_nor_a_gain_matters(shape, seed, gain):
    first, second = noisy_pair(shape, seed)
    expected = ring_correlation(first, second).correlation
    assert_allclose(ring_correlation(second, first).correlation, expected, atol=1e-12)
    assert_allclose(ring_correlation(gain * first, second).correlation, expected, atol=1e-12)


@given(shape=shapes, seed=seeds, shift=st.tuples(st.integers(-9, 9), st.integers(-9, 9)))
def test_shifting_both_images_does_not_matter_without_a_window(shape, seed, shift):
    pair = noisy_pair(shape, seed)
    shifted = [np.roll(image, shift, axis=(0, 1)) for image in pair]
    assert_allclose(
        ring_correlation(*shifted, window=None).correlation,
        ring_correlation(*pair, window=None).correlation,
        atol=1e-12,
    )


@given(shape=shapes, seed=seeds)
def test_transposing_both_images_does_not_matter(shape, seed):
    first, second = noisy_pair(shape, seed)
    rings, transposed = ring_correlation(first, second), ring_correlation(first.T, second.T)
    assert_allclose(transposed.correlation, rings.correlation, atol=1e-12)
    assert_array_equal(transposed.count, rings.count)


def test_independent_noise_has_mean_0_and_the_standard_deviation_of_its_ring():
    rng = np.random.default_rng(0)
    repeats = [ring_correlation(*rng.normal(size=(2, 48, 64)), window=None) for _ in range(300)]
    z = np.array([rings.correlation * np.sqrt(rings.count) for rings in repeats])[:, 1:]
    assert abs(z.mean()) < 0.05
    assert z.std() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("window", ["tukey", None])
@pytest.mark.parametrize(
    ("shape", "spacing", "tolerance"),
    [((40, 40), None, 0.02), ((25, 60), None, 0.02), ((12, 20, 26), 1.5, 0.03)],
)
def test_independent_numbers_give_the_spread_of_the_correlation_of_noise(
    shape, spacing, tolerance, window
):
    rng = np.random.default_rng(0)
    repeats = [
        ring_correlation(*rng.normal(size=(2, *shape)), window=window, spacing=spacing)
        for _ in range(500)
    ]
    variance = np.var([rings.correlation[1:] for rings in repeats], axis=0)
    z = np.sqrt((variance * repeats[0].n_independent[1:]).mean())
    assert z == pytest.approx(1, abs=tolerance)
    is_windowed = window is not None
    assert (repeats[0].n_independent[1:] < 0.95 * repeats[0].count[1:]).all() == is_windowed


@pytest.mark.parametrize("gain", [1e-55, 1e55])
def test_large_and_small_values_give_the_same_correlation(gain):
    first, second = noisy_pair((16, 16), seed=0)
    expected = ring_correlation(first, second).correlation
    assert_allclose(ring_correlation(gain * first, gain * second).correlation, expected)


def test_values_whose_sum_overflows_their_own_type_give_what_float64_gives():
    first, second = np.random.default_rng(0).integers(1, 4, size=(2, 16, 16))
    expected = ring_correlation(first, second).correlation
    for kind, gain in [(np.int64, 2**61), (np.float32, 1e38), (np.float16, 2e4), (np.uint8, 60)]:
        scaled = ring_correlation((first * gain).astype(kind), second).correlation
        assert_allclose(scaled, expected, atol=1e-3)  # float16 and float32 round


@pytest.mark.parametrize(
    ("gain", "message"),
    [(1e200, "to 3e.200, too large to be squared"), (1e-200, "to 3e-200, too close to be squared")],
)
def test_values_whose_squares_float64_cannot_hold_are_refused(gain, message):
    first, second = np.random.default_rng(0).integers(1, 4, size=(2, 16, 16))
    with pytest.raises(InvalidInputError, match=f"second image has pixels from 1e.* {message}"):
        ring_correlation(first, gain * second)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int32, np.float32, np.float64])
def test_dtypes_give_what_float64_gives(dtype):
    first, second = (np.random.default_rng(0).random((2, 20, 20)) < 0.3).astype(dtype)
    expected = ring_correlation(first.astype(float), second.astype(float)).correlation
    assert_array_equal(ring_correlation(first, second).correlation, expected)


@pytest.mark.parametrize("window", ["tukey", None])
@pytest.mark.parametrize("value", [0, 0.1, 7])
def test_a_constant_image_gives_nan(value, window):
    constant, image = np.full((12, 12), value), np.random.default_rng(0).random((12, 12))
    for pair in [(constant, image), (image, constant), (constant, constant)]:
        assert np.isnan(ring_correlation(*pair, window=window).correlation).all()


def test_a_ring_without_power_shares_nothing():
    checkerboard = np.indices((12, 12)).sum(axis=0) % 2 * 2 - 1
    noise = np.random.default_rng(0).random((12, 12))
    assert_array_equal(ring_correlation(checkerboard, noise, window=None).correlation, 0)


def test_images_stay_as_they_were():
    pair = noisy_pair((9, 9), seed=0)
    copies = [image.copy() for image in pair]
    ring_correlation(*pair)
    assert_array_equal(pair, copies)


def with_pixel(value):
    image = np.random.default_rng(0).random((8, 8))
    image[3, 4] = value
    return image


@pytest.mark.parametrize(
    ("second", "error", "message"),
    [
        (np.ones((8, 9)), InvalidInputError, r"same shape, got \(8, 8\) and \(8, 9\)"),
        (
            np.ones(8),
            InvalidInputError,
            r"second image must be two-dimensional .* got shape \(8,\)",
        ),
        (np.ones((3, 8)), InvalidInputError, "at least 4 pixels a side"),
        (np.ones((0, 0)), InvalidInputError, "at least 4 pixels a side"),
        (with_pixel(np.nan), InvalidInputError, "second image has 1 pixels that are nan"),
        (with_pixel(np.inf), InvalidInputError, "second image has 1 pixels that are nan"),
        (np.ones((8, 8), complex), InvalidTypeError, "must hold real numbers, got complex128"),
        ([["a"] * 8] * 8, InvalidTypeError, "must hold real numbers"),
    ],
)
def test_refuses_what_is_no_pair_of_images(second, error, message):
    with pytest.raises(error, match=message):
        ring_correlation(with_pixel(0.5), second)


def test_refuses_an_unknown_window():
    with pytest.raises(InvalidInputError, match="window must be 'tukey' or None, got 'hann'"):
        ring_correlation(with_pixel(0), with_pixel(1), window="hann")
