import io
import json
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from smlmkit.errors import FileFormatError, InvalidInputError, SmlmkitError, UnusedRowsWarning
from smlmkit.io import _common, _smlm_archive, _smlm_manifest, _smlm_tables, _smlm_writing, smlm
from smlmkit.io.smlm import read, write
from smlmkit.localizations import Localizations

PACKED = [("frame", "<u4"), ("x", "<f4"), ("y", "<f8")]
ROWS = np.array([(0, 100.5, 200.25), (7, 310.0, 420.125)], PACKED)
BINARY = {
    "name": "smlm-table(binary)",
    "type": "table",
    "mode": "binary",
    "columns": 3,
    "headers": ["frame", "x", "y"],
    "dtype": ["uint32", "float32", "float64"],
    "shape": [1, 1, 1],
    "units": ["frame", "nm", "nm"],
}
FILE = {"name": "a.bin", "type": "table", "format": "f", "channel": "red", "rows": 2, "offset": {}}
TEXT = {"type": "table", "mode": "text", "dtype": "float32", "delimiter": ",", "header_row": 0}


def as_lists(table):
    return {name: table[name].tolist() for name in table}


@pytest.fixture
def make(tmp_path):
    """Write an archive; `members` go before the one table, `manifest` changes the manifest."""

    def make_archive(
        content=None, *, file=None, binary=None, manifest=None, members=None, **zipped
    ):
        stated = {
            "format_version": "0.2",
            "formats": {"f": BINARY | (binary or {})},
            "files": [FILE | (file or {})],
        } | (manifest or {})
        path = tmp_path / "blinks.smlm"
        with zipfile.ZipFile(path, "w", **zipped) as archive:
            archive.writestr("manifest.json", json.dumps(stated))
            archive.writestr("a.bin", ROWS.tobytes() if content is None else content)
            for name, extra in (members or {}).items():
                archive.writestr(name, extra)
        return path

    return make_archive


@pytest.fixture
def make_text(make):
    def make_archive(text, *, file=None, **changes):
        content = text if isinstance(text, bytes) else text.encode()
        return make(
            content,
            file={"rows": None} | (file or {}),
            manifest={"formats": {"f": TEXT | changes}},
        )

    return make_archive


def test_the_real_file_agrees_with_its_bytes(real_data):
    path = real_data / "formats" / "SMLM_dstorm_data.smlm"
    table = read(path)
    with zipfile.ZipFile(path) as archive:
        content = archive.read("table-0.bin")
    # int8 index, float32 x, background, chi square, intensity, int8 frame, float32 y: 22 bytes
    assert len(table) == 10 == len(content) // 22
    for row in (0, 9):
        fields = struct.unpack_from("<bffffbf", content, 22 * row)
        assert [fields[i] for i in (0, 1, 4, 5, 6)] == [
            table[name][row] for name in ("original_index", "x", "intensity", "frame", "y")
        ]
    assert table.x[0] == pytest.approx(1653.34, abs=1e-3)  # nm, as the manifest's min says
    assert table.y[4] == pytest.approx(5597.88, abs=1e-3)
    assert table.metadata == {
        "source": "SMLM_dstorm_data.smlm",
        "format": "smlm",
        "name": "1",
        "date": "2021-11-19 17:10:08 +0100",
    }


def test_rows_of_packed_numbers_become_columns(make):
    table = read(make())
    assert as_lists(table) == {"frame": [0, 7], "x": [100.5, 310.0], "y": [200.25, 420.125]}
    assert table["frame"].dtype == np.int64
    assert table.field_of_view == (200, 100, 421, 311)
    assert table.metadata == {"source": "blinks.smlm", "format": "smlm"}


@pytest.mark.parametrize(
    "changes",
    [
        {"columns": "3", "shape": ["1", "1", "1"]},
        {"shape": [[1], [1, 1], 1], "units": {}},
        {"units": ["", None, ""]},
        {"units": {"x": "nm"}, "dtype": ["UINT32", "FLOAT32", "FLOAT64"], "mode": "BINARY"},
    ],
)
def test_what_programs_write_instead_of_numbers_and_units_is_understood(make, changes):
    path = make(binary=changes, file={"rows": "2", "offset": {"x": "0"}, "name": "./a.bin"})
    assert as_lists(read(path)) == as_lists(read(make()))


