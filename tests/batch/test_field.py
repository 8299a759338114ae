"""One field tile by tile, against the same estimator on the whole table."""

import errno
import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from sklearn.pipeline import make_pipeline

from smlmkit import (
    AnisotropicKDE,
    GaussianKDE,
    IsolatedFilter,
    Localizations,
    Renderer,
    Thin,
    read_image,
    reconstruct_dask,
    reconstruct_field,
    write_localizations,
)
from smlmkit.batch import field
from smlmkit.batch.events import Progress
from smlmkit.batch.field import _create_image
from smlmkit.batch.plan import plan_field
from smlmkit.batch.points import sort_by_tiles
from smlmkit.errors import (
    ChangedRunError,
    FileFormatError,
    InvalidInputError,
    InvalidTypeError,
    OutputError,
    SmlmkitWarning,
    UnfamiliarTableWarning,
)
from smlmkit.grid import PixelGrid
from smlmkit.io.image_layout import ImageLayout
from smlmkit.io.ome_zarr import open_level
from smlmkit.io.ome_zarr_creation import fill_folder

COUNTS = Renderer(pixel_size=10)
WINDOWS = make_pipeline(Renderer(pixel_size=10), AnisotropicKDE(scale=2))
SMOOTH = make_pipeline(IsolatedFilter(), Renderer(pixel_size=10), GaussianKDE(20))
GAUSSIANS = Renderer(pixel_size=10, mode="gaussian")


def whole(estimator, table):
    return estimator.predict(table) if hasattr(estimator, "predict") else estimator.transform(table)


@pytest.mark.parametrize("estimator", [COUNTS, WINDOWS])
def test_tiles_of_counts_equal_the_whole_to_the_last_bit(estimator, blinks, tmp_path):
    made = reconstruct_field(estimator, blinks, tmp_path / "field.ome.zarr", tile=256)
    image = read_image(made.path)
    xr.testing.assert_identical(image.load().drop_attrs(), whole(estimator, blinks).drop_attrs())
    assert made.n_tiles == 16
    assert made.shape == image.shape == (771, 1000)
    assert made.n_localizations == len(blinks)


@pytest.mark.parametrize("estimator", [SMOOTH, GAUSSIANS])
def test_tiles_equal_the_whole_to_rounding(estimator, blinks, tmp_path):
    made = reconstruct_field(estimator, blinks, tmp_path / "field.ome.zarr", tile=256)
    expected = whole(estimator, blinks)
    np.testing.assert_allclose(
        read_image(made.path), expected, rtol=0, atol=1e-6 * float(expected.max())
    )


def test_a_network_is_scaled_by_one_factor_for_the_whole_field(network, blinks, tmp_path):
    estimator = make_pipeline(IsolatedFilter(radius=40), network)
    made = reconstruct_field(estimator, blinks, tmp_path / "field.ome.zarr", tile=256)
    expected = estimator.predict(blinks)
    assert made.mass_factor == pytest.approx(expected.attrs["mass_factor"], rel=1e-6)
    image = read_image(made.path)
    assert image.attrs["mass_factor"] == made.mass_factor
    np.testing.assert_allclose(image, expected, rtol=0, atol=1e-6 * float(expected.max()))


def test_a_halo_that_is_too_small_changes_the_image(network, blinks, tmp_path):
    made = reconstruct_field(network, blinks, tmp_path / "field.ome.zarr", tile=256, halo=0)
    expected = network.predict(blinks)
    assert abs(read_image(made.path) - expected).max() > 1e-3 * float(expected.max())


def test_the_deviation_has_a_store_of_its_own(network, blinks, tmp_path):
    from sklearn.base import clone

    opinions = clone(network).set_params(tta=True)
    opinions.__setstate__({**network.__getstate__(), "tta": True})
    reconstruct_field(
        *(opinions, blinks, tmp_path / "mean.ome.zarr"),
        tile=256,
        deviation_store=tmp_path / "deviation.ome.zarr",
    )
    for path, expected in zip(
        ("mean", "deviation"), opinions.predict(blinks, return_deviation=True), strict=True
    ):
        image = read_image(tmp_path / f"{path}.ome.zarr")
        np.testing.assert_allclose(image, expected, rtol=0, atol=1e-6 * float(expected.max()))
        assert image.name == expected.name


