"""Speed and memory of training with the paper's network and batch.

    python -m benchmarks.training_step --json benchmarks/results/training_step.json

Contenders, each a whole step (a batch, forward, backward, Adam) on the same network:
- plain: what one would write first. Crops are cut from the coordinates and binned by numpy, one
  after the other; torch takes its default memory layout and float32.
- float32, bfloat16, compiled: smlmkit's training, the last one in bfloat16 with ``compile=True``.
- ready float32, ready bfloat16: no pairs are drawn. A batch that is there already goes at once
  through a network compiled by torch, channels last: a measure of what the machine gives.

They take turns, and medians count. Then the cost of drawing pairs at several densities, beside the
steps; and the memory by which training grows a fresh process that holds the table (Linux only).
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.rendering import as_markdown, most_memory_of
from smlmkit import Localizations, make_microtubules
from smlmkit.nn.base import Network
from smlmkit.nn.devices import resolve_device
from smlmkit.nn.networks import build_network, specify_network
from smlmkit.nn.optimization import Optimization
from smlmkit.nn.pairs import Pairs
from smlmkit.nn.plan import TrainingPlan
from smlmkit.nn.training import train
from smlmkit.strategies import DynamicHalves

CONTENDERS = ("plain", "float32", "bfloat16", "compiled", "ready float32", "ready bfloat16")
DENSITIES = (200, 2_000, 20_000)
DENSITY = 2_000
PIXEL_SIZE = 10.0
KEEP = 0.95
LEARNING_RATE = 1e-4


def main() -> None:
    """Measure all, print tables and write them to a file."""
    options = parse_options()
    if options.memory_of:
        print(memory_of_training(options.memory_of, options))
        return
    print(
        f"batch {options.batch} of {options.patch} px, {options.width} filters, depth "
        f"{options.depth}, {resolve_device(options.device)}, {torch.get_num_threads()} threads"
    )
    steps = measure_steps(options)
    sections = {
        "A step of training": steps,
        "Drawing pairs": measure_drawing(options, steps),
        "Memory of training": measure_memory(options),
    }
    for title, rows in sections.items():
        print(f"\n### {title}\n\n{as_markdown(rows)}")
    if options.json is not None:
        write_record(sections, options)


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--patch", type=int, default=64, help="pixels along a patch's edge")
    parser.add_argument("--width", type=int, default=48, help="filters of the network")
    parser.add_argument("--depth", type=int, default=4, help="levels of the network")
    parser.add_argument("--fields", type=float, nargs="+", default=[10, 40], help="sizes in µm")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=CONTENDERS)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="where to write the tables, too")
    parser.add_argument("--memory-of", type=float, help=argparse.SUPPRESS)
    return parser.parse_args()


def write_record(sections: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> None:
    """Write the tables, and what they were measured with, as JSON."""
    shown = ("batch", "patch", "width", "depth", "fields", "repeats", "device")
    record = {
        "machine": f"{platform.machine()}, {os.cpu_count()} threads",
        "versions": {name: version(name) for name in ("smlmkit", "torch", "numpy")},
        "options": {name: getattr(options, name) for name in shown},
        "sections": sections,
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(record, indent=1) + "\n")


def measure_steps(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time the steps of all contenders in turns; the round before the first one warms up."""
    blinks = make_blinks(10, DENSITY)
    steps = {name: make_step(name, blinks, options) for name in options.contenders}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(options.repeats + 1):
        for name, step in steps.items():
            seconds[name].append(seconds_of(step))
    medians = {name: float(np.median(times[1:])) for name, times in seconds.items()}
    return [
        {
            "contender": name,
            "step_ms": 1e3 * median,
            "patches_per_s": options.batch / median,
            "times_plain": medians["plain"] / median if "plain" in medians else None,
            "share_of_ready": share_of_ready(name, medians),
            "all_seconds": seconds[name][1:],
        }
        for name, median in medians.items()
    ]


def share_of_ready(name: str, medians: dict[str, float]) -> float | None:
    """Give the speed beside a compiled step on a ready batch in the same precision, if measured."""
    precision = "bfloat16" if name in ("bfloat16", "compiled", "ready bfloat16") else "float32"
    ready = medians.get(f"ready {precision}")
    return None if ready is None else ready / medians[name]


def make_step(name: str, blinks: Localizations, options: argparse.Namespace) -> Callable[[], float]:
    """Make a contender: a call that learns from one batch and gives its loss."""
    if name == "plain":
        return make_plain_step(blinks, options)
    if name.startswith("ready"):
        return make_ready_step(name.removeprefix("ready "), blinks, options)
    precision = "float32" if name == "float32" else "bfloat16"
    plan = make_plan(options, precision=precision, compile=name == "compiled")
    device = resolve_device(options.device)
    optimization = Optimization(make_network(options), nn.SmoothL1Loss(), plan, device)
    pairs = make_pairs(blinks, options)
    return lambda: optimization.take_step(pairs.draw(options.batch), LEARNING_RATE).item()


def make_plain_step(blinks: Localizations, options: argparse.Namespace) -> Callable[[], float]:
    """Make the step that one would write first."""
    device = resolve_device(options.device)
    network = make_network(options).to(device).train()
    adam = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    rng = np.random.default_rng(0)

    def step() -> float:
        pairs = [draw_with_numpy(blinks, options.patch, rng) for _ in range(options.batch)]
        inputs, targets = torch.from_numpy(np.stack(pairs, axis=1)).to(device)
        adam.zero_grad()
        loss = nn.functional.smooth_l1_loss(network(inputs), targets)
        loss.backward()
        adam.step()
        return loss.item()

    return step


