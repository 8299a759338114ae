import numpy as np
import pytest
from scipy import stats
from scipy.spatial import cKDTree

from smlmkit import FieldOfView, make_blinks, make_microtubules
from smlmkit.errors import InvalidInputError
from smlmkit.simulate import Curves
from smlmkit.simulate.blinks import CAMERA_PIXEL_SIZE

DIAGONAL = Curves.through([[[0, 0], [2000, 3000]]])
SMALL = {"field_size": (2000.0, 3000.0), "density": 200.0}


@pytest.fixture(scope="module")
def simulated():
    return make_microtubules(
        field_size=(6000, 9000),
        n_filaments=8,
        density=1000,
        uncertainty=10,
        blinks_per_emitter=4,
        n_frames=20_000,
        background=0.1,
        random_state=0,
    )


def evenly_along(curves, spacing):
    """Give points on lines, evenly spaced along them."""
    ends = np.append(0, np.cumsum(curves.lengths))
    arc_length = np.arange(spacing / 2, ends[-1], spacing)
    segment = np.searchsorted(ends, arc_length, side="right") - 1
    share = (arc_length - ends[segment]) / curves.lengths[segment]
    return curves.start[segment] + share[:, None] * (curves.end - curves.start)[segment]


def errors_of(blinks, truth, axis):
    seen = truth.emitter >= 0
    error = blinks[axis][seen] - truth.emitters[axis][truth.emitter[seen]]
    return error, blinks[f"uncertainty_{axis}"][seen]


class TestTable:
    def test_it_is_a_table_of_a_real_acquisition(self, simulated):
        blinks, _ = simulated
        assert blinks.field_of_view == FieldOfView(0.0, 0.0, 6000.0, 9000.0)
        assert blinks.metadata == {"camera_pixel_size": CAMERA_PIXEL_SIZE, "n_frames": 20_000}
        assert blinks["frame"].dtype == np.int64
        assert (np.diff(blinks["frame"]) >= 0).all()
        assert blinks["frame"][0] >= 0
        assert blinks["frame"][-1] < 20_000

    def test_density_counts_the_localizations_of_the_whole_field(self, simulated):
        blinks, truth = simulated
        n_drawn = 54_000
        assert n_drawn * 0.995 < len(blinks) <= n_drawn
        assert len(truth.emitter) == len(blinks)

    @pytest.mark.parametrize("axis", ["x", "y"])
    def test_errors_are_normal_with_the_stated_uncertainty(self, simulated, axis):
        error, uncertainty = errors_of(*simulated, axis)
        assert stats.kstest(error / uncertainty, "norm").pvalue > 0.01
        squares = error**2
        standard_error = squares.std() / np.sqrt(len(squares))
        assert abs(squares.mean() - (uncertainty**2).mean()) < 4 * standard_error

    def test_errors_of_the_axes_are_independent(self, simulated):
        (error_x, _), (error_y, _) = (errors_of(*simulated, axis) for axis in "xy")
        assert stats.pearsonr(error_x, error_y).pvalue > 0.01

    def test_median_uncertainty_is_the_one_asked_for(self, simulated):
        blinks, _ = simulated
        assert np.median(blinks["uncertainty_x"]) == pytest.approx(10, rel=0.01)
        np.testing.assert_array_equal(blinks["uncertainty_x"], blinks["uncertainty_y"])

    def test_photons_go_with_the_inverse_square_of_the_uncertainty(self, simulated):
        blinks, _ = simulated
        product = blinks["photons"] * blinks["uncertainty_x"] ** 2
        np.testing.assert_allclose(product, product[0])


