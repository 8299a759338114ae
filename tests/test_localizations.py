import copy
import itertools
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smlmkit import FieldOfView, Localizations, concat
from smlmkit.errors import InvalidInputError, InvalidTypeError, UnusedRowsWarning

in_its_own_time = settings(deadline=None)

FIELD = FieldOfView(0.0, 0.0, 1000.0, 2000.0)


def make_table(n=100, n_frames=50, seed=0, **changes):
    rng = np.random.default_rng(seed)
    columns = {
        "x": rng.uniform(0, 2000, n),
        "y": rng.uniform(0, 1000, n),
        "frame": rng.integers(0, n_frames, n),
        "photons": rng.uniform(100, 1000, n).astype(np.float32),
        "row": np.arange(n),
    }
    return Localizations(columns | changes, field_of_view=FIELD, metadata={"label": "tubulin"})


def read_only(array):
    array.flags.writeable = False
    return array


def rows_of(*tables):
    return sorted(np.concatenate([table["row"] for table in tables]))


class TestConversion:
    def test_all_kinds_of_table_hold_the_same(self):
        x, y, z = np.array([1.0, 3.0]), np.array([2.0, 4.0]), np.array([-5.0, 6.0])
        records = np.zeros(2, [("x", "f8"), ("y", "f8"), ("z", "f8")])
        records["x"], records["y"], records["z"] = x, y, z
        columns = {"x": x, "y": y, "z": z}
        expected = Localizations(columns)
        for table in (
            pd.DataFrame(columns),
            {name: list(values) for name, values in columns.items()},
            {name: pd.Series(values) for name, values in columns.items()},
            records,
            records.view(np.recarray),
            np.column_stack([x, y, z]),
        ):
            assert Localizations(table) == expected

    def test_a_plain_array_of_two_columns_is_x_and_y(self):
        table = Localizations(np.array([[1, 2], [3, 4]]))
        assert table.columns == ("x", "y")
        np.testing.assert_array_equal(table.x, [1, 3])
        np.testing.assert_array_equal(table.y, [2, 4])

    def test_columns_get_the_kind_their_name_asks_for(self):
        table = Localizations(
            {
                "x": np.array([1], np.uint8),
                "y": np.array([2], np.float32),
                "frame": np.array([3.0]),
                "photons": np.array([7], object),
                "detections": np.array([2], np.int16),
                "comment": np.array(["dim"]),
            }
        )
        kinds = {name: table[name].dtype for name in table}
        assert kinds["x"] == kinds["y"] == kinds["photons"] == np.float64
        assert kinds["frame"] == np.int64
        assert kinds["detections"] == np.int16
        assert table["comment"][0] == "dim"

    def test_numbers_in_foreign_byte_order_become_native(self):
        columns = {name: np.array([1.0], ">f4") for name in ("x", "y", "photons")}
        table = Localizations(columns)
        assert all(table[name].dtype.isnative for name in table)

    def test_nullable_columns_of_pandas_are_taken(self):
        frame = pd.DataFrame({"x": [1.0, 2.0], "y": [3.0, 4.0], "frame": pd.array([0, 1], "Int64")})
        np.testing.assert_array_equal(Localizations(frame)["frame"], [0, 1])

    def test_to_frame_gives_a_copy_of_all_columns(self):
        table = make_table()
        frame = table.to_frame()
        assert Localizations(frame, field_of_view=FIELD, metadata=table.metadata) == table
        frame.loc[0, "x"] = -1
        assert table.x[0] != -1

    def test_field_of_view_without_one_is_of_whole_nanometres_around_the_rows(self):
        table = Localizations(np.array([[10.2, 20.0], [30.0, 41.0]]))
        assert table.field_of_view == FieldOfView(20.0, 10.0, 42.0, 31.0)

    @in_its_own_time
    @given(st.lists(st.tuples(*[st.floats(-1e9, 1e9)] * 2), min_size=1, max_size=20))
    def test_field_of_view_without_one_holds_every_row(self, points):
        assert len(Localizations(np.array(points))) == len(points)


