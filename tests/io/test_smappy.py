import json

import h5py
import numpy as np
import pytest

from smlmkit.errors import FileFormatError, UnusedRowsWarning
from smlmkit.io import decode, picasso, smappy
from smlmkit.io.smappy import read

CAMERA = {"camera": {"pixelsize_um": 0.1, "roi": [2, 3, 30, 20]}, "pixelsize_nm": 100.0}
COLUMNS = {
    "x_nm": [250.0, 1000.0],
    "y_nm": [300.0, 2000.0],
    "z_nm": [-40.0, 40.0],
    "frame": np.array([0, 7]),
    "photons": [900.0, 1000.0],
    "xy_err_nm": [7.0, 8.0],
    "z_err_nm": [20.0, 21.0],
    "sigma_nm": [130.0, 140.0],
    "logl_rel": [-1.0, -2.0],
}


@pytest.fixture
def make_file(tmp_path):
    def make(columns=COLUMNS, metadata=CAMERA, **attributes):
        path = tmp_path / "locs.hdf5"
        with h5py.File(path, "w") as file:
            group = file.create_group("locs")
            for name, values in columns.items():
                group.create_dataset(
                    name, data=values, chunks=(64,), maxshape=(None,), compression="lzf"
                )
            text = metadata if isinstance(metadata, str) else json.dumps(metadata)
            file.attrs.update(
                format="smappy-localizations", format_version=1, metadata=text, **attributes
            )
        return path

    return make


def test_positions_count_from_the_corner_of_the_chips_first_pixel(make_file):
    table = read(make_file())
    assert {name: table[name].tolist() for name in table} == {
        "x": [300.0, 1050.0],
        "y": [350.0, 2050.0],
        "z": [-40.0, 40.0],
        "frame": [0, 7],
        "photons": [900.0, 1000.0],
        "uncertainty_x": [7.0, 8.0],
        "uncertainty_y": [7.0, 8.0],
        "uncertainty_z": [20.0, 21.0],
        "sigma_x": [130.0, 140.0],
        "sigma_y": [130.0, 140.0],
        "logl_rel": [-1.0, -2.0],
    }
    assert table.field_of_view == (300, 200, 2300, 3200)
    assert table.metadata == {
        "source": "locs.hdf5",
        "format": "smappy",
        "camera_pixel_size": 100.0,
    }


def test_errors_and_widths_of_an_axis_go_before_those_of_both(make_file):
    more = {"x_err_nm": [1.0, 2.0], "y_err_nm": [3.0, 4.0], "sigma_y_nm": [120.0, 125.0]}
    table = read(make_file(COLUMNS | more))
    assert table["uncertainty_x"].tolist() == [1.0, 2.0]
    assert table["uncertainty_y"].tolist() == [3.0, 4.0]
    assert table["sigma_x"].tolist() == [130.0, 140.0]
    assert table["sigma_y"].tolist() == [120.0, 125.0]
    assert table["xy_err_nm"].tolist() == [7.0, 8.0]  # kept under its own name


def test_camera_pixels_may_have_two_sides(make_file):
    columns = {"x_pix": [2.5], "y_pix": [4.0], "loc_precision_pix": [0.1], "z_nm": [5.0]}
    camera = {"camera": {"pixelsize_um": [0.1, 0.12], "roi": None}}
    table = read(make_file(columns, camera))
    np.testing.assert_allclose([table.x[0], table.y[0]], [300.0, 540.0], rtol=1e-12)
    np.testing.assert_allclose(table["uncertainty_x"], [10.0], rtol=1e-12)
    np.testing.assert_allclose(table["uncertainty_y"], [12.0], rtol=1e-12)
    assert table["z"].tolist() == [5.0]
    assert table.metadata["camera_pixel_size_x"] == 100
    assert table.metadata["camera_pixel_size_y"] == 120
    assert read(make_file(columns, camera), pixel_size=10).x.tolist() == [30.0]


