"""The command ``reconstruct``: folders of acquisitions by models and pipelines."""

import json
import re
import shlex
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import tifffile
from sklearn.pipeline import make_pipeline

from smlmkit import (
    AnisotropicKDE,
    Localizations,
    N2NReconstructor,
    Renderer,
    load_model,
    make_acquisitions,
    read_image,
    read_localizations,
    write_localizations,
)
from smlmkit.cli import main

TINY = {"depth": 2, "width": 4, "patch_size": 16, "max_samples": 16, "batch_size": 4}


@pytest.fixture
def run(capsys, monkeypatch):
    """Run a command in this process: exit code, stdout and stderr."""
    monkeypatch.setattr("warnings.showwarning", lambda *_, **__: None)

    def run_command(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main(["reconstruct", *map(str, arguments)])
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return run_command


@pytest.fixture(scope="module")
def acquisitions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "acquisitions"
    make_acquisitions(folder, 2, field_size=2000, density=1000, random_state=0)
    return folder


@pytest.fixture(scope="module")
def model(acquisitions, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.smlmkit"
    fovs = [read_localizations(file) for file in sorted(acquisitions.glob("*.hdf5"))]
    N2NReconstructor(**TINY, device="cpu", random_state=0, verbose=False).fit(fovs).save(path)
    return path


@pytest.fixture
def pipeline(tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text("- Renderer: {pixel_size: 10}\n- AnisotropicKDE: {scale: 2}\n")
    return path


@pytest.fixture
def out(tmp_path):
    return tmp_path / "results"


def test_a_model_reconstructs_a_folder(run, acquisitions, model, out):
    code, told, err = run(
        acquisitions, out, "--model", model, "--format", "tiff", "--device", "cpu"
    )
    assert (code, err) == (0, "")
    assert told.splitlines() == [
        str(out / name) for name in ("fov_01.ome.zarr", "fov_02.ome.zarr", "summary.csv")
    ]
    expected = load_model(model, device="cpu").predict(
        read_localizations(acquisitions / "fov_02.hdf5")
    )
    stored = read_image(out / "fov_02.ome.zarr")
    np.testing.assert_allclose(stored, expected, rtol=1e-4, atol=1e-5 * float(expected.max()))
    np.testing.assert_array_equal(tifffile.imread(out / "fov_02.tif"), stored)
    assert pd.read_csv(out / "summary.csv")["status"].tolist() == ["done", "done"]
    assert json.loads((out / "run.json").read_text())["command"] == shlex.join(sys.argv)


def test_a_pipeline_reconstructs_a_folder(run, acquisitions, pipeline, out):
    assert run(acquisitions, out, "-p", pipeline, "--pyramid", "none", "--ngff", "0.4")[0] == 0
    table = read_localizations(acquisitions / "fov_01.hdf5")
    expected = make_pipeline(Renderer(10), AnisotropicKDE(scale=2)).fit(table).transform(table)
    np.testing.assert_allclose(read_image(out / "fov_01.ome.zarr"), expected, rtol=1e-6)
    assert (out / "fov_01.png").read_bytes().startswith(b"\x89PNG")


def test_a_single_table_will_do(run, acquisitions, pipeline, out):
    code, told, _ = run(acquisitions / "fov_01.hdf5", out, "-p", pipeline)
    assert code == 0
    assert told.splitlines()[0] == str(out / "fov_01.ome.zarr")


def test_training_comes_first_if_asked(run, acquisitions, tmp_path, out):
    pipeline = tmp_path / "network.yaml"
    parameters = ", ".join(f"{name}: {value}" for name, value in TINY.items())
    pipeline.write_text(f"- N2NReconstructor: {{{parameters}, device: cpu}}\n")
    code, _, err = run(acquisitions, out, "-p", pipeline)
    assert code == 1
    assert "not fitted yet" in err
    code, _, err = run(acquisitions, out, "-p", pipeline, "--train", "pooled", "--seed", 3)
    assert (code, err) == (0, "")
    assert load_model(out / "models" / "pooled.smlmkit").training_summary_["n_fields"] == 2


def test_opinions_and_their_deviation(run, acquisitions, model, out):
    code, _, err = run(acquisitions, out, "-m", model, "--deviation")
    assert code == 1
    assert "a single opinion has no deviation" in err
    assert not out.exists()
    options = ("--tta", "--deviation", "--format", "ome-zarr")
    assert run(acquisitions, out, "-m", model, *options)[0] == 0
    assert read_image(out / "fov_01_deviation.ome.zarr").shape == (200, 200)


def test_a_bad_table_is_reported_and_the_others_go_on(run, acquisitions, pipeline, tmp_path, out):
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "broken.csv").write_bytes(b"\x00\x01\x02")
    write_localizations(read_localizations(acquisitions / "fov_01.hdf5"), folder / "good.parquet")
    code, told, err = run(folder, out, "-p", pipeline)
    assert code == 1
    first, last = err.splitlines()
    assert first.startswith(f"smlmkit: error: {folder / 'broken.csv'}: ")
    assert first.count("broken.csv") == 1
    assert last == "1 of 2 acquisitions failed"
    assert told.splitlines() == [str(out / "good.ome.zarr"), str(out / "summary.csv")]
    _, _, err = run(folder, out, "-p", pipeline)
    assert err.splitlines()[-1] == "1 done before, 1 tried, 1 failed"


def test_other_parameters_are_refused_unless_they_shall_replace(run, acquisitions, pipeline, out):
    assert run(acquisitions, out, "-p", pipeline)[0] == 0
    pipeline.write_text("- Renderer: {pixel_size: 20}")
    code, told, err = run(acquisitions, out, "-p", pipeline)
    assert (code, told) == (1, "")
    assert err.startswith("smlmkit: error: ")
    assert "pass --redo to" in err
    assert err.startswith(f"smlmkit: error: {out} holds a run")
    assert read_image(out / "fov_01.ome.zarr").shape == (200, 200)
    assert run(acquisitions, out, "-p", pipeline, "--redo")[0] == 0
    assert read_image(out / "fov_01.ome.zarr").shape == (100, 100)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give either --model or --pipeline"),
        (["-m", "MODEL", "-p", "PIPELINE"], "give either --model or --pipeline"),
        (["-p", "PIPELINE", "--tta"], "--tta: the pipeline ends with no network"),
        (["-p", "PIPELINE", "--device", "cpu"], "--device: the pipeline ends with no network"),
        (["-m", "MODEL", "--train", "each"], "--train needs a --pipeline"),
        (["-p", "PIPELINE", "--workers", 2, "--slurm", 2], "one of --scheduler, --workers"),
        (["-p", "PIPELINE", "--workers", 0], "0 is not in the range"),
        (["-p", "PIPELINE", "--format", "jpeg"], "'jpeg' is not one of"),
        (["-p", "gone.yaml"], "does not exist"),
    ],
)
def test_wrong_usage(run, acquisitions, model, pipeline, out, options, message):
    files = {"MODEL": model, "PIPELINE": pipeline}
    code, _, err = run(acquisitions, out, *(files.get(option, option) for option in options))
    assert code == 2
    assert message in err
    assert not out.exists()


