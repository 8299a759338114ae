import pytest
import torch

from smlmkit.nn.unet import UNet, build_unet, receptive_halo


def test_the_papers_network_has_397537_weights():
    network = build_unet(depth=4, width=48, seed=0)
    assert sum(weights.numel() for weights in network.parameters()) == 397_537


def test_same_seed_same_weights_and_the_global_random_state_is_untouched():
    before = torch.get_rng_state()
    first, again, other = (build_unet(2, 4, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    for name, weights in first.state_dict().items():
        assert torch.equal(weights, again.state_dict()[name])
    assert not torch.equal(first.output.weight, other.output.weight)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_output_never_depends_on_pixels_beyond_the_halo(depth):
    # Probe each position of an output pixel relative to the poolings.
    halo = receptive_halo(depth)
    assert halo % 2**depth == 0
    center, side = 2 * halo, 4 * halo
    network = build_unet(depth, width=2, seed=0)
    generator = torch.Generator().manual_seed(0)
    farthest = 0
    for offset in range(2**depth):
        image = torch.rand(1, 1, side, side, generator=generator, requires_grad=True)
        network(image)[0, 0, center + offset, center].backward()
        rows = image.grad[0, 0].abs().sum(dim=1).nonzero().flatten()
        farthest = max(farthest, int((rows - center - offset).abs().max()))
    assert halo - 2 * 2**depth < farthest <= halo


def test_output_is_linear_without_activation():
    network = UNet(depth=1, width=2)
    with torch.no_grad():
        network.output.bias.fill_(-3.0)
        network.output.weight.zero_()
    assert torch.all(network(torch.zeros(1, 1, 4, 4)) == -3.0)
