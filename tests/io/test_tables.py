"""Finding the format, and what all formats have in common."""

import importlib
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smlmkit import io
from smlmkit.errors import (
    FileFormatError,
    InvalidInputError,
    InvalidTypeError,
    OutputError,
    UnusedRowsWarning,
)
from smlmkit.io.tables import (
    _FORMATS,
    find_format,
    list_tables,
    read_localizations,
    write_localizations,
)
from smlmkit.localizations import Localizations

OPTIONS = {"picasso": {"pixel_size": 100}, "thunderstorm": {}, "parquet": {}}
SUFFIX = {"picasso": ".hdf5", "thunderstorm": ".csv", "parquet": ".parquet"}
FORMATS = sorted(OPTIONS)

positive = st.floats(2**-20, 2**20, width=32)
optional_columns = {
    "z": st.floats(-1e4, 1e4),
    "frame": st.integers(0, 2**31),
    "photons": positive,
    "background": positive,
    "uncertainty_z": positive,
    "sigma_x": positive,
    "sigma_y": positive,
    "channel": st.integers(0, 7),
    "detections": st.integers(1, 100),
    "log_likelihood": st.floats(allow_nan=True, allow_infinity=True, width=32),
    "id": st.integers(0, 2**40),
}
metadata = st.dictionaries(
    st.text(max_size=5).filter(lambda key: key not in ("camera_pixel_size", "n_frames")),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    max_size=3,
)


@st.composite
def tables(draw):
    """Draw tables of 0 to 5 rows that reach to the very edges of their field."""
    y_min, x_min = draw(st.tuples(*[st.sampled_from([0.0, 0.1, 1000.0, -333.3])] * 2))
    height, width = draw(st.tuples(*[st.sampled_from([50.0, 3200.0, 1234.5])] * 2))
    y_max, x_max = y_min + height, x_min + width
    names = draw(st.sets(st.sampled_from(sorted(optional_columns))))
    n = draw(st.integers(0, 5))
    drawn = {
        "x": st.floats(x_min, x_max, exclude_max=True),
        "y": st.floats(y_min, y_max, exclude_max=True),
        "uncertainty_x": positive,
        "uncertainty_y": positive,
        **{name: optional_columns[name] for name in sorted(names)},
    }
    columns = {
        name: np.array(draw(st.lists(values, min_size=n, max_size=n)), _dtype(name))
        for name, values in drawn.items()
    }
    if draw(st.booleans()):
        columns["uncertainty_y"] = columns["uncertainty_x"]
    return Localizations(
        columns, field_of_view=(y_min, x_min, y_max, x_max), metadata=draw(metadata)
    )


def _dtype(name):
    counts = {"frame": np.int64, "channel": np.uint8, "detections": np.int32, "id": np.int64}
    return counts.get(name, np.float64 if name in "xyz" else np.float32)


def write_and_read(table, name, **arguments):
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # Picasso's own sanity checks leave out rows that the file holds all the same.
        warnings.filterwarnings("ignore", "Picasso will leave out", UnusedRowsWarning)
        path = Path(folder, f"table{SUFFIX[name]}")
        write_localizations(table, path, **OPTIONS[name])
        return read_localizations(path, **arguments)


@settings(deadline=None, max_examples=40)
@given(tables())
def test_parquet_gives_the_very_same_table_back(table):
    again = write_and_read(table, "parquet")
    assert again == table
    assert {name: again[name].dtype for name in again} == {
        name: table[name].dtype for name in table
    }