def test_names_and_units_become_those_of_smlmkit(make):
    headers = ["position_x", "y", "z", "x_precision", "intensity", "local_background", "sigma_nm_"]
    content = np.array([1, 2, -3, 4, 5, 6, 7], "<f4").tobytes()
    binary = {
        "columns": 7,
        "headers": headers,
        "dtype": ["float32"] * 7,
        "shape": [1] * 7,
        "units": ["px", "um", "µm", "mm", "photon", "photons", ""],
    }
    table = read(make(content, binary=binary, file={"rows": 1}), pixel_size=160)
    assert as_lists(table) == {
        "x": [160],
        "y": [2000],
        "z": [-3000],
        "uncertainty_x": [4e6],
        "photons": [5],
        "background": [6],
        "sigma_x": [7],
        "sigma_y": [7],
    }
    assert table.metadata["camera_pixel_size"] == 160


def test_intensity_without_a_unit_keeps_its_name_and_the_precise_column_wins(make):
    headers = ["x", "y", "intensity", "uncertainty", "x_precision"]
    binary = {"headers": headers, "columns": 5, "dtype": ["uint8"] * 5, "shape": [1] * 5}
    path = make(bytes([1, 2, 3, 4, 5]), binary=binary | {"units": []}, file={"rows": 1})
    with pytest.raises(
        FileFormatError, match=r"'x_precision' of 'a\.bin' is the second that means"
    ):
        read(path)
    binary["headers"] = ["x", "y", "intensity", "uncertainty", "uncertainty_x"]
    table = as_lists(read(make(bytes(range(5)), binary=binary | {"units": []}, file={"rows": 1})))
    assert table == {
        "x": [0], "y": [1], "intensity": [2], "uncertainty_y": [3], "uncertainty_x": [4],
    }  # fmt: skip


def test_offsets_make_unsigned_numbers_signed_before_they_become_nm(make):
    content = np.array([(5, 0, 255), (250, 1, 0)], "u1").tobytes()
    binary = {"dtype": ["uint8"] * 3, "units": ["", "um", "nm"], "headers": ["tilt", "x", "y"]}
    table = read(make(content, binary=binary, file={"offset": {"tilt": -10, "x": -2.5}}))
    assert as_lists(table) == {"tilt": [-5, 240], "x": [-2500, -1500], "y": [255, 0]}


def test_frames_count_from_one_in_what_thunderstorm_wrote(make):
    name = "Thunderstorm_localization_table.bin"
    content = np.array([(1, 2, 3), (8, 5, 6)], "<f4").tobytes()
    binary = {"dtype": ["float32"] * 3}
    path = make(binary=binary, file={"name": name}, members={name: content})
    assert as_lists(read(path)) == {"frame": [0, 7], "x": [2, 5], "y": [3, 6]}


def test_columns_of_many_numbers_a_row_are_left_out(make):
    packed = np.zeros(2, [("frame", "<u4"), ("patch", "<u2", (4, 5)), ("x", "<f4"), ("y", "<f8")])
    packed["x"], packed["y"], packed["frame"] = [1, 2], [3, 4], [5, 6]
    binary = {
        "columns": 4,
        "headers": ["frame", "raw-patch", "x", "y"],
        "dtype": ["uint32", "uint16", "float32", "float64"],
        "shape": [1, [4, "5"], 1, 1],
        "units": ["", "photon", "nm", "nm"],
    }
    table = read(make(packed.tobytes(), binary=binary, file={"offset": {"raw-patch": 100}}))
    assert as_lists(table) == {"frame": [5, 6], "x": [1, 2], "y": [3, 4]}


