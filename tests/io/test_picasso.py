import json
import pickle

import h5py
import numpy as np
import pytest
import yaml

from smlmkit.errors import FileFormatError, InvalidInputError, OutputError, UnusedRowsWarning
from smlmkit.io import picasso
from smlmkit.io.picasso import read, write
from smlmkit.io.tables import read_localizations
from smlmkit.localizations import Localizations

COLUMNS = [("frame", "u4"), ("x", "f4"), ("y", "f4"), ("lpx", "f4"), ("lpy", "f4")]
ROWS = [(0, 0.0, 9.25, 0.1, 0.2), (7, 4.5, 3.0, 0.05, 0.05)]
SIDECAR = "Width: 20\nHeight: 10\nFrames: 9\nPixelsize: 100\n"


@pytest.fixture
def make_file(tmp_path):
    def make(columns=COLUMNS, rows=ROWS, sidecar=SIDECAR, metadata=None, **options):
        path = tmp_path / "locs.hdf5"
        with h5py.File(path, "w") as file:
            file.create_dataset("locs", data=np.array(rows, columns), **options)
            if metadata is not None:
                file["metadata"] = metadata
        if sidecar is not None:
            path.with_suffix(".yaml").write_text(sidecar)
        return path

    return make


def test_positions_become_nm_from_the_corner_of_the_first_pixel(make_file):
    table = read_localizations(make_file())
    assert table.x.tolist() == [50.0, 500.0]  # the centre of pixel 0 is half a pixel from its edge
    assert table.y.tolist() == [975.0, 350.0]
    assert table["frame"].tolist() == [0, 7]
    np.testing.assert_allclose(table["uncertainty_x"], [10.0, 5.0])
    np.testing.assert_allclose(table["uncertainty_y"], [20.0, 5.0])
    assert table.field_of_view == (0, 0, 1000, 2000)
    assert table.metadata == {
        "source": "locs.hdf5",
        "format": "picasso",
        "camera_pixel_size": 100.0,
        "n_frames": 9,
    }


def test_columns_keep_their_meaning_and_unknown_ones_their_numbers(make_file):
    columns = [("x", ">f4"), ("y", ">f8"), ("z", "f4"), ("sx", ">f4"), ("sy", "f4"), ("lpz", "f4")]
    columns += [("bg", ">f4"), ("photons", "f4"), ("group", ">i4"), ("std_x", "f4")]
    table = read_localizations(make_file(columns, [(1, 2, -300, 1.5, 2.5, 40, 3, 900, 12, 0.5)]))
    assert {name: table[name].tolist() for name in table} == {
        "x": [150.0],
        "y": [250.0],
        "z": [-300.0],
        "sigma_x": [150.0],
        "sigma_y": [250.0],
        "uncertainty_z": [40.0],
        "background": [3.0],
        "photons": [900.0],
        "group": [12],
        "std_x": [0.5],
    }
    assert all(table[name].dtype.isnative for name in table)


def test_the_last_document_that_states_a_key_wins(make_file):
    sidecar = f"{SIDECAR}---\nPixelsize: 50\nBox size: 7\n---\nHeight: 12\nNested:\n  Width: 1\n"
    table = read_localizations(make_file(sidecar=sidecar))
    assert table.field_of_view == (0, 0, 600, 1000)
    assert table.x.tolist() == [25.0, 250.0]


def test_embedded_metadata_stand_in_for_the_sidecar(make_file):
    stated = [{"Width": 20, "Height": 10, "Frames": 9, "Pixelsize": 1}, {"Pixelsize": 100}]
    path = make_file(sidecar=None, metadata=json.dumps(stated))
    assert read_localizations(path).field_of_view == (0, 0, 1000, 2000)
    path.with_suffix(".yaml").write_text(SIDECAR.replace("100", "200"))
    assert read_localizations(path).field_of_view == (0, 0, 2000, 4000)


def test_a_file_without_sidecar_can_be_read_with_both_arguments(make_file):
    path = make_file(sidecar=None)
    both = {"pixel_size": 100, "field_of_view": (0, 0, 1000, 2000)}
    for given in ({}, {"pixel_size": 100}, {"field_of_view": both["field_of_view"]}):
        with pytest.raises(FileFormatError, match=r"no locs.yaml .* pixel_size= .* field_of_view="):
            read_localizations(path, **given)
    table = read_localizations(path, **both)
    assert table.x.tolist() == [50.0, 500.0]
    assert table.metadata["camera_pixel_size"] == 100.0