@settings(deadline=None, max_examples=40)
@given(tables())
def test_picasso_gives_the_table_back(table):
    again = write_and_read(table, "picasso")
    assert again.field_of_view == table.field_of_view
    assert set(again.columns) == {*table.columns, "frame"}
    for name in table:
        np.testing.assert_allclose(again[name], table[name], rtol=1e-6, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(again.x, table.x, rtol=0, atol=1e-9)
    np.testing.assert_allclose(again.y, table.y, rtol=0, atol=1e-9)
    stamped = {"source": "table.hdf5", "format": "picasso", "camera_pixel_size": 100.0}
    expected = {**stamped, "n_frames": again.metadata["n_frames"], **table.metadata}
    assert json.dumps(again.metadata, sort_keys=True) == json.dumps(expected, sort_keys=True)


@settings(deadline=None, max_examples=40)
@given(tables())
def test_thunderstorm_gives_the_rows_back(table):
    again = write_and_read(table, "thunderstorm", field_of_view=table.field_of_view)
    assert again.field_of_view == table.field_of_view
    assert set(again.columns) == {*table.columns, "id"}
    for name in table:
        values = again[name].astype(table[name].dtype)
        np.testing.assert_allclose(values, table[name], rtol=1e-15, err_msg=name)


BLINKS = Localizations(
    {
        "x": [150.0, 990.0],
        "y": [250.0, 480.0],
        "frame": [0, 6],
        "uncertainty_x": [8.0, 9.0],
        "uncertainty_y": [8.0, 9.5],
    },
    field_of_view=(0, 0, 500, 1000),
)


@pytest.mark.parametrize("name", FORMATS)
def test_the_format_is_found_by_content_not_by_name(tmp_path, name):
    path = tmp_path / "table.dat"
    write_localizations(BLINKS, path, format=name, **OPTIONS[name])
    again = read_localizations(path, field_of_view=BLINKS.field_of_view)
    np.testing.assert_allclose(again.x, BLINKS.x)
    np.testing.assert_array_equal(again["frame"], BLINKS["frame"])
    if name != "parquet":
        assert again.metadata["format"] == name


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_can_be_forced(tmp_path, name):
    path = tmp_path / "other"
    path.write_bytes(b"nothing that any reader knows")
    with pytest.raises(FileFormatError, match="other"):
        read_localizations(path, format=name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\x89PNG\r\n\x1a\n", "its beginning is that of no known format"),
        (b"a,b\n1,2\n", r"of no known format \(parquet, .*, thunderstorm\).* columns=\{"),
        (b"\xff\xfe\x00\x00" * 50, "its beginning is that of no known format"),
    ],
)
def test_unknown_content_is_refused(tmp_path, content, message):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=f"table.csv.*{message}"):
        read_localizations(path)


REAL_FILES = {
    "Elyra_dstorm_data.txt": "elyra",
    "Nanoimager_dstorm_data.csv": "nanoimager",
    "SMLM_dstorm_data.smlm": "smlm",
    "Thunderstorm_dstorm_data.csv": "thunderstorm",
    "decode_dstorm_data.h5": "decode",
    "rapidSTORM_dstorm_data.txt": "rapidstorm",
    "raw_movie_locs.hdf5": "picasso",
    "smap_dstorm_data.mat": "smap",
}
HEADERS = {
    "# DECODE EmitterSet\n# {}\n# {}\nx,y,z,phot,frame_ix\n": "decode",
    "Channel Name\tX\tY\tXc\tYc\tHeight\tArea\tWidth\tPhi\tAx\tBG\tI\tFrame\tLength\tLink\tValid"
    "\tZ\tZc\tPhotons\tLateral Localization Accuracy\tXw\tYw\tXwc\tYwc\n": "nstorm",
    "Ground-truth,frame,xnano,ynano,znano,intensity \n": "challenge",
    '"id","frame","x [nm]","y [nm]"\n': "thunderstorm",
}


@pytest.fixture
def recognized_by(is_recognized):
    """Give a function that names the formats that recognize a file, whatever their order is."""
    modules = {
        name: importlib.import_module(f"smlmkit.io.{known.module}")
        for name, known in _FORMATS.items()
    }
    return lambda path: [name for name, module in modules.items() if is_recognized(module, path)]


@pytest.mark.parametrize("name", REAL_FILES)
def test_a_real_file_is_recognized_by_its_own_format_only(real_data, name, recognized_by):
    path = real_data / "formats" / name
    assert find_format(path) == REAL_FILES[name]
    assert recognized_by(path) == [REAL_FILES[name]]


@pytest.mark.parametrize("header", HEADERS, ids=HEADERS.values())
def test_a_header_is_recognized_by_its_own_format_only(tmp_path, header, recognized_by):
    path = tmp_path / "table"
    path.write_text(header)
    assert find_format(path) == HEADERS[header]
    assert recognized_by(path) == [HEADERS[header]]


