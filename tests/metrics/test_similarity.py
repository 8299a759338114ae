import math

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.metrics.similarity import MS_SSIM_WEIGHTS, ms_ssim, psnr, ssim

LEAST_SIDE = {psnr: 1, ssim: 11, ms_ssim: 161}
MEASURES = tuple(LEAST_SIDE)


def blobs_and_noise(*shape, noise=0.2, background=0.5, seed=0):
    """A smooth reference on a background, and the same with noise."""
    rng = np.random.default_rng(seed)
    reference = background + 5 * gaussian_filter(rng.random(shape), 2)
    return reference + noise * rng.normal(size=shape), reference


def windowed_terms(x, y, data_range):
    """Luminance and structure of every window: its pixels, its means, squares around these."""
    gaussian = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    weight = np.outer(gaussian, gaussian) / gaussian.sum() ** 2
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    windows = [sliding_window_view(image, (11, 11)) for image in (x, y)]
    mx, my = (np.einsum("ijkl,kl->ij", window, weight) for window in windows)
    dx, dy = (w - m[..., None, None] for w, m in zip(windows, (mx, my), strict=True))
    pairs = (dx, dx), (dy, dy), (dx, dy)
    vx, vy, c = (np.einsum("ijkl,ijkl,kl->ij", a, b, weight) for a, b in pairs)
    return (2 * mx * my + c1) / (mx**2 + my**2 + c1), (2 * c + c2) / (vx + vy + c2)


def half_size(image):
    """The mean of every 2 x 2 pixels; where only one row or column is left, of that."""
    starts = [range(0, side, 2) for side in image.shape]
    return np.array([[image[y : y + 2, x : x + 2].mean() for x in starts[1]] for y in starts[0]])


def slow_ms_ssim(x, y, data_range, weights):
    means = []
    for _ in weights:
        luminance, structure = windowed_terms(x, y, data_range)
        means.append(structure.mean())
        x, y = half_size(x), half_size(y)
    means[-1] = (luminance * structure).mean()
    return math.prod(mean**weight for mean, weight in zip(means, weights, strict=True))


class TestPSNR:
    @pytest.mark.parametrize("data_range", [0.5, 1, 255.0])
    def test_is_that_of_scikit_image(self, data_range):
        image, reference = blobs_and_noise(13, 20)
        expected = peak_signal_noise_ratio(reference, image, data_range=data_range)
        assert psnr(image, reference, data_range=data_range) == pytest.approx(expected, rel=1e-12)

    def test_of_equal_images_is_infinite(self):
        image, _ = blobs_and_noise(5, 6)
        assert psnr(image, image, data_range=1) == math.inf

    def test_of_one_pixel_off_by_the_whole_range_is_0(self):
        assert psnr([[255]], [[0]], data_range=255) == 0

    def test_of_unsigned_integers_does_not_wrap_around(self):
        image, reference = np.zeros((2, 3), np.uint8), np.ones((2, 3), np.uint8)
        assert psnr(image, reference, data_range=10) == pytest.approx(20)