def test_what_the_sidecar_lacks_is_asked_for(make_file):
    path = make_file(sidecar="Width: 20\nHeight: 10\n")
    with pytest.raises(FileFormatError, match=r"locs\.yaml states no Pixelsize: pass pixel_size="):
        read_localizations(path)
    assert read_localizations(path, pixel_size=10).field_of_view == (0, 0, 100, 200)
    path = make_file(sidecar="Pixelsize: 100\nWidth: 20\n")
    with pytest.raises(FileFormatError, match=r"states no Width and Height: pass field_of_view="):
        read_localizations(path)
    assert len(read_localizations(path, field_of_view=(0, 0, 1000, 1000))) == 2


def test_an_argument_goes_before_what_is_stated(make_file):
    table = read_localizations(make_file(), pixel_size=10, field_of_view=(0, 0, 500, 500))
    assert table.x.tolist() == [5.0, 50.0]
    assert table.field_of_view == (0, 0, 500, 500)


@pytest.mark.parametrize("value", ["many", "-5", "0", ".inf", ".nan", "null"])
def test_a_pixel_size_that_is_no_size_is_named(make_file, value):
    with pytest.raises(FileFormatError, match=f"locs.yaml states '{value}' as Pixelsize"):
        read_localizations(make_file(sidecar=SIDECAR.replace("100", value)))


BOMB = "a: &a {k: v}\n" + "".join(
    f"{name}: &{name} {{<<: [{','.join(['*' + last] * 9)}]}}\n"
    for last, name in zip("abcdefghij", "bcdefghijk", strict=True)
)


@pytest.mark.parametrize(
    "extra",
    [
        "harm: !!python/object/apply:os.mkdir [{folder}/harm]\n",
        "? !!python/object/apply:os.mkdir [{folder}/harm]\n: 1\n",
        BOMB,
        f"deep: {'[' * 90}{']' * 90}\n",
        "when: 2024-01-01\nsize: &s 7\nalias: *s\nPixelsize : [1]\n",
        "--- [Pixelsize, 3, Width, 4]\n",
        "--- text\n---\n",
    ],
)
def test_only_plain_values_at_the_top_of_the_sidecar_count(make_file, tmp_path, extra):
    table = read_localizations(
        make_file(sidecar=SIDECAR + extra.replace("{folder}", str(tmp_path)))
    )
    assert table.field_of_view == (0, 0, 1000, 2000)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "sidecar", ["Width: [", "a: b: c", "\x00", "x: *undefined\n\ty", "deep: " + "[" * 500_000]
)
def test_a_sidecar_that_is_no_yaml_is_named(make_file, sidecar):
    with pytest.raises(FileFormatError, match=r"locs\.yaml: not readable as YAML"):
        read_localizations(make_file(sidecar=sidecar))


def test_a_huge_sidecar_is_refused(make_file):
    path = make_file()
    with path.with_suffix(".yaml").open("r+b") as sidecar:
        sidecar.truncate(2**24 + 1)
    with pytest.raises(FileFormatError, match=r"locs\.yaml: larger than 16,777,216 bytes"):
        read_localizations(path)


@pytest.mark.parametrize("metadata", ["[", "7", "[7]", "{}x", "[" * 100_000, [1, 2]])
def test_damaged_embedded_metadata_are_named(make_file, metadata):
    with pytest.raises(FileFormatError, match="/metadata"):
        read_localizations(make_file(sidecar=None, metadata=metadata))


@pytest.mark.parametrize(
    ("columns", "rows", "message"),
    [
        ([("frame", "u4"), ("x", "f4")], [(0, 1)], "columns frame, x.* expected"),
        ([("x", "f4"), ("y", "f4"), ("who", "S3")], [(0, 1, b"me")], "column 'who' .* numbers"),
        ([("x", "f4"), ("y", "f4", (2,))], [(0, (1, 2))], "column 'y' .* numbers"),
        ([("x", "f4"), ("y", "S4")], [(0, b"abc")], "column 'y' .* numbers"),
        (
            [("x", "f4"), ("y", "f4"), ("lpx", "f4"), ("uncertainty_x", "f4")],
            [(0, 1, 2, 3)],
            "column 'uncertainty_x' is the second one that means uncertainty_x",
        ),
        ([("x", "f4"), ("y", "f4"), ("frame", "f4")], [(0, 1, 0.5)], "'frame' must hold whole"),
        ("f4", [1.0, 2.0], "/locs has the columns none"),
    ],
)
def test_a_table_of_another_kind_is_named(make_file, columns, rows, message):
    with pytest.raises(FileFormatError, match=message):
        read_localizations(make_file(columns, rows))


