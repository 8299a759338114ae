import numpy as np
import pytest
from scipy import stats

from smlmkit import FieldOfView
from smlmkit.errors import InvalidInputError
from smlmkit.simulate.primitives import KINDS, draw_primitives

FIELD = FieldOfView(100.0, 200.0, 1100.0, 2200.0)


def draw(n_primitives=1, kinds=KINDS, size=(200, 1500), thickness=(10, 60), seed=0):
    return draw_primitives(
        FIELD,
        n_primitives,
        kinds=kinds,
        size=size,
        thickness=thickness,
        random_state=np.random.RandomState(seed),
    )


def each(curves):
    """Give nodes and thickness of every primitive."""
    for number in np.unique(curves.curve):
        of_it = curves.curve == number
        nodes = np.concatenate([curves.start[of_it], curves.end[of_it][-1:]])
        yield nodes, curves.thickness[of_it][0]


def extents(curves):
    return np.array([nodes.max(axis=0) - nodes.min(axis=0) for nodes, _ in each(curves)])


def is_uniform(values, low, high):
    return stats.kstest((np.asarray(values) - low) / (high - low), "uniform").pvalue > 1e-3


def turns_of(nodes):
    direction = np.arctan2(*np.diff(nodes, axis=0).T)
    return np.abs((np.diff(direction) + np.pi) % (2 * np.pi) - np.pi)


class TestHowMany:
    def test_every_number_in_the_range_is_as_likely(self):
        numbers = [draw((2, 5), kinds="line", seed=seed).curve[-1] + 1 for seed in range(400)]
        counts = np.bincount(numbers, minlength=6)[2:]
        assert stats.chisquare(counts).pvalue > 1e-3
        assert sum(counts) == 400

    def test_one_number_is_how_many_there_are(self):
        assert len(np.unique(draw(7).curve)) == 7

    def test_every_kind_is_as_likely(self):
        # Of these two a line alone is one segment.
        segments = np.bincount(draw(600, kinds=("line", "circle")).curve)
        assert stats.binomtest(int((segments == 1).sum()), 600).pvalue > 1e-3

    def test_a_seed_gives_the_same_primitives(self):
        first, second, third = draw(5), draw(5), draw(5, seed=1)
        np.testing.assert_array_equal(first.start, second.start)
        assert first.start.shape != third.start.shape or (first.start != third.start).any()


class TestWhere:
    @pytest.mark.parametrize("kind", ["line", "circle", "ellipse", "ring"])
    def test_middles_are_uniform_in_the_field(self, kind):
        curves = draw(400, kinds=kind)
        middles = [(nodes.max(axis=0) + nodes.min(axis=0)) / 2 for nodes, _ in each(curves)]
        y, x = np.transpose(middles)
        assert is_uniform(y, 100, 1100)
        assert is_uniform(x, 200, 2200)

    @pytest.mark.parametrize("kind", ["line", "ellipse", "spline"])
    def test_every_orientation_is_as_likely(self, kind):
        angles = []
        for nodes, _ in each(draw(400, kinds=kind)):
            along = nodes[0] - nodes.mean(axis=0) if kind == "ellipse" else nodes[1] - nodes[0]
            angles.append(np.arctan2(*along) % (2 * np.pi))
        assert is_uniform(angles, 0, 2 * np.pi)


class TestWhat:
    @pytest.mark.parametrize("kind", ["spline", "line", "circle", "ellipse"])
    def test_thicknesses_are_uniform_in_their_range(self, kind):
        assert is_uniform([width for _, width in each(draw(400, kinds=kind))], 10, 60)

    def test_a_line_is_as_long_as_its_size(self):
        assert is_uniform(draw(400, kinds="line").lengths, 200, 1500)

    def test_a_circle_is_as_wide_as_its_size(self):
        curves = draw(400, kinds="circle")
        height, width = extents(curves).T
        np.testing.assert_allclose(height, width)
        assert is_uniform(width, 200, 1500)
        for nodes, _ in each(curves):
            radius = np.linalg.norm(nodes[:-1] - nodes[:-1].mean(axis=0), axis=1)
            np.testing.assert_allclose(radius, radius[0])
            np.testing.assert_allclose(nodes[0], nodes[-1])

    def test_the_axes_of_an_ellipse_are_size_and_from_a_fifth_of_it_on(self):
        long, ratio = [], []
        for nodes, _ in each(draw(400, kinds="ellipse")):
            radius = np.linalg.norm(nodes[:-1] - nodes[:-1].mean(axis=0), axis=1)
            long.append(2 * radius.max())
            ratio.append(radius.min() / radius.max())
        assert is_uniform(long, 200, 1500)
        assert is_uniform(ratio, 0.2, 1)

    def test_a_ring_reaches_from_its_size_inwards_up_to_its_middle(self):
        outer, widths = [], []
        for nodes, width in each(draw(400, kinds="ring", thickness=20)):
            outer.append(nodes[:, 0].max() - nodes[:, 0].min() + width)
            widths.append((width - 20) / (outer[-1] / 2 - 20))
        assert is_uniform(outer, 200, 1500)
        assert is_uniform(widths, 0, 1)

    def test_a_spline_is_smooth_and_stays_within_its_size(self):
        curves = draw(100, kinds="spline", size=800)
        assert extents(curves).max() < 800 + 1e-9
        # What its control points take up, it does for the most part, too.
        assert (extents(curves).max(axis=1) > 400).all()
        for nodes, _ in each(curves):
            assert turns_of(nodes).max() < np.radians(3)

    def test_splines_differ_in_how_they_bend(self):
        bends = [turns_of(nodes).sum() for nodes, _ in each(draw(100, kinds="spline"))]
        assert np.percentile(bends, 5) < np.radians(60)
        assert np.percentile(bends, 95) > np.radians(150)

    def test_without_a_thickness_they_are_lines(self):
        curves = draw(20, kinds=("spline", "circle"), thickness=0)
        assert not curves.thickness.any()
        assert curves.measure == curves.length


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_primitives": 0}, "n_primitives must be a whole number of at least 1, got 0"),
        ({"n_primitives": (1, 2.5)}, "n_primitives must be a whole number of at least 1, got 2.5"),
        ({"n_primitives": (5, 2)}, "n_primitives must be a number or the smallest and the largest"),
        ({"kinds": "star"}, "kinds must be one of 'spline', .*, got 'star'"),
        ({"kinds": ("line", "star")}, "kinds must be one of 'spline', .*, got 'star'"),
        ({"kinds": ()}, "kinds must name at least one"),
        ({"size": 0}, "size must be a positive number, got 0"),
        ({"size": (100, np.inf)}, "size must be a positive number, got inf"),
        ({"size": (1, 2, 3)}, "size must be a number or the smallest and the largest one, got"),
        ({"size": "large"}, "size must be a number or the smallest and the largest one, got"),
        ({"thickness": -1}, "thickness must be in"),
        ({"thickness": (-1, 10)}, "thickness must be a number from 0 on, got -1"),
        ({"thickness": (10, 101)}, r"thickness must be in \[0, 100\], got 101"),
        ({"thickness": (0, 10), "kinds": "line"}, "thickness must be above 0, got"),
        ({"thickness": 0}, "rings have one"),
    ],
)
def test_what_cannot_be_drawn_is_refused(parameters, message):
    with pytest.raises(InvalidInputError, match=message):
        draw(**parameters)
