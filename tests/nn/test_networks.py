import itertools
import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from smlmkit.errors import InvalidInputError
from smlmkit.nn.networks import (
    NetworkSpec,
    build_network,
    network_without_weights,
    specify_network,
)

SMALL = [
    specify_network(kind, depth=2, width=4, norm=norm, residual=residual, n_slices=2)
    for kind in ("unet", "pix2pix", "light")
    for norm, residual in (("none", False), ("batch", True))
]
NORMALISED = [spec for spec in SMALL if spec.norm == "batch"]
each_network = pytest.mark.parametrize("spec", SMALL, ids=str)
each_normalised = pytest.mark.parametrize("spec", NORMALISED, ids=str)


def random_counts(*shape, seed=0):
    rates = torch.full(shape, 0.5)
    return torch.poisson(rates, generator=torch.Generator().manual_seed(seed))


def trained_a_little(spec, seed=0):
    """Give a network whose running statistics are no longer those of no data."""
    network = build_network(spec, seed, intensity=2).train()
    for step in range(3):
        network(random_counts(4, spec.n_slices, 32, 32, seed=step))
    return network.eval()


class TestSpecify:
    def test_knows_what_the_papers_chose(self):
        assert specify_network("unet") == NetworkSpec("unet", 4, 48, "none", False, 1)
        assert specify_network("pix2pix") == NetworkSpec("pix2pix", 8, 64, "batch", False, 1)

    def test_keeps_what_is_given_as_plain_values(self):
        spec = specify_network(
            "unet",
            depth=np.int64(3),
            width=np.int32(7),
            norm=np.str_("batch"),
            residual=np.bool_(True),
            n_slices=np.uint8(5),
        )
        assert spec == NetworkSpec("unet", 3, 7, "batch", True, 5)
        assert NetworkSpec(**json.loads(json.dumps(asdict(spec)))) == spec

    @pytest.mark.parametrize(
        ("choices", "message"),
        [
            ({"kind": "resnet"}, "network must be 'unet', 'pix2pix' or 'light', got 'resnet'"),
            ({"kind": ["unet"]}, r"network must be .*, got \['unet'\]"),
            ({"depth": 0}, "depth must be a whole number from 1 to 8, got 0"),
            ({"depth": 9}, "depth must be .*, got 9"),
            ({"depth": True}, "depth must be .*, got True"),
            ({"width": 1025}, "width must be a whole number from 1 to 1,024, got 1025"),
            ({"width": 2.5}, "width must be .*, got 2.5"),
            ({"n_slices": 257}, "n_slices must be a whole number from 1 to 256, got 257"),
            ({"norm": "layer"}, "norm must be 'none' or 'batch', got 'layer'"),
            ({"residual": "no"}, "residual must be True or False, got 'no'"),
        ],
    )
    def test_refuses_what_it_does_not_know(self, choices, message):
        with pytest.raises(InvalidInputError, match=message):
            specify_network(**{"kind": "unet", **choices})


class TestBuild:
    @each_network
    def test_same_seed_same_weights(self, spec):
        first, again, other = (
            build_network(spec, seed, intensity=2).state_dict() for seed in (0, 0, 1)
        )
        assert all(torch.equal(first[name], again[name]) for name in first)
        last = next(name for name in first if name.endswith("output.weight"))
        assert not torch.equal(first[last], other[last])

    @each_network
    def test_and_training_leave_the_global_random_state_alone(self, spec):
        before = torch.get_rng_state()
        network = build_network(spec, 0, intensity=2).train()
        network(random_counts(2, 2, 16, 16)).sum().backward()
        assert torch.equal(torch.get_rng_state(), before)

    @each_network
    def test_gives_a_network_ready_to_predict_with_all_values_set(self, spec):
        network = build_network(spec, 0, intensity=2)
        assert not any(module.training for module in network.modules())
        assert (network.multiple, network.n_slices) == (8 if spec.kind == "light" else 4, 2)
        assert network.halo % network.multiple == 0
        assert all(torch.isfinite(tensor).all() for tensor in network.state_dict().values())

    @each_network
    def test_only_pix2pix_has_randomness_in_training(self, spec):
        network = build_network(spec, 0, intensity=2)
        assert bool(network.get_random_state()) == (spec.kind == "pix2pix")

    @pytest.mark.parametrize("intensity", [0, -1, float("nan"), "bright"])
    def test_refuses_an_intensity_that_is_none(self, intensity):
        with pytest.raises(InvalidInputError, match="intensity must be a positive number"):
            build_network(SMALL[0], 0, intensity)


