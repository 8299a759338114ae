"""OME-Zarr: pyramids as other readers see them, tiles in any order, and folders of strangers."""

import json
import math
import os
import random
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from yaozarrs import validate_zarr_store

from smlmkit.errors import FileFormatError, InvalidInputError, InvalidTypeError, OutputError
from smlmkit.grid import PixelGrid
from smlmkit.images import grid_of, to_image
from smlmkit.io.image_layout import ImageLayout, layout_of
from smlmkit.io.ome_zarr import open_level, read_image, shard_files, write_ome_zarr
from smlmkit.io.ome_zarr_creation import create_ome_zarr
from smlmkit.io.pyramids import halve, level_shapes

NGFF = ["0.5", "0.4"]
SLICES = [-150.0, -50.0, 50.0]
# Levels of 1027 x 515, 514 x 258 and 257 x 129: sides that are odd, then even, then odd.
SIDES = (1027, 515)


def make_image(values=None, *, origin=(1000.5, -200.0), pixel_size=12.5, **labels):
    if values is None:
        sides = (*map(len, labels.values()), 30, 40)
        values = np.random.default_rng(0).random(sides, dtype=np.float32)
    return to_image(values, PixelGrid(origin, pixel_size, values.shape[-2:]), **labels)


def make_large(**labels):
    sides = (*map(len, labels.values()), *SIDES)
    return make_image(np.random.default_rng(1).random(sides, dtype=np.float32), **labels)


def read_with_ome_zarr(path):
    """Give pixels and coordinates of every level as the reference reader of OME-Zarr finds them."""
    with warnings.catch_warnings():
        # What the reader and its dependencies deprecate at import is not ours to judge.
        warnings.simplefilter("ignore")
        from ome_zarr.io import parse_url
        from ome_zarr.reader import Reader

        (node,) = Reader(parse_url(path))()
        pixels = [level.compute() for level in node.data]
    axes = node.metadata["axes"]
    for axis in axes:
        of_channels = axis["name"] == "channel"
        assert axis["type"] == ("channel" if of_channels else "space")
        assert axis.get("unit") == (None if of_channels else "nanometer")
    places = [
        {
            axis["name"]: first + np.arange(side) * step
            for axis, first, side, step in zip(
                axes, translation["translation"], level.shape, scale["scale"], strict=True
            )
        }
        for level, (scale, translation) in zip(
            pixels, node.metadata["coordinateTransformations"], strict=True
        )
    ]
    return pixels, places


def content(folder):
    """Give every file below a folder with its bytes."""
    return {
        file.relative_to(folder): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def means_of_what_is_there(image, statistic="mean"):
    """Halve an image by xarray, which pads odd sides with NaN and leaves these out."""
    coarse = image.coarsen(y=2, x=2, boundary="pad")
    return getattr(coarse, statistic)()


@settings(deadline=None, max_examples=8)
@given(
    values=npst.arrays(
        st.sampled_from([np.float32, np.float64, np.uint8, np.int32, np.dtype(">f4"), np.bool_]),
        npst.array_shapes(min_dims=2, max_dims=2, max_side=9),
    ),
    corner=st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)),
    pixel_size=st.floats(0.1, 1e4),
    ngff=st.sampled_from(NGFF),
)
def test_every_value_and_place_is_kept(values, corner, pixel_size, ngff):
    image = make_image(values, origin=corner, pixel_size=pixel_size)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "image.ome.zarr")
        write_ome_zarr(image, path, ngff=ngff)
        validate_zarr_store(path)
        (pixels,), (places,) = read_with_ome_zarr(path)
        reread = read_image(path).load()
    np.testing.assert_array_equal(pixels, values)
    assert list(places) == ["y", "x"]
    for axis, centres in places.items():
        np.testing.assert_allclose(centres, image[axis], rtol=1e-12, atol=1e-6 * pixel_size)
    xr.testing.assert_identical(reread, image)
    assert grid_of(reread) == grid_of(image)


