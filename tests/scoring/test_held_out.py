import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import Pipeline

from smlmkit import (
    AnisotropicKDE,
    FRCScorer,
    GaussianKDE,
    Localizations,
    PoissonScorer,
    Renderer,
    make_microtubules,
)
from smlmkit.drawing import render_histogram
from smlmkit.errors import InvalidInputError, InvalidTypeError, UnusedRowsWarning
from smlmkit.grid import FieldOfView, PixelGrid
from smlmkit.images import to_image
from smlmkit.metrics.frc import frc_area, frc_ceiling
from smlmkit.metrics.likelihood import poisson_log_likelihood

SIDE_PX, PIXEL = 128, 10.0
FIELD = FieldOfView(0, 0, SIDE_PX * PIXEL, SIDE_PX * PIXEL)
GRID = PixelGrid.covering(FIELD, PIXEL)
SCORERS = [FRCScorer(), PoissonScorer()]


def lines(*lines):
    """Probability per pixel of filaments (angle, offset), fading before the taper of the FRC."""
    y, x = np.indices(GRID.shape) - SIDE_PX / 2
    image = sum((abs(y * np.cos(a) - x * np.sin(a) + d) < 1).astype(float) for a, d in lines)
    image = gaussian_filter(image, 1.5) * np.exp(-((np.hypot(y, x) / 32) ** 6))
    return image / image.sum()


FILAMENTS = (0.3, 5), (1.2, -4), (2.0, 8)
TRUTH = lines(*FILAMENTS)
INVENTED = lines((0.8, 2), (1.7, -9), (2.6, 0))


def sample(seed, n=6000, truth=TRUTH):
    """A field of view with n localizations drawn from the truth, each independent of the others."""
    rng = np.random.default_rng(seed)
    pixel = np.repeat(np.arange(truth.size), rng.multinomial(n, truth.ravel()))
    y, x = (np.stack(np.unravel_index(pixel, GRID.shape)) + rng.random((2, n))) * PIXEL
    columns = {"x": x, "y": y, "frame": rng.integers(500, size=n)}
    return Localizations(columns, field_of_view=FIELD)


class Oracle(TransformerMixin, BaseEstimator):
    """Gives one image whatever it sees, times the number of localizations seen."""

    def __init__(self, probability, gain=1.0):
        self.probability = probability
        self.gain = gain

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return to_image(self.gain * len(X) * self.probability, GRID)


class Predictor(BaseEstimator):
    """Predicts the histogram; its transform must not be asked."""

    def fit(self, X, y=None):
        self.n_seen_ = len(X)
        return self

    def predict(self, X):
        return render_histogram(X, PIXEL)

    def transform(self, X):
        raise AssertionError("predict comes first")


class Hallucinator(TransformerMixin, BaseEstimator):
    """An honest density estimate, of which the same invented filaments replace a share."""

    def __init__(self, share=0.0):
        self.share = share

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        honest = kde().fit_transform(X).to_numpy()
        return to_image((1 - self.share) * honest + self.share * len(X) * INVENTED, GRID)


def kde(sigma=20.0):
    return Pipeline([("render", Renderer(pixel_size=PIXEL)), ("kde", GaussianKDE(sigma))])


@pytest.fixture(scope="module")
def fovs():
    return [sample(seed, n) for seed, n in enumerate([6000, 5000, 4000])]


OTHER_IMAGES = {
    "shifted by a pixel": np.roll(TRUTH, 1, axis=1),
    "wrong structure": INVENTED,
    "an invented structure beside": TRUTH + 0.3 * INVENTED,
    "a missing filament": lines(*FILAMENTS[1:]),
    "a dim filament": TRUTH + lines(*FILAMENTS[1:]),
    "blurred along y": gaussian_filter(TRUTH, (2, 0)),
    "too much contrast": TRUTH**2,
    "too little contrast": np.sqrt(TRUTH),
}
ESTIMATORS = {
    "raw half": Renderer(pixel_size=PIXEL),
    "Gaussian of 5 nm": kde(5),
    "Gaussian of 20 nm": kde(20),
    "Gaussian of 80 nm": kde(80),
    "anisotropic KDE": Pipeline([("render", Renderer(PIXEL)), ("kde", AnisotropicKDE())]),
}


