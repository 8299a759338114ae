import contextlib
import struct
import warnings
import zlib

import h5py
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from smlmkit.errors import FileFormatError, UnusedRowsWarning
from smlmkit.io import _common, smap

LOC = {
    "xnm": np.array([150.0, 990.0], "f4"),
    "ynm": np.array([250.0, 480.0]),
    "frame": np.array([1.0, 7.0]),
    "phot": np.array([900.0, 800.0], "f4"),
    "bg": np.array([3.0, 4.0]),
    "locprecnm": np.array([8.0, 9.0]),
    "PSFxnm": np.array([130.0, 140.0]),
    "channel": np.array([0, 2], "u1"),
    "LLrel": np.array([-1.5, -2.5], "f4"),
}
INFO = {"cam_pixelsize_um": [0.1, 0.1], "roi": [0.0, 0.0, 10.0, 5.0], "numberOfFrames": 9.0}


def write_mat5(path, loc, info, **options):
    file = {} if info is None else {"file": {"info": info, "name": "movie.tif"}}
    savemat(path, {"other": np.eye(3), "saveloc": {"loc": loc, **file}}, **options)


def write_mat73(path, loc, info):
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in loc.items():
            file[f"saveloc/loc/{name}"] = np.atleast_2d(values)
        for name, values in (info or {}).items():
            file[f"saveloc/file/info/{name}"] = np.atleast_2d(values).T
    with path.open("r+b") as handle:
        handle.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


WRITERS = {
    "plain": write_mat5,
    "compressed": lambda *content: write_mat5(*content, do_compression=True),
    "hdf5": write_mat73,
}


@pytest.fixture(params=WRITERS)
def make_file(request, tmp_path):
    def make(loc=LOC, info=INFO):
        path = tmp_path / "blinks_sml.mat"
        WRITERS[request.param](path, loc, info)
        return path

    return make


def recognizes(path):
    with path.open("rb") as handle:
        return smap.recognizes(handle, handle.read(65536))


def test_fields_become_columns_from_the_corner_of_the_first_pixel(make_file):
    path = make_file()
    assert recognizes(path)
    table = smap.read(path)
    assert {name: table[name].tolist() for name in table} == {
        "x": [100.0, 940.0],  # the centre of pixel 1 is half a pixel from its edge
        "y": [200.0, 430.0],
        "frame": [0, 6],
        "photons": [900.0, 800.0],
        "background": [3.0, 4.0],
        "sigma_x": [130.0, 140.0],
        "sigma_y": [130.0, 140.0],
        "uncertainty_x": [8.0, 9.0],
        "uncertainty_y": [8.0, 9.0],
        "channel": [0, 2],
        "LLrel": [-1.5, -2.5],
    }
    assert table["channel"].dtype == np.int64
    assert table.field_of_view == (0, 0, 500, 1000)
    assert table.metadata == {
        "source": "blinks_sml.mat",
        "format": "smap",
        "camera_pixel_size": 100.0,
        "n_frames": 9,
    }


def test_the_real_file_agrees_with_its_bytes(real_data):
    """The first row as h5dump prints it: xnm 1459.3857, ynm 11584.353, znm 509.80817, frame 1."""
    path = real_data / "formats" / "smap_dstorm_data.mat"
    assert recognizes(path)
    with pytest.warns(UnusedRowsWarning, match="2 of 4,884 rows .*: 2 outside"):
        table = smap.read(path)
    assert table.field_of_view == (0, 0, 256 * 104, 256 * 104)
    assert table.x[0] == pytest.approx(1459.3857 - 52, rel=1e-7)
    assert table.y[0] == pytest.approx(11584.353 - 52, rel=1e-7)
    first = {name: table[name][0] for name in table}
    assert first["z"] == pytest.approx(509.80817, rel=1e-7)
    assert (first["frame"], first["channel"], first["filenumber"]) == (0, 0, 1)
    assert first["photons"] == pytest.approx(1077.7972, rel=1e-7)
    assert first["background"] == pytest.approx(22.404356, rel=1e-7)
    assert first["uncertainty_x"] == pytest.approx(27.280209, rel=1e-7)
    assert first["uncertainty_y"] == pytest.approx(48.649525, rel=1e-7)
    assert first["uncertainty_z"] == pytest.approx(107.57328, rel=1e-7)
    assert first["sigma_x"] == first["sigma_y"] == 104
    assert table["frame"].max() == 1000
    assert table.metadata["n_frames"] == 1001  # one more than its numberOfFrames


