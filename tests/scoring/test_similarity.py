import math
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from smlmkit import (
    GaussianKDE,
    MSSSIMScorer,
    PSNRScorer,
    Renderer,
    SSIMScorer,
    make_microtubules,
)
from smlmkit.errors import InvalidInputError, InvalidTypeError, UnusedRowsWarning
from smlmkit.grid import PixelGrid
from smlmkit.metrics.similarity import ms_ssim, psnr, ssim

PIXEL = 10.0
GRID = PixelGrid((0, 0), PIXEL, (165, 240))
METRICS = {PSNRScorer: psnr, SSIMScorer: ssim, MSSSIMScorer: ms_ssim}
KINDS = pytest.mark.parametrize("kind", METRICS)


class Predictor(BaseEstimator):
    """Predicts one image; its transform must not be asked."""

    def __init__(self, image):
        self.image = image

    def fit(self, X, y=None):
        return self

    def predict(self, X):
        return self.image

    def transform(self, X):
        raise AssertionError("predict comes first")


def kde(sigma=12.0):
    return Pipeline([("render", Renderer(PIXEL)), ("kde", GaussianKDE(sigma))])


def times(factor, image):
    return image.copy(data=factor * image.to_numpy())


@pytest.fixture(scope="module")
def dense():
    size = GRID.field_of_view.height, GRID.field_of_view.width
    return [
        make_microtubules(field_size=size, n_filaments=5, density=20_000, random_state=seed)[0]
        for seed in range(4)
    ]


@pytest.fixture(scope="module")
def sparse(dense):
    return [table.thin(0.03, random_state=seed) for seed, table in enumerate(dense)]


@pytest.fixture(scope="module")
def images(dense, sparse):
    """What the sparse tables would be without noise."""
    return [
        times(len(few) / len(table), Renderer(PIXEL).fit_transform(table))
        for table, few in zip(dense, sparse, strict=True)
    ]


class TestScores:
    @KINDS
    def test_are_those_of_the_metric(self, kind, sparse, dense):
        expected = [
            METRICS[kind](
                kde().fit_transform(few).to_numpy(),
                np.histogram2d(table.y, table.x, GRID.shape, [(0, 1650), (0, 2400)])[0]
                * (len(few) / len(table)),
                data_range=3.0,
            )
            for few, table in zip(sparse, dense, strict=True)
        ]
        table = kind(data_range=3.0).score_fields(kde(), sparse, dense)
        assert list(table.columns) == ["field", "repeat", "score"]
        assert_allclose(table["score"], expected, rtol=1e-6)
        assert kind(data_range=3.0)(kde(), sparse, dense) == table["score"].mean()
        assert kind(data_range=6.0)(kde(), sparse, dense) > table["score"].mean()

    @KINDS
    def test_of_images_take_them_as_they_are(self, kind, sparse, images):
        scorer = kind(data_range=3.0)
        expected = [
            METRICS[kind](kde().fit_transform(few).to_numpy(), 2 * image, data_range=3.0)
            for few, image in zip(sparse, images, strict=True)
        ]
        doubled = [times(2, image) for image in images]
        assert scorer.score_fields(kde(), sparse, doubled)["score"].tolist() == expected

    @KINDS
    def test_of_a_single_field_and_of_mixed_targets(self, kind, sparse, dense, images):
        scorer = kind(data_range=3.0)
        scores = scorer.score_fields(kde(), sparse[:2], [dense[0], images[1]])["score"]
        assert scores[0] == scorer(kde(), sparse[0], dense[0])
        assert scores[1] == scorer(kde(), sparse[1], images[1])
        assert scores[1] == pytest.approx(scorer(kde(), sparse[1], dense[1]), rel=1e-6)

    @KINDS
    def test_count_only_what_lies_on_the_grid(self, kind, sparse, dense):
        # A table is scaled to the localizations that are compared, however far it reaches.
        box = (0, 0, 1650, 1650)
        in_box = kind(data_range=3.0)(kde(), sparse[0].crop(box), dense[0].crop(box))
        with pytest.warns(UnusedRowsWarning):
            assert kind(data_range=3.0)(kde(), sparse[0].crop(box), dense[0]) == in_box

    @KINDS
    def test_rank_a_density_estimate_above_the_raw_counts(self, kind, sparse, dense):
        scorer = kind(data_range=3.0)
        raw, best, blurred = (
            scorer(estimator, sparse, dense) for estimator in (Renderer(PIXEL), kde(12), kde(150))
        )
        assert raw < best > blurred

    @KINDS
    def test_of_equal_images_are_the_best_that_there_are(self, kind, sparse, images):
        best = kind(data_range=3.0)(Predictor(images[0]), sparse[0], images[0])
        assert best == (math.inf if kind is PSNRScorer else 1)

    @KINDS
    def test_are_those_of_predict_before_transform(self, kind, sparse, images):
        scorer = kind(data_range=3.0)
        image = kde().fit_transform(sparse[0])
        assert scorer(Predictor(image), sparse[0], images[0]) == scorer(kde(), sparse[0], images[0])

    @KINDS
    def test_choose_in_a_search(self, kind, sparse, dense):
        scorer = kind(data_range=3.0)
        search = GridSearchCV(
            kde(), {"kde__sigma": [2.0, 12.0, 150.0]}, scoring=scorer, cv=2, error_score="raise"
        ).fit(sparse, dense)
        assert search.best_params_ == {"kde__sigma": 12.0}
        scores = scorer.score_fields(kde(), sparse, dense)["score"]
        assert search.cv_results_["split0_test_score"][1] == pytest.approx(scores[:2].mean())
        assert search.cv_results_["split1_test_score"][1] == pytest.approx(scores[2:].mean())


