"""What emitters that blink often do to the FRC resolution, and what corrects it.

Simulated fields of filaments and of Gaussian clusters with uncertainty 10 nm: each emitter blinks a
geometric number of times in a burst. The reference has as many localizations, each of an emitter of
its own, so that nothing is spurious. A split or a correction that gives a smaller resolution than
the reference claims too much.

    python -m benchmarks.spurious_correlation
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from smlmkit import Localizations, frc_curve, make_microtubules
from smlmkit.simulate.blinks import draw_blink_counts, draw_frames

FIELD_SIZE, PIXEL_SIZE, UNCERTAINTY = 6000.0, 5.0, 10.0
STRUCTURES = ("filaments", "clusters of 60 nm", "clusters of 30 nm")


def main() -> None:
    """Measure every structure, density and number of blinks; print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--densities", type=float, nargs="+", default=[200, 1000, 4000])
    parser.add_argument("--blinks", type=float, nargs="+", default=[1, 2, 5, 15])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/spurious.json"))
    options = parser.parse_args()
    rows = []
    for structure in STRUCTURES:
        for density in options.densities:
            for blinks in options.blinks:
                each = pd.DataFrame(
                    measure(structure, density, blinks, seed) for seed in range(options.seeds)
                )
                case = {"structure": structure, "per µm²": density, "blinks": blinks}
                rows.append({**case, "true Q": 2 * (blinks - 1), **each.mean().to_dict()})
                rows[-1]["resolved"] = float(each["corrected"].notna().mean())
    table = pd.DataFrame(rows)
    print(table.round(2).to_string(index=False))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(table.to_json(orient="records", double_precision=4, indent=1) + "\n")


def measure(structure: str, density: float, blinks: float, seed: int) -> dict[str, float]:
    """Give the resolution (nm) of one field by every split, and the estimated Q."""
    table = simulate(structure, density, blinks, seed)
    reference = simulate(structure, density, 1.0, seed + 1000)
    options = {"pixel_size": PIXEL_SIZE, "random_state": seed}
    corrected = frc_curve(table, split="random", q_correction=True, **options)
    return {
        "reference": frc_curve(reference, split="random", **options).resolution,
        "random": frc_curve(table, split="random", **options).resolution,
        "corrected": corrected.resolution,
        "frames": frc_curve(table, split="frames", **options).resolution,
        "Q": corrected.q,
    }


def simulate(structure: str, density: float, blinks: float, seed: int) -> Localizations:
    """Draw a field of view."""
    if structure == "filaments":
        return make_microtubules(
            field_size=FIELD_SIZE,
            n_filaments=6,
            density=density,
            uncertainty=UNCERTAINTY,
            blinks_per_emitter=blinks,
            random_state=seed,
        )[0]
    width = float(structure.split()[-2])
    rng, old_rng = np.random.default_rng(seed), np.random.RandomState(seed)
    centres = rng.uniform(300, FIELD_SIZE - 300, size=(100, 2))
    counts = draw_blink_counts(int(density * FIELD_SIZE**2 / 1e6), blinks, old_rng)
    emitters = centres[rng.integers(100, size=len(counts))]
    emitters = emitters + rng.normal(scale=width, size=emitters.shape)
    xy = np.repeat(emitters, counts, axis=0)
    x, y = (xy + rng.normal(scale=UNCERTAINTY, size=xy.shape)).T
    return Localizations(
        {
            "x": x,
            "y": y,
            "frame": draw_frames(counts, 10_000, old_rng),
            "uncertainty_x": np.full(len(x), UNCERTAINTY),
        },
        field_of_view=(-100, -100, FIELD_SIZE + 100, FIELD_SIZE + 100),
    )


if __name__ == "__main__":
    main()