class TestWithoutWeights:
    @each_network
    def test_takes_no_memory_until_it_is_completed(self, spec):
        trained, loaded = trained_a_little(spec), network_without_weights(spec)
        tensors = [*loaded.parameters(), *loaded.buffers()]
        assert all(tensor.is_meta for tensor in tensors)
        loaded.load_state_dict(trained.state_dict(), assign=True)
        assert not any(tensor.is_meta for tensor in [*loaded.parameters(), *loaded.buffers()])
        counts = random_counts(1, 2, 16, 16)
        assert torch.equal(loaded(counts), trained(counts))

    def test_leaves_the_global_random_state_alone(self):
        before = torch.get_rng_state()
        network_without_weights(specify_network("pix2pix"))
        assert torch.equal(torch.get_rng_state(), before)


class TestPrediction:
    @each_network
    def test_in_tiles_equals_the_whole(self, spec):
        network = trained_a_little(spec).double()
        counts = random_counts(1, 2, 64, 104).double()
        tile, halo = 8, network.halo
        tiled = torch.full_like(counts, torch.nan)
        with torch.inference_mode():
            whole = network(counts)
            for top, left in itertools.product(range(0, 64, tile), range(0, 104, tile)):
                row, column = max(top - halo, 0), max(left - halo, 0)
                output = network(counts[..., row : top + tile + halo, column : left + tile + halo])
                tiled[..., top : top + tile, left : left + tile] = output[
                    ..., top - row : top - row + tile, left - column : left - column + tile
                ]
        torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-12)

    @each_network
    @pytest.mark.parametrize("keep", [(slice(8, 24), slice(40, 64)), (slice(3, 8), slice(0, 37))])
    def test_of_a_part_is_that_part(self, spec, keep):
        network = trained_a_little(spec).double()
        counts = random_counts(1, 2, 32, 64).double()
        with torch.inference_mode():
            part, whole = network(counts, keep), network(counts)
        torch.testing.assert_close(part, whole[(..., *keep)], rtol=0, atol=1e-12)

    @each_network
    def test_is_repeatable_and_changes_nothing(self, spec):
        network = trained_a_little(spec)
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        random_state = network.get_random_state()
        counts = random_counts(2, 2, 16, 16)
        assert torch.equal(network(counts), network(counts))
        assert network.get_random_state() == random_state
        after = network.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)

    @each_normalised
    def test_of_an_image_does_not_depend_on_those_beside_it(self, spec):
        network = trained_a_little(spec)
        counts = random_counts(3, 2, 16, 16)
        counts[1:] *= 10
        with torch.no_grad():
            alone, together = network(counts[:1]), network(counts)[:1]
            torch.testing.assert_close(alone, together)
            # In training they do, so it is the running statistics that keep them apart.
            network.train()
            first, second = network(counts)[:1], network(counts[:1])
        assert (first - second).abs().max() > 1e-3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@each_network
def test_on_a_gpu_predicts_alike_and_leaves_the_global_random_state_alone(spec):
    network, counts = trained_a_little(spec), random_counts(1, 2, 32, 32)
    expected = network(counts)
    network.cuda()
    torch.testing.assert_close(network(counts.cuda()).cpu(), expected, rtol=1e-2, atol=1e-2)
    before = torch.cuda.get_rng_state()
    network.train()
    random_state = network.get_random_state()
    first = network(counts.cuda())
    network.set_random_state(random_state)
    torch.testing.assert_close(network(counts.cuda()), first)
    assert torch.equal(torch.cuda.get_rng_state(), before)
