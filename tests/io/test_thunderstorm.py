import io

import numpy as np
import pytest

from smlmkit.errors import FileFormatError, InvalidInputError, UnusedRowsWarning
from smlmkit.io.tables import read_localizations
from smlmkit.io.thunderstorm import recognizes, write
from smlmkit.localizations import Localizations

FORMAT = "thunderstorm"


def test_columns_and_units_become_those_of_smlmkit(read_text, as_lists):
    table = read_text(
        '"id","frame","x [nm]","y [nm]","sigma [nm]","intensity [photon]","offset [photon]",'
        '"bkgstd [photon]","chi2","uncertainty_xy [nm]","detections"\n'
        "1,1,1320.5,260.25,143,296.5,31.5,5.5,17.25,22.5,2\n"
        "2,8,3809,20,111,196,42,8,33,27,1\n"
    )
    assert as_lists(table) == {
        "id": [1, 2],
        "frame": [0, 7],
        "x": [1320.5, 3809.0],
        "y": [260.25, 20.0],
        "sigma_x": [143.0, 111.0],
        "sigma_y": [143.0, 111.0],
        "photons": [296.5, 196.0],
        "background": [31.5, 42.0],
        "bkgstd": [5.5, 8.0],
        "chi2": [17.25, 33.0],
        "uncertainty_x": [22.5, 27.0],
        "uncertainty_y": [22.5, 27.0],
        "detections": [2, 1],
    }
    assert np.shares_memory(table["uncertainty_x"], table["uncertainty_y"])
    assert table["frame"].dtype == np.int64
    assert table.field_of_view == (20, 1320, 261, 3810)
    assert table.metadata == {"source": "blinks.txt", "format": "thunderstorm"}


HEADERS = [
    '"id","frame","x [nm]","y [nm]"',
    "id,frame,x [nm],y [nm]",
    '"id,""frame"",""x [nm]"",""y [nm]"""',
    "'id',`frame`,' x  [nm] ',y[nm]",
    '\ufeff"id","frame","x  [ nm ]","y [nm]"',
    'id",frame,x [nm],y [nm]',
]


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_quotes_blanks_newlines_and_tabs_may_differ(
    read_text, as_lists, header, newline, delimiter
):
    lines = [header, "1,3,10.5,20", "", '"2",4,  11 ,21']
    table = read_text(newline.join(lines).replace(",", delimiter))
    assert as_lists(table) == {
        "id": [1, 2],
        "frame": [2, 3],
        "x": [10.5, 11.0],
        "y": [20.0, 21.0],
    }


@pytest.mark.parametrize("micrometre", ["um", "µm", "μm", "\udcb5m"])
def test_units_are_converted_to_nm(read_text, micrometre, as_lists):
    text = (
        f"x [{micrometre}],y [px],z [nm],sigma1 [px],sigma2 [nm],z_rel [um],area [px^2],"
        "uncertainty_z [um],angle [deg],intensity [ADU],offset [ADU]\n"
        "1.5,2,-300,1.25,140,0.5,3,0.0625,90,1000,7\n"
    )
    table = read_text(text.encode(errors="surrogateescape"), pixel_size=100)
    assert as_lists(table) == {
        "x": [1500.0],
        "y": [200.0],
        "z": [-300.0],
        "sigma_x": [125.0],
        "sigma_y": [140.0],
        "z_rel": [500.0],
        "area": [30000.0],
        "uncertainty_z": [62.5],
        "angle": [90.0],
        "intensity": [1000.0],
        "offset": [7.0],
    }
    assert table.metadata["camera_pixel_size"] == 100


def test_a_frame_0_shows_that_a_file_counts_from_0(read_text):
    header = "frame,x [nm],y [nm]\n"
    assert read_text(f"{header}5,1,2\n0,3,4\n")["frame"].tolist() == [5, 0]
    assert read_text(f"{header}5,1,2\n1,3,4\n")["frame"].tolist() == [4, 0]


def test_photons_are_in_photons(read_text, as_lists):
    assert as_lists(read_text("x [nm],y [nm],photons [ADU],background [photon]\n1,2,3,4\n")) == {
        "x": [1.0],
        "y": [2.0],
        "photons [ADU]": [3.0],
        "background": [4.0],
    }