@pytest.mark.parametrize("ngff", NGFF)
def test_coordinates_are_kept_to_the_last_bit(tmp_path, ngff):
    part = make_image(origin=(1e6 / 3, -7.1), pixel_size=13.3)[7:, 5:]
    assert not np.array_equal(grid_of(part).centers_y, part.y)
    write_ome_zarr(part, tmp_path / "part.zarr", ngff=ngff)
    # Otherwise xarray would align the two to nothing.
    assert (read_image(tmp_path / "part.zarr") - part).shape == part.shape


@pytest.mark.parametrize("ngff", NGFF)
@pytest.mark.parametrize(
    "labels",
    [
        {"channel": [2, 5], "z": SLICES},
        {"channel": [0], "z": [0.0]},
        {"z": [1e6 + step / 3 for step in range(4)]},
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_stacks_are_kept(tmp_path, labels, dtype, ngff):
    stack = make_image(**labels)
    stack = (stack * np.iinfo(dtype).max if dtype != "float32" else stack).astype(dtype)
    path = tmp_path / "stack.ome.zarr"
    write_ome_zarr(stack, path, ngff=ngff)
    validate_zarr_store(path)
    (pixels,), (places,) = read_with_ome_zarr(path)
    np.testing.assert_array_equal(pixels, stack)
    assert list(places) == [*labels, "y", "x"]
    for axis, centres in places.items():
        expected = np.arange(len(stack[axis])) if axis == "channel" else stack[axis]
        np.testing.assert_allclose(centres, expected, rtol=1e-12)
    reread = read_image(path)
    xr.testing.assert_identical(reread.load(), stack)
    assert reread.dtype == dtype
    assert grid_of(reread, stacks=True) == grid_of(stack, stacks=True)


@pytest.mark.parametrize("ngff", NGFF)
@pytest.mark.parametrize(
    ("labels", "method"), [({}, "mean"), ({"channel": [1, 4], "z": [-50.0]}, "sum")]
)
def test_every_level_is_what_every_reader_sees(tmp_path, labels, method, ngff):
    image = make_large(**labels)
    path = tmp_path / "image.ome.zarr"
    write_ome_zarr(image, path, pyramid=method, ngff=ngff)
    validate_zarr_store(path)
    pixels, places = read_with_ome_zarr(path)
    tree = xr.open_datatree(path, engine="zarr", consolidated=False, mask_and_scale=False)
    assert [level.shape[-2:] for level in pixels] == [SIDES, (514, 258), (257, 129)]
    expected = image
    for number, level in enumerate(pixels):
        np.testing.assert_allclose(level, expected, rtol=1e-6)
        reread = read_image(path, number)
        np.testing.assert_array_equal(reread, level)
        xr.testing.assert_equal(tree[f"scale{number}"]["density"].load(), reread)
        for dim in image.dims:
            shown = np.arange(len(reread[dim])) if dim == "channel" else reread[dim]
            np.testing.assert_allclose(places[number][dim], shown, rtol=1e-12)
        # A pixel lies where the pixels of the finest level lie that it stands for.
        for dim in "yx":
            fine = image[dim].to_numpy()
            n_whole = len(fine) >> number
            middles = fine[: n_whole << number].reshape(n_whole, -1).mean(axis=1)
            np.testing.assert_allclose(reread[dim][:n_whole], middles, rtol=1e-12)
        assert reread.attrs["pixel_size"] == 12.5 * 2**number
        expected = means_of_what_is_there(expected, method)


IN_NAPARI = """
import json, sys
import numpy as np
from napari_ome_zarr import napari_get_reader

((levels, options, kind),) = napari_get_reader(sys.argv[1])(sys.argv[1])
np.savez(sys.argv[2], *[np.asarray(level) for level in levels])
seen = {"kind": kind, **{name: options[name] for name in ("axis_labels", "units", "scale")}}
with open(sys.argv[3], "w") as file:
    json.dump(seen, file)
"""


@pytest.mark.skipif(
    "SMLMKIT_TEST_NAPARI" not in os.environ,
    reason="SMLMKIT_TEST_NAPARI names no Python that has napari-ome-zarr",
)
@pytest.mark.parametrize("ngff", NGFF)
def test_every_level_is_what_napari_sees(tmp_path, ngff):
    path = tmp_path / "stack.ome.zarr"
    write_ome_zarr(make_large(z=SLICES), path, ngff=ngff)
    outputs = [tmp_path / "levels.npz", tmp_path / "options.json"]
    # Its pytest plugin warns on import, so napari lives in an environment of its own.
    python = os.environ["SMLMKIT_TEST_NAPARI"]
    subprocess.run([python, "-c", IN_NAPARI, path, *outputs], check=True, capture_output=True)
    with np.load(outputs[0]) as levels:
        assert len(levels) == 3
        for number in range(3):
            np.testing.assert_array_equal(levels[f"arr_{number}"], read_image(path, number))
    # napari-ome-zarr 0.10 looks at the first transformation only: no translation arrives.
    assert json.loads(outputs[1].read_text()) == {
        "kind": "image",
        "axis_labels": ["z", "y", "x"],
        "units": ["nanometer"] * 3,
        "scale": [100.0, 12.5, 12.5],
    }


@settings(deadline=None, max_examples=60)
@given(
    values=npst.arrays(
        st.sampled_from([np.float32, np.float64, np.uint8, np.int16]),
        npst.array_shapes(min_dims=2, max_dims=4, max_side=7),
        elements=st.integers(0, 60),
    ),
    method=st.sampled_from(["mean", "sum"]),
)
def test_halving_is_the_mean_or_sum_of_what_is_there(values, method):
    dims = ["a", "b", "y", "x"][-values.ndim :]
    expected = means_of_what_is_there(xr.DataArray(values.astype(float), dims=dims), method)
    halved = halve(values, method)
    assert halved.dtype == values.dtype
    if values.dtype.kind in "iu":
        expected = np.rint(expected)
    np.testing.assert_allclose(halved, expected, rtol=1e-7)


@pytest.mark.parametrize(
    ("values", "method", "expected"),
    [
        (np.full((2, 2), 200, np.uint8), "sum", 255),
        (np.full((2, 2), -100, np.int8), "sum", -128),
        (np.full((2, 2), 2**63, np.uint64), "sum", 2**64 - 2048),
        (np.full((2, 2), 3e38, np.float32), "mean", np.float32(3e38)),
        (np.array([[True, False]]), "sum", True),
        (np.array([[True, False], [True, True]]), "mean", True),
        (np.array([[np.inf, -np.inf]]), "mean", np.nan),
        (np.array([[np.inf, 1.0]]), "sum", np.inf),
        (np.array([[np.nan, 1.0]]), "mean", np.nan),
    ],
)
def test_halving_at_the_ends_of_a_type(values, method, expected):
    halved = halve(values, method)
    np.testing.assert_array_equal(halved, [[expected]])
    assert halved.dtype == values.dtype


def test_levels_end_where_a_screen_does():
    assert level_shapes((512, 512)) == [(512, 512)]
    assert level_shapes((513, 1)) == [(513, 1), (257, 1)]
    assert level_shapes((7, 1, 1025)) == [(1, 1025), (1, 513), (1, 257)]
    assert len(level_shapes((10**6, 3))) == 12


def test_sums_keep_the_counts(tmp_path):
    counts = np.random.default_rng(0).poisson(0.1, SIDES).astype(np.float32)
    write_ome_zarr(make_image(counts), tmp_path / "counts.zarr", pyramid="sum")
    for level in range(3):
        assert float(read_image(tmp_path / "counts.zarr", level).sum()) == counts.sum()


@pytest.mark.parametrize(
    ("units", "pyramid", "of_level"),
    [
        ("localizations per pixel", "mean", "localizations per pixel of 12.5 nm"),
        ("localizations per pixel", "sum", "localizations per pixel"),
        ("nm", "mean", "nm"),
        (None, "mean", None),
    ],
)
def test_levels_say_what_their_values_mean(tmp_path, units, pyramid, of_level):
    image = make_large().assign_attrs(units=units)
    write_ome_zarr(image, tmp_path / "image.zarr", pyramid=pyramid)
    assert read_image(tmp_path / "image.zarr").attrs == {"units": units, "pixel_size": 12.5}
    assert read_image(tmp_path / "image.zarr", 1).attrs == {"units": of_level, "pixel_size": 25.0}
    (multiscale,) = zarr.open_group(tmp_path / "image.zarr").attrs["ome"]["multiscales"]
    assert multiscale["type"] == pyramid
    assert f"the {pyramid} of those that are there" in multiscale["metadata"]["description"]


def test_one_level_alone(tmp_path):
    write_ome_zarr(make_large(), tmp_path / "image.zarr", pyramid=None)
    (multiscale,) = zarr.open_group(tmp_path / "image.zarr").attrs["ome"]["multiscales"]
    assert not {"type", "metadata"} & set(multiscale)
    assert read_with_ome_zarr(tmp_path / "image.zarr")[0][0].shape == SIDES
    with pytest.raises(InvalidInputError, match="level must be a whole number from 0 to 0, got 1"):
        read_image(tmp_path / "image.zarr", 1)


def shards_of(shape, side):
    return [
        (slice(top, min(top + side, shape[-2])), slice(left, min(left + side, shape[-1])))
        for top in range(0, shape[-2], side)
        for left in range(0, shape[-1], side)
    ]


@pytest.mark.parametrize(("ngff", "shard"), [("0.5", 512), ("0.5", 200), ("0.4", 512)])
def test_tiles_in_any_order_give_the_bytes_of_the_whole(tmp_path, ngff, shard):
    stack = make_large()
    options = {"ngff": ngff, "shard": shard, "pyramid": "mean"}
    write_ome_zarr(stack, tmp_path / "whole", **options)
    tiled = tmp_path / "tiled"
    create_ome_zarr(tiled, layout_of(stack), **options)
    for level, shape in enumerate(level_shapes(stack.shape)):
        boxes = shards_of(shape, shard)
        random.Random(level).shuffle(boxes)
        for box in boxes:
            if level:
                double = [slice(2 * part.start, 2 * part.stop) for part in box]
                pixels = halve(open_level(tiled, level - 1, "r")[..., *double], "mean")
            else:
                pixels = stack[..., *box].to_numpy()
            open_level(tiled, level)[..., *box] = pixels
    assert content(tiled) == content(tmp_path / "whole")


@pytest.mark.parametrize("ngff", NGFF)
def test_files_of_shards(tmp_path, ngff):
    stack = make_large(channel=[3], z=[0.0, 1.0])
    stack[..., :512, :512] = 0  # nothing is written of it
    path = tmp_path / "stack.zarr"
    write_ome_zarr(stack, path, ngff=ngff, shard=512)
    boxes = shards_of(stack.shape, 512)
    files = [shard_files(open_level(path, 0), box) for box in boxes]
    assert [len(of_box) for of_box in files] == [2] * len(boxes)
    expected = {file for of_box in files[1:] for file in of_box}
    written = {file for file in (path / "scale0" / "density").rglob("*") if file.is_file()}
    assert {file for file in written if file.name.isdigit()} == expected
    for file in files[2]:
        file.unlink()
    gone = stack.copy()
    gone[..., *boxes[2]] = 0
    np.testing.assert_array_equal(read_image(path), gone)


def test_shards_and_chunks_have_their_sides(tmp_path):
    layout = ImageLayout(PixelGrid((0, 0), 10, (3000, 300)), z=(1.0, 2.0))
    create_ome_zarr(tmp_path / "new", layout)
    assert [open_level(tmp_path / "new", level).shards[1:] for level in range(4)] == [
        (1024, 512),
        (1024, 150),
        (768, 75),
        (512, 38),
    ]
    assert open_level(tmp_path / "new", 0).chunks == (1, 256, 256)
    create_ome_zarr(tmp_path / "old", layout, ngff="0.4")
    old = open_level(tmp_path / "old", 0)
    assert (old.chunks, old.shards) == ((1, 512, 300), None)


def test_a_layout_is_what_the_image_says(tmp_path):
    stack = make_image(channel=[2, 5], z=SLICES)
    layout = layout_of(stack)
    assert (layout.dims, layout.shape) == (stack.dims, stack.shape)
    for dim, places in layout.coordinates.items():
        np.testing.assert_allclose(places, stack[dim], rtol=1e-15)
    create_ome_zarr(tmp_path / "empty", layout, about={"n_points": np.int64(7)})
    empty = read_image(tmp_path / "empty").load()
    assert not empty.any()
    xr.testing.assert_allclose(empty, stack * 0)
    assert empty.attrs == stack.attrs
    about = zarr.open_group(tmp_path / "empty").attrs["smlmkit"]
    assert (about["n_points"], about["units"], about["pixel_size"]) == (7, stack.units, 12.5)


def test_a_field_of_any_size_costs_nothing_until_it_is_written(tmp_path):
    sides = (1_000_000, 700_001)
    path = tmp_path / "large.zarr"
    create_ome_zarr(path, ImageLayout(PixelGrid((0, 0), 10, sides)))
    assert sum(map(len, content(path).values())) < 20e6
    open_level(path, 0)[-1:, -1:] = 3.0
    image = read_image(path)
    assert image.shape == sides
    corner = image[-2:, -2:].load()
    np.testing.assert_array_equal(corner, [[0, 0], [0, 3]])
    assert float(corner.x[-1]) == 7_000_005.0


def test_pixels_are_read_when_used(tmp_path):
    path = tmp_path / "image.zarr"
    write_ome_zarr(make_large(), path, shard=512)
    (damaged,) = shard_files(open_level(path, 0), (slice(512, 1024), slice(512, 515)))
    damaged.write_bytes(b"no shard")
    np.testing.assert_array_equal(read_image(path)[:512], make_large()[:512])
    with pytest.raises(Exception, match=r"(?i)index|crc|checksum|range"):
        read_image(path).load()


@pytest.mark.parametrize("ngff", NGFF)
def test_images_of_dask_are_written_piece_by_piece(tmp_path, ngff):
    image = make_large()
    write_ome_zarr(image, tmp_path / "whole.zarr", ngff=ngff)
    write_ome_zarr(image.chunk({"y": 300, "x": 100}), tmp_path / "dask.zarr", ngff=ngff)
    assert content(tmp_path / "dask.zarr") == content(tmp_path / "whole.zarr")


def test_what_is_not_finite_is_kept(tmp_path):
    values = np.zeros((1030, 1025), np.float32)
    values[0, 0], values[-1, -1], values[500, 7] = 3, np.nan, -np.inf
    write_ome_zarr(make_image(values), tmp_path / "image.zarr")
    np.testing.assert_array_equal(read_with_ome_zarr(tmp_path / "image.zarr")[0][0], values)


@pytest.mark.parametrize("ngff", NGFF)
def test_attributes_are_kept_as_valid_json(tmp_path, ngff):
    image = make_image().assign_attrs(
        units="photons",
        method={"name": "akde", "scale": np.float32(2), "window": np.arange(2)},
        resolution=math.nan,
        grid=PixelGrid((0, 0), 1, (1, 1)),
    )
    write_ome_zarr(image, tmp_path / "image.zarr", ngff=ngff)
    attributes = read_image(tmp_path / "image.zarr").attrs
    assert attributes["units"] == "photons"
    assert attributes["method"] == {"name": "akde", "scale": 2.0, "window": [0, 1]}
    assert attributes["resolution"] == "nan"
    assert attributes["grid"].startswith("PixelGrid(")


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("density", "density"),
        (None, "image"),
        ("", "image"),
        ("X", "image"),
        ("../../escape", "escape"),
        ("FRC resolution (nm)", "FRC_resolution_nm"),
        ("密度", "image"),
        ("zarr.json", "zarr_json"),
        ("n" * 300, "n" * 100),
    ],
)
def test_any_name_is_kept_and_makes_a_folder(tmp_path, name, folder):
    image = make_image().rename(name)
    write_ome_zarr(image, tmp_path / "image.zarr")
    assert (tmp_path / "image.zarr" / "scale0" / folder / "zarr.json").is_file()
    xr.testing.assert_identical(read_image(tmp_path / "image.zarr").load(), image)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ngff": "0.6"}, "ngff must be one of '0.5', '0.4', got '0.6'"),
        ({"pyramid": "median"}, "pyramid must be one of 'mean', 'sum', None, got 'median'"),
        ({"shard": 300}, "shard must be a multiple of 256 or less, got 300"),
        ({"shard": 768, "ngff": "0.4"}, "shard must be a multiple of 512 or less, got 768"),
        ({"shard": 0}, "shard must be a whole number of at least 1, got 0"),
    ],
)
def test_unknown_options_are_refused(tmp_path, options, message):
    with pytest.raises(InvalidInputError, match=message):
        create_ome_zarr(tmp_path / "image.zarr", layout_of(make_image()), **options)
    with pytest.raises(InvalidInputError, match="method must be one of 'mean', 'sum', got 'max'"):
        halve(np.zeros((2, 2)), "max")
    assert not list(tmp_path.iterdir())


