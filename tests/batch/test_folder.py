"""A folder of acquisitions: what comes out, what goes wrong, and what a second run does."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.pipeline import make_pipeline

from smlmkit import (
    FRCScorer,
    GaussianKDE,
    LocalizationFilter,
    Localizations,
    N2NReconstructor,
    PoissonScorer,
    Renderer,
    frc_curve,
    load_model,
    make_microtubules,
    read_image,
    read_localizations,
    write_localizations,
)
from smlmkit.batch import _acquisitions, _tables
from smlmkit.batch import records as batch_records
from smlmkit.batch._collecting import collect_warnings
from smlmkit.batch._results import find_acquisitions
from smlmkit.batch.folder import reconstruct_folder
from smlmkit.batch.points import sort_by_tiles
from smlmkit.batch.records import Measurement, measure
from smlmkit.batch.training import Training, as_trainable, train_model
from smlmkit.errors import (
    ChangedRunError,
    ClusterError,
    InvalidInputError,
    InvalidTypeError,
    OutputError,
    SmlmkitWarning,
    UnusedRowsWarning,
)

SMOOTH = make_pipeline(Renderer(pixel_size=20), GaussianKDE(30))
TINY = {"depth": 1, "width": 2, "patch_size": 16, "max_samples": 8, "batch_size": 4}


def learner(**parameters):
    return N2NReconstructor(**TINY, pixel_size=20, device="cpu", **parameters)


@pytest.fixture(scope="module")
def tables():
    """Give tables with frames, by name; none has a row that Picasso would leave out."""
    fields = [
        make_microtubules(field_size=3000, density=400, random_state=seed)[0] for seed in range(3)
    ]
    return {
        f"fov_{number}": table.select((table.x > 65) & (table.y > 65))
        for number, table in enumerate(fields)
    }


@pytest.fixture
def acquisitions(tables, tmp_path):
    """Give a folder of two Parquet files and one Picasso file."""
    folder = tmp_path / "acquisitions"
    folder.mkdir()
    for (name, table), suffix in zip(
        tables.items(), (".parquet", ".hdf5", ".parquet"), strict=True
    ):
        write_localizations(table, folder / f"{name}{suffix}")
    return folder


@pytest.fixture
def out(tmp_path):
    return tmp_path / "results"


def started(out):
    """List the acquisitions that were worked on since the last run began."""
    events = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    last = max(i for i, event in enumerate(events) if event["event"] == "run started")
    return [
        event["acquisition"] for event in events[last:] if event["event"] == "acquisition started"
    ]


def record_of(out, name):
    return json.loads((out / "records" / f"{name}.json").read_text())


def test_images_are_those_of_the_whole_tables_and_facts_those_of_the_files(
    acquisitions, tables, out
):
    summary = reconstruct_folder(SMOOTH, acquisitions, out)
    assert summary["acquisition"].tolist() == ["fov_0", "fov_1", "fov_2"]
    assert summary["file"].tolist() == ["fov_0.parquet", "fov_1.hdf5", "fov_2.parquet"]
    assert (summary["status"] == "done").all()
    for row in summary.itertuples():
        table = read_localizations(acquisitions / row.file)
        expected = SMOOTH.fit(table).transform(table)
        image = read_image(out / row.image)
        np.testing.assert_allclose(image, expected, rtol=0, atol=1e-6 * float(expected.max()))
        assert row.localizations == len(table)
        assert row.density_per_um2 == pytest.approx(table.density)
        assert row.median_uncertainty_nm == pytest.approx(table.median_uncertainty)
        assert (row.height_px, row.width_px, row.pixel_size_nm) == (150, 150, 20)
        record = record_of(out, row.acquisition)
        assert record["field_of_view_nm"] == list(table.field_of_view)
        assert record["measured_px"] == record["crop_px"] == [0, 0, 150, 150]
        with np.load(out / "records" / f"{row.acquisition}.npz", allow_pickle=False) as counts:
            np.testing.assert_array_equal(counts["before"], Renderer(20).transform(table))
            assert counts["before"].dtype == np.float32
    pd.testing.assert_frame_equal(
        pd.read_parquet(out / "summary.parquet"), summary, check_dtype=False
    )
    assert pd.read_csv(out / "summary.csv")["localizations"].tolist() == (
        summary["localizations"].tolist()
    )
    run = json.loads((out / "run.json").read_text())
    assert run["estimator"]["steps"][1]["parameters"] == {"sigma": 30}
    assert run["parameters"]["seed"] == 0
    assert {"smlmkit", "numpy", "python"} <= run["versions"].keys()


def test_scores_are_those_of_the_scorers(acquisitions, out):
    summary = reconstruct_folder(SMOOTH, acquisitions, out, seed=7).set_index("acquisition")
    for one in find_acquisitions(acquisitions):
        table = read_localizations(one.file)
        row, frc = summary.loc[one.name], record_of(out, one.name)["frc"]
        options = {"random_state": 7}
        assert row["held_out_area"] == pytest.approx(FRCScorer(**options)(SMOOTH, table), rel=1e-6)
        assert row["log_likelihood"] == pytest.approx(PoissonScorer(**options)(SMOOTH, table))
        raw = frc_curve(table, pixel_size=20, **options)
        assert row["raw_resolution_nm"] == pytest.approx(raw.resolution)
        assert row["raw_area"] == pytest.approx(raw.area(0.4))
        np.testing.assert_allclose(frc["raw"]["correlation"], raw.correlation, atol=1e-6)
        np.testing.assert_allclose(frc["raw"]["frequency_per_nm"], raw.frequency, rtol=1e-5)
        assert frc["raw"]["threshold"] == pytest.approx([1 / 7] * 76, rel=1e-5)


def test_what_fails_is_recorded_and_tried_again(acquisitions, tables, out):
    good = (acquisitions / "fov_1.hdf5").read_bytes()
    (acquisitions / "fov_1.hdf5").write_bytes(good[:1000])
    summary = reconstruct_folder(SMOOTH, acquisitions, out)
    assert summary["status"].tolist() == ["done", "failed", "done"]
    assert "fov_1.hdf5" in summary["error"][1]
    assert record_of(out, "fov_1")["image"] is None
    assert not (out / "fov_1.ome.zarr").exists()
    (acquisitions / "fov_1.hdf5").write_bytes(good)
    summary = reconstruct_folder(SMOOTH, acquisitions, out)
    assert summary["status"].tolist() == ["done"] * 3
    assert summary["error"].isna().all()
    assert started(out) == ["fov_1"]


class Faulty(Renderer):
    """Fails in a way that nobody foresaw."""

    def transform(self, X):
        raise ZeroDivisionError("no such pixel")


def test_a_bug_in_an_estimator_does_not_stop_the_others(acquisitions, out):
    summary = reconstruct_folder(Faulty(pixel_size=20), acquisitions, out)
    assert summary["error"].tolist() == ["ZeroDivisionError: no such pixel"] * 3


def test_a_second_run_adds_what_is_missing_only(
    acquisitions, tables, out, differing_files, tmp_path
):
    first = reconstruct_folder(SMOOTH, acquisitions, out)
    write_localizations(tables["fov_0"], acquisitions / "another.parquet")
    os.utime(acquisitions / "fov_2.parquet")  # the same content counts, not the time
    second = reconstruct_folder(SMOOTH, acquisitions, out, formats=["png", "tiff"])
    assert started(out) == ["another"]
    pd.testing.assert_frame_equal(second[1:].reset_index(drop=True), first)
    for name in second["acquisition"]:
        with Image.open(out / f"{name}.png") as png, Image.open(out / f"{name}.tif") as tiff:
            assert png.size == (300, 300)  # small images are enlarged
            assert tiff.size == (150, 150)
    files = list(out.glob("*.*"))
    before = [path.stat().st_mtime_ns for path in files if path.suffix in (".png", ".tif")]
    reconstruct_folder(SMOOTH, acquisitions, out, formats=["png", "tiff"])
    assert started(out) == []
    after = [path.stat().st_mtime_ns for path in files if path.suffix in (".png", ".tif")]
    assert before == after


def test_damaged_records_count_as_not_done(acquisitions, out):
    whole = reconstruct_folder(SMOOTH, acquisitions, out)
    records = out / "records"
    (records / "fov_0.json").write_bytes((records / "fov_0.json").read_bytes()[:50])
    (records / "fov_1.json").write_text('{"acquisition": "../fov_1"}')
    (records / "other.json").write_text("[1]")
    (records / "fov_2.npz").unlink()
    again = reconstruct_folder(SMOOTH, acquisitions, out)
    assert sorted(started(out)) == ["fov_0", "fov_1", "fov_2"]
    assert again["acquisition"].tolist() == whole["acquisition"].tolist()


def test_other_parameters_are_refused_unless_they_shall_replace(acquisitions, out):
    reconstruct_folder(SMOOTH, acquisitions, out)
    other = make_pipeline(Renderer(pixel_size=20), GaussianKDE(60))
    with pytest.raises(ChangedRunError, match=r"sigma: 30 before, 60 now.*redo=True"):
        reconstruct_folder(other, acquisitions, out)
    with pytest.raises(ChangedRunError, match="seed: 0 before, 1 now"):
        reconstruct_folder(SMOOTH, acquisitions, out, seed=1)
    table = read_localizations(acquisitions / "fov_0.parquet")
    np.testing.assert_allclose(
        read_image(out / "fov_0.ome.zarr"), SMOOTH.transform(table), atol=1e-6
    )
    reconstruct_folder(other, acquisitions, out, redo=True)
    np.testing.assert_allclose(
        read_image(out / "fov_0.ome.zarr"), other.transform(table), atol=1e-6
    )
    reconstruct_folder(other, acquisitions, out)
    assert started(out) == []


def test_a_changed_file_is_refused_unless_its_result_shall_be_replaced(acquisitions, tables, out):
    reconstruct_folder(SMOOTH, acquisitions, out)
    write_localizations(tables["fov_0"], acquisitions / "fov_2.parquet", overwrite=True)
    with pytest.raises(ChangedRunError, match=r"fov_2\.parquet has changed .*redo=True"):
        reconstruct_folder(SMOOTH, acquisitions, out)
    reconstruct_folder(SMOOTH, acquisitions, out, redo=True)
    assert started(out) == ["fov_2"]
    np.testing.assert_array_equal(
        read_image(out / "fov_2.ome.zarr"), read_image(out / "fov_0.ome.zarr")
    )


def test_a_changed_sidecar_is_a_changed_file(acquisitions, out):
    reconstruct_folder(SMOOTH, acquisitions, out)
    sidecar = acquisitions / "fov_1.yaml"
    sidecar.write_text(sidecar.read_text() + "Remark: moved\n")
    with pytest.raises(ChangedRunError, match=r"fov_1\.hdf5 has changed"):
        reconstruct_folder(SMOOTH, acquisitions, out)


def test_an_interrupted_run_goes_on(acquisitions, out, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_acquisitions, "write_summary", interrupt)
        patch.setattr(_acquisitions, "_SECONDS_BETWEEN_SUMMARIES", -1.0)
        with pytest.raises(KeyboardInterrupt):
            reconstruct_folder(SMOOTH, acquisitions, out)
    n_done = len(list(out.glob("*.ome.zarr")))
    assert n_done < 3
    assert not [
        thread for thread in threading.enumerate() if thread.name.startswith("smlmkit-acquisitions")
    ]
    summary = reconstruct_folder(SMOOTH, acquisitions, out)
    assert len(started(out)) == 3 - n_done
    assert (summary["status"] == "done").all()


KILLED = """
import os, signal, sys
from sklearn.pipeline import make_pipeline
from smlmkit import GaussianKDE, Renderer
from smlmkit.batch import folder, ledger
add, n = ledger.Ledger.add, 0

