import warnings

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import cKDTree

from smlmkit import FieldOfView, Renderer, make_acquisitions, make_filaments, read_localizations
from smlmkit.errors import InvalidInputError, OutputError
from smlmkit.simulate.datasets import CAMERA_PIXEL_SIZE

SMALL = {"field_size": (2000.0, 3000.0), "n_filaments": 3, "density": 200.0}


@pytest.fixture(scope="module")
def simulated():
    return make_filaments(
        field_size=(6000, 9000),
        n_filaments=8,
        density=1000,
        uncertainty=10,
        blinks_per_emitter=4,
        n_frames=20_000,
        background=0.1,
        random_state=0,
    )


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
        structure, emitters = truth.structure(spacing=1.0), truth.emitters
        tree = cKDTree(np.column_stack([structure.y, structure.x]))
        distance, nearest = tree.query(np.column_stack([emitters.y, emitters.x]))
        assert distance.max() < 1
        assert stats.kstest((nearest + 0.5) / len(structure), "uniform").pvalue > 0.01

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

    def test_structure_renders_as_arc_length_per_pixel(self, simulated):
        _, truth = simulated
        image = Renderer(pixel_size=50).fit_transform(truth.structure(spacing=0.5))
        assert float(image.sum()) == pytest.approx(truth.curves.length / 0.5, abs=1)
        emitters = Renderer(pixel_size=50).fit_transform(truth.emitters)
        assert float(emitters.where(image == 0, 0).sum()) <= 0.001 * len(truth.emitters)


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
        blinks, truth = make_filaments(**SMALL, background=fraction, random_state=0)
        assert (truth.emitter == -1).sum() == n_background
        assert len(blinks) > 1150


class TestFilaments:
    def test_each_runs_through_the_field(self):
        _, truth = make_filaments(field_size=5000, n_filaments=30, density=1, random_state=0)
        lengths = np.bincount(truth.curves.curve, truth.curves.lengths, minlength=30)
        assert (lengths > 0).all()
        edges = np.concatenate([truth.curves.start, truth.curves.end])
        on_edge = (np.isclose(edges, 0) | np.isclose(edges, 5000)).any(axis=1)
        assert on_edge.sum() >= 2 * 30

    def test_a_longer_persistence_length_bends_less(self):
        def mean_turn(persistence_length):
            _, truth = make_filaments(
                **SMALL, persistence_length=persistence_length, random_state=0
            )
            vector = (truth.curves.end - truth.curves.start)[truth.curves.lengths > 19.9]
            angle = np.unwrap(np.arctan2(vector[:, 0], vector[:, 1]))
            return np.median(np.abs(np.diff(angle)))

        assert mean_turn(1000) == pytest.approx(10 * mean_turn(100_000), rel=0.3)


class TestRandomness:
    def test_the_same_seed_gives_the_same_and_another_seed_another(self):
        first, again, other = (make_filaments(**SMALL, random_state=s)[0] for s in (1, 1, 2))
        assert first == again
        assert first != other

    def test_a_generator_is_used_up_and_the_global_one_is_not_touched(self):
        before = np.random.get_state()[1].copy()  # noqa: NPY002 (the state that must not change)
        rng = np.random.RandomState(3)
        assert (
            make_filaments(**SMALL, random_state=rng)[0]
            != make_filaments(**SMALL, random_state=rng)[0]
        )
        np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


class TestParameters:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("field_size", 0),
            ("field_size", (1000, -1)),
            ("field_size", (1, 2, 3)),
            ("field_size", "wide"),
            ("n_filaments", 0),
            ("n_filaments", 2.5),
            ("density", -1),
            ("density", np.nan),
            ("uncertainty", 0),
            ("uncertainty", None),
            ("blinks_per_emitter", 0.5),
            ("n_frames", 0),
            ("background", 1.5),
            ("persistence_length", np.inf),
        ],
    )
    def test_a_parameter_out_of_range_is_named(self, name, value):
        with pytest.raises(InvalidInputError, match=name):
            make_filaments(**{**SMALL, name: value})

    def test_a_field_too_sparse_for_one_localization_gives_an_empty_table(self):
        blinks, truth = make_filaments(field_size=100, density=1, random_state=0)
        assert len(blinks) == len(truth.emitters) == len(truth.emitter) == 0
        assert truth.curves.length > 0

    def test_spacing_of_the_structure_must_be_positive(self, simulated):
        with pytest.raises(InvalidInputError, match="spacing"):
            simulated[1].structure(spacing=0)


class TestMakeAcquisitions:
    def test_files_hold_what_was_simulated(self, tmp_path):
        paths = make_acquisitions(tmp_path / "new" / "folder", 2, **SMALL, random_state=0)
        assert [path.name for path in paths] == ["fov_01.hdf5", "fov_02.hdf5"]
        assert all(path.with_suffix(".yaml").is_file() for path in paths)
        seeds = np.random.RandomState(0).randint(np.iinfo(np.int32).max, size=2)
        for path, seed in zip(paths, seeds, strict=True):
            expected, _ = make_filaments(**SMALL, random_state=seed)
            table = read_localizations(path)
            assert table.field_of_view == expected.field_of_view
            np.testing.assert_allclose(table.x, expected.x, rtol=0, atol=1e-3)
            np.testing.assert_allclose(table.y, expected.y, rtol=0, atol=1e-3)
            np.testing.assert_array_equal(table["frame"], expected["frame"])

    def test_the_first_ones_do_not_depend_on_how_many_there_are(self, tmp_path):
        few = make_acquisitions(tmp_path / "few", 1, **SMALL, random_state=5)
        more = make_acquisitions(tmp_path / "more", 2, **SMALL, random_state=5)
        first, again, second = map(read_localizations, [few[0], *more])
        np.testing.assert_array_equal(first.x, again.x)
        assert not np.array_equal(first.x[:50], second.x[:50])

    def test_a_folder_that_holds_some_is_refused(self, tmp_path):
        (path,) = make_acquisitions(tmp_path, 1, **SMALL, random_state=0)
        before = path.read_bytes()
        with pytest.raises(OutputError, match="overwrite=True"):
            make_acquisitions(tmp_path, 1, **SMALL, random_state=1)
        assert path.read_bytes() == before

    def test_overwriting_replaces_those_of_the_same_name(self, tmp_path):
        first, second = make_acquisitions(tmp_path, 2, **SMALL, random_state=0)
        before = first.read_bytes(), second.read_bytes()
        make_acquisitions(tmp_path, 1, **SMALL, random_state=1, overwrite=True)
        assert first.read_bytes() != before[0]
        assert second.read_bytes() == before[1]

    def test_a_file_in_the_place_of_the_folder_is_an_output_error(self, tmp_path):
        (tmp_path / "taken").touch()
        with pytest.raises(OutputError, match="taken"):
            make_acquisitions(tmp_path / "taken", 1, **SMALL)

    def test_the_caller_gets_no_warning(self, tmp_path):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            make_acquisitions(tmp_path, 1, **SMALL, random_state=0)
        assert not caught

    @pytest.mark.parametrize("parameters", [{"n_acquisitions": 0}, {"density": -5}])
    def test_bad_parameters_leave_no_file(self, tmp_path, parameters):
        with pytest.raises(InvalidInputError, match=next(iter(parameters))):
            make_acquisitions(tmp_path, **{**SMALL, **parameters})
        assert not any(tmp_path.iterdir())
