import copy
import math
import pickle

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.signal.windows import tukey

from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.metrics.frc import frc_area
from smlmkit.metrics.rings import ring_correlation
from smlmkit.nn.losses import AreaFRCLoss, frc

# Square and not, even and odd, with ring borders that meet samples (sides 1 : 2), and the smallest.
SHAPES = [(32, 32), (35, 25), (20, 40), (40, 20), (33, 90), (4, 5)]
WINDOWS = ["tukey", None]


def related_images(*shape, seed=0):
    """Counts of one random structure, twice."""
    rng = np.random.default_rng(seed)
    density = gaussian_filter(rng.gamma(0.5, 4.0, shape), [0] * (len(shape) - 2) + [0.8, 0.8])
    return tuple(torch.from_numpy(rng.poisson(density, shape).astype(float)) for _ in range(2))


def gradients(loss, *images):
    images = [image.clone().requires_grad_() for image in images]
    value = loss(*images)
    value.backward()
    return value.detach(), *(image.grad for image in images)


class TestValue:
    @pytest.mark.parametrize("window", WINDOWS)
    @pytest.mark.parametrize("cutoff", [0.25, 0.3, 0.5])
    @pytest.mark.parametrize("shape", SHAPES)
    def test_is_one_minus_the_area_of_the_metric_in_the_mean_over_images(
        self, shape, cutoff, window
    ):
        first, second = related_images(2, 3, *shape)
        areas = [
            frc_area(a, b, cutoff=cutoff, window=window)
            for a, b in zip(first.flatten(0, 1).numpy(), second.flatten(0, 1).numpy(), strict=True)
        ]
        loss = AreaFRCLoss(cutoff, window=window)
        assert loss(first, second).item() == pytest.approx(1 - np.mean(areas), abs=1e-12)
        in_float32 = loss(first.float(), second.float())
        assert in_float32.item() == pytest.approx(1 - np.mean(areas), abs=1e-6)

    def test_by_default_is_that_of_the_metric_by_default(self):
        first, second = related_images(48, 64)
        expected = 1 - frc_area(first.numpy(), second.numpy())
        assert AreaFRCLoss()(first, second).item() == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("window", WINDOWS)
    @pytest.mark.parametrize("shape", SHAPES[:-1])
    def test_without_sign_is_the_published_modulus_over_the_whole_plane(self, shape, window):
        images = torch.stack(related_images(*shape)).numpy()
        images[1] = images[1].max() - images[1]  # so that rings correlate below 0, too
        if window is not None:
            weights = np.outer(*(tukey(side, 0.25) for side in shape))
            images -= np.average(images, axis=(1, 2), weights=np.stack(2 * [weights]))[
                :, None, None
            ]
            images *= weights
        f, g = np.fft.fft2(images)
        axes = (np.fft.fftfreq(side, 1 / side) * min(shape) / side for side in shape)
        number = np.rint(np.hypot(*np.meshgrid(*axes, indexing="ij")))
        moduli = []
        for ring in range(1, int(0.4 * min(shape)) + 1):
            mask = number == ring
            power = (np.abs(f[mask]) ** 2).sum() * (np.abs(g[mask]) ** 2).sum()
            moduli.append(np.abs((f * g.conj())[mask].sum()) / np.sqrt(power))
        first, second = related_images(*shape)
        loss = AreaFRCLoss(0.4, signed=False, window=window)
        result = loss(first, second.max() - second).item()
        assert result == pytest.approx(1 - np.mean(moduli), abs=1e-12)

    def test_of_equal_images_is_0_and_of_inverted_ones_2_or_without_sign_0(self):
        image, _ = related_images(2, 40, 40)
        assert AreaFRCLoss()(image, image).item() == pytest.approx(0, abs=1e-12)
        assert AreaFRCLoss()(image, -image).item() == pytest.approx(2, abs=1e-12)
        assert AreaFRCLoss(signed=False)(image, -image).item() == pytest.approx(0, abs=1e-12)

    def test_of_noise_is_1_and_without_sign_below_as_much_as_the_rings_are_small(self):
        first, second = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 200, 64, 64)))
        assert AreaFRCLoss()(first, second).item() == pytest.approx(1, abs=0.01)
        loss = AreaFRCLoss(signed=False, window=None)
        # A normal correlation of variance 1 / count is sqrt(2 / (pi count)) from 0 in the mean.
        count = ring_correlation(first[0], second[0]).count[1:13]
        bias = np.sqrt(2 / (math.pi * count)).mean()
        assert bias > 0.1
        assert loss(first, second).item() == pytest.approx(1 - bias, abs=0.01)

    @pytest.mark.parametrize("signed", [True, False])
    def test_knows_neither_gain_nor_offset_nor_which_image_is_which(self, signed):
        first, second = (images.float() for images in related_images(2, 32, 40))
        loss = AreaFRCLoss(0.5, signed=signed)
        value = loss(first, second).item()
        assert loss(second, first).item() == value
        for gain in (1e-18, 3.0, 1e18):
            assert loss(gain * first, second).item() == pytest.approx(value, abs=1e-6)
            assert loss(first, gain * second).item() == pytest.approx(value, abs=1e-6)
        assert loss(first + 7, second - 5).item() == pytest.approx(value, abs=1e-5)

    def test_of_an_image_that_is_not_finite_is_nan(self):
        image, other = related_images(16, 16)
        image[8, 8] = math.nan
        assert math.isnan(AreaFRCLoss()(image, other))