class TestEmitters:
    def test_they_are_uniform_along_the_filaments(self, simulated):
        _, truth = simulated
        points = evenly_along(truth.curves, spacing=1.0)
        emitters = np.column_stack([truth.emitters.y, truth.emitters.x])
        distance, nearest = cKDTree(points).query(emitters)
        assert distance.max() < 1
        assert stats.kstest((nearest + 0.5) / len(points), "uniform").pvalue > 0.01

    def test_they_blink_a_geometric_number_of_times(self, simulated):
        _, truth = simulated
        counts = np.bincount(truth.emitter[truth.emitter >= 0])
        # Edges lose a few blinks: emitters that none is left of say nothing of the distribution.
        counts = counts[counts > 0]
        assert counts.mean() == pytest.approx(4, abs=4 * np.sqrt(12 / len(counts)) + 0.02)
        assert counts.var() == pytest.approx(12, rel=0.1)

    def test_blocks_of_frames_hold_whole_emitters_and_random_halves_do_not(self, simulated):
        blinks, truth = simulated
        seen = truth.emitter >= 0
        table = blinks.select(seen)
        emitter = truth.emitter[seen]

        def shared(first):
            return len(np.intersect1d(emitter[first], emitter[~first])) / len(truth.emitters)

        in_first = np.isin(table["frame"], table.split("frames")[0]["frame"])
        assert shared(in_first) < 0.02
        assert shared(np.random.RandomState(0).random_sample(len(table)) < 0.5) > 0.4

    def test_their_column_names_the_curve_they_sit_on(self, simulated):
        _, truth = simulated
        assert set(truth.emitters["structure"]) <= set(range(8))
        lengths = np.bincount(truth.curves.curve, truth.curves.lengths, minlength=8)
        counts = np.bincount(truth.emitters["structure"], minlength=8)
        share = lengths / lengths.sum()
        assert stats.chisquare(counts, share * counts.sum()).pvalue > 0.01


class TestBackground:
    def test_its_share_is_the_one_asked_for(self, simulated):
        _, truth = simulated
        assert (truth.emitter == -1).sum() == 5400

    @pytest.mark.parametrize(("column", "extent"), [("x", 9000), ("y", 6000), ("frame", 20_000)])
    def test_it_is_uniform(self, simulated, column, extent):
        blinks, truth = simulated
        values = blinks[column][truth.emitter == -1]
        assert stats.kstest(values / extent, "uniform").pvalue > 0.01

    @pytest.mark.parametrize(("fraction", "n_background"), [(0.0, 0), (1.0, 1200)])
    def test_none_or_nothing_else(self, fraction, n_background):
        blinks, truth = make_blinks(DIAGONAL, **SMALL, background=fraction, random_state=0)
        assert (truth.emitter == -1).sum() == n_background
        assert len(blinks) > 1150

    def test_in_space_it_lies_between_the_lowest_and_the_highest_z(self):
        curves = Curves.through([[[-300, 0, 0], [500, 1000, 1000]]])
        blinks, truth = make_blinks(
            curves, field_size=1000, density=3000, background=1, random_state=0
        )
        assert (truth.emitter == -1).all()
        assert stats.kstest((blinks["z"] + 300) / 800, "uniform").pvalue > 0.01


