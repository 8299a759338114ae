"""Rendering beside its peers: seconds and, for Gaussians, distance from exact integration.

    benchmarks/install_peers.sh DIR
    SMLMKIT_TEST_DATA=... python -m benchmarks.rendering --peers DIR

Without --peers it measures smlmkit alone, without SMLMKIT_TEST_DATA no real field. The contenders
of a section take turns, and the best of their times counts, so that a busy moment of the machine
hits them alike. A call starts with the columns as its library takes them in memory and ends with
the image; compilation is not measured.

Columns of the tables: `times ours`, seconds over those of smlmkit with as many threads;
`offset px`, between the centres of mass of the image and the exact one; `misplaced`, half the sum
of the absolute errors over the mass, which is the share in wrong pixels; `max error` over the exact
maximum; `mass error` over the mass. Exact are counts in float64 and, for some localizations away
from the border, Gaussians integrated over each pixel without a cut. `images of memory`: the most
memory that a call holds besides its input, in sizes of its image; `times published speed`: the
published code was not run here, see PUBLISHED_SECONDS_PER_PIXEL.
"""

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import erf
from sklearn.base import clone

from benchmarks.frc_worker import forget_peak_memory, memory_now
from benchmarks.real_microtubules import read_counts
from smlmkit import (
    AdaptiveKDE,
    AnisotropicKDE,
    GaussianKDE,
    Localizations,
    PixelGrid,
    Renderer,
    to_image,
)

PIXEL_SIZE = 10.0
TILE_PX = 256
THREADS = (1, 2)
# What each section asks of `peers_worker`: task and threads.
HISTOGRAM_PEERS = (
    ("np.histogram2d", 1),
    ("np.bincount", 1),
    ("fast-histogram", 1),
    ("boost-histogram", 1),
    ("boost-histogram", 2),
    ("Picasso", 1),
    ("SMAPpy", 1),
    ("SMAPpy", 2),
)
GAUSSIAN_PEERS = (
    ("Picasso Gaussian", 1),
    ("SMAPpy Gaussian", 1),
    ("SMAPpy Gaussian", 2),
    ("SMAPpy Gaussian to 4 sigma", 1),
    ("SMAPpy Gaussian to 4 sigma", 2),
)
# An image more than this off is on another grid, and its time says nothing.
MAX_OFFSET_PX = 0.25
# Exact integration ends here, where a Gaussian holds 1e-15 of its mass beyond.
EXACT_SIGMAS = 8
N_EXACT = 20_000
# Neighbourhoods of all localizations of a dense image would take hours, and shape nothing.
MAX_OCCUPANCY = 0.2
# What the anisotropic density estimate published with Berberich et al. 2021 takes on a machine of
# this kind: 233 s for 303,000 occupied pixels were measured, about a millisecond for most fields.
PUBLISHED_SECONDS_PER_PIXEL = 233 / 303_000

Row = dict[str, Any]
Image = NDArray[Any]


def main() -> None:
    """Measure every section, print its table and write all of them to one file."""
    options = parse_options()
    n_gaussians, gaussian_size = options.n // 10, options.size // 2
    points = make_points(options.n, options.size)
    blinks = make_blinks(n_gaussians, gaussian_size)
    run = Run(options.peers, options.repeats)
    measurements = {
        f"Histogram of {describe(options.n, options.size)}, random order": (
            lambda: measure_histogram(run, points, options.size)
        ),
        f"Histogram of {describe(options.n, options.size)}, sorted by tiles of {TILE_PX} px": (
            lambda: measure_histogram(run, sort_by_tile(points), options.size)
        ),
        f"Gaussians of their own widths, {describe(n_gaussians, gaussian_size)}": (
            lambda: measure_gaussian(run, blinks, gaussian_size)
        ),
    }
    if options.data is not None:
        field = crop_middle(read_counts(options.data / "spot04_sub.png"), options.size)
        measurements["Density estimates of a real sparse field"] = lambda: measure_densities(
            Renderer(PIXEL_SIZE).transform(field), options.repeats
        )
    dense = make_dense_counts(gaussian_size)
    measurements[f"Density estimates of a dense image, {gaussian_size} x {gaussian_size} px"] = (
        lambda: measure_densities(dense, options.repeats)
    )
    measurements["Memory"] = lambda: measure_memory(points, blinks)
    sections = {}
    for title, measure in measurements.items():
        sections[title] = measure()
        print(f"### {title}\n\n{as_markdown(sections[title])}\n", flush=True)
    record = {
        "machine": f"{platform.machine()}, {os.cpu_count()} threads",
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("smlmkit", "numpy", "numba")},
        },
        "versions_of_peers": run.versions_of_peers,
        "options": {k: v for k, v in vars(options).items() if k not in ("peers", "data", "out")},
        "sections": sections,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1) + "\n")


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path, help="the environment install_peers.sh made")
    parser.add_argument(
        "--n", type=int, default=10_000_000, help="points in a histogram; Gaussians: a tenth"
    )
    parser.add_argument(
        "--size", type=int, default=4096, help="pixels along a histogram's edge; Gaussians: half"
    )
    data = os.environ.get("SMLMKIT_TEST_DATA")
    parser.add_argument("--data", type=Path, default=Path(data) / "frcnet" if data else None)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/rendering.json"))
    return parser.parse_args()


