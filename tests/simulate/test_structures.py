import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from smlmkit import FieldOfView, PixelGrid
from smlmkit.errors import InvalidInputError
from smlmkit.simulate.structures import Curves, worm_like_chains

in_its_own_time = settings(deadline=None)

BOX = FieldOfView(0.0, 0.0, 100.0, 100.0)
coordinate = st.floats(-300, 300)
polyline = st.lists(st.tuples(coordinate, coordinate), min_size=2, max_size=6)


def uneven_circle(radius, n_nodes=4000):
    """Give a circle's nodes, crowded where the parameter begins."""
    angle = 2 * np.pi * np.linspace(0, 1, n_nodes) ** 3
    return radius * np.column_stack([np.sin(angle), np.cos(angle)])


def distances(points):
    return np.hypot(*np.diff(points, axis=0).T)


def draw_chains(n_chains, length, persistence_length, step=20.0, seed=0, depth=0.0):
    rng = np.random.RandomState(seed)
    chains = worm_like_chains(
        np.zeros((n_chains, 2)),
        length,
        persistence_length=persistence_length,
        step=step,
        random_state=rng,
        depth=depth,
    )
    vectors = (chains.end - chains.start).reshape(n_chains, -1, chains.start.shape[1])
    return chains, vectors


def circle(radius, n_nodes=360):
    angle = np.linspace(0, 2 * np.pi, n_nodes, endpoint=False)
    return radius * np.column_stack([np.sin(angle), np.cos(angle)])


def shoelace(corners):
    (y, x), (next_y, next_x) = corners.T, np.roll(corners, -1, axis=0).T
    return abs((x * next_y - next_x * y).sum()) / 2


def clipped(corners, axis, edge, sign):
    """Cut a polygon along an edge of a pixel (Sutherland and Hodgman)."""
    kept = []
    for first, second in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        over, over_next = sign * (first[axis] - edge), sign * (second[axis] - edge)
        if over >= 0:
            kept.append(first)
        if over * over_next < 0:
            kept.append(first + over / (over - over_next) * (second - first))
    return np.array(kept).reshape(-1, 2)


def area_in_pixel(corners, grid, row, column):
    y, x = grid.origin[0] + row * grid.pixel_size, grid.origin[1] + column * grid.pixel_size
    for axis, edge in enumerate((y, x)):
        corners = clipped(corners, axis, edge, 1)
        corners = clipped(corners, axis, edge + grid.pixel_size, -1)
    return shoelace(corners) if len(corners) else 0.0


def corners_of(curves):
    """Give the corners of every strip in the plane by the formula of the documentation."""
    for start, end, thickness, slant in zip(
        curves.start, curves.end, curves.thickness, curves.slant, strict=True
    ):
        y, x = end - start
        normal = np.array([x, -y]) / np.hypot(y, x)
        yield np.array(
            [
                start + (t + u * slant[t]) * (end - start) + u * normal
                for t, u in zip((0, 0, 1, 1), thickness / 2 * np.array([-1, 1, 1, -1]), strict=True)
            ]
        )


def assert_drawn_as_rastered(curves, grid, n_points=50_000):
    """Compare the points drawn in each pixel with the share of the curves that it holds."""
    points, _ = curves.draw(n_points, np.random.RandomState(0))
    box = grid.field_of_view
    counts, *_ = np.histogram2d(*points[:, -2:].T, bins=grid.shape, range=(box[0::2], box[1::2]))
    expected = n_points * curves.raster(grid) / curves.measure
    assert expected.sum() == pytest.approx(n_points)
    # The test wants no fewer than five in each: all else is a pixel more, of at least one.
    many = expected > 5
    observed = np.append(counts[many], counts[~many].sum() + 1)
    wanted = np.append(expected[many], expected[~many].sum() + 1)
    assert stats.chisquare(observed, wanted).pvalue > 1e-3


