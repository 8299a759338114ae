import json
import pickle

import numpy as np
import pytest
from scipy import stats
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import ParameterGrid
from sklearn.pipeline import make_pipeline

from smlmkit import AnisotropicKDE, GaussianKDE, Localizations, PixelGrid, Renderer, to_image
from smlmkit.drawing import render_histogram
from smlmkit.errors import InvalidInputError, InvalidTypeError, UnusedRowsWarning
from smlmkit.strategies import (
    STRATEGIES,
    DynamicHalves,
    FixedHalves,
    NoiseToClean,
    SparseToDense,
    Strategy,
    resolve_strategy,
)

ALL = [
    FixedHalves(),
    DynamicHalves(),
    DynamicHalves(keep=(0.2, 0.9), halves="even_odd"),
    NoiseToClean(keep=0.5),
    SparseToDense(),
    SparseToDense(windows="random"),
]
every_strategy = pytest.mark.parametrize("strategy", ALL, ids=repr)

# Crops of 8 pixels of 50 nm in fields that they cover but for the corners.
SIDE = 566.0
N_FRAMES, N_PER_FRAME = 40, 10
FRAME_EDGES = np.arange(N_FRAMES + 1) - 0.5


def table(n=4000, side=2000.0, seed=0, **columns):
    """Draw uniform points with frames and depths that are in no order."""
    rng = np.random.default_rng([seed, n, 3])
    x, y = rng.uniform(0, side, (2, n))
    columns = {"x": x, "y": y, "frame": rng.integers(0, n // 4, n), "z": rng.random(n), **columns}
    return Localizations(columns, field_of_view=(0, 0, side, side))


def frames_as_slices(in_order=False):
    """Make a table with all points within reach of every crop, whose z is the frame."""
    frame = np.arange(N_FRAMES).repeat(N_PER_FRAME)
    frame = frame if in_order else np.random.default_rng(4).permutation(frame)
    middle = np.full(len(frame), SIDE / 2)
    columns = {"x": middle, "y": middle, "frame": frame, "z": frame.astype(float)}
    return Localizations(columns, field_of_view=(0, 0, SIDE, SIDE))


def make(strategy, fovs, targets=None, *, patch_size=8, pixel_size=50.0, z_edges=None, seed=0):
    return strategy.make_pairs(
        fovs, targets, patch_size=patch_size, pixel_size=pixel_size, z_edges=z_edges, seed=seed
    )


def draw_frames(strategy, n, in_order=False):
    """Draw n pairs; give how many localizations of each frame are in the inputs and targets."""
    pairs = make(strategy, [frames_as_slices(in_order)], z_edges=FRAME_EDGES)
    return [images.sum(axis=(2, 3)) for images in pairs.draw(n)]


def blurred(sigma, table, pixel_size):
    return GaussianKDE(sigma).fit_transform(render_histogram(table, pixel_size))


def orientations(crop):
    return [np.rot90(flipped, turns).copy() for flipped in (crop, crop.T) for turns in range(4)]


class TestEveryStrategy:
    @every_strategy
    def test_is_a_parameter_that_can_be_cloned_and_shown(self, strategy):
        copied = clone(strategy)
        assert copied.get_params() == strategy.get_params()
        assert repr(copied) == repr(strategy)
        assert repr(pickle.loads(pickle.dumps(strategy))) == repr(strategy)
        assert STRATEGIES[strategy.name] is type(strategy)

    @every_strategy
    def test_same_seed_same_pairs_however_they_are_batched(self, strategy):
        fovs, dense = [table(), table(600, side=1000)], [table(seed=1), table(side=1000)]
        together = make(strategy, fovs, dense).draw(6)
        pairs = make(strategy, fovs, dense)
        batched = [np.concatenate(half) for half in zip(*map(pairs.draw, (1, 3, 2)), strict=True)]
        np.testing.assert_array_equal(together, batched)
        assert not np.array_equal(together, make(strategy, fovs, dense, seed=1).draw(6))

    @every_strategy
    def test_goes_on_from_a_state_in_the_midst(self, strategy):
        pairs = make(strategy, [table()], [table(seed=1)])
        pairs.draw(5)
        state = json.dumps(pairs.get_state())
        following = pairs.draw(7)
        others = make(strategy, [table()], [table(seed=1)])
        others.set_state(json.loads(state))
        np.testing.assert_array_equal(others.draw(7), following)

    @every_strategy
    def test_points_outside_of_the_slices_take_no_part_and_are_counted(self, strategy):
        z = np.tile([np.nan, -0.1, 0.2, 0.5, 1.0, 1.1, np.inf, 0.3], 500)
        edges = [0.0, 0.5, 1.0]
        with pytest.warns(UnusedRowsWarning, match=r"X\[0\]: 2,000 of 4,000 .* 0 to 1 nm"):
            pairs = make(strategy, [table(z=z)], [table(seed=1)], z_edges=edges)
        inside = np.isin(z, [0.2, 0.5, 1.0, 0.3])
        others = make(strategy, [table(z=z).select(inside)], [table(seed=1)], z_edges=edges)
        inputs, targets = pairs.draw(200)
        assert inputs.shape == targets.shape == (200, 2, 8, 8)
        # 0.5 and 1.0 in the upper slice, 0.2 and 0.3 in the lower one.
        assert inputs[:, 0].sum() == pytest.approx(inputs[:, 1].sum(), rel=0.1)
        np.testing.assert_array_equal((inputs, targets), others.draw(200))

    @every_strategy
    def test_a_table_without_z_has_no_slices(self, strategy):
        flat = Localizations({name: table()[name] for name in ("x", "y", "frame")})
        with pytest.raises(InvalidInputError, match=r"X\[1\]: .*no column 'z'"):
            make(strategy, [table(), flat], [table(), table()], z_edges=[0, 1])

    @pytest.mark.parametrize("edges", [[0], [1, 0], [0, np.nan], [0, np.inf], [[0, 1]], "ab", 3])
    def test_edges_that_do_not_rise_are_refused(self, edges):
        with pytest.raises(InvalidInputError, match="z_edges must be at least two rising edges"):
            make(DynamicHalves(), [table()], z_edges=edges)

    def test_crops_differ_between_strategies(self):
        drawn = [make(one, [table()], [table()]).draw(6)[0].tobytes() for one in ALL]
        assert len(set(drawn)) == len(ALL)


class TestFixedHalves:
    def test_crops_are_those_of_a_rendering(self):
        # The last row and column of pixels reach past the field.
        fov = table(side=990.0)
        counts = render_histogram(fov, 50).to_numpy()
        corners = [(top, left) for top in range(13) for left in range(13)]
        crops = [counts[top : top + 8, left : left + 8] for top, left in corners]
        ways = {way.tobytes() for crop in crops for way in orientations(crop)}
        drawn = {crop.tobytes() for crop in sum(make(FixedHalves(), [fov]).draw(4000))}
        assert drawn <= ways
        # Of 1,352 equally likely ways, 4,000 draws leave out 5 %.
        assert len(drawn) > 0.9 * len(ways)

    def test_the_noise_is_always_the_same(self):
        # The field is as large as a crop.
        one, other = (make(FixedHalves(), [table(side=400.0)], seed=seed) for seed in (0, 1))
        drawn = {pair.tobytes() for pair in np.stack(one.draw(500), axis=1)}
        assert len(drawn) == 16
        assert not drawn & {pair.tobytes() for pair in np.stack(other.draw(500), axis=1)}

    def test_either_half_is_the_input_and_both_are_as_large(self):
        inputs, targets = make(FixedHalves(), [frames_as_slices()]).draw(400)
        sizes = np.unique(inputs.sum(axis=(1, 2, 3)), return_counts=True)
        assert stats.binomtest(int(sizes[0][0]), N_FRAMES * N_PER_FRAME).pvalue > 0.01
        assert sizes[0].sum() == N_FRAMES * N_PER_FRAME
        assert stats.binomtest(int(sizes[1][0]), 400).pvalue > 0.01
        assert np.all((inputs + targets).sum(axis=(1, 2, 3)) == N_FRAMES * N_PER_FRAME)


class TestDynamicHalves:
    def test_random_halves_hold_every_frame(self):
        inputs, targets = draw_frames(DynamicHalves(keep=1.0), 50)
        assert np.all(inputs + targets == N_PER_FRAME)
        assert np.all(inputs.sum(axis=0) > 0)
        assert inputs.mean() == pytest.approx(N_PER_FRAME / 2, rel=0.05)

    def test_even_and_odd_frames_are_never_in_one_half(self):
        inputs, targets = draw_frames(DynamicHalves(keep=0.9, halves="even_odd"), 400)
        even_first = inputs[:, 0::2].any(axis=1)
        assert stats.binomtest(int(even_first.sum()), 400).pvalue > 0.01
        for images, holds_even in ((inputs, even_first), (targets, ~even_first)):
            assert not images[holds_even, 1::2].any()
            assert not images[~holds_even, 0::2].any()
            assert images.sum() / (400 * N_FRAMES * N_PER_FRAME) == pytest.approx(0.45, abs=0.005)

    @pytest.mark.parametrize("halves", ["random", "even_odd"])
    def test_a_range_of_shares_spreads_densities_uniformly(self, halves):
        inputs, targets = draw_frames(DynamicHalves(keep=(0.2, 0.9), halves=halves), 1000)
        shares = (inputs + targets).sum(axis=1) / (N_FRAMES * N_PER_FRAME)
        # Of 400 localizations, a share is known to 0.025, which hardly widens 0.7.
        assert stats.kstest(shares, stats.uniform(0.2, 0.7).cdf).pvalue > 0.01
        assert inputs.sum() == pytest.approx(targets.sum(), rel=0.01)

    def test_even_and_odd_frames_need_frames(self):
        flat = Localizations(np.ones((5, 2)), field_of_view=(0, 0, 2000, 2000))
        with pytest.raises(InvalidInputError, match=r"X\[1\]: halves='even_odd' .*only x, y"):
            make(DynamicHalves(halves="even_odd"), [table(), flat])


class TestNoiseToClean:
    def test_the_target_holds_all_points_of_the_dense_table_in_the_crop(self):
        dense = table(side=2000)
        inputs, targets = make(NoiseToClean(), [dense.thin(0.3, 0)], [dense]).draw(300)
        assert np.all(inputs <= targets)
        assert inputs.sum() / targets.sum() == pytest.approx(0.3, abs=0.02)
        inputs, targets = make(NoiseToClean(), [dense], [dense]).draw(5)
        np.testing.assert_array_equal(inputs, targets)

    def test_a_share_of_the_inputs_may_be_kept(self):
        dense = table()
        inputs, targets = make(NoiseToClean(keep=0.25), [dense], [dense]).draw(300)
        assert np.all(inputs <= targets)
        assert inputs.sum() / targets.sum() == pytest.approx(0.25, abs=0.01)

    @pytest.mark.parametrize("pixel_size", [50, 25, 125])
    def test_an_image_counts_as_much_at_every_pixel_size(self, pixel_size):
        dense = table(side=2000)
        image = blurred(300, dense, pixel_size)
        _, counted = make(NoiseToClean(), [dense], [dense]).draw(300)
        _, sampled = make(NoiseToClean(), [dense], [image]).draw(300)
        assert sampled.sum() == pytest.approx(counted.sum(), rel=0.02)

    def test_a_larger_target_is_looked_at_where_the_table_lies(self):
        dense = table(side=2000)
        fov = dense.crop((700, 300, 1700, 1300))
        inputs, targets = make(NoiseToClean(), [fov], [dense]).draw(20)
        np.testing.assert_array_equal(inputs, targets)
        edges = (np.arange(41) * 50)[:-1] + 25.0
        ramp = to_image(np.tile(edges, (40, 1)), PixelGrid((0, 0), 50, (40, 40)))
        _, targets = make(NoiseToClean(), [fov], [ramp]).draw(500)
        assert targets.mean() == pytest.approx(800, rel=0.02)

    def test_targets_are_a_stack_with_the_slices(self):
        dense, edges = table(), [0.0, 0.4, 1.0]
        stack = Renderer(50, z_bins=edges).fit_transform(dense)
        inputs, targets = make(NoiseToClean(), [dense], [stack], z_edges=edges).draw(200)
        assert targets.shape == (200, 2, 8, 8)
        np.testing.assert_allclose(
            targets.sum(axis=(0, 2, 3)), inputs.sum(axis=(0, 2, 3)), rtol=0.03
        )
        for wrong in (stack[:1], Renderer(50, z_bins=[0, 0.5, 1]).fit_transform(dense)):
            with pytest.raises(InvalidInputError, match=r"y\[0\]: its slices lie at"):
                make(NoiseToClean(), [dense], [wrong], z_edges=edges)
        with pytest.raises(InvalidInputError, match=r"y\[0\]: where there are no slices"):
            make(NoiseToClean(), [dense], [stack])
        with pytest.raises(InvalidInputError, match=r"y\[0\]: where there are 2 slices"):
            make(NoiseToClean(), [dense], [stack[0]], z_edges=edges)

    def test_points_of_the_target_outside_of_the_slices_are_counted(self):
        with pytest.warns(UnusedRowsWarning, match=r"y\[0\]: 4,000 of 4,000"):
            make(
                NoiseToClean(),
                [table(), table()],
                [table(z=np.full(4000, 3.0)), table()],
                z_edges=[0, 1],
            )

    @pytest.mark.parametrize("shift", [26.0, -26.0])
    def test_a_target_that_does_not_cover_the_field_is_refused(self, shift):
        fov = table(side=2000)
        moved = to_image(np.ones((40, 40)), PixelGrid((0, shift), 50, (40, 40)))
        near = to_image(np.ones((40, 40)), PixelGrid((0, shift * 0.9), 50, (40, 40)))
        make(NoiseToClean(), [fov], [near]).draw(10)
        with pytest.raises(InvalidInputError, match=r"y\[0\]: .* does not cover .*: 26 nm"):
            make(NoiseToClean(), [fov], [moved])
        with pytest.raises(InvalidInputError, match=r"y\[1\]: .* does not cover .*: 500 nm"):
            make(NoiseToClean(), [fov, fov], [fov, fov.crop((0, 500, 2000, 2000))])

    @pytest.mark.parametrize(
        ("targets", "message"),
        [
            (None, "'n2c' needs y"),
            ([], "X has 2 fields of view, y has 0"),
            ([table(), blurred(50, table(), 50)], "one kind, got DataArray, Localizations"),
            ([table(), np.ones((40, 40))], "one kind, got Localizations, ndarray"),
            ([blurred(50, table(), 50), blurred(50, table(), 50) * np.nan], r"y\[1\]: "),
            ([table().select(slice(0))] * 2, "y holds no localizations"),
        ],
    )
    def test_targets_that_cannot_be_used_are_named(self, targets, message):
        with pytest.raises((InvalidInputError, InvalidTypeError), match=message):
            make(NoiseToClean(), [table(), table()], targets)


class TestSparseToDense:
    @pytest.mark.parametrize("share", [0.05, 0.3, 1.0])
    def test_an_input_is_a_window_of_frames_that_holds_the_share(self, share):
        inputs, _ = draw_frames(SparseToDense(share=share), 200)
        n_wanted = share * N_FRAMES * N_PER_FRAME
        assert np.all(np.abs(inputs.sum(axis=1) - n_wanted) <= 1)
        for counts in inputs:
            frames = np.flatnonzero(counts)
            assert np.all(np.diff(frames) == 1)
            assert np.all(counts[frames[1:-1]] == N_PER_FRAME)

    def test_windows_and_shares_are_uniform(self):
        inputs, _ = draw_frames(SparseToDense(share=(0.1, 0.3)), 1000)
        shares = inputs.sum(axis=1) / (N_FRAMES * N_PER_FRAME)
        assert stats.kstest(shares, stats.uniform(0.1, 0.2).cdf).pvalue > 0.01
        ranks = np.argmax(inputs > 0, axis=1) * N_PER_FRAME + N_PER_FRAME / 2
        starts = ranks / (N_FRAMES * N_PER_FRAME) / (1 - shares)
        assert starts.mean() == pytest.approx(0.5, abs=0.04)
        assert np.quantile(starts, [0.25, 0.75]) == pytest.approx([0.25, 0.75], abs=0.06)

    def test_random_windows_hold_localizations_of_all_frames(self):
        inputs, _ = draw_frames(SparseToDense(share=0.3, windows="random"), 200, in_order=True)
        assert np.all(np.abs(inputs.sum(axis=1) - 0.3 * N_FRAMES * N_PER_FRAME) <= 1)
        assert (inputs > 0).sum(axis=1).min() > 0.8 * N_FRAMES
        # Of the frames' counts, which are hypergeometric, about a thousandth are full.
        assert (inputs == N_PER_FRAME).mean() < 0.01

    def test_frames_are_taken_where_there_are_any(self):
        columns = {name: table()[name] for name in ("x", "y")}
        flat = Localizations(columns, field_of_view=(0, 0, 2000, 2000))
        drawn = [
            make(SparseToDense(windows=windows), [fov]).draw(5)[0]
            for fov, windows in (
                (flat, "auto"),
                (flat, "random"),
                (table(), "auto"),
                (table(), "frames"),
            )
        ]
        np.testing.assert_array_equal(drawn[0], drawn[1])
        np.testing.assert_array_equal(drawn[2], drawn[3])
        assert not np.array_equal(drawn[0], drawn[2])
        with pytest.raises(InvalidInputError, match=r"X\[1\]: windows='frames' needs .*'frame'"):
            make(SparseToDense(windows="frames"), [table(), flat])

    def test_the_default_target_is_the_anisotropic_estimate_of_all_localizations(self):
        fov, edges = table(), [0.0, 0.4, 1.0]
        counts = Renderer(50, z_bins=edges).fit_transform(fov)
        estimate = AnisotropicKDE().fit_transform(counts)
        flat = AnisotropicKDE().fit_transform(render_histogram(fov, 50))
        for target, z_edges in ((estimate, edges), (flat, None)):
            _, expected = make(NoiseToClean(), [fov], [target], z_edges=z_edges).draw(1)
            _, drawn = make(SparseToDense(share=1.0), [fov], z_edges=z_edges).draw(1)
            np.testing.assert_array_equal(drawn, expected)

    def test_a_transformer_gets_the_counts_or_else_the_table(self):
        fov = table()
        images = [
            (GaussianKDE(60), blurred(60, fov, 50)),
            (make_pipeline(Renderer(20), GaussianKDE(60)), blurred(60, fov, 20)),
        ]
        for target, image in images:
            given = clone(target)
            _, drawn = make(SparseToDense(target, share=1.0), [fov]).draw(1)
            _, expected = make(NoiseToClean(), [fov], [image]).draw(1)
            np.testing.assert_array_equal(drawn, expected)
            assert repr(target) == repr(given)

    def test_a_target_that_is_no_image_of_the_field_is_named(self):
        class Gives(BaseEstimator):
            def __init__(self, what):
                self.what = what

            def fit_transform(self, _):
                return self.what

        elsewhere = to_image(np.ones((40, 40)), PixelGrid((500, 0), 50, (40, 40)))
        with pytest.raises(InvalidInputError, match=r"target of X\[0\]: .* does not cover"):
            make(SparseToDense(Gives(elsewhere)), [table()])
        with pytest.raises(InvalidTypeError, match=r"target of X\[0\]: .*got list"):
            make(SparseToDense(Gives([1])), [table()])


class TestResolving:
    @pytest.mark.parametrize("name", ["fixed", "dynamic", "n2c", "sparse2dense"])
    def test_a_name_is_the_strategy_with_its_defaults(self, name):
        strategy = resolve_strategy(name)
        assert strategy.name == name
        assert repr(strategy) == f"{type(strategy).__name__}()"
        assert strategy.needs_targets == (name == "n2c")

    def test_a_strategy_is_itself(self):
        strategy = DynamicHalves(keep=0.5)
        assert resolve_strategy(strategy) is strategy

    def test_another_name_lists_all(self):
        names = "'fixed', 'dynamic', 'n2c', 'sparse2dense'"
        with pytest.raises(InvalidInputError, match=f"one of {names} .* got 'magic'"):
            resolve_strategy("magic")

    @pytest.mark.parametrize("strategy", [None, 3, DynamicHalves, GaussianKDE()])
    def test_other_objects_are_refused(self, strategy):
        with pytest.raises(InvalidTypeError, match="strategy must be a name or a Strategy"):
            resolve_strategy(strategy)

    @pytest.mark.parametrize(
        ("strategy", "message"),
        [
            *(
                (DynamicHalves(keep=keep), "keep must be a number in")
                for keep in (0, 1.1, True, None, "all", (0.5, 0.2), (0.1, 0.2, 0.3), (0, 1), np.nan)
            ),
            (NoiseToClean(keep=2), "keep must be .* got 2"),
            (SparseToDense(share=(0.1, 2)), r"share must be .* got \(0.1, 2\)"),
            (DynamicHalves(halves="odd"), "halves must be 'random' or 'even_odd', got 'odd'"),
            (SparseToDense(windows=5), "windows must be 'auto', 'frames' or 'random', got 5"),
            (SparseToDense(target="kde"), "target must be a transformer or None, got 'kde'"),
            (SparseToDense(target=GaussianKDE), "target must be a transformer or None"),
        ],
        ids=str,
    )
    def test_bad_parameters_are_named(self, strategy, message):
        for use in (resolve_strategy, lambda one: make(one, [table()], [table()])):
            with pytest.raises((InvalidInputError, InvalidTypeError), match=message):
                use(strategy)

    def test_parameters_of_a_strategy_can_be_searched(self):
        class Model(BaseEstimator):
            def __init__(self, strategy="dynamic"):
                self.strategy = strategy

        model = Model(SparseToDense(target=GaussianKDE()))
        grid = ParameterGrid({"strategy__target__sigma": [20.0, 40.0], "strategy__share": [0.1]})
        found = [clone(model).set_params(**parameters).strategy for parameters in grid]
        assert [one.target.sigma for one in found] == [20.0, 40.0]
        assert {one.share for one in found} == {0.1}
        assert model.strategy.share == (0.05, 0.3)

    def test_a_class_of_ones_own_is_taken(self):
        class Sparser(DynamicHalves):
            name = "sparser"

        assert isinstance(resolve_strategy(Sparser()), Strategy)