def test_channels_get_a_column_and_what_one_lacks_is_nan(make):
    wide = {
        "type": "table",
        "mode": "binary",
        "headers": ["frame", "x", "y", "z"],
        "dtype": ["float32"] * 4,
        "shape": [1] * 4,
        "units": ["", "nm", "nm", "um"],
    }
    files = [
        FILE | {"name": "b.bin", "channel": "green", "format": "w", "rows": 1},
        FILE | {"name": "overview.png", "type": "image", "format": "png"},
        FILE,
    ]
    path = make(
        manifest={"formats": {"f": BINARY, "w": wide}, "files": files},
        members={"b.bin": np.array([9, 1, 2, 3], "<f4").tobytes()},
    )
    table = read(path)
    assert table["channel"].tolist() == [0, 1, 1]
    assert table.metadata["channels"] == ["green", "red"]
    assert table["frame"].tolist() == [9, 0, 7]
    assert table.x.tolist() == [1, 100.5, 310]
    np.testing.assert_array_equal(table["z"], [3000, np.nan, np.nan])
    assert "channel" not in read(path, table="b.bin")
    assert len(read(path, table="b.bin")) == 1


def test_frames_of_some_channels_only_are_refused(make):
    frameless = BINARY | {"headers": ["time", "x", "y"]}
    path = make(
        manifest={
            "formats": {"f": BINARY, "t": frameless},
            "files": [FILE, FILE | {"name": "b.bin", "channel": "green", "format": "t"}],
        },
        members={"b.bin": ROWS.tobytes()},
    )
    with pytest.raises(FileFormatError, match="only some of its tables have frames: pass table="):
        read(path)


def test_a_column_that_numbers_channels_stays_as_it_is(make):
    own = BINARY | {"headers": ["channel", "x", "y"], "units": []}
    files = [FILE, FILE | {"name": "b.bin", "channel": "green"}]
    path = make(manifest={"formats": {"f": own}, "files": files}, members={"b.bin": ROWS.tobytes()})
    assert read(path)["channel"].tolist() == [0, 7, 0, 7]


def test_tiles_lie_where_their_offsets_put_them(make):
    tile = FILE | {"name": "b.bin", "offset": {"x": 5000}}
    path = make(manifest={"files": [FILE, tile]}, members={"b.bin": ROWS.tobytes()})
    table = read(path)
    assert table.x.tolist() == [100.5, 310, 5100.5, 5310]
    assert "channel" not in table


def test_fields_that_would_lie_on_one_another_have_to_be_chosen(make):
    other = FILE | {"name": "b.bin"}
    path = make(manifest={"files": [FILE, other]}, members={"b.bin": ROWS[:1].tobytes()})
    with pytest.raises(FileFormatError, match=r"pass table= to read one of 'a\.bin', 'b\.bin'"):
        read(path)
    assert len(read(path, table="a.bin")) == 2
    with pytest.raises(InvalidInputError, match=r"no table 'c\.bin'; there are 'a\.bin', 'b\.bin'"):
        read(path, table="c.bin")


def test_tables_of_text_are_read_with_their_own_units(make_text):
    header = '\ufeff"frame","X (nm)","y [um]","intensity [photon]"'
    text = f"{header}\r\n# a remark\r\n1,2,3,\r\n4,5,6,7\r\n"
    path = make_text(
        text, comments="#", header_transform={"X (nm)": "x"}, file={"offset": {"x": 9}}
    )
    table = read(path)
    assert table.x.tolist() == [11, 14]
    assert table.y.tolist() == [3000, 6000]
    assert table["frame"].tolist() == [1, 4]
    np.testing.assert_array_equal(table["photons"], [np.nan, 7])


def test_text_without_a_header_is_named_by_the_places_of_its_columns(make_text):
    transform = {"0": "frame", "1": "x", "2": "y"}
    path = make_text(
        "% by hand\n3\t1.5\t2.5\t9\n",
        header_row=-1,
        header_transform=transform,
        delimiter="\t",
        comments="%",
        units=["", "um", "nm", ""],
        file={"rows": "1"},
    )
    assert as_lists(read(path)) == {"frame": [3], "x": [1500], "y": [2.5], "3": [9]}