class TestRefusals:
    @pytest.mark.parametrize(
        ("columns", "error", "message"),
        [
            ({"x": [1.0]}, InvalidInputError, "no column 'y'"),
            ({"photons": [1.0]}, InvalidInputError, "no column 'x' and 'y'; there are photons"),
            ({}, InvalidInputError, "there are none"),
            ({"x": [1.0], "y": ["a"]}, InvalidTypeError, "'y' must hold numbers"),
            ({"x": [1j], "y": [1]}, InvalidTypeError, "'x' must hold numbers, got dtype complex"),
            (
                {"x": [1], "y": [1], "photons": np.array(["many"], object)},
                InvalidInputError,
                "'photons' must hold numbers",
            ),
            ({"x": [1, 2], "y": [1, 2], "sigma_x": [1]}, InvalidInputError, "'sigma_x' has 1 rows"),
            ({"x": [[1, 2]], "y": [[1, 2]]}, InvalidInputError, "'x' must be one-dimensional"),
            ({"x": 1.0, "y": 2.0}, InvalidInputError, "'x' must be one-dimensional"),
            (
                {"x": [1, 2], "y": [1, 2], "z": [[1], [1, 2]]},
                InvalidInputError,
                "'z' must be one-dimensional",
            ),
            ({"x": [1], "y": [1], 3: [1]}, InvalidTypeError, "names must be text"),
        ],
    )
    def test_a_bad_column_is_named(self, columns, error, message):
        with pytest.raises(error, match=message):
            Localizations(columns)

    @pytest.mark.parametrize(
        "frame", [0.5, np.nan, np.inf, 1e300, np.uint64(2**63 + 5)], ids=lambda frame: f"{frame:g}"
    )
    def test_frames_that_are_no_whole_numbers_are_refused(self, frame):
        with pytest.raises(InvalidInputError, match="'frame' must hold whole numbers"):
            Localizations({"x": [1], "y": [1], "frame": np.array([frame])})

    def test_the_message_on_frames_says_what_is_wrong_once(self):
        with pytest.raises(InvalidInputError) as caught:
            Localizations({"x": [1], "y": [1], "frame": [0.5]})
        assert str(caught.value).count("must hold") == 1

    @pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 4), (3, 2, 2), ()])
    def test_a_plain_array_of_another_shape_is_refused(self, shape):
        with pytest.raises(InvalidInputError, match=r"\(n, 2\) or \(n, 3\)"):
            Localizations(np.zeros(shape))

    @pytest.mark.parametrize("table", [None, 3, "locs.csv", [[1.0, 2.0]], iter([])])
    def test_another_kind_of_table_is_refused(self, table):
        with pytest.raises(InvalidTypeError, match="localizations come as"):
            Localizations(table)

    def test_a_column_that_stands_twice_is_named(self):
        frame = pd.DataFrame([[1.0, 2.0, 3.0]], columns=["x", "y", "x"])
        with pytest.raises(InvalidInputError, match=r"\['x'\] stand more than once"):
            Localizations(frame)

    @pytest.mark.parametrize(
        "box", [(0, 0, 1), (0, 0, 0, 5), (0, 5, 10, 5), (0, 0, np.nan, 1), (0, 0, np.inf, 1), 7]
    )
    def test_a_bad_field_of_view_is_refused(self, box):
        with pytest.raises(InvalidInputError, match="field_of_view"):
            Localizations(np.zeros((1, 2)), field_of_view=box)

    def test_metadata_that_json_cannot_hold_are_refused(self):
        with pytest.raises(InvalidTypeError, match="metadata"):
            Localizations(np.zeros((1, 2)), metadata={"when": object()})


