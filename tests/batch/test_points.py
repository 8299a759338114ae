import json
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smlmkit.batch import _sorting, _source
from smlmkit.batch.points import TiledPoints, sort_by_tiles
from smlmkit.drawing import render_histogram
from smlmkit.errors import (
    FileFormatError,
    InvalidInputError,
    InvalidTypeError,
    OutputError,
    UnusedRowsWarning,
)
from smlmkit.grid import PixelGrid
from smlmkit.io.tables import read_localizations, write_localizations
from smlmkit.localizations import Localizations
from smlmkit.tiling import TileGrid


def blinks(n=5000, height=20_000, width=30_000, seed=0, **columns):
    random = np.random.default_rng(seed)
    table = {
        "y": random.uniform(0, height, n),
        "x": random.uniform(0, width, n),
        "frame": np.arange(n),
    }
    return Localizations({**table, **columns}, field_of_view=(0, 0, height, width))


@pytest.fixture(params=["in memory", "in files"])
def small_batches(monkeypatch, request):
    if request.param == "in files":
        monkeypatch.setattr(_sorting, "_MOST_BYTES_HELD", 2**14)
    monkeypatch.setattr(_source, "rows_at_a_time", lambda n_columns: 400)
    monkeypatch.setattr("smlmkit.batch.points.rows_at_a_time", lambda n_columns: 400)