def test_what_is_no_table_is_recognized_by_none(tmp_path, recognized_by):
    no_known_format = "its beginning is that of no known format"
    contents = {
        "notes.txt": (b"A wet day. x and y drift.", no_known_format),
        "stack.tif": (b"II*\0" + bytes(100), no_known_format),
        "sheet.xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), no_known_format),
        "old.mat": (b"MATLAB 5.0 MAT-file" + bytes(600), "MAT"),
        "sheet.xlsx": (b"PK\x03\x04" + bytes(100), "the .smlm archive is damaged"),
        "broken.h5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "the HDF5 file is damaged"),
        "settings.xml": (b"<?xml version='1.0'?><localizations/>", no_known_format),
    }
    for name, (content, reason) in contents.items():
        path = tmp_path / name
        path.write_bytes(content)
        assert recognized_by(path) == []
        with pytest.raises(FileFormatError, match=f"{name}: .*{reason}") as of_finding:
            find_format(path)
        with pytest.raises(FileFormatError) as of_reading:
            read_localizations(path)
        assert str(of_reading.value) == str(of_finding.value)


def test_looking_into_a_file_imports_what_may_read_it_only(tmp_path):
    write_localizations(BLINKS, tmp_path / "table.csv")
    code = (
        "import sys; from pathlib import Path; from smlmkit.io.tables import find_format\n"
        f"find_format(Path({str(tmp_path / 'table.csv')!r}))\n"
        "print([name for name in ['h5py', 'yaml', 'pyarrow.parquet'] if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.strip() == "[]"


def test_any_text_is_read_by_naming_its_columns(tmp_path):
    path = tmp_path / "own.txt"
    path.write_text("PosX;PosY;t\n0.5;2;7\n1.5;3;8\n")
    columns = {"x": "PosX [um]", "y": "PosY [um]", "frame": "t"}
    for name in (None, "csv"):
        table = read_localizations(path, columns=columns, format=name)
        assert (table.x.tolist(), table["frame"].tolist()) == ([500.0, 1500.0], [7, 8])
    with pytest.raises(InvalidInputError, match="columns= means nothing to the elyra format"):
        read_localizations(path, columns=columns, format="elyra")
    with pytest.raises(InvalidTypeError, match="columns"):
        read_localizations(path, columns=["PosX", "PosY"])


def test_a_folder_lists_tables_and_what_should_be_some(tmp_path):
    write_localizations(BLINKS, tmp_path / "good.csv")
    (tmp_path / "tabs.xls").write_text("x [nm]\ty [nm]\n1\t2\n")
    for name in ("README.txt", "old.mat", "sheet.xls", "empty.txt"):
        (tmp_path / name).write_bytes(b"" if name == "empty.txt" else b"something else")
    (tmp_path / "folder.txt").mkdir()
    for name in ("broken.csv", "broken.smlm", "broken.HDF5"):
        (tmp_path / name).write_bytes(b"\0\1\2")
    assert [path.name for path in list_tables(tmp_path)] == [
        *("broken.HDF5", "broken.csv", "broken.smlm", "good.csv", "tabs.xls")
    ]
    for name in ("broken.HDF5", "broken.csv", "broken.smlm", "good.csv", "tabs.xls"):
        (tmp_path / name).unlink()
    with pytest.raises(InvalidInputError, match=r"no tables of localizations \(\.hdf5, .*\.mat\)"):
        list_tables(tmp_path)


@pytest.mark.parametrize("arguments", [{}, {"format": "thunderstorm"}, {"columns": {"x": "a"}}])
def test_a_missing_file_and_a_folder_are_refused(tmp_path, arguments):
    with pytest.raises(FileFormatError, match=r"absent\.csv: no such file"):
        read_localizations(tmp_path / "absent.csv", **arguments)
    with pytest.raises(FileFormatError, match="cannot be read: Is a directory"):
        read_localizations(tmp_path, **arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"format": "excel"},
        {"pixel_size": 0},
        {"pixel_size": "130 nm"},
        {"field_of_view": (0, 0, 1)},
        {"field_of_view": (0, 5, 5, 5)},
    ],
)
def test_arguments_without_meaning_are_refused(tmp_path, arguments):
    path = tmp_path / "table.parquet"
    write_localizations(BLINKS, path)
    with pytest.raises(InvalidInputError, match=next(iter(arguments))):
        read_localizations(path, **arguments)


def test_what_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match=r"suffix names no format; known are \.hdf5"):
        write_localizations(BLINKS, tmp_path / "table.xlsx")
    with pytest.raises(InvalidInputError, match="format must be one of"):
        write_localizations(BLINKS, tmp_path / "table.csv", format="excel")
    with pytest.raises(InvalidTypeError, match="expected Localizations, got dict"):
        write_localizations({"x": [1.0]}, tmp_path / "table.csv")
    with pytest.raises(InvalidTypeError, match="parquet format takes no option 'pixel_size'"):
        write_localizations(BLINKS, tmp_path / "table.parquet", pixel_size=100)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FORMATS)
