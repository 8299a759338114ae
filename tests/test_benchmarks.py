"""Benchmarks and examples run from end to end at a tiny budget, so that they cannot rot."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

REPOSITORY = Path(__file__).parents[1]


def run_python(*options):
    command = [sys.executable, *map(str, options)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_training_step(tmp_path):
    out = tmp_path / "training_step.json"
    run_python(
        *("-m", "benchmarks.training_step", "--batch", 2, "--patch", 16, "--width", 2),
        *("--depth", 1, "--fields", 1, "--repeats", 1, "--json", out),
        *("--contenders", "plain", "float32", "bfloat16"),
    )
    sections = json.loads(out.read_text())["sections"]
    steps, drawing, memory = sections.values()
    assert [row["contender"] for row in steps] == ["plain", "float32", "bfloat16"]
    assert max(row["share_of_float32"] for row in drawing) < 0.1
    assert memory[0]["MiB"] < 50


def test_prediction(tmp_path):
    out = tmp_path / "prediction.json"
    run_python(
        *("-m", "benchmarks.prediction", "--size", 256, "--depth", 2, "--width", 2),
        *("--tiles", 64, "--repeats", 1, "--check-size", 128),
        *("--memory-sizes", 128, 256, "--json", out),
    )
    assert max(differences_in(json.loads(out.read_text()))) < 5e-6


def differences_in(record):
    """Give every value of a key "difference", however deep it lies."""
    parts = record.values() if isinstance(record, dict) else record
    for part in parts:
        if isinstance(part, dict | list):
            yield from differences_in(part)
    if isinstance(record, dict) and "difference" in record:
        yield record["difference"]


def test_uncertainty(tmp_path):
    out, picture = tmp_path / "uncertainty.json", tmp_path / "uncertainty.png"
    run_python(
        *("-m", "benchmarks.uncertainty", "--fields", 1, "--tests", 1, "--size", 1300),
        *("--filaments", 4, "--networks", 2, "--splits", 2, "--samples", 16),
        *("--depth", 1, "--width", 2, "--json", out, "--plot", picture),
    )
    images, deviations, reliability = json.loads(out.read_text())["sections"].values()
    ways = {row["opinions of"]: row for row in deviations}
    assert len(reliability) == 10 * len(ways) == 40
    # A network that has hardly learnt is a blur, whose halves deviate as its noise does.
    assert 1 < ways["2 splits"]["factor"] < 4
    assert all(0 < row["error"] < 2 for row in images)
    assert picture.stat().st_size > 10_000


def test_careamics(tmp_path):
    out = tmp_path / "careamics.json"
    run_python(
        *("-m", "benchmarks.careamics", "--fields", 1, "--field-size", 1500, "--minutes", 0.01),
        *("--width", 2, "--patch", 32, "--splits", 1, "--threads", 1, "--json", out),
    )
    rows = json.loads(out.read_text())["rows"]
    assert [row["method"] for row in rows] == [
        "half A itself", "smlmkit, plain", "smlmkit, fixed", "smlmkit, dynamic",
    ]  # fmt: skip
    assert all(row["samples"] > 0 for row in rows[1:])


def test_real_microtubules(real_data, tmp_path):
    run_python(
        *("-m", "benchmarks.real_microtubules"),
        *("--data", real_data / "frcnet", "--test", "spot12"),
        *("--minutes", 0.01, "--width", 2, "--out", tmp_path),
    )
    record = json.loads((tmp_path / "real_microtubules_spot12_light.json").read_text())
    methods = {score["method"] for score in record["scores"]}
    assert len(record["training_fields"]) == 6
    assert len(record["scores"]) == 3 * len(methods) == 24
    # Known from counting: the area of the raw half is 0.30 on this field.
    raw = [score["frc_area_0.2"] for score in record["scores"] if score["method"] == "raw"]
    assert sum(raw) / 3 == pytest.approx(0.303, abs=0.005)
    assert (tmp_path / "real_microtubules_spot12_light.png").stat().st_size > 10_000


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
    for name in ("spot01_sub.png", "spot04_sub.png"):  # a quarter of each will do
        with Image.open(real_data / "frcnet" / name) as counts:
            counts.crop((500, 500, 1500, 1500)).save(tmp_path / name)
    printed = run_python(
        *("examples/choose_density_estimate.py", tmp_path),
        *("--tile", 10_000, "--out", picture),
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


def test_large_field(tmp_path):
    out = tmp_path / "large_field.json"
    run_python(
        *("-m", "benchmarks.large_field", "--sizes", 600, "--tile", 256, "--workers", 0),
        *("--folder", tmp_path, "--json", out),
    )
    (row,) = json.loads(out.read_text())["sections"]["large field"]
    assert row["localizations"] == pytest.approx(0.01 * 600**2, rel=0.1)


def test_batches(real_data, tmp_path):
    out = tmp_path / "batches.json"
    run_python(
        *("-m", "benchmarks.batches", "--sections", "overhead", "scheduling", "--repeats", 1),
        *("--size", 1500, "--tiles", 9, "--folder", tmp_path, "--json", out),
    )
    sections = json.loads(out.read_text())["sections"]
    assert [row["tiles_without_work"] for row in sections["scheduling"]] == [9, 9]
    assert min(row["of_kernels"] for row in sections["overhead"]) == 1


def test_reading(tmp_path):
    out = tmp_path / "reading.json"
    run_python("-m", "benchmarks.reading", "--n", 2000, "--repeats", 1, "--json", out)
    sections = json.loads(out.read_text())["sections"]
    assert [rows[0]["reader"] for rows in sections.values()] == ["smlmkit"] * 3


def test_fuzz_readers(tmp_path):
    out = tmp_path / "fuzz.json"
    run_python(
        *("-m", "benchmarks.fuzz_readers", "--inputs", 40, "--processes", 1, "--json", out),
        *("--formats", "smlm", "elyra", "--keep", tmp_path / "findings"),
    )
    rows = json.loads(out.read_text())["formats"]
    assert [(row["inputs"], row["findings"]) for row in rows] == [(40, 0), (40, 0)]
    assert all(row["tables"] and row["errors"] for row in rows)