def test_the_real_file_reads_the_same_from_older_matlab(real_data, tmp_path):
    path = real_data / "formats" / "smap_dstorm_data.mat"
    with h5py.File(path) as file:
        loc = {name: values[0] for name, values in file["saveloc/loc"].items()}
        info = {name: file[f"saveloc/file/info/{name}"][:, 0] for name in INFO}
    older = tmp_path / path.name
    write_mat5(older, loc, info, do_compression=True)
    with pytest.warns(UnusedRowsWarning):
        assert smap.read(older) == smap.read(path)


@pytest.mark.parametrize(("stated", "n_frames"), [(3, 7), (7, 7), (8, 8)])
def test_there_are_as_many_frames_as_the_last_one_shows(make_file, stated, n_frames):
    table = smap.read(make_file(info=INFO | {"numberOfFrames": float(stated)}))
    assert table["frame"].max() == 6
    assert table.metadata["n_frames"] == n_frames


def test_without_frames_there_are_as_many_as_are_stated(make_file):
    table = smap.read(make_file({name: LOC[name] for name in ("xnm", "ynm")}))
    assert table.metadata["n_frames"] == 9


def test_errors_of_each_axis_go_before_what_holds_for_both(make_file):
    loc = LOC | {"xnmerr": [1.0, 2.0], "ynmerr": [3.0, 4.0], "PSFynm": [150.0, 160.0]}
    loc |= {"znm": [-300.0, 5.0], "zerr": [50.0, 60.0], "locprecznm": [51.0, 61.0]}
    table = smap.read(make_file(loc))
    assert table["uncertainty_x"].tolist() == [1, 2]
    assert table["uncertainty_y"].tolist() == [3, 4]
    assert table["uncertainty_z"].tolist() == [51, 61]
    assert table["locprecnm"].tolist() == [8, 9]
    assert table["zerr"].tolist() == [50, 60]
    assert table["sigma_y"].tolist() == [150, 160]
    assert table["z"].tolist() == [-300, 5]


def test_z_of_the_stage_becomes_nm_of_the_focus(make_file):
    assert smap.read(make_file(LOC | {"z": [0.5, -1.0]}))["z"].tolist() == [400.0, -800.0]


def test_a_region_of_the_camera_and_oblong_pixels(make_file):
    table = smap.read(make_file(info=INFO | {"cam_pixelsize_um": [0.1, 0.12], "roi": [1, 1, 9, 7]}))
    assert table.x.tolist() == [100.0, 940.0]
    assert table.y.tolist() == [190.0, 420.0]
    assert table.field_of_view == pytest.approx((120, 100, 960, 1000))
    assert table.metadata["camera_pixel_size_y"] == 120
    assert table.metadata["camera_pixel_size_x"] == 100


def test_arguments_go_before_what_is_stated(make_file):
    table = smap.read(make_file(), pixel_size=50, field_of_view=(0, 0, 700, 1200))
    assert table.x.tolist() == [125.0, 965.0]
    assert table.field_of_view == (0, 0, 700, 1200)
    assert table.metadata["camera_pixel_size"] == 50
    assert smap.read(make_file(), pixel_size=200).field_of_view == (0, 0, 1000, 2000)


@pytest.mark.parametrize("info", [None, {"roi": [0.0, 0.0, 10.0, 5.0]}])
def test_a_pixel_size_that_nobody_states_is_asked_for(make_file, info):
    path = make_file(info=info)
    with pytest.raises(FileFormatError, match=r"states no cam_pixelsize_um: pass pixel_size="):
        smap.read(path)
    assert smap.read(path, pixel_size=100).x.tolist() == [100.0, 940.0]