def test_an_existing_file_is_kept_unless_asked(tmp_path, name):
    path = tmp_path / f"table{SUFFIX[name]}"
    write_localizations(BLINKS, path, **OPTIONS[name])
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(OutputError, match="exists already"):
        write_localizations(BLINKS, path, **OPTIONS[name])
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    write_localizations(BLINKS.select(slice(1)), path, overwrite=True, **OPTIONS[name])
    assert len(read_localizations(path, field_of_view=(0, 0, 500, 1000))) == 1


@pytest.mark.parametrize("name", FORMATS)
def test_a_column_that_a_format_cannot_hold_is_named(tmp_path, name):
    table = Localizations({**BLINKS.to_frame(), "who": np.array([1j, 2j])})
    with pytest.raises(InvalidInputError, match="column 'who'"):
        write_localizations(table, tmp_path / f"table{SUFFIX[name]}", **OPTIONS[name])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FORMATS)
def test_rows_that_cannot_be_used_are_counted(tmp_path, name):
    path = tmp_path / f"table{SUFFIX[name]}"
    write_localizations(BLINKS, path, **OPTIONS[name])
    with pytest.warns(UnusedRowsWarning, match="1 of 2 rows cannot be used: 1 outside the field"):
        table = read_localizations(path, field_of_view=(0, 0, 300, 300))
    assert table.x.tolist() == [150.0]


def try_to_read(path, **arguments):
    """Give (table, None), or (None, an error that names the file)."""
    try:
        return read_localizations(path, **arguments), None
    except FileFormatError as error:
        message = str(error)
    assert path.name in message or path.with_suffix(".yaml").name in message
    return None, message


@pytest.mark.parametrize("name", FORMATS)
def test_every_truncation_is_an_error_or_a_shorter_table(tmp_path, name):
    path = tmp_path / f"table{SUFFIX[name]}"
    write_localizations(BLINKS, path, **OPTIONS[name])
    whole = path.read_bytes()
    n_errors = 0
    for length in np.unique(np.linspace(0, len(whole) - 1, 120).astype(int)):
        path.write_bytes(whole[:length])
        table, error = try_to_read(path, field_of_view=BLINKS.field_of_view)
        n_errors += error is not None
        assert error or (name == "thunderstorm" and len(table) <= len(BLINKS))
    assert n_errors >= 60


@pytest.mark.parametrize("name", ["picasso", "parquet"])
def test_a_damaged_byte_never_crashes(tmp_path, name):
    path = tmp_path / f"table{SUFFIX[name]}"
    write_localizations(BLINKS, path, **OPTIONS[name])
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for position in random.integers(0, len(whole), 200):
        damaged = bytearray(whole)
        damaged[position] ^= random.integers(1, 256)
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnusedRowsWarning)
            table, error = try_to_read(path)
        assert (table is None) == (error is not None)


FULL_DISK = """
import json, resource, signal, sys
from pathlib import Path
import numpy as np
from smlmkit.errors import OutputError
from smlmkit.io import write_localizations
from smlmkit.localizations import Localizations

folder = Path(sys.argv[1])
values = np.random.default_rng(0).uniform(50, 900, 5000)
table = Localizations({"x": values, "y": values[::-1], "frame": np.arange(5000)})
options = {"hdf5": {"pixel_size": 100, "uncertainty": 9}}
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for suffix in ("hdf5", "csv", "parquet"):
    for name in ("new", "old"):
        try:
            write_localizations(
                table, folder / f"{name}.{suffix}", overwrite=True, **options.get(suffix, {})
            )
        except OutputError as error:
            print(suffix, name, error.errno)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit of file sizes")
def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    for name, suffix in SUFFIX.items():
        write_localizations(BLINKS, tmp_path / f"old{suffix}", **OPTIONS[name])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    too_large = 27
    assert run.stdout.splitlines() == [
        f"{suffix} {name} {too_large}"
        for suffix in ("hdf5", "csv", "parquet")
        for name in ("new", "old")
    ]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_importing_io_stays_light():
    heavy = ["h5py", "zarr", "tifffile", "matplotlib", "torch", "dask", "yaml"]
    code = f"import sys, smlmkit.io; print([name for name in {heavy} if name in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.strip() == "[]"
    assert io.__all__ == [
        "read_image",
        "read_localizations",
        "scan_acquisitions",
        "write_image",
        "write_localizations",
    ]