def test_stacks(blinks, tmp_path):
    columns = {name: blinks[name] for name in blinks}
    depths = np.random.default_rng(1).uniform(-300, 300, len(blinks))
    table = Localizations({**columns, "z": depths}, field_of_view=blinks.field_of_view)
    slices = Renderer(pixel_size=10, z_bins=[-300, -100, 100, 300])
    made = reconstruct_field(slices, table, tmp_path / "stack.ome.zarr", tile=256)
    image = read_image(made.path)
    assert image.dims == ("z", "y", "x")
    xr.testing.assert_identical(image.load().drop_attrs(), slices.transform(table).drop_attrs())


@pytest.mark.parametrize("method", ["mean", "sum"])
def test_every_level_is_made_of_the_one_before(method, blinks, tmp_path):
    made = reconstruct_field(COUNTS, blinks, tmp_path / "f.ome.zarr", tile=256, pyramid=method)
    fine, coarse = read_image(made.path), read_image(made.path, level=1)
    blocks = fine.coarsen(y=2, x=2, boundary="pad")
    np.testing.assert_allclose(coarse, getattr(blocks, method)(), rtol=1e-6)
    assert coarse.attrs["pixel_size"] == 20
    if method == "sum":
        assert coarse.sum() == len(blinks)


def test_tiles_larger_than_shards_and_than_the_image(tmp_path):
    points = np.random.default_rng(0).uniform(0, [12_300, 21_000], (2000, 2))
    table = Localizations(points, field_of_view=(0, 0, 21_000, 21_000))
    expected = reconstruct_field(COUNTS, table, tmp_path / "1024.ome.zarr", tile=1024)
    for tile in (2048, 4096):
        made = reconstruct_field(COUNTS, table, tmp_path / f"{tile}.ome.zarr", tile=tile)
        for level in range(4):
            np.testing.assert_array_equal(
                read_image(made.path, level), read_image(expected.path, level)
            )


def test_the_older_format(blinks, tmp_path):
    made = reconstruct_field(COUNTS, blinks, tmp_path / "f.ome.zarr", tile=512, ngff="0.4")
    assert (made.path / ".zattrs").exists()
    np.testing.assert_array_equal(read_image(made.path), whole(COUNTS, blinks))


def test_tables_in_files(blinks, tmp_path):
    write_localizations(blinks, tmp_path / "blinks.parquet")
    points = sort_by_tiles(blinks, tmp_path / "sorted.parquet")
    for number, table in enumerate((blinks, tmp_path / "blinks.parquet", points)):
        made = reconstruct_field(COUNTS, table, tmp_path / f"{number}.ome.zarr", tile=256)
        np.testing.assert_array_equal(read_image(made.path), whole(COUNTS, blinks))


def test_an_empty_tile_is_no_file_and_no_work(blinks, tmp_path):
    table = blinks.select((blinks.x < 2000) & (blinks.y < 2000))
    made = reconstruct_field(COUNTS, table, tmp_path / "f.ome.zarr", tile=256)
    pixels = [path for path in made.path.glob("scale0/density/c/*/*") if path.is_file()]
    assert len(pixels) == 1
    assert made.n_done <= 5  # at most the tiles that its cell touches, and a coarser one


def test_a_second_run_does_nothing(blinks, tmp_path):
    store = tmp_path / "field.ome.zarr"
    first = reconstruct_field(COUNTS, blinks, store, tile=256)
    second = reconstruct_field(COUNTS, blinks, store, tile=256)
    assert first.n_done > 0
    assert second._replace(n_done=first.n_done, seconds=first.seconds) == first
    assert second.n_done == 0
    assert [path.name for path in tmp_path.iterdir()] == ["field.ome.zarr"]


@pytest.mark.parametrize("n_done", [1, 5, 11, 12, 13])
def test_a_stopped_run_goes_on_where_it_was(
    n_done, blinks, network, tmp_path, differing_files, stop_after
):
    expected = reconstruct_field(network, blinks, tmp_path / "whole.ome.zarr", tile=256)
    store = tmp_path / "field.ome.zarr"
    stop_after(n_done, network, blinks, store)
    assert not store.exists()
    made = reconstruct_field(network, blinks, store, tile=256)
    assert made.n_done <= expected.n_done - n_done
    assert differing_files(made.path, expected.path) == []


