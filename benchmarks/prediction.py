"""Prediction of whole fields beside the network alone, and beside fields that are mostly empty.

python -m benchmarks.prediction --json benchmarks/results/prediction.json

The network alone is applied to one tile, in memory and laid out as is fastest, and nothing is cut
off; a field is predicted from its counts to the whole image. All take turns. `seconds` is the best
and `median` the median of the rounds; `cpu_seconds`, the least that a round took of all cores, is
less touched by others on the machine; `Mpx_per_s` is the image's pixels over `seconds`.

Four fifths of the fields `one cell` and `four cells` are empty. `difference` is the largest between
a smaller field in tiles and the network applied to all of it, as a share of the image's maximum.
Memory is the most that a process of its own grows by in a prediction, without the image (Linux
only); its fields hold the same cell.
"""

import argparse
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.rendering import as_markdown, most_memory_of
from smlmkit.nn.base import Network
from smlmkit.nn.devices import move_network
from smlmkit.nn.inference import predict_image
from smlmkit.nn.networks import build_network, specify_network

CPU = torch.device("cpu")
DENSITY = 0.1  # localizations per pixel
PRECISIONS = ("float32", "bfloat16")
# Of the side: y, x and radius of the cells. Together they are a fifth of the area.
CELLS = {
    "one cell": [(0.5, 0.5, 0.2523)],
    "four cells": [(y, x, 0.1262) for y, x in ((0.2, 0.3), (0.25, 0.75), (0.7, 0.2), (0.8, 0.7))],
}
CELL_PX = 800  # side of the cell for which memory is measured

Counts = NDArray[np.float32]
Row = dict[str, Any]


def main() -> None:
    """Measure times, differences and memory, print tables and write them to a file."""
    options = parse_options()
    network = make_network(options.depth, options.width)
    sections = {
        "speed": measure_speed(network, options.size, options.tiles, options.repeats),
        "differences": measure_differences(network, options.check_size),
        "memory": measure_memory(options.depth, options.width, options.memory_sizes),
    }
    for title, rows in sections.items():
        print(f"### {title}\n\n{as_markdown(rows)}\n")
    if options.json is not None:
        record = {
            "machine": f"{platform.machine()}, {os.cpu_count()} threads",
            "versions": {name: version(name) for name in ("smlmkit", "torch")},
            "options": {name: value for name, value in vars(options).items() if name != "json"},
            "sections": sections,
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(record, indent=1) + "\n")


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=4096, help="pixels along a field's edge")
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--tiles", type=int, nargs="+", default=[128, 256, 512, 1024])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--check-size", type=int, default=1024)
    parser.add_argument("--memory-sizes", type=int, nargs="+", default=[2048, 8192])
    parser.add_argument("--json", type=Path, help="where to write the tables, too")
    return parser.parse_args()


def make_network(depth: int, width: int) -> Network:
    """Make a U-Net whose output is not 0 where the input is."""
    network = build_network(specify_network("unet", depth=depth, width=width), 0, intensity=1.0)
    generator = torch.Generator().manual_seed(0)
    for name, values in network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(values, 0.1, 0.1, generator)
    return move_network(network, CPU)


def make_fields(size: int) -> dict[str, Counts]:
    """Make a full field and those that are empty around cells."""
    full = np.random.default_rng(0).poisson(DENSITY, (1, size, size)).astype(np.float32)
    y, x = np.ogrid[0 : 1 : size * 1j, 0 : 1 : size * 1j]
    fields = {"full": full}
    for name, cells in CELLS.items():
        is_inside = np.any([np.hypot(y - cy, x - cx) < r for cy, cx, r in cells], axis=0)
        fields[name] = full * is_inside
    return fields


def measure_speed(network: Network, size: int, tiles: list[int], repeats: int) -> list[Row]:
    """Time the network alone on tiles, and whole fields."""
    fields = make_fields(size)
    rows = []
    for precision in PRECISIONS:
        calls: dict[str, Callable[[], object]] = {}
        n_pixels = {}
        for tile in tiles:
            name = f"network alone, {tile} px"
            calls[name] = network_alone(network, fields["full"][:, :tile, :tile], precision)
            n_pixels[name] = tile**2
        for field, counts in fields.items():
            name = f"field, {field}"
            calls[name] = prediction(network, counts, precision)
            n_pixels[name] = size**2
        for name, times in time_in_turns(calls, repeats).items():
            seconds, cpu_seconds = zip(*times, strict=True)
            rows.append(
                {
                    "precision": precision,
                    "what": name,
                    "seconds": min(seconds),
                    "median": float(np.median(seconds)),
                    "cpu_seconds": min(cpu_seconds),
                    "Mpx_per_s": n_pixels[name] / min(seconds) / 1e6,
                    "Mpx_per_cpu_s": n_pixels[name] / min(cpu_seconds) / 1e6,
                }
            )
    return rows


def network_alone(network: Network, counts: Counts, precision: str) -> Callable[[], object]:
    """Give a call that applies the network to counts that are ready for it."""
    batch = torch.from_numpy(counts)[None].contiguous(memory_format=torch.channels_last)
    is_rough = precision != "float32"

    def call() -> object:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=is_rough):
            return network(batch)

    return call


def prediction(network: Network, counts: Counts, precision: str) -> Callable[[], object]:
    """Give a call that predicts a field."""
    return lambda: predict_image([network], [counts], CPU, precision=precision)


def time_in_turns(
    calls: dict[str, Callable[[], object]], repeats: int
) -> dict[str, list[tuple[float, float]]]:
    """Give the seconds, by the clock and of all cores, of every call in every round."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            started = time.perf_counter(), time.process_time()
            call()
            times[name].append((time.perf_counter() - started[0], time.process_time() - started[1]))
    return times


def measure_differences(network: Network, size: int) -> list[Row]:
    """Compare fields in tiles with the network applied to the whole."""
    rows = []
    for field, counts in make_fields(size).items():
        with torch.inference_mode():
            whole = network(torch.from_numpy(counts)[None])[0].clamp(min=0).numpy()
        tiled, _ = predict_image([network], [counts], CPU, tile=size // 4)
        difference = float(np.abs(tiled - whole).max() / whole.max())
        rows.append({"field": field, "pixels": size**2, "difference": difference})
    return rows


def measure_memory(depth: int, width: int, sizes: list[int]) -> list[Row]:
    """Predict fields of all sizes, each in a process of its own."""
    rows = []
    for size in sizes:
        fresh = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=fresh) as process:
            n_bytes = process.submit(memory_of, depth, width, size).result()
        rows.append({"pixels": size**2, "image_MiB": size**2 / 2**18, "MiB": n_bytes / 2**20})
    return rows


def memory_of(depth: int, width: int, size: int) -> int:
    """Give the bytes by which this process grows at most in a prediction, besides the image."""
    network = make_network(depth, width)
    counts = np.zeros((1, size, size), np.float32)
    cell = np.random.default_rng(0).poisson(DENSITY, 2 * (CELL_PX,))[: size // 2, : size // 2]
    counts[0, : len(cell), : len(cell)] = cell
    predict_image([network], [cell[None, :64, :64].astype(np.float32)], CPU)  # what torch loads
    most = most_memory_of(lambda field: predict_image([network], [field], CPU), counts)
    return most - counts.nbytes


if __name__ == "__main__":
    main()
