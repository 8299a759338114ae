"""How long 10^7 blinks of every kind of structure take, and what memory they need.

    python -m benchmarks.simulation --json benchmarks/results/simulation.json

Each kind in a process of its own that has made a few blinks before: CPU seconds of one core, how
far its largest memory grows, and that memory in sizes of the table. `raster_ms` is the truth at
2 nm of a tile of 2560 nm in the middle of the field; the first tile also measures the whole
structure.
"""

import argparse
import json
import platform
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.rendering import as_markdown
from smlmkit import (
    FieldOfView,
    Localizations,
    make_actin,
    make_microtubules,
    make_primitives,
    make_two_filaments,
)
from smlmkit.simulate import Truth

FIELD_SIZE = 50_000.0
TILE = 2560.0
MAKERS: dict[str, Callable[..., tuple[Localizations, Truth]]] = {
    "microtubules, 20": make_microtubules,
    "microtubules, 500, thick": lambda **options: make_microtubules(
        n_filaments=500, thickness=25, **options
    ),
    "actin": make_actin,
    "primitives, 4,000": lambda **options: make_primitives(n_primitives=4000, **options),
    "two filaments": lambda **options: make_two_filaments(60, **options),
}


def main() -> None:
    """Measure, print a table and write it to a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blinks", type=float, default=1e7)
    parser.add_argument("--json", type=Path, help="where to write the table, too")
    options = parser.parse_args()
    rows = []
    for name in MAKERS:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            rows.append(pool.submit(measure, name, round(options.blinks)).result())
    print(as_markdown(rows))
    if options.json is not None:
        record = {
            "machine": platform.machine(),
            "versions": {name: version(name) for name in ("smlmkit", "numpy")},
            "rows": rows,
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")


def measure(name: str, n_blinks: int) -> dict[str, Any]:
    """Simulate one kind and draw a tile of its truth."""
    make = MAKERS[name]
    _, few = make(field_size=FIELD_SIZE, density=1, random_state=0)
    few.image(100.0)
    before = peak_memory()
    started = time.process_time()
    table, truth = make(
        field_size=FIELD_SIZE, density=n_blinks / (FIELD_SIZE / 1000) ** 2, random_state=0
    )
    seconds = time.process_time() - started
    grown = peak_memory() - before
    corner = (FIELD_SIZE - TILE) / 2
    tile = FieldOfView(corner, corner, corner + TILE, corner + TILE)
    raster_ms = []
    for _ in range(2):
        started = time.process_time()
        truth.image(2.0, field_of_view=tile)
        raster_ms.append(1000 * (time.process_time() - started))
    return {
        "structure": name,
        "blinks": len(table),
        "cpu_s": seconds,
        "memory_MiB": grown / 2**20,
        "of_table": grown / sum(table[column].nbytes for column in table),
        "first_raster_ms": raster_ms[0],
        "raster_ms": raster_ms[1],
    }


def peak_memory() -> int:
    """Give the largest memory that this process has had, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