class TestGradient:
    @pytest.mark.parametrize("window", WINDOWS)
    @pytest.mark.parametrize("signed", [True, False])
    @pytest.mark.parametrize("shape", [(2, 4, 6), (7, 5)])
    def test_is_that_of_finite_differences(self, shape, signed, window):
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(2, *shape, generator=generator, dtype=torch.float64)
        inputs = tuple(image.requires_grad_() for image in images.unbind())
        assert torch.autograd.gradcheck(AreaFRCLoss(0.5, signed=signed, window=window), inputs)

    def test_shrinks_as_the_gain_grows_and_is_orthogonal_to_the_image(self):
        first, second = related_images(32, 32)
        _, gradient, _ = gradients(AreaFRCLoss(), first, second)
        _, of_brighter, _ = gradients(AreaFRCLoss(), 4 * first, second)
        torch.testing.assert_close(of_brighter, gradient / 4)
        assert (gradient * first).sum().item() == pytest.approx(0, abs=1e-12)
        assert gradient.sum().item() == pytest.approx(0, abs=1e-12)
        assert gradient.norm() > 1e-3

    @pytest.mark.parametrize("gain", [1e-18, 1e18])
    def test_has_the_same_direction_for_any_gain(self, gain):
        first, second = (images.float() for images in related_images(32, 32))
        expected = gradients(AreaFRCLoss(), first, second)
        value, of_first, of_second = gradients(AreaFRCLoss(), gain * first, second)
        torch.testing.assert_close((value, gain * of_first, of_second), expected)
        assert of_first.any()

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("window", WINDOWS)
    @pytest.mark.parametrize("signed", [True, False])
    @pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 1000.1])
    def test_of_a_constant_image_is_0_and_the_loss_1(self, value, signed, window, dtype):
        image, _ = related_images(33, 48)
        constant = torch.full((33, 48), value, dtype=dtype)
        loss = AreaFRCLoss(0.5, signed=signed, window=window)
        for images in ((constant, image.to(dtype)), (image.to(dtype), constant), 2 * (constant,)):
            result, *both = gradients(loss, *images)
            assert result == 1
            assert not any(gradient.any() for gradient in both)

    def test_of_a_constant_image_leaves_the_others_of_a_batch_alone(self):
        first, second = related_images(2, 32, 32)
        _, expected, _ = gradients(AreaFRCLoss(), first[1], second[1])
        first[0] = 3.0
        _, gradient, _ = gradients(AreaFRCLoss(), first, second)
        torch.testing.assert_close(gradient[1], expected / 2)
        assert not gradient[0].any()

    @pytest.mark.parametrize("window", WINDOWS)
    @pytest.mark.parametrize("signed", [True, False])
    def test_is_finite_for_one_pixel_and_for_equal_images(self, signed, window):
        image, _ = related_images(32, 32)
        pixel, corner = torch.zeros(2, 32, 32)
        pixel[20, 9] = corner[0, 0] = 1.0
        loss = AreaFRCLoss(0.5, signed=signed, window=window)
        for images in ((pixel, image), (pixel, pixel), (corner, image), (image, image)):
            assert all(values.isfinite().all() for values in gradients(loss, *images))

    def test_is_0_in_rings_that_hold_only_rounding_errors(self):
        phase = torch.arange(64) * 2 * math.pi / 64
        # Waves in rings 5 and 9: float32 holds both, and nothing in the other 30 rings.
        waves = (torch.cos(5 * phase) + 1e-4 * torch.cos(9 * phase))[:, None].expand(64, 64)
        noise = torch.rand(64, 64, generator=torch.Generator().manual_seed(0))
        loss = AreaFRCLoss(0.5, window=None)
        result, gradient, _ = gradients(loss, waves, waves + 1e-6 * noise)
        assert result.item() == pytest.approx(1 - 2 / 32, abs=1e-3)
        assert gradient.norm() < 1

    def test_leads_adam_to_the_target(self):
        _, target = related_images(64, 64)
        noise = torch.rand(64, 64, generator=torch.Generator().manual_seed(0))
        image, loss = noise.requires_grad_(), AreaFRCLoss()
        optimizer = torch.optim.Adam([image], lr=0.1)
        assert frc_area(noise.detach().numpy(), target.numpy()) < 0.2
        for _ in range(20):
            optimizer.zero_grad()
            loss(image, target.float()).backward()
            optimizer.step()
        assert frc_area(image.detach().numpy(), target.numpy()) > 0.9


