import copy
import math
import pickle
from itertools import pairwise

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline

from smlmkit import FieldOfView, FRCScorer, Localizations, PixelGrid, Renderer, to_image
from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.filters import (
    CountFilter,
    FrameWindow,
    IsolatedFilter,
    LocalizationFilter,
    Thin,
    _table_shape,
)
from smlmkit.testing import check_fov_estimator

in_its_own_time = settings(deadline=None)

TABLE_FILTERS = [
    LocalizationFilter(x=(200, None), frame=(None, 400)),
    IsolatedFilter(radius=60, min_neighbors=4),
    FrameWindow(random_state=0),
    Thin(random_state=0),
]
PIPELINES = [
    *(make_pipeline(one, Renderer(20)) for one in TABLE_FILTERS),
    make_pipeline(Renderer(20), CountFilter()),
]
BAD_PARAMETERS = [
    *(LocalizationFilter(photons=given) for given in (5, None, "ab", (1,), (1, 2, 3), {1, 2})),
    *(LocalizationFilter(photons=given) for given in ((2, 1), (math.nan, 1), ("a", 2), (True, 2))),
    *(IsolatedFilter(radius=radius) for radius in (0, -1, math.nan, math.inf, None)),
    *(IsolatedFilter(min_neighbors=number) for number in (-1, 2.5, True, None)),
    IsolatedFilter(n_threads=0),
    *(FrameWindow(fraction) for fraction in (0, 1.1, math.nan, None, "half", True)),
    *(FrameWindow(fraction) for fraction in ((0, 0.5), (0.5, 0.1), (0.5, 2), (0.1, 0.2, 0.3))),
    *(Thin(fraction) for fraction in (-0.1, 1.1, math.nan, None, "half", True)),
    FrameWindow(random_state="seed"),
    Thin(random_state=-1),
]


