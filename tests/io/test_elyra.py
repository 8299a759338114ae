import io

import numpy as np
import pytest

from smlmkit.errors import FileFormatError, SmlmkitError
from smlmkit.io.elyra import read, recognizes

FORMAT = "elyra"

HEADER = (
    "Index\tFirst Frame\tNumber Frames\tFrames Missing\tPosition X [nm]\tPosition Y [nm]\t"
    "Precision [nm]\tNumber Photons\tBackground variance\tChi square\tPSF half width [nm]\t"
    "Channel\tZ Slice"
)
ROWS = [
    "1\t1\t1\t0\t150.5\t80.25\t8.5\t472\t5.25\t0.5\t110.5\t1\t1",
    "2\t7\t3\t1\t990.0\t480.0\t9.5\t529\t4.5\t0.25\t129.5\t2\t1",
]
FOOTER = (
    "VoxelSizeX : 0.125 µm\r\r\nVoxelSizeY : 0.1 µm\r\r\n"
    "ResolutionX : 0.1000000000\r\r\nResolutionY : 0.2000000000\r\r\n"
    "SizeX : 80\r\r\nSizeY : 60\r\r\n\r\nROI List : \r\r\n"
)
TEXT = "\r\n".join([HEADER, *ROWS, f"\0\r\r\n{FOOTER}"])


@pytest.fixture
def read_text(read_text):
    """Give a function that reads a text in Latin-1, as ZEN writes it."""

    def read(text, **options):
        return read_text(text if isinstance(text, bytes) else text.encode("latin-1"), **options)

    return read


def test_columns_become_those_of_smlmkit(read_text, as_lists):
    table = read_text(TEXT)
    assert as_lists(table) == {
        "Index": [1, 2],
        "frame": [0, 6],
        "detections": [1, 3],
        "Frames Missing": [0, 1],
        "x": [150.5, 990.0],
        "y": [80.25, 480.0],
        "uncertainty_x": [8.5, 9.5],
        "uncertainty_y": [8.5, 9.5],
        "photons": [472.0, 529.0],
        "Background variance": [5.25, 4.5],
        "Chi square": [0.5, 0.25],
        "sigma_x": [110.5, 129.5],
        "sigma_y": [110.5, 129.5],
        "channel": [1, 2],
        "Z Slice": [1, 1],
    }
    assert all(table[name].dtype == np.int64 for name in ("frame", "detections", "channel"))


def test_the_footer_states_pixel_size_and_field(read_text):
    table = read_text(TEXT)
    assert table.field_of_view == pytest.approx((0, 0, 60 * 0.2 * 100, 80 * 0.1 * 125))
    assert table.metadata == {
        "source": "blinks.txt",
        "format": "elyra",
        "camera_pixel_size": 125.0,
    }


def test_an_argument_goes_before_what_is_stated(read_text):
    table = read_text(TEXT, pixel_size=200, field_of_view=(0, 0, 500, 1000))
    assert table.field_of_view == (0, 0, 500, 1000)
    assert table.metadata["camera_pixel_size"] == 200
    assert read_text(TEXT, pixel_size=200).field_of_view == pytest.approx((0, 0, 2400, 1600))


def test_a_table_without_footer_has_the_field_of_its_rows(read_text):
    table = read_text("\n".join([HEADER, *ROWS]))
    assert table.field_of_view == (80, 150, 481, 991)
    assert table.metadata == {"source": "blinks.txt", "format": "elyra"}


