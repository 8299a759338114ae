"""A folder of reconstructions, written by hand: what `reconstruct_folder` leaves behind."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from smlmkit import PixelGrid, to_image
from smlmkit.io.ome_zarr import write_ome_zarr

CHROMIUM = Path("/usr/bin/chromium")
RUN = {
    "estimator": {
        "class": "sklearn.pipeline.Pipeline",
        "steps": [
            {"class": "smlmkit.render.Renderer", "parameters": {"mode": "histogram"}},
            {"class": "smlmkit.kde.GaussianKDE", "parameters": {"sigma": 20.0}},
        ],
    },
    "parameters": {
        "folder": "/data/acquisitions",
        "tile": 1024,
        "pyramid": "mean",
        "train": None,
        "formats": ["ome-zarr"],
    },
    "versions": {"smlmkit": "0.1.0", "numpy": "2.4.0", "python": "3.11.9"},
    "command": "/opt/venv/bin/smlmkit reconstruct acquisitions results --pipeline kde.yaml",
}


class Folder:
    """A folder of reconstructions to which acquisitions are added."""

    def __init__(self, path):
        self.path = path
        (path / "records").mkdir(parents=True)
        self.write("run.json", RUN)

    def write(self, name, facts):
        (self.path / name).write_text(json.dumps(facts), "utf-8")

    def add(
        self, name, *, shape=(300, 400), crop=None, seed=0, stem=None, pyramid="mean", **changes
    ):
        """Add an acquisition of filaments; `changes` are of its record."""
        random = np.random.default_rng(seed)
        stem = stem or name
        density = draw_filaments(shape, random)
        before = random.poisson(density).astype(np.float32)
        after = gaussian_filter(before, 1.5)
        grid = PixelGrid((1000.0, 2000.0), 10.0, shape)
        write_ome_zarr(to_image(after, grid), self.path / f"{stem}.ome.zarr", pyramid=pyramid)
        top, left, bottom, right = crop = crop or (20, 30, shape[0] - 40, shape[1] - 50)
        np.savez_compressed(
            self.path / "records" / f"{stem}.npz", before=before[top:bottom, left:right]
        )
        n_localizations = int(before.sum())
        record = {
            "acquisition": name,
            "file": f"{name}.hdf5",
            "status": "done",
            "error": None,
            "image": f"{stem}.ome.zarr",
            "localizations": n_localizations,
            "density_per_um2": n_localizations / (shape[0] * shape[1] * 1e-4),
            "median_uncertainty_nm": 9.5,
            "field_of_view_nm": [1000.0, 2000.0, 1000.0 + 10 * shape[0], 2000.0 + 10 * shape[1]],
            "pixel_size_nm": 10.0,
            "height_px": shape[0],
            "width_px": shape[1],
            "frc": {
                "raw": draw_curve(80 + seed, random),
                "held_out": draw_curve(60 + seed, random),
            },
            "log_likelihood": -1.25,
            "held_out_is_seen": False,
            "seconds": {"prepare": 0.5, "tiles": 2.0, "total": 2.5},
            "warnings": [],
            "crop_px": list(crop),
        }
        self.write(f"records/{stem}.json", record | changes)
        return before, after

    def add_failed(self, name, error, *, stem=None):
        record = {"acquisition": name, "file": f"{name}.csv", "status": "failed", "error": error}
        record |= {"image": None, "warnings": [], "seconds": {"total": 0.004}}
        self.write(f"records/{stem or name}.json", record)


def draw_filaments(shape, random, n_filaments=14):
    """Give densities along wavy lines over a faint ground."""
    density = np.zeros(shape)
    along = np.linspace(-0.2, 1.2, 4 * max(shape))
    for _ in range(n_filaments):
        angle, bend = random.uniform(0, np.pi), random.uniform(-0.3, 0.3)
        offset = random.uniform(-0.6, 0.6)
        u, v = along - 0.5, offset + bend * np.sin(4 * along)
        rows = (0.5 + u * np.sin(angle) + v * np.cos(angle)) * shape[0]
        columns = (0.5 + u * np.cos(angle) - v * np.sin(angle)) * shape[1]
        inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
        density[rows[inside].astype(int), columns[inside].astype(int)] += 1
    return 3 * gaussian_filter(density, 1.2) + 0.01


def draw_curve(resolution, random):
    """Give a correlation that falls below 1/7 about at a resolution."""
    frequency = np.linspace(0, 0.05, 200)
    correlation = np.exp(-np.log(7) * (frequency * resolution) ** 2)
    correlation[1:] += random.normal(0, 0.02, 199)
    return {
        "frequency_per_nm": frequency.tolist(),
        "correlation": correlation.tolist(),
        "threshold": [1 / 7] * 200,
        "resolution_nm": float(resolution),
        "area": float(correlation.mean()),
        "reason": "",
    }


@pytest.fixture(scope="session")
def make_results():
    """Make an empty folder of reconstructions at a path."""
    return Folder


@pytest.fixture
def results(tmp_path):
    """Give an empty folder of reconstructions."""
    return Folder(tmp_path / "results")


@pytest.fixture(scope="session")
def browser():
    """Give a real browser; without it a test is skipped, except where CI must have it."""
    if not CHROMIUM.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{CHROMIUM} is missing")
        pytest.skip("there is no Chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
