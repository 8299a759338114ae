"""Reading tables of localizations beside what reads the bare columns: seconds and memory.

python -m benchmarks.reading --json benchmarks/results/reading.json

One table (ThunderSTORM's ten columns; x and y with all their digits) is written as ThunderSTORM
CSV, Picasso HDF5 and Parquet. Each reading runs in a process of its own, so that its memory is its
own, after the imports and one reading of a small table; the contenders of a file take turns. The
peers read the same columns, and no more: smlmkit also converts units, checks every row and finds
the field of view. Polars is measured where it is installed.

Columns of the tables: `seconds`, the least, and `cpu seconds` of all threads in that reading; both
over the least of the peers (`times best peer`, `cpu times best peer`); `memory`, the most that the
process grows by (Linux only), in sizes of the columns that are kept.
"""

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.frc_worker import forget_peak_memory, memory_now
from benchmarks.rendering import as_markdown
from smlmkit import Localizations, read_localizations, write_localizations

SUFFIXES = {"ThunderSTORM CSV": ".csv", "Picasso HDF5": ".hdf5", "Parquet": ".parquet"}
PEERS = {
    "ThunderSTORM CSV": ("pandas", "pyarrow.csv", "polars"),
    "Picasso HDF5": ("h5py",),
    "Parquet": ("pyarrow.parquet",),
}
N_WARM_UP = 1000
PIXEL_SIZE = 100.0

Row = dict[str, Any]


def main() -> None:
    """Measure each file, print its table and write all of them to one file."""
    options = parse_options()
    if options.worker:
        print(json.dumps(measure_here(*options.worker)))
        return
    sections = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for file_format, suffix in SUFFIXES.items():
            files = [Path(folder, f"{name}{suffix}") for name in ("small", "large")]
            for file, n in zip(files, (N_WARM_UP, options.n), strict=True):
                write_localizations(make_table(n), file)
            size = files[1].stat().st_size
            title = f"{file_format}, {options.n:,} localizations, {size / 1e9:.2f} GB"
            sections[title] = measure_format(file_format, files, options.repeats)
            for file in files:
                file.unlink()
            print(f"\n{title}\n\n{as_markdown(sections[title])}", flush=True)
    record = {
        "machine": f"{platform.machine()}, {os.cpu_count()} threads",
        "versions": {name: version(name) for name in installed()},
        "options": {"n": options.n, "repeats": options.repeats},
        "sections": sections,
    }
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n")


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=10_000_000, help="localizations")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the files lie for a while")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


def installed() -> list[str]:
    """List what is measured here."""
    names = ["smlmkit", "numpy", "pandas", "pyarrow", "polars", "h5py"]
    return [name for name in names if importlib.util.find_spec(name)]


def make_table(n: int) -> Localizations:
    """Make the columns that ThunderSTORM writes, with random numbers."""
    rng = np.random.default_rng(0)
    edge = 40_000.0
    columns = {
        "id": np.arange(1, n + 1),
        "frame": np.sort(rng.integers(0, 50_000, n)),
        "x": rng.uniform(PIXEL_SIZE, edge, n),  # Picasso knows no positions below its origin
        "y": rng.uniform(PIXEL_SIZE, edge, n),
        "photons": rng.gamma(2, 500, n),
        "background": rng.gamma(5, 4, n),
        "bkgstd": rng.gamma(5, 1, n),
        "chi2": rng.gamma(50, 4, n),
    }
    sigma, uncertainty = rng.normal(130, 10, n), rng.gamma(8, 2, n)
    columns |= dict.fromkeys(("sigma_x", "sigma_y"), sigma)
    columns |= dict.fromkeys(("uncertainty_x", "uncertainty_y"), uncertainty)
    metadata = {"camera_pixel_size": PIXEL_SIZE}
    return Localizations(columns, field_of_view=(0, 0, edge, edge), metadata=metadata)


def measure_format(file_format: str, files: list[Path], repeats: int) -> list[Row]:
    """Read one file with each contender in turns; the best of their times counts."""
    peers = [name for name in PEERS[file_format] if importlib.util.find_spec(name.split(".")[0])]
    contenders = ["smlmkit", *peers]
    rounds = [[measure_apart(name, files) for name in contenders] for _ in range(repeats)]
    rows = []
    for name, measured in zip(contenders, zip(*rounds, strict=True), strict=True):
        best = min(measured, key=lambda row: row["seconds"])
        all_seconds = [round(row["seconds"], 4) for row in measured]
        rows.append({"reader": name, **best, "all_seconds": all_seconds})
    best_peer = {key: min(row[key] for row in rows[1:]) for key in ("seconds", "cpu_seconds")}
    for row in rows:
        row["times_best_peer"] = row["seconds"] / best_peer["seconds"]
        row["cpu_times_best_peer"] = row["cpu_seconds"] / best_peer["cpu_seconds"]
    return rows


def measure_apart(reader: str, files: list[Path]) -> Row:
    """Measure in a new process."""
    command = [sys.executable, "-m", "benchmarks.reading", "--worker", reader, *map(str, files)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    measured: Row = json.loads(done.stdout)
    return measured


def measure_here(reader: str, small: str, large: str) -> Row:
    """Measure one reading in this process."""
    read = make_reader(reader)
    read(small)
    before = forget_peak_memory()
    cpu_before, started = time.process_time(), time.perf_counter()
    result = read(large)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_before
    most = memory_now("VmHWM") - before
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "memory": most / bytes_of(result)}


def make_reader(name: str) -> Callable[[str], Any]:
    """Give a contender's call, its library imported."""
    if name == "smlmkit":
        return read_localizations
    if name == "h5py":
        import h5py

        def read_hdf5(path: str) -> Any:
            with h5py.File(path) as file:
                return file["locs"][()]

        return read_hdf5
    if name == "pyarrow.csv":
        from pyarrow import csv

        return csv.read_csv
    if name == "pyarrow.parquet":
        from pyarrow import parquet

        return parquet.read_table
    if name == "polars":
        import polars as pl

        return pl.read_csv
    import pandas as pd

    return pd.read_csv


def bytes_of(result: Any) -> int:
    """Give the bytes of the columns that a reader keeps."""
    if isinstance(result, Localizations):
        return sum({result[name].ctypes.data: result[name].nbytes for name in result}.values())
    if hasattr(result, "estimated_size"):
        return int(result.estimated_size())
    nbytes = getattr(result, "nbytes", None)
    return int(nbytes if nbytes is not None else result.memory_usage().sum())


if __name__ == "__main__":
    main()
