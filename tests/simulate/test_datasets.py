import warnings

import numpy as np
import pytest
from scipy import stats

from smlmkit import (
    make_acquisitions,
    make_actin,
    make_microtubules,
    make_primitives,
    make_two_filaments,
    read_localizations,
)
from smlmkit.errors import InvalidInputError, OutputError

SMALL = {"field_size": (2000.0, 3000.0), "n_filaments": 3, "density": 200.0}
MAKERS = [
    make_microtubules,
    make_actin,
    make_primitives,
    lambda **parameters: make_two_filaments(60, **parameters),
]


def directions_of(curves):
    """Give the direction of every curve from its first to its last point, modulo 180 degrees."""
    numbers = np.unique(curves.curve)
    first = np.searchsorted(curves.curve, numbers)
    last = np.searchsorted(curves.curve, numbers, side="right") - 1
    vector = curves.end[last] - curves.start[first]
    return np.degrees(np.arctan2(vector[:, -2], vector[:, -1])) % 180


@pytest.mark.parametrize("make", MAKERS)
class TestEveryMaker:
    def test_the_same_seed_gives_the_same_and_another_seed_another(self, make):
        first, again, other = (make(field_size=3000, random_state=seed)[0] for seed in (1, 1, 2))
        assert first == again
        assert first != other

    def test_parameters_of_the_acquisition_are_taken(self, make):
        blinks, truth = make(
            field_size=3000, density=100, background=0.5, n_frames=500, random_state=0
        )
        assert len(blinks) == pytest.approx(900, abs=20)
        assert (truth.emitter == -1).sum() == 450
        assert blinks.metadata["n_frames"] == 500

    def test_an_unknown_parameter_is_named(self, make):
        with pytest.raises(TypeError, match="blinks_per_emiter"):
            make(field_size=3000, blinks_per_emiter=2)

    @pytest.mark.parametrize(("name", "value"), [("field_size", -1), ("density", 0)])
    def test_a_parameter_out_of_range_is_named(self, make, name, value):
        with pytest.raises(InvalidInputError, match=name):
            make(**{"field_size": 3000, name: value})


class TestMicrotubules:
    def test_each_runs_through_the_field(self):
        _, truth = make_microtubules(field_size=5000, n_filaments=30, density=1, random_state=0)
        lengths = np.bincount(truth.curves.curve, truth.curves.lengths, minlength=30)
        assert (lengths > 0).all()
        edges = np.concatenate([truth.curves.start, truth.curves.end])
        on_edge = (np.isclose(edges, 0) | np.isclose(edges, 5000)).any(axis=1)
        assert on_edge.sum() >= 2 * 30

    def test_a_longer_persistence_length_bends_less(self):
        def mean_turn(persistence_length):
            _, truth = make_microtubules(
                **SMALL, persistence_length=persistence_length, random_state=0
            )
            vector = (truth.curves.end - truth.curves.start)[truth.curves.lengths > 19.9]
            angle = np.unwrap(np.arctan2(vector[:, 0], vector[:, 1]))
            return np.median(np.abs(np.diff(angle)))

        assert mean_turn(1000) == pytest.approx(10 * mean_turn(100_000), rel=0.3)

    def test_the_numbers_of_a_seed_stay(self):
        """Figures were recorded of these fields."""
        blinks, truth = make_microtubules(field_size=(3000, 4000), density=1000, random_state=1)
        assert len(blinks) == 11_952
        rows = [0, 1000, -1]
        for name, expected in {
            "x": [3185.4449214357323, 2732.3240715163693, 2069.413301676252],
            "y": [494.92762252009067, 1244.373314837761, 1714.0876736757557],
            "frame": [1, 639, 9998],
            "photons": [146.49386545333212, 93.75974578090428, 226.86330436705555],
            "uncertainty_x": [10.740725883176141, 13.42564445357737, 8.631002165280867],
        }.items():
            np.testing.assert_allclose(blinks[name][rows], expected, rtol=1e-12)
        np.testing.assert_array_equal(truth.emitter[rows], [204, 901, 209])

    def test_with_a_depth_they_rise_and_sink(self):
        blinks, truth = make_microtubules(**SMALL, depth=600, random_state=0)
        z = truth.emitters["z"]
        assert -300 <= z.min() < z.max() <= 300
        assert "uncertainty_z" in blinks

    @pytest.mark.parametrize("depth", [0, 300])
    def test_with_a_thickness_they_are_strips_around_the_same_lines(self, depth):
        (_, thin), (blinks, thick) = (
            make_microtubules(
                field_size=(2000, 3000),
                n_filaments=1,
                density=2000,
                depth=depth,
                thickness=thickness,
                random_state=0,
            )
            for thickness in (0, 25)
        )
        assert (thick.curves.thickness == 25).all()
        assert thick.curves.measure_within(blinks.field_of_view) == pytest.approx(
            25 * thin.curves.length, rel=0.02
        )

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("n_filaments", 0),
            ("n_filaments", 2.5),
            ("persistence_length", np.inf),
            ("depth", -1),
            ("thickness", -1),
        ],
    )
    def test_a_parameter_out_of_range_is_named(self, name, value):
        with pytest.raises(InvalidInputError, match=name):
            make_microtubules(**{**SMALL, name: value})