@pytest.mark.parametrize("size", [0.0, -0.1, np.nan, np.inf, 1e308, [0.1, 0.1, 0.1], []])
def test_a_pixel_size_that_is_no_size_is_named(make_file, size):
    with pytest.raises(
        FileFormatError, match=r"as cam_pixelsize_um, (expected 1 or 2|no sizes of a)"
    ):
        smap.read(make_file(info=INFO | {"cam_pixelsize_um": size}))


@pytest.mark.parametrize("roi", [[], [0.0, 0, 0, 5], [0, 0, np.nan, 5], [0, 0, 10], [1e308] * 4])
def test_a_region_that_is_none_does_not_count(make_file, roi):
    table = smap.read(make_file(info=INFO | {"roi": roi}))
    assert table.field_of_view == (200, 100, 431, 941)


def test_complex_numbers_are_missing_values(make_file):
    loc = LOC | {"locprecnm": np.array([8, 9j]), "phot": np.array([5 + 0j, 6], "c8")}
    path = make_file(loc)
    if h5py.is_hdf5(path):  # as MATLAB writes it
        numbers = np.array([[(8, 0), (0, 9)]], [("real", "f8"), ("imag", "f8")])
        with h5py.File(path, "r+") as file:
            del file["saveloc/loc/locprecnm"], file["saveloc/loc/phot"]
            file["saveloc/loc/locprecnm"] = numbers
            file["saveloc/loc/phot"] = np.array([[5.0, 6.0]])
    table = smap.read(path)
    np.testing.assert_array_equal(table["uncertainty_x"], [8, np.nan])
    assert table["photons"].tolist() == [5, 6]


def test_what_is_empty_or_holds_no_numbers_is_left_out(tmp_path):
    older, newer = tmp_path / "older.mat", tmp_path / "newer.mat"
    write_mat5(older, LOC | {"none": np.empty((0, 0)), "text": "ab", "part": {"of": 1}}, INFO)
    write_mat73(newer, LOC, INFO)
    with h5py.File(newer, "r+") as file:
        file["saveloc/loc/none"] = np.zeros(2, np.uint64)  # its shape, as MATLAB writes it
        file["saveloc/loc/part/of"] = 1
        text = file.create_dataset("saveloc/loc/text", data=np.array([[97], [98]], np.uint16))
        text.attrs["MATLAB_class"] = np.bytes_(b"char")
        file["saveloc/loc/phot"].attrs["MATLAB_class"] = np.bytes_(b"single")
    assert smap.read(older).columns[:3] == ("x", "y", "frame")
    assert set(smap.read(older)) == set(smap.read(newer))
    assert not {"none", "text", "part"} & set(smap.read(older))


def test_a_file_without_rows_has_the_region_of_the_camera(make_file):
    path = make_file({name: values[:0] for name, values in LOC.items()})
    assert len(smap.read(path)) == 0
    assert smap.read(path).field_of_view == (0, 0, 500, 1000)
    with pytest.raises(FileFormatError, match="pass field_of_view="):
        smap.read(make_file({"xnm": np.empty(0), "ynm": np.empty(0)}, {"cam_pixelsize_um": 0.1}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"phot": np.ones(3)}, "column 'photons' has 3 rows, 'x' has 2"),
        ({"frame": [1.0, 2.5]}, "'frame' must hold whole numbers"),
        ({"frame": [1.0, np.nan]}, "'frame' must hold whole numbers"),
        ({"photons": [1.0, 2.0]}, "two fields that mean photons"),
        ({"x": [1.0, 2.0]}, "two fields that mean x"),
    ],
)
def test_fields_that_cannot_be_are_named(make_file, change, message):
    with pytest.raises(FileFormatError, match=rf"blinks_sml\.mat: .*{message}"):
        smap.read(make_file(LOC | change))


