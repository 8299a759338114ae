import numpy as np
import pytest
import torch

from smlmkit.nn.inference import predict_image
from smlmkit.nn.unet import build_unet

CPU = torch.device("cpu")


@pytest.mark.parametrize("shape", [(301, 417), (512, 512), (33, 700)])
def test_tiled_equals_whole(shape):
    network = build_unet(depth=3, width=4, seed=0)
    counts = np.random.default_rng(0).poisson(0.1, shape).astype(np.float32)
    whole = predict_image(network, counts, CPU, tile=10_000)
    tiled = predict_image(network, counts, CPU, tile=64)
    assert whole.shape == shape
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-5 * np.abs(whole).max())


def test_whole_equals_the_network_itself():
    network = build_unet(depth=2, width=4, seed=0)
    counts = np.random.default_rng(0).poisson(0.1, (64, 48)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(counts)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(predict_image(network, counts, CPU), expected, atol=1e-5)


def test_an_image_smaller_than_one_pooling_cell():
    network = build_unet(depth=4, width=2, seed=0)
    assert predict_image(network, np.ones((1, 3), np.float32), CPU).shape == (1, 3)