class TestActin:
    def test_filaments_of_a_bundle_stay_within_its_width(self):
        _, truth = make_actin(
            field_size=5000,
            n_bundles=1,
            filaments_per_bundle=(15, 15),
            bundle_width=(300, 300),
            n_filaments=0,
            persistence_length=1e12,  # so that the bundle is straight
            density=1,
            random_state=0,
        )
        curves = truth.curves
        assert len(np.unique(curves.curve)) == 15
        points = np.concatenate([curves.start, curves.end])
        direction = np.radians(directions_of(curves).mean() + np.linspace(-5, 5, 2001))
        offsets = points[::10] @ [np.cos(direction), -np.sin(direction)]
        across = offsets[:, np.ptp(offsets, axis=0).argmin()]
        assert 250 < np.ptp(across) <= 300
        # Monotone cubics spend more time near their nodes than a uniform place does.
        assert np.std(across) == pytest.approx(300 / np.sqrt(12), rel=0.15)

    def test_bundles_have_about_one_direction_and_single_filaments_any(self):
        _, truth = make_actin(
            n_bundles=40,
            filaments_per_bundle=(1, 1),
            n_filaments=60,
            persistence_length=1e7,
            density=1,
            random_state=0,
        )
        numbers = np.unique(truth.curves.curve)
        directions = np.radians(2 * directions_of(truth.curves))
        aligned, free = directions[numbers < 40], directions[numbers >= 40]
        # Twice an angle of 15 degrees: exp(-2 sigma^2) is the length of the mean vector.
        mean_length = abs(np.exp(1j * aligned).mean())
        assert mean_length == pytest.approx(np.exp(-2 * np.radians(15) ** 2), abs=0.1)
        assert abs(np.exp(1j * free).mean()) < 0.3

    def test_the_number_of_filaments_is_in_its_range(self):
        _, truth = make_actin(
            n_bundles=3, filaments_per_bundle=(2, 4), n_filaments=5, density=1, random_state=0
        )
        assert 3 * 2 + 5 <= len(np.unique(truth.curves.curve)) <= 3 * 4 + 5

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("n_bundles", -1),
            ("n_filaments", 1.5),
            ("filaments_per_bundle", (0, 5)),
            ("filaments_per_bundle", (5, 4)),
            ("filaments_per_bundle", (1.5, 4)),
            ("bundle_width", (1, 2, 3)),
            ("bundle_width", (-1, 2)),
            ("bundle_width", 0),
            ("filaments_per_bundle", 2.5),
            ("persistence_length", 0),
        ],
    )
    def test_a_parameter_out_of_range_is_named(self, name, value):
        with pytest.raises(InvalidInputError, match=name):
            make_actin(field_size=2000, **{name: value})

    def test_one_number_is_both_ends_of_a_range(self):
        (one, _), (both, _) = (
            make_actin(field_size=3000, **bundles, density=100, random_state=0)
            for bundles in (
                {"filaments_per_bundle": 9, "bundle_width": 200.0},
                {"filaments_per_bundle": (9, 9), "bundle_width": (200.0, 200.0)},
            )
        )
        assert one == both

    def test_no_filament_at_all_is_an_error(self):
        with pytest.raises(InvalidInputError, match="n_filaments"):
            make_actin(n_bundles=0, n_filaments=0)