def test_what_could_not_be_read_again_is_refused(tmp_path):
    huge = ImageLayout(PixelGrid((0, 0), 1, (2**24 + 1, 1)))
    with pytest.raises(InvalidInputError, match="at most 16,777,216 pixels a side"):
        create_ome_zarr(tmp_path / "image.zarr", huge)
    with pytest.raises(InvalidInputError, match=r"from 50 to 100 nm apart"):
        write_ome_zarr(make_image(z=[-100.0, 0.0, 50.0]), tmp_path / "image.zarr")
    with pytest.raises(InvalidTypeError, match="ndarray"):
        write_ome_zarr(np.zeros((2, 2)), tmp_path / "image.zarr")
    with pytest.raises(InvalidTypeError, match="real numbers of at most 64 bits, not complex64"):
        write_ome_zarr(make_image().astype(np.complex64), tmp_path / "image.zarr")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    with pytest.raises(OutputError, match="exists already"):
        create_ome_zarr(tmp_path, layout_of(make_image()))
    assert not list(tmp_path.iterdir())


def edit(path, change):
    """Change JSON in a file by a function that is given its content."""
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def pad(path):
    path.write_text(path.read_text() + " " * 2**24)


def in_ome(change):
    def sabotage(path):
        edit(path / "zarr.json", lambda group: change(group["attributes"]["ome"]["multiscales"][0]))

    return sabotage