def draw_with_numpy(
    blinks: Localizations, n_px: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Draw a dynamic pair of shape (2, 1, n_px, n_px)."""
    half = n_px * PIXEL_SIZE / 2
    reach = math.sqrt(2) * half
    box = blinks.field_of_view
    centre_y = rng.uniform(box.y_min + reach, box.y_max - reach)
    centre_x = rng.uniform(box.x_min + reach, box.x_max - reach)
    near = (np.abs(blinks.y - centre_y) < reach) & (np.abs(blinks.x - centre_x) < reach)
    dy, dx = blinks.y[near] - centre_y, blinks.x[near] - centre_x
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.cos(angle) * dy - np.sin(angle) * dx, np.sin(angle) * dy + np.cos(angle) * dx
    x *= rng.choice((-1, 1))
    lot = rng.random(len(y)) / KEEP
    edges = np.linspace(-half, half, n_px + 1)
    halves = (lot < 0.5, (lot >= 0.5) & (lot < 1))
    counts = [np.histogram2d(y[taken], x[taken], bins=(edges, edges))[0] for taken in halves]
    return np.stack(counts)[:, np.newaxis].astype(np.float32)


def make_ready_step(
    precision: str, blinks: Localizations, options: argparse.Namespace
) -> Callable[[], float]:
    """Make a step of a compiled network on a batch that is there already."""
    device = resolve_device(options.device)
    layout = torch.channels_last
    network = make_network(options).to(device).to(memory_format=layout).train()
    adam = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    compiled = torch.compile(network, dynamic=False)
    batch = make_pairs(blinks, options).draw(options.batch)
    inputs, targets = (
        torch.from_numpy(images).to(device, memory_format=layout) for images in batch
    )

    def step() -> float:
        adam.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            outputs = compiled(inputs)
        loss = nn.functional.smooth_l1_loss(outputs.float(), targets)
        loss.backward()
        adam.step()
        return loss.item()

    return step


def measure_drawing(
    options: argparse.Namespace, steps: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Time the drawing of a batch at several densities, beside the measured steps."""
    rows = []
    for density in DENSITIES:
        pairs = make_pairs(make_blinks(10, density), options)
        times = [seconds_of(partial(pairs.draw, options.batch)) for _ in range(21)]
        median = float(np.median(times[1:]))  # the first draw compiles
        shares = {
            f"share_of_{row['contender']}": 1e3 * median / row["step_ms"]
            for row in steps
            if row["contender"] in ("float32", "bfloat16", "compiled")
        }
        speed = options.batch / median
        rows.append({"per_µm2": density, "draw_ms": 1e3 * median, "pairs_per_s": speed, **shares})
    return rows


def measure_memory(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Give the memory of training on fields of several sizes, each in a process of its own."""
    names = ("batch", "patch", "width", "depth", "device")
    same = [text for name in names for text in (f"--{name}", str(getattr(options, name)))]
    rows = []
    for size in options.fields:
        program = [sys.executable, "-m", "benchmarks.training_step", "--memory-of", str(size)]
        done = subprocess.run([*program, *same], capture_output=True, text=True, check=True)
        rows.append(
            {
                "field_µm": size,
                "localizations": len(make_blinks(size, DENSITY)),
                "MiB": int(done.stdout) / 2**20,
            }
        )
    return rows


def memory_of_training(field_size: float, options: argparse.Namespace) -> int:
    """Give the bytes by which this process grows at most while it trains for three steps."""
    learn(make_blinks(2, 100), argparse.Namespace(**{**vars(options), "batch": 1}))  # loads code
    return most_memory_of(lambda blinks: learn(blinks, options), make_blinks(field_size, DENSITY))


def learn(blinks: Localizations, options: argparse.Namespace) -> None:
    """Train for three steps."""
    train(
        make_network(options),
        make_pairs(blinks, options),
        make_plan(options, max_samples=3 * options.batch),
        resolve_device(options.device),
        loss=nn.SmoothL1Loss(),
        show_progress=False,
    )


def make_blinks(field_size: float, density: float) -> Localizations:
    """Simulate a field of view of so many µm along an edge and localizations per µm²."""
    blinks, _ = make_microtubules(field_size=1e3 * field_size, density=density, random_state=0)
    return blinks


def make_pairs(blinks: Localizations, options: argparse.Namespace) -> Pairs:
    """Make dynamic pairs of one field of view."""
    strategy = DynamicHalves(keep=KEEP)
    return strategy.make_pairs([blinks], patch_size=options.patch, pixel_size=PIXEL_SIZE, seed=0)


def make_network(options: argparse.Namespace) -> Network:
    """Make the paper's network, or a smaller one."""
    spec = specify_network("unet", depth=options.depth, width=options.width)
    return build_network(spec, seed=0, intensity=1.0)


def make_plan(options: argparse.Namespace, **changes: Any) -> TrainingPlan:
    """Plan a training of the paper's batches."""
    plain = {
        "max_samples": 10**6,
        "max_seconds": None,
        "batch_size": options.batch,
        "learning_rate": LEARNING_RATE,
        "schedule": "constant",
    }
    return TrainingPlan(**{**plain, **changes})


def seconds_of(call: Callable[[], object]) -> float:
    """Time a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
