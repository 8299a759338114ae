"""Pixels become pictures that say what the pixels said."""

import base64
import io
import math
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from smlmkit import PixelGrid, to_image
from smlmkit.errors import FileFormatError
from smlmkit.io.ome_zarr import read_image
from smlmkit.report.charts import BOTTOM, LEFT, RIGHT, TOP, highest_frequency, make_chart
from smlmkit.report.pictures import code_pixels, make_crop, make_thumbnail
from smlmkit.report.results import PixelBox, read_results


def pixels_of(source):
    with Image.open(io.BytesIO(base64.b64decode(source.split(",", 1)[1]))) as picture:
        return np.array(picture)


def decode(coded):
    return coded.top * (pixels_of(coded.source) / 255) ** 2


def image_of(values):
    return to_image(values, PixelGrid((0, 0), 10, values.shape))


def read_crop(results, most_bytes=1e9):
    acquisition = read_results(results.path).acquisitions[0]
    return make_crop(acquisition, read_image(acquisition.image), most_bytes)


@given(arrays(np.float32, (5, 7), elements=st.floats(0, 100, width=32)))
def test_codes_are_exact_to_half_a_step(values):
    coded = code_pixels(values)
    expected = np.sqrt(values.clip(max=coded.top))
    assert_allclose(np.sqrt(decode(coded)), expected, atol=0.502 * math.sqrt(coded.top) / 255)


def test_small_counts_survive_beside_a_bead():
    counts = np.random.default_rng(0).poisson(1.5, (200, 200)).astype(np.float32)
    counts[100, 100] = 1e6
    decoded = decode(code_pixels(counts))
    assert_array_equal(np.rint(decoded)[counts < 1e6], counts[counts < 1e6])
    assert decoded[100, 100] < 1e3


def test_what_is_no_density_is_black():
    values = np.array([[np.nan, np.inf, -3, 0, 2]], np.float32)
    assert_array_equal(pixels_of(code_pixels(values).source), [[0, 0, 0, 0, 255]])
    assert code_pixels(np.zeros((2, 2), np.float32)).top == 1


def test_a_thumbnail_is_fitted_into_its_frame_with_the_crop_in_its_place():
    image = image_of(np.ones((100, 400), np.float32))
    thumbnail = make_thumbnail(image, image)
    assert (thumbnail.left, thumbnail.top) == (0, 0.375)
    assert (thumbnail.width, thumbnail.height) == (1, 0.25)
    assert thumbnail.place(PixelBox(50, 100, 75, 300)) == (0.25, 0.5, 0.5, 0.0625)
    assert thumbnail.bar_label == "1 µm"
    assert thumbnail.bar == 100 / 400


def test_a_thumbnail_shows_the_means_of_a_large_image():
    values = np.zeros((1030, 1545), np.float32)
    values[:515, 800:] = 1
    image = image_of(values)
    shown = pixels_of(make_thumbnail(image, image).source)[..., 0]
    assert shown.shape == (257, 386)
    assert shown[:120, 210:].min() > 200
    assert shown[140:].max() < 30
    assert shown[:, :190].max() < 30


def test_a_crop_shows_the_same_place_before_and_after(results):
    before, after = results.add("cell", shape=(120, 150), crop=(10, 20, 90, 140))
    crop = read_crop(results)
    assert crop.box == (10, 20, 90, 140)
    assert_array_equal(np.rint(decode(crop.before)), before[10:90, 20:140])
    assert_allclose(decode(crop.after), after[10:90, 20:140], atol=0.02 * crop.after.top)


def test_a_crop_that_is_too_large_keeps_its_middle(results):
    before, _ = results.add("cell", shape=(400, 400), crop=(0, 100, 400, 400))
    crop = read_crop(results, 40_000)
    assert 20_000 < crop.n_bytes <= 40_000
    top, left, bottom, right = crop.box
    assert abs((top + bottom) / 2 - 200) <= 1
    assert abs((left + right) / 2 - 250) <= 1
    assert_array_equal(np.rint(decode(crop.before)), before[top:bottom, left:right])