class TestNumbers:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_of_half_precision_are_converted(self, dtype):
        first, second = (images.to(dtype) for images in related_images(32, 32))
        expected, *_ = gradients(AreaFRCLoss(), first.float(), second.float())
        result, gradient, _ = gradients(AreaFRCLoss(), first, second)
        assert result.dtype == torch.float32
        assert gradient.dtype == dtype
        assert result == expected

    def test_are_float64_where_one_image_is(self):
        first, second = related_images(32, 32)
        result = AreaFRCLoss()(first.float(), second)
        assert result.dtype == torch.float64
        assert result.item() == pytest.approx(AreaFRCLoss()(first, second).item(), abs=1e-12)

    def test_are_the_same_under_autocast(self):
        images = [images.float() for images in related_images(2, 48, 32)]
        expected = gradients(AreaFRCLoss(), *images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            result = gradients(AreaFRCLoss(), *images)
        for one, other in zip(result, expected, strict=True):
            assert torch.equal(one, other)
            assert one.dtype == torch.float32


class TestModule:
    def test_has_no_state_and_lives_on_after_use_as_copy_and_pickle(self):
        first, second = related_images(32, 32)
        loss = AreaFRCLoss(0.3, signed=False, window=None)
        value = loss(first, second)
        assert not loss.state_dict()
        for twin in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
            assert repr(twin) == "AreaFRCLoss(cutoff=0.3, signed=False, window=None)"
            assert twin(first, second) == value

    def test_finds_the_rings_of_a_shape_once(self, monkeypatch):
        shapes = []
        tapers_of = frc.tapers_of
        monkeypatch.setattr(frc, "tapers_of", lambda *a: shapes.append(a[0]) or tapers_of(*a))
        for shape in ((17, 31), (17, 31), (31, 17), (17, 31)):
            AreaFRCLoss()(*related_images(*shape))
        assert shapes == [(17, 31), (31, 17)]

    def test_follows_the_images_to_their_device(self):
        images = related_images(3, 32, 32)
        loss = AreaFRCLoss()
        assert loss(*images).device.type == "cpu"
        assert loss(*(image.to("meta") for image in images)).device.type == "meta"

    def test_can_train_after_a_first_use_in_inference_mode(self):
        first, second = related_images(19, 23)
        with torch.inference_mode():
            expected = AreaFRCLoss()(first, second).item()
        result, gradient, _ = gradients(AreaFRCLoss(), first, second)
        assert result.item() == expected
        assert gradient.any()

    @pytest.mark.parametrize("cutoff", [0, -0.2, 0.51, math.nan, "a", None])
    def test_refuses_a_cutoff_out_of_range(self, cutoff):
        with pytest.raises(InvalidInputError, match=r"cutoff must be in \(0, 0.5\]"):
            AreaFRCLoss(cutoff)

    def test_refuses_a_cutoff_below_the_first_ring(self):
        images = torch.rand(2, 9, 8)
        with pytest.raises(InvalidInputError, match=r"the first one is at 0\.125"):
            AreaFRCLoss(0.1)(*images)

    def test_refuses_an_unknown_window(self):
        with pytest.raises(InvalidInputError, match="'tukey' or None, got 'hann'"):
            AreaFRCLoss(window="hann")

    @pytest.mark.parametrize("signed", [None, 1, "true"])
    def test_refuses_a_sign_that_is_neither_true_nor_false(self, signed):
        with pytest.raises(InvalidInputError, match="signed must be True or False, got"):
            AreaFRCLoss(signed=signed)

    @pytest.mark.parametrize(
        ("first", "second", "message"),
        [
            ((8, 8), (1, 8, 8), r"same shape, got \(8, 8\) and \(1, 8, 8\)"),
            ((8,), (8,), r"at least 4 pixels a side, got shape \(8,\)"),
            ((2, 3, 8), (2, 3, 8), r"at least 4 pixels a side, got shape \(2, 3, 8\)"),
            ((0, 8, 8), (0, 8, 8), r"at least 4 pixels a side, got shape \(0, 8, 8\)"),
        ],
    )
    def test_refuses_shapes_that_are_no_images(self, first, second, message):
        with pytest.raises(InvalidInputError, match=message):
            AreaFRCLoss()(torch.zeros(first), torch.zeros(second))

    @pytest.mark.parametrize(
        ("bad", "got"),
        [
            (torch.zeros(8, 8, dtype=torch.int64), "torch.int64"),
            (torch.zeros(8, 8, dtype=torch.complex64), "torch.complex64"),
            (np.zeros((8, 8)), "ndarray"),
        ],
    )
    def test_refuses_what_is_no_tensor_of_floats(self, bad, got):
        good = torch.rand(8, 8)
        with pytest.raises(InvalidTypeError, match=f"targets must be .*, got {got}"):
            AreaFRCLoss()(good, bad)
        with pytest.raises(InvalidTypeError, match=f"predictions must be .*, got {got}"):
            AreaFRCLoss()(bad, good)
