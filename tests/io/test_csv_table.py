import numpy as np
import pytest

from smlmkit.errors import FileFormatError, InvalidInputError, InvalidTypeError

FORMAT = "csv"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", " ", "   ", ", "])
@pytest.mark.parametrize("above", ["", "# made by hand, yesterday\n\n", "% a\n% b; c\n", "\ufeff"])
@pytest.mark.parametrize("mark", ["", "# ", "//", "%"])
@pytest.mark.parametrize("brackets", ["[]", "()"])
def test_delimiters_comments_and_brackets_may_differ(
    read_text, as_lists, delimiter, above, mark, brackets
):
    opening, closing = brackets
    header = delimiter.join(["X [um]", "y [nm]", "Frame"])
    header = header.replace("[", opening).replace("]", closing)
    rows = [delimiter.join(["0.5", "20", "3"]), delimiter.join(["0.25", "21", "4"])]
    table = read_text("\n".join([above + mark + header, *rows]))
    assert as_lists(table) == {"x": [500.0, 250.0], "y": [20.0, 21.0], "frame": [3, 4]}
    assert table["frame"].dtype == np.int64
    assert table.metadata == {"source": "blinks.txt", "format": "csv"}


def test_other_columns_keep_name_unit_and_what_they_hold(read_text, as_lists):
    table = read_text(
        "x [px];y [px];photons [ADU];background [photons];uncertainty_x [nm];time [s];who;\n"
        "1;2;300;4;5;0.5;me;\n3;4;;5;6;0.75;1;\n",
        pixel_size=100,
    )
    assert as_lists(table) == {
        "x": [100.0, 300.0],
        "y": [200.0, 400.0],
        "photons [ADU]": [300.0, pytest.approx(np.nan, nan_ok=True)],
        "background": [4.0, 5.0],
        "uncertainty_x": [5.0, 6.0],
        "time [s]": [0.5, 0.75],
        "who": ["me", "1"],
    }
    assert table.metadata["camera_pixel_size"] == 100


def test_a_map_names_columns_and_units(read_text, as_lists):
    table = read_text(
        "PosX,PosY [nm],precision (px),t\n0.5,2,0.1,7\n",
        columns={
            "x": "PosX [um]",
            "y": "PosY",
            "uncertainty_x": "precision",
            "uncertainty_y": "precision [px]",
            "frame": "t",
        },
        pixel_size=100,
    )
    assert as_lists(table) == {
        "x": [500.0],
        "y": [2.0],
        "uncertainty_x": [10.0],
        "uncertainty_y": [10.0],
        "frame": [7],
    }


def test_a_map_may_give_a_column_several_names_but_one_unit(read_text, as_lists):
    text = "P,y [nm],who [um]\n0.5,2,me\n"
    table = read_text(text, columns={"x": "P [um]", "place": "P", "y": "y", "who": "who"})
    assert as_lists(table) == {"x": [500.0], "place": [500.0], "y": [2.0], "who": ["me"]}
    with pytest.raises(InvalidInputError, match=r"columns name 'P \[nm\]', but .* 'P \[um\]'"):
        read_text(text, columns={"x": "P [um]", "y": "P [nm]"})


def test_a_map_chooses_among_columns_of_one_name(read_text, as_lists):
    text = "x [px],x [nm],y [nm]\n1,2,3\n"
    table = read_text(text, columns={"x": "x [nm]", "y": "y"})
    assert as_lists(table) == {"x": [2.0], "y": [3.0]}
    with pytest.raises(
        FileFormatError, match=r"'x \[nm\]' is the second column that means x: choose"
    ):
        read_text(text)
    with pytest.raises(FileFormatError, match="more than one column is named 'x'"):
        read_text(text, columns={"x": "x", "y": "y"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no line names columns"),
        ("\n\n", "no line names columns"),
        ("1,2\n3,4\n", "no line names columns"),
        ("a,b\n1,2\n", r"no column x and y; there are 'a', 'b': .*columns=\{'x': 'PosX \[nm\]'"),
        ("x [nm],b\n1,2\n", r"no column y; there are 'x \[nm\]', 'b'"),
        ("x,y\n1,2\n", r"unit of column 'x' is unknown: expected nm, um or px"),
        ("x [px],y [nm]\n1,2\n", "pass pixel_size="),
        (
            "x [nm],y [nm]\n",
            "a table without usable rows has no field of view: pass field_of_view=",
        ),
        ("x [nm],y [nm]\nme,2\n", r"line 2, column 'x \[nm\]': 'me' is not a number"),
        (
            "# a\nx [nm];y [nm]\n1;2\n1,5;2\n",
            "line 4, .*'1,5' is not a number but has a decimal comma",
        ),
        ("x [nm] y [nm]\n1 2 3\n", "line 2 has 3 cells, expected 2"),
        ("x [nm],y [nm],y [nm]\n1,2,3\n", "is the second column that means y"),
        ("x [nm],y [nm],frame\n1,2,0.5\n", "'frame' must hold whole numbers"),
    ],
)
def test_what_is_wrong_is_named(read_text, text, message):
    with pytest.raises(FileFormatError, match=rf"blinks\.txt: .*{message}"):
        read_text(text)


def test_a_map_that_fits_not_is_refused(read_text):
    text = "PosX [nm],y [nm]\n1,2\n"
    with pytest.raises(FileFormatError, match=r"no column 'a': there are 'PosX \[nm\]'"):
        read_text(text, columns={"x": "a", "y": "y"})
    with pytest.raises(FileFormatError, match="no column y"):
        read_text(text, columns={"x": "PosX"})
    with pytest.raises(
        InvalidInputError, match=r"columns name 'PosX \[um\]', but .* 'PosX \[nm\]'"
    ):
        read_text(text, columns={"x": "PosX [um]", "y": "y"})
    for no_map in (["x"], {"x": 1}, {1: "x"}, "x"):
        with pytest.raises(InvalidTypeError, match="columns must map names"):
            read_text(text, columns=no_map)
