"""Correlates two images ring by ring, by one method and in one environment; started by `frc`.

    python -m benchmarks.frc_worker METHOD COUNTS

COUNTS is an .npy with the counts of both images, float32 of shape (2, size, size), as a `Renderer`
gives them. A method converts them to the type its library computes with, outside of the time
measured (ours takes them as they are), and is called on a corner of them to warm up. The first line
printed then tells the versions and of the first call the seconds, the most memory held besides the
images (bytes, Linux only) and the curve; each line read is answered by the seconds of one more.

Libraries are imported where they are used: this module is read in environments without them, too.
"""

import argparse
import ctypes
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

# The corner on which a method warms up: large enough for every smoothing filter.
WARM_UP_PX = 64

Images = Sequence[np.ndarray]
Call = Callable[[], Any]
Curve = tuple[Sequence[float], Sequence[float]]


def main() -> None:
    """Measure a first call, then one for each line read."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("counts", help="the .npy")
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # importing Picasso warns that there is no loudspeaker
    warnings.simplefilter("ignore")  # importing NanoPyx warns that there is no GPU
    package, prepare = METHODS[options.method]
    counts = np.load(options.counts)
    with redirect_stdout(None):  # and prints that there is none
        prepare(counts[:, :WARM_UP_PX, :WARM_UP_PX])()
        call = prepare(counts)
    before = forget_peak_memory()
    result, seconds = timed(call)
    most = memory_now("VmHWM")
    frequency, correlation = CURVES.get(options.method, tuple)(result)
    first = {
        "versions": {name: version(name) for name in ("numpy", "scipy", package)},
        "seconds": seconds,
        "bytes": most - before,
        "frequency": list(map(float, frequency)),
        "correlation": list(map(float, correlation)),
    }
    del result
    print(json.dumps(first), flush=True)
    for _ in sys.stdin:
        print(json.dumps({"seconds": timed(call)[1]}), flush=True)


def timed(call: Call) -> tuple[Any, float]:
    """Give a call's result and seconds."""
    started = time.perf_counter()
    result = call()
    return result, time.perf_counter() - started


def forget_peak_memory() -> int:
    """Give the bytes held now and let the peak start anew."""
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before must not serve the call
    Path("/proc/self/clear_refs").write_text("5")
    return memory_now("VmRSS")


def memory_now(name: str) -> int:
    """Read a figure in bytes of this process's memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def two_transforms(counts: np.ndarray) -> Call:
    """Transform both images and do nothing with them: what no curve can do without."""
    from scipy.fft import rfft2

    images = counts.astype(np.float64)

    def call() -> Curve:
        _spectra = [rfft2(image, workers=-1) for image in images]
        return (), ()

    return call


def smlmkit(counts: np.ndarray) -> Call:
    """Correlate with smlmkit, under its window."""
    from smlmkit.metrics.rings import ring_correlation

    def call() -> Curve:
        rings = ring_correlation(*counts)
        return rings.frequency, rings.correlation

    return call


def masks(counts: np.ndarray) -> Call:
    """Correlate by a mask for each ring, as many a notebook does; our rings, no window."""
    images = counts.astype(np.float64)
    size = counts.shape[1]

    def call() -> Curve:
        first, second = (np.fft.fftshift(np.fft.fft2(image)) for image in images)
        y, x = np.indices((size, size)) - size // 2
        ring = np.rint(np.hypot(y, x))
        correlation = []
        for k in range(size // 2 + 1):
            mask = ring == k
            f, g = first[mask], second[mask]
            power = np.sum(np.abs(f) ** 2) * np.sum(np.abs(g) ** 2)
            correlation.append(np.sum(f * np.conj(g)).real / np.sqrt(power))
        return np.arange(size // 2 + 1) / size, correlation

    return call


def smappy(counts: np.ndarray, **options: Any) -> Call:
    """Correlate with SMAPpy, whose canvases are float64."""
    from smappy.frc import frc_curve

    images = counts.astype(np.float64)

    def call() -> Curve:
        correlation, _ = frc_curve(*images, **options)
        return np.arange(len(correlation)) / counts.shape[1], correlation

    return call


def smappy_with_rings(counts: np.ndarray) -> Call:
    """Correlate with SMAPpy, its rings made beforehand, as it does for splits of the same data."""
    from smappy.frc import _ring_index

    return smappy(counts, rings=_ring_index(counts.shape[1]))


def picasso(counts: np.ndarray) -> Call:
    """Correlate with Picasso: its function renders two tables, here to copies of our images.

    A camera pixel of 1 nm and a precision of 2 make the pixels of the images 1 nm wide.
    """
    from picasso import postprocess

    def call() -> Curve:
        images = [(0, image.copy()) for image in counts]
        with patch.object(postprocess.render, "render", side_effect=images):
            correlation, _, frequency, *_ = postprocess._frc(None, None, 1.0, 2.0, None)
        return frequency, correlation

    return call


def locan(counts: np.ndarray) -> Call:
    """Correlate with Locan under the window that it calls typical; its histograms are float64."""
    from locan.analysis import fourier_ring_correlation as frc

    images = counts.astype(np.float64)

    def call() -> Curve:
        tapered = frc.preprocess_images(*images, window=("tukey", 0.25))
        result = frc.compute_fourier_ring_correlation(*tapered, bin_size=1)
        return result.frequency, result.correlation

    return call


def nanopyx(counts: np.ndarray) -> Call:
    """Correlate with NanoPyx, which computes in float32."""
    from nanopyx.core.analysis.frc import FIRECalculator

    def call() -> FIRECalculator:
        calculator = FIRECalculator()
        calculator.calculate_fire_number(*counts)
        return calculator

    return call


def curve_of_nanopyx(calculator: Any) -> Curve:
    """Read the curve from NanoPyx's plot: the object itself tells the resolution alone."""
    from matplotlib import pyplot

    with patch.object(pyplot, "close"):
        calculator.plot_frc_curve()
    return pyplot.gca().lines[0].get_data()


# By name: the package that is measured, and the function that prepares its call.
METHODS: dict[str, tuple[str, Callable[[np.ndarray], Call]]] = {
    "two rfft2": ("scipy", two_transforms),
    "smlmkit": ("smlmkit", smlmkit),
    "masks ring by ring": ("numpy", masks),
    "SMAPpy": ("smappy-smlm", smappy),
    "SMAPpy, rings given": ("smappy-smlm", smappy_with_rings),
    "Picasso": ("picassosr", picasso),
    "Locan": ("locan", locan),
    "NanoPyx": ("nanopyx", nanopyx),
}
# How to read the curve from what a call gives, where that is not the curve.
CURVES: dict[str, Callable[[Any], Curve]] = {"NanoPyx": curve_of_nanopyx}


if __name__ == "__main__":
    main()