def test_damaged_files_are_made_anew(blinks, tmp_path, differing_files, stop_after):
    expected = reconstruct_field(COUNTS, blinks, tmp_path / "whole.ome.zarr", tile=256)
    store = tmp_path / "field.ome.zarr"
    stop_after(11, COUNTS, blinks, store)
    shards = sorted(
        path for path in tmp_path.glob(".field.ome.zarr.work/*/image/scale0/density/c/*/*")
    )
    shards[0].write_bytes(shards[0].read_bytes()[:-7])  # cut short
    content = bytearray(shards[1].read_bytes())
    content[20] ^= 1  # of the same size
    shards[1].write_bytes(content)
    shards[2].unlink()
    shards[3].with_name("0.17.partial").write_bytes(b"of a write that was killed")
    made = reconstruct_field(COUNTS, blinks, store, tile=256)
    assert differing_files(made.path, expected.path) == []


def test_changed_parameters_are_refused_or_redone(blinks, tmp_path, differing_files, stop_after):
    store = tmp_path / "field.ome.zarr"
    stop_after(3, COUNTS, blinks, store)
    other = Renderer(pixel_size=20)
    with pytest.raises(ChangedRunError, match="pixel_size: 10 before, 20 now"):
        reconstruct_field(other, blinks, store, tile=256)
    with pytest.raises(ChangedRunError, match="input"):
        reconstruct_field(COUNTS, blinks.select(slice(1, None)), store, tile=256)
    reconstruct_field(other, blinks, store, tile=256, redo=True)
    expected = reconstruct_field(other, blinks, tmp_path / "expected.ome.zarr", tile=256)
    assert differing_files(store, expected.path) == []
    # And the same for what is finished.
    with pytest.raises(OutputError, match="other parameters"):
        reconstruct_field(COUNTS, blinks, store, tile=256)
    reconstruct_field(COUNTS, blinks, store, tile=256, redo=True)
    np.testing.assert_array_equal(read_image(store), whole(COUNTS, blinks))


def test_threads_play_no_part(blinks, tmp_path, stop_after):
    store = tmp_path / "field.ome.zarr"
    stop_after(3, COUNTS, blinks, store)
    reconstruct_field(Renderer(pixel_size=10, n_threads=1), blinks, store, tile=256)


def test_a_folder_of_other_things_is_never_replaced(blinks, tmp_path):
    (tmp_path / "field.ome.zarr").mkdir()
    (tmp_path / "field.ome.zarr" / "thesis.txt").write_text("irreplaceable")
    for redo in (False, True):
        with pytest.raises(OutputError, match="field"):
            reconstruct_field(COUNTS, blinks, tmp_path / "field.ome.zarr", redo=redo)
    assert (tmp_path / "field.ome.zarr" / "thesis.txt").read_text() == "irreplaceable"


@pytest.mark.parametrize(
    ("estimator", "options", "match"),
    [
        (make_pipeline(Thin(), COUNTS), {}, "thin"),
        (IsolatedFilter(), {}, "makes no image"),
        (COUNTS, {"tile": 300}, "multiple of 256"),
        (COUNTS, {"tile": 0}, "tile"),
        (COUNTS, {"halo": -1}, "reach"),
        (COUNTS, {"ngff": "0.3"}, "ngff"),
        (COUNTS, {"pyramid": "median"}, "pyramid"),
        (COUNTS, {"tile": 256, "ngff": "0.4"}, "multiple of 512"),
        (COUNTS, {"deviation_store": "/tmp/deviation.ome.zarr"}, "deviation_store"),
    ],
)
def test_what_cannot_be_done_is_refused_before_work(estimator, options, match, blinks, tmp_path):
    with pytest.raises(InvalidInputError, match=match):
        reconstruct_field(estimator, blinks, tmp_path / "field.ome.zarr", **options)
    assert list(tmp_path.iterdir()) == []


def test_an_image_that_is_created_twice_keeps_what_was_written_to_it(blinks, tmp_path):
    layout = ImageLayout(PixelGrid.covering(blinks.field_of_view, 10))
    create = partial(fill_folder, ngff="0.5", shard=256, pyramid="mean", about={})
    first = _create_image(create, (tmp_path / "image", layout))
    open_level(tmp_path / "image", 0)[:256, :256] = 1
    assert _create_image(create, (tmp_path / "image", layout)) == first
    assert open_level(tmp_path / "image", 0)[:256, :256].min() == 1
    assert [path.name for path in tmp_path.iterdir()] == ["image"]