def describe(n: int, size: int) -> str:
    """Say how many localizations lie on which image."""
    return f"{n:,} localizations on {size:,} x {size:,} px"


def make_points(n: int, size: int) -> Localizations:
    """Make points anywhere in the field of view, in random order."""
    rng = np.random.default_rng(0)
    edge = size * PIXEL_SIZE
    columns = {name: rng.uniform(0, edge, n) for name in ("x", "y")}
    return Localizations(columns, field_of_view=(0, 0, edge, edge))


def sort_by_tile(table: Localizations) -> Localizations:
    """Sort by square tiles, row by row; within a tile the order stays."""
    tile = TILE_PX * PIXEL_SIZE
    order = np.lexsort((table.x // tile, table.y // tile))
    columns = {"x": table.x[order], "y": table.y[order]}
    return Localizations(columns, field_of_view=table.field_of_view)


def make_blinks(n: int, size: int) -> Localizations:
    """Make localizations anywhere, each of its own uncertainty: 13 nm on average."""
    rng = np.random.default_rng(1)
    edge = size * PIXEL_SIZE
    columns = {name: rng.uniform(0, edge, n) for name in ("x", "y")}
    uncertainty = np.clip(rng.gamma(8, 13 / 8, n), 3, 60)
    columns.update(uncertainty_x=uncertainty, uncertainty_y=uncertainty)
    return Localizations(columns, field_of_view=(0, 0, edge, edge))


class Run:
    """How to measure: where the peers are, how often; and the versions found there."""

    def __init__(self, peers: Path | None, repeats: int) -> None:
        self.peers = peers
        self.repeats = repeats
        self.versions_of_peers: dict[str, str] = {}

    def contenders(
        self,
        stack: ExitStack,
        mode: str,
        tasks: Sequence[tuple[str, int]],
        table: Localizations,
        size: int,
    ) -> "list[Contender]":
        """Give ours for each number of threads and, where there are peers, their tasks."""
        contenders = [ours(mode, threads, table) for threads in THREADS]
        if self.peers is not None:
            worker = stack.enter_context(PeersWorker(self.peers, table, size))
            self.versions_of_peers = worker.versions
            contenders += [worker.contender(task, threads) for task, threads in tasks]
        return contenders


@dataclass
class Contender:
    """One way to render: its call's seconds, and the image of one more call."""

    method: str
    threads: int
    seconds: Callable[[], float]
    image: Callable[[], Image]


def ours(mode: str, threads: int, table: Localizations) -> Contender:
    """Render with smlmkit."""
    renderer = Renderer(pixel_size=PIXEL_SIZE, mode=mode, n_threads=threads)
    return Contender("smlmkit", threads, *timed(renderer, table))


class PeersWorker:
    """`peers_worker` in the peers' environment, on one table; ends with its context."""

    def __init__(self, environment: Path, table: Localizations, size: int) -> None:
        self._stack = ExitStack()
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        data = self._folder / "table.npz"
        columns = {name: table[name] for name in table.columns}
        np.savez(data, pixel_size=PIXEL_SIZE, size=size, **columns)
        command = [environment / "bin" / "python", Path(__file__).with_name("peers_worker.py")]
        pipe = subprocess.PIPE
        self._process = self._stack.enter_context(
            subprocess.Popen([*command, data], stdin=pipe, stdout=pipe, text=True)
        )
        self.versions: dict[str, str] = self._answer()

    def __enter__(self) -> "PeersWorker":
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def contender(self, task: str, threads: int) -> Contender:
        """Render with a peer."""

        def image() -> Image:
            path = self._folder / "image.npy"
            self._ask(task, threads, str(path))
            return np.load(path)

        return Contender(task, threads, lambda: self._ask(task, threads, None), image)

    def _ask(self, task: str, threads: int, image: str | None) -> float:
        print(
            json.dumps({"task": task, "threads": threads, "image": image}),
            file=self._process.stdin,
            flush=True,
        )
        return self._answer()["seconds"]

    def _answer(self) -> Any:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the peers' worker ended; its error stands above")
        return json.loads(line)


def measure_histogram(run: Run, table: Localizations, size: int) -> list[Row]:
    """Time histograms; compare with counts in float64."""
    row, column = ((values / PIXEL_SIZE).astype(np.int64) for values in (table.y, table.x))
    exact = np.bincount(row * size + column, minlength=size * size).reshape(size, size)
    with ExitStack() as stack:
        contenders = run.contenders(stack, "histogram", HISTOGRAM_PEERS, table, size)
        rows = time_in_turns(contenders, run.repeats)
        add_ratios(rows)
        for measured, contender in zip(rows, contenders, strict=True):
            measured |= compare(contender.image(), exact, contender.method)
    return rows


def measure_gaussian(run: Run, table: Localizations, size: int) -> list[Row]:
    """Time Gaussians of their own widths; compare those of some localizations with exact ones."""
    with ExitStack() as stack:
        contenders = run.contenders(stack, "gaussian", GAUSSIAN_PEERS, table, size)
        rows = time_in_turns(contenders, run.repeats)
        add_ratios(rows)
    few = inner_rows(table, N_EXACT)
    exact = integrate_exactly(few, size)
    with ExitStack() as stack:
        contenders = run.contenders(stack, "gaussian", GAUSSIAN_PEERS, few, size)
        for measured, contender in zip(rows, contenders, strict=True):
            image = contender.image()
            measured |= compare(image, exact, contender.method)
            measured["max_error"] = float(np.abs(image - exact).max() / exact.max())
            measured["mass_error"] = float((image - exact).sum() / exact.sum())
    return rows


def crop_middle(field: Localizations, size: int) -> Localizations:
    """Crop the middle of a field to at most so many pixels a side."""
    edge = size * PIXEL_SIZE
    _, _, height, width = field.field_of_view
    top, left = (
        max(0.0, (side - edge) // (2 * PIXEL_SIZE) * PIXEL_SIZE) for side in (height, width)
    )
    return field.crop((top, left, top + edge, left + edge))


def make_dense_counts(size: int) -> xr.DataArray:
    """Make an image without an empty pixel."""
    counts = 1 + np.random.default_rng(2).poisson(3, (size, size))
    return to_image(counts.astype(np.float32), PixelGrid((0, 0), PIXEL_SIZE, counts.shape))


def measure_densities(counts: xr.DataArray, repeats: int) -> list[Row]:
    """Time density estimates of an image of counts, and set them beside the published code."""
    estimates = {
        "AnisotropicKDE, berberich": AnisotropicKDE(mode="berberich"),
        "AnisotropicKDE, integrated": AnisotropicKDE(),
        "AdaptiveKDE": AdaptiveKDE(),
        "GaussianKDE": GaussianKDE(),
    }
    if np.count_nonzero(counts) < MAX_OCCUPANCY * counts.size:
        estimates["AnisotropicKDE, neighbors"] = AnisotropicKDE(support="neighbors")
    contenders = [
        Contender(method, threads, *timed(clone(kde).set_params(n_threads=threads), counts))
        for method, kde in estimates.items()
        for threads in THREADS
    ]
    rows = time_in_turns(contenders, repeats)
    n_occupied = int(np.count_nonzero(counts))
    for row in rows:
        row["occupied_pixels"] = n_occupied
        row["us_per_occupied_pixel"] = row["seconds"] / n_occupied * 1e6
        row["times_published_speed"] = PUBLISHED_SECONDS_PER_PIXEL * n_occupied / row["seconds"]
    return rows


def measure_memory(points: Localizations, blinks: Localizations) -> list[Row]:
    """Measure the most memory that each way to an image holds besides its input."""
    counts = Renderer(PIXEL_SIZE).transform(blinks)
    ways = {
        "histogram": (Renderer(PIXEL_SIZE), points),
        "Gaussians": (Renderer(PIXEL_SIZE, "gaussian", sigma=13), points),
        "average of shifted histograms": (Renderer(PIXEL_SIZE, "average_shifted"), points),
        "GaussianKDE": (GaussianKDE(), counts),
        "AnisotropicKDE, integrated": (AnisotropicKDE(), counts),
        "AnisotropicKDE, berberich": (AnisotropicKDE(mode="berberich"), counts),
        "AnisotropicKDE, neighbors": (AnisotropicKDE(support="neighbors"), counts),
        "AdaptiveKDE": (AdaptiveKDE(), counts),
    }
    rows = []
    for method, (transformer, sample) in ways.items():
        image = transformer.transform(sample)
        row = {"method": method, "pixels": image.size, "samples": count(sample)}
        row["images_of_memory"] = most_memory_of(transformer.transform, sample) / image.nbytes
        rows.append(row)
    return rows


def count(sample: Localizations | xr.DataArray) -> int:
    """Count a table's rows or an image's occupied pixels."""
    return len(sample) if isinstance(sample, Localizations) else int(np.count_nonzero(sample))


def most_memory_of(call: Callable[[Any], Any], argument: Any) -> int:
    """Give the bytes by which the process grows at most during a call (Linux only)."""
    before = forget_peak_memory()
    result = call(argument)
    most = memory_now("VmHWM")
    del result
    return most - before


def timed(transformer: Any, sample: Any) -> tuple[Callable[[], float], Callable[[], Image]]:
    """Give a call that times a transformer on a sample, and one that gives its image."""

    def seconds() -> float:
        started = time.perf_counter()
        transformer.transform(sample)
        return time.perf_counter() - started

    return seconds, lambda: transformer.transform(sample).values


def time_in_turns(contenders: Sequence[Contender], repeats: int) -> list[Row]:
    """Time every contender once a round; the round before the first one warms up."""
    rounds = [[contender.seconds() for contender in contenders] for _ in range(repeats + 1)]
    rows: list[Row] = []
    for contender, seconds in zip(contenders, zip(*rounds[1:], strict=True), strict=True):
        rows.append(
            {
                "method": contender.method,
                "threads": contender.threads,
                "seconds": min(seconds),
                "all_seconds": [round(one, 5) for one in seconds],
            }
        )
    return rows


def add_ratios(rows: list[Row]) -> None:
    """Add every contender's time over that of smlmkit with as many threads."""
    of_ours = {row["threads"]: row["seconds"] for row in rows if row["method"] == "smlmkit"}
    for row in rows:
        row["times_ours"] = row["seconds"] / of_ours[row["threads"]]


def inner_rows(table: Localizations, n: int) -> Localizations:
    """Choose the first n whose exact Gaussian lies in the image: borders are treated variously."""
    field = table.field_of_view
    reach_y = EXACT_SIGMAS * table["uncertainty_y"]
    reach_x = EXACT_SIGMAS * table["uncertainty_x"]
    inside = (table.y - reach_y >= field.y_min) & (table.y + reach_y < field.y_max)
    inside &= (table.x - reach_x >= field.x_min) & (table.x + reach_x < field.x_max)
    if not inside.any():
        raise SystemExit("no Gaussian lies in the image as a whole: take a larger --n or --size")
    columns = {name: table[name][inside][:n] for name in table.columns}
    return Localizations(columns, field_of_view=field)


def integrate_exactly(table: Localizations, size: int) -> NDArray[np.float64]:
    """Add up every localization's Gaussian, integrated over each pixel in float64."""
    image = np.zeros((size, size))
    axes_y = zip(table.y, table["uncertainty_y"], strict=True)
    axes_x = zip(table.x, table["uncertainty_x"], strict=True)
    for along_y, along_x in zip(axes_y, axes_x, strict=True):
        rows, shares_y = integrate_axis(*along_y)
        columns, shares_x = integrate_axis(*along_x)
        image[rows, columns] += np.outer(shares_y, shares_x)
    return image


def integrate_axis(center: float, sigma: float) -> tuple[slice, NDArray[np.float64]]:
    """Give the pixels along an axis that a Gaussian reaches, and its share in each."""
    first = int((center - EXACT_SIGMAS * sigma) // PIXEL_SIZE)
    last = int((center + EXACT_SIGMAS * sigma) // PIXEL_SIZE)
    edges = np.arange(first, last + 2) * PIXEL_SIZE
    shares = np.diff(erf((edges - center) / (np.sqrt(2) * sigma))) / 2
    return slice(first, last + 1), shares


def compare(image: Image, exact: Image, method: str) -> Row:
    """Give the offset and the share of mass in wrong pixels; stop at an image on another grid."""
    if image.shape != exact.shape:
        raise SystemExit(f"{method}: the image has {image.shape} pixels, not {exact.shape}")
    offset = float(np.linalg.norm(center_of_mass(image) - center_of_mass(exact)))
    if offset > MAX_OFFSET_PX:
        raise SystemExit(f"{method}: the image lies {offset:.3g} px from where it should")
    misplaced = np.abs(image - exact).sum(dtype=np.float64) / 2 / exact.sum()
    return {"offset_px": offset, "misplaced": float(misplaced)}


def center_of_mass(image: Image) -> NDArray[np.float64]:
    """Give the centre of mass (row, column) in pixels."""
    sums = [image.sum(axis=axis, dtype=np.float64) for axis in (1, 0)]
    return np.array([np.average(np.arange(len(s)), weights=s) for s in sums])


def as_markdown(rows: Sequence[Row]) -> str:
    """Write rows as a table; the single times are for the file alone."""
    names = [name for name in rows[0] if name != "all_seconds"]
    lines = [names, ["---"] * len(names)]
    lines += [[as_text(row[name]) for name in names] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines).replace("_", " ")


def as_text(value: object) -> str:
    """Write a number with three digits, anything else as it is."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
