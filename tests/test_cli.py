import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from sklearn.pipeline import make_pipeline

from smlmkit import (
    AdaptiveKDE,
    AnisotropicKDE,
    GaussianKDE,
    Localizations,
    Renderer,
    load_model,
    make_actin,
    read_image,
    read_localizations,
    write_localizations,
)
from smlmkit.cli import main

QUICK_TRAINING = [
    *("--max-samples", "16", "--batch-size", "4", "--patch-size", "16"),
    *("--depth", "2", "--width", "4", "--device", "cpu"),
]


@pytest.fixture
def run(capsys):
    """Run a command in this process: exit code, stdout and stderr."""

    def run_command(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return run_command


@pytest.fixture(autouse=True)
def keep_warnings_as_they_were(monkeypatch):
    monkeypatch.setattr("warnings.showwarning", lambda *_, **__: None)


@pytest.fixture(scope="module")
def acquisitions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "acquisitions"
    with pytest.raises(SystemExit) as stopped:
        main(["simulate", str(folder), "-n", "2", "--field-size", "2000", "--density", "1000"])
    assert stopped.value.code == 0
    return folder


def test_simulate_makes_other_structures_and_their_truth(run, tmp_path):
    folder = tmp_path / "actin"
    options = ("-n", 1, "--structure", "actin", "--field-size", 2000, "--truth", "--seed", 3)
    code, out, _ = run("simulate", folder, *options)
    table, truth = make_actin(field_size=2000, density=500, random_state=table_seed(3))
    image = tifffile.imread(folder / "fov_01_truth.tif")
    assert code == 0
    assert out.split() == [str(folder / "fov_01.hdf5"), str(folder / "fov_01_truth.tif")]
    assert len(read_localizations(folder / "fov_01.hdf5")) == len(table)
    np.testing.assert_array_equal(image, truth.image(10))
    code, _, err = run("simulate", folder, "--structure", "primitives", "--filaments", 3)
    assert code == 2
    assert "--filaments means nothing to primitives" in err


def table_seed(seed):
    """Give the seed that the first acquisition of a folder gets."""
    return np.random.RandomState(seed).randint(np.iinfo(np.int32).max, size=1)[0]


def test_info_tells_what_is_in_a_folder(run, acquisitions):
    code, out, _ = run("info", acquisitions, "--json")
    facts = json.loads(out)
    table = read_localizations(acquisitions / "fov_01.hdf5")
    assert code == 0
    assert [Path(fact["file"]).name for fact in facts] == ["fov_01.hdf5", "fov_02.hdf5"]
    assert facts[0]["localizations"] == len(table)
    assert facts[0]["median uncertainty (nm)"] == pytest.approx(10, abs=1)
    code, out, _ = run("info", acquisitions / "fov_01.hdf5")
    assert code == 0
    assert re.search(rf"localizations: {len(table)}\n", out)


def test_render_writes_the_image_that_the_library_makes(run, acquisitions, tmp_path):
    code, out, _ = run(
        "render", acquisitions / "fov_01.hdf5", tmp_path / "a.tif", "--pixel-size", 20
    )
    assert code == 0
    assert "100 x 100 px of 20 nm" in out
    expected = Renderer(20).fit_transform(read_localizations(acquisitions / "fov_01.hdf5"))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), expected)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--mode", "gaussian"], Renderer(20, "gaussian")),
        (["--mode", "gaussian", "--sigma", 15], Renderer(20, "gaussian", sigma=15)),
        (["--mode", "average-shifted"], Renderer(20, "average_shifted")),
        (["--mode", "gaussian-kde"], make_pipeline(Renderer(20), GaussianKDE())),
        (["--mode", "gaussian-kde", "--sigma", 50], make_pipeline(Renderer(20), GaussianKDE(50))),
        (["--mode", "adaptive-kde"], make_pipeline(Renderer(20), AdaptiveKDE())),
        (["--mode", "anisotropic-kde"], make_pipeline(Renderer(20), AnisotropicKDE())),
        (
            ["--mode", "neighbors-kde", "--sigma", 30],
            make_pipeline(Renderer(20), AnisotropicKDE(support="neighbors", sigma=30)),
        ),
    ],
)
def test_render_has_every_mode(run, acquisitions, tmp_path, options, expected):
    table, image = acquisitions / "fov_01.hdf5", tmp_path / "a.tif"
    assert run("render", table, image, "--pixel-size", 20, *options)[0] == 0
    rendering = expected.fit_transform(read_localizations(table))
    np.testing.assert_array_equal(tifffile.imread(image), rendering)


def test_render_makes_a_stack_of_depths(run, tmp_path):
    rng = np.random.default_rng(0)
    columns = {name: rng.uniform(0, 1000, 500) for name in ("x", "y", "z")}
    table = tmp_path / "deep.parquet"
    write_localizations(Localizations(columns, field_of_view=(0, 0, 1000, 1000)), table)
    code, out, _ = run("render", table, tmp_path / "a.ome.zarr", "--z-bins", 5)
    assert code == 0
    assert "5 x 100 x 100 px of 10 nm" in out
    stack = read_image(tmp_path / "a.ome.zarr")
    assert stack.dims == ("z", "y", "x")
    assert float(stack.sum()) == 500


