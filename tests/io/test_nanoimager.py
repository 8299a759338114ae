import io

import numpy as np
import pytest

from smlmkit.errors import FileFormatError
from smlmkit.io.nanoimager import read, recognizes

FORMAT = "nanoimager"

TEXT = (
    "Channel,Frame,X (nm),Y (nm),Z (nm),Photons,Background\n"
    "0,1548,40918.25,56104.5,0.000000,139.5,0.75\n"
    "1,0,3237.5,3575.75,-120.5,549.25,17.5\n"
)
FULL_HEADER = (
    "Channel,Frame,X (nm),Y (nm),Z (nm),X precision (nm),Y precision (nm),X (pix),Y (pix),Z (pix),"
    "X precision (pix),Y precision (pix),Photons,Background,PSF Sigma X (pix),PSF Sigma Y (pix),"
    "Sigma X var,p-value,X raw (pix)\n"
)
FULL_ROW = "0,7,1170,585,234,11.75,23.5,10.00,5,2,0.1,0.2,900,3,1.5,2,0.25,0.5,9.5\n"


def test_columns_become_those_of_smlmkit(read_text, as_lists):
    table = read_text(TEXT)
    assert as_lists(table) == {
        "channel": [0, 1],
        "frame": [1548, 0],
        "x": [40918.25, 3237.5],
        "y": [56104.5, 3575.75],
        "z": [0.0, -120.5],
        "photons": [139.5, 549.25],
        "background": [0.75, 17.5],
    }
    assert table["channel"].dtype == table["frame"].dtype == np.int64
    assert table.field_of_view == (3575, 3237, 56105, 40919)
    assert table.metadata == {"source": "blinks.txt", "format": "nanoimager"}


def test_what_stands_there_twice_is_read_in_nm_and_tells_the_pixel_size(read_text, as_lists):
    table = read_text(FULL_HEADER + FULL_ROW)
    assert as_lists(table) == {
        "channel": [0],
        "frame": [7],
        "x": [1170.0],
        "y": [585.0],
        "z": [234.0],
        "uncertainty_x": [11.75],
        "uncertainty_y": [23.5],
        "photons": [900.0],
        "background": [3.0],
        "sigma_x": [175.5],
        "sigma_y": [234.0],
        "Sigma X var": [0.25],
        "p-value": [0.5],
        "X raw (pix)": [9.5],
    }
    assert table.metadata["camera_pixel_size"] == 117.0


def test_an_argument_goes_before_the_pixel_size_that_shows(read_text):
    table = read_text(FULL_HEADER + FULL_ROW, pixel_size=100, field_of_view=(0, 0, 900, 1200))
    assert table["sigma_x"].tolist() == [150.0]
    assert table.metadata["camera_pixel_size"] == 100
    assert table.field_of_view == (0, 0, 900, 1200)


@pytest.mark.parametrize(
    "shifted", ["10.02", "nan", "0", "-10", "1e300", ""], ids=lambda text: text or "missing"
)
def test_a_pixel_size_that_does_not_hold_for_all_rows_is_asked_for(read_text, shifted):
    rows = FULL_ROW + FULL_ROW.replace("10.00", shifted)
    if shifted in ("nan", "", "1e300"):
        rows = FULL_ROW.replace("10.00", shifted)
    with pytest.raises(FileFormatError, match=r"'PSF Sigma X \[pix\]' is in camera pixels: pass"):
        read_text(FULL_HEADER + rows)
    assert read_text(FULL_HEADER + rows, pixel_size=100)["sigma_x"][0] == 150


def test_the_pixel_size_shows_in_the_first_rows_of_a_long_file(read_text):
    for ending in ("", "0" * 7, "0" * 31):
        row = FULL_ROW.replace("11.75", f"11.75{ending}")
        table = read_text(FULL_HEADER + row * 2000)
        assert len(table) == 2000
        assert table.metadata["camera_pixel_size"] == 117.0
    assert read_text(FULL_HEADER + FULL_ROW.strip()).metadata["camera_pixel_size"] == 117.0


def test_photons_are_in_photons(read_text):
    table = read_text(TEXT.replace("Photons", "Photons (ADU)"))
    assert table["Photons (ADU)"].tolist() == [139.5, 549.25]
    assert "photons" not in table


def test_missing_numbers_are_nan(read_text):
    table = read_text(TEXT.replace("139.5", "").replace("17.5", "NaN"))
    np.testing.assert_array_equal(table["photons"], [np.nan, 549.25])
    np.testing.assert_array_equal(table["background"], [0.75, np.nan])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("X (nm)", "X (inch)", r"unit of column 'X \[inch\]' is unknown"),
        ("X (nm)", "X (pix)", r"column 'X \[pix\]' is in camera pixels: pass pixel_size="),
        ("X (nm)", "Place", "no column means x"),
        ("Y (nm)", "X (nm)", "no column means y"),
        ("Z (nm)", "x", "'x' is the second column that means x"),
        ("40918.25", "abc", r"line 2, column 'X \[nm\]': 'abc' is not a number"),
        ("3237.5", "3237,5", "line 3 has 8 cells, .*7"),
        ("3237.5,", "", "line 3 has 6 cells, .*7"),
        ("1548", "1548.5", "'frame' must hold whole numbers"),
        ("1548", "", "'frame' must hold whole numbers"),
        ("40918.25", "40918\0.25", "line 2, column"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(read_text, old, new, message):
    assert old in TEXT
    with pytest.raises(FileFormatError, match=rf"blinks\.txt: .*{message}"):
        read_text(TEXT.replace(old, new, 1))


def test_empty_files_and_headers_alone_are_no_tables(read_text):
    header = TEXT.partition("\n")[0]
    for text in ("", "\n", "\0", header, f"{header}\n"):
        with pytest.raises(FileFormatError, match=r"blinks\.txt: "):
            read_text(text)
    assert len(read_text(header, field_of_view=(0, 0, 10, 10))) == 0
    assert len(read_text(FULL_HEADER, pixel_size=117, field_of_view=(0, 0, 10, 10))) == 0


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\0" * 99,
        b'"id","frame","x [nm]","y [nm]"\n',
        b"Channel,Frame,x (nm),y (nm)\n",
        b"Channel Name\tX\tY\tFrame\n",
        b"Frame,X (nm),Y (nm)\n",
        b"Ground-truth,frame,xnano,ynano,znano,intensity \n",
        b"\n" + TEXT.encode(),
    ],
)
def test_other_files_are_not_recognized(head):
    assert not recognizes(io.BytesIO(head), head)


def test_the_real_file_is_read(real_data):
    path = real_data / "formats" / "Nanoimager_dstorm_data.csv"
    content = path.read_bytes()
    lines = content.splitlines()
    table = read(path)
    assert recognizes(io.BytesIO(content), content)
    assert len(table) == len(lines) - 1 == 14
    assert lines[1] == b"0,1548,40918.949219,56104.691406,0.000000,139.828232,0.848500"
    assert (table["channel"][0], table["frame"][0]) == (0, 1548)
    assert (table.x[0], table.y[0], table["z"][0]) == (40918.949219, 56104.691406, 0.0)
    assert (table["photons"][0], table["background"][0]) == (139.828232, 0.8485)
    assert table["frame"].min() == 0  # the first frame has the number 0 in the file, too
    assert sorted(set(table["channel"].tolist())) == [0, 1]