class TestSSIM:
    @pytest.mark.parametrize("shape", [(11, 11), (12, 40), (33, 25)])
    @pytest.mark.parametrize("data_range", [0.5, 3.0])
    def test_is_that_of_scikit_image(self, shape, data_range):
        image, reference = blobs_and_noise(*shape)
        expected = structural_similarity(
            image,
            reference,
            data_range=data_range,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        similarity = ssim(image, reference, data_range=data_range)
        assert similarity == pytest.approx(expected, abs=1e-13)

    def test_is_the_mean_over_the_windows(self):
        image, reference = blobs_and_noise(17, 24)
        luminance, structure = windowed_terms(image, reference, 2)
        expected = (luminance * structure).mean()
        assert ssim(image, reference, data_range=2) == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize(("value", "other"), [(0, 0), (0, 1), (0.2, 0.7)])
    def test_of_constant_images_is_their_luminance(self, value, other):
        luminance = (2 * value * other + 1e-4) / (value**2 + other**2 + 1e-4)
        images = np.full((15, 15), value), np.full((15, 15), other)
        assert ssim(*images, data_range=1) == pytest.approx(luminance, rel=1e-12)

    def test_of_opposites_is_negative(self):
        image = np.random.default_rng(0).random((40, 40))
        assert -1 <= ssim(image, 1 - image, data_range=1) < -0.9


class TestMSSSIM:
    # Sides that are odd at no, one and every scale.
    @pytest.mark.parametrize("shape", [(176, 192), (161, 177), (170, 166)])
    def test_is_the_direct_formula(self, shape):
        image, reference = blobs_and_noise(*shape)
        expected = slow_ms_ssim(image, reference, 2, (0.0448, 0.2856, 0.3001, 0.2363, 0.1333))
        assert 0.2 < expected < 0.95
        assert ms_ssim(image, reference, data_range=2) == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("weights", [(0.5,), (0.2, 0.8), np.array([1, 0, 2.0])])
    def test_takes_as_many_scales_as_weights(self, weights):
        image, reference = blobs_and_noise(43, 56)
        expected = slow_ms_ssim(image, reference, 2, weights)
        similarity = ms_ssim(image, reference, data_range=2, weights=weights)
        assert similarity == pytest.approx(expected, abs=1e-12)

    def test_of_one_scale_is_ssim(self):
        image, reference = blobs_and_noise(15, 20)
        similarity = ms_ssim(image, reference, data_range=2, weights=[1])
        assert similarity == ssim(image, reference, data_range=2)

    @pytest.mark.parametrize("weights", [(1,), (0.5, 0.5)])
    def test_of_opposites_is_0(self, weights):
        image = np.random.default_rng(0).random((40, 40))
        assert ms_ssim(image, 1 - image, data_range=1, weights=weights) == 0

    def test_sees_a_change_of_brightness_at_the_coarsest_scale_alone(self):
        _, reference = blobs_and_noise(64, 64, background=0)
        brighter = reference + 5
        at_each = [
            ms_ssim(brighter, reference, data_range=1, weights=weights)
            for weights in [(1, 0), (0, 1)]
        ]
        assert at_each[0] == pytest.approx(1, abs=1e-12)
        assert at_each[1] < 0.9

    @pytest.mark.parametrize("n_scales", [1, 2, 3, 5])
    def test_names_the_least_side_for_its_scales(self, n_scales):
        least, weights = 10 * 2 ** (n_scales - 1) + 1, MS_SSIM_WEIGHTS[:n_scales]
        image = np.eye(least)
        assert ms_ssim(image, image, data_range=1, weights=weights) == 1
        with pytest.raises(InvalidInputError, match=f"at least {least} pixels a side"):
            ms_ssim(image[1:], image[1:], data_range=1, weights=weights)

    @pytest.mark.parametrize(
        ("weights", "message"),
        [
            ([], "weights must hold a number for every scale, got none"),
            ([0.5, -1], r"weights\[1\] must be a number from 0 on, got -1"),
            ([math.nan], r"weights\[0\] must be a number from 0 on, got nan"),
        ],
    )
    def test_refuses_weights_that_are_none(self, weights, message):
        with pytest.raises(InvalidInputError, match=message):
            ms_ssim(np.eye(30), np.eye(30), data_range=1, weights=weights)


@pytest.mark.parametrize("measure", MEASURES)
class TestEveryMeasure:
    def test_is_a_float(self, measure):
        image, reference = blobs_and_noise(161, 161)
        assert type(measure(image, reference, data_range=np.float32(1))) is float

    def test_is_the_same_with_the_images_swapped(self, measure):
        image, reference = blobs_and_noise(165, 170)
        there, back = (
            measure(*pair, data_range=1) for pair in ((image, reference), (reference, image))
        )
        assert there == back

    @pytest.mark.parametrize("factor", [1e-200, 1 / 3, 1e200])
    def test_is_the_same_in_other_units(self, measure, factor):
        image, reference = blobs_and_noise(165, 170)
        expected = measure(image, reference, data_range=2)
        scaled = measure(factor * image, factor * reference, data_range=factor * 2)
        assert scaled == pytest.approx(expected, rel=1e-9)

    def test_falls_with_the_noise(self, measure):
        scores = []
        for noise in (0.01, 0.03, 0.1, 0.3, 1):
            image, reference = blobs_and_noise(161, 161, noise=noise)
            scores.append(measure(image, reference, data_range=2))
        assert scores == sorted(scores, reverse=True)
        assert scores[0] > 1.5 * scores[-1]

    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    def test_counts_in_float64_and_leaves_its_images_alone(self, measure, dtype):
        images = (50 * np.array(blobs_and_noise(161, 161))).clip(0, 255).astype(dtype)
        images.flags.writeable = False
        expected = measure(*images.astype(np.float64), data_range=255)
        assert measure(*images, data_range=255) == expected

    def test_has_no_range_of_its_own(self, measure):
        with pytest.raises(TypeError, match="data_range"):
            measure(np.eye(161), np.eye(161))

    @pytest.mark.parametrize("data_range", [0, -1, math.nan, math.inf, None, True, "1"])
    def test_refuses_a_range_that_is_none(self, measure, data_range):
        with pytest.raises(InvalidInputError, match="data_range must be a positive number, got"):
            measure(np.eye(161), np.eye(161), data_range=data_range)

    def test_refuses_two_shapes(self, measure):
        with pytest.raises(InvalidInputError, match=r"got \(161, 162\) and \(162, 161\)"):
            measure(np.ones((161, 162)), np.ones((162, 161)), data_range=1)

    @pytest.mark.parametrize("shape", [(170,), (1, 170, 170), ()])
    def test_refuses_what_is_not_two_dimensional(self, measure, shape):
        with pytest.raises(InvalidInputError, match="image must be two-dimensional"):
            measure(np.ones(shape), np.ones(shape), data_range=1)

    def test_refuses_images_that_are_too_small_and_names_the_least_side(self, measure):
        least = LEAST_SIDE[measure]
        image = np.ones((200, least))
        assert measure(image, 0.5 + image, data_range=1) > 0
        with pytest.raises(InvalidInputError, match=f"at least {least} pixels a side"):
            measure(image[:, 1:], image[:, 1:], data_range=1)

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("name", ["image", "reference"])
    def test_refuses_pixels_that_are_not_finite(self, measure, name, bad):
        images = {"image": np.eye(161), "reference": np.eye(161)}
        images[name][3, 4:6] = bad
        with pytest.raises(InvalidInputError, match=f"{name} has 2 pixels that are nan"):
            measure(**images, data_range=1)

    @pytest.mark.parametrize("name", ["image", "reference"])
    def test_refuses_what_is_not_real(self, measure, name):
        images = {"image": np.eye(161), "reference": np.eye(161)}
        images[name] = images[name].astype(complex)
        with pytest.raises(InvalidTypeError, match=f"{name} must hold real numbers, got"):
            measure(**images, data_range=1)


@pytest.mark.parametrize("measure", [ssim, ms_ssim])
def test_structural_similarity_of_equal_images_is_1(measure):
    image, _ = blobs_and_noise(165, 170)
    assert measure(image, image, data_range=0.1) == 1