def in_array(name, **entries):
    def sabotage(path):
        edit(path / "scale0" / name / "zarr.json", lambda array: array.update(entries))

    return sabotage


def level_path(path):
    return in_ome(lambda multiscale: multiscale["datasets"][0].update(path=path))


def chunk_grid(*sides):
    return {"name": "regular", "configuration": {"chunk_shape": sides}}


def transformation(number, **entries):
    return in_ome(
        lambda multiscale: multiscale["datasets"][0]["coordinateTransformations"][number].update(
            entries
        )
    )


def as_link(name):
    def sabotage(path):
        (path / name).rename(path.parent / "elsewhere")
        (path / name).symlink_to(path.parent / "elsewhere")

    return sabotage


def with_index_of_its_own(path):
    level = zarr.open_group(path / "scale0")
    level.create_array("a", shape=(3,), dtype=float, dimension_names=["a"])


SABOTAGE = {
    "nothing there": shutil.rmtree,
    "a file": lambda path: (shutil.rmtree(path), path.write_text("{}")),
    "empty": lambda path: (shutil.rmtree(path), path.mkdir()),
    "foreign Zarr": lambda path: zarr.open_group(path, mode="w"),
    "an array": lambda path: zarr.create_array(path, shape=(9, 9), dtype="u1", overwrite=True),
    "no JSON": lambda path: (path / "zarr.json").write_text("{"),
    "deep JSON": lambda path: (path / "zarr.json").write_text("[" * 10**6),
    "long JSON": lambda path: pad(path / "zarr.json"),
    "long JSON below": lambda path: pad(path / "scale0" / "x" / "zarr.json"),
    "no image": lambda path: edit(path / "zarr.json", lambda group: group.update(attributes={})),
    "no level": in_ome(lambda multiscale: multiscale.update(datasets=[])),
    "wrong kind": in_ome(lambda multiscale: multiscale.update(datasets=7)),
    "parent": level_path("../other/scale0/density"),
    "absolute": level_path("/etc"),
    "number as path": level_path(0),
    "missing level": level_path("scale9/density"),
    "coordinates as pixels": level_path("scale0/x"),
    "unknown axes": in_ome(lambda multiscale: multiscale["axes"][0].update(name="t")),
    "swapped axes": in_ome(lambda multiscale: multiscale["axes"].reverse()),
    "other scale": transformation(0, scale=[12.5, 13.0]),
    "negative scale": transformation(0, scale=[-12.5, 12.5]),
    "text as scale": transformation(0, scale=["a", "b"]),
    "other translation": transformation(1, translation=[1006.75, -187.5]),
    "no translation": in_ome(
        lambda multiscale: multiscale["datasets"][0]["coordinateTransformations"].pop()
    ),
    "other pixel size": in_array("density", attributes={"pixel_size": 25.0}),
    "no pixel size": in_array("density", attributes={}),
    "huge image": in_array("density", shape=[10**12, 10**12]),
    "huge coordinates": in_array("x", shape=[10**12]),
    "huge both": lambda path: (
        in_array("density", shape=[30, 10**12])(path),
        in_array("x", shape=[10**12])(path),
    ),
    "huge chunk of coordinates": in_array("x", chunk_grid=chunk_grid(10**12)),
    "huge shards": in_array("density", chunk_grid=chunk_grid(30 * 10**6, 40 * 10**6)),
    "negative shape": in_array("density", shape=[-30, 40]),
    "other dims": in_array("density", dimension_names=["a", "b"]),
    "more dims": in_array("density", shape=[1, 30, 40]),
    "complex": in_array("density", data_type="complex64", fill_value=[0.0, 0.0]),
    "unknown codec": in_array("density", codecs=[{"name": "pickle"}]),
    "missing coordinates": lambda path: shutil.rmtree(path / "scale0" / "x"),
    "other array": with_index_of_its_own,
    "damaged coordinates": lambda path: (path / "scale0/x/c/0").write_bytes(b"no chunk"),
    "link to metadata": as_link("zarr.json"),
    "link to level": as_link("scale0"),
    "link to array": as_link("scale0/density"),
    "link to pixels": as_link("scale0/density/c/0/0"),
}