@pytest.mark.parametrize(
    ("text", "changes", "message"),
    [
        ("x,y\n1,2\n3,4,5\n", {}, "'a.bin': line 3 has 3 cells, expected 2"),
        ("x,y\n1,two\n", {}, "'a.bin': line 2, column 'y': 'two' is not a number"),
        ("x;y\n1,5;2\n", {"delimiter": ";"}, "'a.bin': line 2, .*decimal comma"),
        ("#x,y\n#\n1;2\n", {"comments": "#"}, "'a.bin': line 3 has 1 cells"),
        ("x,y,\n1,2,\n", {}, "a column of 'a.bin' has no name"),
        ("x,x\n1,2\n", {}, "two columns of 'a.bin' are named 'x'"),
        ("x,z\n1,2\n", {}, "'a.bin' lacks the column x or y; there are x, z"),
        ("", {}, "there is no line 1, which names the columns"),
        ("", {"header_row": -1}, "lacks the column x or y; there are 0"),
        ("x,y\n", {}, "a table without usable rows has no field of view: pass field_of_view="),
        ("x,y\n1,2\n", {"header_row": 2}, "there is no line 3"),
        ("x,y\n1,2\n", {"header_row": 10**6}, "header_row of 'a.bin' is 1000000, expected 1000"),
        ("x,y\n1,2\n", {"delimiter": "::"}, "'a.bin' has the delimiter '::'"),
        ("x,y\n1,2\n", {"delimiter": None}, "'a.bin' has the delimiter None"),
        ("x,y\n1,2\n", {"units": ["nm"]}, "has 2 columns and the units"),
        (
            "x,y\n1,2\n",
            {"header_transform": {"*all*": "(a+)+$"}},
            "a regular expression .*: not fol",
        ),
        ("x [px],y\n1,2\n", {}, r"'x \[px\]' is in camera pixels: pass pixel_size="),
        ("x,y\n1,2\n".encode("utf-16"), {}, "UTF-16"),
    ],
)
def test_bad_text_is_named_by_line_and_column(make_text, text, changes, message):
    with pytest.raises(FileFormatError, match=rf"blinks\.smlm: .*{message}"):
        read(make_text(text, **changes))


def test_the_rows_of_a_text_that_are_stated_must_be_there(make_text):
    with pytest.raises(FileFormatError, match=r"'a\.bin' has 1 rows, not 2"):
        read(make_text("x,y\n1,2\n", file={"rows": 2}))


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({"format_version": "1"}, "version '1' of the format, expected '0.2'"),
        ({"files": []}, "there is no table in the archive"),
        ({"files": {}}, "files in manifest.json is {}, not a list"),
        ({"files": [7]}, r"files\[0\] in manifest.json is 7, not an object"),
        ({"files": [FILE | {"type": "image"}]}, "there is no table"),
        ({"files": [FILE, FILE]}, "lists one table twice: 'a.bin'"),
        ({"files": [FILE | {"name": "b.bin"}]}, "no 'b.bin' in the archive"),
        ({"files": [FILE | {"name": 7}]}, "a table has no name"),
        ({"files": [FILE | {"name": "../a.bin"}]}, "lies outside of the archive: not followed"),
        ({"files": [FILE | {"name": "/a.bin"}]}, "lies outside of the archive: not followed"),
        ({"files": [FILE | {"format": "g"}]}, "the format 'g' of 'a.bin' is not described"),
        ({"files": [FILE | {"rows": 3}]}, "'a.bin' holds 32 bytes, expected 3 rows of 16 bytes"),
        ({"files": [FILE | {"rows": 10**9}]}, "holds 32 bytes, expected 1,000,000,000 rows"),
        ({"files": [FILE | {"rows": -2}]}, "rows of 'a.bin' is -2, not a whole number from 0"),
        ({"files": [FILE | {"rows": 1.5}]}, "rows of 'a.bin' is 1.5, not a whole"),
        ({"files": [FILE | {"rows": True}]}, "rows of 'a.bin' is True, not a number"),
        ({"files": [FILE | {"rows": "0_2"}]}, "rows of 'a.bin' is '0_2', not a number"),
        ({"files": [FILE | {"rows": "٢"}]}, "rows of 'a.bin' is '٢', not a number"),
        ({"files": [FILE | {"rows": [2]}]}, r"rows of 'a.bin' is \[2\], not a number"),
        ({"files": [FILE | {"rows": 10**400}]}, "rows of 'a.bin' is 1000.*, not a number"),
        ({"files": [FILE | {"name": "n" * 1001}]}, "a name longer than 1,000 letters"),
        ({"files": [FILE | {"rows": None}]}, "rows of 'a.bin' is None, not a number"),
        ({"files": [FILE | {"rows": "9" * 4000}]}, "rows of 'a.bin' is '999.*, not a number"),
        ({"files": [FILE | {"offset": {"x": "far"}}]}, "offset of 'x' in 'a.bin' is 'far', not a"),
        ({"files": [FILE | {"offset": {"x": float("nan")}}]}, "offset of 'x' in 'a.bin' is nan"),
        ({"files": [FILE | {"offset": {"q": 1}}]}, "'a.bin' has an offset for 'q', but no such"),
        ({"files": [FILE | {"offset": [1]}]}, r"offset of 'a.bin' in manifest.json is \[1\]"),
        ({"formats": {"f": 7}}, "format 'f' in manifest.json is 7, not an object"),
        ({"formats": None}, "the format 'f' of 'a.bin' is not described"),
        ({"smlmkit": "{"}, "states under smlmkit is damaged"),
        ({"smlmkit": "[" * 100_000}, "states under smlmkit is damaged"),
        ({"smlmkit": 7}, "states under smlmkit is damaged"),
        ({"smlmkit": '{"version": 2}'}, "written in version 2 of the note"),
        ({"smlmkit": '{"version": 1, "field_of_view": [0, 0, 0, 0]}'}, "smlmkit is damaged"),
    ],
)
def test_a_bad_manifest_is_named(make, manifest, message):
    with pytest.raises(FileFormatError, match=rf"blinks\.smlm: .*{message}"):
        read(make(manifest=manifest))