def test_an_image_that_cannot_be_created_is_an_output_error(tmp_path):
    def refuse(folder, layout):
        raise PermissionError(errno.EACCES, "Permission denied")

    with pytest.raises(OutputError, match=r"image: cannot write: Permission denied"):
        _create_image(refuse, (tmp_path / "image", None))
    assert not any(tmp_path.iterdir())


def test_other_tables_are_refused(blinks, tmp_path):
    with pytest.raises(InvalidTypeError, match="got DataFrame"):
        reconstruct_field(COUNTS, blinks.to_frame(), tmp_path / "field.ome.zarr")
    with pytest.raises(InvalidInputError, match="a single opinion has no deviation"):
        reconstruct_field(COUNTS, blinks, tmp_path / "a.zarr", deviation_store=tmp_path / "b.zarr")


def test_output_in_no_folder(blinks, tmp_path):
    with pytest.raises(OutputError, match="nowhere"):
        reconstruct_field(COUNTS, blinks, tmp_path / "nowhere" / "field.ome.zarr")


def test_the_store_says_how_it_was_made(blinks, tmp_path):
    made = reconstruct_field(COUNTS, blinks, tmp_path / "field.ome.zarr", tile=256)
    attributes = json.loads(Path(made.path, "zarr.json").read_text())["attributes"]
    assert attributes["smlmkit"]["run"]["n_localizations"] == len(blinks)


@pytest.mark.parametrize("estimator", [COUNTS, WINDOWS])
def test_lazy_images(estimator, blinks):
    lazy = reconstruct_dask(estimator, blinks, tile=256)
    assert lazy.chunks == ((256, 256, 256, 3), (256, 256, 256, 232))
    xr.testing.assert_identical(lazy.compute(), whole(estimator, blinks))
    corner = lazy[700:, 900:]
    xr.testing.assert_identical(corner.compute(), whole(estimator, blinks)[700:, 900:])


def test_a_lazy_image_of_a_network(network, blinks, tmp_path):
    expected = network.predict(blinks)
    points = sort_by_tiles(blinks, tmp_path / "sorted.parquet")
    for table in (blinks, points):
        lazy = reconstruct_dask(network, table, tile=256)
        np.testing.assert_allclose(lazy, expected, rtol=0, atol=1e-6 * float(expected.max()))


@pytest.mark.parametrize(
    "damaged", ["points.parquet", "image/zarr.json", "image/scale0/y/zarr.json"]
)
def test_damaged_work_is_done_anew(damaged, blinks, tmp_path, differing_files, stop_after):
    expected = reconstruct_field(COUNTS, blinks, tmp_path / "whole.ome.zarr", tile=256)
    store = tmp_path / "field.ome.zarr"
    stop_after(3, COUNTS, blinks, store)
    (file,) = tmp_path.glob(f".field.ome.zarr.work/*/{damaged}")
    file.write_bytes(file.read_bytes()[:-9])
    made = reconstruct_field(COUNTS, blinks, store, tile=256)
    assert differing_files(made.path, expected.path) == []


def test_numbers_are_the_same_however_they_are_spelt(blinks, tmp_path):
    store = tmp_path / "field.ome.zarr"
    reconstruct_field(Renderer(pixel_size=10), blinks, store, tile=np.int64(256), halo=20)
    again = reconstruct_field(Renderer(pixel_size=10.0), blinks, store, tile=256, halo=20.0)
    assert again.n_done == 0


def test_the_finished_store_is_found_beside_other_unfinished_work(blinks, tmp_path, stop_after):
    store = tmp_path / "field.ome.zarr"
    first = reconstruct_field(COUNTS, blinks, store, tile=256)
    stop_after(3, WINDOWS, blinks, store, redo=True)
    assert reconstruct_field(COUNTS, blinks, store, tile=256).n_done == 0
    made = reconstruct_field(WINDOWS, blinks, store, tile=256, redo=True)
    assert made.n_done <= first.n_done - 3  # nothing of it was lost
    np.testing.assert_array_equal(read_image(store), whole(WINDOWS, blinks))