@pytest.mark.parametrize("metadata", [{}, {"camera": {"pixelsize_um": None}}, {"camera": 3}])
def test_an_unknown_pixel_size_is_asked_for(make_file, metadata):
    path = make_file(metadata=metadata)
    with pytest.raises(FileFormatError, match=r"camera pixel size is not known, .* pixel_size="):
        read(path)
    assert read(path, pixel_size=10, field_of_view=(0, 0, 9000, 9000)).x.tolist() == [255, 1005]


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("[", "attribute metadata is not readable as JSON"),
        ("7", "attribute metadata is 7, expected an object in JSON"),
        ('["ab"]', "attribute metadata is .'ab'., expected an object in JSON"),
        ("[" * 100_000, "attribute metadata is not readable as JSON"),
        ({"pixelsize_nm": "12"}, "states 12 as pixelsize_nm"),
        ({"pixelsize_nm": True}, "states True as pixelsize_nm"),
        ({"pixelsize_nm": -1}, "states -1 as pixelsize_nm"),
        ({"pixelsize_nm": [1, 2, 3]}, "expected 1 or 2 numbers"),
        ({"pixelsize_nm": "wide"}, "states wide as pixelsize_nm"),
        ({"pixelsize_nm": float("nan")}, "states nan as pixelsize_nm"),
        (CAMERA | {"camera": {"roi": [1, 2]}}, "as roi, expected 4 numbers"),
    ],
)
def test_what_is_stated_wrongly_is_named(make_file, metadata, message):
    with pytest.raises(FileFormatError, match=message):
        read(make_file(metadata=metadata))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"frame": np.array([0.5, 1])}, "'frame' must hold whole"),
        ({"photons": [1.0]}, "'photons' has 1 rows, 'x' has 2"),
        ({"x": [1.0, 2.0]}, "column 'x' is the second one that means x"),
        ({"who": np.array([b"a", b"b"])}, "/locs/who holds .*, expected numbers"),
    ],
)
def test_a_column_of_another_kind_is_named(make_file, columns, message):
    with pytest.raises(FileFormatError, match=message):
        read(make_file(COLUMNS | columns))


def test_numbers_of_any_size_are_reckoned_with_in_silence(make_file):
    with pytest.warns(UnusedRowsWarning):
        table = read(make_file({"x_pix": [1e308, 2.5], "y_pix": [4.0, 5.0]}))
    assert table.x.tolist() == [300]


def test_a_region_that_is_none_does_not_count(make_file):
    for roi in ([2, 3, 0, 20], [1e308, 1e308, 1e308, 1e308]):
        table = read(make_file(metadata=CAMERA | {"camera": {"roi": roi}}))
        assert table.field_of_view == (350, 300, 2051, 1051)


def test_a_column_in_another_file_is_not_followed(make_file, tmp_path):
    path = make_file()
    with h5py.File(path, "r+") as file:
        file["locs/secret"] = h5py.ExternalLink("other.h5", "/data")
    with pytest.raises(FileFormatError, match="/locs/secret is a link"):
        read(path)


def test_a_file_without_rows_is_an_empty_table(make_file, is_recognized):
    path = make_file({})
    assert is_recognized(smappy, path)
    assert len(read(path)) == 0


def test_it_is_told_from_other_formats(make_file, tmp_path, is_recognized):
    path = make_file()
    assert [is_recognized(module, path) for module in (smappy, picasso, decode)] == [
        True,
        False,
        False,
    ]
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["locs"] = np.zeros(2, [("x", "f4"), ("y", "f4")])
    assert not is_recognized(smappy, other)
    with pytest.raises(FileFormatError, match="no group /locs of columns, as SMAPpy"):
        read(other)


def test_a_file_that_is_cut_off_anywhere_is_refused(make_file, is_recognized):
    path = make_file()
    content = path.read_bytes()
    for size in [*range(0, len(content), 397), len(content) - 1]:
        path.write_bytes(content[:size])
        assert not is_recognized(smappy, path)
        with pytest.raises(FileFormatError, match=r"locs\.hdf5: the HDF5 file is damaged"):
            read(path)