class TestParameters:
    @KINDS
    def test_are_shown_pickled_and_compared(self, kind):
        scorer = kind(data_range=2.5)
        assert pickle.loads(pickle.dumps(scorer)) == eval(repr(scorer)) == scorer
        assert scorer != kind(data_range=2)
        assert len({scorer, kind(data_range=2.5)}) == 1

    @KINDS
    def test_the_range_must_be_given(self, kind):
        with pytest.raises(TypeError, match="data_range"):
            kind()

    @KINDS
    @pytest.mark.parametrize("data_range", [0, -1, math.nan, math.inf, "1", None, True])
    def test_the_range_must_be_a_positive_number(self, kind, data_range):
        with pytest.raises(InvalidInputError, match="data_range must be a positive number, got"):
            kind(data_range=data_range)


class TestRefused:
    @KINDS
    @pytest.mark.parametrize(
        ("choose", "error", "message"),
        [
            (lambda y: None, InvalidTypeError, "one table or image a field of view, got NoneType"),
            (lambda y: y[0], InvalidTypeError, "a field of view, got Localizations"),
            (lambda y: y[:1], InvalidInputError, "X has 4 fields of view and y 1 targets"),
            (lambda y: [*y[:3], "x"], InvalidTypeError, r"y\[3\] must be .*, got str"),
        ],
        ids=["none", "one for all", "too few", "string"],
    )
    def test_is_a_y_that_does_not_fit(self, kind, choose, error, message, sparse, dense):
        with pytest.raises(error, match=message):
            kind(data_range=1.0)(kde(), sparse, choose(dense))

    @KINDS
    def test_is_a_target_on_another_grid(self, kind, sparse, dense):
        coarse = Renderer(20).fit_transform(dense[1])
        with pytest.raises(InvalidInputError, match=r"X\[1\]: the target lies on PixelGrid"):
            kind(data_range=1.0)(kde(), sparse[:2], [dense[0], coarse])

    @KINDS
    def test_is_a_target_with_nan(self, kind, sparse, images):
        with pytest.raises(InvalidInputError, match=r"X\[0\]: the reference has .* nan"):
            kind(data_range=1.0)(kde(), sparse[0], images[0].where(images[0] > 0))

    @KINDS
    def test_is_a_reconstruction_with_nan(self, kind, sparse, images):
        nans = Predictor(images[0].where(images[0] > 0))
        with pytest.raises(InvalidInputError, match=r"X\[0\]: the image has .* nan or infinite"):
            kind(data_range=1.0)(nans, sparse[0], images[0])

    @KINDS
    def test_is_a_reconstruction_that_is_no_image(self, kind, sparse, images):
        with pytest.raises(InvalidTypeError, match=r"X\[0\]: expected an image"):
            kind(data_range=1.0)(Predictor(images[0].to_numpy()), sparse[0], images[0])

    @KINDS
    def test_is_a_target_without_localizations(self, kind, sparse, dense):
        nothing = dense[1].select(slice(0))
        with pytest.raises(InvalidInputError, match=r"X\[1\]: the target has no localization on"):
            kind(data_range=1.0)(kde(), sparse[:2], [dense[0], nothing])

    @KINDS
    def test_is_a_field_without_localizations(self, kind, sparse, dense):
        # Nothing is what the target's counts would be scaled to: a perfect score.
        fovs = [sparse[0], sparse[1].select(slice(0))]
        with pytest.raises(InvalidInputError, match=r"X\[1\]: there is no localization on"):
            kind(data_range=1.0)(kde(), fovs, dense[:2])

    @pytest.mark.parametrize(("kind", "side_px"), [(SSIMScorer, 11), (MSSSIMScorer, 161)])
    def test_is_a_field_too_small_for_the_windows(self, kind, side_px, sparse, dense):
        scorer = kind(data_range=1.0)
        fits, too_small = ((0, 0, 1650, PIXEL * width_px) for width_px in (side_px, side_px - 1))
        assert np.isfinite(scorer(kde(), sparse[0].crop(fits), dense[0].crop(fits)))
        with pytest.raises(InvalidInputError, match=rf"X\[1\]: the image .* {side_px} pixels"):
            scorer(
                kde(),
                [sparse[0], sparse[1].crop(too_small)],
                [dense[0], dense[1].crop(too_small)],
            )