HOUSE = [(10, 12), (10, 83), (55, 90), (90, 40), (60, 14)]
SHAPES = {
    "line": {"nodes": [[(13, 17), (77, 83)]]},
    "lines": {"nodes": [[(13, 17), (77, 83), (20, 80)], [(50, 1), (50, 95)]]},
    "outline": {"nodes": [HOUSE], "closed": True},
    "strip": {"nodes": [[(13, 17), (77, 83)]], "thickness": 10},
    "bent strip": {"nodes": [[(20, 20), (20, 70), (75, 30)]], "thickness": 12},
    "closed strip": {"nodes": [HOUSE], "thickness": 15, "closed": True},
    "two strips": {"nodes": [[(9, 9), (90, 60)], [(80, 20), (20, 90)]], "thickness": [4, 16]},
    "strip that folds over": {"nodes": [[(40, 40), (40, 46), (46, 46), (46, 40)]], "thickness": 30},
    "strip with a short end": {"nodes": [[(20, 20), (20, 70), (24, 62)]], "thickness": 30},
    "ring": {"nodes": [50 + circle(30)], "thickness": 20, "closed": True},
    "line in space": {"nodes": [[(0, 20, 20), (30, 70, 30), (30, 70, 90)]]},
    "strip in space": {"nodes": [[(0, 20, 20), (30, 70, 30), (30, 70, 80)]], "thickness": 20},
}


