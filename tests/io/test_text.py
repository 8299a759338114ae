import csv
import io
import math
from contextlib import suppress
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smlmkit.errors import FileFormatError
from smlmkit.io import _text, _text_blocks
from smlmkit.io._text import (
    Column,
    head_lines,
    length_factor,
    parse_header,
    read_columns,
    whole,
)


@pytest.fixture
def read(tmp_path):
    def read(rows, names="xy", delimiter=",", first_line=1, **options):
        path = tmp_path / "table.txt"
        path.write_bytes(rows if isinstance(rows, bytes) else rows.encode())
        columns = read_columns(path, names, delimiter=delimiter, first_line=first_line, **options)
        return {name: values.tolist() for name, values in columns.items()}

    return read


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("first_line", [1, 2, 4])
def test_rows_begin_at_the_line_that_is_asked_for(read, newline, first_line):
    lines = [*["no, row\tof it"] * (first_line - 1), "1,2", "", "   ", '"3",4']
    assert read(newline.join(lines), first_line=first_line) == {"x": [1, 3], "y": [2, 4]}


@pytest.mark.parametrize("text", ["", "a,b", "a,b\n", "a,b\n\n"])
def test_no_rows_are_empty_columns(read, text):
    assert read(text, first_line=2) == {"x": [], "y": []}
    assert read(text, first_line=9) == {"x": [], "y": []}


def test_a_byte_order_mark_belongs_to_no_cell(read):
    assert read(b"\xef\xbb\xbf1,2\n") == {"x": [1], "y": [2]}
    with pytest.raises(FileFormatError, match="line 1, column 'y': 'b'"):
        read(b"\xef\xbb\xbf1,b\n")


def test_rows_end_at_a_byte(read):
    assert read(b"1,2\n3,4\n\x00VoxelSizeX : 0.1", stop=8) == {"x": [1, 3], "y": [2, 4]}


def test_any_blanks_part_cells(read):
    text = " 1  2 \t\n\n3\t4   \r\n \t \n   5 6  \n7 8"
    assert read(text, delimiter=" ") == {"x": [1, 3, 5, 7], "y": [2, 4, 6, 8]}
    with pytest.raises(FileFormatError, match="line 2 has 1 cells, expected 2"):
        read("1  2\n  3\n", delimiter=" ")


@given(
    text=st.text('15.,-e"\n\r \tnaNx\0ä\xa0', max_size=60)
    | st.lists(
        st.sampled_from(["1", "-2.5", "", " 3 ", "NaN", '"4"', "x", ",", " ", "\t", "\n"])
    ).map("".join),
    delimiter=st.sampled_from(",\t "),
    in_text=st.sampled_from([(), ("x",), ("y",)]),
)
@settings(max_examples=500, deadline=None)
def test_blocks_are_read_as_in_plain_python_or_not_at_all(
    tmp_path_factory, text, delimiter, in_text
):
    path = tmp_path_factory.getbasetemp() / "blocks.txt"
    path.write_bytes(text.encode())
    size = path.stat().st_size
    layout = _text_blocks.RowLayout(2, {0: "x", 1: "y"}, in_text, delimiter, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_text_blocks, "_BLOCK_BYTES", 7)
        columns = _text_blocks.read_blocks(path, 0, size, layout)
    if columns is not None:
        lines = _text._lines_between(path, 0, size, 1, "utf-8")
        rows = _text._split_rows(path, lines, 1, delimiter)
        for name, expected in _text._read_slowly(path, rows, layout).items():
            np.testing.assert_array_equal(columns[name], expected)


def test_missing_values_are_nan(read):
    cells = ["", "NaN", "nan", " nan ", "NA", "N/A", "null", "nan(ind)", "-nan(ind)", "1.#QNAN"]
    numbers = read("".join(f"1,{cell}\n" for cell in cells))["y"]
    assert len(numbers) == len(cells)
    assert all(map(math.isnan, numbers))


CELLS = [
    "1.5",
    " -2 ",
    "+3",
    ".5",
    "4.",
    "1e300",
    "1E-5",
    "1e999",
    "-inf",
    "Infinity",
    "0.1234567890123456789",
    "123456789012345678901234567890",
    "\x0b7\x0c",
]


