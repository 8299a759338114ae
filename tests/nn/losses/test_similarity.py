import copy
import math
import pickle

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import gaussian_filter

from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.metrics.similarity import MS_SSIM_WEIGHTS, ms_ssim, ssim
from smlmkit.nn.losses import MSSSIMLoss, SSIMLoss

LOSSES = [SSIMLoss, MSSSIMLoss]
# The least sides for 1, 2, 3 and 4 scales, odd and even, square and not.
SHAPES_AND_SCALES = [((11, 11), 1), ((20, 33), 1), ((21, 37), 2), ((40, 40), 2), ((41, 54), 3)]
SHAPES_AND_SCALES += [((64, 64), 3), ((80, 96), 3), ((81, 83), 4), ((161, 161), 5)]


def counts_and_estimates(*shape, seed=0):
    """Estimates of a density and counts drawn from it, in the mean 2 per pixel."""
    rng = np.random.default_rng(seed)
    density = gaussian_filter(rng.gamma(0.2, 10.0, shape), [0] * (len(shape) - 2) + [1, 1])
    estimates = density * rng.uniform(0.5, 1.5, shape)
    return torch.from_numpy(estimates), torch.from_numpy(rng.poisson(density).astype(float))


def waves(side, period):
    """A wave around 0 whose average under every window is about 0."""
    phase = 2 * math.pi * torch.arange(side, dtype=torch.float64) / period
    return torch.sin(phase)[:, None] * torch.sin(phase)


def gradients(loss, *images):
    images = [image.clone().requires_grad_() for image in images]
    value = loss(*images)
    value.backward()
    return value.detach(), *(image.grad for image in images)


def published_weights(n_scales):
    weights = np.array(MS_SSIM_WEIGHTS[:n_scales])
    return weights / weights.sum()


def windowed_terms(x, y):
    """Luminance and structure of every window of images of range 1, from its pixels."""
    gaussian = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    weight = np.outer(gaussian, gaussian) / gaussian.sum() ** 2
    windows = np.stack([sliding_window_view(image, (11, 11)) for image in (x, y)])
    mx, my = means = np.einsum("aijkl,kl->aij", windows, weight)
    rest = windows - means[..., None, None]
    (vx, c), (_, vy) = np.einsum("aijkl,bijkl,kl->abij", rest, rest, weight)
    return (2 * mx * my + 1e-4) / (mx**2 + my**2 + 1e-4), (2 * c + 9e-4) / (vx + vy + 9e-4)