@pytest.mark.parametrize(
    ("binary", "message"),
    [
        ({"headers": ["x", "x", "y"]}, "two columns of 'a.bin' are named 'x'"),
        ({"headers": ["frame", "", "y"]}, "a column of 'a.bin' has no name"),
        ({"headers": ["frame", "x" * 1001, "y"]}, "a column of 'a.bin' has an endless name"),
        ({"headers": ["frame", 7, "y"]}, "a column of 'a.bin' has no name"),
        (
            {"headers": ["frame", "x", "z"]},
            "'a.bin' lacks the column x or y; there are frame, x, z",
        ),
        ({"headers": ["x", "y"]}, "'a.bin' has 2 columns and the units"),
        ({"columns": 4}, "columns of unequal numbers: .*'columns': 4"),
        ({"dtype": ["uint32", "float32"]}, "columns of unequal numbers: .*'dtype': 2"),
        ({"dtype": ["uint32", "float32", "object"]}, "column 'y' of 'a.bin' holds 'object'"),
        ({"dtype": ["uint32", "float32", ["f8"]]}, "column 'y' of 'a.bin' holds"),
        ({"shape": [1, 1, -1]}, "shape of 'y' in 'a.bin' is -1"),
        ({"shape": [1, 1, "one"]}, "shape of 'y' in 'a.bin' is 'one'"),
        ({"shape": [2**40, 1, 1]}, "a row of 'a.bin' is larger than 2 GiB"),
        ({"shape": [[2**40] * 9, 1, 1]}, "a row of 'a.bin' is larger than 2 GiB"),
        ({"shape": [0, 0, 0]}, "holds 32 bytes, expected 2 rows of 0 bytes"),
        ({"units": ["", "furlong", "nm"]}, r"unit of column 'x \[furlong\]' is unknown"),
        ({"units": ["", "px", "nm"]}, "'x .px.' is in camera pixels: pass pixel_size="),
        ({"units": 7}, "'a.bin' has 3 columns and the units 7"),
        ({"mode": "xml"}, "'a.bin' is in the mode 'xml', expected 'binary' or 'text'"),
    ],
)
def test_a_bad_description_of_columns_is_named(make, binary, message):
    with pytest.raises(FileFormatError, match=rf"blinks\.smlm: .*{message}"):
        read(make(binary=binary))


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (b"", "not readable as JSON"),
        (b"[" * 100_000, "not readable as JSON"),
        (b'{"format_version": "0.2", "files": "\xff"}', "not readable as JSON"),
        (b"[]", r"manifest.json is \[\], expected an object"),
        (b"{}", "states no format_version"),
        (b"1" * 10_000, "not readable as JSON"),
        (b" " * (2**24 + 1), "manifest.json is larger than 16,777,216 bytes"),
    ],
)
def test_a_manifest_that_is_none_is_named(tmp_path, manifest, message):
    path = tmp_path / "blinks.smlm"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", manifest)
    with pytest.raises(FileFormatError, match=rf"blinks\.smlm: .*{message}"):
        read(path)


