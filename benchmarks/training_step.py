"""What drawing pairs costs beside a training step with the paper's network and batch.

python -m benchmarks.training_step
"""

import argparse
import time

import numpy as np
import torch

from smlmkit import make_filaments
from smlmkit.nn.pairs import DynamicPairs
from smlmkit.nn.training import TrainingBudget, resolve_device, train
from smlmkit.nn.unet import build_unet


def main() -> None:
    """Time both at several densities and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = resolve_device(options.device)
    print(
        f"paper's network, batch {options.batch} of 64 px, {device}, "
        f"{torch.get_num_threads()} threads"
    )
    print("localizations/µm²  draw (ms)  step (ms)  share of step  pairs/s drawn")
    for density in (200, 2_000, 20_000):
        pairs = make_pairs(density)
        draw = seconds_per_draw(pairs, options.batch)
        step = seconds_per_step(pairs, options.batch, options.steps, device)
        print(
            f"{density:17,d}  {1e3 * draw:9.2f}  {1e3 * step:9.0f}  {draw / step:13.3%}  "
            f"{options.batch / draw:13,.0f}"
        )


def make_pairs(density: float) -> DynamicPairs:
    """Make the pairs of one simulated field of view."""
    blinks, _ = make_filaments(field_size=10_000, density=density, random_state=0)
    fields = [(blinks.y, blinks.x, blinks.field_of_view)]
    return DynamicPairs(fields, patch_size=64, pixel_size=10.0, keep=0.95, seed=0)


def seconds_per_draw(pairs: DynamicPairs, batch: int) -> float:
    """Give the median time of a draw; the first one compiles."""
    times = []
    for _ in range(21):
        start = time.perf_counter()
        pairs.draw(batch)
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))


def seconds_per_step(pairs: DynamicPairs, batch: int, n_steps: int, device: torch.device) -> float:
    """Give the median time of a whole step: draw, forward, backward, update."""
    network = build_unet(depth=4, width=48, seed=0)
    budget = TrainingBudget((n_steps + 1) * batch, None, batch, 1e-4, "constant")
    history = train(network, pairs, budget, device, show_progress=False)
    return float(np.median(np.diff(history.seconds)))


if __name__ == "__main__":
    main()