class TestOptions:
    def test_one_blink_an_emitter_is_what_the_paper_has(self):
        blinks, truth = make_blinks(DIAGONAL, **SMALL, blinks_per_emitter=1, random_state=0)
        assert len(truth.emitters) == 1200 - 24
        assert np.bincount(truth.emitter[truth.emitter >= 0]).max() == 1
        assert stats.kstest(blinks["frame"] / 10_000, "uniform").pvalue > 0.01

    def test_linkage_displaces_all_blinks_of_an_emitter_alike(self):
        blinks, truth = make_blinks(
            Curves.through([[[0, 500], [20_000, 500]]]),
            field_size=(20_000, 1000),
            density=2000,
            uncertainty=6,
            uncertainty_spread=0,
            linkage_error=15,
            background=0,
            random_state=0,
        )
        for axis in "xy":
            error, _ = errors_of(blinks, truth, axis)
            n_emitters = len(truth.emitters)
            count = np.bincount(truth.emitter, minlength=n_emitters)
            mean = np.bincount(truth.emitter, error, n_emitters) / count.clip(min=1)
            inner = ((error - mean[truth.emitter]) ** 2).sum() / (len(error) - (count > 0).sum())
            assert inner == pytest.approx(6**2, rel=0.03)
            first = error[np.unique(truth.emitter, return_index=True)[1]]
            assert stats.kstest(first / np.hypot(6, 15), "norm").pvalue > 0.001
            assert first.var() == pytest.approx(6**2 + 15**2, rel=0.05)

    def test_emitters_that_are_not_labelled_are_in_the_truth_and_never_blink(self):
        blinks, truth = make_blinks(
            DIAGONAL, **{**SMALL, "density": 8000.0}, labelling_efficiency=0.6, random_state=0
        )
        blinked = np.zeros(len(truth.emitters), bool)
        blinked[truth.emitter[truth.emitter >= 0]] = True
        assert blinked.mean() == pytest.approx(0.6, abs=0.002)
        assert len(blinks) == pytest.approx(0.6 * 48_000, rel=0.02)
        assert (truth.emitter == -1).mean() == pytest.approx(0.02, rel=0.03)
        places = (truth.emitters.x[rows] / 3000 for rows in (blinked, ~blinked))
        assert all(stats.kstest(place, "uniform").pvalue > 0.001 for place in places)

    def test_the_less_is_labelled_the_sparser_are_table_and_image(self):
        (blinks, truth), (fewer, sparser) = (
            make_blinks(DIAGONAL, **SMALL, labelling_efficiency=share, random_state=0)
            for share in (1, 0.2)
        )
        assert len(fewer) == pytest.approx(0.2 * len(blinks), rel=0.1)
        assert float(sparser.image(20).sum()) == pytest.approx((sparser.emitter >= 0).sum())
        assert len(sparser.emitters) == len(truth.emitters)
        np.testing.assert_array_equal(sparser.emitters.x, truth.emitters.x)

    def test_a_lower_share_than_one_emitter_leaves_background(self):
        blinks, truth = make_blinks(
            DIAGONAL, **SMALL, background=0.5, labelling_efficiency=0.002, random_state=0
        )
        assert (truth.emitter == -1).all()
        assert len(blinks) == 1

    def test_bleaching_costs_no_localization(self):
        none, some = (
            make_blinks(DIAGONAL, **SMALL, bleaching=bleaching, random_state=0)[0]
            for bleaching in (None, 100)
        )
        assert len(some) == len(none)

    @pytest.mark.parametrize(("n_frames", "between"), [(40, 3), (10_000, 1000)])
    def test_blinks_before_and_after_the_acquisition_are_lost(self, n_frames, between):
        blinks, truth = make_blinks(
            DIAGONAL,
            **{**SMALL, "density": 3000.0},
            n_frames=n_frames,
            frames_between_blinks=between,
            background=0,
            random_state=0,
        )
        lost = np.exp(-n_frames / (5 * between))
        assert len(blinks) == pytest.approx(18_000 * (1 - lost), rel=0.03)
        assert blinks["frame"].min() >= 0
        assert blinks["frame"].max() < n_frames
        blink = np.column_stack([truth.emitter, blinks["frame"]])
        assert len(np.unique(blink, axis=0)) == len(blink)
        # Neither end of the acquisition is crowded.
        counts = np.bincount(blinks["frame"] * 20 // n_frames)
        assert counts.max() < 1.3 * np.median(counts)

    @pytest.mark.parametrize(
        ("blinking", "least"),
        [
            ({"blinks_per_emitter": 20}, 58),
            ({"frames_between_blinks": 2500}, 10_001),
            ({"blinks_per_emitter": 1}, 1),
        ],
    )
    def test_an_acquisition_shorter_than_the_blinks_of_an_emitter_is_refused(self, blinking, least):
        make_blinks(DIAGONAL, **SMALL, **blinking, n_frames=least, random_state=0)
        with pytest.raises(InvalidInputError, match="n_frames must be"):
            make_blinks(DIAGONAL, **SMALL, **blinking, n_frames=least - 1)

    def test_bleaching_leaves_ever_fewer_first_blinks(self):
        blinks, truth = make_blinks(
            DIAGONAL,
            **{**SMALL, "density": 5000.0},
            bleaching=2000,
            n_frames=10_000,
            random_state=0,
        )
        seen = truth.emitter >= 0
        first_row = np.unique(truth.emitter[seen], return_index=True)[1]
        first = blinks["frame"][seen][first_row]
        expected = stats.truncexpon(5, scale=2000)
        assert stats.kstest(first, expected.cdf).pvalue > 0.001
        assert stats.kstest(blinks["frame"][~seen] / 10_000, "uniform").pvalue > 0.001

    def test_outliers_err_by_more_than_they_state(self):
        blinks, truth = make_blinks(
            DIAGONAL, **{**SMALL, "density": 5000.0}, outliers=0.1, random_state=0
        )
        error, uncertainty = errors_of(blinks, truth, "x")
        share = 2 * (0.1 * stats.norm.sf(0.4) + 0.9 * stats.norm.sf(4))
        n = len(error)
        far = (np.abs(error) > 4 * uncertainty).mean()
        assert far == pytest.approx(share, abs=4 * np.sqrt(share / n))

    def test_background_costs_photons_and_is_a_column(self):
        dark, bright = (
            make_blinks(DIAGONAL, **SMALL, background_photons=photons, random_state=0)[0]
            for photons in (0, 50)
        )
        assert "background" not in dark
        assert (bright["background"] == 50).all()
        assert (bright["photons"] > dark["photons"]).all()
        np.testing.assert_array_equal(bright["uncertainty_x"], dark["uncertainty_x"])

    def test_curves_in_space_give_z_with_an_error_of_its_own(self):
        curves = Curves.through([[[-400, 0, 0], [400, 3000, 3000]]])
        blinks, truth = make_blinks(
            curves, field_size=3000, density=2000, background=0, random_state=0
        )
        assert blinks.columns[:3] == ("x", "y", "z")
        np.testing.assert_allclose(blinks["uncertainty_z"], 2.5 * blinks["uncertainty_x"])
        for axis in "xyz":
            error, uncertainty = errors_of(blinks, truth, axis)
            assert stats.kstest(error / uncertainty, "norm").pvalue > 0.001
        np.testing.assert_allclose(truth.emitters["z"], truth.emitters.x * 800 / 3000 - 400)


class TestCurvesBeyondTheField:
    def test_lines_are_labelled_inside_only(self):
        curves = Curves.through([[[500, -5000], [500, 5000]], [[-900, -900], [-100, -100]]])
        _, truth = make_blinks(curves, field_size=1000, density=2000, random_state=0)
        assert truth.curves.length == pytest.approx(1000)
        assert (truth.emitters["structure"] == 0).all()
        assert stats.kstest(truth.emitters.x / 1000, "uniform").pvalue > 0.001

    def test_strips_are_labelled_in_the_area_inside(self):
        curves = Curves.through([[[0, -3000], [0, 3000]]], thickness=400)
        _, truth = make_blinks(
            curves, field_size=1000, density=5000, blinks_per_emitter=1, random_state=0
        )
        assert len(truth.emitters) == 4900
        assert stats.kstest(truth.emitters.x / 1000, "uniform").pvalue > 0.001
        assert stats.kstest(truth.emitters.y / 200, "uniform").pvalue > 0.001

    def test_a_line_along_the_upper_edge_stays_in_the_field(self):
        curves = Curves.through([[[1000, 0], [999, 1000], [1000, 1000]]])
        _, truth = make_blinks(curves, field_size=1000, density=2000, random_state=0)
        assert truth.emitters.x.max() < 1000
        assert truth.emitters.y.max() < 1000

    @pytest.mark.parametrize("thickness", [0.0, 50.0])
    def test_nothing_to_label_is_an_error(self, thickness):
        curves = Curves.through([[[-900, -900], [-100, -100]]], thickness)
        with pytest.raises(InvalidInputError, match="curves"):
            make_blinks(curves, field_size=1000, random_state=0)

    def test_background_needs_no_structure(self):
        curves = Curves.through([[[-900, -900], [-100, -100]]])
        blinks, truth = make_blinks(curves, field_size=1000, background=1, random_state=0)
        assert len(blinks) == 500
        assert len(truth.emitters) == 0
        assert float(truth.image(10).sum()) == 0

    def test_a_strip_that_only_nears_the_field_is_an_error(self):
        curves = Curves.through([[[-900, 400], [400, -900]]], thickness=10)
        with pytest.raises(InvalidInputError, match="hardly any"):
            make_blinks(curves, field_size=1000, density=1, random_state=0)


class TestImageOfTheTruth:
    def test_it_holds_the_localizations_of_emitters(self, simulated):
        _, truth = simulated
        image = truth.image(pixel_size=50)
        assert image.dtype == np.float32
        assert image.shape == (120, 180)
        assert float(image.sum()) == pytest.approx((truth.emitter >= 0).sum(), rel=1e-5)

    def test_emitters_are_drawn_from_it(self):
        curves = Curves.through([[[500, 500], [500, 2500], [1500, 1500]]], 300)
        _, truth = make_blinks(
            curves, **{**SMALL, "density": 5000.0}, blinks_per_emitter=1, random_state=0
        )
        image = truth.image(pixel_size=50).to_numpy().astype(float)
        counts, _, _ = np.histogram2d(
            truth.emitters.y, truth.emitters.x, bins=image.shape, range=((0, 2000), (0, 3000))
        )
        assert counts[image == 0].sum() == 0
        often = image > 5
        expected = image[often] * counts[often].sum() / image[often].sum()
        assert stats.chisquare(counts[often], expected).pvalue > 0.001

    @pytest.mark.parametrize("thickness", [0.0, 120.0])
    def test_a_tile_is_that_part_of_the_whole(self, thickness):
        curves = Curves.through([[[-200, 300], [800, 600], [2500, 2000]]], thickness)
        _, truth = make_blinks(curves, **SMALL, random_state=0)
        whole = truth.image(pixel_size=10)
        tile = truth.image(pixel_size=10, field_of_view=(500, 200, 1500, 1200))
        np.testing.assert_allclose(tile, whole[50:150, 20:120], atol=1e-6)
        np.testing.assert_allclose(tile.x, whole.x[20:120])
        n_emitted = (truth.emitter >= 0).sum()
        assert float(whole.sum()) == pytest.approx(n_emitted, rel=1e-5)

    def test_only_the_part_of_a_box_in_the_field_is_drawn(self, simulated):
        _, truth = simulated
        tile = truth.image(pixel_size=10, field_of_view=(-100, 8900, 200, 9900))
        assert tile.shape == (20, 10)
        with pytest.raises(InvalidInputError, match="overlap"):
            truth.image(field_of_view=(-100, -100, -50, -50))

    @pytest.mark.parametrize("thickness", [0.0, 120.0])
    @pytest.mark.parametrize("width", [2000.0001, 2000 * np.sqrt(2)])
    def test_sides_without_a_common_measure_are_as_good_as_others(self, thickness, width):
        curves = Curves.through([[[-200, -30], [800, 5], [2500, 20]]], thickness)
        _, truth = make_blinks(curves, field_size=(2000, width), density=2000, random_state=0)
        n_emitted = (truth.emitter >= 0).sum()
        assert float(truth.image(50).sum()) == pytest.approx(n_emitted, rel=1e-5)

    def test_too_many_pixels_are_refused(self, simulated):
        with pytest.raises(InvalidInputError, match="pixels"):
            simulated[1].image(pixel_size=0.1)


class TestParameters:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("field_size", 0),
            ("field_size", (1000, -1)),
            ("field_size", (1, 2, 3)),
            ("field_size", np.array([1000, -1])),
            ("field_size", None),
            ("field_size", "wide"),
            ("density", -1),
            ("density", np.nan),
            ("uncertainty", 0),
            ("uncertainty", None),
            ("uncertainty_spread", -0.1),
            ("blinks_per_emitter", 0.5),
            ("frames_between_blinks", 0.5),
            ("frames_between_blinks", None),
            ("n_frames", 0),
            ("bleaching", 0),
            ("background", 1.5),
            ("outliers", -0.1),
            ("background_photons", -1),
            ("linkage_error", np.inf),
            ("labelling_efficiency", 0),
            ("labelling_efficiency", 1.1),
        ],
    )
    def test_a_parameter_out_of_range_is_named(self, name, value):
        with pytest.raises(InvalidInputError, match=name):
            make_blinks(DIAGONAL, **{**SMALL, name: value})

    def test_the_size_of_the_field_may_be_an_array(self):
        blinks, _ = make_blinks(
            DIAGONAL, **{**SMALL, "field_size": np.array([2000, 3000])}, random_state=0
        )
        assert blinks == make_blinks(DIAGONAL, **SMALL, random_state=0)[0]

    def test_a_field_too_sparse_for_one_localization_gives_an_empty_table(self):
        blinks, truth = make_blinks(DIAGONAL, field_size=100, density=1, random_state=0)
        assert len(blinks) == len(truth.emitters) == len(truth.emitter) == 0
        assert truth.curves.length > 0