def test_positions_are_needed(make_file):
    with pytest.raises(FileFormatError, match=r"saveloc\.loc has no field 'ynm': there are xnm"):
        smap.read(make_file({"xnm": [1.0]}))


def test_rows_without_a_place_are_counted(make_file):
    with pytest.warns(UnusedRowsWarning, match="2 of 3 rows .*: 1 with .*, 1 outside"):
        table = smap.read(make_file({"xnm": [60.0, np.nan, 5000.0], "ynm": [60.0, 60, 60]}))
    assert table.x.tolist() == [10.0]


def test_several_files_have_no_common_region(tmp_path):
    older, newer = tmp_path / "older.mat", tmp_path / "newer.mat"
    records = np.empty(2, [("info", object)])
    records["info"] = INFO
    savemat(older, {"saveloc": {"loc": LOC, "file": records}})
    write_mat73(newer, LOC, None)
    with h5py.File(newer, "r+") as file:
        for number in (0, 1):
            for name, values in INFO.items():
                file[f"#refs#/{number}/{name}"] = np.atleast_2d(values).T
        references = [[file["#refs#/0"].ref], [file["#refs#/1"].ref]]
        file.create_dataset("saveloc/file/info", data=references, dtype=h5py.ref_dtype)
    for path in (older, newer):
        table = smap.read(path)
        assert table.x.tolist() == [100.0, 940.0]
        assert table.field_of_view == (200, 100, 431, 941)
        assert "n_frames" not in table.metadata


@pytest.mark.parametrize(
    "content",
    [b"", b"xnm,ynm\n1,2\n", b"MATLAB 7.3 MAT-file".ljust(600), b"\x89HDF\r\n\x1a\n" + bytes(99)],
)
def test_other_files_are_not_recognized(tmp_path, content):
    path = tmp_path / "other.mat"
    path.write_bytes(content)
    assert not recognizes(path)
    with pytest.raises(FileFormatError, match=r"other\.mat: "):
        smap.read(path)


def test_other_mat_files_are_not_recognized(tmp_path):
    path = tmp_path / "other.mat"
    for write in (
        lambda: savemat(path, {"locs": LOC}),
        lambda: savemat(path, {"saveloc": np.eye(2)}, do_compression=True),
        lambda: savemat(path, {"saveloc": {"fitparameters": 1}}),
    ):
        write()
        with pytest.raises(FileFormatError, match=r"no variable .saveloc.|structure"):
            smap.read(path)
    with h5py.File(path, "w") as file:
        file["locs"] = [1, 2]
    assert not recognizes(path)
    with pytest.raises(FileFormatError, match="no dataset /saveloc/loc: there are locs"):
        smap.read(path)


