import struct

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smlmkit.errors import FileFormatError, InvalidInputError, OutputError, UnusedRowsWarning
from smlmkit.io import decode, picasso, smappy
from smlmkit.io.decode import read, write
from smlmkit.localizations import Localizations

CSV = """# DECODE EmitterSet
# {"version": "v0.10.0"}
# {"xy_unit": "px", "px_size": [100.0, 110.0]}
x,y,z,phot,frame_ix,id,prob,bg,xyz_cr_is_not_a_column,x_cr,x_sig,y_sig,z_sig
1.5,2.0,-300.0,900.0,7,-1,0.5,12.0,1,0.04,0.1,0.2,30.0
0.0,0.0,300.0,800.0,9,-1,0.9,13.0,2,,0.1,0.2,31.0
"""


@pytest.fixture
def make_file(tmp_path):
    def make(unit="px", px_size=(100.0, 110.0), **data):
        path = tmp_path / "emitters.h5"
        xyz = np.array([[0.0, 2.0, -300.0], [1.5, 0.0, 300.0]], np.float32)
        columns = {"xyz": xyz, "frame_ix": np.array([0, 7]), "xyz_sig": h5py.Empty("f")} | data
        with h5py.File(path, "w") as file:
            for name, values in columns.items():
                file[f"data/{name}"] = values
            meta = file.create_group("meta")
            if unit is not None:
                meta.attrs["xy_unit"] = unit
            if px_size is not None:
                meta.attrs["px_size"] = np.asarray(px_size)
        return path

    return make


def test_positions_count_from_the_corner_of_the_first_pixel(make_file):
    bounds = np.array([[0.01, 0.04, 9.0], [0.04, 0.01, 16.0]], np.float32)
    table = read(make_file(phot=[900.0, 800.0], xyz_cr=bounds, xyz_sig=bounds))
    assert table.x.tolist() == [50.0, 200.0]
    assert table.y.tolist() == [275.0, 55.0]
    assert table["z"].tolist() == [-300.0, 300.0]
    assert table["frame"].tolist() == [0, 7]
    assert table["photons"].tolist() == [900.0, 800.0]
    np.testing.assert_allclose(table["uncertainty_x"], [1.0, 4.0], rtol=1e-6)
    np.testing.assert_allclose(table["uncertainty_y"], [4.4, 1.1], rtol=1e-6)
    assert table["uncertainty_z"].tolist() == [9.0, 16.0]
    np.testing.assert_allclose(table["x_cr"], [100.0, 400.0], rtol=1e-6)  # variances
    np.testing.assert_allclose(table["y_cr"], [484.0, 121.0], rtol=1e-6)
    assert table["z_cr"].tolist() == [9.0, 16.0]
    assert table.metadata == {
        "source": "emitters.h5",
        "format": "decode",
        "camera_pixel_size_x": 100.0,
        "camera_pixel_size_y": 110.0,
    }


def test_nm_are_only_shifted(make_file):
    table = read(make_file("nm", xyz_sig=np.ones((2, 3))))
    assert table.x.tolist() == [50.0, 51.5]
    assert table.y.tolist() == [57.0, 55.0]
    assert table["uncertainty_y"].tolist() == [1.0, 1.0]


def test_columns_without_values_are_left_out(make_file):
    flat = np.array([[0.0, 2.0, 0.0], [1.5, 0.0, 0.0]])
    table = read(make_file(xyz=flat, bg=[np.nan, np.nan], prob=[np.nan, 0.5]))
    assert table.columns == ("frame", "prob", "x", "y")


def test_the_real_file_is_where_its_bytes_say(real_data, is_recognized):
    path = real_data / "formats" / "decode_dstorm_data.h5"
    content = path.read_bytes()
    assert is_recognized(decode, path)
    with h5py.File(path) as file:
        place = file["data/xyz"].id.get_offset()
    x, y, z = struct.unpack_from("<3f", content, place)  # -0.149, 138.895 px; 111.926 nm
    table = read(path)
    assert len(table) == 96
    # pixels of 127 nm along x and 117 nm along y, counted from a pixel's centre
    np.testing.assert_allclose(table.x[0], (x + 0.5) * 127, rtol=1e-12)
    np.testing.assert_allclose(table.x[0], 44.5505, rtol=1e-5)
    np.testing.assert_allclose(table.y[0], (y + 0.5) * 117, rtol=1e-12)
    np.testing.assert_allclose(table.y[0], 16309.185, rtol=1e-7)
    np.testing.assert_allclose(table["z"][0], z)
    assert table["frame"][0] == 294
    np.testing.assert_allclose(table["uncertainty_x"][0], 0.22134583 * 127, rtol=1e-6)


