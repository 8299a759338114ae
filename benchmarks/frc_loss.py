"""The loss `AreaFRCLoss` beside dense masks: seconds and memory of a forward and a backward pass.

python -m benchmarks.frc_loss --json benchmarks/results/frc_loss.json

Contenders, all on the same rings, so that their losses are compared, too:
- smlmkit with the published modulus and no window, and with its defaults;
- masks as published: every image times a complex mask for each ring of the whole plane, of which
  the loss takes those up to the cutoff (Berberich et al. 2021, written anew in torch);
- the best that we know to make of masks: of the rings up to the cutoff, real, on the half plane,
  and summed by one matrix product for the whole batch.

They take turns; times are without the making of masks or ring numbers. Memory is the most that the
process grows by, on one thread, from the making of the loss to the gradient (Linux only).
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.rendering import as_markdown, most_memory_of
from smlmkit.nn.losses import AreaFRCLoss

CUTOFF = 0.2
DEFAULTS = "smlmkit, defaults"
BATCHES = (1, 4)
THREADS = (1, 2)
# Losses further apart than this are not of the same rings.
MAX_DIFFERENCE = 1e-4

Loss = Callable[[Tensor, Tensor], Tensor]


def main() -> None:
    """Measure every contender, print a table and write it to a file."""
    options = parse_options()
    rows = [row for n_images in BATCHES for row in measure(options.size, n_images, options.repeats)]
    print(as_markdown(rows))
    if options.json is not None:
        record = {
            "machine": f"{platform.machine()}, {os.cpu_count()} threads",
            "versions": {name: version(name) for name in ("smlmkit", "torch")},
            "options": {"size": options.size, "repeats": options.repeats, "cutoff": CUTOFF},
            "rows": rows,
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(record, indent=1) + "\n")


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512, help="pixels along an image's edge")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to write the table, too")
    return parser.parse_args()


def measure(size: int, n_images: int, repeats: int) -> list[dict[str, Any]]:
    """Give every contender's seconds, memory and loss."""
    images = make_images(size, n_images)
    memory = {method: memory_of(method, images) for method in CONTENDERS}
    losses = {method: make(size) for method, make in CONTENDERS.items()}
    values = {method: loss(*images).item() for method, loss in losses.items()}
    same_rings = [value for method, value in values.items() if method != DEFAULTS]
    if max(same_rings) - min(same_rings) > MAX_DIFFERENCE:
        raise SystemExit(f"the losses differ: {values}")
    return [
        {
            "images": n_images,
            "threads": threads,
            "method": method,
            "median_ms": 1e3 * float(np.median(seconds)),
            "best_ms": 1e3 * min(seconds),
            "MiB": memory[method] / 2**20,
            "loss": values[method],
        }
        for threads in THREADS
        for method, seconds in time_in_turns(losses, images, threads, repeats).items()
    ]


def make_images(size: int, n_images: int) -> tuple[Tensor, Tensor]:
    """Make predictions that need a gradient, and targets that share half of their variance."""
    generator = torch.Generator().manual_seed(0)
    signal, *noise = torch.rand(3, n_images, size, size, generator=generator)
    return (signal + noise[0]).requires_grad_(), signal + noise[1]


def time_in_turns(
    losses: dict[str, Loss], images: tuple[Tensor, Tensor], threads: int, repeats: int
) -> dict[str, list[float]]:
    """Give the seconds of every loss's steps; the round before the first one warms up."""
    torch.set_num_threads(threads)
    seconds: dict[str, list[float]] = {method: [] for method in losses}
    for _ in range(repeats + 1):
        for method, loss in losses.items():
            started = time.perf_counter()
            take_step(loss, images)
            seconds[method].append(time.perf_counter() - started)
    return {method: of_method[1:] for method, of_method in seconds.items()}


def take_step(loss: Loss, images: tuple[Tensor, Tensor]) -> None:
    """Compute the loss and its gradient."""
    torch.autograd.grad(loss(*images), images[0])


def memory_of(method: str, images: tuple[Tensor, Tensor]) -> int:
    """Give the bytes by which the process grows at most, from the making of the loss on."""
    torch.set_num_threads(1)
    take_step(CONTENDERS[method](16), make_images(16, 1))  # what torch itself loads and keeps
    size = images[0].shape[-1]
    return most_memory_of(lambda both: take_step(CONTENDERS[method](size), both), images)


def masks_as_published(size: int) -> Loss:
    """Make the published loss, but on rings around the zero frequency."""
    rings = torch.arange(1, size // 2 + 1)[:, None, None]
    masks = (ring_numbers(size) == rings).to(torch.complex64)

    def loss_of_one(prediction: Tensor, target: Tensor) -> Tensor:
        f, g = torch.fft.fft2(prediction), torch.fft.fft2(target)
        shared, f_power, g_power = (
            (masks * product).mean((1, 2)).abs()
            for product in (f * g.conj(), f * f.conj(), g * g.conj())
        )
        correlation = shared / (f_power * g_power).sqrt()
        return 1 - correlation[: int(CUTOFF * size)].mean()

    def loss(predictions: Tensor, targets: Tensor) -> Tensor:
        return torch.stack([*map(loss_of_one, predictions, targets)]).mean()

    return loss


def masks_in_one_product(size: int) -> Loss:
    """Make a loss that multiplies all images by one matrix of masks."""
    n_columns = size // 2 + 1
    rings = torch.arange(1, int(CUTOFF * size) + 1)[:, None, None]
    is_own_mirror = torch.isin(2 * torch.arange(n_columns), torch.tensor([0, size]))
    weights = torch.where(is_own_mirror, 1.0, 2.0)
    masks = ((ring_numbers(size)[:, :n_columns] == rings) * weights).flatten(1).T.contiguous()

    def loss(predictions: Tensor, targets: Tensor) -> Tensor:
        f, g = torch.fft.rfft2(predictions), torch.fft.rfft2(targets)
        products = torch.stack([(f * g.conj()).real, f.abs().square(), g.abs().square()])
        shared, f_power, g_power = products.flatten(-2) @ masks
        return 1 - (shared.abs() / (f_power * g_power).sqrt()).mean()

    return loss


def ring_numbers(size: int) -> Tensor:
    """Give the ring of every frequency of a square image."""
    frequency = torch.fft.fftfreq(size, dtype=torch.float64)
    return torch.hypot(frequency[:, None], frequency).mul(size).round()


CONTENDERS: dict[str, Callable[[int], Loss]] = {
    "smlmkit": lambda _size: AreaFRCLoss(CUTOFF, signed=False, window=None),
    DEFAULTS: lambda _size: AreaFRCLoss(),
    "masks as published": masks_as_published,
    "masks in one matrix product": masks_in_one_product,
}


if __name__ == "__main__":
    main()