def element(order, kind, content):
    return struct.pack(f"{order}II", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(order, name, kind, shape, *content):
    return element(
        order,
        14,
        element(order, 6, struct.pack(f"{order}II", kind, 0))
        + element(order, 5, struct.pack(f"{order}{len(shape)}i", *shape))
        + element(order, 1, name)
        + b"".join(content),
    )


def structure(order, name, **fields):
    width = struct.pack(f"{order}HHi", *((4, 5) if order == ">" else (5, 4)), 32)
    names = b"".join(field.encode().ljust(32, b"\0") for field in fields)
    return matrix(order, name, 2, (1, 1), width, element(order, 1, names), *fields.values())


def by_hand(order, shape=(1, 2), stored=(3, 4), **fields):
    """Give a file with doubles that are stored as bytes, as MATLAB does to save room."""
    numbers = matrix(order, b"", 6, shape, element(order, 2, bytes(stored)))
    loc = structure(order, b"", xnm=numbers, ynm=numbers, **fields)
    header = b"MATLAB 5.0 MAT-file".ljust(124) + (b"\0\1IM" if order == "<" else b"\1\0MI")
    return header + structure(order, b"saveloc", loc=loc)


@pytest.mark.parametrize("order", ["<", ">"])
def test_scipy_finds_the_same_numbers(tmp_path, order):
    path = tmp_path / "a.mat"
    numbers = np.array([1.5, -2e9]).astype(f"{order}f8").tobytes()
    nothing = element(order, 14, b"")
    path.write_bytes(
        by_hand(order, frame=matrix(order, b"", 7, (2, 1), element(order, 9, numbers)), bg=nothing)
    )
    loc = loadmat(path)["saveloc"]["loc"][0, 0]
    fields = {name: loc[name][0, 0].ravel() for name in ("xnm", "frame", "bg")}
    assert fields["bg"].size == 0
    with pytest.raises(FileFormatError, match=f"whole numbers, got .*{fields['frame'][0] - 1}"):
        smap.read(path, pixel_size=2)
    path.write_bytes(
        by_hand(order, LLrel=matrix(order, b"", 7, (2, 1), element(order, 9, numbers)))
    )
    table = smap.read(path, pixel_size=2)
    assert (table.x + 1).tolist() == fields["xnm"].tolist() == [3, 4]
    np.testing.assert_array_equal(table["LLrel"], fields["frame"])
    assert table["LLrel"].dtype == np.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (1, 3)}, r"an array of \(1, 3\) holds 2 numbers"),
        ({"shape": (1, 10**9)}, "field 'xnm' claims 8,000,000,000 bytes of memory"),
        ({"shape": (2**31 - 1,) * 99}, "field 'xnm' claims [0-9,]+ bytes of memory"),
        ({"shape": (-1, -2)}, "the shape"),
        ({"shape": (2,)}, "the shape"),
        ({"bg": struct.pack("<II", 14, 2**32 - 1)}, r"claims 4,294,967,295 bytes, \d+ are there"),
        ({"bg": element("<", 9, bytes(8))}, "type 9, expected 14"),
        ({"bg": matrix("<", b"", 6, (1, 1), element("<", 9, bytes(9)))}, "damaged"),
        ({"bg": matrix("<", b"", 6, (1, 1), element("<", 99, bytes(8)))}, "type 99"),
        ({"bg": element("<", 14, element("<", 7, bytes(8)))}, "flags .* of the type float32"),
        (
            {"bg": matrix("<", b"", 6, (1, 1), struct.pack("<HHI", 9, 5, 0))},
            "5 bytes in an .* four",
        ),
    ],
)
def test_what_is_claimed_has_to_be_there(tmp_path, options, message):
    path = tmp_path / "a.mat"
    path.write_bytes(by_hand("<", **options))
    with pytest.raises(FileFormatError, match=message):
        smap.read(path, pixel_size=2)


def test_a_structure_with_endless_fields_is_refused(tmp_path):
    path = tmp_path / "a.mat"
    names = element("<", 1, bytes(5000))
    width = struct.pack("<HHi", 5, 4, 1)
    path.write_bytes(by_hand("<")[:128] + matrix("<", b"saveloc", 2, (1, 1), width, names))
    with pytest.raises(FileFormatError, match="5000 bytes of names of 1 bytes each"):
        smap.read(path)


def test_a_compression_bomb_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.mat"
    zeros = matrix("<", b"", 6, (1, 10**6), element("<", 9, bytes(8 * 10**6)))
    loc = structure("<", b"", xnm=zeros, ynm=zeros)
    bomb = zlib.compress(structure("<", b"saveloc", loc=loc))
    path.write_bytes(by_hand("<")[:128] + element("<", 15, bomb))
    assert len(bomb) < 20_000
    assert len(smap.read(path, pixel_size=2)) == 10**6  # no more than small
    monkeypatch.setattr(_common, "_SMALL_BYTES", 2**20)
    with pytest.raises(FileFormatError, match=r"'saveloc' become more than [\d,]+, which no"):
        smap.read(path, pixel_size=2)