def add_and_die(self, *entry):
    global n
    add(self, *entry)
    n += 1
    if n == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

ledger.Ledger.add = add_and_die
smooth = make_pipeline(Renderer(pixel_size=20), GaussianKDE(30))
folder.reconstruct_folder(smooth, sys.argv[1], sys.argv[2])
"""


@pytest.mark.parametrize("n_entries", [2, 3])  # after a tile, after an acquisition
def test_a_killed_run_goes_on_to_the_same_images(
    acquisitions, out, tmp_path, differing_files, n_entries
):
    arguments = [sys.executable, "-c", KILLED, str(acquisitions), str(out), str(n_entries)]
    done = subprocess.run(arguments, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    summary = reconstruct_folder(SMOOTH, acquisitions, out)
    assert (summary["status"] == "done").all()
    reconstruct_folder(SMOOTH, acquisitions, tmp_path / "whole")
    for name in summary["image"]:
        assert not differing_files(out / name, tmp_path / "whole" / name)
    assert sorted(path.name for path in (out / ".work").rglob("*")) == [
        "ledger.jsonl", "ledger.jsonl.lock", "points",
    ]  # fmt: skip


def test_two_processes_do_not_work_on_one_folder(acquisitions, out):
    from smlmkit.batch.ledger import Ledger

    (out / ".work").mkdir(parents=True)
    with (
        Ledger.open(out / ".work" / "ledger.jsonl", {}),
        pytest.raises(OutputError, match="results"),
    ):
        reconstruct_folder(SMOOTH, acquisitions, out)


def test_a_full_disk_ends_the_run(acquisitions, out, monkeypatch):
    def fill_disk(*_, **__):
        raise OutputError(errno.ENOSPC, "disk full: free space and run again")

    monkeypatch.setattr(_acquisitions, "reconstruct_field", fill_disk)
    with pytest.raises(OutputError, match="free space"):
        reconstruct_folder(SMOOTH, acquisitions, out)
    monkeypatch.undo()
    assert (reconstruct_folder(SMOOTH, acquisitions, out)["status"] == "done").all()


@pytest.fixture
def cluster():
    from distributed import Client

    with Client(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None,
        set_as_default=False,
    ) as client:  # fmt: skip
        yield client


def test_a_cluster_makes_the_same(acquisitions, out, tmp_path, cluster, differing_files):
    (acquisitions / "broken.csv").write_bytes(b"\0")
    here = reconstruct_folder(SMOOTH, acquisitions, tmp_path / "here")
    there = reconstruct_folder(SMOOTH, acquisitions, out, client=cluster)
    times = [name for name in here if name.endswith("_seconds")]
    pd.testing.assert_frame_equal(here.drop(columns=times), there.drop(columns=times))
    for name in there["image"].dropna():
        assert not differing_files(out / name, tmp_path / "here" / name)


def test_a_model_for_each_acquisition(acquisitions, out):
    network = learner(random_state=3)
    summary = reconstruct_folder(network, acquisitions, out, train="each")
    assert (summary["status"] == "done").all()
    assert summary["warnings"].str.contains("trained on this acquisition").all()
    for row in summary.itertuples():
        model = load_model(out / "models" / f"{row.acquisition}.smlmkit", device="cpu")
        expected = model.predict(read_localizations(acquisitions / row.file))
        np.testing.assert_allclose(
            read_image(out / row.image), expected, rtol=1e-4, atol=1e-5 * float(expected.max())
        )
    assert not hasattr(network, "networks_")
    before = {path: path.stat().st_mtime_ns for path in (out / "models").iterdir()}
    (out / "records" / "fov_0.json").unlink()
    reconstruct_folder(network, acquisitions, out, train="each")
    assert started(out) == ["fov_0"]
    assert {path: path.stat().st_mtime_ns for path in (out / "models").iterdir()} == before
    with pytest.raises(ChangedRunError, match="random_state"):
        reconstruct_folder(learner(random_state=4), acquisitions, out, train="each")


def test_one_model_for_all_acquisitions(acquisitions, tables, out):
    steps = make_pipeline(LocalizationFilter(x=(0, 2900)), learner())
    (acquisitions / "broken.csv").write_bytes(b"\0")
    summary = reconstruct_folder(steps, acquisitions, out, train="pooled", seed=5)
    assert summary["status"].tolist() == ["failed", "done", "done", "done"]
    assert sorted(path.name for path in (out / "models").iterdir()) == [
        "pooled.json", "pooled.smlmkit",
    ]  # fmt: skip
    model = load_model(out / "models" / "pooled.smlmkit")
    assert model.training_summary_["n_fields"] == 3
    reconstruct_folder(steps, acquisitions, out, train="pooled", seed=5)
    assert started(out) == ["broken"]
    write_localizations(tables["fov_0"].crop((0, 0, 2000, 2000)), acquisitions / "more.parquet")
    with pytest.raises(ChangedRunError, match=r"pooled\.smlmkit was trained on other"):
        reconstruct_folder(steps, acquisitions, out, train="pooled", seed=5)
    reconstruct_folder(steps, acquisitions, out, train="pooled", seed=5, redo=True)
    assert len(started(out)) == 5
    assert load_model(out / "models" / "pooled.smlmkit").training_summary_["n_fields"] == 4


def test_opinions_deviate_in_an_image_of_their_own(acquisitions, tables, out):
    network = learner(random_state=0, tta=True).fit(list(tables.values()))
    reconstruct_folder(network, acquisitions / "fov_0.parquet", out, deviation=True)
    deviation = read_image(out / "fov_0_deviation.ome.zarr")
    _, expected = network.predict(tables["fov_0"], return_deviation=True)
    np.testing.assert_allclose(deviation, expected, rtol=1e-4, atol=1e-5 * float(expected.max()))


def test_stacks_are_measured_by_the_sum_of_their_planes(tmp_path, out):
    table, _ = make_microtubules(field_size=2000, density=400, random_state=0)
    depths = np.random.default_rng(0).uniform(-200, 200, len(table))
    deep = Localizations({**table.to_frame(), "z": depths}, field_of_view=table.field_of_view)
    write_localizations(deep, tmp_path / "deep.parquet")
    stack = Renderer(pixel_size=20, z_bins=[-200, 0, 200])
    summary = reconstruct_folder(stack, tmp_path / "deep.parquet", out)
    assert read_image(out / "deep.ome.zarr").shape == (2, 100, 100)
    flat = FRCScorer()(Renderer(pixel_size=20), deep)
    assert summary["held_out_area"][0] == pytest.approx(flat)
    assert summary["height_px"][0] == 100


def test_weights_have_no_likelihood_of_localizations(acquisitions, out):
    bright = Renderer(pixel_size=20, weights="photons")
    summary = reconstruct_folder(bright, acquisitions / "fov_0.parquet", out)
    assert summary["status"][0] == "done"
    assert np.isnan(summary["log_likelihood"][0])
    assert summary["held_out_area"][0] > 0


@pytest.fixture
def wide(tmp_path):
    """Give sorted points of which most lie in a corner of a wide field."""
    random = np.random.default_rng(0)
    spread = random.uniform([0, 0], [12_000, 20_000], size=(2000, 2))
    dense = random.uniform([6000, 13_000], [9000, 16_000], size=(20_000, 2))
    y, x = np.concatenate([spread, dense]).T
    table = Localizations({"y": y, "x": x}, field_of_view=(0, 0, 12_000, 20_000))
    return table, sort_by_tiles(table, tmp_path / "points.parquet")


def test_a_large_field_is_measured_where_it_is_densest(wide, tmp_path, monkeypatch):
    table, points = wide
    monkeypatch.setattr(batch_records, "_MEASURED_PX", 256)
    monkeypatch.setattr(batch_records, "_CROP_PX", 128)
    job = points.path, tmp_path / "counts.npz"
    measured = measure(Measurement(Renderer(pixel_size=20), seed=0), job)
    top, left, bottom, right = measured["measured_px"]
    assert (bottom - top, right - left) == (256, 256)
    assert top <= 300
    assert bottom >= 450
    assert left <= 650
    assert right >= 800
    top, left, bottom, right = measured["crop_px"]
    assert (bottom - top, right - left) == (128, 128)
    counts = Renderer(pixel_size=20).transform(table)
    with np.load(tmp_path / "counts.npz") as stored:
        np.testing.assert_array_equal(stored["before"], counts[top:bottom, left:right])
    assert float(stored_sum := counts[top:bottom, left:right].sum()) > 0.5 * 20_000 * (
        128**2 / 150**2
    ), stored_sum


def test_pictures_of_large_images_are_of_a_coarser_level(tmp_path, out, monkeypatch):
    table = Localizations({"x": [5.0, 9000.0], "y": [7.0, 50.0]}, field_of_view=(0, 0, 100, 9000.1))
    write_localizations(table, tmp_path / "long.parquet")
    monkeypatch.setattr(batch_records, "_MOST_PIXELS", {".tif": 2500, ".png": 2500})
    options = {"formats": ["tiff", "png"]}
    reconstruct_folder(Renderer(pixel_size=10), tmp_path / "long.parquet", out, **options)
    with Image.open(out / "long.tif") as tiff:
        assert tiff.size == (451, 5)
    assert (out / "long.png").exists()
    reconstruct_folder(
        Renderer(pixel_size=10),
        tmp_path / "long.parquet",
        tmp_path / "flat",
        pyramid=None,
        **options,
    )
    (_, of_png, of_tiff) = record_of(tmp_path / "flat", "long")["warnings"]
    assert of_png.startswith("long.png: ")
    assert of_tiff.startswith("long.tif: ")


def test_what_cannot_be_scored_is_done_and_says_so(tmp_path, out):
    one = Localizations({"x": [5.0], "y": [7.0]}, field_of_view=(0, 0, 100, 100))
    write_localizations(one, tmp_path / "one.parquet")
    summary = reconstruct_folder(Renderer(pixel_size=10), tmp_path / "one.parquet", out)
    assert summary["status"][0] == "done"
    assert "not scored: " in summary["warnings"][0]
    assert np.isnan(summary["held_out_area"][0])


def test_warnings_are_in_the_record_of_their_acquisition(tmp_path, out):
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "holes.csv").write_text('"x [nm]","y [nm]"\n1,2\nnan,4\n500,600\n')
    (folder / "whole.csv").write_text('"x [nm]","y [nm]"\n1,2\n3,4\n500,600\n')
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reconstruct_folder(Renderer(pixel_size=10), folder, out)
    assert "1 of 3 rows cannot be used" in record_of(out, "holes")["warnings"][0]
    assert not any("rows" in text for text in record_of(out, "whole")["warnings"])


def test_threads_collect_their_own_warnings():
    collected, meet = {}, threading.Barrier(3)

    def warn(name):
        with collect_warnings() as texts:
            meet.wait()
            for _ in range(2):
                warnings.warn(name, UnusedRowsWarning, stacklevel=1)
            meet.wait()
        collected[name] = texts

    threads = [threading.Thread(target=warn, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    meet.wait()
    with pytest.warns(RuntimeWarning, match="somebody else"):
        warnings.warn("somebody else's", RuntimeWarning, stacklevel=1)
    meet.wait()
    for thread in threads:
        thread.join()
    assert collected == {"a": ["a"], "b": ["b"]}
    with pytest.warns(UnusedRowsWarning, match="shown"):
        warnings.warn("shown", UnusedRowsWarning, stacklevel=1)
    with pytest.warns(RuntimeWarning, match="numpy's"), collect_warnings() as texts:
        warnings.warn("numpy's", RuntimeWarning, stacklevel=1)
    assert texts == []


def test_tables_that_do_not_state_their_pixel_size(acquisitions, out):
    sidecar = acquisitions / "fov_1.yaml"
    text = sidecar.read_text()
    stated = float(next(line for line in text.splitlines() if "Pixelsize" in line).split(":")[1])
    sidecar.write_text("\n".join(line for line in text.splitlines() if "Pixelsize" not in line))
    assert reconstruct_folder(SMOOTH, acquisitions, out)["status"].tolist() == (
        ["done", "failed", "done"]
    )
    summary = reconstruct_folder(SMOOTH, acquisitions, out, camera_pixel_size=stated, redo=True)
    assert (summary["status"] == "done").all()
    assert summary["width_px"].tolist() == [150] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": "all"}, "train must be one of 'each', 'pooled', None, got 'all'"),
        ({"formats": ["jpeg"]}, "formats must be .* got 'jpeg'"),
        ({"ngff": "0.3"}, "ngff must be"),
        ({"pyramid": "max"}, "pyramid must be"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"camera_pixel_size": 0}, "pixel_size must be a positive number"),
    ],
)
def test_parameters_are_checked_before_any_work(acquisitions, out, options, message):
    with pytest.raises(InvalidInputError, match=message):
        reconstruct_folder(SMOOTH, acquisitions, out, **options)
    assert not out.exists()


@pytest.mark.parametrize(
    ("estimator", "options", "message"),
    [
        (GaussianKDE(), {}, "GaussianKDE"),
        (LocalizationFilter(), {}, "makes no image"),
        (learner(), {}, "not fitted yet.*train='each'"),
        (Renderer(), {"deviation": True}, "a single opinion has no deviation"),
    ],
)
def test_estimators_that_cannot_do_it_are_refused_before_any_work(
    acquisitions, out, estimator, options, message
):
    with pytest.raises((InvalidInputError, InvalidTypeError), match=message):
        reconstruct_folder(estimator, acquisitions, out, **options)
    assert not out.exists()


def test_only_networks_can_be_trained(acquisitions, out):
    with pytest.raises(InvalidTypeError, match="only an N2NReconstructor"):
        reconstruct_folder(SMOOTH, acquisitions, out, train="each")


def test_results_of_one_name_are_refused(acquisitions, tables, out):
    write_localizations(tables["fov_0"], acquisitions / "FOV_1.parquet")
    with pytest.raises(InvalidInputError, match="several tables are called fov_1: rename"):
        reconstruct_folder(SMOOTH, acquisitions, out)


def test_results_do_not_mix_with_tables(acquisitions):
    with pytest.raises(InvalidInputError, match="another folder than the tables"):
        reconstruct_folder(SMOOTH, acquisitions, acquisitions / ".." / "acquisitions")


def test_a_folder_without_tables_is_refused(tmp_path, out):
    with pytest.raises(InvalidInputError, match="no tables of localizations"):
        reconstruct_folder(SMOOTH, tmp_path, out)
    with pytest.raises(InvalidInputError, match="no such folder"):
        reconstruct_folder(SMOOTH, tmp_path / "gone", out)


def test_importing_it_loads_nothing_heavy():
    program = (
        "import sys, smlmkit.batch.folder; "
        "print({'dask', 'distributed', 'torch', 'zarr', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    assert done.stdout.strip() == "set()"


@pytest.fixture
def endless(monkeypatch):
    """Have trainings wait after some steps until they are told to stop, and count the steps."""
    from smlmkit.nn import training

    taken, reached = [], threading.Event()
    take_step = training._Training._take_step

    def take_and_wait(self, batch):
        taken.append(self.n_samples)
        if len(taken) == 2:
            reached.set()
            assert training._stop.get().wait(60)
        return take_step(self, batch)

    monkeypatch.setattr(training._Training, "_take_step", take_and_wait)
    return taken, reached


def test_a_stopped_training_goes_on(acquisitions, out, endless, monkeypatch):
    taken, reached = endless
    wait = _acquisitions.as_completed

    def interrupt(futures):
        assert reached.wait(60)
        raise KeyboardInterrupt

    monkeypatch.setattr(_acquisitions, "as_completed", interrupt)
    network, table = learner(random_state=0, max_seconds=None), acquisitions / "fov_0.parquet"
    network.set_params(max_samples=20)
    with pytest.raises(KeyboardInterrupt):
        reconstruct_folder(network, table, out, train="each")
    assert taken == [0, 4]
    assert not (out / "models" / "fov_0.smlmkit").exists()
    assert len(list((out / ".work" / "checkpoints").glob("*.checkpoint"))) == 1
    monkeypatch.setattr(_acquisitions, "as_completed", wait)
    assert reconstruct_folder(network, table, out, train="each")["status"].tolist() == ["done"]
    assert taken == [0, 4, 8, 12, 16]


def test_a_model_is_not_trained_twice_nor_believed_when_it_is_damaged(
    acquisitions, out, monkeypatch
):
    table, network = acquisitions / "fov_0.parquet", learner(random_state=0)
    model = out / "models" / "fov_0.smlmkit"

    def fail(*_, **__):
        raise InvalidInputError("interrupted")

    with monkeypatch.context() as patch:
        patch.setattr(_acquisitions, "reconstruct_field", fail)
        reconstruct_folder(network, table, out, train="each")
    before = model.stat().st_mtime_ns
    (out / ".work" / "ledger.jsonl").unlink()  # the model itself is the proof
    assert reconstruct_folder(network, table, out, train="each")["status"][0] == "done"
    assert model.stat().st_mtime_ns == before
    whole = model.read_bytes()
    model.write_bytes(whole[:-1] + b"\0")
    (out / "records" / "fov_0.json").unlink()
    assert reconstruct_folder(network, table, out, train="each")["status"][0] == "done"
    assert load_model(model).training_summary_["n_fields"] == 1
    assert model.stat().st_mtime_ns != before


def test_a_training_that_a_cluster_does_twice_is_done_once(tables, tmp_path):
    points = sort_by_tiles(tables["fov_0"], tmp_path / "points.parquet")
    model = tmp_path / "model.smlmkit"
    training = Training((points.digest,), (points.path,), model, tmp_path / "checkpoints")
    train_model(as_trainable(learner(), seed=0), training)
    before = model.stat().st_mtime_ns
    train_model(as_trainable(learner(), seed=0), training)
    assert model.stat().st_mtime_ns == before
    train_model(as_trainable(learner(), seed=1), training)
    assert model.stat().st_mtime_ns != before


def test_what_began_as_redo_is_finished_without(acquisitions, out, monkeypatch):
    reconstruct_folder(SMOOTH, acquisitions, out)
    other = make_pipeline(Renderer(pixel_size=20), GaussianKDE(60))

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_acquisitions, "write_summary", interrupt)
        with pytest.raises(KeyboardInterrupt):
            reconstruct_folder(other, acquisitions, out, redo=True)
    summary = reconstruct_folder(other, acquisitions, out)
    assert summary["status"].tolist() == ["done"] * 3
    for row in summary.itertuples():
        expected = other.transform(read_localizations(acquisitions / row.file))
        np.testing.assert_allclose(read_image(out / row.image), expected, atol=1e-6)


def test_records_that_the_ledger_does_not_know_are_not_believed(acquisitions, out):
    reconstruct_folder(SMOOTH, acquisitions, out)
    (out / ".work" / "ledger.jsonl").unlink()
    reconstruct_folder(SMOOTH, acquisitions, out)
    assert len(started(out)) == 3


class LostClient:
    status = "closed"


def test_a_lost_scheduler_ends_the_run_and_dead_workers_do_not(acquisitions, out, monkeypatch):
    def lose(*_, **__):
        raise ClusterError("5 workers died")

    monkeypatch.setattr(_acquisitions, "reconstruct_field", lose)
    monkeypatch.setattr("smlmkit.batch.jobs.run_jobs", in_this_thread)
    client = LostClient()
    with pytest.raises(ClusterError):
        reconstruct_folder(SMOOTH, acquisitions, out, client=client)
    assert not list((out / "records").glob("*.json"))
    client.status = "running"
    summary = reconstruct_folder(SMOOTH, acquisitions, out, client=client)
    assert summary["error"].tolist() == ["5 workers died"] * 3


def in_this_thread(work, context, jobs, **_):
    return [(job, work(context, job)) for job in jobs]


@pytest.mark.parametrize("lost", ["fov_0.ome.zarr", "fov_0_deviation.ome.zarr", "metadata"])
def test_what_is_gone_is_made_anew(acquisitions, tables, out, lost):
    network = learner(random_state=0, tta=True).fit(list(tables.values()))
    table = acquisitions / "fov_0.parquet"
    reconstruct_folder(network, table, out, deviation=True)
    if lost == "metadata":
        next(iter(out.glob("fov_0.ome.zarr/*/**/zarr.json"))).write_text("{}")
    else:
        shutil.rmtree(out / lost)
    reconstruct_folder(network, table, out, deviation=True)
    assert started(out) == ["fov_0"]
    deviation = read_image(out / "fov_0_deviation.ome.zarr")
    image, expected = network.predict(tables["fov_0"], return_deviation=True)
    np.testing.assert_allclose(deviation, expected, rtol=1e-4, atol=1e-5 * float(expected.max()))
    np.testing.assert_allclose(
        read_image(out / "fov_0.ome.zarr"), image, rtol=1e-4, atol=1e-5 * float(image.max())
    )


def test_the_summary_is_of_these_acquisitions(acquisitions, out):
    reconstruct_folder(SMOOTH, acquisitions, out)
    (acquisitions / "fov_0.parquet").unlink()
    summary = reconstruct_folder(SMOOTH, acquisitions, out)
    assert summary["acquisition"].tolist() == ["fov_1", "fov_2"]
    assert pd.read_csv(out / "summary.csv")["acquisition"].tolist() == ["fov_1", "fov_2"]


def test_a_refused_run_leaves_what_is_known_of_the_last_one(acquisitions, tables, out):
    reconstruct_folder(SMOOTH, acquisitions, out, command="smlmkit reconstruct")
    before = (out / "run.json").read_text()
    assert json.loads(before)["command"] == "smlmkit reconstruct"
    write_localizations(tables["fov_0"], acquisitions / "fov_2.parquet", overwrite=True)
    with pytest.raises(ChangedRunError):
        reconstruct_folder(SMOOTH, acquisitions, out, formats=["png"])
    assert (out / "run.json").read_text() == before


def test_outputs_of_other_options_do_not_outlive_their_image(acquisitions, tables, out):
    table = acquisitions / "fov_0.parquet"
    network = learner(random_state=0, tta=True)
    formats = ["png", "tiff"]
    reconstruct_folder(network, table, out, train="each", deviation=True, formats=formats)
    assert {path.suffix for path in out.glob("fov_0*")} == {".zarr", ".png", ".tif"}
    reconstruct_folder(SMOOTH, table, out, redo=True)
    assert [path.name for path in out.glob("fov_0*")] == ["fov_0.ome.zarr"]
    assert not list((out / "models").iterdir())


def test_pooled_training_says_what_it_leaves_out_and_raises_what_it_must(
    acquisitions, out, monkeypatch
):
    (acquisitions / "broken.csv").write_bytes(b"\0")

    def fail(*_):
        raise OutputError(errno.ENOSPC, "disk full")

    with monkeypatch.context() as patch:
        patch.setattr(_tables, "prepare", fail)
        with pytest.raises(OutputError, match="disk full"):
            reconstruct_folder(learner(), acquisitions, out, train="pooled")
    reconstruct_folder(learner(), acquisitions, out, train="pooled")
    events = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    left_out = {e["acquisition"] for e in events if e["event"] == "left out of the training"}
    assert left_out == {"broken"}


@pytest.mark.parametrize(
    ("parameters", "options", "message"),
    [
        ({}, {"tile": 100}, "tile must be a multiple"),
        ({}, {"tile": 1000, "ngff": "0.4"}, "tile must be a multiple"),
        ({}, {"deviation": True}, "a single opinion has no deviation"),
        ({"n_splits": 1}, {}, "n_splits=1 would split tiles"),
        ({"depth": 0}, {}, "depth"),
        ({"random_state": np.random.RandomState(0)}, {}, "random_state must be a whole number"),
    ],
)
def test_what_would_fail_after_training_is_refused_before(
    acquisitions, out, parameters, options, message
):
    network = N2NReconstructor(**{**TINY, **parameters}, pixel_size=20, device="cpu")
    with pytest.raises(InvalidInputError, match=message):
        reconstruct_folder(network, acquisitions, out, train="each", **options)
    assert not out.exists()


def test_a_tile_that_does_not_fit_is_refused_before_any_work(acquisitions, out):
    with pytest.raises(InvalidInputError, match="tile must be a multiple"):
        reconstruct_folder(SMOOTH, acquisitions, out, tile=100)
    assert not out.exists()


def test_a_seed_of_numpy_is_a_seed():
    trainable = as_trainable(learner(random_state=np.int64(5)), seed=1)
    assert trainable.random_state == 5
    assert as_trainable(learner(random_state=None), seed=1).random_state == 1


def test_names_of_tables_do_not_meet_those_of_the_work(tables, tmp_path, out):
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in ("ledger.jsonl", "checkpoints", "points"):
        write_localizations(tables["fov_0"], folder / f"{name}.parquet")
    summary = reconstruct_folder(learner(), folder, out, train="each")
    assert summary["status"].tolist() == ["done"] * 3


def test_equal_tables_of_two_names_are_trained_on_twice(tables, tmp_path, out):
    folder = tmp_path / "equal"
    folder.mkdir()
    for name in "ab":
        write_localizations(tables["fov_0"], folder / f"{name}.parquet")
    for train in ("each", "pooled"):
        summary = reconstruct_folder(learner(), folder, out / train, train=train)
        assert summary["status"].tolist() == ["done", "done"]
    assert (
        load_model(out / "pooled" / "models" / "pooled.smlmkit").training_summary_["n_fields"] == 2
    )


def test_a_damaged_image_that_shall_be_drawn_is_made_anew(acquisitions, out, differing_files):
    reconstruct_folder(SMOOTH, acquisitions, out)
    expected = read_image(out / "fov_1.ome.zarr").load()
    chunks = [path for path in (out / "fov_1.ome.zarr").rglob("*") if path.is_file()]
    for path in chunks:
        if path.name != "zarr.json":
            path.write_bytes(b"damaged" * 100)
    summary = reconstruct_folder(SMOOTH, acquisitions, out, formats=["png"])
    assert summary["status"].tolist() == ["done"] * 3
    assert started(out) == ["fov_1"]
    np.testing.assert_array_equal(read_image(out / "fov_1.ome.zarr"), expected)
    assert len(list(out.glob("*.png"))) == 3


def test_scores_that_are_seen_say_so_and_failures_have_none(acquisitions, out, monkeypatch):
    def fail(*_, **__):
        raise InvalidInputError("no image")

    monkeypatch.setattr(_acquisitions, "reconstruct_field", fail)
    summary = reconstruct_folder(learner(), acquisitions, out, train="each")
    assert not summary["warnings"].str.contains("held out").any()
    assert summary["held_out_is_seen"].isna().all()
    monkeypatch.undo()
    summary = reconstruct_folder(learner(), acquisitions, out, train="each")
    assert summary["held_out_is_seen"].tolist() == [True] * 3


def test_a_file_that_cannot_be_read_any_more_fails_alone(acquisitions, out, monkeypatch):
    reconstruct_folder(SMOOTH, acquisitions, out)
    state = _acquisitions.file_state

    def refuse(file):
        if file.stem == "fov_1":
            raise PermissionError(errno.EACCES, "no")
        return state(file)

    monkeypatch.setattr(_acquisitions, "file_state", refuse)
    reconstruct_folder(SMOOTH, acquisitions, out)
    assert started(out) == ["fov_1"]


def test_times_of_attempts_are_added_up(acquisitions, out, monkeypatch):
    def fail(*_, **__):
        raise InvalidInputError("no image")

    table = acquisitions / "fov_0.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(_acquisitions, "reconstruct_field", fail)
        patch.setattr(_acquisitions.time, "perf_counter", iter(range(1000)).__next__)
        first = reconstruct_folder(SMOOTH, table, out)
    second = reconstruct_folder(SMOOTH, table, out)
    assert first["total_seconds"][0] >= 3
    assert second["total_seconds"][0] >= first["total_seconds"][0]
    assert second["measure_seconds"][0] >= 0
    assert second["measured_px"][0] == "0 0 150 150"


def test_a_changed_training_set_is_not_called_a_changed_file(acquisitions, tables, out):
    reconstruct_folder(learner(), acquisitions, out, train="pooled")
    (acquisitions / "fov_0.parquet").unlink()
    with pytest.raises(ChangedRunError, match="trained on other acquisitions than there are now"):
        reconstruct_folder(learner(), acquisitions, out, train="pooled")


def test_warnings_of_a_training_are_not_lost_on_resuming(acquisitions, out, monkeypatch):
    fit, table = N2NReconstructor.fit, acquisitions / "fov_0.parquet"

    def fit_and_warn(self, X, y=None):
        warnings.warn("a rough training", SmlmkitWarning, stacklevel=1)
        return fit(self, X, y)

    def fail(*_, **__):
        raise InvalidInputError("no image")

    with monkeypatch.context() as patch:
        patch.setattr(N2NReconstructor, "fit", fit_and_warn)
        patch.setattr(_acquisitions, "reconstruct_field", fail)
        reconstruct_folder(learner(), table, out, train="each")
    summary = reconstruct_folder(learner(), table, out, train="each")
    assert "a rough training" in summary["warnings"][0]


def test_as_many_acquisitions_at_once_as_a_cluster_may_come_to_take(acquisitions, out, monkeypatch):
    sizes = []
    crew = _acquisitions.ThreadPoolExecutor

    def count(size, **options):
        sizes.append(size)
        return crew(size, **options)

    monkeypatch.setattr(_acquisitions, "ThreadPoolExecutor", count)
    monkeypatch.setattr("smlmkit.batch.jobs.run_jobs", in_this_thread)
    monkeypatch.setattr("smlmkit.batch.field.run_jobs", in_this_thread, raising=False)
    reconstruct_folder(SMOOTH, acquisitions, out, client=LostClient())  # no worker so far
    reconstruct_folder(SMOOTH, acquisitions, out)
    assert sizes == [3, 1]
