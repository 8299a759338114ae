import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smlmkit.errors import FileFormatError, UnusedRowsWarning
from smlmkit.io import rapidstorm

FORMAT = "rapidstorm"


def field(identifier, unit="nanometer", **others):
    stated = "".join(f' {name}="{value}"' for name, value in others.items())
    return f'<field identifier="{identifier}" syntax="integer" unit="{unit}"{stated} />'


RANGE = {"min": "0 m", "max": "9.005e-007 m"}
X, Y = (field(f"Position-{dimension}-0", **RANGE) for dimension in (0, 1))
FRAME = field("ImageNumber-0-0", "frame", min="0 fr")
AMPLITUDE = field("Amplitude-0-0", "A/D count")
DOUBT = field("Position-0-0-uncertainty")


def describe(*fields):
    text = "".join(fields)
    return f'# <localizations insequence="true" repetitions="variable">{text}</localizations>'


PLAIN = f"{describe(X, Y, FRAME, AMPLITUDE)}\n600.5 250 0 1e+003\n900.5 0 7 500\n"
TRACKS = (
    f"{describe(X, Y, FRAME, AMPLITUDE, describe(X, DOUBT, Y, FRAME).removeprefix('# '))}\n"
    "600.5 250 0 1e+003 2 600 5 250 0 601 6 250 1\n"
    "900.5 0 7 500 1 900.5 4 0 7\n"
)


@pytest.fixture
def read_text(read_text):
    """Give a function that reads a text with camera pixels of 100 nm, of which half is added."""

    def read(text, pixel_size=100, **options):
        return read_text(text, pixel_size=pixel_size, **options)

    return read


def test_fields_become_columns(read_text, as_lists):
    table = read_text(PLAIN)
    assert as_lists(table) == {
        "x": [650.5, 950.5],
        "y": [300.0, 50.0],
        "frame": [0, 7],
        "Amplitude-0-0": [1000.0, 500.0],
    }
    assert table["frame"].dtype == np.int64
    assert table.field_of_view == pytest.approx((0, 0, 1000.5, 1000.5))
    assert table.metadata == {
        "source": "blinks.txt",
        "format": "rapidstorm",
        "camera_pixel_size": 100,
    }


@pytest.mark.parametrize("text", [PLAIN, TRACKS])
def test_the_pixel_size_is_asked_for(read_text, text):
    with pytest.raises(
        FileFormatError, match=r"blinks\.txt: .* centre .*: pass pixel_size= \(nm\)"
    ):
        read_text(text, pixel_size=None)
    assert read_text(text, pixel_size=2).x.tolist() == [601.5, 901.5]


def test_all_that_is_known_of_a_spot(read_text, as_lists):
    fields = [X, Y, field("Position-2-0"), DOUBT, field("Position-1-0-uncertainty")]
    fields += [field("Position-2-0-uncertainty", "micrometer"), field("PSFWidth-0-0")]
    fields += [field("PSFWidth-1-0", "pixel"), field("TwoKernelImprovement-0-0", "")]
    table = read_text(f"{describe(*fields)}\n1 2 -300 4 5 0.006 235.482 2.35482 0.5\n")
    assert as_lists(table) == {
        "x": [51.0],
        "y": [52.0],
        "z": [-300.0],
        "uncertainty_x": [4.0],
        "uncertainty_y": [5.0],
        "uncertainty_z": [6.0],
        "sigma_x": [pytest.approx(100, rel=1e-6)],
        "sigma_y": [pytest.approx(100, rel=1e-6)],
        "TwoKernelImprovement-0-0": [0.5],
    }


def test_a_track_is_one_row(read_text, as_lists):
    table = read_text(TRACKS)
    assert as_lists(table) == as_lists(read_text(PLAIN)) | {"detections": [2, 1]}
    assert table["detections"].dtype == np.int64
    assert table.field_of_view == pytest.approx((0, 0, 1000.5, 1000.5))
    assert as_lists(read_text(TRACKS.replace("\n6", "\r\n\r\n  6").replace(" 0 ", " \t0  "))) == (
        as_lists(table)
    )


