import io

import numpy as np
import pytest

from smlmkit.errors import FileFormatError, UnusedRowsWarning
from smlmkit.io.nstorm import recognizes

FORMAT = "nstorm"

HEADER = (
    "Channel Name\tX\tY\tXc\tYc\tHeight\tArea\tWidth\tPhi\tAx\tBG\tI\tFrame\tLength\tLink\tValid\t"
    "Z\tZc\tPhotons\tLateral Localization Accuracy\tXw\tYw\tXwc\tYwc"
)
ROWS = [
    "647\t100.5\t200.5\t101.5\t201.5\t1683\t13224\t360\t1.25\t0.5\t7193\t14167\t172\t1\t6\t1\t"
    "-300\t-290\t2380.5\t15.75\t102.5\t202.5\t103.5\t203.5",
    "488\t500\t600\t501\t601\t1700\t14000\t260\t1.5\t1\t7000\t15000\t1\t3\t-1\t1\t"
    "250\t260\t1200.25\t12.5\t502\t602\t503\t603",
]
TEXT = "\r\n".join([HEADER, *ROWS, ""])


def without(text, *names):
    """Give the text without some of its columns."""
    rows = [line.split("\t") for line in text.splitlines()]
    left = [i for i, name in enumerate(rows[0]) if name not in names]
    return "\n".join("\t".join(row[i] for i in left) for row in rows)


def test_columns_become_those_of_smlmkit(read_text, as_lists):
    table = read_text(TEXT)
    assert as_lists(table) == {
        "channel": [1, 0],
        "X": [100.5, 500.0],
        "Y": [200.5, 600.0],
        "Xc": [101.5, 501.0],
        "Yc": [201.5, 601.0],
        "Height": [1683.0, 1700.0],
        "Area": [13224.0, 14000.0],
        "sigma_x": [180.0, 130.0],
        "sigma_y": [180.0, 130.0],
        "Phi": [1.25, 1.5],
        "Ax": [0.5, 1.0],
        "BG": [7193.0, 7000.0],
        "I": [14167.0, 15000.0],
        "frame": [171, 0],
        "detections": [1, 3],
        "Link": [6, -1],
        "Valid": [1, 1],
        "Z": [-300.0, 250.0],
        "z": [-290.0, 260.0],
        "photons": [2380.5, 1200.25],
        "uncertainty_x": [15.75, 12.5],
        "uncertainty_y": [15.75, 12.5],
        "Xw": [102.5, 502.0],
        "Yw": [202.5, 602.0],
        "x": [103.5, 503.0],
        "y": [203.5, 603.0],
    }
    integers = ("channel", "frame", "detections", "Link", "Valid")
    assert all(table[name].dtype == np.int64 for name in integers)
    assert table.field_of_view == (203, 103, 604, 504)
    assert table.metadata == {
        "source": "blinks.txt",
        "format": "nstorm",
        "channels": ["488", "647"],
    }


def test_the_best_corrected_position_that_there_is_counts(read_text):
    assert read_text(TEXT).x[0] == 103.5
    text = without(TEXT, "Xwc", "Ywc")
    assert read_text(text).x[0] == 102.5
    text = without(text, "Xw", "Yw")
    assert (read_text(text).x[0], read_text(text).y[0]) == (101.5, 201.5)
    text = without(text, "Xc", "Yc", "Zc")
    assert (read_text(text).x[0], read_text(text)["z"][0]) == (100.5, -300)
    newest = TEXT.replace("\tYwc", "\tYwc\tZw\tZwc").replace("203.5", "203.5\t-280\t-270")
    newest = newest.replace("\t603", "\t603\t270\t280")
    assert read_text(newest)["z"].tolist() == [-270, 280]


def test_arguments_are_heeded(read_text):
    table = read_text(TEXT, pixel_size=160, field_of_view=(0, 0, 1000, 2000))
    assert table.field_of_view == (0, 0, 1000, 2000)
    assert table.metadata["camera_pixel_size"] == 160