def test_bytes_that_become_doubles_are_counted_as_doubles(tmp_path, monkeypatch):
    path = tmp_path / "a.mat"
    path.write_bytes(by_hand("<", shape=(1, 50_000), stored=bytes(50_000)))
    assert len(smap.read(path, pixel_size=2)) == 50_000
    monkeypatch.setattr(_common, "_SMALL_BYTES", 600_000)
    monkeypatch.setattr(_common, "_HIGHEST_COMPRESSION", 1)
    with pytest.raises(FileFormatError, match=r"'ynm' claims 400,000 .* all before it 800,000"):
        smap.read(path, pixel_size=2)


def test_several_tables_in_one_file_are_refused(tmp_path):
    path = tmp_path / "a_sml.mat"
    records = np.empty(2, [("xnm", object), ("ynm", object)])
    records["xnm"] = records["ynm"] = [np.ones(3), np.ones(3)]
    savemat(path, {"saveloc": {"loc": records, "file": {"info": INFO}}})
    with pytest.raises(FileFormatError, match=r"saveloc\.loc holds 2 structures, expected one"):
        smap.read(path)


def test_what_is_compressed_twice_is_not_looked_into(tmp_path):
    path = tmp_path / "a.mat"
    once = zlib.compress(element("<", 15, zlib.compress(structure("<", b"saveloc"))))
    path.write_bytes(by_hand("<")[:128] + element("<", 15, once))
    with pytest.raises(FileFormatError, match=r"no variable 'saveloc'"):
        smap.read(path)


def test_numbers_of_any_size_are_reckoned_with_in_silence(make_file):
    path = make_file(LOC | {"z": [1e308, 1.0], "xnm": [1e308, 900.0]})
    with pytest.warns(UnusedRowsWarning):
        assert smap.read(path)["z"].tolist() == [800]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_may_end_anywhere(tmp_path, writer):
    path = tmp_path / "a_sml.mat"
    WRITERS[writer](path, LOC, INFO)
    content = path.read_bytes()
    for end in range(0, len(content) - 1, max(1, len(content) // 50)):
        path.write_bytes(content[:end])
        recognizes(path)
        with pytest.raises(FileFormatError, match=r"a_sml\.mat: "):
            smap.read(path)


@pytest.mark.parametrize("writer", WRITERS)
def test_any_byte_may_be_wrong(tmp_path, writer):
    path = tmp_path / "a_sml.mat"
    WRITERS[writer](path, LOC, INFO)
    content, rng = path.read_bytes(), np.random.RandomState(0)
    for _ in range(50):
        damaged = bytearray(content)
        for place in rng.randint(len(content), size=rng.randint(1, 4)):
            damaged[place] = rng.randint(256)
        path.write_bytes(damaged)
        recognizes(path)
        with warnings.catch_warnings(), contextlib.suppress(FileFormatError):
            warnings.simplefilter("ignore", UnusedRowsWarning)
            assert len(smap.read(path)) <= 2


@pytest.mark.parametrize(
    "place", ["saveloc", "saveloc/loc", "saveloc/loc/xnm", "saveloc/file/info"]
)
@pytest.mark.parametrize(
    "link", [h5py.SoftLink("/other"), h5py.ExternalLink("secret.mat", "/other")]
)
def test_nothing_is_read_from_other_files(tmp_path, place, link):
    path = tmp_path / "a_sml.mat"
    write_mat73(path, LOC, INFO)
    with h5py.File(path, "r+") as file, h5py.File(tmp_path / "secret.mat", "w") as secret:
        file.copy(place, secret, "other")
        file.copy(place, file, "other")
        del file[place]
        file[place] = link
    with pytest.raises(FileFormatError, match=r"is a link|no structure"):
        smap.read(path)


def test_more_rows_than_the_file_holds_are_refused(tmp_path):
    path = tmp_path / "a_sml.mat"
    write_mat73(path, LOC, INFO)
    with h5py.File(path, "r+") as file:
        del file["saveloc/loc/bg"]
        file["saveloc/loc"].create_dataset("bg", (1, 10**9), "f8", chunks=(1, 10**6), compression=9)
    with pytest.raises(FileFormatError, match=r"/saveloc/loc/bg claims 8,000,000,000 bytes"):
        smap.read(path)