def test_a_third_dimension_has_an_uncertainty_of_its_own(read_text, as_lists):
    table = read_text(
        "First Frame\tPosition X [nm]\tPosition Y [nm]\tPosition Z [nm]\tPrecision [nm]\t"
        "Precision Z [nm]\tPSF width [nm]\n1\t10\t20\t-300\t8\t40\t300\n"
    )
    assert as_lists(table) == {
        "frame": [0],
        "x": [10.0],
        "y": [20.0],
        "z": [-300.0],
        "uncertainty_x": [8.0],
        "uncertainty_y": [8.0],
        "uncertainty_z": [40.0],
        "PSF width": [300.0],
    }


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", ["\t", ";"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_newlines_delimiters_and_marks_may_differ(read_text, newline, delimiter, mark):
    text = newline.join([HEADER, *ROWS, ""]).replace("\t", delimiter).encode()
    assert recognizes(io.BytesIO(mark + text), mark + text)
    assert read_text(mark + text).x.tolist() == [150.5, 990.0]


@pytest.mark.parametrize("unit", [b" \xb5m", b" \xc2\xb5m", b" um", b""])
def test_the_voxel_size_is_in_micrometres_however_these_are_written(read_text, unit):
    text = f"{HEADER}\n{ROWS[0]}\n\0VoxelSizeX : 0.125".encode() + unit + b"\r\r\n"
    assert read_text(text).metadata["camera_pixel_size"] == 125.0


def test_a_unit_of_the_header_is_heeded(read_text):
    table = read_text(f"{HEADER}\n{ROWS[0]}\n".replace("X [nm]", "X [\xb5m]"))
    assert table.x.tolist() == [150500.0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("X [nm]", "X [inch]", r"unit of column 'Position X \[inch\]' is unknown"),
        ("X [nm]", "X", "unit of column 'Position X' is unknown"),
        ("Y [nm]", "X [nm]", "no column means y"),
        ("Position Y [nm]", "Place", "no column means y: there are 'Index'"),
        ("Index", "x [nm]", r"'Position X \[nm\]' is the second column that means x"),
        ("150.5", "abc", r"line 2, column 'Position X \[nm\]': 'abc' is not a number"),
        ("990.0", "990,0", r"line 3, column 'Position X \[nm\]': '990,0' .*decimal comma"),
        ("\t990.0", "", "line 3 has 12 cells, .*13"),
        ("2\t7\t", "2\t7.5\t", "'frame' must hold whole numbers"),
        ("150.5", "150\0.5", r"byte \d+ is a NUL in the table"),
        ("\n2\t7", "\n\0\t7", r"byte \d+ is a NUL in the table"),
        ("0.125 µm", "0.125 inch", "'0.125 inch' is stated as VoxelSizeX .* of µm"),
        ("0.125 µm", "-1 µm", "'-1 µm' is stated as VoxelSizeX"),
        ("0.125 µm", "nan µm", "'nan µm' is stated as VoxelSizeX"),
        ("SizeX : 80", "SizeX : 1e300", "'1e300' is stated as SizeX"),
        ("SizeX : 80", "SizeX : many", "'many' is stated as SizeX .* expected a positive number$"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(read_text, old, new, message):
    assert old in TEXT
    with pytest.raises(FileFormatError, match=rf"blinks\.txt: .*{message}"):
        read_text(TEXT.replace(old, new, 1))


def test_pixels_are_those_that_are_stated_or_asked_for(read_text):
    text = TEXT.replace("X [nm]", "X [px]")
    assert read_text(text, field_of_view=(0, 0, 1e6, 1e6)).x.tolist() == [150.5 * 125, 990 * 125]
    table_alone = text.partition("\0")[0]
    with pytest.raises(FileFormatError, match=r"'Position X \[px\]' .* pass pixel_size="):
        read_text(table_alone)
    assert read_text(table_alone, pixel_size=100).x.tolist() == [15050, 99000]


def test_empty_files_and_headers_alone_are_no_tables(read_text):
    for text in ("", "\n", "\0", HEADER, f"{HEADER}\n"):
        with pytest.raises(FileFormatError, match=r"blinks\.txt: "):
            read_text(text)
    table = read_text(f"{HEADER}\r\n\0{FOOTER}")
    assert len(table) == 0
    assert table["frame"].dtype == np.int64


def test_a_table_of_several_blocks_ends_at_its_nul(read_text):
    rows = "\n".join(ROWS * 12_000)
    assert len(rows) > 2**20
    table = read_text(f"{HEADER}\n{rows}\n\0{FOOTER}")
    assert len(table) == 24_000
    assert table.metadata["camera_pixel_size"] == 125.0


def test_the_nul_may_stand_at_the_beginning_of_a_block(read_text):
    table = f"{HEADER}\n{ROWS[0]}\n"
    table += "\n" * (2**20 - len(table))
    assert read_text(f"{table}\0{FOOTER}").metadata["camera_pixel_size"] == 125.0
    with pytest.raises(FileFormatError, match=r"byte 1,048,576 is a NUL in the table"):
        read_text(f"{table[:-1]} \0{FOOTER}")


@pytest.mark.filterwarnings("ignore::smlmkit.errors.UnusedRowsWarning")
def test_a_cut_file_never_gives_other_rows(read_text, as_lists):
    content = TEXT.encode("latin-1")
    n_table = content.index(b"\0")
    complete = read_text(TEXT)
    whole = as_lists(complete)
    n_errors = 0
    for n_bytes in range(len(content)):
        try:
            table = read_text(content[:n_bytes])
        except SmlmkitError:
            n_errors += 1
            continue
        for name, values in as_lists(table).items():
            n_sure = len(values) if name != "Z Slice" else len(values) - 1
            assert values[:n_sure] == whole[name][:n_sure]
        if n_bytes > n_table:
            assert len(table) == 2
            assert table.field_of_view in (complete.field_of_view, (80, 150, 481, 991))
    assert n_errors > len(HEADER)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\0" * 99,
        b'"id","frame","x [nm]","y [nm]"\n',
        b"id\tframe\tx [nm]\ty [nm]\n",
        b"frame;x [nm];y [nm]\n",
        b"Channel Name\tX\tY\tFrame\n",
        b"Channel,Frame,X (nm),Y (nm)\n",
        b"\n" + HEADER.encode(),
        b"\x89HDF\r\n\x1a\n" + HEADER.encode(),
    ],
)
def test_other_files_are_not_recognized(head):
    assert not recognizes(io.BytesIO(head), head)


