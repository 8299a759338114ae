"""Folders and tiles: what worker processes gain, what the machinery costs, how many jobs it takes.

SMLMKIT_TEST_DATA=... python -m benchmarks.batches --json benchmarks/results/batches.json

`workers`: eight real fields (see `benchmarks.real_microtubules`), reconstructed and scored as a
folder by one and by two worker processes of one thread that have warmed up. Best of the rounds.
`client_cpu_s` is what this process, with Dask's client and scheduler, took of the cores beside two
workers.

`overhead`: simulated fields, all in two threads of one process. `kernels` has each tile's
localizations in memory and keeps no image; `kernels and Zarr` also writes each tile as
`reconstruct_field` does, by Zarr alone; `reconstruct_field` sorts, reads, writes, and books. CPU
seconds, in which the shares of others on the machine do not show; best of the rounds.

`scheduling`: tiles whose estimator does nothing, in this process and on two workers. Memory is that
of this process, which holds ledger, client and scheduler, after each fifth of the tiles.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import make_pipeline

from benchmarks.large_field import write_points
from benchmarks.real_microtubules import read_counts
from benchmarks.rendering import as_markdown
from smlmkit import (
    AnisotropicKDE,
    Localizations,
    N2NReconstructor,
    PixelGrid,
    Renderer,
    reconstruct_field,
    reconstruct_folder,
    to_image,
    write_localizations,
)
from smlmkit.batch.cluster import local_workers
from smlmkit.batch.events import Progress
from smlmkit.batch.plan import layouts_of, places_worth_work, plan_field
from smlmkit.batch.points import sort_by_tiles
from smlmkit.images import images_of
from smlmkit.io.ome_zarr import open_level
from smlmkit.io.ome_zarr_creation import create_ome_zarr
from smlmkit.tiling import TileNeeds

Row = dict[str, Any]
PIXEL_SIZE = 10.0


def main() -> None:
    """Measure, print tables and write them to a file."""
    options = parse_options()
    sections: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        if "workers" in options.sections:
            sections["workers"] = measure_workers(folder, options.samples, options.repeats)
        if "overhead" in options.sections:
            sections["overhead"] = measure_overhead(folder, options.size, options.repeats)
        if "scheduling" in options.sections:
            sections["scheduling"] = measure_scheduling(folder, options.tiles)
    for title, rows in sections.items():
        print(f"### {title}\n\n{as_markdown(rows)}\n")
    if options.json is not None:
        record = {
            "machine": f"{platform.machine()}, {os.cpu_count()} threads",
            "versions": {name: version(name) for name in ("smlmkit", "dask", "zarr", "torch")},
            "options": {
                name: value
                for name, value in vars(options).items()
                if name not in ("json", "folder")
            },
            "sections": sections,
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(record, indent=1) + "\n")


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    sections = ["workers", "overhead", "scheduling"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sections", nargs="+", choices=sections, default=sections)
    parser.add_argument("--samples", type=int, default=256, help="that the network sees")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--size", type=int, default=8192, help="pixels of the field for overhead")
    parser.add_argument("--tiles", type=int, default=100_000, help="tiles without work")
    parser.add_argument("--folder", type=Path, help="where to write, by default a temporary one")
    parser.add_argument("--json", type=Path, help="where to write the tables, too")
    return parser.parse_args()


def measure_workers(folder: Path, samples: int, repeats: int) -> list[Row]:
    """Time a folder of real fields on one and on two workers."""
    acquisitions = folder / "acquisitions"
    acquisitions.mkdir()
    files = sorted(Path(os.environ["SMLMKIT_TEST_DATA"], "frcnet").glob("*_sub.png"))
    tables = {file.stem: read_counts(file) for file in files[:7]}
    tables["spot04_again"] = tables["spot04_sub"]  # the published fields are seven
    for name, table in tables.items():
        write_localizations(table, acquisitions / f"{name}.parquet")
    network = N2NReconstructor(
        network="light", patch_size=128, batch_size=16, learning_rate=1e-3, max_samples=samples,
        device="cpu", random_state=0, verbose=False,
    )  # fmt: skip
    work = {
        "rendering, KDE": make_pipeline(Renderer(PIXEL_SIZE), AnisotropicKDE(scale=2)),
        "Noise2Noise": network.fit(list(tables.values())),
    }
    best: dict[str, dict[int, float]] = {name: {} for name in work}
    best_client: dict[str, float] = {}
    for n_workers in (1, 2):  # one after the other, for workers at rest are not quite at rest
        with local_workers(n_workers, n_threads=1) as client:
            for name, estimator in work.items():
                for turn in range(repeats + 1):
                    with tempfile.TemporaryDirectory(dir=folder) as out:
                        started, cpu_before = time.perf_counter(), time.process_time()
                        summary = reconstruct_folder(
                            estimator, acquisitions, out, client=client, progress=False
                        )
                        seconds = time.perf_counter() - started
                        cpu = time.process_time() - cpu_before
                    assert (summary["status"] == "done").all(), summary["error"].tolist()
                    if turn and seconds < best[name].get(n_workers, float("inf")):
                        best[name][n_workers] = seconds  # the first one warms the workers up
                        best_client[name] = cpu
    return [
        {
            "eight real fields": name,
            "one_worker_s": seconds[1],
            "two_workers_s": seconds[2],
            "times_as_fast": seconds[1] / seconds[2],
            "client_cpu_s": best_client[name],
        }
        for name, seconds in best.items()
    ]


def measure_overhead(folder: Path, size: int, repeats: int) -> list[Row]:
    """Compare the CPU time of a field with that of what it is made of."""
    density_estimate = make_pipeline(
        Renderer(PIXEL_SIZE, n_threads=1), AnisotropicKDE(scale=2, n_threads=1)
    )
    small = simulate_field(folder, size // 4)
    network = N2NReconstructor(
        network="light", patch_size=128, batch_size=16, max_samples=32, device="cpu",
        random_state=0, verbose=False,
    ).fit(small)  # fmt: skip
    table = simulate_field(folder, size)
    rows = []
    for name, estimator, source in (
        ("density estimate", density_estimate, table),
        ("density estimate", density_estimate, times_as_dense(table, 8)),
        ("light network", network, small),
    ):
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            parts = measure_parts(Path(scratch), source, estimator, repeats)
        rows += [{"estimator": name, **part} for part in parts]
    return rows


def simulate_field(folder: Path, size: int) -> Localizations:
    """Draw filaments in a field of so many pixels a side."""
    write_points(folder / "field.parquet", size * PIXEL_SIZE)
    return sort_by_tiles(folder / "field.parquet", folder / "sorted.parquet").load()


def times_as_dense(table: Localizations, times: int) -> Localizations:
    """Put more localizations where there are some: structures as they are later in a movie."""
    random = np.random.default_rng(0)
    columns = {
        name: (table[name] + random.normal(0, 15, (times, len(table)))).ravel() for name in "yx"
    }
    box = table.field_of_view
    return Localizations(
        {
            "y": columns["y"].clip(box.y_min, box.y_max - 1),
            "x": columns["x"].clip(box.x_min, box.x_max - 1),
        },
        field_of_view=box,
    )


def measure_parts(folder: Path, table: Localizations, estimator: Any, repeats: int) -> list[Row]:
    """Time the parts of the work on one field."""
    points = sort_by_tiles(table, folder / "sorted.parquet")
    work = plan_field(estimator, points, (folder / "bare.ome.zarr",), tile=1024, halo=None)
    places = places_worth_work(work)
    tables = [points.read(work.grid, work.tiles.tile(*place).read) for place in places]
    create_ome_zarr(work.images[0], layouts_of(work)[0])
    pixels = open_level(work.images[0], 0)

    def compute(number: int) -> Any:
        return images_of(estimator, tables[number])

    def compute_and_write(number: int) -> None:
        tile = work.tiles.tile(*places[number])
        pixels[tile.write] = compute(number).to_numpy()[tile.crop]

    def in_two_threads(do: Callable[[int], Any]) -> None:
        with ThreadPoolExecutor(2) as pool:
            deque(pool.map(do, range(len(places))), maxlen=0)

    def run_field(source: Any, pyramid: Any) -> None:
        with tempfile.TemporaryDirectory(dir=folder) as out:
            store = Path(out, "field.ome.zarr")
            reconstruct_field(estimator, source, store, tile=1024, pyramid=pyramid)

    calls: dict[str, Callable[[], None]] = {
        "kernels": lambda: in_two_threads(compute),
        "kernels and Zarr": lambda: in_two_threads(compute_and_write),
        "reconstruct_field, points are sorted": lambda: run_field(points, None),
        "reconstruct_field, one level": lambda: run_field(table, None),
        "reconstruct_field, pyramid": lambda: run_field(table, "mean"),
    }
    best = dict.fromkeys(calls, float("inf"))
    for turn in range(repeats + 1):
        for name, call in calls.items():
            started = time.process_time()
            call()
            if turn:
                best[name] = min(best[name], time.process_time() - started)
    per_pixel = len(table) / np.prod(work.grid.shape)
    return [
        {
            "localizations_per_pixel": float(per_pixel),
            "what": name,
            "cpu_s": seconds,
            "cpu_ms_a_tile": 1000 * seconds / len(places),
            "of_kernels": seconds / best["kernels"],
            "of_kernels_and_Zarr": seconds / best["kernels and Zarr"],
        }
        for name, seconds in best.items()
    ]


class Nothing(TransformerMixin, BaseEstimator):
    """Make an empty image of a table, and have every tile ask for it."""

    def fit(self, X: Any, y: None = None) -> "Nothing":  # noqa: ARG002
        """Learn nothing."""
        return self

    def transform(self, X: Localizations) -> Any:
        """Give an image of zeros."""
        grid = PixelGrid.covering(X.field_of_view, PIXEL_SIZE)
        return to_image(np.zeros(grid.shape, np.float32), grid)

    def tile_needs(self, facts: Any) -> TileNeeds:  # noqa: ARG002
        """Ask for every tile."""
        return TileNeeds(pixel_size=PIXEL_SIZE, empty_is_zero=False)


class MemoryWatch(Progress):
    """Note this process's memory after every fifth of the first stage, and the stage's time."""

    def __init__(self) -> None:
        super().__init__()
        self.MiB: list[float] = []
        self.seconds = 0.0

    @contextmanager
    def stage(self, label: str, total: int, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Watch a stage."""
        n_done, is_first = 0, not self.MiB
        started = time.perf_counter()
        with super().stage(label, total, *args, **kwargs) as advance:

            def count(n: int) -> None:
                nonlocal n_done
                n_done += n
                if is_first and n_done * 5 // total > (n_done - n) * 5 // total:
                    self.MiB.append(psutil.Process().memory_info().rss / 2**20)
                advance(n)

            yield count
        if is_first:
            self.seconds = time.perf_counter() - started


def measure_scheduling(folder: Path, n_tiles: int) -> list[Row]:
    """Count how many tiles a second there can be."""
    side = 256 * int(np.ceil(n_tiles**0.5)) * PIXEL_SIZE
    table = Localizations(np.array([[1.0, 1.0]]), field_of_view=(0, 0, side, side))
    rows = []
    for n_workers in (0, 2):
        with ExitStack() as stack:
            client = stack.enter_context(local_workers(n_workers)) if n_workers else None
            watch = MemoryWatch()
            store = folder / f"nothing_{n_workers}.ome.zarr"
            made = reconstruct_field(
                Nothing(), table, store, tile=256, client=client, pyramid=None, progress=watch
            )
        rows.append(
            {
                "tiles_without_work": made.n_tiles,
                "workers": n_workers or "2 threads",
                "seconds": watch.seconds,
                "tiles_per_s": made.n_tiles / watch.seconds,
                "client_MiB": ", ".join(f"{value:.0f}" for value in watch.MiB),
            }
        )
    return rows


if __name__ == "__main__":
    main()