def test_other_hdf5_files_are_told_apart(tmp_path, is_recognized):
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        file["data/xyz"] = np.zeros((3, 3))
    assert not is_recognized(picasso, path)
    with pytest.raises(FileFormatError, match="no dataset /locs: there are data"):
        read(path)
    with h5py.File(path, "w") as file:
        file["locs/x_nm"] = np.zeros(3)
    assert not is_recognized(picasso, path)
    with pytest.raises(FileFormatError, match="/locs is a group of x_nm, expected a table as Pic"):
        read(path)


def test_it_is_recognized_by_its_content(make_file, is_recognized):
    path = make_file()
    content = path.read_bytes()
    assert is_recognized(picasso, path)
    path.write_bytes(content[: len(content) // 2])
    assert not is_recognized(picasso, path)


def _write_pandas_table(path, names):
    """Write what DataFrame.to_hdf(path, key="locs", format="table") does with PyTables."""
    rows = np.zeros(2, [("index", "i8"), ("values_block_0", "f4", (3,)), ("frame", "u4")])
    rows["values_block_0"], rows["frame"] = [[0.0, 9.25, 0.1], [4.5, 3.0, 0.05]], [0, 7]
    with h5py.File(path, "w") as file:
        file["locs/table"] = rows
        file["locs/table"].attrs["values_block_0_kind"] = np.bytes_(names)


def test_tables_that_pandas_wrote_are_read(tmp_path, is_recognized):
    path = tmp_path / "locs.hdf5"
    path.with_suffix(".yaml").write_text(SIDECAR)
    _write_pandas_table(path, pickle.dumps(["x", "y", "lpx"], 0))
    assert is_recognized(picasso, path)
    table = read(path)
    assert table.columns == ("x", "y", "uncertainty_x", "frame")
    assert table.x.tolist() == [50.0, 500.0]
    assert table.y.tolist() == [975.0, 350.0]
    assert table["frame"].tolist() == [0, 7]
    with h5py.File(path, "w") as file:  # format="fixed"
        file["locs/axis0"] = np.array([b"frame", b"x", b"y"])
        file["locs/block0_items"] = np.array([b"frame"])
        file["locs/block0_values"] = np.array([[0], [7]], np.uint32)
        file["locs/block1_items"] = np.array([b"x", b"y"])
        file["locs/block1_values"] = np.array([[0, 9.25], [4.5, 3.0]], np.float32)
    assert is_recognized(picasso, path)
    assert read(path)["frame"].tolist() == [0, 7]
    assert read(path).y.tolist() == [975.0, 350.0]


class _Harm:
    def __reduce__(self):
        return pytest.fail, ("a pickle was run",)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (pickle.dumps([_Harm()], 0), r"damaged: it holds more than texts \(GLOBAL\)"),
        (pickle.dumps(["x", "y"], 0), r"columns x, y are stored in the shape \(2, 3\)"),
        (pickle.dumps({"x": "y"}, 0), r"more than texts \(DICT\)"),
        (pickle.dumps(["x", "y", "frame"], 0), "two columns are named 'frame'"),
        (b"(lp0\nVx", "damaged"),
        (b"", "damaged"),
    ],
)
def test_names_that_pandas_pickled_are_never_unpickled(tmp_path, names, message):
    path = tmp_path / "locs.hdf5"
    path.with_suffix(".yaml").write_text(SIDECAR)
    _write_pandas_table(path, names)
    with pytest.raises(FileFormatError, match=message):
        read(path)


