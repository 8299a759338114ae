import io

import pytest

from smlmkit.errors import FileFormatError
from smlmkit.io.challenge import read, recognizes

FORMAT = "challenge"

TEXT = (
    "Ground-truth,frame,xnano,ynano,znano,intensity \n7,1,640.5,250,-30,900\n8,2,641,251.5,0,800\n"
)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_columns_become_those_of_smlmkit(read_text, newline, delimiter):
    table = read_text(TEXT.replace("\n", newline).replace(",", delimiter))
    assert {name: table[name].tolist() for name in table} == {
        "Ground-truth": [7, 8],
        "frame": [0, 1],
        "x": [640.5, 641.0],
        "y": [250.0, 251.5],
        "z": [-30.0, 0.0],
        "photons": [900.0, 800.0],
    }
    assert table["Ground-truth"].dtype.kind == "i"
    assert table.metadata == {"source": "blinks.txt", "format": "challenge"}
    assert table.field_of_view == (250, 640, 252, 642)


def test_a_unit_is_heeded_where_there_is_one(read_text):
    table = read_text("xnano [um],ynano,sigma_x,area [um^2]\n0.5,2,3,4\n")
    assert (table.x[0], table.y[0], table["sigma_x"][0], table["area"][0]) == (500, 2, 3, 4e6)


def test_a_pixel_size_is_only_noted(read_text):
    table = read_text(TEXT, pixel_size=100, field_of_view=(0, 0, 6400, 6400))
    assert table.x[0] == 640.5
    assert table.metadata["camera_pixel_size"] == 100
    assert table.field_of_view == (0, 0, 6400, 6400)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("xnano,ynano\n1,a\n", "line 2, column 'ynano': 'a' is not a number"),
        ("xnano,ynano,xnano\n1,2,3\n", "'xnano' is the second column that means x"),
        ("xnano,ynano,frame\n1,2,1.5\n", "'frame' must hold whole numbers"),
        ("xnano,ynano\n", "a table without usable rows has no field of view: pass field_of_view="),
        ("xnano,ynano\n1,5,2,5\n", "decimal commas"),
    ],
)
def test_what_is_wrong_is_named(read_text, text, message):
    with pytest.raises(FileFormatError, match=rf"blinks\.txt: .*{message}"):
        read_text(text)


def test_other_files_are_not_claimed(tmp_path):
    path = tmp_path / "a.csv"
    for head in (b"", b"x [nm],y [nm]\n", b"1,1,640,250,0,900\n", b"\x89HDF", b"a\nxnano,ynano\n"):
        assert not recognizes(io.BytesIO(head), head)
    path.write_text("1,1,640,250,0,900\n")
    with pytest.raises(FileFormatError, match="no column means x and y: there are '1', '1'"):
        read(path)