class TestValue:
    @pytest.mark.parametrize("data_range", [0.5, 7.0])
    @pytest.mark.parametrize("shape", [(11, 11), (20, 33), (64, 64)])
    def test_of_ssim_is_one_minus_the_measure_in_the_mean_over_images(self, shape, data_range):
        images = counts_and_estimates(2, 3, *shape)
        pairs = zip(*(stack.flatten(0, 1).numpy() for stack in images), strict=True)
        expected = 1 - np.mean([ssim(a, b, data_range=data_range) for a, b in pairs])
        loss = SSIMLoss(data_range)
        assert 0.1 < expected < 1.5
        assert loss(*images).item() == pytest.approx(expected, abs=1e-10)
        in_float32 = loss(*(stack.float() for stack in images))
        assert in_float32.dtype == torch.float32
        assert in_float32.item() == pytest.approx(expected, abs=1e-5)

    @pytest.mark.parametrize("data_range", [0.5, 7.0])
    @pytest.mark.parametrize(("shape", "n_scales"), SHAPES_AND_SCALES)
    def test_of_ms_ssim_is_one_minus_the_measure_with_as_many_scales_as_fit(
        self, shape, n_scales, data_range
    ):
        images = counts_and_estimates(2, 1, *shape)
        weights = published_weights(n_scales)
        expected = 1 - np.mean(
            [
                ms_ssim(a, b, data_range=data_range, weights=weights)
                for a, b in zip(*(stack[:, 0].numpy() for stack in images), strict=True)
            ]
        )
        loss = MSSSIMLoss(data_range)
        assert 0.02 < expected < 0.98
        assert loss(*images).item() == pytest.approx(expected, abs=1e-10)
        in_float32 = loss(*(stack.float() for stack in images))
        assert in_float32.item() == pytest.approx(expected, abs=1e-5)

    @pytest.mark.parametrize("n_scales", [1, 2, 3])
    def test_of_ms_ssim_has_as_many_scales_as_asked_for(self, n_scales):
        a, b = counts_and_estimates(70, 64)
        weights = published_weights(n_scales)
        expected = 1 - ms_ssim(a.numpy(), b.numpy(), data_range=5, weights=weights)
        result = MSSSIMLoss(5, scales=n_scales)(a, b).item()
        assert result == pytest.approx(expected, abs=1e-10)

    def test_of_ms_ssim_with_one_scale_is_that_of_ssim(self):
        a, b = counts_and_estimates(1, 1, 30, 30)
        a = a.max() - a  # so that the similarity is negative
        expected = SSIMLoss(5)(a, b).item()
        assert expected > 1
        assert MSSSIMLoss(5, scales=1)(a, b).item() == pytest.approx(expected, abs=1e-12)

    def test_of_opposite_images_rises_above_1_by_the_weighted_negative_means(self):
        image = counts_and_estimates(48, 48)[0]
        image = image / image.max()
        x, y, means = image.numpy(), 1 - image.numpy(), []
        for n_scales in (1, 2, 3):
            luminance, structure = windowed_terms(x, y)
            means.append((luminance * structure if n_scales == 3 else structure).mean())
            x, y = (x.reshape(len(x) // 2, 2, -1, 2).mean(axis=(1, 3)) for x in (x, y))
        assert max(means) < -0.1
        expected = 1 - published_weights(3) @ means
        assert MSSSIMLoss(1)(image, 1 - image).item() == pytest.approx(expected, abs=1e-10)

    @pytest.mark.parametrize("make", LOSSES)
    def test_of_equal_images_is_0_also_where_they_are_constant_or_far_from_0(self, make):
        image = counts_and_estimates(48, 48)[0].float()
        for same in (image, image + 1000, torch.zeros(48, 48), torch.full((48, 48), 1000.1)):
            assert make(2)(same, same).item() == pytest.approx(0, abs=1e-6)

    @pytest.mark.parametrize("make", LOSSES)
    def test_depends_on_images_in_units_of_the_range(self, make):
        a, b = counts_and_estimates(48, 48)
        expected = make(2)(a, b).item()
        assert make(20)(10 * a, 10 * b).item() == pytest.approx(expected, abs=1e-12)
        assert make(20)(a, b).item() < 0.95 * expected

    @pytest.mark.parametrize("make", LOSSES)
    def test_of_an_image_that_is_not_finite_is_nan(self, make):
        a, b = counts_and_estimates(48, 48)
        a[20, 20] = math.nan
        assert math.isnan(make(2)(a, b))


class TestGradient:
    @pytest.mark.parametrize(
        ("loss", "shape"),
        [
            (SSIMLoss(2), (2, 12, 11)),
            (MSSSIMLoss(2), (2, 12, 11)),
            (MSSSIMLoss(2), (2, 23, 21)),
            (MSSSIMLoss(2), (43, 42)),
        ],
    )
    @pytest.mark.parametrize("sign", [1, -1])
    def test_is_that_of_finite_differences(self, loss, shape, sign):
        a, b = counts_and_estimates(*shape)
        inputs = ((sign * a).requires_grad_(), b.requires_grad_())
        assert torch.autograd.gradcheck(loss, inputs, fast_mode=True)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("make", LOSSES)
    def test_is_finite_for_constant_empty_equal_and_opposite_images(self, make, dtype):
        image = counts_and_estimates(2, 48, 48)[1].to(dtype)
        empty, constant = torch.zeros_like(image), torch.full_like(image, 0.1)
        pixel = empty.clone()
        pixel[:, 30, 20] = 1
        others = (image, empty, constant, pixel, -image, 1e4 * image, waves(48, 6).to(dtype))
        for other in others:
            other = other.expand_as(image)
            for pair in ((image, other), (other, image), (other, other), (other, -other)):
                assert all(values.isfinite().all() for values in gradients(make(3), *pair))

    def test_is_finite_where_the_mean_structure_of_a_scale_crosses_0(self):
        image, loss = waves(64, 8), MSSSIMLoss(1)
        low, high = -1.0, 1.0  # of the share of the image in the other one
        while high - low > 1e-15:
            middle = (low + high) / 2
            low, high = (middle, high) if loss(middle * image, image) >= 1 else (low, middle)
        assert -0.1 < low < 0
        for share in (low, high):
            value, gradient, _ = gradients(loss, share * image, image)
            assert value.item() == pytest.approx(1, abs=1e-6)
            assert gradient.any()
            assert gradient.norm() < 10

    def test_parts_opposite_images(self):
        target = counts_and_estimates(1, 1, 64, 64)[1]
        image, loss = (-target).requires_grad_(), MSSSIMLoss(5)
        optimizer = torch.optim.Adam([image], lr=0.2)
        assert ms_ssim(*_numpy(image, target), data_range=5, weights=published_weights(3)) == 0
        for _ in range(150):
            optimizer.zero_grad()
            loss(image, target).backward()
            optimizer.step()
        after = ms_ssim(*_numpy(image, target), data_range=5, weights=published_weights(3))
        assert after > 0.7

    @pytest.mark.parametrize("make", LOSSES)
    def test_of_one_image_does_not_know_the_others(self, make):
        a, b = counts_and_estimates(3, 48, 48)
        _, alone, _ = gradients(make(2), a[1:2], b[1:2])
        a[0], a[2] = 0, -a[2]
        _, together, _ = gradients(make(2), a, b)
        torch.testing.assert_close(together[1:2], alone / 3)


class TestNumbers:
    @pytest.mark.parametrize("make", LOSSES)
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_of_half_precision_are_converted(self, make, dtype):
        images = [images.to(dtype) for images in counts_and_estimates(48, 48)]
        expected, *_ = gradients(make(2), *(image.float() for image in images))
        result, gradient, _ = gradients(make(2), *images)
        assert result.dtype == torch.float32
        assert gradient.dtype == dtype
        assert result == expected

    @pytest.mark.parametrize("make", LOSSES)
    def test_are_the_same_under_autocast(self, make):
        images = [images.float() for images in counts_and_estimates(48, 48)]
        value, *both = gradients(make(2), *images)
        inputs = [image.clone().requires_grad_() for image in images]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            result = make(2)(*inputs)
        result.backward()
        assert result.detach() == value
        for image, expected in zip(inputs, both, strict=True):
            assert torch.equal(image.grad, expected)

    @pytest.mark.parametrize("make", LOSSES)
    def test_can_be_trained_on_after_a_first_use_in_inference_mode(self, make):
        a, b = counts_and_estimates(43, 47)
        with torch.inference_mode():
            expected = make(2)(a, b).item()
        value, gradient, _ = gradients(make(2), a, b)
        assert value.item() == expected
        assert gradient.any()


class TestModule:
    def test_shows_its_parameters_and_lives_on_as_copy_and_pickle(self):
        a, b = counts_and_estimates(48, 48)
        for loss in (SSIMLoss(3), MSSSIMLoss(3, scales=2)):
            assert not loss.state_dict()
            for twin in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
                assert twin(a, b) == loss(a, b)
        assert repr(SSIMLoss(3)) == "SSIMLoss(data_range=3.0)"
        assert repr(MSSSIMLoss(3, scales=2)) == "MSSSIMLoss(data_range=3.0, scales=2)"

    @pytest.mark.parametrize("make", LOSSES)
    @pytest.mark.parametrize("data_range", [0, -1, math.nan, math.inf, None, "1"])
    def test_refuses_a_range_that_is_not_positive(self, make, data_range):
        with pytest.raises(InvalidInputError, match="data_range must be a positive number"):
            make(data_range)

    @pytest.mark.parametrize("scales", [0, 6, 2.0, True, "3"])
    def test_refuses_a_number_of_scales_that_there_is_not(self, scales):
        with pytest.raises(InvalidInputError, match="scales must be a whole number from 1 to 5"):
            MSSSIMLoss(1, scales=scales)

    @pytest.mark.parametrize(("scales", "side"), [(2, 21), (3, 41), (4, 81), (5, 161)])
    def test_refuses_images_too_small_for_its_scales(self, scales, side):
        loss = MSSSIMLoss(1, scales=scales)
        assert loss(*torch.rand(2, side, side)).isfinite()
        message = f"{scales} scales of ms_ssim need .* at least {side} pixels a side"
        with pytest.raises(InvalidInputError, match=message):
            loss(*torch.rand(2, side + 1, side - 1))

    @pytest.mark.parametrize("make", LOSSES)
    def test_refuses_images_smaller_than_the_window(self, make):
        with pytest.raises(InvalidInputError, match=r"at least 11 pixels a side, got .*\(12, 10\)"):
            make(1)(*torch.rand(2, 12, 10))

    @pytest.mark.parametrize("make", LOSSES)
    def test_refuses_different_shapes_and_what_is_no_tensor(self, make):
        images = torch.rand(2, 16, 16)
        with pytest.raises(InvalidInputError, match="must have the same shape"):
            make(1)(images, images[:1])
        with pytest.raises(InvalidTypeError, match="targets must be a tensor of floating"):
            make(1)(images, images.numpy())


def _numpy(*images):
    return (image.detach().numpy()[0, 0] for image in images)