def test_a_width_where_there_is_none_is_wrong_usage(run, acquisitions, tmp_path):
    code, _, err = run("render", acquisitions / "fov_01.hdf5", tmp_path / "a.png", "--sigma", 20)
    assert code == 2
    assert "--sigma means nothing with --mode histogram" in err


def test_an_existing_output_is_refused_before_work_starts(run, acquisitions, tmp_path):
    image = tmp_path / "a.png"
    image.write_text("precious")
    code, _, err = run("render", acquisitions / "fov_01.hdf5", image)
    assert code == 1
    assert err == f"smlmkit: error: {image}: exists already; --overwrite replaces it\n"
    assert image.read_text() == "precious"
    code, _, _ = run("render", acquisitions / "fov_01.hdf5", image, "--overwrite")
    assert code == 0
    assert image.read_bytes().startswith(b"\x89PNG")


def test_frc_in_words_and_as_json(run, acquisitions):
    code, out, _ = run("frc", acquisitions / "fov_01.hdf5", "--json", "--split", "random")
    (measured,) = json.loads(out)
    assert code == 0
    assert 10 < measured["resolution_nm"] < 100
    assert measured["density_per_um2"] > 0
    assert measured["q"] is None
    code, out, _ = run("frc", acquisitions / "fov_01.hdf5", "--split", "random")
    header, row = out.splitlines()
    assert header.split()[:4] == ["file", "localizations", "per", "µm²"]
    assert f"{measured['resolution_nm']:.4g}" in row


def test_frc_of_a_folder_by_fraction_with_a_plot(run, acquisitions, tmp_path):
    chart = tmp_path / "frc.png"
    options = ("--by-fraction", "--repeats", 2, "--plot", chart)
    code, out, _ = run("frc", acquisitions, "--json", *options)
    measured = json.loads(out)
    assert code == 0
    assert [Path(facts["file"]).name for facts in measured] == ["fov_01.hdf5", "fov_02.hdf5"]
    areas = [row["area"] for row in measured[0]["by_fraction"]]
    assert len(areas) == 7
    assert areas[-1] > areas[0]
    assert chart.read_bytes().startswith(b"\x89PNG")
    code, _, err = run("frc", acquisitions, *options)
    assert code == 1
    assert err == f"smlmkit: error: {chart}: exists already; --overwrite replaces it\n"
    code, out, _ = run("frc", acquisitions, *options, "--overwrite")
    assert code == 0
    assert "by fraction of its localizations" in out


@pytest.fixture
def mixed(acquisitions, tmp_path):
    """A good table and two that cannot be measured: no uncertainty, not a table."""
    good = read_localizations(acquisitions / "fov_01.hdf5")
    tables = [tmp_path / name for name in ("bare.parquet", "broken.csv", "good.parquet")]
    bare = Localizations({"x": good["x"], "y": good["y"]}, field_of_view=good.field_of_view)
    write_localizations(bare, tables[0])
    tables[1].write_bytes(b"\x00\x01\x02")
    write_localizations(good, tables[2])
    return tables


def test_frc_reports_bad_tables_and_goes_on(run, mixed, tmp_path):
    bare, broken, good = mixed
    chart = tmp_path / "frc.png"
    options = ("--split", "random", "--q-correction", "--repeats", 1)
    code, out, err = run("frc", *mixed, *options, "--json", "--plot", chart)
    assert code == 1
    assert [facts["file"] for facts in json.loads(out)] == [str(good)]
    of_bare, of_broken, summary = err.splitlines()
    assert of_bare.startswith(f"smlmkit: error: {bare}: there is no column 'uncertainty_x'")
    assert of_broken.startswith(f"smlmkit: error: {broken}: ")
    assert of_broken.count(str(broken)) == 1
    assert summary == "2 of 3 tables could not be measured"
    assert chart.read_bytes().startswith(b"\x89PNG")
    code, out, _ = run("frc", *mixed, *options)
    assert code == 1
    assert len(out.splitlines()) == 2
    assert str(good) in out


def test_frc_draws_nothing_where_nothing_was_measured(run, mixed, tmp_path):
    chart = tmp_path / "frc.png"
    code, out, err = run("frc", mixed[1], "--plot", chart)
    assert (code, out) == (1, "")
    assert "1 of 1 tables could not be measured" in err
    assert not chart.exists()
    code, out, _ = run("frc", mixed[1], "--json")
    assert (code, json.loads(out)) == (1, [])


def test_frc_draws_png_only(run, acquisitions, tmp_path):
    code, out, err = run("frc", acquisitions, "--plot", tmp_path / "frc.pdf")
    assert (code, out) == (2, "")
    assert "--plot draws a PNG, not 'frc.pdf'" in err
    assert not any(tmp_path.iterdir())
    table = acquisitions / "fov_01.hdf5"
    code, _, _ = run("frc", table, "--repeats", 1, "--plot", tmp_path / "FRC.PNG")
    assert code == 0


