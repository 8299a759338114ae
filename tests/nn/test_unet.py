import math

import numpy as np
import pytest
import torch
from torch import nn

from smlmkit.nn.networks import build_network, specify_network
from smlmkit.nn.unet import UNet, unet_halo

NTHS = ("first", "second")
PARTS = ("weight", "bias")


def build(seed=0, **choices):
    return build_network(specify_network("unet", **choices), seed, intensity=1)


def count_weights(network):
    return sum(weights.numel() for weights in network.parameters())


class TestWeights:
    def test_of_the_papers_network_are_397537(self):
        assert count_weights(UNet()) == 397_537

    def test_of_more_slices_are_in_the_first_and_the_last_convolution(self):
        assert count_weights(UNet(n_slices=5)) == 397_537 + 4 * (49 * 48 + 9 * 48 + 1)

    def test_of_batch_norm_are_a_gain_and_an_offset_for_each_bias_but_the_last(self):
        n_normalised = 4 * 2 * 2 * 48
        assert count_weights(UNet(norm="batch")) == 397_537 + n_normalised

    def test_are_drawn_in_the_order_of_the_layers(self):
        generator = torch.Generator().manual_seed(3)
        names = [f"{way}.{k}.{nth}" for way in ("down", "up") for k in (0, 1) for nth in NTHS]
        state = build(seed=3, depth=2, width=4).state_dict()
        assert list(state) == [f"{name}.{part}" for name in [*names, "output"] for part in PARTS]
        for name in [*names, "output"]:
            weights = state[f"{name}.weight"]
            std = math.sqrt(2 / 1.01 / weights[0].numel())
            expected = torch.empty(weights.shape).normal_(0, std, generator=generator)
            assert torch.equal(weights, expected)
            assert not state[f"{name}.bias"].any()


def test_batch_norm_stands_between_convolution_and_activation():
    pair = build(depth=1, width=4, norm="batch").down[0].train()
    output = pair(torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    before_activation = torch.where(output < 0, output / 0.1, output)
    mean = before_activation.mean((0, 2, 3))
    variance = before_activation.var((0, 2, 3), unbiased=False)
    torch.testing.assert_close(mean, torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(variance, torch.ones(4), rtol=0, atol=1e-2)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_a_tile_never_depends_on_pixels_beyond_its_halo(depth):
    # Probe each position of an output pixel relative to the poolings, in the smallest tile.
    halo = unet_halo(depth)
    assert halo % 2**depth == 0
    center, side = 2 * halo, 4 * halo
    network = build(depth=depth, width=2)
    generator = torch.Generator().manual_seed(0)
    farthest = 0
    for offset in range(2**depth):
        image = torch.rand(1, 1, side, 2**depth, generator=generator, requires_grad=True)
        network(image)[0, 0, center + offset, 0].backward()
        rows = image.grad[0, 0].abs().sum(dim=1).nonzero().flatten()
        before, after = center - rows.min(), rows.max() - (center + 2**depth - 1)
        farthest = max(farthest, int(before), int(after))
    assert halo - 2**depth < farthest <= halo


@pytest.mark.parametrize("residual", [False, True])
def test_output_is_linear_without_activation(residual):
    network = UNet(depth=1, width=2, n_slices=3, residual=residual)
    nn.init.zeros_(network.output.weight)
    nn.init.constant_(network.output.bias, -3)
    image = torch.rand(1, 3, 4, 4)
    base = network.blur(image) if residual else torch.zeros_like(image)
    assert torch.equal(network(image), base - 3)


@pytest.mark.parametrize("kind", ["unet", "light"])
def test_a_residual_network_starts_near_a_blur_that_keeps_the_mass(kind):
    spec = specify_network(kind, depth=2, width=8, residual=True, n_slices=2)
    network = build_network(spec, seed=0, intensity=1.0)
    image = torch.zeros(1, 2, 64, 64)
    image[0, 0, 32, 32] = 1.0
    with torch.no_grad():
        blurred = network.blur(image)
        change = network(image) - blurred
    assert not blurred[0, 1].any()  # every slice has a kernel of its own
    assert blurred.sum().item() == pytest.approx(1, abs=1e-6)
    offset = np.arange(-7, 8)
    kernels = [np.exp(-np.add.outer(offset**2, offset**2) / 2 / sigma**2) for sigma in (1, 3)]
    expected = sum(w * k / k.sum() for w, k in zip((0.4, 0.6), kernels, strict=True))
    np.testing.assert_allclose(blurred[0, 0, 25:40, 25:40], expected, atol=1e-7)
    assert 0 < change.abs().mean() < 0.1 * blurred.max()