def test_a_column_of_the_very_name_goes_first(read_text, as_lists):
    text = "x [nm],y [nm],uncertainty [nm],uncertainty_x [nm],sigma [nm]\n1,2,3,4,5\n"
    assert as_lists(read_text(text)) == {
        "x": [1.0],
        "y": [2.0],
        "uncertainty_x": [4.0],
        "uncertainty_y": [3.0],
        "sigma_x": [5.0],
        "sigma_y": [5.0],
    }


def test_missing_values_are_nan_and_never_shift_columns(read_text):
    table = read_text("x [nm],y [nm],photons\n1,2,\n3,4,NaN\n5,6,NA\n7,8,Infinity\n")
    np.testing.assert_array_equal(table["photons"], [np.nan, np.nan, np.nan, np.inf])
    assert table.x.tolist() == [1, 3, 5, 7]


def test_rows_without_a_place_are_counted(read_text):
    with pytest.warns(UnusedRowsWarning, match="3 of 4 rows .*: 2 with .*, 1 outside"):
        table = read_text(
            "x [nm],y [nm]\n1,2\n,2\n-Infinity,1\n1,10\n", field_of_view=(0, 0, 10, 10)
        )
    assert table.x.tolist() == [1.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x [px],y [nm]\n1,2\n", r"column 'x \[px\]' is in camera pixels: pass pixel_size="),
        ("x,y [nm]\n1,2\n", r"unit of column 'x' is unknown: expected nm, um or px"),
        ("x [nm],y [km]\n1,2\n", r"unit of column 'y \[km\]' is unknown"),
        ("x [nm^2],y [nm]\n1,2\n", r"unit of column 'x \[nm\^2\]' is unknown"),
        ("x [nm],y [nm],sigma []\n1,2,3\n", "unit of column 'sigma' is unknown"),
        ("x [nm],y [nm],x [um]\n1,2,3\n", r"'x \[um\]' is the second column that means x"),
        (
            "x [nm],y [nm],sigma [nm],sigma1 [nm]\n1,2,3,4\n",
            r"'sigma1 \[nm\]' is the second column that means sigma_x",
        ),
        ("x [nm],y [nm]\n1,2\n\n3,abc\n", r"line 4, column 'y \[nm\]': 'abc' is not a number"),
        ("x [nm],y [nm]\n1,2\n3,1_000\n", r"line 3, column 'y \[nm\]': '1_000' is not a number"),
        ("x [nm],y [nm]\n1,2\n3,\udcb5\n", r"line 3, column 'y \[nm\]': '\\udcb5' is not"),
        ("x [nm],y [nm]\n1,2\n3,4\x00\n", r"line 3, column 'y \[nm\]': '4\\x00' is not"),
        ("x [nm],y [nm]\n1,2\n3\n4,5\n", "line 3 has 1 cells, expected 2"),
        ("x [nm],y [nm]\n1,2\n3,4,5\n", "line 3 has 3 cells, expected 2"),
        ("x [nm],y [nm]\n\n1,2,3\n4,5\n", "line 3 has 3 cells, expected 2"),
        ("x [nm],y [nm]\n1,2,\n4,5,\n", "line 2 has 3 cells, expected 2"),
        ("x [nm],y [nm]\n1,2\n3,'4\n", r"line 3, column 'y \[nm\]': \"'4\" is not a number"),
        ('x [nm],y [nm]\n1,2\n3,"4\n5,6\n', "line 4"),
        ("x [nm],y [nm],frame\n1,2,1.5\n", "'frame' must hold whole numbers"),
        (
            "x [nm],y [nm]\n",
            "a table without usable rows has no field of view: pass field_of_view=",
        ),
        ("x [nm],y [nm]", "a table without usable rows has no field of view: pass field_of_view="),
    ],
)
def test_what_is_wrong_is_named_with_its_place(read_text, text, message):
    with pytest.raises(FileFormatError, match=rf"blinks\.txt: .*{message}"):
        read_text(text.encode(errors="surrogateescape"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,two", r"line 200001, column 'y \[nm\]': 'two' is not a number"),
        ("1", "line 200001 has 1 cells"),
        ("1,2,3", "line 200001 has 3 cells"),
    ],
)
def test_a_wrong_row_is_found_far_into_a_file(read_text, line, message):
    lines = ["x [nm],y [nm]", *["1000.123456789,2000.123456789"] * 250_000]
    lines[200_000] = line
    with pytest.raises(FileFormatError, match=message):
        read_text("\n".join(lines))