@pytest.mark.parametrize("cell", CELLS)
def test_numbers_are_those_of_python(read, cell):
    assert read(f"0,{cell}\n") == {"x": [0], "y": [float(cell)]}


@pytest.mark.parametrize(
    "cell", ["1_000", "0x10", "1d5", "٣", "1 2", "--1", "1.2.3", "'4", "x" * 99]
)
def test_what_is_no_number_is_named_with_its_place(read, cell):
    with pytest.raises(
        FileFormatError, match=r"table.txt: line 3, column 'y': .* is not a number"
    ) as caught:
        read(f"a,b\n1,2\n3,{cell}\n5,6\n", first_line=2)
    assert len(str(caught.value).split("table.txt")[1]) < 120


def test_decimal_commas_are_named(read):
    with pytest.raises(FileFormatError, match="'1,5' is not a number but has a decimal comma"):
        read("1,5;2,5\n", delimiter=";")
    with pytest.raises(FileFormatError, match=r"has 4 cells, expected 2: .* decimal commas\?"):
        read("1,5,2,5\n")


def test_text_is_decoded_and_shared(read):
    text = "ä,1\nb,2\nä,3\n,4\n".encode("latin-1")
    assert read(text, text={"x"}, encoding="latin-1")["x"] == ["ä", "b", "ä", ""]
    assert read(text, text={"x"})["x"] == ["\ufffd", "b", "\ufffd", ""]
    assert read(b"a,+1\n", text={"x"}) == {"x": ["a"], "y": [1]}


def test_only_wanted_columns_are_looked_at(read):
    assert read("1,abc,3\n", "xxy", wanted={"y"}) == {"y": [3]}
    assert read("1,abc\n", wanted=()) == {}
    with pytest.raises(FileFormatError, match="two columns are named 'x'"):
        read("1,2,3\n", "xxy")


def test_lines_without_end_are_refused(read, tmp_path, monkeypatch):
    monkeypatch.setattr(_text, "_LONGEST_LINE", 1000)
    with pytest.raises(FileFormatError, match="line 2 is longer than 999 bytes"):
        read("1,2\n" + "x" * 2000)
    with pytest.raises(FileFormatError, match="line 1 is longer than 999 bytes"):
        read("x" * 2000, first_line=2)
    (tmp_path / "long.txt").write_text("a\n" + "x" * 2000)
    assert head_lines(tmp_path / "long.txt", 1) == ["a"]
    with pytest.raises(FileFormatError, match="line 2 is longer than 999 bytes"):
        head_lines(tmp_path / "long.txt", 2)


def test_utf_16_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("x,y", encoding="utf-16")
    with pytest.raises(FileFormatError, match="UTF-16: save it as UTF-8"):
        head_lines(tmp_path / "a.csv", 1)


def hard_decimals(random):
    """Give decimals that are hard to round: of all lengths and sizes, and near half-way points."""
    for bits in random.integers(0, 0x7FF << 52, 2000):
        number = float(np.int64(bits).view(np.float64))
        half_way = (Decimal(number) + Decimal(math.nextafter(number, math.inf))) / 2
        yield repr(number)
        yield f"{number:.{random.integers(1, 30)}e}"
        yield f"{half_way:.{random.integers(14, 40)}e}"
        yield str(half_way)
    for exponent in range(-30, 30):
        yield f"{random.integers(2**63, 2**64, dtype=np.uint64)}e{exponent}"
        yield f"{2**53 + exponent}.{random.integers(10**12)}"
        yield f"-0.000{random.integers(10**18)}000"
        yield f"1{'0' * abs(exponent)}.5e{exponent}"
        yield f"{'9' * (exponent + 31)}.{'9' * 30}"


def test_every_decimal_is_rounded_as_python_does(read):
    with localcontext(prec=800):
        cells = list(hard_decimals(np.random.default_rng(0)))
    found = np.array(read("".join(f"{cell},0\n" for cell in cells))["x"])
    np.testing.assert_array_equal(found, np.array(list(map(float, cells))))


@pytest.mark.parametrize(
    "rows", ["1,2\n3,4\n", "1,2\r\n3,4", "1,\n\n 3 ,NA\n  \n", '"1","2"\n3,4.5e6', "1e999,inf"]
)
def test_what_is_well_formed_never_takes_the_slow_way(read, monkeypatch, rows):
    expected = read(rows)
    monkeypatch.setattr(_text, "_read_slowly", None)
    np.testing.assert_equal(read(rows), expected)
    np.testing.assert_equal(read(rows, text="x").keys(), expected.keys())


