"""Speed of the parts: ``pytest benchmarks --benchmark-enable``; without it each runs once."""

import numpy as np
import pytest
import torch

from smlmkit import DynamicHalves, Localizations, Renderer
from smlmkit.grid import PixelGrid
from smlmkit.images import to_image
from smlmkit.nn.inference import predict_image
from smlmkit.nn.networks import build_network, specify_network
from smlmkit.resolution import frc_curve

N_MANY = 10_000_000
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def many():
    rng = np.random.default_rng(0)
    columns = {name: rng.uniform(0, 40_960, N_MANY) for name in ("x", "y")}
    columns["frame"] = np.arange(N_MANY) // 1000
    return Localizations(columns, field_of_view=(0, 0, 40_960, 40_960))


def test_histogram_of_ten_million(benchmark, many):
    image = benchmark(Renderer(pixel_size=10).transform, many)
    assert image.shape == (4096, 4096)
    assert image.values.sum(dtype=np.float64) == N_MANY


def test_split_of_ten_million(benchmark, many):
    first, second = benchmark(many.split, "frames")
    assert len(first) + len(second) == N_MANY


def test_crop_of_ten_million(benchmark, many):
    cropped = benchmark(many.crop, (0, 0, 20_480, 20_480))
    assert len(cropped) == pytest.approx(N_MANY / 4, rel=0.01)


def test_pairs_of_a_batch(benchmark, many):
    strategy = DynamicHalves()
    pairs = strategy.make_pairs([many.select(slice(200_000))], patch_size=64, pixel_size=10, seed=0)
    inputs, _ = benchmark(pairs.draw, 128)
    assert inputs.shape == (128, 1, 64, 64)


@pytest.mark.parametrize("tile", [256, 512, 1024])
def test_prediction_of_a_million_pixels(benchmark, tile):
    network = build_network(specify_network("unet", width=24), seed=0, intensity=1.0)
    network.to(memory_format=torch.channels_last)
    counts = np.random.default_rng(0).poisson(0.05, (1024, 1024)).astype(np.float32)
    output, _ = benchmark(predict_image, [network], [counts[np.newaxis]], CPU, tile=tile)
    assert output.shape == (1, *counts.shape)


def test_frc_of_four_million_pixels(benchmark):
    rng = np.random.default_rng(0)
    grid = PixelGrid((0, 0), 10, (2048, 2048))
    first, second = (to_image(rng.poisson(0.1, grid.shape).astype(np.float32), grid) for _ in "ab")
    assert abs(benchmark(frc_curve, first, second).area(0.2)) < 0.01
