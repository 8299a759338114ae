import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from smlmkit import FieldOfView
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


def draw_chains(n_chains, length, persistence_length, step=20.0, seed=0):
    rng = np.random.RandomState(seed)
    chains = worm_like_chains(
        np.zeros((n_chains, 2)),
        length,
        persistence_length=persistence_length,
        step=step,
        random_state=rng,
    )
    return chains, (chains.end - chains.start).reshape(n_chains, -1, 2)


class TestCurves:
    def test_points_are_even_along_the_curve_although_its_nodes_are_not(self):
        nodes = uneven_circle(1000)
        curves = Curves.through([nodes])
        points, _ = curves.at(np.linspace(0, curves.length, 500))
        assert np.std(distances(nodes)) / np.mean(distances(nodes)) > 0.8
        assert np.std(distances(points)) / np.mean(distances(points)) < 1e-3

    def test_random_arc_lengths_are_uniform_around_a_circle(self):
        curves = Curves.through([uneven_circle(1000)])
        arc_length = np.random.RandomState(0).uniform(0, curves.length, 20_000)
        points, _ = curves.at(arc_length)
        turn = np.arctan2(points[:, 0], points[:, 1]) / (2 * np.pi) % 1
        assert stats.kstest(turn, "uniform").pvalue > 0.01

    def test_each_curve_gets_points_in_proportion_to_its_length(self):
        curves = Curves.through(
            [[(0, 0), (0, 100)], [(5, 0), (5, 50), (5, 300)], [(9, 0), (9, 10)]]
        )
        arc_length = np.random.RandomState(0).uniform(0, curves.length, 10_000)
        points, curve = curves.at(arc_length)
        expected = 10_000 * np.array([100, 300, 10]) / 410
        assert stats.chisquare(np.bincount(curve), expected).pvalue > 0.01
        np.testing.assert_array_equal(points[:, 0], np.array([0, 5, 9])[curve])

    def test_first_and_last_arc_length_are_the_ends(self):
        curves = Curves.through([[(1, 2), (1, 2), (4, 6)], [(0, 0), (0, 1), (0, 1)]])
        points, curve = curves.at(np.array([0.0, curves.length]))
        np.testing.assert_array_equal(points, [(1, 2), (0, 1)])
        np.testing.assert_array_equal(curve, [0, 1])

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

    @pytest.mark.parametrize("nodes", [[[(0, 0)]], [[0, 1, 2]], [[(0, 0, 0), (1, 1, 1)]], []])
    def test_what_is_no_curve_is_refused(self, nodes):
        with pytest.raises(InvalidInputError, match="curve"):
            Curves.through(nodes)


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