@pytest.mark.parametrize("most_bytes", [1, -1000])
def test_a_crop_never_gets_too_small_to_see(results, most_bytes):
    results.add("cell", shape=(400, 400))
    assert 40 < max(read_crop(results, most_bytes).box.shape) <= 64


def test_raw_counts_of_another_shape_are_refused(results):
    results.add("cell", shape=(120, 120), crop=(0, 0, 60, 60))
    np.savez(results.path / "records/cell.npz", before=np.zeros((60, 61), np.float32))
    with pytest.raises(FileFormatError, match=r"should be float32 of shape \(60, 60\)"):
        read_crop(results)


def test_raw_counts_that_would_run_code_are_refused(results):
    results.add("cell", shape=(120, 120), crop=(0, 0, 60, 60))
    path = results.path / "records/cell.npz"
    np.savez(path, before=np.full((60, 60), None), allow_pickle=True)
    with pytest.raises(FileFormatError, match="not object of shape"):
        read_crop(results)


def test_raw_counts_that_promise_more_than_there_is_are_refused(results):
    results.add("cell", shape=(120, 120), crop=(0, 0, 60, 60))
    path = results.path / "records/cell.npz"
    with zipfile.ZipFile(path) as archive:
        whole = archive.read("before.npy")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("before.npy", whole[:-100])
    with pytest.raises(FileFormatError, match="cannot read the raw counts"):
        read_crop(results)
    path.write_bytes(b"PK")
    with pytest.raises(FileFormatError, match="cannot read the raw counts"):
        read_crop(results)


def test_an_image_of_another_shape_is_refused(results):
    results.add("cell", shape=(120, 120), crop=(0, 0, 60, 60), height_px=121)
    with pytest.raises(FileFormatError, match=r"\(121, 120\) pixels, the image has \(120, 120\)"):
        read_crop(results)


def test_a_chart_lies_where_its_numbers_are(results):
    curve = {
        "frequency_per_nm": [0, 0.01, 0.02, 0.04],
        "correlation": [1, 1, None, -0.1],
        "threshold": None,
        "resolution_nm": 50.0,
    }
    results.add("cell", shape=(120, 120), frc={"raw": curve, "held_out": None})
    acquisitions = read_results(results.path).acquisitions
    assert highest_frequency(acquisitions) == 0.04
    (line,) = make_chart(acquisitions[0], 0.04).lines
    quarter = LEFT + (RIGHT - LEFT) / 4
    assert line.path == f"M{quarter:.1f} {TOP:.1f} L{RIGHT:.1f} {BOTTOM:.1f}"
    assert line.crossing == (LEFT + RIGHT) / 2
    assert line.threshold == ""
    ticks = make_chart(acquisitions[0], 0.04).x_ticks
    assert [label for _, label in ticks] == ["0", "10", "20", "30", "40"]
    assert ticks[1][0] == quarter


def test_a_long_curve_is_the_mean_of_neighbours(results):
    curve = {
        "frequency_per_nm": np.linspace(0, 0.05, 3201).tolist(),
        "correlation": ([0.5] * 3201),
    }
    curve["correlation"][2::2] = [0.3] * 1600
    results.add("cell", shape=(120, 120), frc={"raw": curve, "held_out": None})
    acquisition = read_results(results.path).acquisitions[0]
    path = make_chart(acquisition, 0.05).lines[0].path
    heights = {point.split()[1] for point in path[1:].split(" L")}
    assert path.count("L") == 159
    assert heights == {f"{BOTTOM - (BOTTOM - TOP) * 0.5 / 1.1:.1f}"}


def test_an_acquisition_without_curves_has_no_chart(results):
    results.add_failed("a", "torn")
    acquisitions = read_results(results.path).acquisitions
    assert make_chart(acquisitions[0], highest_frequency(acquisitions)) is None