class TestPrimitives:
    def test_emitters_fill_the_shapes_evenly(self):
        _, truth = make_primitives(density=3000, blinks_per_emitter=1, background=0, random_state=3)
        image = truth.image(pixel_size=80).to_numpy().astype(float)
        counts, _, _ = np.histogram2d(
            truth.emitters.y, truth.emitters.x, bins=image.shape, range=((0, 2560),) * 2
        )
        often = image > 5
        expected = image[often] * counts[often].sum() / image[often].sum()
        assert stats.chisquare(counts[often], expected).pvalue > 0.001
        assert counts.sum() == round(3000 * 2.56**2)

    @pytest.mark.parametrize("pixel_size", [2.0, 7.0, 100.0])
    def test_an_image_ends_with_the_field_whatever_its_pixels(self, pixel_size):
        blinks, truth = make_primitives(
            field_size=(2003, 1501), density=3000, background=0, random_state=0
        )
        image = truth.image(pixel_size)
        assert float(image.sum()) == pytest.approx(len(blinks), rel=1e-5)
        corner = truth.image(pixel_size, field_of_view=(1400, 700, 2003, 1501))
        rows, columns = corner.shape
        np.testing.assert_allclose(corner, image[-rows:, -columns:], atol=1e-5)

    def test_their_number_and_kinds_can_be_chosen(self):
        _, truth = make_primitives(
            n_primitives=6, kinds="line", size=500, thickness=0, density=1, random_state=0
        )
        assert len(truth.curves.lengths) <= 6
        assert truth.curves.lengths.max() <= 500 + 1e-9


class TestTwoFilaments:
    @pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, 135.0])
    def test_they_are_parallel_and_symmetric_about_the_centre(self, angle):
        _, truth = make_two_filaments(
            60, length=1000, angle=angle, field_size=(3000, 2000), random_state=0
        )
        curves = truth.curves
        np.testing.assert_allclose(curves.lengths, 1000)
        np.testing.assert_allclose(directions_of(curves) % 180, angle % 180, atol=1e-9)
        middles = (curves.start + curves.end) / 2
        np.testing.assert_allclose(middles.mean(axis=0), [1500, 1000])
        vector = middles[1] - middles[0]
        assert np.hypot(*vector) == pytest.approx(60)
        assert vector @ (curves.end - curves.start)[0] == pytest.approx(0, abs=1e-6)

    def test_a_random_direction_is_drawn(self):
        angles = [
            directions_of(
                make_two_filaments(60, angle=None, density=1, random_state=seed)[1].curves
            )[0]
            for seed in range(100)
        ]
        assert stats.kstest(np.array(angles) / 180, "uniform").pvalue > 0.001

    def test_thick_ones_have_their_width(self):
        _, truth = make_two_filaments(
            100, thickness=40, density=2000, background=0, blinks_per_emitter=1, random_state=0
        )
        offset = truth.emitters.y - 2000
        assert stats.kstest((np.abs(offset) - 30) / 40, "uniform").pvalue > 0.001

    @pytest.mark.parametrize("thickness", [0, 25])
    @pytest.mark.parametrize("angle", [0, 37])
    def test_however_long_they_are_labelled_in_the_field(self, thickness, angle):
        blinks, truth = make_two_filaments(
            100, length=1e9, thickness=thickness, angle=angle, random_state=0
        )
        assert len(blinks) > 0.98 * 500 * 16
        assert truth.curves.measure_within(blinks.field_of_view) == pytest.approx(
            max(thickness, 1) * 2 * 4000 / np.cos(np.radians(angle)), rel=1e-6
        )

    @pytest.mark.parametrize(
        ("name", "value"),
        [("distance", 0), ("length", -1), ("angle", np.nan), ("thickness", -1)],
    )
    def test_a_parameter_out_of_range_is_named(self, name, value):
        with pytest.raises(InvalidInputError, match=name):
            make_two_filaments(**{"distance": 60, name: value})


