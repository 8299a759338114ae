"""The commands that convert tables and tell what is in them."""

import json
import re

import numpy as np
import pytest

from smlmkit import Localizations, read_localizations, write_localizations
from smlmkit.cli import main

BLINKS = Localizations(
    {
        "x": [150.0, 990.0, 420.0],
        "y": [250.0, 480.0, 130.0],
        "frame": [0, 6, 9],
        "photons": [900.0, 800.0, 700.0],
        "uncertainty_x": [8.0, 9.0, 10.0],
        "uncertainty_y": [8.0, 9.0, 10.0],
    },
    field_of_view=(0, 0, 500, 1000),
    metadata={"camera_pixel_size": 100.0, "n_frames": 20},
)


@pytest.fixture
def run(capsys, monkeypatch):
    """Run a command in this process: exit code, stdout and stderr."""
    monkeypatch.setattr("warnings.showwarning", None)  # main sets it; put back in the end

    def run_command(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return stopped.value.code, captured.out, captured.err

    return run_command


@pytest.fixture
def table(tmp_path):
    """A file that keeps all that there is to know of the table."""
    path = tmp_path / "blinks.parquet"
    write_localizations(BLINKS, path)
    return path


def files_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class TestConvert:
    @pytest.mark.parametrize(
        ("name", "options", "written"),
        [
            ("out.parquet", [], "parquet"),
            ("out.hdf5", [], "picasso"),
            ("out.csv", [], "thunderstorm"),
            ("out.smlm", [], "smlm"),
            ("out.h5", ["--format", "decode"], "decode"),
            ("out.table", ["--format", "thunderstorm"], "thunderstorm"),
        ],
    )
    def test_to_every_format_and_back(self, run, table, tmp_path, name, options, written):
        out, again = tmp_path / name, tmp_path / "again.parquet"
        code, told, err = run("convert", table, out, *options)
        assert (code, told, err) == (0, f"{out}: 3 localizations, {written}\n", "")
        assert run("convert", out, again)[0] == 0
        back = read_localizations(again)
        if written not in ("parquet", "picasso", "smlm"):  # these keep the metadata, too
            assert back.metadata["format"] == written
        for column in BLINKS:
            np.testing.assert_allclose(back[column], BLINKS[column], rtol=1e-6, err_msg=column)

    def test_any_text_table_by_its_columns(self, run, tmp_path):
        table, out = tmp_path / "own.txt", tmp_path / "out.parquet"
        table.write_text("a=b;Pos Y;t\n1.5;2;7\n")
        code, _, err = run("convert", table, out)
        assert code == 1
        assert "no known format" in err
        columns = ["x=a=b [px]", "y=Pos Y [um]", "frame=t"]
        options = [word for column in columns for word in ("--column", column)]
        assert run("convert", table, out, *options, "--camera-pixel-size", 100)[0] == 0
        back = read_localizations(out)
        assert {name: back[name].tolist() for name in back} == {
            "x": [150.0],
            "y": [2000.0],
            "frame": [7],
        }

    def test_picasso_gets_what_the_table_lacks(self, run, tmp_path):
        table, out = tmp_path / "bare.csv", tmp_path / "bare.hdf5"
        table.write_text('"x [px]","y [px]"\n1,2\n3,4\n')
        code, _, err = run("convert", table, out, "--camera-pixel-size", 160)
        assert code == 1
        assert re.search("Picasso needs 'uncertainty_x'", err)
        assert list(tmp_path.iterdir()) == [table]
        options = ("--camera-pixel-size", 160, "--uncertainty", 12)
        assert run("convert", table, out, *options)[0] == 0
        back = read_localizations(out)
        assert back.metadata["camera_pixel_size"] == 160
        np.testing.assert_allclose(back["uncertainty_x"], 12, rtol=1e-6)
        np.testing.assert_allclose(back.x, [160, 480], rtol=1e-6)
        # Parquet's tables know of no camera unless it was told.
        write_localizations(Localizations({"x": [500.0], "y": [900.0]}), tmp_path / "nm.parquet")
        assert run("convert", tmp_path / "nm.parquet", out, *options, "--overwrite")[0] == 0
        assert read_localizations(out).metadata["camera_pixel_size"] == 160

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (["out.xlsx"], 1, r"out\.xlsx: the suffix names no format; known are \.hdf5"),
            (["out.txt"], 1, r"out\.txt: the suffix names no format"),
            (["out.csv", "--format", "elyra"], 1, "format must be one of .*, got 'elyra'"),
            (["out.csv", "--input-format", "excel"], 1, "format must be one of .*, got 'excel'"),
            (["out.csv", "--input-format", "picasso"], 1, r"blinks\.parquet: "),
            (["out.csv", "--uncertainty", "9"], 2, "means nothing to the thunderstorm format"),
            (["out.hdf5", "--uncertainty", "-9"], 2, "--uncertainty"),
            (["out.csv", "--column", "x"], 2, "'x' is not of the kind NAME=COLUMN"),
            (["out.csv", "--column", "x="], 2, "'x=' is not of the kind NAME=COLUMN"),
            (["out.csv", "--column", "x=a", "--column", "x=b"], 2, "'x' is given twice"),
            (["nowhere/out.csv"], 1, "nowhere does not exist"),
            (["blinks.parquet"], 1, "exists already; --overwrite replaces it"),
            (["../", "--format", "parquet", "--overwrite"], 1, "is a folder"),
            ([], 2, "Missing argument 'OUT'"),
        ],
    )
    def test_what_is_wrong_is_said_and_nothing_written(
        self, run, table, tmp_path, monkeypatch, arguments, code, message
    ):
        monkeypatch.chdir(tmp_path)
        before = files_in(tmp_path)
        stopped, out, err = run("convert", table.name, *arguments)
        assert (stopped, out) == (code, "")
        assert re.search(message, err)
        assert files_in(tmp_path) == before

    def test_an_output_that_cannot_be_written_is_refused_before_reading(
        self, run, table, tmp_path, monkeypatch
    ):
        monkeypatch.setattr("smlmkit.io.tables.read_localizations", None)
        (tmp_path / "there.csv").touch()
        assert run("convert", table, tmp_path / "there.csv")[0] == 1
        assert run("convert", table, tmp_path / "nowhere" / "out.csv")[0] == 1

    def test_a_table_may_replace_itself(self, run, table):
        assert run("convert", table, table, "--overwrite")[0] == 0
        assert read_localizations(table) == BLINKS