def test_rows_whose_z_was_rejected_are_left_out_with_a_warning(read_text):
    with pytest.warns(UnusedRowsWarning, match=r"1 of 2 rows are of the channel 'Z Rejected'"):
        table = read_text(TEXT.replace("\n488\t", "\nZ Rejected\t"))
    assert table.metadata["channels"] == ["647"]
    assert (table["channel"].tolist(), table.x.tolist()) == ([0], [103.5])


def test_a_channel_may_have_any_name_or_none(read_text):
    text = TEXT.replace("\n488\t", "\n\t").replace("647", "Ä, 'µ' 1.5")
    table = read_text(text)
    assert table.metadata["channels"] == ["", "Ä, 'µ' 1.5"]
    assert table["channel"].tolist() == [1, 0]
    table = read_text(text.encode("latin-1"))
    assert table["channel"].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\tXwc\t", "\tXwc [inch]\t", r"unit of column 'Xwc \[inch\]' is unknown"),
        ("\tXwc\t", "\tXwc [px]\t", r"'Xwc \[px\]' is in camera pixels: pass pixel_size="),
        ("\tYwc", "\tXwc", "'Xwc' is the second column that means x"),
        ("\tPhi\t", "\tx\t", "is the second column that means x"),
        ("103.5", "abc", r"line 2, column 'Xwc': 'abc' is not a number"),
        ("1200.25", "1200,25", "line 3, column 'Photons': '1200,25' .*decimal comma"),
        ("\t103.5", "", "line 2 has 23 cells, .*24"),
        ("\t172\t", "\t172.5\t", "'frame' must hold whole numbers"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(read_text, old, new, message):
    assert old in TEXT
    with pytest.raises(FileFormatError, match=rf"blinks\.txt: .*{message}"):
        read_text(TEXT.replace(old, new, 1))


def test_empty_files_and_headers_alone_are_no_tables(read_text):
    for text in ("", "\n", "\0", HEADER, f"{HEADER}\n"):
        with pytest.raises(FileFormatError, match=r"blinks\.txt: "):
            read_text(text)
    table = read_text(HEADER, field_of_view=(0, 0, 10, 10))
    assert (len(table), table.metadata["channels"]) == (0, [])
    assert table["channel"].dtype == table["frame"].dtype == np.int64


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\0" * 99,
        b'"id","frame","x [nm]","y [nm]"\n',
        b"id\tframe\tx [nm]\ty [nm]\n",
        b"Index\tFirst Frame\tPosition X [nm]\tPosition Y [nm]\n",
        b"Channel Name,X,Y,Frame\n",
        # Picasso's export for NIS-Elements, whose header is not in the order of its columns.
        b"X\tY\tZ\tChannel\tWidth\tBG\tLength\tArea\tFrame\n",
        b"\n" + TEXT.encode(),
    ],
)
def test_other_files_are_not_recognized(head):
    assert not recognizes(io.BytesIO(head), head)


def test_a_published_row_is_read(read_text):
    """A row of a public converter; its height and area tell what its width means."""
    row = (
        "mock\t21675.9\t15206.8\t21675.9\t15206.8\t1683.32849\t13224.08496\t359.73749\t1.11619\t"
        "0.96793\t7193.72705\t14167.12500\t172\t1\t6\t1\t1937.17\t-249\t2380.33529\t15.78044\t"
        "21675.9\t15206.8\t21675.0\t15206.0"
    )
    table = read_text(f"{HEADER}\n{row}\n")
    assert (table.x[0], table.y[0], table["z"][0]) == (21675.0, 15206.0, -249.0)
    assert (table["frame"][0], table["photons"][0]) == (171, 2380.33529)
    area = 2 * np.pi * (table["sigma_x"][0] / 160) ** 2 * table["Height"][0]
    assert area == pytest.approx(table["Area"][0], rel=0.02)