class TestCurves:
    def test_points_drawn_are_uniform_around_a_circle_although_its_nodes_are_not(self):
        nodes = uneven_circle(1000)
        points, _ = Curves.through([nodes]).draw(20_000, np.random.RandomState(0))
        assert np.std(distances(nodes)) / np.mean(distances(nodes)) > 0.8
        turn = np.arctan2(points[:, 0], points[:, 1]) / (2 * np.pi) % 1
        assert stats.kstest(turn, "uniform").pvalue > 1e-3

    def test_points_lie_at_uniform_arc_lengths_one_curve_after_another(self):
        curves = Curves.through([[(1, 2), (1, 2), (4, 6)], [(0, 0), (0, 1), (0, 1), (0, 15)]])
        points, curve = curves.draw(1000, np.random.RandomState(0))
        arc_length = np.random.RandomState(0).uniform(0, 20, 1000)
        on_first = arc_length < 5
        expected = np.where(
            on_first[:, None],
            np.array([1, 2]) + arc_length[:, None] * np.array([0.6, 0.8]),
            (arc_length[:, None] - 5) * np.array([0, 1]),
        )
        np.testing.assert_allclose(points, expected, atol=1e-12)
        np.testing.assert_array_equal(curve, np.where(on_first, 0, 1))

    def test_each_curve_gets_points_in_proportion_to_its_length(self):
        curves = Curves.through(
            [[(0, 0), (0, 100)], [(5, 0), (5, 50), (5, 300)], [(9, 0), (9, 10)]]
        )
        points, curve = curves.draw(10_000, np.random.RandomState(0))
        expected = 10_000 * np.array([100, 300, 10]) / 410
        assert stats.chisquare(np.bincount(curve), expected).pvalue > 1e-3
        np.testing.assert_array_equal(points[:, 0], np.array([0, 5, 9])[curve])

    def test_tiny_segments_beside_a_huge_one_get_their_share(self):
        tiny = np.column_stack([np.full(1001, 7.0), np.linspace(0, 1, 1001)])
        curves = Curves.through([[(0, 0), (0, 9)], tiny, [(3, 0), (3, 90)]])
        points, curve = curves.draw(100_000, np.random.RandomState(0))
        assert stats.chisquare(np.bincount(curve), [9000, 1000, 90_000]).pvalue > 1e-3
        assert stats.kstest(points[curve == 1, 1], "uniform").pvalue > 1e-3

    @pytest.mark.parametrize("shape", SHAPES)
    def test_points_drawn_lie_as_the_raster_says(self, shape):
        assert_drawn_as_rastered(
            Curves.through(**SHAPES[shape]), PixelGrid((-10, -10), 6, (20, 20))
        )

    def test_no_points_are_drawn_from_no_curves(self):
        none = Curves.through([[(500, 500), (600, 600)]]).within(BOX)
        assert none.measure == 0
        points, curve = none.draw(0, np.random.RandomState(0))
        assert points.shape == (0, 2)
        assert len(curve) == 0
        with pytest.raises(InvalidInputError, match="3 points cannot lie on curves"):
            none.draw(3, np.random.RandomState(0))

    def test_a_ring_is_drawn_evenly_over_its_area(self):
        ring = Curves.through([circle(100)], thickness=150, closed=True)
        points, _ = ring.draw(50_000, np.random.RandomState(0))
        squares = (points**2).sum(axis=1)
        inner, outer = 25**2, 175**2
        assert stats.kstest((squares - inner) / (outer - inner), "uniform").pvalue > 1e-3
        turn = np.arctan2(points[:, 0], points[:, 1]) / (2 * np.pi) % 1
        assert stats.kstest(turn, "uniform").pvalue > 1e-3

    def test_a_strip_that_folds_over_stays_near_its_curve(self):
        path = np.random.RandomState(0).uniform(0, 50, size=(40, 2))
        points, _ = Curves.through([path], thickness=30).draw(10_000, np.random.RandomState(1))
        # A cut goes at most as far along as a segment is long, from half a thickness aside.
        longest = distances(path).max()
        nearest = np.min(np.linalg.norm(points[:, None] - path, axis=2), axis=1)
        assert nearest.max() <= np.hypot(1.5 * longest, 15)

    def test_a_curve_that_crosses_the_box_is_cut_at_its_edges(self):
        inside = Curves.through([[(-50, -50), (150, 150)]]).within(BOX)
        np.testing.assert_allclose(inside.start, [(0, 0)])
        np.testing.assert_allclose(inside.end, [(100, 100)])

    @pytest.mark.parametrize("along", [0, 1])
    def test_segments_along_an_axis_are_cut(self, along):
        nodes = np.full((2, 2), 30.0)
        nodes[:, along] = [-10, 60]
        assert Curves.through([nodes]).within(BOX).length == 60
        nodes[:, 1 - along] = 130
        assert Curves.through([nodes]).within(BOX).length == 0

    def test_parts_inside_keep_the_number_of_their_curve(self):
        nodes = [[(10, 10), (20, 20)], [(-9, -9), (-5, -5)], [(50, 90), (50, 190)]]
        np.testing.assert_array_equal(Curves.through(nodes).within(BOX).curve, [0, 2])

    @in_its_own_time
    @given(st.lists(polyline, min_size=1, max_size=4), st.floats(1, 99))
    def test_two_halves_of_a_box_hold_the_length_of_the_whole(self, nodes, x):
        curves = Curves.through(nodes)
        whole = curves.within(BOX)
        left = curves.within(FieldOfView(0.0, 0.0, 100.0, x))
        right = curves.within(FieldOfView(0.0, x, 100.0, 100.0))
        # A segment that runs along the cut may belong to either half, or to both.
        along_cut = np.isclose(curves.start[:, 1], x) & np.isclose(curves.end[:, 1], x)
        if not along_cut.any():
            assert left.length + right.length == pytest.approx(whole.length, abs=1e-6)
        for ends in (whole.start, whole.end):
            assert ((ends >= -1e-9) & (ends <= 100 + 1e-9)).all()

    @pytest.mark.parametrize("shape", ["line", "lines", "outline"])
    def test_a_pixel_holds_the_length_of_the_lines_that_it_cuts_out(self, shape):
        curves, grid = Curves.through(**SHAPES[shape]), PixelGrid((-3.1, 4.7), 7, (12, 11))
        edges_y = grid.origin[0] + 7 * np.arange(13)
        edges_x = grid.origin[1] + 7 * np.arange(12)
        expected = [
            [curves.within(FieldOfView(y, x, y + 7, x + 7)).length for x in edges_x[:-1]]
            for y in edges_y[:-1]
        ]
        np.testing.assert_allclose(curves.raster(grid), expected, atol=1e-11)

    @pytest.mark.parametrize(
        "shape", ["strip", "bent strip", "closed strip", "two strips", "strip that folds over"]
    )
    def test_a_pixel_holds_the_area_of_the_strips_that_it_cuts_out(self, shape):
        curves, grid = Curves.through(**SHAPES[shape]), PixelGrid((-3.1, 24.7), 7, (12, 8))
        expected = np.zeros(grid.shape)
        for corners in corners_of(curves):
            for row, column in np.ndindex(grid.shape):
                expected[row, column] += area_in_pixel(corners, grid, row, column)
        np.testing.assert_allclose(curves.raster(grid), expected, atol=1e-10)

    @pytest.mark.parametrize("shape", SHAPES)
    def test_the_rasters_of_tiles_are_the_parts_of_the_whole(self, shape):
        curves = Curves.through(**SHAPES[shape])
        whole = curves.raster(PixelGrid((-20, -20), 2.5, (50, 60)))
        tiles = [
            [
                curves.raster(PixelGrid((2.5 * row - 20, 2.5 * column - 20), 2.5, (height, width)))
                for column, width in [(0, 27), (27, 13), (40, 20)]
            ]
            for row, height in [(0, 26), (26, 24)]
        ]
        np.testing.assert_allclose(np.block(tiles), whole, atol=1e-11)
        assert whole.sum() == pytest.approx(curves.measure)
        assert whole.min() == 0

    @in_its_own_time
    @given(st.lists(polyline, min_size=1, max_size=4), st.floats(0.1, 200), st.booleans())
    def test_pixels_hold_all_of_the_curves(self, nodes, thickness, closed):
        grid = PixelGrid((-2000, -2000), 40, (100, 100))
        for width in (0, thickness):
            curves = Curves.through(nodes, thickness=width, closed=closed)
            assert curves.raster(grid).sum() == pytest.approx(curves.measure, abs=1e-4)

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("box", [(0, 0, 40, 90), (13.3, 20.1, 60, 33.7), (-9, -9, 99, 99)])
    def test_a_box_holds_what_its_pixels_do(self, shape, box):
        curves, box = Curves.through(**SHAPES[shape]), FieldOfView(*box)
        grid = PixelGrid(box[:2], 0.1, (round(10 * box.height), round(10 * box.width)))
        assert curves.measure_within(box) == pytest.approx(curves.raster(grid).sum(), rel=1e-6)

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("ends", [(-19.9, 70), (33.7, 41.2), (40, 55), (80, 80), (200, 3)])
    def test_only_what_lies_before_the_ends_of_the_field_counts(self, shape, ends):
        curves, grid = Curves.through(**SHAPES[shape]), PixelGrid((-20, -20), 10, (10, 9))
        expected = np.zeros(grid.shape)
        for row, column in np.ndindex(grid.shape):
            y, x = 10 * row - 20, 10 * column - 20
            bottom, right = min(y + 10, ends[0]), min(x + 10, ends[1])
            if y < bottom and x < right:
                expected[row, column] = curves.measure_within(FieldOfView(y, x, bottom, right))
        image = curves.raster(grid, FieldOfView(-50, -50, *ends))
        np.testing.assert_allclose(image, expected, atol=1e-9)

    def test_a_corner_is_filled_once(self):
        curves = Curves.through([[(5, 0), (5, 25), (30, 25)]], thickness=10)
        image = curves.raster(PixelGrid((0, 0), 5, (6, 6))) / 25
        expected = np.zeros((6, 6))
        expected[:2] = expected[:, 4:] = 1
        np.testing.assert_allclose(image, expected, atol=1e-12)
        assert curves.measure == 500

    def test_a_closed_square_has_all_of_its_corners(self):
        square = [(10, 10), (10, 40), (40, 40), (40, 10)]
        curves = Curves.through([square], thickness=10, closed=True)
        image = curves.raster(PixelGrid((0, 0), 5, (10, 10))) / 25
        expected = np.zeros((10, 10))
        expected[1:9, 1:9] = 1
        expected[3:7, 3:7] = 0
        np.testing.assert_allclose(image, expected, atol=1e-12)

    def test_an_open_strip_ends_at_a_right_angle_at_its_nodes(self):
        image = Curves.through([[(10, 10), (10, 30)]], thickness=10).raster(
            PixelGrid((0, 0), 5, (4, 8))
        )
        expected = np.zeros((4, 8))
        expected[1:3, 2:6] = 25
        np.testing.assert_allclose(image, expected, atol=1e-12)

    def test_a_line_between_two_pixels_belongs_to_the_upper_one(self):
        line = Curves.through([[(5, 2), (5, 8)]])
        np.testing.assert_allclose(line.raster(PixelGrid((0, 0), 5, (2, 2))), [[0, 0], [3, 3]])
        assert not line.raster(PixelGrid((0, 0), 5, (1, 2))).any()
        assert line.raster(PixelGrid((5, 0), 5, (1, 2))).sum() == 6

    def test_a_filled_disc_covers_its_pixels(self):
        disc = Curves.through([circle(50)], thickness=100, closed=True)
        image = disc.raster(PixelGrid((-105, -105), 5, (42, 42)))
        assert image.sum() == pytest.approx(np.pi * 100**2, rel=1e-4)
        y, x = np.mgrid[-102.5:105:5, -102.5:105:5]
        radius = np.hypot(y, x)
        np.testing.assert_allclose(image[(radius < 95) & (radius > 8)], 25, rtol=1e-3)
        assert not image[radius > 105].any()

    def test_lines_in_space_are_as_long_as_they_are_there(self):
        curves = Curves.through([[(0, 0, 0), (10, 10, 5)], [(0, 3, 3), (7, 3, 3)]])
        np.testing.assert_allclose(curves.lengths, [15, 7])
        image = curves.raster(PixelGrid((0, 0), 5, (2, 2)))
        np.testing.assert_allclose(image, [[7.5 + 7, 0], [7.5, 0]])

    def test_lines_in_space_are_cut_along_z_too(self):
        inside = Curves.through([[(-40, -50, 10), (160, 150, 10)]]).within(BOX)
        np.testing.assert_allclose(inside.start, [(10, 0, 10)])
        np.testing.assert_allclose(inside.end, [(110, 100, 10)])

    def test_points_on_strips_in_space_lie_on_a_plane(self):
        curves = Curves.through([[(0, 0, 0), (30, 40, 0)]], thickness=20)
        assert curves.measure == 1000
        points, _ = curves.draw(5000, np.random.RandomState(0))
        np.testing.assert_allclose(points[:, 0], 0.75 * points[:, 1])
        assert stats.kstest(points[:, 1] / 40, "uniform").pvalue > 1e-3
        assert stats.kstest(points[:, 2] / 20 + 0.5, "uniform").pvalue > 1e-3

    def test_strips_that_may_reach_into_the_box_are_kept_whole(self):
        nodes = [[(105, -20), (105, 120)], [(50, 112), (90, 112)], [(50, -300), (50, 300)]]
        curves = Curves.through(nodes, thickness=[20, 20, 5])
        kept = curves.within(BOX)
        np.testing.assert_array_equal(kept.curve, [0, 2])
        np.testing.assert_array_equal(kept.lengths, [140, 600])
        grid = PixelGrid.covering(BOX, 10)
        np.testing.assert_array_equal(kept.raster(grid), curves.raster(grid))

    @pytest.mark.parametrize(
        "nodes",
        [
            [[(0, 0)]],
            [[0, 1, 2]],
            [[(0, 0, 0, 0), (1, 1, 1, 1)]],
            [[(0, 0), (1, 1)], [(0, 0, 0), (1, 1, 1)]],
            [[(0, 0), (np.nan, 1)]],
            [[(0, 0), (np.inf, 1)]],
            [],
        ],
    )
    def test_what_is_no_curve_is_refused(self, nodes):
        with pytest.raises(InvalidInputError, match="curve"):
            Curves.through(nodes)

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"thickness": -1.0}, "thickness must be a number from 0 on, got"),
            ({"thickness": [1.0, np.nan]}, "thickness must be a number from 0 on, got"),
            ({"thickness": [1.0, np.inf]}, "thickness must be a number from 0 on, got"),
            ({"thickness": [1.0, 0.0]}, "must be lines or all strips, got the thicknesses"),
            ({"thickness": [1.0, 2.0, 3.0]}, "thickness must be one number or one for each of 2"),
            ({"closed": [True]}, "closed must be one number or one for each of 2"),
        ],
    )
    def test_what_is_no_shape_is_refused(self, parameters, message):
        with pytest.raises(InvalidInputError, match=message):
            Curves.through([[(0, 0), (1, 1)], [(2, 2), (3, 3)]], **parameters)

    def test_a_strip_straight_along_z_is_refused(self):
        with pytest.raises(InvalidInputError, match="straight along z"):
            Curves.through([[(0, 0, 0), (5, 0, 0), (5, 9, 9)]], thickness=3)