def test_an_archive_without_a_manifest_is_not_recognized(tmp_path, is_recognized):
    path = tmp_path / "blinks.smlm"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.bin", "")
    assert not is_recognized(smlm, path)
    with pytest.raises(FileFormatError, match=r"blinks\.smlm: no 'manifest.json' in the archive"):
        read(path)


def test_an_archive_is_recognized_wherever_its_manifest_stands_and_if_cut(
    make, tmp_path, is_recognized
):
    path = make()
    content = path.read_bytes()
    assert is_recognized(smlm, path)
    assert smlm.recognizes(io.BytesIO(content[:60]), content[:60])
    last = tmp_path / "last.smlm"
    with zipfile.ZipFile(last, "w") as archive:
        archive.writestr("a.bin", bytes(70_000))
        archive.writestr("manifest.json", "{}")
    assert is_recognized(smlm, last)
    last.write_bytes(content[:4] + bytes(60))
    assert not is_recognized(smlm, last)


def test_members_of_one_name_are_refused(make):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = make(members={"a.bin": b""})
    with pytest.raises(FileFormatError, match="two members of the archive have the same name"):
        read(path)


@pytest.mark.parametrize("unit", ["m", "nm"])
def test_numbers_of_any_size_are_reckoned_with_in_silence(make, unit):
    """Nothing is finite of what becomes more than 1e308 nm, and a signalling NaN is no number."""
    content = np.array([(1, 5, 6), (1, 1e308, 7)], "f8,f8,f8")
    content["f0"] = np.frombuffer(b"\1\0\0\0\0\0\xf0\x7f", "f8")
    binary = {"headers": ["z", "x", "y"], "dtype": ["float64"] * 3, "units": [unit] * 3}
    path = make(content.tobytes(), binary=binary, file={"offset": {"z": 1}})
    with pytest.warns(UnusedRowsWarning):
        table = read(path, field_of_view=(0, 0, 1e10, 1e10))
    assert np.isnan(table["z"]).all()


def test_other_compressions_and_encryption_are_refused(make):
    with pytest.raises(FileFormatError, match="compressed by method 14, expected DEFLATE"):
        read(make(compression=zipfile.ZIP_LZMA))
    path = make()
    content = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.find(signature) + flags] |= 1
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"'manifest\.json' is encrypted"):
        read(path)


def test_a_changed_byte_of_a_table_is_found(make):
    path = make()
    content = path.read_bytes()
    path.write_bytes(content.replace(ROWS.tobytes(), ROWS.tobytes()[:-1] + b"\0"))
    with pytest.raises(FileFormatError, match=r"archive is damaged: Bad CRC-32 for file 'a.bin'"):
        read(path)


