"""A field of view of 100,000 x 100,000 pixels, from localizations to a pyramid.

python -m benchmarks.large_field --folder /some/disk --json benchmarks/results/large_field.json

Simulated filaments, one localization on 100 pixels of 10 nm (10^8 for 100,000 x 100,000), are
written as Parquet, then histogram and anisotropic density estimate go to an OME-Zarr. Each size
runs in processes of its own; memory is the most that any of them ever had in RAM (VmHWM, Linux
only).
"""

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.pipeline import make_pipeline

from benchmarks.rendering import as_markdown
from smlmkit import AnisotropicKDE, Renderer, make_microtubules, reconstruct_field
from smlmkit.batch.cluster import local_workers
from smlmkit.batch.events import Progress

PIXEL_SIZE = 10.0
PER_PIXEL = 0.01
BLOCK_SIZE = 50_000.0  # nm
N_BLOCKS = 8  # different ones, mirrored and turned

Row = dict[str, Any]


def main() -> None:
    """Run every size, print the table and write it to a file."""
    options = parse_options()
    rows = []
    for size in options.sizes:
        for workers in options.workers:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
                rows.append(
                    alone.submit(
                        run_size, size, workers, options.tile, options.folder, options.keep
                    ).result()
                )
            print(as_markdown(rows[-1:]), flush=True)
    print(as_markdown(rows))
    if options.json is not None:
        record = {
            "machine": f"{platform.machine()}, {os.cpu_count()} threads",
            "versions": {name: version(name) for name in ("smlmkit", "zarr", "pyarrow", "dask")},
            "options": {
                name: value
                for name, value in vars(options).items()
                if name not in ("json", "folder", "keep")
            },
            "sections": {"large field": rows},
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(record, indent=1) + "\n")


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[20_000, 100_000], help="in pixels")
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--workers", type=int, nargs="+", default=[2], help="0: this process")
    parser.add_argument("--folder", type=Path, required=True, help="with 60 GB for 100,000 pixels")
    parser.add_argument("--keep", action="store_true", help="leave points and image there")
    parser.add_argument("--json", type=Path, help="where to write the table, too")
    return parser.parse_args()


def run_size(size: int, workers: int, tile: int, folder: Path, keep: bool) -> Row:
    """Simulate, reconstruct, and say what it took."""
    points, store = folder / f"points_{size}.parquet", folder / f"field_{size}.ome.zarr"
    started = time.perf_counter()
    n_points = write_points(points, size * PIXEL_SIZE)
    simulated = time.perf_counter()
    estimator = make_pipeline(Renderer(PIXEL_SIZE), AnisotropicKDE(scale=2))
    times: dict[str, float] = {}
    with ExitStack() as stack:
        client = stack.enter_context(local_workers(workers)) if workers else None
        reconstruct_field(
            estimator, points, store, tile=tile, client=client, progress=Stopwatch(times)
        )
        peaks = [peak_memory(process) for process in processes_of_this_run()]
    finished = time.perf_counter()
    row = {
        "pixels": f"{size:,} x {size:,}",
        "localizations": n_points,
        "workers": workers,
        "simulate_s": simulated - started,
        "reconstruct_s": finished - simulated,
        "tiles_s": times["tiles"],
        "pyramid_s": sum(seconds for name, seconds in times.items() if name.startswith("level")),
        "Mpx_per_s": size**2 / (finished - simulated) / 1e6,
        "largest_process_MiB": max(peaks) / 2**20,
        "store_GB": sum(file.stat().st_size for file in store.rglob("*") if file.is_file()) / 1e9,
    }
    if not keep:
        points.unlink()
        shutil.rmtree(store)
    return row


class Stopwatch(Progress):
    """Keep the time that each stage takes."""

    def __init__(self, times: dict[str, float]) -> None:
        super().__init__()
        self.times = times

    @contextmanager
    def stage(self, label: str, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Time a stage."""
        started = time.perf_counter()
        with super().stage(label, *args, **kwargs) as advance:
            yield advance
        self.times[label] = time.perf_counter() - started


def write_points(path: Path, side: float) -> int:
    """Write the localizations of a square field of filaments, block by block."""
    note = {"version": 1, "field_of_view": [0, 0, side, side], "metadata": {}}
    schema = pa.schema(
        {"x": pa.float64(), "y": pa.float64()}, metadata={b"smlmkit": json.dumps(note)}
    )
    n_points = 0
    with pq.ParquetWriter(path, schema) as writer:
        for y, x in blocks(side):
            writer.write_table(pa.table({"x": x, "y": y}, schema=schema))
            n_points += len(y)
    return n_points


def blocks(side: float) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Give the localizations of blocks of filaments that cover a square."""
    block = min(BLOCK_SIZE, side)
    density = PER_PIXEL / (PIXEL_SIZE / 1000) ** 2  # per square micrometre
    samples = [
        make_microtubules(field_size=block, n_filaments=60, density=density, random_state=seed)[0]
        for seed in range(N_BLOCKS)
    ]
    random = np.random.default_rng(0)
    for top in np.arange(0, side, block):
        for left in np.arange(0, side, block):
            sample = samples[random.integers(N_BLOCKS)]
            y, x = sample.y, sample.x
            if random.random() < 0.5:
                y, x = x, y
            is_inside = (y + top < side) & (x + left < side)
            yield (y + top)[is_inside], (x + left)[is_inside]


def processes_of_this_run() -> list[psutil.Process]:
    """List this process and those that it started."""
    own = psutil.Process()
    return [own, *own.children(recursive=True)]


def peak_memory(process: psutil.Process) -> int:
    """Give the most bytes that a process ever had in RAM."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main()