class TestWormLikeChains:
    def test_turns_between_segments_have_the_variance_of_the_model(self):
        _, vectors = draw_chains(200, 10_000, 2000, step=20)
        direction = np.unwrap(np.arctan2(vectors[..., 0], vectors[..., 1]), axis=1)
        turns = np.diff(direction, axis=1)
        assert stats.kstest(turns.ravel() / np.sqrt(20 / 2000), "norm").pvalue > 0.01
        assert turns.var() == pytest.approx(20 / 2000, rel=4 * np.sqrt(2 / turns.size))

    @pytest.mark.parametrize("fraction", [0.1, 0.5, 1.0, 2.0])
    def test_tangents_decorrelate_as_the_persistence_length_says(self, fraction):
        persistence, step, n_chains = 1000.0, 20.0, 2000
        _, vectors = draw_chains(n_chains, 4 * persistence, persistence, step)
        lag = round(fraction * persistence / step)
        cosine = (vectors[:, 0] * vectors[:, lag]).sum(axis=1) / step**2
        standard_error = cosine.std() / np.sqrt(n_chains)
        assert abs(cosine.mean() - np.exp(-fraction / 2)) < 4 * standard_error

    def test_mean_square_distance_of_the_ends_is_that_of_the_model(self):
        persistence, length, n_chains = 1000.0, 4000.0, 2000
        _, vectors = draw_chains(n_chains, length, persistence)
        squares = (vectors.sum(axis=1) ** 2).sum(axis=1)
        ratio = 2 * persistence / length
        expected = 2 * ratio * length**2 * (1 - ratio * (1 - np.exp(-1 / ratio)))
        assert abs(squares.mean() - expected) < 4 * squares.std() / np.sqrt(n_chains)

    def test_every_direction_is_as_likely(self):
        _, vectors = draw_chains(3000, 1000, 500)
        turn = np.arctan2(vectors[:, -1, 0], vectors[:, -1, 1]) / (2 * np.pi) % 1
        assert stats.kstest(turn, "uniform").pvalue > 0.01

    def test_segments_have_the_length_of_a_step(self):
        chains, vectors = draw_chains(3, 1000, 5000, step=30)
        np.testing.assert_allclose(chains.lengths, 30)
        assert vectors.shape[1] == 34

    def test_the_middle_lies_at_the_center(self):
        centers = np.array([[10.0, 20.0], [-300.0, 7.0]])
        chains = worm_like_chains(
            centers, 500, persistence_length=100, step=5, random_state=np.random.RandomState(1)
        )
        middle = chains.start.reshape(2, -1, 2)[:, 50]
        np.testing.assert_allclose(middle, centers, atol=1e-9)

    def test_an_infinite_persistence_length_gives_straight_lines(self):
        _, vectors = draw_chains(5, 1000, np.inf)
        np.testing.assert_allclose(vectors, np.broadcast_to(vectors[:, :1], vectors.shape))

    def test_the_depth_leaves_the_filaments_as_they_are_in_the_plane(self):
        flat, _ = draw_chains(5, 1000, 2000)
        deep, _ = draw_chains(5, 1000, 2000, depth=400)
        np.testing.assert_array_equal(deep.start[:, 1:], flat.start)
        np.testing.assert_array_equal(deep.end[:, 1:], flat.end)

    def test_filaments_of_some_depth_fill_it_evenly(self):
        chains, _ = draw_chains(3000, 100, 2000, depth=400)
        z = chains.start.reshape(3000, -1, 3)[:, 0, 0]
        assert stats.kstest(z / 400 + 0.5, "uniform").pvalue > 1e-3

    def test_filaments_rise_and_sink_over_the_length_that_walls_leave_them(self):
        depth, persistence, step = 400.0, 2000.0, 20.0
        chains, _ = draw_chains(2000, 2000, persistence, step=step, depth=depth)
        z = chains.start.reshape(2000, -1, 3)[..., 0]
        height = stats.norm.ppf(z / depth + 0.5)
        wall_to_wall = np.cbrt(depth**2 * persistence)
        for lag in (5, 20, 40, 80):
            products = height[:, 0] * height[:, lag]
            expected = np.exp(-((lag * step / wall_to_wall) ** 2) / 2)
            assert abs(products.mean() - expected) < 4 * products.std() / np.sqrt(2000)

    def test_straight_filaments_stay_at_one_depth(self):
        chains, _ = draw_chains(5, 1000, np.inf, depth=100)
        z = chains.start.reshape(5, -1, 3)[..., 0]
        np.testing.assert_array_equal(z, np.broadcast_to(z[:, :1], z.shape))
        assert len(np.unique(z)) == 5
