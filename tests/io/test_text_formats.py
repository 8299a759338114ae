"""What every text format must stand: one small file of each, damaged and written otherwise."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smlmkit.errors import FileFormatError, UnusedRowsWarning
from smlmkit.io.tables import find_format, read_localizations, write_localizations

FIELD = '<field identifier="{}" unit="{}" />'
POSITIONS = FIELD.format("Position-0-0", "nm") + FIELD.format("Position-1-0", "nm")
FIELDS = POSITIONS + FIELD.format("ImageNumber-0-0", "frame") + FIELD.format("Other", "ADU")
WITHIN = f'<localizations repetitions="variable">{POSITIONS}</localizations>'


class Sample(NamedTuple):
    """A file of two rows at x = 150.5 and 990.25 nm, the first of which has 77.5 as "Other"."""

    format: str
    text: str
    x: str  # what the header calls x and y, with the unit of x
    y: str
    other: str = "Other"  # the table's name of the column "Other"
    shifted: bool = False  # whether positions are half a camera pixel larger in the table


SAMPLES = {
    "thunderstorm": Sample(
        "thunderstorm",
        '"id","frame","x [nm]","y [nm]","Other","chi2"\n1,1,150.5,80,77.5,3\n2,7,990.25,40,5,4\n',
        "x [nm]",
        "y [nm]",
    ),
    "csv": Sample(
        "csv", "# hand-made\nx [nm];y [nm];frame;Other\n150.5;80;0;77.5\n990.25;40;6;5\n",
        "x [nm]", "y [nm]",
    ),
    "blanks": Sample(
        "csv", "x [nm]  y [nm] frame Other\n150.5 80  0 77.5\n 990.25 40 6 5\n", "x [nm]", "y [nm]"
    ),
    "challenge": Sample(
        "challenge",
        "Ground-truth,frame,xnano [nm],ynano,Other,intensity \n"
        "7,1,150.5,80,77.5,900\n8,7,990.25,40,5,800\n",
        "xnano [nm]",
        "ynano",
    ),
    "elyra": Sample(
        "elyra",
        "Index\tFirst Frame\tPosition X [nm]\tPosition Y [nm]\tOther\tZ Slice\r\n"
        "1\t1\t150.5\t80\t77.5\t1\r\n2\t7\t990.25\t40\t5\t1\r\n\0\r\nSizeX : 80\r\r\n",
        "Position X [nm]",
        "Position Y [nm]",
    ),
    "nstorm": Sample(
        "nstorm",
        "Channel Name\tX [nm]\tY\tFrame\tOther\tI\r\n"
        "488\t150.5\t80\t1\t77.5\t3\r\n647\t990.25\t40\t7\t5\t4\r\n",
        "X [nm]",
        "Y",
    ),
    "nanoimager": Sample(
        "nanoimager",
        "Channel,Frame,X (nm),Y (nm),Other,Background\n0,0,150.5,80,77.5,3\n1,6,990.25,40,5,4\n",
        "X (nm)",
        "Y (nm)",
    ),
    "rapidstorm": Sample(
        "rapidstorm",
        f"# <localizations>{FIELDS}</localizations>\n150.5 80 0 77.5\n990.25 40 6 5\n",
        'Position-0-0" unit="nm"',
        'Position-1-0" unit="nm"',
        shifted=True,
    ),
    "tracks": Sample(
        "rapidstorm",
        f"# <localizations>{FIELDS}{WITHIN}</localizations>\n"
        "150.5 80 0 77.5 2 1 2 3 4\n990.25 40 6 5 1 5 6\n",
        'Position-0-0" unit="nm"',
        'Position-1-0" unit="nm"',
        shifted=True,
    ),
}  # fmt: skip
LARGE = (-1e12, -1e12, 1e12, 1e12)


@pytest.fixture(params=SAMPLES)
def sample(request):
    return SAMPLES[request.param]


@pytest.fixture
def read(read_text, sample):
    """Give a function that reads a text in the sample's format, with the camera's pixel size."""
    size = 100 if sample.shifted else None

    def read(text, pixel_size=size, **options):
        return read_text(text, format_name=sample.format, pixel_size=pixel_size, **options)

    return read


def test_the_sample_is_read(read, sample, tmp_path):
    table = read(sample.text)
    assert (table.x - 50 * sample.shifted).tolist() == [150.5, 990.25]
    assert (table.y - 50 * sample.shifted).tolist() == [80, 40]
    assert table["frame"].tolist() == [0, 6]
    assert table["frame"].dtype == np.int64
    assert table[sample.other].tolist() == [77.5, 5]
    assert (table.metadata["source"], table.metadata["format"]) == ("blinks.txt", sample.format)
    if sample.format != "csv":
        assert find_format(tmp_path / "blinks.txt") == sample.format


@pytest.mark.filterwarnings("ignore::smlmkit.errors.UnusedRowsWarning")
def test_a_cut_file_never_gives_other_rows(read, sample, as_lists):
    content = sample.text.encode()
    rows = as_lists(read(content))
    *_, last = rows  # a number at the very end may lose digits unnoticed
    n_errors = 0
    for n_bytes in range(len(content)):
        try:
            table = read(content[:n_bytes])
        except FileFormatError:
            n_errors += 1
            continue
        for name, values in as_lists(table).items():
            n_sure = len(values) - (name == last)
            assert values[:n_sure] == rows[name][:n_sure]
    assert n_errors > sample.text.index("150.5")


@pytest.mark.parametrize("text", ["", "\n", "\r\n\r\n", "\0", " ", "\ufeff", "\ufeff\n"])
def test_an_empty_file_is_refused(read, text):
    with pytest.raises(FileFormatError, match=r"blinks\.txt: "):
        read(text)


@pytest.mark.parametrize("end", ["", "\n", "\r\n\r\n"])
def test_a_header_alone_is_an_empty_table_if_the_field_is_given(read, sample, end):
    header = sample.text[: sample.text.index("150.5")].rpartition("\n")[0] + end
    with pytest.raises(FileFormatError, match=r"blinks\.txt: .* pass field_of_view="):
        read(header)
    table = read(header, field_of_view=(0, 0, 10, 10))
    assert len(table) == 0
    assert table["frame"].dtype == np.int64


def test_lengths_become_nm(read, sample):
    for unit, factor in (("um", 1000), ("µm", 1000), ("mm", 1e6), ("px", 100)):
        if unit == "µm" and sample.shifted:
            continue  # rapidSTORM spells its units out
        text = sample.text.replace(sample.x, sample.x.replace("nm", unit))
        table = read(text, pixel_size=100)
        expected = np.array([150.5, 990.25]) * factor + 50 * sample.shifted
        np.testing.assert_allclose(table.x, expected, rtol=1e-15)
        assert table.metadata["camera_pixel_size"] == 100


@pytest.mark.parametrize(
    ("unit", "message"), [("inch", "unit of column .* is unknown"), ("px", "pass pixel_size=")]
)
def test_a_unit_that_is_not_known_is_named(read, sample, unit, message):
    text = sample.text.replace(sample.x, sample.x.replace("nm", unit))
    with pytest.raises(FileFormatError, match=rf"blinks\.txt: .*{message}"):
        read(text, pixel_size=None)


def test_two_columns_of_one_meaning_are_refused(read, sample):
    twice = sample.x.partition('"')[0]
    with pytest.raises(FileFormatError, match=r"blinks\.txt: '.*' is the second .* means x"):
        read(sample.text.replace("Other", twice, 1))


@pytest.mark.parametrize("axis", ["x", "y"])
def test_a_file_without_positions_is_refused(read, sample, axis):
    stated = getattr(sample, axis)
    message = rf"blinks\.txt: no column (means )?{axis}[:;] there are '"
    with pytest.raises(FileFormatError, match=message):
        read(sample.text.replace(stated, f"no{stated}"))


@pytest.mark.parametrize("cell", ["abc", "1_000", "0x10", "150.5.1", "--1"])
def test_text_among_numbers_is_named_with_its_place(read, sample, cell):
    line = sample.text[: sample.text.index("990.25")].count("\n") + 1
    message = rf"blinks\.txt: line {line}, column '.*': '{cell}' is not a number"
    with pytest.raises(FileFormatError, match=message):
        read(sample.text.replace("990.25", cell))


def test_a_row_of_another_length_is_named(read, sample):
    line = sample.text[: sample.text.index("990.25")].count("\n") + 1
    delimiter = next(mark for mark in "\t;, " if f"{mark}40{mark}" in sample.text)
    for cell in ("", "40 1".replace(" ", delimiter) + delimiter):
        text = sample.text.replace(f"40{delimiter}", cell)
        with pytest.raises(FileFormatError, match=rf"line {line} has \d+ cells, "):
            read(text)


def test_decimal_commas_are_refused(read, sample):
    line = sample.text[: sample.text.index("150.5")].count("\n") + 1
    message = rf"line {line}.*(decimal comma|cells|is not a number)"
    with pytest.raises(FileFormatError, match=message):
        read(sample.text.replace("150.5", "150,5"))


def test_missing_numbers_are_nan(read, sample):
    table = read(sample.text.replace("77.5", "nan"))
    np.testing.assert_array_equal(table[sample.other], [np.nan, 5])
    with pytest.warns(UnusedRowsWarning, match="1 of 2 rows cannot be used"):
        table = read(sample.text.replace("150.5", "NaN"))
    assert table["frame"].tolist() == [6]
    with (
        pytest.warns(UnusedRowsWarning, match="2 of 2 rows"),
        pytest.raises(FileFormatError, match="without usable rows"),
    ):
        read(sample.text.replace("150.5", "NaN").replace("990.25", "nan"))


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_newlines_and_marks_may_differ(read, sample, as_lists, newline, mark):
    text = mark + "\n".join(sample.text.splitlines()).replace("\n", newline)
    assert as_lists(read(text)) == as_lists(read(sample.text))


def test_a_header_may_be_in_latin_1(read, sample, tmp_path):
    table = read(sample.text.replace("Other", "Größe").encode("latin-1"))
    assert "Größe" in table
    write_localizations(table, tmp_path / "again.parquet")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_another_encoding_is_refused(read, sample, encoding):
    with pytest.raises(FileFormatError, match="UTF-16" if encoding == "utf-16" else "blinks"):
        read(sample.text.encode(encoding))


def test_columns_without_a_name_are_left_out(read, sample, as_lists):
    if sample.shifted:
        with pytest.raises(FileFormatError, match="field without identifier"):
            read(sample.text.replace("Other", ""))
        return
    if sample is SAMPLES["blanks"]:
        return  # between blanks there are no empty cells
    expected = as_lists(read(sample.text))
    del expected[sample.other]
    assert as_lists(read(sample.text.replace("Other", ""))) == expected


@pytest.mark.filterwarnings("ignore::smlmkit.errors.UnusedRowsWarning")
@settings(max_examples=400, deadline=None)
@given(
    name=st.sampled_from(sorted(SAMPLES)),
    place=st.integers(0, 10_000),
    piece=st.binary(max_size=3) | st.sampled_from([b"1e999", b'"', b"[", b"(", b"<", b"nan"]),
    n_lost=st.integers(0, 3),
)
def test_a_damaged_file_is_read_or_refused(tmp_path_factory, name, place, piece, n_lost):
    content = SAMPLES[name].text.encode()
    place %= len(content)
    path = tmp_path_factory.getbasetemp() / "damaged.txt"
    path.write_bytes(content[:place] + piece + content[place + n_lost :])
    try:
        table = read_localizations(
            path, format=SAMPLES[name].format, pixel_size=100, field_of_view=LARGE
        )
    except FileFormatError:
        return
    assert {"x", "y"} <= set(table)