def test_csv_says_the_same(tmp_path, is_recognized):
    path = tmp_path / "emitters.csv"
    path.write_text(CSV)
    assert is_recognized(decode, path)
    table = read(path)
    assert table.x.tolist() == [200.0, 50.0]
    assert table.y.tolist() == [275.0, 55.0]
    assert table["frame"].tolist() == [7, 9]
    assert table["id"].dtype == np.int64
    np.testing.assert_allclose(table["uncertainty_y"], [22.0, 22.0])
    np.testing.assert_array_equal(table["x_cr"], [400.0, np.nan])
    path.write_bytes(b"\xef\xbb\xbf" + CSV.replace("\n", "\r\n").encode())
    assert is_recognized(decode, path)
    assert read(path).x.tolist() == [200.0, 50.0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("900.0", "many", "line 5, column 'phot': 'many' is not a number"),
        ("900.0,", "", "line 5 has 12 cells, expected 13"),
        ('{"xy_unit"', '["xy_unit"', "line 3 is not readable as JSON"),
        ('"px"', '"um"', "states 'um' as xy_unit, expected px or nm"),
        ('"px"', f'"{"p" * 999}"', "states 'p{49} as xy_unit"),
        ('"xy_unit": "px", ', "", "states None as xy_unit"),
        (', "px_size": [100.0, 110.0]', "", "does not state the camera pixel size: pass pixel_siz"),
        ("[100.0, 110.0]", "[100.0]", r"states \[100.0\] as px_size, expected 2 numbers"),
        ("[100.0, 110.0]", "7", "states 7 as px_size"),
        ("[100.0, 110.0]", "[1, 1e999]", "as px_size, expected 2 numbers"),
        ("[100.0, 110.0]", "[-1, 1]", "as px_size, no sizes of a camera pixel: pass pixel_size="),
        ("[100.0, 110.0]", '"12"', "states 12 as px_size, expected 2 numbers"),
        ("[100.0, 110.0]", '{"1": 0, "2": 0}', "as px_size, expected 2 numbers"),
        ("[100.0, 110.0]", "[true, true]", r"states \[True, True\] as px_size, expected 2"),
        ("x,y,z", "x,z,q", "line 4 names x, z, q"),
        ("x,y,z", "x,y,y", "two columns are named 'y'"),
        (CSV[40:], "", "expected 3 of comments and a header"),
        ("7,-1", "7.5,-1", "'frame' must hold whole numbers"),
    ],
)
def test_what_is_wrong_in_a_csv_is_named(tmp_path, old, new, message):
    path = tmp_path / "emitters.csv"
    path.write_text(CSV.replace(old, new, 1))
    with pytest.raises(FileFormatError, match=message):
        read(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit": "um"}, "states 'um' as xy_unit"),
        ({"unit": None}, "states None as xy_unit"),
        ({"px_size": None}, "does not state the camera pixel size"),
        ({"px_size": (0.0, 1.0)}, "as px_size, no sizes of a camera pixel"),
        ({"px_size": (1.0, 1.0, 1.0)}, "as px_size, expected 2 numbers"),
        ({"xyz": np.zeros((2, 2))}, r"/data/xyz has the shape \(2, 2\)"),
        ({"xyz": h5py.Empty("f")}, "column 'x' holds no numbers"),
        ({"phot": np.zeros((2, 1))}, r"/data/phot has the shape \(2, 1\)"),
        ({"phot": np.array([b"a", b"b"])}, "/data/phot holds .*, expected numbers"),
        ({"xyz": np.zeros((2, 3), "f4,f4")}, "/data/xyz holds records, expected numbers"),
        ({"phot": [1.0]}, "'photons' has 1 rows, 'x' has 2"),
        ({"photons": [1.0, 2.0], "phot": [1.0, 2.0]}, "is the second one that means photons"),
        ({"x": [1.0, 2.0]}, "two columns are named 'x'"),
        ({"more": h5py.SoftLink("/data/xyz")}, "/data/more is a link"),
    ],
)
def test_what_is_wrong_in_hdf5_is_named(make_file, options, message):
    with pytest.raises(FileFormatError, match=message):
        read(make_file(**options))


def test_numbers_of_any_size_are_reckoned_with_in_silence(make_file):
    """Nothing is finite of what becomes more than 1e308 nm, and a signalling NaN is no number."""
    xyz = np.array([[1e308, 1, 1], [2, 2, 2]])
    signalling = np.array([0x7F800001, 0x3F800000], np.uint32).view(np.float32)
    with pytest.warns(UnusedRowsWarning):
        table = read(make_file(xyz=xyz, xyz_cr=np.full((2, 3), 1e308), phot=signalling))
    assert table.x.tolist() == [250]
    assert table["x_cr"].tolist() == [np.inf]


