import numpy as np
import pytest
import torch

from smlmkit.errors import InvalidInputError
from smlmkit.nn.inference import predict_image
from smlmkit.nn.networks import build_network, specify_network

CPU = torch.device("cpu")
NETWORKS = {
    "U-Net": {"kind": "unet", "depth": 2, "width": 4},
    "deeper U-Net of 3 slices": {"kind": "unet", "depth": 3, "width": 3, "n_slices": 3},
    "residual U-Net": {"kind": "unet", "depth": 2, "width": 4, "residual": True},
    "normalised U-Net": {"kind": "unet", "depth": 2, "width": 4, "norm": "batch"},
    "pix2pix": {"kind": "pix2pix", "depth": 3, "width": 4},
    "pix2pix of one level": {"kind": "pix2pix", "depth": 1, "width": 4, "n_slices": 2},
}
# As rows and columns of the image: which parts hold counts.
FULL = (np.s_[:, :],)
CORNERS = (np.s_[:9, :7], np.s_[-30:, -5:])
SCATTERED = (np.s_[10:14, 80:120], np.s_[60:90, 20:21], np.s_[150:, 200:203])


def make_network(seed=0, **spec):
    """Make a network whose output varies, also where the input is empty."""
    network = build_network(specify_network(**spec), seed, intensity=2.0)
    generator = torch.Generator().manual_seed(seed)
    for name, values in network.named_parameters():
        spread = (2 / values[0].numel()) ** 0.5 if values.ndim == 4 else 0.3
        torch.nn.init.normal_(values, 1.0 if "norm.weight" in name else 0.0, spread, generator)
    for name, values in network.named_buffers():
        if name.endswith("running_var"):
            torch.nn.init.uniform_(values, 0.5, 2.0, generator)
    return network


def make_counts(n_slices, shape, parts, seed=0):
    counts = np.zeros((n_slices, *shape), np.float32)
    rng = np.random.default_rng(seed)
    for part in parts:
        counts[:, *part] = rng.poisson(0.2, counts[:, *part].shape)
    return counts


def opinions_of_whole(networks, images, orientations):
    """Apply the networks to whole images; an orientation is quarter turns and then mirroring."""
    multiple = networks[0].multiple
    height, width = images[0].shape[1:]

    def outputs(network, counts, n_turns, mirror):
        padded = np.pad(counts, ((0, 0), (0, -height % multiple), (0, -width % multiple)))
        seen = np.rot90(padded, n_turns, (1, 2))
        seen = (seen[:, ::-1] if mirror else seen).copy()
        with torch.no_grad():
            output = network(torch.from_numpy(seen)[None])[0].numpy()
        output = output[:, ::-1] if mirror else output
        return np.maximum(np.rot90(output, -n_turns, (1, 2)), 0)[:, :height, :width]

    return np.array(
        [
            outputs(network, counts, *orientation)
            for network in networks
            for counts in images
            for orientation in orientations
        ]
    )


def assert_equal_but_for_rounding(image, expected):
    assert image.shape == expected.shape
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, expected, rtol=0, atol=5e-6 * np.abs(expected).max())


@pytest.mark.parametrize("parts", [FULL, CORNERS, SCATTERED, ()])
@pytest.mark.parametrize("shape", [(201, 217), (33, 260), (1, 3)])
@pytest.mark.parametrize("spec", NETWORKS.values(), ids=NETWORKS)
def test_tiled_equals_whole(spec, shape, parts):
    network = make_network(**spec)
    counts = make_counts(network.n_slices, shape, parts)
    (expected,) = opinions_of_whole([network], [counts], [(0, False)])
    for tile in (64, None):
        image, deviation = predict_image([network], [counts], CPU, tile=tile)
        assert_equal_but_for_rounding(image, expected)
        assert deviation is None


@pytest.mark.parametrize("parts", [FULL, SCATTERED])
@pytest.mark.parametrize("tta", [False, True])
@pytest.mark.parametrize("kind", ["unet", "pix2pix"])
def test_mean_and_deviation_of_opinions(kind, tta, parts):
    networks = [make_network(kind=kind, depth=2, width=3, seed=seed) for seed in range(2)]
    images = [make_counts(1, (109, 130), parts, seed=seed) for seed in range(2)]
    # What one image lacks, another may hold.
    images[0][:, :30] = 0
    orientations = [(n, mirror) for n in range(4 if tta else 1) for mirror in {False, tta}]
    opinions = opinions_of_whole(networks, images, orientations)
    mean, deviation = predict_image(networks, images, CPU, tta=tta, return_deviation=True, tile=64)
    assert_equal_but_for_rounding(mean, opinions.mean(axis=0))
    expected = np.abs(opinions - opinions.mean(axis=0)).mean(axis=0)
    np.testing.assert_allclose(deviation, expected, rtol=0, atol=5e-6 * opinions.max())
    assert expected.max() > 0.1 * opinions.max()


def pixels_seen(network, counts):
    """Count the pixels that a network is applied to in a prediction."""
    areas = []
    hook = network.register_forward_pre_hook(
        lambda _network, arguments: areas.append(arguments[0][0, 0].numel())
    )
    predict_image([network], [counts], CPU, tile=160)
    hook.remove()
    return sum(areas)


def test_empty_parts_cost_next_to_nothing():
    network = make_network(kind="unet", depth=2, width=1)
    empty, one_cell, two_cells, full = (
        pixels_seen(network, make_counts(1, (480, 480), parts))
        for parts in ((), (np.s_[:200, 320:],), (np.s_[:140, :140], np.s_[340:, 40:180]), FULL)
    )
    assert empty == (2 * network.halo + network.multiple) ** 2
    assert one_cell < full / 3
    assert two_cells < full / 3
    assert full < 1.6 * 480**2


def test_what_is_not_finite_is_handed_on():
    network = make_network(kind="unet", depth=2, width=2)
    counts = make_counts(1, (100, 100), ())
    counts[0, 50, 50] = np.nan
    image, _ = predict_image([network], [counts], CPU)
    assert np.isnan(image[0, 50, 50])
    assert np.isfinite(image[0, 0]).all()
    with torch.no_grad():
        network.output.bias.fill_(np.inf)
    image, _ = predict_image([network], [counts], CPU)
    assert not np.isfinite(image).any()


def test_fewer_digits():
    network = make_network(kind="unet", depth=2, width=4)
    counts = make_counts(1, (150, 130), (np.s_[:80, :],))
    exact, _ = predict_image([network], [counts], CPU)
    rough, _ = predict_image([network], [counts], CPU, precision="bfloat16")
    assert rough.dtype == np.float32
    assert 0 < np.abs(rough - exact).max() < 0.03 * exact.max()


def test_unknown_precisions_are_refused():
    network = make_network(kind="unet", depth=1, width=1)
    with pytest.raises(InvalidInputError, match=r"float32.*got 'double'"):
        predict_image([network], [make_counts(1, (4, 4), FULL)], CPU, precision="double")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu():
    network = make_network(kind="unet", depth=2, width=4)
    counts = make_counts(1, (201, 217), SCATTERED)
    expected, _ = predict_image([network], [counts], CPU, tta=True)
    image, _ = predict_image([network.cuda()], [counts], torch.device("cuda"), tta=True)
    np.testing.assert_allclose(image, expected, rtol=0, atol=1e-3 * expected.max())