def table(n=1000, side=1000.0, seed=0, **columns):
    """Draw uniform points, with frames of several rows that are in no order, and row numbers."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, side, (2, n))
    frame = rng.integers(0, n // 2 + 1, n)
    columns = {"x": x, "y": y, "frame": frame, "row": np.arange(n), **columns}
    return Localizations(columns, field_of_view=(0, 0, side, side), metadata={"source": "a.csv"})


def points(y, x, field_of_view=None):
    return Localizations({"x": x, "y": y}, field_of_view=field_of_view)


def image_of(values):
    values = np.asarray(values)
    return to_image(values, PixelGrid((0, 0), 10, values.shape))


class TestEveryOne:
    @pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda pipeline: pipeline.steps[0][0])
    def test_passes_the_checks_of_estimators(self, pipeline):
        assert check_fov_estimator(pipeline)

    @pytest.mark.parametrize("one", TABLE_FILTERS, ids=str)
    def test_keeps_some_rows_in_their_order_and_all_else(self, one):
        fov = table()
        kept = one.transform(fov)
        assert 0 < len(kept) < len(fov)
        assert np.all(np.diff(kept["row"]) > 0)
        assert kept == fov.select(kept["row"])

    @pytest.mark.parametrize("one", TABLE_FILTERS, ids=str)
    def test_gives_one_for_one_and_a_list_for_a_list(self, one):
        fovs = [table(), table(500, seed=1), table(0)]
        several = one.fit_transform(fovs)
        assert isinstance(several, list)
        assert len(several) == 3
        assert several[0] == one.transform(fovs[0])
        assert set(several[1]["row"]) < set(range(500))
        assert several[2] == fovs[2]

    @pytest.mark.parametrize("one", TABLE_FILTERS, ids=str)
    def test_takes_data_frames(self, one):
        assert len(one.transform(table().to_frame())) == len(one.transform(table()))

    @pytest.mark.parametrize("one", TABLE_FILTERS, ids=str)
    def test_a_clone_does_the_same(self, one):
        twin = clone(one)
        assert twin is not one
        assert twin.get_params() == one.get_params()
        assert repr(twin) == repr(one)
        assert twin.transform(table()) == one.transform(table())
        assert pickle.loads(pickle.dumps(one)).transform(table()) == one.transform(table())

    @pytest.mark.parametrize("one", BAD_PARAMETERS, ids=str)
    def test_refuses_bad_parameters_at_fit_and_transform(self, one):
        name = r"photons|radius|min_neighbors|n_threads|fraction|random_state"
        for method in (one.fit, one.transform):
            with pytest.raises(InvalidInputError, match=name):
                method(table())

    def test_refuses_what_is_no_sample(self):
        with pytest.raises(InvalidInputError, match=r"X\[1\]"):
            Thin().fit([table(), "locs.csv"])
        with pytest.raises(InvalidTypeError, match="expected an image"):
            CountFilter().fit(table())


class TestLocalizationFilter:
    def kept(self, values, **ranges):
        n = len(values)
        fov = table(n, photons=np.asarray(values))
        return LocalizationFilter(**ranges).fit_transform(fov)["photons"].tolist()

    def test_ranges_are_closed(self):
        assert self.kept([1, 2, 3, 4], photons=(2, 3)) == [2, 3]

    def test_a_side_may_be_open(self):
        values = [-math.inf, 1.0, 2.0, math.inf]
        assert self.kept(values, photons=(2, None)) == values[2:]
        assert self.kept(values, photons=(None, 1)) == values[:2]
        assert self.kept(values, photons=(None, None)) == values

    def test_nan_lies_in_no_range(self):
        assert self.kept([math.nan, 1.0], photons=(None, None)) == [1]

    def test_a_limit_means_the_same_in_single_precision(self):
        values = np.array([20.1, 20.2], np.float32)
        assert self.kept(values, photons=(None, 20.1)) == values[:1].tolist()
        assert self.kept(values, photons=(np.float64(20.2), None)) == values[1:].tolist()

    def test_nothing_to_look_at_keeps_everything(self):
        assert LocalizationFilter().fit_transform(table()) == table()

    def test_all_ranges_must_hold(self):
        fov = table()
        both = LocalizationFilter(x=(200, 700), frame=(None, 100)).transform(fov)
        one = LocalizationFilter(x=(200, 700)).transform(fov)
        assert both == LocalizationFilter(frame=(None, 100)).transform(one)
        assert 0 < len(both) < len(one)

    @in_its_own_time
    @given(
        st.lists(st.floats()),
        st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False)).map(sorted),
    )
    def test_what_is_kept_and_what_is_not_are_all(self, values, limits):
        low, high = limits
        below = self.kept(values, photons=(None, math.nextafter(low, -math.inf)))
        within = self.kept(values, photons=limits)
        above = self.kept(values, photons=(math.nextafter(high, math.inf), None))
        assert within == [value for value in values if low <= value <= high]
        # An infinite limit has no neighbour: the range beyond it is the limit itself.
        if -math.inf < low <= high < math.inf:
            numbers = [value for value in values if not math.isnan(value)]
            assert sorted(below + within + above) == sorted(numbers)

    def test_ranges_are_parameters_whatever_their_name(self):
        ranges = {"photons": (500, None), "ranges": (1, 2), "self": (0, 1), "a__b": (3, 4)}
        one = LocalizationFilter(**ranges)
        assert one.get_params() == one.get_params(deep=False) == ranges
        assert clone(one).get_params() == ranges
        pipeline = Pipeline([("filter", one)]).set_params(filter__a__b=(5, 6), filter__new=(7, 8))
        assert pipeline["filter"].get_params() == {**ranges, "a__b": (5, 6), "new": (7, 8)}
        assert "photons=(500, None)" in repr(one)
        assert "photons" in one._repr_html_()

    def test_setting_a_range_leaves_copies_alone(self):
        one = LocalizationFilter(photons=(500, None))
        twin = copy.copy(one)
        assert one.set_params(photons=(1, 2)) is one
        assert twin.get_params() == {"photons": (500, None)}

    def test_a_missing_column_is_named_and_the_sample(self):
        one = LocalizationFilter(photons=(1, None))
        with pytest.raises(InvalidInputError, match="no column 'photons', only x, y, frame, row"):
            one.transform(table())
        with pytest.raises(InvalidInputError, match=r"X\[1\]: there is no column 'photons'"):
            one.transform([table(10, photons=np.ones(10)), table(10)])

    def test_a_column_of_text_is_refused(self):
        with pytest.raises(InvalidInputError, match="'label' must hold numbers"):
            LocalizationFilter(label=(1, 2)).transform(table(2, label=np.array(["a", "b"])))

    def test_a_search_finds_the_range_that_drops_the_background(self):
        def filaments_and_dim_background(seed):
            rng = np.random.default_rng(seed)
            n = 3000
            bright = rng.random(n) < 0.5
            x, y = rng.uniform(0, 1000, (2, n))
            x = np.where(bright, 250 * rng.integers(1, 4, n) + rng.normal(0, 10, n), x)
            return table(n, seed=seed, x=x, y=y, photons=np.where(bright, 900, 200))

        pipeline = Pipeline([("filter", LocalizationFilter()), ("render", Renderer(10))])
        ranges = [(None, None), (500, None), (None, 500)]
        search = GridSearchCV(
            pipeline, {"filter__photons": ranges}, scoring=FRCScorer(), cv=2, error_score="raise"
        )
        search.fit([filaments_and_dim_background(seed) for seed in range(2)])
        assert search.best_params_ == {"filter__photons": (500, None)}
        assert search.best_estimator_["filter"].get_params() == {"photons": (500, None)}


def has_neighbors_slowly(fov, radius, min_neighbors):
    """Compare every point with every other as the definition says."""
    dy, dx = np.subtract.outer(fov.y, fov.y), np.subtract.outer(fov.x, fov.x)
    return (dy * dy + dx * dx <= radius * radius).sum(axis=1) - 1 >= min_neighbors


def blobs(n, seed):
    """Draw points half in dense blobs, half all over the field."""
    rng = np.random.default_rng(seed)
    centers = rng.uniform(100, 900, (2, 5))[:, rng.integers(0, 5, n)]
    y, x = np.where(rng.random(n) < 0.5, centers + rng.normal(0, 20, (2, n)), 0)
    elsewhere = rng.uniform(0, 1000, (2, n))
    return points(*np.where(y == 0, elsewhere, [y, x]), (0, 0, 1000, 1000))


@st.composite
def lattices(draw):
    """Draw points on whole numbers, many of them as far apart as the radius is long."""
    n_points, side = draw(st.integers(1, 40)), draw(st.integers(1, 30))
    cells = st.lists(st.integers(0, side), min_size=n_points, max_size=n_points)
    shift = draw(st.integers(-100, 100))
    fov = points(np.array(draw(cells)) + shift, np.array(draw(cells)) - shift)
    return fov, draw(st.sampled_from([1, 2, 5, math.sqrt(2), 2.5, 13, 100]))


class TestIsolatedFilter:
    def kept(self, fov, radius, min_neighbors):
        one = IsolatedFilter(radius, min_neighbors)
        marked = Localizations(
            {"x": fov.x, "y": fov.y, "row": np.arange(len(fov))}, field_of_view=fov.field_of_view
        )
        return one.transform(marked)["row"]

    @pytest.mark.parametrize("fov", [table(3000), blobs(3000, seed=1)], ids=["uniform", "blobs"])
    @pytest.mark.parametrize("radius", [0.5, 10, 33.3, 400, 5000])
    @pytest.mark.parametrize("min_neighbors", [1, 3, 20])
    def test_it_agrees_with_a_tree(self, fov, radius, min_neighbors):
        yx = np.column_stack([fov.y, fov.x])
        counts = cKDTree(yx).query_ball_point(yx, radius, return_length=True) - 1
        expected = np.flatnonzero(counts >= min_neighbors)
        np.testing.assert_array_equal(self.kept(fov, radius, min_neighbors), expected)

    @in_its_own_time
    @given(lattices(), st.integers(0, 8))
    def test_a_point_as_far_as_the_radius_is_a_neighbor(self, lattice, min_neighbors):
        fov, radius = lattice
        yx = np.column_stack([fov.y, fov.x])
        counts = cKDTree(yx).query_ball_point(yx, radius, return_length=True) - 1
        expected = has_neighbors_slowly(fov, radius, min_neighbors)
        if float(radius).is_integer():  # where the tree has no rounding to do either
            np.testing.assert_array_equal(expected, counts >= min_neighbors)
        rows = self.kept(fov, radius, min_neighbors)
        np.testing.assert_array_equal(rows, np.flatnonzero(expected))

    def test_rounding_hides_no_neighbor_behind_the_next_cell(self):
        # (4.9 + 3.3) / 0.1 rounds to below 82 and (5.0 + 3.3) / 0.1 to 83.
        along = np.arange(-33, 99) / 10
        for y, x in ((along, np.zeros(132)), (np.zeros(132), along)):
            fov = points(y, x, (-3.3, -3.3, 10, 10))
            expected = np.flatnonzero(has_neighbors_slowly(fov, 0.1, 1))
            np.testing.assert_array_equal(self.kept(fov, 0.1, 1), expected)

    def test_every_larger_radius_keeps_more_and_every_larger_number_less(self):
        fov = blobs(1000, seed=2)
        by_radius = [set(self.kept(fov, radius, 5)) for radius in (5, 20, 40, 80)]
        by_number = [set(self.kept(fov, 40, number)) for number in (20, 5, 2, 0)]
        for sets in (by_radius, by_number):
            assert all(few < more for few, more in pairwise(sets))

    def test_the_order_of_rows_does_not_matter(self):
        fov = blobs(2000, seed=3)
        order = np.random.default_rng(0).permutation(len(fov))
        rows = order[self.kept(fov.select(order), 20, 4)]
        assert set(rows) == set(self.kept(fov, 20, 4))

    def test_threads_do_not_matter(self):
        fov = table(100_000, side=10_000.0)
        one, several = (IsolatedFilter(50, 8, n_threads=n).transform(fov) for n in (1, None))
        assert one == several
        assert 0 < len(one) < len(fov)

    def test_a_point_is_no_neighbor_of_itself_but_of_its_twin(self):
        fov = points(np.array([5, 5, 5, 900]), np.array([5, 5, 5, 900]))
        assert self.kept(fov, 1, 2).tolist() == [0, 1, 2]
        assert self.kept(fov, 1, 3).tolist() == []

    def test_it_needs_no_table_of_the_whole_field(self):
        # 10^12 cells along each axis, and neighbours that are 10^9 cells from the next ones.
        y = np.repeat([0, 1e9 - 1, 0, 3e8], 2) + np.tile([0, 0.0009], 4)
        x = np.repeat([0, 0, 1e9 - 1, 5e8], 2)
        fov = points(np.append(y, 7e8), np.append(x, 7e8), (0, 0, 1e9, 1e9))
        assert self.kept(fov, 1e-3, 1).tolist() == list(range(8))

    def test_rounding_hides_no_neighbor_in_a_huge_field(self):
        # 10^9 nm from the corner, floats are twice as far apart as these neighbours.
        y = np.random.default_rng(0).uniform(0, 1, 1000)
        fov = points(np.append(y, y + 5.9e-8), np.zeros(2000), (-1e9, 0, 2, 1))
        assert len(self.kept(fov, 6e-8, 1)) == 2000

    def test_an_outlier_changes_nothing(self):
        inner = blobs(3000, seed=4)
        y, x = (np.append(inner[name], 1e9) for name in "yx")
        rows = self.kept(points(y, x), 20, 5)
        np.testing.assert_array_equal(rows, self.kept(inner, 20, 5))

    @given(st.tuples(*[st.floats(1e-3, 1e9)] * 2), st.floats(1, 1e6), st.integers(0, 10**9))
    def test_there_are_as_many_buckets_as_cells_or_a_few_a_point(self, extent, cell, n_points):
        shape = _table_shape(FieldOfView(0, 0, *extent), cell, n_points)
        for side in shape:
            assert side in 2 ** np.arange(2, 40)
        n_buckets, limit = math.prod(shape), max(16, 4 * n_points)
        assert n_buckets <= limit
        covered = all(side * cell >= one for side, one in zip(shape, extent, strict=True))
        assert covered or n_buckets > limit / 2

    def test_extreme_parameters(self):
        fov = table(100)
        assert len(self.kept(fov, 1e300, 99)) == 100
        assert len(self.kept(fov, 1e300, 100)) == 0
        assert len(self.kept(fov, 1e300, 10**30)) == 0
        assert len(self.kept(fov, 1e-300, 0)) == 100
        assert len(self.kept(fov, 1e-300, 1)) == 0

    def test_columns_that_are_strided_give_the_same(self):
        fov = table(500)
        array = np.column_stack([fov.x, fov.y])
        array.flags.writeable = False
        strided = Localizations(array, field_of_view=fov.field_of_view)
        np.testing.assert_array_equal(self.kept(strided, 40, 2), self.kept(fov, 40, 2))


class TestCountFilter:
    def test_pixels_below_become_zero(self):
        clean = CountFilter(min_count=2).fit_transform(image_of(np.float32([[0, 1, 2], [3, 1, 9]])))
        np.testing.assert_array_equal(clean, [[0, 0, 2], [3, 0, 9]])

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int64])
    def test_all_else_stays(self, dtype):
        values = np.arange(24, dtype=dtype).reshape(2, 3, 4)
        stack = to_image(values, PixelGrid((5, 7), 10, (3, 4)), channel=[3, 8], units="photons")
        before = stack.copy(deep=True)
        clean = CountFilter(min_count=11).transform(stack)
        xr.testing.assert_identical(stack, before)
        assert clean.dtype == dtype
        xr.testing.assert_identical(clean, before.where(before >= 11, dtype(0)))

    def test_nan_is_not_below(self):
        clean = CountFilter().transform(image_of([[math.nan, 1.0]]))
        np.testing.assert_array_equal(clean, [[math.nan, 0]])

    def test_a_list_gives_a_list(self):
        images = [image_of([[1, 2]]), image_of([[3], [0]])]
        several = CountFilter().transform(images)
        assert [one.to_numpy().tolist() for one in several] == [[[0, 2]], [[3], [0]]]

    @pytest.mark.parametrize("min_count", [0, -1, math.nan, None, "many"])
    def test_a_bad_number_is_refused_at_fit_and_transform(self, min_count):
        one = CountFilter(min_count)
        for method in (one.fit, one.transform):
            with pytest.raises(InvalidInputError, match="min_count must be a positive number"):
                method(image_of([[1, 2]]))

    def test_a_bad_image_is_named(self):
        with pytest.raises(InvalidInputError, match=r"X\[1\]"):
            CountFilter().transform([image_of([[1]]), np.eye(3)])


def with_frames(frame):
    frame = np.asarray(frame)
    return table(len(frame), frame=frame)


class TestFrameWindow:
    @in_its_own_time
    @given(
        st.lists(st.integers(-5, 20), min_size=1, max_size=60),
        st.floats(0.01, 1),
        st.integers(0, 2**32 - 1),
    )
    def test_it_is_the_shortest_window_of_whole_frames(self, frame, share, seed):
        fov = with_frames(frame)
        kept = FrameWindow(share, random_state=seed).transform(fov)
        first, last = kept["frame"].min(), kept["frame"].max()
        assert kept == fov.select((fov["frame"] >= first) & (fov["frame"] <= last))
        assert len(kept) / len(fov) >= share * (1 - 1e-6)
        assert np.count_nonzero(kept["frame"] < last) < share * len(fov)

    def test_every_window_is_drawn_and_none_past_the_end(self):
        fov = with_frames([2, 0, 0, 1, 2, 5, 2, 6])
        windows = set()
        for seed in range(100):
            frame = FrameWindow(0.4, random_state=seed).transform(fov)["frame"]
            windows.add((int(frame.min()), int(frame.max()), len(frame)))
        # 0.4 of 8 are 4: after frame 2 there are too few.
        assert windows == {(0, 2, 6), (1, 2, 4), (2, 5, 4)}

    def test_starts_are_uniform(self):
        fov = with_frames(np.repeat(np.arange(10), 3))
        random = np.random.RandomState(0)
        kept = FrameWindow(0.1, random_state=random).transform([fov] * 2000)
        counts = np.bincount([one["frame"][0] for one in kept], minlength=10)
        # 200 expected of each; six standard deviations are 80.
        assert abs(counts - 200).max() < 80

    @pytest.mark.parametrize(
        ("share", "n"), [(0.07, 7), (0.29, 29), (0.001, 1), (1e-9, 1), (1, 100), (1.0, 100)]
    )
    def test_the_share_is_met_without_rounding_up(self, share, n):
        assert len(FrameWindow(share).transform(with_frames(np.arange(100)))) == n

    def test_each_table_gets_a_share_of_its_own(self):
        fov = with_frames(np.arange(1000))
        kept = FrameWindow(random_state=0).transform([fov] * 200)
        shares = np.array([len(one) for one in kept]) / 1000
        assert 0.05 <= shares.min() < 0.07
        assert 0.28 < shares.max() <= 0.301
        assert shares.mean() == pytest.approx(0.175, abs=0.03)

    def test_one_frame_is_never_cut(self):
        fov = with_frames([4] * 50)
        assert FrameWindow(0.1).transform(fov) == fov

    def test_frames_are_needed(self):
        bare = points(np.zeros(5), np.arange(5))
        with pytest.raises(InvalidInputError, match="no column 'frame', only x, y"):
            FrameWindow().transform(bare)
        with pytest.raises(InvalidInputError, match=r"X\[1\]: there is no column 'frame'"):
            FrameWindow().transform([table(), bare])


class TestThin:
    def test_it_is_what_a_table_does(self):
        assert Thin(0.3, random_state=5).transform(table()) == table().thin(0.3, 5)

    def test_all_or_nothing(self):
        assert Thin(1).transform(table()) == table()
        assert len(Thin(0).transform(table())) == 0


@pytest.mark.parametrize("random_filter", [FrameWindow, Thin])
class TestRandomness:
    def test_an_int_gives_the_same_every_time(self, random_filter):
        one = random_filter(random_state=3)
        assert one.transform(table()) == one.transform(table())
        assert one.transform(table()) != random_filter(random_state=4).transform(table())

    def test_a_source_goes_on(self, random_filter):
        one = random_filter(random_state=np.random.RandomState(3))
        first = one.transform(table())
        assert first == random_filter(random_state=3).transform(table())
        assert first != one.transform(table())

    def test_the_tables_of_a_list_get_draws_of_their_own(self, random_filter):
        first, second = random_filter(random_state=3).transform([table(), table()])
        assert first != second

    def test_the_global_state_is_left_alone(self, random_filter):
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        first, second = (random_filter().transform([table()] * 5) for _ in range(2))
        assert first != second
        np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