def test_it_is_told_from_other_formats(make_file, tmp_path, is_recognized):
    path = make_file()
    assert is_recognized(decode, path)
    assert not is_recognized(picasso, path)
    assert not is_recognized(smappy, path)
    with h5py.File(path, "r+") as file:
        file[decode._OWN_GROUP] = 3.0
    with pytest.raises(FileFormatError, match="/smlmkit is a dataset, expected a group"):
        read(path)
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros(3)
    assert not is_recognized(decode, path)
    with pytest.raises(FileFormatError, match="no group /data of emitters"):
        read(path)


def test_a_file_that_is_cut_off_anywhere_is_refused(make_file):
    path = make_file()
    content = path.read_bytes()
    for size in [*range(0, len(content), 397), len(content) - 1]:
        path.write_bytes(content[:size])
        with pytest.raises(FileFormatError, match=r"emitters\.h5: the HDF5 file is damaged"):
            read(path)


def test_decode_finds_what_it_needs(tmp_path):
    path = tmp_path / "emitters.h5"
    table = Localizations(
        {"x": [150.0], "y": [250.0], "uncertainty_x": [8.0], "mood": [3]},
        metadata={"camera_pixel_size": 100},
    )
    write(table, path)
    with h5py.File(path) as file:
        data = {name: dataset[()] for name, dataset in file["data"].items()}
        assert file["meta"].attrs["xy_unit"] == "px"
        assert file["meta"].attrs["px_size"].tolist() == [100.0, 100.0]
        assert set(file["meta"].attrs) == {"xy_unit", "px_size"}  # more is no EmitterSet to DECODE
        assert "version" in file["decode"].attrs
    assert set(data) == {
        *("xyz", "xyz_sig", "xyz_cr", "phot", "phot_sig", "phot_cr", "bg", "bg_sig", "bg_cr"),
        *("prob", "frame_ix", "id"),
    }
    assert data["xyz"].tolist() == [[1.0, 2.0, 0.0]]
    assert data["xyz"].dtype == np.float32
    np.testing.assert_allclose(data["xyz_sig"], [[0.08, np.nan, np.nan]], rtol=1e-6)
    assert data["xyz_cr"] == h5py.Empty("f")
    assert data["frame_ix"].tolist() == [0]
    assert data["id"].tolist() == [-1]
    assert data["prob"].tolist() == [1.0]
    assert np.isnan(data["phot"]).all()
    assert read(path)["mood"].tolist() == [3]


LENGTH = st.floats(-1e5, 1e5, width=32)


@settings(max_examples=20, deadline=None)
@given(
    rows=st.lists(st.tuples(LENGTH, LENGTH, LENGTH, st.integers(0, 2**40)), max_size=5),
    size=st.floats(1, 1000),
)
def test_tables_come_back(tmp_path_factory, rows, size):
    numbers = np.array(rows, float).reshape(-1, 4)
    columns = dict(zip(["x", "y", "z", "frame"], numbers.T, strict=True))
    box = (-2e5, -2e5, 2e5, 2e5)
    table = Localizations(columns | {"own": np.arange(len(rows))}, field_of_view=box)
    path = tmp_path_factory.mktemp("decode") / "emitters.h5"
    write(table, path, pixel_size=size)
    again = read(path, field_of_view=box)
    assert len(again) == len(table)
    for name in table.columns:
        if name == "z" and not np.any(table["z"]):
            continue  # of two dimensions, to DECODE
        exact = name in ("frame", "own")
        np.testing.assert_allclose(
            again[name], table[name], rtol=0 if exact else 1e-6, atol=0 if exact else size * 1e-6
        )


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({}, {}, "hold no 'camera_pixel_size': pass pixel_size="),
        ({}, {"pixel_size": 0}, "pixel_size must be a positive number"),
        ({"phot": [1.0]}, {"pixel_size": 100}, "column 'phot': a DECODE file would"),
        ({"a/b": [1.0]}, {"pixel_size": 100}, "column 'a/b': a DECODE file would"),
        ({"": [1.0]}, {"pixel_size": 100}, "column '': a DECODE file would"),
        ({"who": ["me"]}, {"pixel_size": 100}, "column 'who' .* real numbers"),
    ],
)
def test_a_table_that_decode_cannot_hold_is_refused(tmp_path, columns, options, message):
    table = Localizations({"x": [150.0], "y": [250.0], **columns})
    with pytest.raises(InvalidInputError, match=message):
        write(table, tmp_path / "emitters.h5", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_only_when_asked(tmp_path):
    table = Localizations({"x": [150.0], "y": [250.0]})
    write(table, tmp_path / "emitters.h5", pixel_size=100)
    with pytest.raises(OutputError, match="exists already"):
        write(table, tmp_path / "emitters.h5", pixel_size=100)
    write(table, tmp_path / "emitters.h5", pixel_size=100, overwrite=True)