def test_frc_says_why_there_is_no_resolution(run, acquisitions):
    code, out, _ = run("frc", acquisitions / "fov_01.hdf5", "--pixel-size", 60)
    assert code == 0
    assert "never falls below the 1/7 threshold" in out
    _, out, _ = run("frc", acquisitions / "fov_01.hdf5", "--pixel-size", 60, "--json")
    assert json.loads(out)[0]["resolution_nm"] is None


def test_frc_corrects_random_splits_only(run, acquisitions):
    table = acquisitions / "fov_01.hdf5"
    code, out, _ = run("frc", table, "--split", "random", "--q-correction", "--json")
    assert code == 0
    assert json.loads(out)[0]["q"] > 0
    code, _, err = run("frc", table, "--q-correction")
    assert code == 2
    assert "--q-correction corrects --split random" in err


def test_training_by_all_options(run, acquisitions, tmp_path):
    model = tmp_path / "model.smlmkit"
    code, told, _ = run(
        *("train", acquisitions, "-o", model, "--strategy", "sparse2dense", "--network", "light"),
        *("--loss", "mse + 0.02*frc", "--schedule", "one_cycle", "--max-gradient-norm", 0.1),
        *("--n-estimators", 2, "--early-stopping", "--epoch-size", 8, "--precision", "auto"),
        *("--checkpoint-folder", tmp_path / "checkpoints", "--patch-size", 16, "--depth", 2),
        *("--width", 4, "--batch-size", 4, "--max-samples", 16),
    )
    assert code == 0
    assert "trained on 1 tables, 32 pairs" in told
    assert "held-out FRC area" in told
    assert len(load_model(model).networks_) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["info", "nowhere.csv"], 2, "does not exist"),
        (["train", "."], 2, "Missing option '--out'"),
        (["magic"], 2, "No such command"),
        (["frc", ".", "--seed", "-1"], 2, "'--seed': -1 is not in the range"),
        (["demo", "x", "--minutes", "0"], 2, "'--minutes': 0.* is not in the range"),
        (["info", "EMPTY"], 1, r"smlmkit: error: .*no tables of localizations"),
    ],
)
def test_exit_codes_and_messages(run, tmp_path, arguments, code, message):
    arguments = [str(tmp_path) if argument == "EMPTY" else argument for argument in arguments]
    stopped, _, err = run(*arguments)
    assert stopped == code
    assert re.search(message, err)


def test_a_model_that_cannot_be_written_is_refused_before_training(run, acquisitions, tmp_path):
    for out, reason in (
        (tmp_path / "nowhere" / "m.smlmkit", f"the folder {tmp_path / 'nowhere'} does not exist"),
        (tmp_path, "is a folder"),
    ):
        code, _, err = run("train", acquisitions, "--out", out, "--overwrite")  # hours otherwise
        assert code == 1
        assert reason in err


def test_an_outlier_does_not_exhaust_memory(run, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text('"x [nm]","y [nm]"\n1,2\n1e12,1e12\n')
    code, _, err = run("render", table, tmp_path / "a.png")
    assert code == 1
    assert re.search("pixels of 10 nm are too many.* outlier", err)


def test_system_files_in_a_folder_are_no_tables(run, tmp_path):
    write_localizations(Localizations(np.array([[1.0, 2.0]])), tmp_path / "a.csv")
    (tmp_path / "._a.csv").write_bytes(b"")
    (tmp_path / "b.csv").mkdir()
    code, out, _ = run("info", tmp_path, "--json")
    assert code == 0
    assert [Path(fact["file"]).name for fact in json.loads(out)] == ["a.csv"]


def test_the_demo_runs_to_its_end(run, tmp_path):
    folder = tmp_path / "demo"
    code, out, _ = run("demo", folder, "--minutes", 0.05)
    assert code == 0
    scores = {
        line.split("  ")[0].strip(): [float(number) for number in line.split()[-4:]]
        for line in out.splitlines()
        if line.startswith(("raw", "Gaussian", "Noise2Noise"))
    }
    assert len(scores) == 7
    assert scores["raw"][0] == pytest.approx(0.321, abs=0.01)
    for name in ("reconstruction.png", "zoom.png", "model.smlmkit", "acquisitions/fov_04.hdf5"):
        assert (folder / name).stat().st_size > 1000
        assert name.startswith("acq") or str(folder / name) in out
    code, _, err = run("demo", folder)
    assert code == 1
    assert err == f"smlmkit: error: {folder}: cannot make this folder: File exists\n"


def smlmkit(*arguments, **options):
    command = [sys.executable, "-c", "from smlmkit.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_help_needs_no_heavy_library():
    script = (
        "import sys, smlmkit.cli\n"
        "try: smlmkit.cli.main(['train', '--help'])\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "heavy = {'torch', 'sklearn', 'numba', 'pandas', 'xarray', 'zarr', 'matplotlib', 'dask'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_warnings_are_one_line_on_stderr(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text('"x [nm]","y [nm]"\n1,2\nnan,4\n5,6\n')
    done = smlmkit("info", str(path))
    assert done.returncode == 0
    assert done.stderr == (
        "smlmkit: warning: table.csv: 1 of 3 rows cannot be used: 1 with x or y not finite\n"
    )
