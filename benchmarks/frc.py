"""Fourier ring correlation of two images, beside its peers and the two transforms it needs.

    benchmarks/install_peers.sh DIR
    python -m benchmarks.frc --peers DIR

Without --peers it measures smlmkit, the bare transforms and masks alone. The images are the halves
of simulated filaments, counted to pixels. Every method has a process of its own, held to as many
cores as it may use threads; `frc_worker` says what a call is. The processes take turns, so that a
busy moment of the machine hits them alike; one that has used up PATIENCE_S takes no more.

Columns of the tables: `seconds` is the best and `median` the median of the calls after the `first`,
which alone sets up what a library keeps for further images of this shape (where patience allowed
only one call, it is that one); `times limit` and `times ours`, seconds over those of the transforms
and of smlmkit with as many threads; `images of memory`, the most memory that the first call holds
besides its images, in sizes of one of them in float32; `area`, the mean correlation above 0 and up
to 0.2 cycles per pixel; `difference`, the largest between the curve and that of smlmkit for the
same images under the same window.

Only rings round(|k|) are ours. Picasso and Locan collect k <= |k| < k + 1 in ring k; Picasso leaves
out the last row and column of an even image and tapers by its own mask; NanoPyx interpolates the
products of spectra along circles and smooths the curve. Their curves are not comparable ring by
ring, so `area` alone tells that they see the same images.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.signal.windows import tukey

from benchmarks.rendering import Row, as_markdown
from smlmkit import Renderer
from smlmkit.metrics.rings import TUKEY_ALPHA, ring_correlation
from smlmkit.simulate import make_microtubules

PIXEL_SIZE = 10.0
AREA_CUTOFF = 0.2
PATIENCE_S = 60
CORES = sorted(os.sched_getaffinity(0))
LIMIT, OURS = "two rfft2", "smlmkit"


@dataclass(frozen=True)
class Method:
    """What there is to know about a method of `frc_worker` before it is called."""

    name: str
    is_peer: bool = False
    uses_threads: bool = False
    same_rings_under: Literal["no window", "Tukey window"] | None = None


METHODS = (
    Method(LIMIT, uses_threads=True),
    Method(OURS, uses_threads=True),
    Method("masks ring by ring", same_rings_under="no window"),
    Method("SMAPpy", is_peer=True, uses_threads=True, same_rings_under="Tukey window"),
    Method("SMAPpy, rings given", is_peer=True, uses_threads=True, same_rings_under="Tukey window"),
    Method("Picasso", is_peer=True),
    Method("Locan", is_peer=True),
    Method("NanoPyx", is_peer=True),  # a second core only costs it: threads for three numbers
)


def main() -> None:
    """Measure every size, print its table and write all of them to one file."""
    options = parse_options()
    sections, versions, versions_of_peers = {}, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            counts = make_counts(size)
            with ExitStack() as stack:
                workers = [
                    stack.enter_context(worker)
                    for worker in make_workers(counts, options.peers, Path(folder))
                ]
                take_turns(workers, options.repeats)
            for worker in workers:
                known = versions_of_peers if worker.method.is_peer else versions
                known |= worker.first["versions"]
            title = f"{size:,} x {size:,} px"
            sections[title] = make_rows(workers, counts)
            print(f"### {title}\n\n{as_markdown(sections[title])}\n", flush=True)
    record = {
        "machine": f"{platform.machine()}, {len(CORES)} threads",
        "versions": {"python": platform.python_version(), **versions, "numba": version("numba")},
        "versions_of_peers": versions_of_peers,
        "options": {"sizes": options.sizes, "repeats": options.repeats},
        "sections": sections,
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(record, indent=1) + "\n")


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path, help="the environment install_peers.sh made")
    parser.add_argument("--repeats", type=int, default=9, help="calls after the first")
    parser.add_argument("--sizes", type=int, nargs="+", default=[2048, 4096], help="pixels a side")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/frc.json"))
    return parser.parse_args()


def make_counts(size: int) -> NDArray[np.float32]:
    """Count two random halves of simulated filaments."""
    table, _ = make_microtubules(field_size=size * PIXEL_SIZE, random_state=0)
    halves = table.split(by="random", random_state=0)
    return np.stack([Renderer(PIXEL_SIZE).transform(half).values for half in halves])


class Worker:
    """`frc_worker` in a process of its own, held to some cores; ends with its context."""

    def __init__(self, method: Method, cores: Sequence[int], python: Path, folder: Path) -> None:
        self.method = method
        self.n_threads = len(cores)
        held = ["taskset", "--cpu-list", ",".join(map(str, cores))]
        worker = [python, "-m", "benchmarks.frc_worker", method.name, folder / "counts.npy"]
        home = {"HOME": str(folder)} if method.is_peer else {}  # NanoPyx leaves a folder there
        self._process = subprocess.Popen(
            [*held, *worker],
            cwd=Path(__file__).parents[1],
            env=os.environ | home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.first = self._answer()
        self.repeated: list[float] = []

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.communicate()

    @property
    def seconds(self) -> list[float]:
        """The calls after the first, or that one where there are none."""
        return self.repeated or [self.first["seconds"]]

    def repeat(self) -> None:
        """Call once more, as long as there is patience."""
        if self.first["seconds"] + sum(self.repeated) < PATIENCE_S:
            print(file=self._process.stdin, flush=True)
            self.repeated.append(self._answer()["seconds"])

    def _answer(self) -> Any:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the worker of {self.method.name} ended; its error stands above")
        return json.loads(line)


def make_workers(counts: NDArray[np.float32], peers: Path | None, folder: Path) -> Iterator[Worker]:
    """Start every method, where it uses threads on one core and on all of them."""
    np.save(folder / "counts.npy", counts)
    for method in METHODS:
        if method.is_peer and peers is None:
            continue
        python = peers / "bin" / "python" if method.is_peer else Path(sys.executable)
        for n_cores in sorted({1, len(CORES) if method.uses_threads else 1}):
            yield Worker(method, CORES[:n_cores], python, folder)


def take_turns(workers: Sequence[Worker], repeats: int) -> None:
    """Call every method once a round."""
    for _ in range(repeats):
        for worker in workers:
            worker.repeat()


def make_rows(workers: Sequence[Worker], counts: NDArray[np.float32]) -> list[Row]:
    """Put what was measured beside the limit, ours and our curves."""
    curves = our_curves(counts)
    best = {(worker.method.name, worker.n_threads): min(worker.seconds) for worker in workers}
    rows = []
    for worker in workers:
        method, n_threads, first = worker.method, worker.n_threads, worker.first
        seconds = min(worker.seconds)
        ours = curves.get(method.same_rings_under)
        rows.append(
            {
                "method": method.name,
                "threads": n_threads,
                "seconds": seconds,
                "median": statistics.median(worker.seconds),
                "first": first["seconds"],
                "all_seconds": [round(one, 5) for one in worker.repeated],
                "times_limit": seconds / best[LIMIT, n_threads],
                "times_ours": seconds / best[OURS, n_threads],
                "images_of_memory": first["bytes"] / counts[0].nbytes,
                "area": area(first["frequency"], first["correlation"]),
                "difference": (
                    "" if ours is None else float(np.abs(ours - first["correlation"]).max())
                ),
            }
        )
    return rows


def our_curves(counts: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    """Correlate the images as they are, and under the plain window that peers use."""
    taper = tukey(counts.shape[1], TUKEY_ALPHA)
    images = {"no window": counts, "Tukey window": counts * np.outer(taper, taper)}
    return {
        window: ring_correlation(*pair, window=None).correlation for window, pair in images.items()
    }


def area(frequency: Sequence[float], correlation: Sequence[float]) -> float | str:
    """Average the curve above 0 and up to the cutoff; nothing where there is no curve."""
    inside = [c for f, c in zip(frequency, correlation, strict=True) if 0 < f <= AREA_CUTOFF]
    return statistics.mean(inside) if inside else ""


if __name__ == "__main__":
    main()