def test_a_molecule_map_has_mean_frames(make_file, tmp_path):
    columns = [("frame", "f4"), ("std_frame", "f4"), ("x", "f4"), ("y", "f4"), ("z", "f4")]
    columns += [("lpx", "f4"), ("lpy", "f4"), ("n_locs", "u4"), ("n_events", "i4")]
    table = read(make_file(columns, [(2.5, 1.5, 0, 1, -120, 0.02, 0.02, 31, 4)]))
    assert table["mean_frame"].tolist() == [2.5]
    assert "frame" not in table
    assert table["z"].tolist() == [-120.0]
    assert table["detections"].tolist() == [31]
    assert table["n_events"].tolist() == [4]
    write(table, tmp_path / "again.hdf5")
    with h5py.File(tmp_path / "again.hdf5") as file:
        assert file["locs"]["frame"].tolist() == [2.5]
        assert file["locs"]["n"].tolist() == [31]
    again = read(tmp_path / "again.hdf5")
    assert again["mean_frame"].tolist() == [2.5]
    assert set(again) == set(table)


def _virtual(file):
    layout = h5py.VirtualLayout(shape=(2,), dtype=COLUMNS)
    layout[:] = h5py.VirtualSource("secret.hdf5", "locs", shape=(2,), dtype=np.dtype(COLUMNS))
    file.create_virtual_dataset("locs", layout)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda file: file.update(locs=h5py.ExternalLink("secret.hdf5", "/locs")), "is a link"),
        (lambda file: file.update(locs=h5py.SoftLink("/elsewhere")), "is a link"),
        (_virtual, "lies in other files"),
        (
            lambda file: file.create_dataset(
                "locs", (2,), COLUMNS, external=[("secret.hdf5", 2048, 40)]
            ),
            "lies in other files",
        ),
    ],
)
def test_nothing_is_read_from_other_files(make_file, tmp_path, make, message):
    path = make_file()
    path.rename(tmp_path / "secret.hdf5")
    with h5py.File(path, "w") as file:
        make(file)
    with pytest.raises(FileFormatError, match=f"/locs {message}"):
        read_localizations(path)


@pytest.mark.parametrize("options", [{"chunks": (1024,)}, {"chunks": (1024,), "compression": 4}])
def test_a_claim_of_more_rows_than_the_file_holds_is_refused(tmp_path, options):
    path = tmp_path / "locs.hdf5"
    with h5py.File(path, "w") as file:
        file.create_dataset("locs", (10**12,), np.dtype(COLUMNS), **options)
        file["locs"][:2] = np.array(ROWS, COLUMNS)
    with pytest.raises(FileFormatError, match=r"/locs claims 20,000,000,000,000 bytes"):
        read(path, pixel_size=100)


@pytest.mark.parametrize("options", [{}, {"chunks": (1000,)}, {"chunks": (999,), "shuffle": True}])
@pytest.mark.parametrize("userblock_size", [0, 1024])
def test_rows_are_the_same_however_they_are_stored(tmp_path, options, userblock_size):
    n_rows = 50_001
    kind = np.dtype(
        {
            "names": ["frame", "x", "y", "lpx", "lpy", "valid"],
            "formats": ["u4", ">f4", "f8", "f4", "<f4", "?"],
            "offsets": [0, 5, 16, 24, 28, 33],
            "itemsize": 40,
        }
    )
    rows = np.zeros(n_rows, kind)
    random = np.random.default_rng(0)
    for name in kind.names:
        rows[name] = random.integers(0, 2 if name == "valid" else 1000, n_rows)
    path = tmp_path / "locs.hdf5"
    with h5py.File(path, "w", userblock_size=userblock_size) as file:
        file.create_dataset("locs", data=rows, **options)
    table = read(path, pixel_size=100, field_of_view=(0, 0, 1e6, 1e6))
    for name, own, factor in [("uncertainty_x", "lpx", 100), ("frame", "frame", 1)]:
        np.testing.assert_array_equal(table[name], rows[own] * factor)
    for name in "xy":
        np.testing.assert_array_equal(table[name], (rows[name].astype(np.float64) + 0.5) * 100)
    np.testing.assert_array_equal(table["valid"], rows["valid"])


def test_a_file_that_ends_within_its_rows_is_refused(make_file):
    path = make_file(rows=ROWS * 10_000)
    with h5py.File(path) as file:
        layout = [file["locs"].id.get_offset(), file["locs"].nbytes]
    content = bytearray(path.read_bytes())
    address = content.index(b"".join(number.to_bytes(8, "little") for number in layout))
    content[address : address + 8] = (len(content) - 100).to_bytes(8, "little")
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"damaged|ends before its row"):
        read(path)