def test_a_bomb_is_refused_before_it_is_read(make, monkeypatch):
    monkeypatch.setattr(_common, "_SMALL_BYTES", 2**20)
    rows = 2**17  # 2 MiB of zeros, and some kB of archive
    path = make(bytes(16 * rows), file={"rows": rows}, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**14
    refuse_to_read_tables(monkeypatch)
    with pytest.raises(FileFormatError, match=r"'a\.bin' claims 3,145,728 bytes of memory"):
        read(path)


def refuse_to_read_tables(monkeypatch, but=()):
    read_member = _smlm_archive.Archive.read

    def read_these(archive, member):
        assert member.filename in ("manifest.json", *but)
        return read_member(archive, member)

    monkeypatch.setattr(_smlm_archive.Archive, "read", read_these)


def test_what_all_tables_claim_is_added_up(make, monkeypatch):
    monkeypatch.setattr(_common, "_SMALL_BYTES", 2**20)
    rows = 2**15
    files = [
        FILE | {"name": name, "channel": name, "rows": rows} for name in ("a.bin", "b.bin", "c.bin")
    ]
    zeros = bytes(16 * rows)
    path = make(
        zeros,
        manifest={"files": files},
        members={"b.bin": zeros, "c.bin": zeros},
        compression=zipfile.ZIP_DEFLATED,
    )
    assert len(read(path, table="a.bin")) == rows
    refuse_to_read_tables(monkeypatch, but=["a.bin"])
    with pytest.raises(FileFormatError, match=r"'b\.bin' claims 786,432 .* it 1,572,864: no"):
        read(path)


def test_a_table_without_columns_is_named(make):
    binary = {"columns": 0, "headers": [], "dtype": [], "shape": [], "units": []}
    with pytest.raises(FileFormatError, match=r"'a\.bin' lacks the column x or y; there are none"):
        read(make(b"", binary=binary, file={"rows": 0}))


def test_a_table_is_not_read_twice_under_another_name(make):
    files = [FILE, FILE | {"name": "./a.bin", "channel": "green"}]
    with pytest.raises(FileFormatError, match="lists one table twice"):
        read(make(manifest={"files": files}))


def test_a_bomb_of_text_is_refused_before_it_is_parsed(make, monkeypatch):
    monkeypatch.setattr(_common, "_SMALL_BYTES", 2**20)
    path = make(
        b"x,y\n" + b"1,2\n" * 80_000,
        file={"rows": None},
        manifest={"formats": {"f": TEXT}},
        compression=zipfile.ZIP_DEFLATED,
    )
    monkeypatch.setattr(_smlm_tables, "read_columns", pytest.fail)
    with pytest.raises(FileFormatError, match=r"'a\.bin' claims 1,280,024 bytes of memory"):
        read(path)


def test_a_member_that_holds_less_than_it_states_is_named(make):
    path = make(compression=zipfile.ZIP_DEFLATED, file={"rows": 2**23})
    content = bytearray(path.read_bytes())
    entry = content.rfind(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 16 * 2**23)
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"'a.bin' ends after 32 of 134,217,728 bytes|CRC"):
        read(path)


def test_more_columns_than_anybody_has_are_refused(make, monkeypatch):
    monkeypatch.setattr(_smlm_manifest, "_MOST_COLUMNS", 5)
    files = [FILE, FILE | {"name": "b.bin", "channel": "green"}]
    path = make(manifest={"files": files}, members={"b.bin": ROWS.tobytes()})
    with pytest.raises(FileFormatError, match="its tables have 6 columns together"):
        read(path)


def written(tmp_path, table):
    path = tmp_path / "blinks.smlm"
    write(table, path, overwrite=True)
    return path


COLUMN_DTYPES = st.sampled_from(
    ["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", ">f4", ">i2"]
)


@st.composite
def tables(draw):
    n = draw(st.integers(0, 5))
    nm = st.floats(-1e5, 1e5)
    columns = {axis: draw(hnp.arrays(np.float64, n, elements=nm)) for axis in "xyz"}
    columns["frame"] = draw(hnp.arrays(np.int64, n, elements=st.integers(-9, 2**40)))
    for name in ("photons", "background", "uncertainty_x", "sigma_y", "channel", "größe", "a b"):
        kind = np.dtype(draw(COLUMN_DTYPES))
        limits = {"min_value": -(2**53), "max_value": 2**53} if kind.itemsize == 8 else {}
        if kind == np.uint64:
            limits["min_value"] = 0
        elements = hnp.from_dtype(kind, **(limits if kind.kind in "iu" else {}))
        columns[name] = draw(hnp.arrays(kind, n, elements=elements))
    metadata = {"sample": draw(st.text(max_size=5)), "n_frames": 7, "nested": [{"a": None}]}
    box = (-2e5, -2e5, 2e5, draw(st.floats(1.1e5, 2e5)))
    return Localizations(columns, field_of_view=box, metadata=metadata)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@example(Localizations({"x": [], "y": []}, field_of_view=(0, 0, 9, 9)))
@given(tables())
def test_a_table_comes_back_exactly_with_its_field_metadata_and_kinds(tmp_path, table):
    again = read(written(tmp_path, table))
    assert again == table
    for name in table:
        assert again[name].dtype == table[name].dtype.newbyteorder("=")


def test_tables_larger_than_what_is_packed_at_a_time_come_back(tmp_path, monkeypatch):
    monkeypatch.setattr(_smlm_writing, "_ROWS_AT_A_TIME", 3)
    table = Localizations({"x": np.arange(8.0), "y": np.arange(8.0) ** 2, "tilt": range(-4, 4)})
    assert read(written(tmp_path, table)) == table