class TestUnusableRows:
    def test_rows_that_are_not_finite_are_counted_and_left_out(self):
        x = np.array([1.0, np.nan, 3.0, 4.0, np.inf])
        y = np.array([1.0, 2.0, np.nan, 4.0, -np.inf])
        with pytest.warns(UnusedRowsWarning, match=r"^3 of 5 rows .*: 3 with x or y not finite$"):
            table = Localizations({"x": x, "y": y, "row": np.arange(5)})
        np.testing.assert_array_equal(table["row"], [0, 3])

    def test_rows_outside_are_counted_apart_from_those_not_finite(self):
        x, y = np.array([5.0, -1.0, np.nan, 2000.0]), np.array([5.0, 1.0, 1.0, 1.0])
        message = r"^3 of 4 rows .*: 1 with x or y not finite, 2 outside the field of view"
        with pytest.warns(UnusedRowsWarning, match=message):
            table = Localizations({"x": x, "y": y}, field_of_view=FIELD)
        assert len(table) == 1

    def test_the_warning_points_at_the_caller(self):
        with pytest.warns(UnusedRowsWarning) as caught:
            Localizations({"x": [1.0, np.nan], "y": [1.0, 1.0]})
        assert caught[0].filename == __file__

    def test_the_lower_edge_is_inside_and_the_upper_edge_outside(self):
        x = np.array([0.0, 2000.0, np.nextafter(2000.0, 0), 0.0])
        y = np.array([0.0, 0.0, np.nextafter(1000.0, 0), 1000.0])
        with pytest.warns(UnusedRowsWarning, match="2 of 4"):
            table = Localizations({"x": x, "y": y, "row": np.arange(4)}, field_of_view=FIELD)
        np.testing.assert_array_equal(table["row"], [0, 2])

    def test_masked_values_are_not_used(self):
        x = np.ma.masked_array([1.0, 2.0, 3.0], mask=[False, True, False])
        with pytest.warns(UnusedRowsWarning, match="1 of 3"):
            table = Localizations({"x": x, "y": [1.0, 2.0, 3.0]})
        np.testing.assert_array_equal(table.x, [1, 3])

    def test_all_outside_leaves_an_empty_table(self):
        with pytest.warns(UnusedRowsWarning, match="2 of 2"):
            table = Localizations(np.full((2, 2), -5.0), field_of_view=FIELD)
        assert len(table) == 0
        assert table.density == 0

    def test_no_usable_row_and_no_field_of_view_is_refused(self):
        with pytest.warns(UnusedRowsWarning, match="2 of 2"):  # noqa: SIM117 (warned of, then refused)
            with pytest.raises(InvalidInputError, match="pass field_of_view="):
                Localizations(np.full((2, 2), np.nan))

    def test_a_row_without_any_number_is_left_out(self):
        columns = {name: [1.0, np.nan] for name in ("x", "y", "frame")}
        with pytest.warns(UnusedRowsWarning, match="1 of 2"):
            table = Localizations(columns)
        np.testing.assert_array_equal(table["frame"], [1])

    def test_the_other_columns_may_hold_nan(self):
        table = make_table(2, photons=np.array([np.nan, 1.0]))
        assert len(table) == 2


class TestDegenerateTables:
    @pytest.fixture(params=[np.empty((0, 2)), {"x": [], "y": []}, pd.DataFrame({"x": [], "y": []})])
    def nothing(self, request):
        return request.param

    def test_an_empty_table_needs_a_field_of_view(self, nothing):
        with pytest.raises(InvalidInputError, match="pass field_of_view="):
            Localizations(nothing)

    def test_an_empty_table_can_do_all_that_another_can(self, nothing):
        table = Localizations(nothing, field_of_view=FIELD)
        assert len(table) == 0
        assert table.density == 0
        for subset in (*table.split(), table.thin(0.5), table.select(slice(1)), concat([table])):
            assert subset == table
        assert len(table.crop((0, 0, 10, 10))) == 0
        assert "0 localizations" in repr(table)
        assert pickle.loads(pickle.dumps(table)) == table

    def test_one_localization(self):
        table = Localizations(np.array([[3.5, 4.5]]))
        assert table.field_of_view == FieldOfView(4.0, 3.0, 5.0, 4.0)
        assert sum(map(len, table.split(random_state=0))) == 1