def test_the_real_file_agrees_with_its_text(real_data, is_recognized):
    """Its range is that of 256 pixels of 128.3 nm, from centre to centre: 255 * 128.3 = 32716.5."""
    path = real_data / "formats" / "rapidSTORM_dstorm_data.txt"
    assert is_recognized(rapidstorm, path)
    table = rapidstorm.read(path, pixel_size=128.3)
    assert len(table) == 14
    assert table.field_of_view == pytest.approx((0, 0, 256 * 128.3, 256 * 128.3))
    first = {name: table[name][0] for name in table}
    assert first == {
        "x": pytest.approx(9657.4 + 64.15),
        "y": pytest.approx(24533.5 + 64.15),
        "frame": 0,
        "Amplitude-0-0": 33290.1,
        "FitResidues-0-0": 1192250.0,
        "LocalBackground-0-0": 767.733,
    }


@pytest.mark.parametrize(
    "head",
    [
        PLAIN,
        TRACKS,
        PLAIN.removeprefix("# "),
        "\ufeff" + PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace('"', "'"),
        PLAIN.replace(" />", "></field>").replace("><", "> <"),
        PLAIN.replace("\n6", "\n\n  6").replace(" 0 ", "\t0   "),
    ],
)
def test_small_differences_do_not_matter(read_text, head):
    assert rapidstorm.recognizes(io.BytesIO(), head.encode())
    assert read_text(head).x.tolist() == [650.5, 950.5]


@pytest.mark.parametrize(
    "head", ["", "x,y\n1,2", "# <localization>", "<?xml?><localizations>", "\0"]
)
def test_other_files_are_not_recognized(read_text, head):
    assert not rapidstorm.recognizes(io.BytesIO(), head.encode())
    with pytest.raises(FileFormatError, match="line 1 describes no columns as rapidSTORM does"):
        read_text(head)


SAME_LABEL = field("a [b]", ""), field("a", "b")
BOMB = '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'


@pytest.mark.parametrize(
    "line",
    [
        describe(X, Y).replace("# ", f"# {BOMB}"),
        describe(X, Y, BOMB),
        describe(X, Y, "<!-- -->"),
        describe(X, Y, "text"),
        describe(X, Y).removesuffix("</localizations>"),
        describe(X, Y) + "</localizations>",
        describe(X, Y) + X,
        describe(describe(X, Y)[2:], X),
        describe(X, Y, describe(X, describe(Y)[2:])[2:]),
        describe(X, Y, describe(X)[2:], describe(X)[2:]),
        describe(X, Y, "<field identifier=>"),
        describe(X, Y)[:-30],
        "# <localizations" + " " * 100_000,
        "# " + "<localizations>" * 10_000,
        "# <localizations " + "a" * 100_000,
    ],
)
def test_no_other_xml_is_understood(read_text, line):
    with pytest.raises(FileFormatError, match="line 1 describes no columns as rapidSTORM does"):
        read_text(f"{line}\n1 2\n")


