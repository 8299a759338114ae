import math
import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.ndimage import gaussian_filter
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import Pipeline

from smlmkit import FRCScorer, GaussianKDE, Localizations, PoissonScorer, Renderer
from smlmkit.drawing import render_histogram
from smlmkit.errors import InvalidInputError, InvalidTypeError, UnusedRowsWarning
from smlmkit.grid import FieldOfView, PixelGrid
from smlmkit.images import to_image
from smlmkit.metrics.frc import frc_area
from smlmkit.metrics.likelihood import poisson_log_likelihood

SIDE_PX, PIXEL = 96, 10.0
FIELD = FieldOfView(0, 0, SIDE_PX * PIXEL, SIDE_PX * PIXEL)
GRID = PixelGrid.covering(FIELD, PIXEL)
SCORERS = [FRCScorer(cutoff=0.5), PoissonScorer()]


def lines(*angles):
    """Probability per pixel of filaments through the centre, blurred by 1.5 pixels."""
    y, x = np.indices(GRID.shape) - SIDE_PX / 2
    image = sum((abs(y * np.cos(a) - x * np.sin(a)) < 1).astype(float) for a in angles)
    image = gaussian_filter(image, 1.5)
    return image / image.sum()


TRUTH, INVENTED = lines(0.3, 1.2, 2.0), lines(0.8, 1.7, 2.6)


def sample(seed, n=6000):
    """A field of view with n localizations drawn from the truth."""
    rng = np.random.default_rng(seed)
    pixel = rng.choice(TRUTH.size, size=n, p=TRUTH.ravel())
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
        return self

    def predict(self, X):
        return render_histogram(X, PIXEL)

    def transform(self, X):
        raise AssertionError("predict comes first")


def kde(sigma=20.0):
    return Pipeline([("render", Renderer(pixel_size=PIXEL)), ("kde", GaussianKDE(sigma))])


@pytest.fixture(scope="module")
def fovs():
    return [sample(seed, n) for seed, n in enumerate([6000, 5000, 4000])]


class TestBoth:
    @pytest.mark.parametrize("scorer", SCORERS)
    def test_prefer_the_truth_to_every_reconstruction(self, scorer, fovs):
        best = scorer(Oracle(TRUTH), fovs)
        assert scorer(Renderer(pixel_size=PIXEL), fovs) < best
        assert scorer(kde(), fovs) < best
        assert scorer(Oracle(np.roll(TRUTH, 2, axis=1)), fovs) < best
        assert scorer(Oracle(INVENTED), fovs) < best

    @pytest.mark.parametrize("scorer", SCORERS)
    def test_give_invented_filaments_no_credit(self, scorer, fovs):
        shares = [0, 0.1, 0.3, 0.6]
        scores = [scorer(Oracle((1 - share) * TRUTH + share * INVENTED), fovs) for share in shares]
        assert scores == sorted(scores, reverse=True)

    @pytest.mark.parametrize("scorer", SCORERS)
    def test_average_fields_and_repeats(self, scorer, fovs):
        scorer = type(scorer)(repeats=2)
        table = scorer.score_fields(kde(), fovs)
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
    def test_predict_comes_before_transform(self, scorer, fovs):
        assert scorer(Predictor(), fovs) == scorer(Renderer(pixel_size=PIXEL), fovs)

    @pytest.mark.parametrize("scorer", SCORERS)
    def test_may_be_pickled_and_show_their_parameters(self, scorer, fovs):
        assert pickle.loads(pickle.dumps(scorer)) == scorer
        assert eval(repr(scorer)) == scorer

    @pytest.mark.parametrize("scorer", SCORERS)
    @pytest.mark.parametrize("n", [0, 1])
    def test_name_the_field_whose_half_is_empty(self, scorer, n, fovs):
        with pytest.raises(InvalidInputError, match=r"X\[1\]: a half is empty after splitting"):
            scorer(kde(), [fovs[0], fovs[1].select(slice(n))])

    @pytest.mark.parametrize("scorer", SCORERS)
    def test_name_the_field_that_is_not_reconstructed_well(self, scorer, fovs):
        with pytest.raises(InvalidInputError, match=r"X\[0\]: .*(nan|finite)"):
            scorer(Oracle(TRUTH, gain=np.nan), fovs)

    @pytest.mark.parametrize("scorer", SCORERS)
    def test_name_the_field_that_the_grid_misses(self, scorer, fovs):
        corner = PixelGrid((0, 0), PIXEL, (8, 8))
        with (
            pytest.warns(UnusedRowsWarning),
            pytest.raises(InvalidInputError, match=r"X\[0\]: a half has no localization on"),
        ):
            scorer(Renderer(grid=corner), fovs)

    @pytest.mark.parametrize("scorer", SCORERS)
    def test_refuse_what_is_no_image(self, scorer, fovs):
        class Arrays(Predictor):
            def predict(self, X):
                return np.ones((3, 3))

        with pytest.raises(InvalidTypeError, match=r"expected an image as xarray\.DataArray"):
            scorer(Arrays(), fovs)

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


class TestFRCScorer:
    def test_is_blind_to_a_gain(self, fovs):
        scorer = FRCScorer()
        scores = [scorer(Oracle(TRUTH, gain), fovs) for gain in (1, 0.01, 30)]
        np.testing.assert_allclose(scores, scores[0])

    def test_hardly_sees_an_isotropic_filter(self, fovs):
        scorer = FRCScorer()
        raw = scorer(Renderer(pixel_size=PIXEL), fovs)
        for sigma in (5, 10, 20):
            assert scorer(kde(sigma), fovs) == pytest.approx(raw, abs=0.01)

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

    @pytest.mark.parametrize(
        "options", [{"cutoff": 0}, {"cutoff": 0.7}, {"cutoff": math.nan}, {"pixel_size": 0}]
    )
    def test_refuses_parameters_out_of_range(self, options):
        with pytest.raises(InvalidInputError):
            FRCScorer(**options)


class TestPoissonScorer:
    def test_sees_blur(self, fovs):
        sigmas = [1.0, 5.0, 15.0, 60.0]
        scores = [PoissonScorer()(kde(sigma), fovs) for sigma in sigmas]
        assert np.argmax(scores) == 2

    def test_sees_scale(self, fovs):
        gains = [0.5, 0.9, 1.0, 1.1, 2.0]
        scores = [PoissonScorer()(Oracle(TRUTH, gain), fovs) for gain in gains]
        assert np.argmax(scores) == 2

    def test_compares_pixel_sizes(self):
        # A smooth density: binned at 5 or at 10 nm it says the same.
        fov = sample(0)
        fine = Pipeline([("render", Renderer(pixel_size=5)), ("kde", GaussianKDE(40))])
        assert PoissonScorer()(fine, fov) == pytest.approx(PoissonScorer()(kde(40), fov), abs=0.02)

    @pytest.mark.parametrize("background", [0, 1, math.nan])
    def test_refuses_a_background_out_of_range(self, background):
        with pytest.raises(InvalidInputError, match="background must be in"):
            PoissonScorer(background=background)


def test_an_int_seed_gives_the_same_halves_every_time(fovs):
    scorer = FRCScorer(repeats=2, random_state=1)
    first, second = (scorer.score_fields(kde(), fovs)["score"] for _ in range(2))
    assert_array_equal(first, second)