# What would fail later, too, but only after it has cost memory.
EARLY = {
    "huge both": r"an image of shape \(30, 10{12}\)",
    "huge coordinates": r"x of shape \(10{12},\)",
    "huge chunk of coordinates": r"chunks of shape \(10{12},\)",
    "other dims": r"dims \('a', 'b'\), but axes",
}


@pytest.mark.parametrize("how", SABOTAGE)
def test_folders_of_strangers_are_not_trusted(tmp_path, how):
    path = tmp_path / "image.zarr"
    write_ome_zarr(make_image(), path)
    SABOTAGE[how](path)
    with pytest.raises(FileFormatError, match=EARLY.get(how, r"image\.zarr")):
        read_image(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_does_not_hang_the_reader(tmp_path):
    path = tmp_path / "image.zarr"
    write_ome_zarr(make_image(), path)
    for name in ("zarr.json", "scale0/x/c/0"):
        (path / name).rename(tmp_path / "kept")
        os.mkfifo(path / name)
        with pytest.raises(FileFormatError, match="not followed"):
            read_image(path)
        (tmp_path / "kept").rename(path / name)
    read_image(path)


@pytest.mark.parametrize("level", [-1, 3, 1.0, True, None])
def test_a_level_that_is_not_there_is_refused(tmp_path, level):
    write_ome_zarr(make_large(), tmp_path / "image.zarr")
    for read in (read_image, open_level):
        with pytest.raises(InvalidInputError, match="level must be a whole number from 0 to 2"):
            read(tmp_path / "image.zarr", level)