def test_a_header_alone_is_an_empty_table_if_the_field_is_given(read_text):
    table = read_text("x [nm],y [nm],frame\n", field_of_view=(0, 0, 10, 10))
    assert len(table) == 0
    assert table["frame"].dtype == np.int64


def test_the_real_file_is_read(real_data):
    path = real_data / "formats" / "Thunderstorm_dstorm_data.csv"
    table = read_localizations(path)
    lines = path.read_text().splitlines()
    first = [float(cell) for cell in lines[1].split(",")]
    assert len(table) == len(lines) - 1
    assert (table["id"][0], table["frame"][0]) == (73897, 2000)
    assert table.x[0] == first[2] == 1320.109670647555
    assert table.y[0] == first[3]
    assert table["sigma_x"][0] == table["sigma_y"][0] == first[4]
    assert (table["photons"][0], table["background"][0]) == (first[5], first[6])
    assert table["uncertainty_x"][0] == table["uncertainty_y"][0] == first[9]


def test_the_file_is_what_thunderstorm_writes(tmp_path):
    path = tmp_path / "blinks.csv"
    table = Localizations(
        {
            "chi2": [1.5, np.inf],
            "y": [250.0, 480.0],
            "x": [150.0, 990.0],
            "frame": [3, 6],
            "uncertainty_x": [3.0, 6.0],
            "uncertainty_y": [4.0, 8.0],
            "sigma_x": [130.0, 140.0],
            "sigma_y": [130.0, 140.0],
            "photons": np.array([900.1, np.nan], np.float32),
            "background": np.array([7, 8], ">i2"),
            "bright": [True, False],
        }
    )
    write(table, path)
    lines = path.read_text().splitlines()
    assert lines[0] == (
        '"id","frame","x [nm]","y [nm]","sigma [nm]","uncertainty_xy [nm]","chi2",'
        '"uncertainty_x [nm]","uncertainty_y [nm]","intensity [photon]","offset [photon]","bright"'
    )
    assert lines[1].split(",")[:5] == ["1", "4", "150", "250", "130"]
    assert float(lines[1].split(",")[5]) == pytest.approx(np.sqrt(12.5))
    assert lines[1].split(",")[6:] == ["1.5", "3", "4", "900.1", "7", "1"]
    assert lines[2].split(",")[6:] == ["Infinity", "6", "8", "NaN", "8", "0"]


@pytest.mark.parametrize(
    "name", ["sigma", "uncertainty", "a,b", 'a"b', "a [nm]", "a\tb", "a\nb", " a", "a  b", ""]
)
def test_a_name_that_would_not_come_back_is_refused(tmp_path, name):
    table = Localizations({"x": [1.0], "y": [2.0], name: [3.0]})
    with pytest.raises(InvalidInputError, match="would give it back as another one"):
        write(table, tmp_path / "blinks.csv")
    assert list(tmp_path.iterdir()) == []


def test_text_is_refused(tmp_path):
    table = Localizations({"x": [1.0], "y": [2.0], "who": ["me"]})
    with pytest.raises(InvalidInputError, match=r"column 'who' .* ThunderSTORM .* real numbers"):
        write(table, tmp_path / "blinks.csv")


@pytest.mark.parametrize(
    ("head", "is_one"),
    [
        (b'"id","frame","x [nm]","y [nm]"\n', True),
        (b"\xef\xbb\xbfx [px]\ty [px]\r1\t2", True),
        (b"x [nm],z [nm]\n", False),
        (b"x [nm];y [nm]\n", False),
        (b"X (nm),Y (nm)\n", False),
        (b"# DECODE EmitterSet\nx,y,z\n", False),
        (b"\x89HDF\r\n\x1a\n", False),
        (b"\xff\xfex\x00,\x00y\x00", False),
        (b"", False),
    ],
)
def test_files_are_known_by_their_first_line(head, is_one):
    assert recognizes(io.BytesIO(head), head) is is_one