class TestRandomness:
    def test_a_generator_is_used_up_and_the_global_one_is_not_touched(self):
        before = np.random.get_state()[1].copy()  # noqa: NPY002 (the state that must not change)
        rng = np.random.RandomState(3)
        assert (
            make_microtubules(**SMALL, random_state=rng)[0]
            != make_microtubules(**SMALL, random_state=rng)[0]
        )
        np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


class TestMakeAcquisitions:
    def test_files_hold_what_was_simulated(self, tmp_path):
        paths, truths = make_acquisitions(tmp_path / "new" / "folder", 2, **SMALL, random_state=0)
        assert [path.name for path in paths] == ["fov_01.hdf5", "fov_02.hdf5"]
        assert all(path.with_suffix(".yaml").is_file() for path in paths)
        seeds = np.random.RandomState(0).randint(np.iinfo(np.int32).max, size=2)
        for path, truth, seed in zip(paths, truths, seeds, strict=True):
            expected, expected_truth = make_microtubules(**SMALL, random_state=seed)
            table = read_localizations(path)
            np.testing.assert_array_equal(truth.emitter, expected_truth.emitter)
            assert len(truth.emitter) == len(table)
            assert table.field_of_view == expected.field_of_view
            np.testing.assert_allclose(table.x, expected.x, rtol=0, atol=1e-3)
            np.testing.assert_allclose(table.y, expected.y, rtol=0, atol=1e-3)
            np.testing.assert_array_equal(table["frame"], expected["frame"])

    def test_the_first_ones_do_not_depend_on_how_many_there_are(self, tmp_path):
        few, _ = make_acquisitions(tmp_path / "few", 1, **SMALL, random_state=5)
        more, _ = make_acquisitions(tmp_path / "more", 2, **SMALL, random_state=5)
        first, again, second = map(read_localizations, [few[0], *more])
        np.testing.assert_array_equal(first.x, again.x)
        assert not np.array_equal(first.x[:50], second.x[:50])

    def test_many_are_in_the_order_of_their_names(self, tmp_path):
        tiny = {**SMALL, "field_size": 100, "density": 100}
        files, _ = make_acquisitions(tmp_path, 100, **tiny, random_state=0)
        assert sorted(tmp_path.glob("*.hdf5")) == files
        assert files[0].name == "fov_001.hdf5"

    def test_any_maker_will_do(self, tmp_path):
        (path,), (truth,) = make_acquisitions(
            tmp_path, 1, make=make_two_filaments, distance=80, field_size=2000, random_state=0
        )
        assert len(truth.curves.lengths) == 2
        assert len(read_localizations(path)) == len(truth.emitter)

    def test_tables_in_space_keep_their_z(self, tmp_path):
        (path,), _ = make_acquisitions(tmp_path, 1, **SMALL, depth=500, random_state=0)
        table = read_localizations(path)
        assert np.ptp(table["z"]) > 100
        np.testing.assert_allclose(table["uncertainty_z"], 2.5 * table["uncertainty_x"], rtol=1e-5)

    def test_a_folder_that_holds_some_is_refused(self, tmp_path):
        (path,), _ = make_acquisitions(tmp_path, 1, **SMALL, random_state=0)
        before = path.read_bytes()
        with pytest.raises(OutputError, match="overwrite=True"):
            make_acquisitions(tmp_path, 1, **SMALL, random_state=1)
        assert path.read_bytes() == before

    def test_overwriting_replaces_those_of_the_same_name(self, tmp_path):
        (first, second), _ = make_acquisitions(tmp_path, 2, **SMALL, random_state=0)
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
