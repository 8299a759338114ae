"""Benchmarks and examples run from end to end at a tiny budget, so that they cannot rot."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


def run_python(*options):
    command = [sys.executable, *map(str, options)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_training_step():
    printed = run_python("-m", "benchmarks.training_step", "--batch", 2, "--steps", 1)
    assert len(printed.splitlines()) == 5


def test_real_microtubules(real_data, tmp_path):
    run_python(
        *("-m", "benchmarks.real_microtubules"),
        *("--data", real_data / "frcnet", "--minutes", 0.01, "--width", 2, "--out", tmp_path),
    )
    record = json.loads((tmp_path / "real_microtubules_spot12.json").read_text())
    methods = {score["method"] for score in record["scores"]}
    assert len(record["training_fields"]) == 6
    assert len(record["scores"]) == 3 * len(methods) == 21
    # Known from counting: the area of the raw half is 0.30 on this field.
    raw = [score["frc_area_0.2"] for score in record["scores"] if score["method"] == "raw"]
    assert sum(raw) / 3 == pytest.approx(0.303, abs=0.005)
    assert (tmp_path / "real_microtubules_spot12.png").stat().st_size > 10_000


def test_rendering(real_data, tmp_path):
    printed = run_python(
        *("-m", "benchmarks.rendering", "--n", 1000, "--size", 64, "--repeats", 1),
        *("--data", real_data / "frcnet", "--out", tmp_path / "rendering.json"),
    )
    assert printed.count("###") == 6
    sections = json.loads((tmp_path / "rendering.json").read_text())["sections"]
    gaussians = next(rows for title, rows in sections.items() if title.startswith("Gaussians"))
    assert max(row["max_error"] for row in gaussians) < 2e-4


def test_frc(tmp_path):
    out = tmp_path / "frc.json"
    run_python("-m", "benchmarks.frc", "--sizes", 128, "--repeats", 1, "--json", out)
    (rows,) = json.loads(out.read_text())["sections"].values()
    masks = next(row for row in rows if row["method"] == "masks ring by ring")
    assert masks["difference"] < 1e-12


def test_frc_loss(tmp_path):
    out = tmp_path / "frc_loss.json"
    run_python("-m", "benchmarks.frc_loss", "--size", 32, "--repeats", 1, "--json", out)
    rows = json.loads(out.read_text())["rows"]
    assert len(rows) == 16
    assert all(row["MiB"] < 10 for row in rows)


def test_spurious_correlation(tmp_path):
    out = tmp_path / "spurious.json"
    options = ("--seeds", 1, "--densities", 1000, "--blinks", 5, "--out", out)
    run_python("-m", "benchmarks.spurious_correlation", *options)
    for row in json.loads(out.read_text()):
        assert row["random"] < 0.95 * row["reference"]
        assert row["corrected"] > 0.95 * row["reference"]
        assert row["frames"] > 0.95 * row["reference"]


def test_held_out_densities(real_data, tmp_path):
    out = tmp_path / "densities.json"
    run_python(
        *("-m", "benchmarks.held_out_densities", "--data", real_data / "frcnet"),
        *("--fields", 1, "--splits", 1, "--out", out),
    )
    gains = json.loads(out.read_text())["gains_over_best_gaussian"]
    assert gains["neighbors"]["frc_area_0.2, least"] > 0.01
    assert gains["neighbors"]["log_likelihood, least"] > 0.02


def test_choosing_a_density_estimate(real_data, tmp_path):
    picture = tmp_path / "choice.png"
    printed = run_python(
        *("examples/choose_density_estimate.py", real_data / "frcnet"),
        *("--fields", 2, "--tile", 20_000, "--out", picture),
    )
    assert "best: {'kde': AnisotropicKDE(support='neighbors')" in printed
    assert picture.stat().st_size > 10_000


def test_example(tmp_path):
    picture = tmp_path / "reconstruction.png"
    printed = run_python(
        "examples/learn_without_ground_truth.py", "--seconds", 0.5, "--out", picture
    )
    assert "Noise2Noise: held-out FRC area" in printed
    assert picture.stat().st_size > 10_000