class TestInfo:
    def test_all_that_is_known(self, run, table):
        code, out, err = run("info", table, "--json")
        assert (code, err) == (0, "")
        assert json.loads(out) == [
            {
                "file": str(table),
                "format": "unknown",
                "localizations": 3,
                "columns": {
                    "x": "nm",
                    "y": "nm",
                    "frame": None,
                    "photons": None,
                    "uncertainty_x": "nm",
                    "uncertainty_y": "nm",
                },
                "field of view (nm)": "y 0 to 500, x 0 to 1000",
                "density (per µm²)": 6.0,
                "frames (0-based)": "0 to 9 of 20",
                "camera pixel size (nm)": 100.0,
                "median uncertainty (nm)": 9.0,
                "unused rows": [],
            }
        ]
        _, out, _ = run("info", table)
        assert "columns: x (nm), y (nm), frame, photons, uncertainty_x (nm)" in out
        assert "unused rows: none\n" in out

    def test_rows_that_cannot_be_used(self, run, tmp_path):
        table = tmp_path / "holes.csv"
        table.write_text('"x [nm]","y [nm]"\n1,2\n' + "nan,4\n" * 7 + "500,600\n")
        code, out, err = run("info", table)
        assert code == 0
        told = "7 with x or y not finite (counted from 0: 1, 2, 3, 4, 5, ...)"
        assert f"unused rows: {told}\n" in out
        assert err.count("7 of 9 rows cannot be used") == 1
        _, out, _ = run("info", table, "--json")
        (facts,) = json.loads(out)
        assert facts["localizations"] == 2
        assert facts["unused rows"] == [
            {"reason": "with x or y not finite", "count": 7, "first_rows": [1, 2, 3, 4, 5]}
        ]

    def test_other_files_in_a_folder_are_passed_over(self, run, table, tmp_path):
        (tmp_path / "README.txt").write_text("Measured on a wet day.")
        (tmp_path / "tabs.txt").write_text("x [nm]\ty [nm]\n1\t2\n")
        code, out, _ = run("info", tmp_path, "--json")
        assert code == 0
        assert [facts["file"] for facts in json.loads(out)] == [
            str(table),
            str(tmp_path / "tabs.txt"),
        ]