def test_columns_of_an_impossible_layout_are_refused(make_file):
    """HDF5 would convert such numbers, and write past its memory if they are damaged."""
    path = make_file()
    content = bytearray(path.read_bytes())
    bit_offset = content.index(b"lpy\0\0\0\0\0") + 8 + 32 + 8  # of the member's float type
    assert content[bit_offset : bit_offset + 4] == b"\x00\x00\x20\x00"
    content[bit_offset + 2] = 24
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="/locs is not laid out as numbers are"):
        read_localizations(path)


def test_a_compression_that_is_not_installed_is_named(make_file):
    path = make_file(chunks=True, compression="gzip")
    content = bytearray(path.read_bytes())
    place = content.index(b"deflate") - 8
    assert content[place : place + 2] == b"\1\0"
    content[place : place + 2] = (32766).to_bytes(2, "little")
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"'deflate' \(HDF5 filter 32766\)"):
        read(path)


def test_compressed_and_empty_tables_are_read(make_file):
    rows = [(0, 3.0, 3.0, 0.1, 0.1)] * 50_000
    assert len(read_localizations(make_file(rows=rows, chunks=True, compression=9))) == 50_000
    assert len(read_localizations(make_file(rows=[]))) == 0


def test_rows_without_a_place_are_counted(make_file):
    rows = [*ROWS, (1, np.nan, 1, 1, 1), (2, 1, np.inf, 1, 1), (3, -3, 1, 1, 1), (4, 19.5, 1, 1, 1)]
    with pytest.warns(UnusedRowsWarning, match="4 of 6 rows .*: 2 with .*, 2 outside"):
        table = read_localizations(make_file(rows=rows))
    assert table["frame"].tolist() == [0, 7]


def test_the_real_file_agrees_with_the_truth_it_was_simulated_from(real_data):
    """Its YAML holds the binding sites, in pixels from a corner, with y upside down."""
    path = real_data / "formats" / "raw_movie_locs.hdf5"
    table = read_localizations(path)
    assert len(table) == 2399
    assert table.field_of_view == (0, 0, 4160, 4160)
    assert table.metadata["camera_pixel_size"] == 130
    assert table.metadata["n_frames"] == 5000
    # the first row: frame 2, x 25.577694, y 23.390852, lpx 0.02435654, all in float32
    assert table["frame"][0] == 2
    np.testing.assert_allclose(table.x[0], 26.077694 * 130, rtol=1e-6)
    np.testing.assert_allclose(table.y[0], 23.890852 * 130, rtol=1e-6)
    np.testing.assert_allclose(table["uncertainty_x"][0], 3.1663502, rtol=1e-6)

    simulated = next(iter(yaml.safe_load_all(path.with_suffix(".yaml").read_text())))
    sites_x, sites_y = (
        np.array(simulated[f"Structure.Handle{axis}"].split(","), float) * 130 for axis in "XY"
    )
    offsets_x = table.x[:, np.newaxis] - sites_x
    offsets_y = table.y[:, np.newaxis] - (4160 - sites_y)
    nearest = np.argmin(np.hypot(offsets_x, offsets_y), axis=1)
    rows = np.arange(len(table))
    assert abs(np.median(offsets_x[rows, nearest])) < 0.5
    assert abs(np.median(offsets_y[rows, nearest])) < 0.5


BLINKS = Localizations(
    {"x": [150.0, 990.0], "y": [250.0, 480.0], "frame": [3, 6], "uncertainty_x": [8.0, 9.0]},
    field_of_view=(0, 0, 500, 1000),
    metadata={"label": "Alexa 647", "camera_pixel_size": 100},
)


def test_picasso_finds_what_it_needs(tmp_path):
    path = tmp_path / "locs.hdf5"
    write(BLINKS, path, uncertainty=20)
    with h5py.File(path) as file:
        records = file["locs"][()]
        embedded = json.loads(file["metadata"][()])
    assert {name: records[name].tolist() for name in records.dtype.names} == {
        "frame": [3, 6],
        "x": [1.0, 9.4],
        "y": [2.0, 4.3],
        "lpx": [0.08, 0.09],
        "lpy": [0.2, 0.2],
    }
    assert records.dtype["frame"] == np.uint32
    (stated,) = yaml.safe_load_all(path.with_suffix(".yaml").read_text())
    assert embedded == [stated]
    picked = {key: stated[key] for key in ("Width", "Height", "Frames", "Pixelsize")}
    assert picked == {"Width": 10, "Height": 5, "Frames": 7, "Pixelsize": 100.0}