class TestImmutability:
    def test_changing_the_source_does_not_change_the_table(self):
        array = np.array([[1.0, 2.0], [3.0, 4.0]])
        columns = {"x": array[:, 0], "y": array[:, 1], "extra": np.array([7, 8])}
        records = np.array([(1.0, 2.0), (3.0, 4.0)], [("x", "f8"), ("y", "f8")])
        frame = pd.DataFrame(columns)
        tables = [Localizations(source) for source in (array, columns, records, frame)]
        copies = copy.deepcopy(tables)
        array[:] = 99
        columns["extra"][:] = 99
        records["x"] = 99
        frame.loc[:, :] = 99
        assert tables == copies

    def test_a_read_only_view_of_writable_memory_is_copied(self):
        source = np.array([[1.0, 2.0]])
        view = read_only(source[:])
        table = Localizations(view)
        source[:] = 99
        np.testing.assert_array_equal(table.x, [1])

    def test_read_only_memory_is_shared(self):
        array = read_only(np.ones((5, 2)))
        frames = read_only(np.arange(5))
        assert np.shares_memory(Localizations(array).y, array)
        table = Localizations({"x": array[:, 0], "y": array[:, 1], "frame": frames})
        assert np.shares_memory(table["frame"], frames)

    def test_the_source_stays_writable(self):
        array = np.ones((5, 2))
        Localizations(array)
        assert array.flags.writeable

    @pytest.mark.parametrize("name", ["x", "y", "frame", "photons", "row"])
    def test_columns_cannot_be_written(self, name):
        table = make_table()
        some = table.crop((0, 0, 500, 500))
        for subset in (table, some, *table.split("random"), concat([table, table])):
            with pytest.raises(ValueError, match="read-only"):
                subset[name][0] = 1

    def test_columns_cannot_be_set(self):
        table = make_table()
        with pytest.raises(TypeError, match="does not support item assignment"):
            table["x"] = np.zeros(len(table))
        for name in ("x", "field_of_view", "metadata", "anything"):
            with pytest.raises(AttributeError):
                setattr(table, name, None)

    def test_metadata_are_a_copy_both_ways(self):
        metadata = {"dye": ["Alexa 647"]}
        table = Localizations(np.zeros((1, 2)), metadata=metadata)
        metadata["dye"].append("Cy5")
        table.metadata["dye"].append("Cy3")
        assert table.metadata == {"dye": ["Alexa 647"]}


class TestSelect:
    def test_a_slice_shares_memory(self):
        table = make_table()
        part = table.select(slice(10, 60, 2))
        assert all(np.shares_memory(part[name], table[name]) for name in table)
        np.testing.assert_array_equal(part["row"], np.arange(10, 60, 2))

    def test_subsets_keep_field_of_view_and_metadata(self):
        table = make_table()
        for subset in (table.select(slice(0)), table.thin(0.5), *table.split("random")):
            assert subset.field_of_view == FIELD
            assert subset.metadata == {"label": "tubulin"}
            assert subset.columns == table.columns

    def test_a_mask_and_numbers_of_rows(self):
        table = make_table()
        np.testing.assert_array_equal(table.select(table["row"] > 90)["row"], np.arange(91, 100))
        np.testing.assert_array_equal(table.select(np.array([5, 3, 5]))["row"], [5, 3, 5])

    def test_a_mask_of_another_length_is_refused(self):
        with pytest.raises(InvalidInputError, match=r"3 entries, the table 100 rows"):
            make_table().select(np.array([True, False, True]))

    @pytest.mark.parametrize(
        "rows", [np.array(1), np.array([[0, 1]]), np.array([0.0, 1.0]), np.array([100]), 1]
    )
    def test_what_does_not_name_rows_is_refused(self, rows):
        with pytest.raises((InvalidInputError, InvalidTypeError), match="rows"):
            make_table().select(rows)

    def test_an_unknown_column_is_named_with_those_there_are(self):
        with pytest.raises(KeyError, match="no column 'z'; there are x, y, frame"):
            make_table()["z"]

    @pytest.mark.parametrize(
        "rows", [0, np.int64(3), slice(5), [0, 1], np.array([True]), ("x", "y"), None]
    )
    def test_rows_are_not_taken_by_index(self, rows):
        message = (
            rf"got {type(rows).__name__}; rows: use select.*list of fields of view or table\.til"
        )
        with pytest.raises(InvalidTypeError, match=message):
            make_table()[rows]

    def test_names_are_what_a_table_iterates_over(self):
        table = make_table()
        assert list(table) == list(table.columns) == ["x", "y", "frame", "photons", "row"]
        assert "frame" in table
        assert "z" not in table


