"""Images on disk, read back by the libraries that users open them with."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from smlmkit.errors import InvalidInputError, InvalidTypeError, OutputError
from smlmkit.grid import PixelGrid
from smlmkit.images import to_image
from smlmkit.io.images import write_image

NAMES = ["image.ome.zarr", "image.tif", "image.png"]


def make_image(values=None, *, origin=(1000.5, -200.0), pixel_size=12.5, **labels):
    if values is None:
        sides = (*map(len, labels.values()), 30, 40)
        values = np.random.default_rng(0).random(sides, dtype=np.float32)
    return to_image(values, PixelGrid(origin, pixel_size, values.shape[-2:]), **labels)


def content(folder):
    """Give every file below a folder with its bytes."""
    return {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


SLICES = [-150.0, -50.0, 50.0]


def test_a_single_slice_counts_as_thick_as_a_pixel_is_wide(tmp_path):
    stack = make_image(z=[20.0])
    write_image(stack, tmp_path / "stack.zarr")
    write_image(stack, tmp_path / "stack.tif")
    ome = zarr.open_group(tmp_path / "stack.zarr", mode="r").attrs["ome"]
    scale, translation = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    assert (scale["scale"][0], translation["translation"][0]) == (12.5, 20.0)
    with tifffile.TiffFile(tmp_path / "stack.tif") as file:
        assert file.imagej_metadata["spacing"] == 12.5
        assert -file.imagej_metadata["zorigin"] * 12.5 == 20.0


@pytest.mark.parametrize("name", ["stack.zarr", "stack.tif"])
def test_slices_of_unequal_distance_are_refused_by_files_and_drawn_by_pictures(tmp_path, name):
    stack = make_image(z=[-100.0, 0.0, 50.0])
    with pytest.raises(InvalidInputError, match=r"from 50 to 100 nm apart.*one distance"):
        write_image(stack, tmp_path / name)
    assert not list(tmp_path.iterdir())
    write_image(stack, tmp_path / "stack.png")


@settings(deadline=None, max_examples=30)
@given(
    decimals=st.integers(0, 4),
    pixel_size=st.floats(0.1, 1e4),
    corner=st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)),
)
def test_tiff_states_the_scale_to_imagej(decimals, pixel_size, corner):
    pixel_size = round(pixel_size, decimals) or 1.0
    image = make_image(origin=corner, pixel_size=pixel_size)
    with tempfile.TemporaryDirectory() as folder:
        write_image(image, Path(folder, "image.tif"))
        with tifffile.TiffFile(Path(folder, "image.tif")) as file:
            pixels, about, tags = file.asarray(), file.imagej_metadata, file.pages[0].tags
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(pixels, image)
    assert about["unit"] == "nm"
    for axis in "xy":
        numerator, denominator = tags[f"{axis.upper()}Resolution"].value
        assert max(numerator, denominator) < 2**31
        nm_per_pixel = denominator / numerator
        assert nm_per_pixel == pytest.approx(pixel_size, rel=1e-9)
        # ImageJ puts the left edge of pixel n at (n - origin) * nm_per_pixel.
        first_center = (0.5 - about[f"{axis}origin"]) * nm_per_pixel
        assert first_center == pytest.approx(float(image[axis][0]), rel=1e-6, abs=1e-6 * pixel_size)
    assert tags["ResolutionUnit"].value == 1  # none: the unit is ImageJ's


@pytest.mark.parametrize(
    ("labels", "axes", "mode"),
    [
        ({"z": SLICES}, "ZYX", "grayscale"),
        ({"channel": [0, 1]}, "CYX", "composite"),
        ({"channel": range(3)}, "CYX", "composite"),
        ({"channel": [0, 1], "z": SLICES}, "ZCYX", "composite"),
        ({"channel": range(8), "z": SLICES}, "ZCYX", "grayscale"),
        ({"channel": [4]}, "YX", "grayscale"),
        ({"channel": [4], "z": SLICES}, "ZYX", "grayscale"),
    ],
)
def test_tiff_of_a_stack_is_a_hyperstack(tmp_path, labels, axes, mode):
    stack = make_image(**labels)
    write_image(stack, tmp_path / "stack.tif")
    with tifffile.TiffFile(tmp_path / "stack.tif") as file:
        (series,) = file.series
        pixels, about = file.asarray(), file.imagej_metadata
    assert (series.axes, about["mode"], about["hyperstack"]) == (axes, mode, True)
    order = [dim for dim in ("z", "channel", "y", "x") if dim in stack.dims]
    np.testing.assert_array_equal(pixels, stack.transpose(*order).squeeze())
    assert (about.get("slices", 1), about.get("channels", 1)) == (
        stack.sizes.get("z", 1),
        stack.sizes.get("channel", 1),
    )
    assert about["unit"] == "nm"
    if "z" in labels:
        assert (np.arange(3) - about["zorigin"]) * about["spacing"] == pytest.approx(SLICES)
    else:
        assert "spacing" not in about


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [
        ("uint8", "uint8"),
        ("uint16", "uint16"),
        (">u2", "uint16"),
        ("bool", "uint8"),
        ("float16", "float32"),
        ("float64", "float32"),
        (">f4", "float32"),
        ("int8", "float32"),
        ("uint32", "float32"),
        ("int64", "float32"),
    ],
)
def test_tiff_has_a_data_type_of_imagej(tmp_path, dtype, stored):
    values = np.array([[0, 1, 100]], dtype)
    write_image(make_image(values), tmp_path / "image.tiff")
    pixels = tifffile.imread(tmp_path / "image.tiff")
    assert pixels.dtype == stored
    np.testing.assert_array_equal(pixels.reshape(values.shape), values)


def test_tiff_keeps_what_is_not_finite(tmp_path):
    values = np.array([[np.nan, np.inf], [-np.inf, 0.1]])
    write_image(make_image(values), tmp_path / "image.tif")
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "image.tif"), values.astype(np.float32)
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[2**24 + 1]]), "2.24"),
        (np.array([[-(2**63)]]), "2.24"),
        (np.array([[1e39, np.inf]]), "float32"),
        (np.broadcast_to(np.float32(0), (40_000, 30_000)), "4.47 GiB"),
        (np.broadcast_to(np.uint32(0), (2, 30_000, 20_000)), "4.47 GiB"),
        (np.full((2, 1, 1), 2**24 + 1, np.uint32), "2.24"),
    ],
)
def test_tiff_refuses_what_it_cannot_hold(tmp_path, values, message):
    labels = {"z": [0.0, 1.0]} if values.ndim == 3 else {}
    with pytest.raises(InvalidInputError, match=message):
        write_image(make_image(values, **labels), tmp_path / "image.tif")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("pixel_size", [1e-9, 5e-324, 1e13])
def test_tiff_refuses_a_pixel_size_beyond_its_tags(tmp_path, pixel_size):
    image = make_image(np.zeros((1, 1)), origin=(0, 0), pixel_size=pixel_size)
    with pytest.raises(InvalidInputError, match="pixel size"):
        write_image(image, tmp_path / "image.tif")


def test_png_is_a_picture_of_the_image(tmp_path):
    write_image(make_image(np.eye(300, 400)), tmp_path / "image.png")
    with Image.open(tmp_path / "image.png") as picture:
        assert (picture.format, picture.size) == ("PNG", (400, 300))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["complex64", "U3", "datetime64[s]", "object"])
def test_pixels_that_are_no_real_numbers_are_refused(tmp_path, name, dtype):
    with pytest.raises(InvalidTypeError, match="real numbers"):
        write_image(make_image(np.zeros((2, 2)).astype(dtype)), tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["image", "image.jpg", "image.ome.tif", "zarr", "image.png.bak"])
def test_unknown_suffix_lists_what_is_possible(tmp_path, name):
    with pytest.raises(InvalidInputError, match=r"\.zarr .*\.tif .*\.png .*ome-zarr, tiff, png"):
        write_image(make_image(), tmp_path / name)


def test_unknown_format_lists_what_is_possible(tmp_path):
    with pytest.raises(InvalidInputError, match=r"'jpeg' is not known.*ome-zarr, tiff, png"):
        write_image(make_image(), tmp_path / "image.png", format="jpeg")


def test_format_overrules_the_suffix(tmp_path):
    write_image(make_image(), tmp_path / "image.PNG", format="tiff")
    write_image(make_image(), str(tmp_path / "IMAGE.TIF"))
    assert (tmp_path / "image.PNG").read_bytes() == (tmp_path / "IMAGE.TIF").read_bytes()


def test_what_is_no_image_is_refused(tmp_path):
    with pytest.raises(InvalidTypeError, match="ndarray"):
        write_image(np.zeros((2, 2)), tmp_path / "image.png")


@pytest.mark.parametrize("name", NAMES)
def test_existing_output_is_replaced_only_on_demand(tmp_path, name):
    path = tmp_path / name
    write_image(make_image(), path)
    before = content(tmp_path)
    other = make_image(np.ones((20, 20), np.float32))
    with pytest.raises(OutputError, match="exists already"):
        write_image(other, path)
    assert content(tmp_path) == before
    write_image(other, path, overwrite=True)
    after = content(tmp_path)
    assert after != before
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert not list(tmp_path.iterdir())
    write_image(other, path)
    assert content(tmp_path) == after


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_of_other_things_is_never_replaced(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.tex").write_text("years of work")
    before = content(tmp_path)
    with pytest.raises(OutputError, match="folder"):
        write_image(make_image(), tmp_path / name, overwrite=True)
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_takes_no_files_is_named(tmp_path, name):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(OutputError, match=folder.name):
            write_image(make_image(), folder / name)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="/proc refuses files to root, too")
@pytest.mark.parametrize("name", NAMES)
def test_an_unwritable_folder_is_an_output_error(name):
    with pytest.raises(OutputError, match=f"cannot write /proc/{name}"):
        write_image(make_image(), Path("/proc", name))


ON_A_FULL_DISK = """
import resource, signal, sys
import numpy as np
from smlmkit.errors import OutputError
from smlmkit.grid import PixelGrid
from smlmkit.images import to_image
from smlmkit.io.images import write_image

noise = np.random.default_rng(0).random((300, 300), dtype=np.float32)
image = to_image(noise, PixelGrid((0, 0), 10, noise.shape))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for path in sys.argv[1:]:
    try:
        write_image(image, path, overwrite=True)
    except OutputError as error:
        assert path in str(error), error
    else:
        raise AssertionError(f"{path} was written")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a file size limit needs POSIX")
def test_a_full_disk_leaves_the_old_output_and_nothing_else(tmp_path):
    for name in NAMES:
        write_image(make_image(), tmp_path / name)
    before = content(tmp_path)
    paths = [tmp_path / f"{prefix}{name}" for name in NAMES for prefix in ("", "new-")]
    subprocess.run([sys.executable, "-c", ON_A_FULL_DISK, *paths], check=True)
    assert content(tmp_path) == before


def test_import_is_light():
    code = (
        "import sys, smlmkit.io.images, smlmkit.plotting; "
        "heavy = {'matplotlib', 'tifffile', 'zarr', 'yaozarrs', 'dask', 'torch'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