def test_what_appears_at_the_store_meanwhile_is_kept(blinks, tmp_path):
    store = tmp_path / "field.ome.zarr"

    class Thesis(Progress):
        def stage(self, *args, **kwargs):
            store.mkdir(exist_ok=True)
            (store / "thesis.txt").touch()
            return super().stage(*args, **kwargs)

    with pytest.raises(OutputError, match="not made by reconstruct_field"):
        reconstruct_field(COUNTS, blinks, store, tile=256, progress=Thesis(enabled=False))
    assert (store / "thesis.txt").exists()


def test_a_file_that_changes_while_it_is_read_is_refused(blinks, tmp_path, monkeypatch):
    table = tmp_path / "blinks.parquet"
    write_localizations(blinks, table)
    sort = field.sort_by_tiles

    def sort_and_replace(*arguments):
        points = sort(*arguments)
        write_localizations(blinks.select(slice(0, 99)), table, overwrite=True)
        return points

    monkeypatch.setattr(field, "sort_by_tiles", sort_and_replace)
    with pytest.raises(FileFormatError, match=r"blinks.parquet: changed while it was read"):
        reconstruct_field(COUNTS, table, tmp_path / "field.ome.zarr")
    assert list(tmp_path.iterdir()) == [table]


def test_a_work_folder_that_leads_elsewhere_is_refused(blinks, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "thesis.txt").touch()
    (tmp_path / ".field.ome.zarr.work").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="a link"):
        reconstruct_field(COUNTS, blinks, tmp_path / "field.ome.zarr")
    assert (tmp_path / "elsewhere" / "thesis.txt").exists()


def test_two_runs_do_not_work_on_one_store(blinks, tmp_path):
    store = tmp_path / "field.ome.zarr"

    class Rival(Progress):
        def stage(self, *args, **kwargs):
            with pytest.raises(OutputError, match="another process is at work"):
                reconstruct_field(COUNTS, blinks, store, tile=256)
            return super().stage(*args, **kwargs)

    reconstruct_field(COUNTS, blinks, store, tile=256, progress=Rival(enabled=False))
    assert float(read_image(store).sum()) == len(blinks)


def test_networks_in_nested_pipelines(network, blinks, tmp_path):
    nested = make_pipeline(IsolatedFilter(), make_pipeline("passthrough", network))
    made = reconstruct_field(nested, blinks, tmp_path / "nested.ome.zarr", tile=256)
    flat = make_pipeline(IsolatedFilter(), network)
    expected = reconstruct_field(flat, blinks, tmp_path / "flat.ome.zarr", tile=256)
    np.testing.assert_array_equal(read_image(made.path), read_image(expected.path))


def test_warnings_of_tiles_are_one_warning(blinks, tmp_path):
    columns = {name: blinks[name] for name in blinks}
    unknown = np.where(np.arange(len(blinks)) % 10, columns["uncertainty_x"], np.nan)
    table = Localizations({**columns, "uncertainty_x": unknown}, field_of_view=blinks.field_of_view)
    with pytest.warns(SmlmkitWarning) as warned:
        reconstruct_field(GAUSSIANS, table, tmp_path / "field.ome.zarr", tile=256)
    (warning,) = warned
    assert re.search(r"\d+ of \d+ tiles gave warnings.*no usable value", str(warning.message))


def test_a_network_warns_of_fields_that_it_does_not_know(network, blinks, tmp_path):
    crowded = Localizations(
        {name: np.tile(blinks[name], 20) for name in blinks}, field_of_view=blinks.field_of_view
    )
    with pytest.warns(UnfamiliarTableWarning, match="density"):
        reconstruct_field(network, crowded, tmp_path / "field.ome.zarr", tile=512)


@pytest.mark.parametrize(
    ("side", "expected"),
    [
        (2000, [1024, 976]),
        (2050, [2050]),  # of which 1024 and 2048 would leave 2 pixels over
        (4100, [3072, 1028]),
        (8192, [1024] * 8),
    ],
)
def test_tiles_are_even_by_default(tmp_path, side, expected):
    table = Localizations(np.ones((1, 2)), field_of_view=(0, 0, 100, side * 10))
    points = sort_by_tiles(table, tmp_path / "points.parquet")
    tiles = plan_field(Renderer(10), points, (), tile=None, halo=None).tiles
    ends = [tiles.tile(0, column).write[1] for column in range(tiles.n_columns)]
    assert [end.stop - end.start for end in ends] == expected