def test_the_real_file_is_read(real_data):
    path = real_data / "formats" / "Elyra_dstorm_data.txt"
    content = path.read_bytes()
    lines = content.partition(b"\0")[0].splitlines()
    table = read(path)
    assert recognizes(io.BytesIO(content), content)
    assert len(table) == len(lines) - 1 == 15
    # b"1\t1\t1\t0\t15850.6\t23502.1\t8.6\t472\t5.33\t0.28\t110.0\t1\t1" is its second line.
    assert lines[1].split(b"\t")[4:6] == [b"15850.6", b"23502.1"]
    assert (table.x[0], table.y[0], table["frame"][0]) == (15850.6, 23502.1, 0)
    assert (table["photons"][0], table["uncertainty_x"][0]) == (472, 8.6)
    assert (table["sigma_x"][0], table["detections"][0], table["channel"][0]) == (110, 1, 1)
    assert table.metadata["camera_pixel_size"] == pytest.approx(97.0873786)
    # 3200 pixels, of which 10 make a camera pixel of 97.0873786 nm.
    assert table.field_of_view == pytest.approx((0, 0, 31067.961152, 31067.961152))


def test_what_the_columns_mean_is_what_makes_the_real_precisions(real_data):
    table = read(real_data / "formats" / "Elyra_dstorm_data.txt")
    s, n, variance = table["sigma_x"], table["photons"], table["Background variance"]
    a = table.metadata["camera_pixel_size"]
    shot = (s**2 + a**2 / 12) / n
    background = 8 * np.pi * s**4 * variance / (a * n) ** 2
    expected = np.sqrt(2 * (shot + background))
    np.testing.assert_allclose(table["uncertainty_x"], expected, atol=0.1)