def test_a_field_below_zero_is_shifted_and_comes_back(tmp_path):
    path = tmp_path / "locs.hdf5"
    table = Localizations(
        {"x": [-350.0], "y": [250.0]}, field_of_view=(200, -400, 300, 50), metadata={"a": 1}
    )
    write(table, path, pixel_size=100, uncertainty=20)
    with h5py.File(path) as file:
        assert file["locs"]["x"].tolist() == [0.0]
        assert file["locs"]["y"].tolist() == [2.0]  # a crop still lies where its whole lies
    again = read_localizations(path)
    assert (again.x[0], again.y[0]) == (-350.0, 250.0)
    assert again.field_of_view == table.field_of_view
    assert again.metadata["a"] == 1
    assert read_localizations(path, pixel_size=10).field_of_view == (0, 0, 30, 50)


def test_a_file_is_complete_without_its_sidecar(tmp_path):
    path = tmp_path / "locs.hdf5"
    write(BLINKS, path, uncertainty=20)
    whole = read_localizations(path)
    path.with_suffix(".yaml").unlink()
    assert read_localizations(path) == whole


@pytest.mark.parametrize(
    "note", ["{", "7", '{"origin": [0, 0]}', '{"origin": [NaN, 0], "field_of_view": [0, 0, 1, 1]}']
)
def test_a_damaged_note_of_smlmkit_is_named(make_file, note):
    with pytest.raises(FileFormatError, match=r"locs\.yaml states under smlmkit is damaged"):
        read_localizations(make_file(sidecar=f"{SIDECAR}smlmkit: '{note}'\n"))


def test_rows_that_picasso_will_leave_out_are_counted(tmp_path):
    table = Localizations(
        {"x": [10.0, 150.0, 150.0], "y": [250.0] * 3, "photons": [9.0, 9.0, np.nan]},
        field_of_view=(0, 0, 500, 1000),
    )
    with pytest.warns(UnusedRowsWarning, match="Picasso will leave out 2 of 3 rows"):
        write(table, tmp_path / "locs.hdf5", pixel_size=100, uncertainty=5)
    assert len(read_localizations(tmp_path / "locs.hdf5")) == 3


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({}, {"uncertainty": 5}, "hold no 'camera_pixel_size': pass pixel_size="),
        ({}, {"pixel_size": 100}, "needs 'uncertainty_x', which .* pass uncertainty="),
        ({}, {"pixel_size": -1, "uncertainty": 5}, "pixel_size must be a positive number"),
        ({}, {"pixel_size": 100, "uncertainty": np.nan}, "uncertainty must be a positive number"),
        ({"frame": [-1]}, {"pixel_size": 100, "uncertainty": 5}, "frames are whole numbers from 0"),
        ({"lpx": [1]}, {"pixel_size": 100, "uncertainty": 5}, "column 'lpx': a Picasso file"),
        ({"a\n": [1]}, {"pixel_size": 100, "uncertainty": 5}, r"column 'a\\n': a Picasso file"),
        ({"": [1]}, {"pixel_size": 100, "uncertainty": 5}, "column '': a Picasso file"),
        ({"who": ["me"]}, {"pixel_size": 100, "uncertainty": 5}, "column 'who' .* real numbers"),
    ],
)
def test_a_table_that_picasso_cannot_hold_is_refused(tmp_path, columns, options, message):
    table = Localizations({"x": [150.0], "y": [250.0], **columns})
    with pytest.raises(InvalidInputError, match=message):
        write(table, tmp_path / "locs.hdf5", **options)
    assert list(tmp_path.iterdir()) == []


def test_names_in_any_script_survive(tmp_path):
    table = Localizations({"x": [150.0], "y": [250.0], "größe": [1.5]})
    write(table, tmp_path / "locs.hdf5", pixel_size=100, uncertainty=5)
    assert read_localizations(tmp_path / "locs.hdf5")["größe"].tolist() == [1.5]


def test_the_sidecar_of_another_file_is_not_replaced(tmp_path):
    (tmp_path / "locs.yaml").write_text("precious")
    with pytest.raises(OutputError, match=r"locs\.yaml exists already"):
        write(BLINKS, tmp_path / "locs.hdf5", uncertainty=20)
    with pytest.raises(InvalidInputError, match=r"\.yaml is the suffix of the file beside"):
        write(BLINKS, tmp_path / "locs.yaml", uncertainty=20, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["locs.yaml"]