class TestCrop:
    def test_rows_in_the_box_stay_and_the_box_is_the_field(self):
        table = make_table(1000)
        box = FieldOfView(100.0, 200.0, 600.0, 900.0)
        part = table.crop(box)
        inside = (table.y >= 100) & (table.y < 600) & (table.x >= 200) & (table.x < 900)
        np.testing.assert_array_equal(part["row"], table["row"][inside])
        assert part.field_of_view == box

    def test_only_the_overlap_counts(self):
        part = make_table().crop((-500, 1500, 500, 9000))
        assert part.field_of_view == FieldOfView(0.0, 1500.0, 500.0, 2000.0)

    def test_a_box_beside_the_field_is_refused(self):
        with pytest.raises(InvalidInputError, match="does not overlap"):
            make_table().crop((1000, 0, 1100, 100))

    def test_tiles_hold_every_row_once(self):
        table = make_table(1000)
        corners = itertools.product(range(0, 1000, 300), range(0, 2000, 300))
        tiles = [table.crop((y, x, y + 300, x + 300)) for y, x in corners]
        assert rows_of(*tiles) == list(range(1000))


def tile_boxes(field, size):
    """Tiles one by one: squares from the corner, the last ones up to the far sides."""
    n_rows = max(1, int(field.height // size))
    n_columns = max(1, int(field.width // size))
    return [
        FieldOfView(
            field.y_min + row * size,
            field.x_min + column * size,
            field.y_max if row == n_rows - 1 else field.y_min + (row + 1) * size,
            field.x_max if column == n_columns - 1 else field.x_min + (column + 1) * size,
        )
        for row in range(n_rows)
        for column in range(n_columns)
    ]


class TestTiles:
    @in_its_own_time
    @given(
        n=st.integers(0, 80),
        size=st.integers(120, 2500),
        corner=st.tuples(*[st.integers(-5000, 5000)] * 2),
        seed=st.integers(0, 2**31),
    )
    def test_they_are_the_crops_to_their_boxes(self, n, size, corner, seed):
        """A quarter of the points lie on edges."""
        rng = np.random.default_rng(seed)
        y, x = (
            low + rng.integers(0, np.ceil(4 * extent / size), n) * size / 4
            for low, extent in zip(corner, (1000, 2000), strict=True)
        )
        field = FieldOfView(*map(float, (*corner, corner[0] + 1000, corner[1] + 2000)))
        columns = {"x": x, "y": y, "row": np.arange(n)}
        table = Localizations(columns, field_of_view=field)
        tiles = table.tiles(size)
        assert tiles == [table.crop(box) for box in tile_boxes(field, size)]
        assert rows_of(*tiles) == list(range(n))

    def test_what_is_left_over_goes_to_the_last_row_and_column(self):
        fields = [tile.field_of_view for tile in make_table().tiles(600)]
        assert fields == [(0, 0, 1000, 600), (0, 600, 1000, 1200), (0, 1200, 1000, 2000)]
        assert sum(field.area_um2 for field in fields) == pytest.approx(FIELD.area_um2)

    @pytest.mark.parametrize("size", [1001, 2000, 1e300])
    def test_a_side_shorter_than_a_tile_is_not_cut(self, size):
        assert {tile.field_of_view.height for tile in make_table().tiles(size)} == {1000}

    def test_a_tile_as_large_as_the_field_is_the_table(self):
        table = make_table()
        assert table.tiles(5000) == [table]

    @pytest.mark.parametrize(("side", "size", "n"), [(0.3, 0.1, 3), (0.7, 0.1, 7), (2.3, 0.1, 23)])
    def test_rounding_does_not_eat_a_tile(self, side, size, n):
        assert side // size < n
        table = Localizations(np.empty((0, 2)), field_of_view=(0, 0, side, side))
        assert len(table.tiles(size)) == n**2

    def test_an_edge_belongs_to_the_tile_that_it_begins(self):
        x = np.array([0.0, np.nextafter(700.0, 0), 700.0, np.nextafter(2000.0, 0)])
        table = Localizations({"x": x, "y": np.zeros(4), "row": np.arange(4)}, field_of_view=FIELD)
        left, right = table.tiles(700)
        np.testing.assert_array_equal(left["row"], [0, 1])
        np.testing.assert_array_equal(right["row"], [2, 3])

    def test_empty_tiles_are_there_unless_a_least_number_is_asked_for(self):
        x, y = np.array([50.0, 60.0, 950.0]), np.array([10.0, 20.0, 550.0])
        table = Localizations({"x": x, "y": y}, field_of_view=FIELD)
        assert [len(tile) for tile in table.tiles(500)] == [2, 0, 0, 0, 0, 1, 0, 0]
        for least in (1, 2, 3):
            few = table.tiles(500, min_localizations=least)
            assert few == [tile for tile in table.tiles(500) if len(tile) >= least]

    def test_they_keep_columns_metadata_and_order(self):
        table = make_table(1000)
        for tile in table.tiles(250):
            assert tile.columns == table.columns
            assert tile.metadata == {"label": "tubulin"}
            assert (np.diff(tile["row"]) > 0).all()
            assert not tile.x.flags.writeable

    def test_rows_are_sorted_once_for_all_tiles(self):
        tiles = make_table(1000).tiles(250, min_localizations=1)
        for name in tiles[0]:
            assert len({id(tile[name].base) for tile in tiles}) == 1

    @pytest.mark.parametrize("size", [0, -5, np.nan, np.inf, "500", None, True])
    def test_a_size_that_is_none_is_refused(self, size):
        with pytest.raises(InvalidInputError, match="size must be a positive number, got"):
            make_table().tiles(size)

    @pytest.mark.parametrize("least", [-1, 0.5, None])
    def test_a_least_number_that_is_none_is_refused(self, least):
        with pytest.raises(InvalidInputError, match="min_localizations must be a whole number"):
            make_table().tiles(500, min_localizations=least)

    def test_as_many_tiles_as_there_may_be(self):
        table = Localizations({"x": [255.5], "y": [255.5]}, field_of_view=(0, 0, 256, 256))
        assert [len(tile) for tile in table.tiles(1)][-2:] == [0, 1]

    @pytest.mark.parametrize(("size", "count"), [(5, "80,000"), (1e-3, "2,000,000,000,000")])
    def test_too_many_tiles_are_counted_and_refused(self, size, count):
        with pytest.raises(InvalidInputError, match=f"into {count} tiles, more than 65,536"):
            make_table().tiles(size)

    @pytest.mark.parametrize("size", [1e-200, 5e-324])
    def test_more_tiles_than_can_be_counted_are_refused(self, size):
        with pytest.raises(InvalidInputError, match="more than 65,536"):
            make_table().tiles(size)

    def test_tiles_too_small_for_their_coordinates_are_refused(self):
        far = 1e16
        table = Localizations(np.empty((0, 2)), field_of_view=(far, 0, far + 8, 8))
        with pytest.raises(InvalidInputError, match="y_min < y_max"):
            table.tiles(1)


class TestThin:
    def test_all_or_nothing(self):
        table = make_table()
        assert table.thin(1) == table
        assert len(table.thin(0)) == 0

    def test_each_row_stays_with_the_given_probability(self):
        table = make_table(20_000)
        kept = table.thin(0.3, random_state=0)
        assert abs(len(kept) - 6000) < 5 * np.sqrt(20_000 * 0.3 * 0.7)
        assert (np.diff(kept["row"]) > 0).all()

    def test_the_same_seed_keeps_the_same_rows(self):
        table = make_table()
        assert table.thin(0.5, random_state=4) == table.thin(0.5, random_state=4)
        assert table.thin(0.5, random_state=4) != table.thin(0.5, random_state=5)

    @pytest.mark.parametrize("fraction", [-0.1, 1.1, np.nan])
    def test_another_fraction_is_refused(self, fraction):
        with pytest.raises(InvalidInputError, match="fraction"):
            make_table().thin(fraction)


class TestSplit:
    @in_its_own_time
    @given(n=st.integers(0, 60), seed=st.integers(0, 2**31))
    def test_a_random_split_is_disjoint_and_complete(self, n, seed):
        table = make_table(n, seed=seed)
        halves = table.split("random", random_state=seed)
        assert rows_of(*halves) == list(range(n))

    @in_its_own_time
    @given(
        frames=st.lists(st.integers(-5, 10**12), min_size=1, max_size=60),
        n_blocks=st.integers(2, 12),
        seed=st.none() | st.integers(0, 100),
    )
    def test_blocks_are_disjoint_and_complete_and_share_no_frame(self, frames, n_blocks, seed):
        frame = np.array([*frames, min(frames) + 20])
        table = make_table(len(frame), frame=frame)
        halves = table.split("frames", n_blocks=n_blocks, random_state=seed)
        assert rows_of(*halves) == list(range(len(frame)))
        assert not np.intersect1d(halves[0]["frame"], halves[1]["frame"]).size

    @pytest.mark.parametrize("first_frame", [0, 777])
    def test_blocks_alternate_without_a_seed(self, first_frame):
        table = make_table(40, frame=first_frame + np.arange(40))
        first, second = table.split("frames", n_blocks=4)
        np.testing.assert_array_equal(first["row"] // 10, np.repeat([0, 2], 10))
        np.testing.assert_array_equal(second["row"] // 10, np.repeat([1, 3], 10))

    def test_a_seed_draws_half_of_the_blocks(self):
        table = make_table(1000, frame=np.arange(1000))
        draws = {tuple(table.split("frames", random_state=seed)[0]["row"]) for seed in range(10)}
        assert len(draws) > 5
        assert {len(rows) for rows in draws} == {500}

    def test_auto_takes_frames_where_there_are_enough(self):
        table = make_table(40, frame=np.arange(40))
        assert table.split() == table.split("frames")

    @pytest.mark.parametrize("frame", [np.zeros(40, int), np.arange(40) % 9])
    def test_auto_is_random_where_there_are_too_few_frames(self, frame):
        table = make_table(40, frame=frame)
        assert table.split(random_state=0) == table.split("random", random_state=0)

    def test_auto_is_random_where_there_are_no_frames(self):
        table = Localizations(np.zeros((40, 2)))
        assert table.split(random_state=0) == table.split("random", random_state=0)

    def test_halves_of_a_random_split_are_binomial(self):
        first, _ = make_table(20_000).split("random", random_state=0)
        assert abs(len(first) - 10_000) < 5 * np.sqrt(5000)

    @pytest.mark.parametrize("n_blocks", [1, 0, 41, 2.5])
    def test_a_number_of_blocks_that_cannot_be_is_refused(self, n_blocks):
        table = make_table(40, frame=np.arange(40))
        with pytest.raises(InvalidInputError, match="n_blocks"):
            table.split("frames", n_blocks=n_blocks)

    def test_frames_without_a_column_of_frames_are_refused(self):
        with pytest.raises(InvalidInputError, match="cannot split 0 frames"):
            Localizations(np.zeros((5, 2))).split("frames")

    def test_an_unknown_way_is_refused(self):
        with pytest.raises(InvalidInputError, match="by must be"):
            make_table().split("time")


class TestConcat:
    def test_rows_follow_one_another(self):
        table = make_table()
        halves = table.select(slice(0, 30)), table.select(slice(30, None))
        assert concat(halves) == table

    def test_the_field_of_view_holds_all(self):
        first = Localizations(np.array([[1.0, 1.0]]), field_of_view=(0, 0, 10, 10))
        second = Localizations(np.array([[-3.0, 5.0]]), field_of_view=(2, -8, 7, 0))
        assert concat([first, second]).field_of_view == FieldOfView(0.0, -8.0, 10.0, 10.0)

    def test_metadata_that_all_agree_on_are_kept(self):
        def table(**metadata):
            return Localizations(np.zeros((1, 2)), metadata=metadata)

        joined = concat([table(a=1, b=2, c=None), table(a=1, b=3)])
        assert joined.metadata == {"a": 1}

    def test_columns_may_stand_in_another_order(self):
        first = Localizations({"x": [1.0], "y": [2.0]})
        second = Localizations({"y": [4.0], "x": [3.0]})
        np.testing.assert_array_equal(concat([first, second]).x, [1, 3])

    def test_other_columns_are_named(self):
        plain = Localizations({"x": [1.0], "y": [2.0]})
        with pytest.raises(InvalidInputError, match=r"table 1 and table 0 .*\['frame'"):
            concat([plain, make_table()])

    def test_nothing_to_join_is_refused(self):
        with pytest.raises(InvalidInputError, match="at least one"):
            concat([])

    def test_what_is_no_table_is_refused(self):
        table = make_table()
        with pytest.raises(InvalidTypeError, match="DataFrame"):
            concat([table, table.to_frame()])


class TestEquality:
    def test_tables_with_the_same_content_are_equal(self):
        assert make_table() == make_table()
        assert make_table() != make_table(seed=1)
        assert make_table() != make_table().to_frame().to_dict()

    def test_nan_equals_nan(self):
        photons = np.array([np.nan, 1.0])
        assert make_table(2, photons=photons) == make_table(2, photons=photons.copy())

    def test_text_columns_are_compared(self):
        assert make_table(2, dye=["a", "b"]) == make_table(2, dye=["a", "b"])
        assert make_table(2, dye=["a", "b"]) != make_table(2, dye=["a", "c"])

    def test_field_of_view_and_metadata_count(self):
        points = np.zeros((1, 2))
        table = Localizations(points, metadata={"a": 1})
        assert table != Localizations(points, metadata={"a": 2})
        assert table != Localizations(points, metadata={"a": 1}, field_of_view=(0, 0, 9, 9))

    def test_the_order_of_metadata_does_not_count(self):
        first, second = (
            Localizations(np.zeros((1, 2)), metadata=metadata)
            for metadata in ({"a": 1, "b": 2}, {"b": 2, "a": 1})
        )
        assert first == second

    def test_a_table_is_not_hashable(self):
        with pytest.raises(TypeError, match="unhashable"):
            hash(make_table())


class TestCopies:
    @pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
    def test_pickle_gives_an_equal_read_only_table(self, protocol):
        table = make_table().select(slice(0, 50, 2))
        restored = pickle.loads(pickle.dumps(table, protocol))
        assert restored == table
        assert not any(restored[name].flags.writeable for name in restored)

    @pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
    def test_copy_gives_an_equal_read_only_table(self, duplicate):
        table = make_table()
        assert duplicate(table) == table
        assert not duplicate(table).x.flags.writeable


class TestRepr:
    def test_it_says_what_a_person_wants_to_know(self):
        table = make_table(1500, uncertainty_x=np.full(1500, 9.5))
        text = repr(table)
        for fact in ("1,500 localizations", "2 x 1 µm", "750 per µm²", "50 frames", "9.5 nm"):
            assert fact in text
        assert text.endswith("; x, y, frame, photons, row, uncertainty_x)")

    def test_html_says_the_same_and_escapes_names(self):
        page = make_table(1, **{"<script>": [1]})._repr_html_()
        assert "&lt;script&gt;" in page
        assert "<script>" not in page
        assert page.startswith("<table>")
        assert "localizations" in page

    def test_uncertainties_that_are_all_nan_are_no_obstacle(self):
        assert "2 localizations" in repr(make_table(2, uncertainty_x=np.full(2, np.nan)))
