"""The commands that convert tables and tell what is in them."""

import json
import re

import numpy as np
import pytest

from smlmkit import Localizations, read_localizations, write_localizations
from smlmkit.cli import main
from smlmkit.cli._shared import name_options

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
                "format": "parquet",
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

    def test_the_format_is_that_of_this_file(self, run, tmp_path):
        (tmp_path / "a.csv").write_text('"x [nm]","y [nm]"\n1,2\n')
        run("convert", tmp_path / "a.csv", tmp_path / "b.parquet")
        assert read_localizations(tmp_path / "b.parquet").metadata["format"] == "thunderstorm"
        _, out, _ = run("info", tmp_path, "--json")
        assert [facts["format"] for facts in json.loads(out)] == ["thunderstorm", "parquet"]

    def test_camera_pixels_of_two_sides(self, run, tmp_path):
        sides = {"camera_pixel_size_y": 117.0, "camera_pixel_size_x": 127.0}
        write_localizations(
            Localizations({"x": [1.0], "y": [2.0]}, metadata=sides), tmp_path / "a.parquet"
        )
        _, out, _ = run("info", tmp_path / "a.parquet")
        assert re.search(r"camera pixel size y \(nm\): 117\.0\n", out)
        assert re.search(r"camera pixel size x \(nm\): 127\.0\n", out)

    def test_a_bad_table_is_told_of_and_the_others_go_on(self, run, tmp_path):
        for name, rows in (("a", "1,2"), ("b", "1,two"), ("c", "nan,4"), ("d", "3,4")):
            (tmp_path / f"{name}.csv").write_text(f'"x [nm]","y [nm]"\n{rows}\n')
        code, out, err = run("info", tmp_path)
        assert code == 1
        assert re.findall(r"file: .*(.)\.csv", out) == ["a", "d"]
        assert "b.csv: line 2, column 'y [nm]': 'two' is not a number" in err
        assert "c.csv: 1 of 1 rows cannot be used: 1 with x or y not finite" in err
        assert err.endswith("2 of 4 tables could not be read\n")
        code, out, _ = run("info", tmp_path, "--json")
        a, b, c, d = json.loads(out)
        assert code == 1
        assert a["localizations"] == d["localizations"] == 1
        assert b == {
            "file": str(tmp_path / "b.csv"),
            "error": f"{tmp_path / 'b.csv'}: line 2, column 'y [nm]': 'two' is not a number",
        }
        assert "without usable rows" in c["error"]


class TestReading:
    """What every command that reads tables may be told of them."""

    def test_any_text_table_by_its_columns(self, run, tmp_path):
        table = tmp_path / "own.csv"
        table.write_text("PosX;PosY\n1.5;2\n")
        options = ("--column", "x=PosX [px]", "--column", "y=PosY [um]")
        _, out, _ = run("info", table, *options, "--camera-pixel-size", 100, "--json")
        (facts,) = json.loads(out)
        assert facts["format"] == "csv"
        assert facts["field of view (nm)"] == "y 2000 to 2001, x 150 to 151"

    def test_a_format_and_a_field_of_view(self, run, tmp_path):
        table = tmp_path / "own.csv"
        table.write_text("x [nm];y [nm]\n1.5;2\n")
        options = ("--input-format", "csv", "--field-of-view", 0, 0, 500, 1000)
        _, out, _ = run("info", table, *options, "--json")
        (facts,) = json.loads(out)
        assert facts["format"] == "csv"
        assert facts["field of view (nm)"] == "y 0 to 500, x 0 to 1000"
        run("convert", table, tmp_path / "out.parquet", *options)
        assert read_localizations(tmp_path / "out.parquet").field_of_view == (0, 0, 500, 1000)

    def test_one_table_of_an_archive(self, run, tmp_path):
        write_localizations(BLINKS, tmp_path / "a.smlm")
        code, _, err = run("info", tmp_path / "a.smlm", "--table", "absent")
        assert code == 1
        assert "absent" in err
        assert run("info", tmp_path / "a.smlm", "--field-of-view", 0, 0, 500)[0] == 2


class TestWords:
    """Errors of the library name parameters of Python; the commands have options."""

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            ('"x [px]","y [px]"\n1,2\n', "in camera pixels: pass --camera-pixel-size (nm)\n"),
            ("a;b\n1;2\n", "as in --column 'x=PosX [um]' --column 'y=PosY [um]'\n"),
        ],
    )
    def test_errors_of_reading(self, run, tmp_path, content, told):
        table = tmp_path / "pixel_size=100.csv"
        table.write_text(content)
        for command in (["info"], ["convert", "--format", "parquet"]):
            code, out, err = run(*command, table, *[tmp_path / "out"] * (len(command) > 1))
            assert (code, out) == (1, "")
            assert err.startswith(f"smlmkit: error: {table}: ")
            assert err.endswith(told)

    def test_errors_of_writing(self, run, tmp_path):
        write_localizations(Localizations({"x": [1.0], "y": [2.0]}), tmp_path / "a.parquet")
        arguments = ("convert", tmp_path / "a.parquet", tmp_path / "out.hdf5")
        assert "pass --camera-pixel-size (nm)" in run(*arguments)[2]
        assert "pass --uncertainty (nm)" in run(*arguments, "--camera-pixel-size", 100)[2]
        _, _, err = run("convert", tmp_path / "a.parquet", tmp_path / "out")
        assert err.endswith("or pass --format\n")

    @pytest.mark.parametrize(
        ("message", "told"),
        [
            ("pass pixel_size= (nm)", "pass --camera-pixel-size (nm)"),
            ("pixel_size= and field_of_view=", "--camera-pixel-size and --field-of-view"),
            ("columns= means nothing to smap", "--column means nothing to smap"),
            ("as in columns={'x': \"it's\"}: x", """as in --column 'x=it'"'"'s': x"""),
            ("as in columns={x}", "as in --column"),
            ("pass overwrite=True to replace it", "pass --overwrite to replace it"),
            ("/a/pixel_size=9/table=: not found", "/a/pixel_size=9/table=: not found"),
            ("pixel_size=100 my_table= sizes=", "pixel_size=100 my_table= sizes="),
        ],
    )
    def test_parameters_become_options(self, message, told):
        assert name_options(message) == told
