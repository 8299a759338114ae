"""Times one call of a peer at a time, inside the peers' environment; started by `rendering`.

The argument is an .npz with x, y and, for Gaussians, uncertainty_x, uncertainty_y (nm), the edge of
a pixel `pixel_size` (nm) and the edge of the square image `size` (pixels). The first line printed
gives the versions; then each line read, such as {"task": "SMAPpy", "threads": 2, "image": null},
is answered by {"seconds": 0.4}, and with a path as "image" the image is saved there. The first call
of a task compiles and warms up: it is up to the asker to discard it.

A task converts the table to what its peer takes, outside of the time measured, and gives the call.
Peers are imported where they are used: this module is read in environments without them, too.
"""

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np

PACKAGES = (
    "numpy",
    "numba",
    "fast-histogram",
    "boost-histogram",
    "picassosr",
    "smappy-smlm",
)
# Picasso's unit is the camera pixel: this many pixels of the image, a power of two to be exact.
CAMERA_PIXEL_PX = 16

Data = dict[str, Any]
Call = Callable[[int], np.ndarray]


def main() -> None:
    """Answer until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="the .npz")
    with np.load(parser.parse_args().data) as archive:
        data = {name: archive[name][()] for name in archive}
    logging.disable(logging.WARNING)  # importing Picasso warns that there is no loudspeaker
    print(json.dumps({name: version(name) for name in PACKAGES}), flush=True)
    calls: dict[str, Call] = {}
    for line in sys.stdin:
        request = json.loads(line)
        task = request["task"]
        if task not in calls:
            calls[task] = TASKS[task](data)
        started = time.perf_counter()
        image = calls[task](request["threads"])
        seconds = time.perf_counter() - started
        if request["image"] is not None:
            np.save(request["image"], image)
        print(json.dumps({"seconds": seconds}), flush=True)


def numpy_histogram2d(data: Data) -> Call:
    """Count as numpy names it."""
    edge = data["size"] * data["pixel_size"]

    def call(_threads: int) -> np.ndarray:
        bins = (data["size"], data["size"])
        return np.histogram2d(data["y"], data["x"], bins, ((0, edge), (0, edge)))[0]

    return call


def numpy_bincount(data: Data) -> Call:
    """Count as one who knows numpy writes it; every position must lie in the image."""
    size, pixel_size = data["size"], data["pixel_size"]

    def call(_threads: int) -> np.ndarray:
        row = (data["y"] / pixel_size).astype(np.int64)
        column = (data["x"] / pixel_size).astype(np.int64)
        return np.bincount(row * size + column, minlength=size * size).reshape(size, size)

    return call


def fast_histogram(data: Data) -> Call:
    """Count with fast-histogram."""
    from fast_histogram import histogram2d

    edge = data["size"] * data["pixel_size"]

    def call(_threads: int) -> np.ndarray:
        bins = (data["size"], data["size"])
        return histogram2d(data["y"], data["x"], bins, ((0, edge), (0, edge)))

    return call


def boost_histogram(data: Data) -> Call:
    """Count with boost-histogram; its first axis is the contiguous one, so x comes first."""
    import boost_histogram as bh

    axis = bh.axis.Regular(int(data["size"]), 0, data["size"] * data["pixel_size"])

    def call(threads: int) -> np.ndarray:
        counts = bh.Histogram(axis, axis, storage=bh.storage.Int64())
        counts.fill(data["x"], data["y"], threads=threads)
        return counts.view().T

    return call


def picasso(data: Data, **options: Any) -> Call:
    """Render with Picasso; its tables are float32 in camera pixels, as in its own files.

    Its viewport puts the corner of the image at position 0, as we do. Only in raw data does 0 mean
    the centre of the first camera pixel: no half pixel is added, and the images coincide.
    """
    import pandas as pd
    from picasso.render import render

    camera_pixel = CAMERA_PIXEL_PX * data["pixel_size"]
    names = {"x": "x", "y": "y", "lpx": "uncertainty_x", "lpy": "uncertainty_y"}
    table = pd.DataFrame(
        {
            theirs: (data[ours] / camera_pixel).astype(np.float32)
            for theirs, ours in names.items()
            if ours in data
        }
    )
    edge = data["size"] / CAMERA_PIXEL_PX
    info = {"Pixelsize": camera_pixel, "Height": edge, "Width": edge}

    def call(_threads: int) -> np.ndarray:
        viewport = ((0.0, 0.0), (edge, edge))
        return render(table, info, disp_px_size=data["pixel_size"], viewport=viewport, **options)[1]

    return call


def picasso_gaussian(data: Data) -> Call:
    """Render Picasso's Gaussians: sampled at the pixels' centres, within 3 sigma."""
    return picasso(data, blur_method="gaussian", min_blur_width=0.0)


def smappy(data: Data, **options: Any) -> Call:
    """Render with SMAPpy; its positions are float32 in nm."""
    from smappy.render import FieldOfView, render

    x, y = data["x"].astype(np.float32), data["y"].astype(np.float32)
    field = FieldOfView(0.0, 0.0, float(data["pixel_size"]), int(data["size"]), int(data["size"]))

    def call(threads: int) -> np.ndarray:
        return render(x, y, field, n_threads=threads, **options).weight

    return call


def smappy_gaussian(data: Data, **options: Any) -> Call:
    """Render SMAPpy's Gaussians: integrated per pixel, normalised, by default to 2.7 sigma."""
    sigmas = {
        "sigma": data["uncertainty_x"].astype(np.float32),
        "sigma_y": data["uncertainty_y"].astype(np.float32),
    }
    return smappy(data, **sigmas, **options)


def smappy_gaussian_wide(data: Data) -> Call:
    """Render SMAPpy's Gaussians to 4 sigma: almost as exact as its float32 positions allow."""
    return smappy_gaussian(data, roi_sigma=4.0)


TASKS: dict[str, Callable[[Data], Call]] = {
    "np.histogram2d": numpy_histogram2d,
    "np.bincount": numpy_bincount,
    "fast-histogram": fast_histogram,
    "boost-histogram": boost_histogram,
    "Picasso": picasso,
    "SMAPpy": smappy,
    "Picasso Gaussian": picasso_gaussian,
    "SMAPpy Gaussian": smappy_gaussian,
    "SMAPpy Gaussian to 4 sigma": smappy_gaussian_wide,
}


if __name__ == "__main__":
    main()