def test_entities_stay_as_they_are(read_text, tmp_path):
    (tmp_path / "secret").write_text("secret")
    table = read_text(f"{describe(X, Y, field('&xxe;', '&a;'))}\n1 2 3\n")
    assert table.columns == ("x", "y", "&xxe;")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            describe(X, FRAME),
            r"no column means y: there are 'Position-0-0 \[nano.*\]', 'ImageNumber-0-0 \[frame\]'",
        ),
        (describe(), "no column means x and y: there are none"),
        (describe(X, Y, '<field unit="m"/>'), "field without identifier"),
        (describe(X, Y, field(" ")), "field without identifier"),
        (
            describe(X, Y, field("detections"), describe(X)[2:]),
            "second column that means detections",
        ),
        (describe(X, Y, *SAME_LABEL) + "\n1 2 3 4", r"two columns are named 'a \[b\]'"),
        (describe(X, Y, *SAME_LABEL, describe(X)[2:]) + "\n1 2 3 4 0", "names a field twice"),
        (
            describe(X, field("Position-1-0", "")) + "\n1 2",
            "unit of column 'Position-1-0' is unknown",
        ),
        (PLAIN.replace("0 7", "0 7.5"), "'frame' must hold whole numbers"),
        (TRACKS.replace("600.5", "6oo"), "line 2, column 'Position-0-0 .*': '6oo' is not a number"),
        (
            TRACKS.replace("600.5", "600,5"),
            "line 2, column 'Position-0-0 .*': '600,5' is not a number",
        ),
        (TRACKS + "\n1 2 3 4", "line 5 has 4 cells, expected 5 and those of the localizations"),
        (TRACKS + "1 2 3 4 1 2 3 4", "line 4 has 8 cells, its 1 localizations of 4 fields make 9"),
        (TRACKS.replace(" 2 600", " 1e9 600"), "its 1e.09 localizations of 4 fields make 4e.09"),
        (TRACKS.replace(" 2 600", " 2.5 600"), "its 2.5 localizations"),
        (TRACKS + "1 2 3 4 0.5 1 2", "line 4 has 7 cells, its 0.5 localizations"),
        (TRACKS.replace(" 2 600", " nan 600"), "its nan localizations"),
        (TRACKS.replace(" 2 600", " -2 600"), "its -2 localizations"),
        (
            TRACKS.replace(" 2 600", " two 600"),
            "line 2, column 'detections': 'two' is not a number",
        ),
        (TRACKS.encode() + b"\xff 2 3 4 0", "line 4, column 'Position-0-0 .*': '\ufffd' is not a"),
        (TRACKS.encode() + b"\xff", "line 4 has 1 cells"),
        (TRACKS.replace(" 2 600", " inf 600"), "its inf localizations"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(read_text, text, message):
    with pytest.raises(FileFormatError, match=rf"blinks\.txt: .*{message}"):
        read_text(text)


@pytest.mark.parametrize("stated", ["wide", "1e", "", "nan m", "1e308 m", "5 parsec", "7", "1 2 m"])
def test_a_range_that_is_none_is_named(read_text, stated):
    text = PLAIN.replace("9.005e-007 m", stated)
    with pytest.raises(FileFormatError, match="max of Position-0-0"):
        read_text(text)
    assert read_text(text, field_of_view=(0, 0, 960, 960)).field_of_view == (0, 0, 960, 960)


def test_a_range_may_lie_anywhere_or_nowhere(read_text):
    text = PLAIN.replace('"0 m"', '"1.005e-7 m"').replace("900.5 0 ", "900.5 101 ")
    table = read_text(text, pixel_size=50)
    assert table.field_of_view == pytest.approx((100.5, 100.5, 950.5, 950.5))
    table = read_text(PLAIN.replace('"0 m"', '"0"'))
    assert table.field_of_view == pytest.approx((0, 0, 1000.5, 1000.5))
    half = PLAIN.replace(Y, field("Position-1-0"))
    assert read_text(half).field_of_view == (50, 650, 301, 951)
    with pytest.raises(FileFormatError, match="y_min < y_max"):
        read_text(PLAIN.replace('"0 m"', '"9 m"'))


def test_rows_without_a_place_are_counted(read_text):
    with pytest.warns(UnusedRowsWarning, match="2 of 4 rows .*: 1 with .*, 1 outside"):
        table = read_text(f"{PLAIN}nan 1 1 1\n1e308 1 1 1\n")
    assert table["frame"].tolist() == [0, 7]


@pytest.mark.parametrize("text", [describe(X, Y, FRAME), describe(X, Y, FRAME, describe(X)[2:])])
@pytest.mark.parametrize("end", ["", "\n", "\r\n\r\n"])
def test_a_file_may_hold_no_rows(read_text, text, end):
    table = read_text(text + end)
    assert len(table) == 0
    assert table.field_of_view == pytest.approx((0, 0, 1000.5, 1000.5))


@given(
    rows=st.lists(
        st.tuples(
            *[st.floats(0, 900)] * 2,
            st.integers(0, 2**40),
            st.lists(
                st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 2), max_size=4
            ),
        ),
        min_size=1,
    )
)
def test_tracks_come_back_as_they_were_written(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("tracks") / "tracks.txt"
    within = describe(X, Y).removeprefix("# ")
    lines = [describe(X, Y, FRAME, within)]
    for x, y, frame, track in rows:
        lines.append(" ".join(map(repr, (x, y, frame, len(track), *sum(track, ())))))
    path.write_text("\n".join(lines))
    table = rapidstorm.read(path, pixel_size=2)
    assert table.x.tolist() == [row[0] + 1 for row in rows]
    assert table.y.tolist() == [row[1] + 1 for row in rows]
    assert table["frame"].tolist() == [row[2] for row in rows]
    assert table["detections"].tolist() == [len(row[3]) for row in rows]