def sorted_by_cell(table, cell):
    """Give the expected order of rows."""
    rows, columns = ((table[name] // cell).astype(int) for name in "yx")
    return np.lexsort((columns, rows))


def assert_tiles_are_the_image(points, grid, whole, side, halo):
    total = np.zeros_like(whole)
    for tile in TileGrid(grid.shape, side, halo):
        part = points.read(grid, tile.read)
        image = render_histogram(part, grid.pixel_size).values
        np.testing.assert_array_equal(image, whole[tile.read])
        total[tile.write] = image[tile.crop]
    np.testing.assert_array_equal(total, whole)


@settings(max_examples=40, deadline=None)
@given(
    corner=st.tuples(*[st.sampled_from([0.0, 0.1, 1e6, -1e6, -133.0, 123_456.789, 3e7])] * 2),
    pixel_size=st.sampled_from([13.3, 0.1, 0.3, 10.0, 160 / 12, 7e-5]),
    extent_px=st.tuples(*[st.floats(0.5, 25)] * 2),
    side=st.integers(3, 20),
    halo=st.integers(0, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_counts_of_tiles_are_those_of_the_whole_image(
    tmp_path_factory, corner, pixel_size, extent_px, side, halo, seed
):
    random = np.random.default_rng(seed)
    stop = [start + pixel_size * extent for start, extent in zip(corner, extent_px, strict=True)]
    coordinates = {}
    for name, low, high in zip("yx", corner, stop, strict=True):
        edges = low + random.integers(0, 26, 100) * pixel_size  # where rounding decides
        edges[::3] = np.nextafter(edges[::3], np.inf)
        edges[1::3] = np.nextafter(edges[1::3], -np.inf)
        values = np.concatenate([edges, random.uniform(low, high, 50), [low, high]])
        coordinates[name] = random.permutation(
            np.clip(values, low, np.nextafter(high, -np.inf)),
        )
    table = Localizations(coordinates, field_of_view=(*corner, *stop))
    path = tmp_path_factory.mktemp("points") / "points.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("smlmkit.batch.points._ROWS_IN_GROUP", 3)
        points = sort_by_tiles(table, path, cell=7.7 * pixel_size)
    whole = render_histogram(table, pixel_size).values
    assert whole.sum() == len(table)
    grid = PixelGrid.covering(table.field_of_view, pixel_size)
    assert_tiles_are_the_image(points, grid, whole, side, halo)


def test_the_last_float_of_a_field_lies_in_its_last_pixel(tmp_path):
    stop = np.nextafter(30.0, np.inf)
    table = Localizations({"y": [30.0], "x": [30.0]}, field_of_view=(0, 0, stop, stop))
    points = sort_by_tiles(table, tmp_path / "points.parquet")
    grid = PixelGrid.covering(table.field_of_view, 10.0)
    assert grid.shape == (3, 3)
    part = points.read(grid, (slice(2, 3), slice(2, 3)))
    assert part.x.tolist() == part.y.tolist() == [np.nextafter(30.0, 0)]


def test_only_coordinates_that_need_it_are_moved_and_hardly(tmp_path):
    # Corners of tiles at multiples of 13.3 are rounded, so that 0.1 + k * 13.3 may lie beyond.
    edges = 0.1 + np.arange(1, 1000) * 13.3
    table = Localizations({"y": edges, "x": edges[::-1]}, field_of_view=(0.1, 0.1, 13_310, 13_310))
    points = sort_by_tiles(table, tmp_path / "points.parquet")
    grid = PixelGrid.covering(table.field_of_view, 13.3)
    moved = 0
    for tile in TileGrid(grid.shape, 64, 0):
        part = points.read(grid, tile.read)
        originals = table.y[np.isin(table.x.round(3), part.x.round(3))]
        shift = np.abs(np.sort(part.y) - np.sort(originals))
        assert shift.max(initial=0) <= 4 * np.spacing(13_310)
        moved += np.count_nonzero(shift)
    assert 0 < moved < len(table) / 2


def test_a_grid_that_covers_less_gives_what_lies_in_it(tmp_path):
    table = blinks()
    points = sort_by_tiles(table, tmp_path / "points.parquet")
    grid = PixelGrid((1000.0, -2000.0), 100.0, (90, 80))
    with pytest.warns(UnusedRowsWarning, match="outside of the grid"):
        whole = render_histogram(table, 100.0, grid).values
    assert_tiles_are_the_image(points, grid, whole, side=33, halo=4)


def test_rows_come_back_whole_and_in_order(tmp_path, small_batches):
    n = 5000
    columns = {
        "photons": np.linspace(1, 9, n).astype(np.float32),
        "bright": np.arange(n) % 3 == 0,
        "probe": np.resize(np.array(["Alexa", None, "größe"], object), n),
        "when": np.arange(n).astype("M8[ms]"),
    }
    table = blinks(n, **columns)
    points = sort_by_tiles(table, tmp_path / "points.parquet", cell=3000)
    expected = table.select(sorted_by_cell(table, 3000))
    assert points.load() == expected == read_localizations(points.path)
    box = (slice(20, 90), slice(50, 300))
    part = points.read(PixelGrid.covering(table.field_of_view, 100), box)
    assert part == expected.crop((2000, 5000, 9000, 30_000))


def test_facts_come_from_the_footer(tmp_path):
    table = Localizations(
        {
            "x": [3.0, 5.0],
            "y": [-2.0, -1.0],
            "uncertainty_x": [np.nan, 7.5],
            "z": [np.nan, np.inf],
            "channel": np.array([1, 2], np.uint8),
            "probe": ["a", "b"],
        },
        metadata={"source": "here", "nested": {"ä": [1]}},
    )
    points = sort_by_tiles(table, tmp_path / "points.parquet")
    assert points == TiledPoints.open(tmp_path / "points.parquet")
    assert points == pickle.loads(pickle.dumps(points))
    assert len(pickle.dumps(points)) < 2000
    assert (points.n_points, points.columns, points.metadata) == (2, table.columns, table.metadata)
    assert points.field_of_view == table.field_of_view
    known = {"x": 5.0, "y": -1.0, "uncertainty_x": 7.5, "channel": 2.0}
    assert points.maxima == {**known, "z": -np.inf, "probe": -np.inf}
    assert points.median("uncertainty_x") == 7.5
    assert points.median("z") is None
    assert points.median("photons") is None


@pytest.mark.parametrize("n_points", [1, 60])
def test_tiles_are_empty_only_if_nothing_lies_in_them_or_their_halo(tmp_path, n_points):
    table = blinks(n_points, height=90_000, width=130_000, seed=n_points)
    points = sort_by_tiles(table, tmp_path / "points.parquet", cell=1000)
    grid = PixelGrid.covering(table.field_of_view, 97.0)
    tiles = TileGrid(grid.shape, 41, 6)
    occupied = points.are_occupied(grid, tiles)
    holds = np.array([len(points.read(grid, tile.read)) > 0 for tile in tiles])
    assert occupied.shape == (tiles.n_rows, tiles.n_columns)
    assert occupied.ravel()[holds].all()
    assert holds.sum() <= occupied.sum() <= min(4 * n_points, occupied.size / 2)


def test_many_batches_and_cells_of_any_fullness_are_sorted_alike(tmp_path, small_batches):
    random = np.random.default_rng(0)
    y = np.concatenate([random.uniform(0, 9000, 700), np.full(1500, 4500.0)])
    table = Localizations(
        {"x": random.permutation(y), "y": random.permutation(y), "n": np.arange(2200)},
        field_of_view=(0, 0, 9000, 9000),
    )
    points = sort_by_tiles(table, tmp_path / "points.parquet", cell=1000)
    np.testing.assert_array_equal(points.load()["n"], sorted_by_cell(table, 1000))
    parts = list(points.iter_tables())
    np.testing.assert_array_equal(np.concatenate([part["n"] for part in parts]), points.load()["n"])
    assert all(part.field_of_view == table.field_of_view for part in parts)


def test_an_outlier_makes_cells_larger(tmp_path):
    table = Localizations({"x": [0.0, 1e9, 1.0], "y": [0.0, 1e9, 1.0]})
    points = sort_by_tiles(table, tmp_path / "points.parquet")
    assert np.log2(points.cell / 2560) % 1 == 0
    grid = PixelGrid.covering(table.field_of_view, 1.0)
    assert points.read(grid, (slice(0, 2), slice(0, 2))).x.tolist() == [0.0, 1.0]


def test_coarse_counts_are_a_histogram(tmp_path):
    table = blinks()
    points = sort_by_tiles(table, tmp_path / "points.parquet")
    expected, *_ = np.histogram2d(table.y, table.x, bins=(5, 8), range=((0, 2e4), (0, 3.2e4)))
    np.testing.assert_array_equal(points.coarse_counts(4000), expected)


def test_the_digest_knows_rows_not_batches(tmp_path, monkeypatch):
    n = 5000
    names = np.resize(np.array(["a", None, "b"], object), n)
    columns = {"bright": np.arange(n) % 3 == 0, "probe": names}
    table = blinks(n, **columns)
    write_localizations(table, tmp_path / "table.parquet")

    def digest(source):
        return sort_by_tiles(source, tmp_path / "points.parquet").digest

    whole = digest(table)
    monkeypatch.setattr(_source, "rows_at_a_time", lambda n_columns: 777)
    monkeypatch.setattr("smlmkit.batch.points.rows_at_a_time", lambda n_columns: 777)
    assert digest(table) == digest(tmp_path / "table.parquet") == whole
    names[n // 2] = "c"
    others = [
        table.select(slice(1, None)),
        table.crop((0, 0, 20_000, 29_999.9)),
        blinks(n, bright=columns["bright"], probe=names),
        blinks(n, probe=columns["probe"], bright=columns["bright"]),
        blinks(n, seed=1, **columns),
    ]
    assert len({whole, *map(digest, others)}) == len(others) + 1


def test_a_foreign_file_is_read_as_if_at_once(tmp_path, small_batches):
    n = 3000
    random = np.random.default_rng(0)
    x, y = random.uniform(-500, 900, (2, n))
    x[[5, 2999]] = np.nan
    columns = {
        "x": x,
        "y": y.astype(np.float32),
        "frame": np.arange(n),
        "n": pa.array([None if k == 2500 else k + 2**53 for k in range(n)]),
        "probe": pa.array([None] * (n - 1) + ["a"]),
        "nothing": pa.array([None] * n, pa.string()),
    }
    path = tmp_path / "foreign.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=700)
    with pytest.warns(UnusedRowsWarning):
        table = read_localizations(path)
    with pytest.warns(UnusedRowsWarning, match=r"foreign\.parquet: 2 of 3,000 rows") as caught:
        points = sort_by_tiles(path, tmp_path / "points.parquet", cell=100)
    assert len(caught) == 1
    assert points.field_of_view == table.field_of_view
    shift = {name: table[name] - np.floor(table[name].min()) for name in "xy"}
    assert points.load() == table.select(sorted_by_cell(shift, 100))


def test_rows_outside_of_the_stated_field_are_left_out(tmp_path):
    note = {"version": 1, "field_of_view": [0, 0, 10, 10], "metadata": {}}
    foreign = pa.table({"x": [1.0, 10.0], "y": [2.0, 3.0]}, metadata={"smlmkit": json.dumps(note)})
    pq.write_table(foreign, tmp_path / "table.parquet")
    with pytest.warns(UnusedRowsWarning, match="1 of 2 rows .* outside the field of view"):
        points = sort_by_tiles(tmp_path / "table.parquet", tmp_path / "points.parquet")
    assert points.load().x.tolist() == [1.0]


def test_files_of_other_formats_are_sources_too(tmp_path):
    write_localizations(blinks(100), tmp_path / "blinks.csv")
    points = sort_by_tiles(str(tmp_path / "blinks.csv"), tmp_path / "points.parquet")
    assert points.metadata["format"] == "thunderstorm"
    assert points.n_points == 100


@pytest.mark.parametrize("source", ["table", "file"])
def test_a_table_without_rows_has_tiles_without_rows(tmp_path, source):
    table = blinks(0, probe=np.array([], object))
    if source == "file":
        path = tmp_path / "table.parquet"
        note = {"version": 1, "field_of_view": table.field_of_view, "metadata": {}}
        schema = pa.schema([("x", pa.float64()), ("y", pa.float64()), ("frame", pa.int64())])
        pq.write_table(schema.with_metadata({"smlmkit": json.dumps(note)}).empty_table(), path)
        table = path
    points = sort_by_tiles(table, tmp_path / "points.parquet")
    grid = PixelGrid.covering(points.field_of_view, 10)
    part = points.read(grid, (slice(0, 5), slice(7, 9)))
    assert (points.n_points, len(part), tuple(part.field_of_view)) == (0, 0, (0, 70, 50, 90))
    assert part["frame"].dtype == np.int64
    assert not points.are_occupied(grid, TileGrid(grid.shape, 1000, 0)).any()
    assert [len(rows) for rows in points.iter_tables()] == [0]


def test_threads_share_the_points(tmp_path):
    table = blinks(40_000)
    points = sort_by_tiles(table, tmp_path / "points.parquet")
    grid = PixelGrid.covering(table.field_of_view, 10)
    tiles = list(TileGrid(grid.shape, 256, 0))
    alone = [points.read(grid, tile.read) for tile in tiles]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda tile: points.read(grid, tile.read), tiles)) == alone
    assert sum(map(len, alone)) == len(table)


def test_what_cannot_be_read_or_sorted_is_named(tmp_path):
    path = tmp_path / "points.parquet"
    points = sort_by_tiles(blinks(10), path)
    grid = PixelGrid.covering(points.field_of_view, 10)
    for rows in (slice(5, 5), slice(-1, 3), slice(0, 2001)):
        with pytest.raises(InvalidInputError, match=r"no part of the 2,000 pixels"):
            points.read(grid, (rows, slice(0, 5)))
    with pytest.raises(InvalidInputError, match="too small for coordinates"):
        points.read(PixelGrid((0, 1e12), 1e-4, (9, 9)), (slice(0, 9), slice(0, 9)))
    with pytest.raises(InvalidInputError, match="cell must be a positive"):
        sort_by_tiles(blinks(10), path, cell=0)
    with pytest.raises(InvalidTypeError, match="expected Localizations or the path"):
        sort_by_tiles(np.zeros((3, 2)), path)
    with pytest.raises(InvalidInputError, match=r"column 'who' .*cannot be written"):
        sort_by_tiles(blinks(1, who=np.array([1j])), path)
    with pytest.raises(FileFormatError, match="no such file"):
        sort_by_tiles(tmp_path / "missing.parquet", path)
    assert TiledPoints.open(path) == points  # what failed replaced nothing


def test_columns_of_several_kinds_are_refused(tmp_path, small_batches):
    mixed = np.array(["text"] * 400 + [True] * 400, object)
    with pytest.raises(InvalidInputError, match="several kinds"):
        sort_by_tiles(blinks(800, mixed=mixed), tmp_path / "points.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_leaves_nothing_behind(tmp_path):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot write .*points\.parquet"):
            sort_by_tiles(blinks(20_000), tmp_path / "points.parquet")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_source_that_is_damaged_is_named_and_leaves_nothing(tmp_path, damage):
    path = tmp_path / "table.parquet"
    write_localizations(blinks(20_000), path)
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 255
    path.write_bytes(content if damage == "flipped" else content[: len(content) // 2])
    with pytest.raises(FileFormatError, match=r"table\.parquet: the Parquet file is damaged"):
        sort_by_tiles(path, tmp_path / "points.parquet")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("fraction", [0, 0.0001, 0.5, 0.95, 0.9999])
def test_sorted_points_that_are_cut_off_are_refused(tmp_path, fraction):
    points = sort_by_tiles(blinks(), tmp_path / "points.parquet")
    content = points.path.read_bytes()
    points.path.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(FileFormatError, match=r"points\.parquet: "):
        TiledPoints.open(points.path)


def test_rows_that_were_damaged_are_found_when_they_are_read(tmp_path):
    points = sort_by_tiles(blinks(), tmp_path / "points.parquet")
    content = bytearray(points.path.read_bytes())
    content[30_000] ^= 255
    points.path.write_bytes(content)
    grid = PixelGrid.covering(points.field_of_view, 10)
    with pytest.raises(FileFormatError, match=r"points\.parquet: the sorted points are damaged"):
        points.read(grid, (slice(0, 2000), slice(0, 3000)))


def test_points_that_were_replaced_are_not_mistaken(tmp_path):
    points = sort_by_tiles(blinks(), tmp_path / "points.parquet")
    sort_by_tiles(blinks(seed=1), tmp_path / "points.parquet")
    grid = PixelGrid.covering(points.field_of_view, 10)
    with pytest.raises(FileFormatError, match="replaced"):
        points.read(grid, (slice(0, 2), slice(0, 3)))


def rewritten(points, **changes):
    """Write the file anew with other facts about the cells."""
    table = pq.ParquetFile(points.path).read()
    facts = json.loads(table.schema.metadata[b"smlmkit_cells"])
    note = json.dumps({**facts, **changes}) if changes else "{"
    metadata = {**table.schema.metadata, b"smlmkit_cells": note}
    pq.write_table(table.replace_schema_metadata(metadata), points.path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "index of the cells is damaged"),
        ({"version": 2}, "version 2; this smlmkit knows 1"),
        ({"cell": 0}, "cell"),
        ({"cell": "wide"}, "index of the cells is damaged"),
        ({"cell": 1.0}, "600,000,000 cells"),
        ({"cell": 1280.0}, "index of the cells is damaged"),
        ({"counts": "????"}, "index of the cells is damaged"),
        ({"counts": "AAAA"}, "index of the cells is damaged"),
        ({"maxima": [1]}, "index of the cells is damaged"),
        ({"maxima": {"x": 1e999}}, "maxima"),
    ],
)
def test_an_index_that_lies_is_refused(tmp_path, changes, message):
    points = sort_by_tiles(blinks(), tmp_path / "points.parquet")
    rewritten(points, **changes)
    with pytest.raises(FileFormatError, match=rf"points\.parquet: .*{message}"):
        TiledPoints.open(points.path)


def test_an_index_of_other_rows_is_refused(tmp_path):
    points = sort_by_tiles(blinks(), tmp_path / "points.parquet")
    pq.write_table(pq.ParquetFile(points.path).read().slice(1), points.path)
    with pytest.raises(FileFormatError, match="5,000 rows in cells, 4,999 in the file"):
        TiledPoints.open(points.path)


def test_tables_that_are_not_sorted_are_told_apart(tmp_path):
    write_localizations(blinks(10), tmp_path / "table.parquet")
    with pytest.raises(FileFormatError, match=r"table\.parquet: Parquet, but not sorted"):
        TiledPoints.open(tmp_path / "table.parquet")


def test_reading_warns_of_nothing(tmp_path):
    points = sort_by_tiles(blinks(), tmp_path / "points.parquet")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(points.load()) == points.n_points