class TestBoth:
    @pytest.mark.parametrize("scorer", SCORERS)
    def test_prefer_the_truth_to_any_other_image(self, scorer, fovs):
        best = scorer(Oracle(TRUTH), fovs)
        images = {name: image / image.sum() for name, image in OTHER_IMAGES.items()}
        scores = {name: scorer(Oracle(image), fovs) for name, image in images.items()}
        assert {name: score for name, score in scores.items() if score > best - 0.03} == {}

    @pytest.mark.parametrize("scorer", SCORERS)
    def test_prefer_the_truth_to_every_estimate(self, scorer, fovs):
        best = scorer(Oracle(TRUTH), fovs)
        scores = {name: scorer(estimator, fovs) for name, estimator in ESTIMATORS.items()}
        assert {name: score for name, score in scores.items() if score > best - 0.03} == {}

    @pytest.mark.parametrize("scorer", SCORERS)
    def test_give_invented_filaments_no_credit(self, scorer, fovs):
        shares = [0, 0.1, 0.3, 0.6]
        scores = [scorer(Oracle((1 - share) * TRUTH + share * INVENTED), fovs) for share in shares]
        assert scores == sorted(scores, reverse=True)

    def test_do_not_fall_for_what_a_comparison_of_two_reconstructions_rewards(self, fovs):
        def correlate_reconstructions(estimator, fov):
            return frc_area(*map(estimator.transform, fov.split(random_state=0)))

        estimators = [Hallucinator(share) for share in (0, 0.05, 0.1, 0.3, 0.6)]
        fooled = [np.mean([correlate_reconstructions(e, f) for f in fovs]) for e in estimators]
        assert fooled == sorted(fooled)
        for scorer in SCORERS:
            scores = [scorer(estimator, fovs) for estimator in estimators]
            assert scores == sorted(scores, reverse=True)

    @pytest.mark.parametrize("scorer", SCORERS)
    def test_a_search_chooses_the_honest_estimate(self, scorer, fovs):
        search = GridSearchCV(
            Hallucinator(), {"share": [0.3, 0.0, 0.1]}, scoring=scorer, cv=3, error_score="raise"
        )
        assert search.fit(fovs).best_params_ == {"share": 0.0}

    @pytest.mark.parametrize("scorer", SCORERS)
    def test_average_fields_and_repeats(self, scorer, fovs):
        scorer = type(scorer)(repeats=2)
        table = scorer.score_fields(kde(), fovs)
        assert list(table.columns) == ["field", "repeat", "score"]
        assert table[["field", "repeat"]].to_numpy().tolist() == [
            [field, repeat] for field in range(3) for repeat in range(2)
        ]
        assert scorer(kde(), fovs) == pytest.approx(table["score"].mean())
        assert table["score"].nunique() == 6

    @pytest.mark.parametrize("scorer", SCORERS)
    def test_score_a_field_alike_alone_and_in_a_list(self, scorer, fovs):
        scores = scorer.score_fields(kde(), fovs)["score"]
        assert scorer(kde(), fovs[1]) == scores[1]
        assert np.isfinite(scorer(kde(), fovs[1].to_frame()))

    @pytest.mark.parametrize("scorer", SCORERS)
    def test_do_not_look_at_y(self, scorer, fovs):
        assert scorer(kde(), fovs, "anything") == scorer(kde(), fovs)

    @pytest.mark.parametrize("scorer", SCORERS)
    def test_predict_comes_before_transform(self, scorer, fovs):
        assert scorer(Predictor(), fovs) == scorer(Renderer(pixel_size=PIXEL), fovs)
        in_pipeline = Pipeline([("thin", "passthrough"), ("predict", Predictor())]).fit(fovs)
        assert scorer(in_pipeline, fovs) == scorer(Predictor(), fovs)

    @pytest.mark.parametrize("scorer", SCORERS)
    def test_may_be_pickled_and_show_their_parameters(self, scorer):
        assert pickle.loads(pickle.dumps(scorer)) == scorer
        assert eval(repr(scorer)) == scorer
        other = type(scorer)(repeats=3, split="random")
        assert eval(repr(other)) == other != scorer
        assert len({scorer, type(scorer)(), other}) == 2

    @pytest.mark.parametrize("scorer", SCORERS)
    def test_take_parameters_by_name_and_keep_them(self, scorer):
        with pytest.raises(TypeError):
            type(scorer)("frames")
        with pytest.raises(AttributeError):
            scorer.repeats = 2

    @pytest.mark.parametrize("scorer", SCORERS)
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"split": "halves"}, "split must be 'auto', 'frames' or 'random', got 'halves'"),
            ({"n_blocks": 1}, "n_blocks must be a whole number of at least 2, got 1"),
            ({"repeats": 0}, "repeats must be a whole number of at least 1, got 0"),
            ({"random_state": -1}, "random_state must be an int from 0 on, .*-1"),
            ({"random_state": "a"}, "random_state must be an int from 0 on, .*'a'"),
        ],
    )
    def test_refuse_splits_that_there_are_not(self, scorer, options, message):
        with pytest.raises(InvalidInputError, match=message):
            type(scorer)(**options)

    @pytest.mark.parametrize("scorer", SCORERS)
    def test_draw_from_a_random_state_when_they_score_and_not_before(self, scorer, fovs):
        source = np.random.RandomState(3)
        drawing = type(scorer)(random_state=source)
        assert drawing.random_state is source
        assert source.random_sample() == np.random.RandomState(3).random_sample()
        first, second = (drawing(kde(), fovs[0]) for _ in range(2))
        assert first != second

    @pytest.mark.parametrize("scorer", SCORERS)
    @pytest.mark.parametrize("n", [0, 1])
    def test_name_the_field_whose_half_is_empty(self, scorer, n, fovs):
        with pytest.raises(InvalidInputError, match=r"X\[1\]: a half is empty after splitting"):
            scorer(kde(), [fovs[0], fovs[1].select(slice(n))])

    @pytest.mark.parametrize("scorer", SCORERS)
    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_name_the_field_that_is_not_reconstructed_well(self, scorer, value, fovs):
        image = TRUTH.copy()
        image[SIDE_PX // 2, SIDE_PX // 2] = value
        with pytest.raises(InvalidInputError, match=r"X\[0\]: .*nan or infinite"):
            scorer(Oracle(image), fovs)

    @pytest.mark.parametrize("scorer", SCORERS)
    def test_name_the_field_that_the_grid_misses(self, scorer, fovs):
        corner = PixelGrid((0, 0), PIXEL, (8, 8))
        with (
            pytest.warns(UnusedRowsWarning),
            pytest.raises(InvalidInputError, match=r"X\[0\]: a half has no localization on"),
        ):
            scorer(Renderer(grid=corner), fovs)

    @pytest.mark.parametrize("scorer", SCORERS)
    @pytest.mark.parametrize(
        ("image", "error", "message"),
        [
            (np.ones((3, 3)), InvalidTypeError, r"expected an image as xarray\.DataArray"),
            (
                to_image(np.ones((1, *GRID.shape)), GRID, z=[0]),
                InvalidInputError,
                r"an image has the dims \(y, x\)",
            ),
        ],
        ids=["array", "stack"],
    )
    def test_name_the_field_whose_reconstruction_is_no_image(
        self, scorer, image, error, message, fovs
    ):
        class WrongFromTheSecondOn(Predictor):
            def predict(self, X):
                return super().predict(X) if X in fovs[0].split(random_state=0) else image

        with pytest.raises(error, match=rf"X\[1\]: {message}"):
            scorer(WrongFromTheSecondOn(), fovs)

    @pytest.mark.parametrize("scorer", SCORERS)
    def test_work_in_a_grid_search_over_fields(self, scorer, fovs):
        search = GridSearchCV(
            kde(), {"kde__sigma": [2.0, 20.0]}, scoring=scorer, cv=3, error_score="raise"
        )
        search.fit(fovs)
        scores = cross_val_score(kde(), fovs, scoring=scorer, cv=KFold(3), error_score="raise")
        assert np.isfinite(scores).all()
        assert search.cv_results_["mean_test_score"][1] == pytest.approx(scores.mean())

    def test_use_the_split_of_the_table(self, fovs):
        first, second = fovs[0].split("random", random_state=5)
        image, counts = kde().fit_transform(first), render_histogram(second, PIXEL)
        options = {"split": "random", "random_state": 5}
        assert FRCScorer(**options)(kde(), fovs[0]) == frc_area(image, counts)
        exposure = len(second) / len(first)
        assert PoissonScorer(**options)(kde(), fovs[0]) == pytest.approx(
            poisson_log_likelihood(counts, image, exposure=exposure)
        )

    @pytest.mark.parametrize("scorer", SCORERS)
    def test_an_int_seed_gives_the_same_halves_every_time(self, scorer, fovs):
        scorer = type(scorer)(repeats=2, random_state=1)
        first, second = (scorer.score_fields(kde(), fovs)["score"] for _ in range(2))
        assert_array_equal(first, second)


def test_a_width_is_seen_by_the_likelihood_alone(fovs):
    # What the best width is the truth tells: its expected likelihood, without noise in half B.
    sigmas = [2.0, 4.0, 6.0, 9.0, 14.0, 20.0, 26.0]
    expected = []
    for sigma in sigmas:
        halves = [fov.split(random_state=0)[0] for fov in fovs]
        images = [kde(sigma).fit_transform(half) for half in halves]
        expected.append(
            np.mean(
                [
                    poisson_log_likelihood(len(half) * TRUTH, image)
                    for half, image in zip(halves, images, strict=True)
                ]
            )
        )
    search = GridSearchCV(
        kde(),
        {"kde__sigma": sigmas},
        scoring={"frc": FRCScorer(), "likelihood": PoissonScorer()},
        refit="likelihood",
        cv=3,
        error_score="raise",
    ).fit(fovs)
    frc, likelihood = (search.cv_results_[f"mean_test_{name}"] for name in ("frc", "likelihood"))
    assert search.best_params_ == {"kde__sigma": sigmas[np.argmax(expected)]}
    assert max(likelihood) > max(likelihood[0], likelihood[-1]) + 0.1
    assert np.ptp(frc) < 0.005


class TestFRCScorer:
    def test_prefers_the_truth_to_a_small_change_in_any_direction(self, fovs):
        # As strong as the truth in every ring, in a random direction.
        rng = np.random.default_rng(0)
        amplitude = abs(np.fft.rfft2(TRUTH))
        best = FRCScorer()(Oracle(TRUTH), fovs)
        for _ in range(30):
            phase = np.fft.rfft2(rng.normal(size=GRID.shape))
            direction = np.fft.irfft2(amplitude * phase / abs(phase), s=GRID.shape)
            for step in (-0.1, 0.1):
                assert FRCScorer()(Oracle(TRUTH + step * direction), fovs) < best - 0.001

    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(st.lists(st.floats(-1, 1), min_size=5, max_size=5))
    def test_is_blind_to_any_gain_per_ring(self, log_gains):
        # The gains follow a curve: jumps would carry the structure into the taper at the borders.
        fov = sample(0)
        frequency = np.hypot(np.fft.fftfreq(SIDE_PX)[:, None], np.fft.rfftfreq(SIDE_PX))
        ring = np.rint(SIDE_PX * frequency)
        log_gain = PchipInterpolator(np.linspace(0, ring.max(), 5), log_gains)
        filtered = np.fft.irfft2(np.fft.rfft2(TRUTH) * np.exp(log_gain(ring)), s=GRID.shape)
        best, score = FRCScorer()(Oracle(TRUTH), fov), FRCScorer()(Oracle(filtered), fov)
        assert best - 0.003 < score < best + 1e-4

    def test_is_blind_to_scale(self, fovs):
        scores = [FRCScorer()(Oracle(TRUTH, gain), fovs) for gain in (1, 0.01, 30)]
        assert_allclose(scores, scores[0])

    def test_gives_a_constant_image_nothing(self, fovs):
        assert FRCScorer()(Oracle(np.zeros(GRID.shape)), fovs) == 0

    def test_judges_every_pixel_size_on_the_same_frequencies(self, fovs):
        image, counts = (render_histogram(half, 5) for half in fovs[0].split(random_state=0))
        scorer = FRCScorer(cutoff=0.4)
        assert scorer(Renderer(pixel_size=5), fovs[0]) == frc_area(image, counts, cutoff=0.2)

    def test_gives_frequencies_that_the_pixels_cannot_hold_nothing(self, fovs):
        image, counts = (render_histogram(half, 40) for half in fovs[0].split(random_state=0))
        expected = frc_area(image, counts, cutoff=0.5) * 0.5 / 0.8
        assert FRCScorer(cutoff=0.2)(Renderer(pixel_size=40), fovs[0]) == pytest.approx(expected)


class TestPoissonScorer:
    def test_sees_scale(self, fovs):
        gains = [0.5, 0.9, 1.0, 1.1, 2.0]
        scores = [PoissonScorer()(Oracle(TRUTH, gain), fovs) for gain in gains]
        assert np.argmax(scores) == 2

    def test_compares_pixel_sizes(self):
        # A smooth density: binned at 5 or at 10 nm it says the same.
        fov = sample(0)
        fine = Pipeline([("render", Renderer(pixel_size=5)), ("kde", GaussianKDE(40))])
        assert PoissonScorer()(fine, fov) == pytest.approx(PoissonScorer()(kde(40), fov), abs=0.02)

    @pytest.mark.parametrize("background", [0, 1, math.nan, None, "a"])
    def test_refuses_a_background_out_of_range(self, background):
        with pytest.raises(InvalidInputError, match="background must be in"):
            PoissonScorer(background=background)


@pytest.fixture(scope="module")
def many_fovs():
    return [sample(seed, 4000) for seed in range(20)]


class TestHeadroom:
    """How far an estimator came from the raw half towards the best that there can be."""

    def test_of_the_truth_is_taken_whole(self, many_fovs):
        table = FRCScorer(repeats=2).score_headroom(Oracle(TRUTH), many_fovs)
        assert list(table.columns) == ["field", "repeat", "score", "raw", "ceiling", "share"]
        assert table["score"].mean() == pytest.approx(table["ceiling"].mean(), abs=0.01)
        assert table["share"].mean() == pytest.approx(1, abs=0.15)

    def test_of_the_raw_half_is_not_taken_at_all(self, fovs):
        table = FRCScorer().score_headroom(Renderer(pixel_size=PIXEL), fovs)
        assert (table["share"] == 0).all()
        assert (table["score"] == table["raw"]).all()

    def test_is_measured_on_the_scores(self, fovs):
        scorer = FRCScorer(repeats=2, cutoff=0.3)
        table = scorer.score_headroom(kde(), fovs)
        assert_array_equal(table["score"], scorer.score_fields(kde(), fovs)["score"])
        raw = scorer.score_fields(Renderer(pixel_size=PIXEL), fovs)["score"]
        assert_array_equal(table["raw"], raw)
        expected = (table["score"] - table["raw"]) / (table["ceiling"] - table["raw"])
        assert_allclose(table["share"], expected)

    def test_is_not_left_upwards(self, many_fovs):
        for estimator in [*ESTIMATORS.values(), *map(Oracle, OTHER_IMAGES.values())]:
            table = FRCScorer().score_headroom(estimator, many_fovs[:5])
            assert table["score"].mean() < table["ceiling"].mean() - 0.01

    @pytest.mark.parametrize("first_share", [0.2, 0.5, 0.8])
    def test_is_that_of_the_truth_for_halves_of_any_size(self, first_share):
        rng = np.random.default_rng(0)
        n = 4000 * np.array([first_share, 1 - first_share])
        pairs = rng.poisson(n[:, None, None] * TRUTH, size=(40, 2, *GRID.shape))
        truth = np.mean([frc_area(TRUTH, second) for _, second in pairs])
        ceiling = np.mean([frc_ceiling(first, second) for first, second in pairs])
        assert ceiling == pytest.approx(truth, abs=0.01)

    @pytest.mark.parametrize("first_share", [0.2, 0.8])
    def test_of_the_truth_is_taken_whole_by_halves_of_any_size(self, first_share, many_fovs):
        rng = np.random.default_rng(0)
        uneven = [
            Localizations(
                {"x": fov.x, "y": fov.y, "frame": rng.random(len(fov)) > first_share},
                field_of_view=FIELD,
            )
            for fov in many_fovs
        ]
        scorer = FRCScorer(n_blocks=2, random_state=None)
        table = scorer.score_headroom(Oracle(TRUTH), uneven)
        assert table["score"].mean() == pytest.approx(table["ceiling"].mean(), abs=0.015)

    @pytest.mark.parametrize("value", [0, 3])
    def test_is_unknown_for_constant_images(self, value):
        constant, counts = np.full(GRID.shape, value), np.eye(*GRID.shape)
        assert math.isnan(frc_ceiling(constant, counts))
        assert math.isnan(frc_ceiling(counts, constant))

    def test_is_0_in_rings_without_power(self):
        stripes = np.tile([0, 1], (SIDE_PX, SIDE_PX // 2))
        assert frc_ceiling(stripes, stripes, window=None) == 0

    def test_is_0_where_halves_disagree(self):
        image = np.random.default_rng(0).random(GRID.shape)
        assert frc_ceiling(image, 1 - image) == 0

    def test_is_inflated_by_emitters_that_blink_in_both_halves(self):
        blinks, truth = make_microtubules(
            field_size=2500,
            density=300,
            n_filaments=8,
            blinks_per_emitter=10,
            background=0,
            random_state=0,
        )
        image = GaussianKDE(10).fit_transform(truth.image(pixel_size=PIXEL))

        class Structure(Predictor):
            def predict(self, X):
                return image

        by_frames, random = (
            FRCScorer(split=split, repeats=5).score_headroom(Structure(), blinks).mean()
            for split in ("frames", "random")
        )
        assert by_frames["score"] == pytest.approx(by_frames["ceiling"], abs=0.05)
        assert random["ceiling"] > by_frames["ceiling"] + 0.3
        # The places of the emitters that blinked foretell more than the structure does.
        assert random["raw"] > random["score"] + 0.2
        assert random["share"] < 0

    def test_is_nan_where_there_is_none(self, fovs):
        everywhere = np.stack(np.meshgrid(*2 * [np.arange(5, 80, PIXEL)]), -1).reshape(-1, 2)
        frames = np.arange(2).repeat(len(everywhere))
        columns = {"x": np.tile(everywhere[:, 0], 2), "y": np.tile(everywhere[:, 1], 2)}
        uniform = Localizations({**columns, "frame": frames}, field_of_view=(0, 0, 80, 80))
        table = FRCScorer(n_blocks=2).score_headroom(Renderer(pixel_size=PIXEL), uniform)
        assert table[["score", "raw", "ceiling"]].to_numpy().tolist() == [[0, 0, 0]]
        assert math.isnan(table["share"][0])

    def test_names_the_field_that_cannot_be_scored(self, fovs):
        with pytest.raises(InvalidInputError, match=r"X\[1\]: a half is empty after splitting"):
            FRCScorer().score_headroom(kde(), [fovs[0], fovs[1].select(slice(1))])

    def test_is_scored_on_a_single_table(self, fovs):
        alone = FRCScorer().score_headroom(kde(), fovs[1])
        assert alone["share"][0] == FRCScorer().score_headroom(kde(), fovs)["share"][1]