def test_more_rows_than_were_counted_are_never_written(read, monkeypatch):
    """Somebody else may write to the file between the counting and the reading."""
    find = _text_blocks._find_blocks
    monkeypatch.setattr(
        _text_blocks,
        "_find_blocks",
        lambda *place: [block._replace(most_rows=1) for block in find(*place)],
    )
    assert read("1,2\n3,4\n5,6\n") == {"x": [1, 3, 5], "y": [2, 4, 6]}


def test_rows_that_end_before_they_begin_are_none(read):
    assert read("a,b\n1,2\n", first_line=2, stop=2) == {"x": [], "y": []}


def in_plain_python(text):
    rows = [
        row
        for row in csv.reader(io.StringIO(text, newline=""))
        if "".join(row).strip() or len(row) > 1
    ]
    return np.array([[float(cell.strip() or "nan") for cell in row] for row in rows]).reshape(-1, 2)


@given(
    rows=st.lists(
        st.tuples(st.floats() | st.just(""), st.floats() | st.integers(-9, 9)), max_size=8
    ),
    ends=st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\n \n"]),
)
@settings(max_examples=200, deadline=None)
def test_any_numbers_are_read_exactly(tmp_path_factory, rows, ends):
    text = "".join(f"{x},{y}{ends}" for x, y in rows)
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_text(text, newline="")
    columns = read_columns(path, "xy", delimiter=",", first_line=1)
    np.testing.assert_array_equal(np.stack([columns["x"], columns["y"]], 1), in_plain_python(text))


@given(text=st.text('1.5,e-+"\n\r x', max_size=40))
@settings(max_examples=500, deadline=None)
def test_any_text_is_read_right_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "text.csv"
    path.write_text(text, newline="")
    with suppress(FileFormatError):
        columns = read_columns(path, "xy", delimiter=",", first_line=1)
        found = np.stack([columns["x"], columns["y"]], 1)
        np.testing.assert_array_equal(found, in_plain_python(text))


@pytest.mark.parametrize("line", ["1,two", "1", "1,2,3"])
def test_a_wrong_row_is_found_far_into_a_file(read, line):
    lines = ["1000.123456789,2000.123456789"] * 200_000
    lines[150_000] = line
    with pytest.raises(FileFormatError, match="line 150001"):
        read("\n".join(lines))


def test_headers_name_columns_and_units():
    line = "\ufeff\"X (nm)\",'y [\xb5m]', f(x) [um^2],b  c,[nm]\r\n"
    assert parse_header(line, ",") == [
        Column("X", "nm"),
        Column("y", "um"),
        Column("f(x)", "um^2"),
        Column("b c", ""),
        Column("", "nm"),
    ]
    assert parse_header("x [nm]  y(um) frame", " ") == [
        Column("x", "nm"),
        Column("y", "um"),
        Column("frame", ""),
    ]
    assert parse_header("a (b)", ",", brackets=[("[", "]")]) == [Column("a (b)", "")]
    assert [str(column) for column in parse_header("x (nm)\tframe", "\t")] == ["x [nm]", "frame"]


@pytest.mark.parametrize(
    ("unit", "factor"), [("nm", 1), ("um", 1000), ("UM", 1000), ("mm", 1e6), ("m", 1e9), ("px", 65)]
)
def test_lengths_become_nm(tmp_path, unit, factor):
    assert length_factor(tmp_path, Column("x", unit), 65) == factor


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        ("px", r"'x \[px\]' is in camera pixels: pass pixel_size="),
        ("", "'x' is unknown"),
        ("s", "is unknown"),
    ],
)
def test_a_length_without_a_known_unit_is_refused(tmp_path, unit, message):
    with pytest.raises(FileFormatError, match=message):
        length_factor(tmp_path, Column("x", unit), None)


def test_counts_become_whole_only_if_all_are():
    assert whole(np.array([1.0, -2.0])).dtype == np.int64
    for numbers in ([1.5], [np.nan], [np.inf], [2.0**60]):
        assert whole(np.array(numbers)).dtype == np.float64