def test_other_programs_find_what_the_specification_says(tmp_path):
    columns = {"x": [1.5], "y": [2.5], "frame": [3], "photons": [900], "tilt": [-7]}
    metadata = {"sample": "COS-7", "odd": float("nan")}
    path = written(tmp_path, Localizations(columns, metadata=metadata))
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read("manifest.json"), parse_constant=pytest.fail)
        content = archive.read("table-0.bin")
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_DEFLATED}
    (file,) = manifest["files"]
    table_format = manifest["formats"][file["format"]]
    assert manifest["sample"] == "COS-7"
    assert table_format["headers"] == ["x", "y", "frame", "intensity", "tilt"]
    assert table_format["dtype"] == ["float64", "float64", "uint32", "uint32", "uint32"]
    assert table_format["units"] == ["nm", "nm", "frame", "photon", ""]
    assert file["offset"] == {"tilt": -7}
    assert struct.unpack("<ddIII", content) == (1.5, 2.5, 3, 900, 0)
    assert file["rows"] == 1


def test_equal_tables_make_equal_files(tmp_path):
    table = Localizations({"x": [1.5], "y": [2.5]})
    assert written(tmp_path, table).read_bytes() == written(tmp_path, table).read_bytes()


def test_an_argument_goes_before_the_field_that_is_noted(tmp_path):
    path = written(tmp_path, Localizations({"x": [1.0], "y": [2.0]}, field_of_view=(0, 0, 9, 9)))
    assert read(path, field_of_view=(0, 0, 5, 6)).field_of_view == (0, 0, 5, 6)


def test_numbers_that_were_changed_since_keep_their_new_kind(tmp_path):
    path = written(tmp_path, Localizations({"x": [1.5], "y": [2.5], "photons": [900]}))
    note = {"version": 1, "field_of_view": [0, 0, 9, 9], "metadata": {}}
    for kind in ("uint8", "object", ["float64"], "M8[s]"):
        with zipfile.ZipFile(path) as archive:
            manifest = json.loads(archive.read("manifest.json"))
            content = archive.read("table-0.bin")
        manifest["smlmkit"] = json.dumps(note | {"dtypes": {"photons": kind}})
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("manifest.json", json.dumps(manifest))
            archive.writestr("table-0.bin", content)
        assert read(path)["photons"].tolist() == [900]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"who": ["me"]}, "column 'who' .* cannot be written"),
        ({"n": np.array([2**60])}, "column 'n' .* does not hold its numbers exactly"),
        ({"n": np.array([-(2**60)])}, "column 'n' .* does not hold its numbers exactly"),
        ({"n": np.ones(1, np.longdouble)}, "column 'n' .* does not hold its numbers exactly"),
        ({"uncertainty": [1]}, "column 'uncertainty': .* another one; rename it"),
        ({"area_nm_": [1]}, "column 'area_nm_': .* another one; rename it"),
        ({"intensity": [1], "photons": [2]}, "column '.*': .* another one; rename it"),
        ({"": [1]}, "column '': .* another one; rename it"),
    ],
)
def test_what_the_format_would_change_is_refused(tmp_path, columns, message):
    table = Localizations({"x": [1.0], "y": [2.0]} | columns)
    with pytest.raises(InvalidInputError, match=message):
        write(table, tmp_path / "blinks.smlm")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def small_archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("smlm") / "blinks.smlm"
    write(Localizations({"x": [1.5, 8], "y": [2.5, 7], "frame": [0, 3]}), path)
    return path


def test_a_file_cut_anywhere_is_a_format_error(small_archive, tmp_path):
    content = small_archive.read_bytes()
    path = tmp_path / "cut.smlm"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(FileFormatError, match=r"cut\.smlm: "):
            read(path)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
@pytest.mark.filterwarnings("ignore")
def test_changed_bytes_give_a_table_or_an_error_of_ours(small_archive, tmp_path, data):
    content = bytearray(small_archive.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "changed.smlm"
    path.write_bytes(content)
    try:
        read(path)
    except SmlmkitError as error:
        assert "changed.smlm" in str(error)  # noqa: PT017
