import json

import pytest
import torch
from torch import nn

from smlmkit.errors import InvalidInputError
from smlmkit.nn.networks import build_network, network_without_weights, specify_network
from smlmkit.nn.pix2pix import Pix2Pix, pix2pix_halo

PAPER_WIDTHS = (64, 128, 256, 512, 512, 512, 512, 512)


def build(seed=0, intensity=1.0, **choices):
    return build_network(specify_network("pix2pix", **choices), seed, intensity)


def count_weights(**choices):
    network = network_without_weights(specify_network("pix2pix", **choices))
    return sum(weights.numel() for weights in network.parameters())


def random_image(*shape, seed=0, dtype=torch.float32):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class TestWeights:
    def test_for_colour_images_are_the_published_54_414_million(self):
        assert round(count_weights(n_slices=3) / 1e6, 3) == 54.414

    def test_for_one_slice_agree_with_the_papers_table_of_layers(self):
        convolutions = 16 * (
            1 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 4 * 512 * 512  # down
            + 512 * 512 + 3 * 1024 * 512 + 1024 * 256 + 512 * 128 + 256 * 64 + 128 * 1  # up
        )  # fmt: skip
        normalised = sum(PAPER_WIDTHS[1:-1]) + sum(PAPER_WIDTHS[:-1])
        assert count_weights() == convolutions + 2 * normalised + 1 == 54_407_809

    def test_without_batch_norm_have_a_bias_for_each_filter(self):
        n_filters = 4 + 8 + 16 + 8 + 4 + 1
        kernels = 16 * (4 + 4 * 8 + 8 * 16 + 16 * 8 + 16 * 4 + 8)
        assert count_weights(depth=3, width=4, norm="none") == kernels + n_filters

    def test_are_normal_with_the_papers_spread(self):
        network = build(depth=4, width=16)
        kernels = [layer.weight for layer in network.modules() if hasattr(layer, "stride")]
        assert len(kernels) == 8
        drawn = torch.cat([kernel.flatten() for kernel in kernels])
        assert drawn.std().item() == pytest.approx(0.02, rel=0.01)
        assert abs(drawn.mean().item()) < 4 * 0.02 / drawn.numel() ** 0.5
        norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
        gains = torch.cat([layer.weight for layer in norms])
        assert gains.std().item() == pytest.approx(0.02, rel=0.2)
        assert gains.mean().item() == pytest.approx(1, abs=0.01)
        for layer in norms:
            assert not layer.bias.any()
            assert not layer.running_mean.any()
            assert torch.all(layer.running_var == 1)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_a_tile_depends_on_pixels_as_far_as_the_halo_and_no_farther(depth):
    halo = pix2pix_halo(depth)
    assert halo % 2**depth == 0
    center, side = 2 * halo, 4 * halo
    network = build(depth=depth, width=1, norm="none").double()
    with torch.no_grad():
        for weights in network.parameters():
            weights.abs_()  # so that no path is blocked
    farthest = []
    for offset in range(2**depth):
        image = random_image(1, 1, side, 2**depth, dtype=torch.float64).requires_grad_()
        network(image)[0, 0, center + offset, 0].backward()
        rows = image.grad[0, 0].abs().sum(dim=1).nonzero().flatten()
        before, after = center - rows.min(), rows.max() - (center + 2**depth - 1)
        farthest.append(int(max(before, after)))
    assert max(farthest) == 2 * 2**depth - 1 <= halo


class TestScale:
    def test_output_lies_between_0_and_twice_the_intensity(self):
        network = build(depth=2, width=4, intensity=2.5)
        nn.init.normal_(network.output.weight, 0, 100, generator=torch.Generator().manual_seed(0))
        output = network(random_image(4, 1, 32, 32))
        assert 0 <= output.min() < 0.01
        assert 4.99 < output.max() <= 5

    def test_of_an_untrained_network_is_a_fifth_of_the_intensity_or_the_counts(self):
        plain, residual = (
            build(depth=2, width=4, intensity=3, norm="none", residual=residual)
            for residual in (False, True)
        )
        image = random_image(1, 1, 8, 8)
        torch.testing.assert_close(plain(image), torch.full_like(image, 0.6), rtol=0, atol=1e-2)
        torch.testing.assert_close(residual(image), residual.blur(image), rtol=0, atol=1e-2)

    def test_output_is_the_tanh_of_the_residual_network(self):
        image = random_image(1, 1, 8, 8)
        plain, residual = (
            build(depth=2, width=4, intensity=3, residual=residual) for residual in (False, True)
        )
        nn.init.normal_(plain.output.weight, generator=torch.Generator().manual_seed(0))
        residual.load_state_dict(plain.state_dict(), strict=False)
        change = residual(image) - residual.blur(image)
        assert change.std() > 1e-2
        torch.testing.assert_close(plain(image), 3 + change, rtol=0, atol=1e-5)

    def test_is_that_of_the_counts(self):
        image = random_image(1, 1, 8, 8)
        one, seven = (build(depth=2, width=4, intensity=intensity) for intensity in (1, 7))
        torch.testing.assert_close(seven(7 * image), 7 * one(image))

    def test_of_dark_pixels_keeps_its_digits(self):
        network = build(depth=1, width=1)
        nn.init.zeros_(network.output.weight)
        nn.init.constant_(network.output.bias, -20)
        expected = torch.full((1, 1, 2, 2), 2 / (1 + torch.e**40))
        torch.testing.assert_close(network(torch.zeros(1, 1, 2, 2)), expected, rtol=1e-5, atol=0)

    def test_is_kept_with_the_weights(self):
        assert build(depth=1, width=1, intensity=3).state_dict()["intensity"] == 3