def test_a_wrong_pipeline_is_named(run, acquisitions, pipeline, out):
    pipeline.write_text("- Renderer\n- GaussianKDE: {sgma: 3}\n")
    code, _, err = run(acquisitions, out, "-p", pipeline)
    assert code == 1
    assert err.startswith(f"smlmkit: error: {pipeline}, line 2, step 2 (GaussianKDE): ")


def test_a_truncated_model_is_named(run, acquisitions, model, tmp_path, out):
    cut = tmp_path / "cut.smlmkit"
    cut.write_bytes(model.read_bytes()[:-100])
    code, _, err = run(acquisitions, out, "--model", cut)
    assert code == 1
    assert err.startswith(f"smlmkit: error: {cut}: not a whole smlmkit model file")
    assert not out.exists()


def test_two_tables_of_one_name_are_refused(run, pipeline, tmp_path, out):
    folder = tmp_path / "tables"
    folder.mkdir()
    for suffix in (".csv", ".parquet"):
        write_localizations(Localizations(np.array([[1.0, 2.0]])), folder / f"same{suffix}")
    code, _, err = run(folder, out, "-p", pipeline)
    assert code == 1
    assert "several tables are called same" in err


def test_an_output_folder_that_cannot_be_made(run, acquisitions, pipeline, tmp_path):
    (tmp_path / "file").write_text("in the way")
    code, _, err = run(acquisitions, tmp_path / "file" / "out", "-p", pipeline)
    assert code == 1
    assert re.match(rf"smlmkit: error: .*{tmp_path}/file/out.*: Not a directory\n", err)


def test_a_scheduler_that_is_not_there(run, acquisitions, pipeline, out, monkeypatch):
    monkeypatch.setattr("smlmkit.batch.cluster._CONNECT_SECONDS", 0.2)
    code, _, err = run(acquisitions, out, "-p", pipeline, "--scheduler", "tcp://127.0.0.1:1")
    assert code == 1
    assert "no Dask scheduler answers at 'tcp://127.0.0.1:1'" in err


def test_ctrl_c_says_how_to_go_on(run, acquisitions, pipeline, out, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("smlmkit.batch._acquisitions.write_summary", interrupt)
        code, _, err = run(acquisitions, out, "-p", pipeline)
    assert code == 130
    assert err == "smlmkit: interrupted; the same command goes on from here\n"
    assert run(acquisitions, out, "-p", pipeline)[0] == 0


# Ctrl-C comes when the folder of the first acquisition is made: to all processes of the terminal.
INTERRUPTED = """
import os, signal, sys
from smlmkit.cli import main

def interrupt(event, arguments):
    if event == "os.mkdir" and os.path.basename(arguments[0]) == "fov_01":
        os.killpg(0, signal.SIGINT)

sys.addaudithook(interrupt)
if __name__ == "__main__":
    main()
"""


def test_processes_of_this_machine_and_ctrl_c(acquisitions, pipeline, out, tmp_path):
    options = ["reconstruct", acquisitions, out, "-p", pipeline, "--format", "ome-zarr"]
    script = tmp_path / "interrupted.py"
    script.write_text(INTERRUPTED)
    done = subprocess.run(
        [sys.executable, script, *options, "--workers", "1"],
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )
    assert done.returncode == 130, done.stderr
    assert "dashboard: http://" in done.stderr
    stopping = done.stderr.index("smlmkit: stopping; jobs at work are finished first")
    assert stopping < done.stderr.index("smlmkit: interrupted; the same command goes on from here")
    assert "Traceback" not in done.stderr
    resumed = subprocess.run(
        [sys.executable, "-m", "smlmkit", *options, "--workers", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert resumed.returncode == 0, resumed.stderr
    assert pd.read_csv(out / "summary.csv")["status"].tolist() == ["done", "done"]