class TestDropout:
    @pytest.mark.parametrize(("depth", "expected"), [(1, 0), (2, 1), (3, 2), (4, 3), (8, 3)])
    def test_is_in_the_three_innermost_levels_but_never_the_last(self, depth, expected):
        state = build(depth=depth, width=1).get_random_state()
        assert list(state) == [f"up.{nth}.3" for nth in range(expected)]

    def test_drops_half_and_doubles_the_rest(self):
        dropout = build(depth=2, width=1).up[0][3].train()
        features = 1 + random_image(4, 8, 64, 64)
        output = dropout(features)
        kept = output != 0
        assert kept.float().mean().item() == pytest.approx(0.5, abs=0.005)
        assert torch.equal(output[kept], 2 * features[kept])

    def test_differs_between_steps_layers_and_seeds(self):
        features = torch.ones(1, 4, 8, 8)
        network, other = (build(seed, depth=3, width=1).train() for seed in (0, 1))
        layers = [network.up[0][3], network.up[0][3], network.up[1][3], other.up[0][3]]
        masks = [layer(features) for layer in layers]
        for nth, mask in enumerate(masks):
            assert not any(torch.equal(mask, later) for later in masks[nth + 1 :])

    def test_does_not_depend_on_the_layout_of_memory(self):
        image = random_image(2, 4, 8, 8)
        first, again = (build(depth=3, width=1).up[0][3].train() for _ in range(2))
        in_channels_last = again(image.contiguous(memory_format=torch.channels_last))
        assert torch.equal(first(image), in_channels_last)

    # torch shows this warning of its own making to nobody, but may not raise it either.
    @pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
    def test_is_the_same_in_compiled_code(self):
        image = random_image(2, 1, 16, 16)
        plain, compiled = (build(depth=3, width=2).train() for _ in range(2))
        run = torch.compile(compiled, backend="eager")
        for _ in range(2):
            assert torch.equal(plain(image), run(image))

    def test_goes_on_where_it_stood(self):
        image = random_image(2, 1, 16, 16)
        network = build(depth=3, width=2).train()
        network(image)
        state = json.loads(json.dumps(network.get_random_state()))
        weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        expected = network(image)

        again = network_without_weights(specify_network("pix2pix", depth=3, width=2)).train()
        again.load_state_dict(weights, assign=True)
        assert not torch.equal(again(image), expected)
        again.load_state_dict(weights, assign=True)
        again.set_random_state(state)
        assert torch.equal(again(image), expected)
        assert again.get_random_state() == network.get_random_state()

    def test_refuses_the_state_of_another_network(self):
        network = build(depth=3, width=1)
        with pytest.raises(InvalidInputError, match=r"layers \['up.0.3'\] does not fit"):
            network.set_random_state(build(depth=2, width=1).get_random_state())


def test_batch_norm_follows_all_but_the_first_the_innermost_and_the_last_convolution():
    norms = [
        name
        for name, layer in build(depth=4, width=1).named_modules()
        if isinstance(layer, nn.BatchNorm2d)
    ]
    assert norms == ["down.0.2", "down.1.2", "up.0.2", "up.1.2", "up.2.2"]


@pytest.mark.parametrize("depth", [1, 2, 8])
def test_one_smallest_patch_is_enough_to_train_on(depth):
    network = build(depth=depth, width=1).train()
    loss = network(random_image(1, 1, 2**depth, 2**depth)).square().mean()
    loss.backward()
    assert all(torch.isfinite(weights.grad).all() for weights in network.parameters())


def test_an_image_of_another_size_is_refused():
    with pytest.raises(InvalidInputError, match="multiples of 8 pixels, got 1 slices of 8 x 12"):
        Pix2Pix(depth=3, width=1)(torch.zeros(1, 1, 8, 12))
    with pytest.raises(InvalidInputError, match=r"takes images .* of 2 slices .* got 1 slices"):
        Pix2Pix(depth=3, width=1, n_slices=2)(torch.zeros(1, 1, 8, 8))
