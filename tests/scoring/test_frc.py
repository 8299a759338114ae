import math
import pickle

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from smlmkit import FRCScorer, GaussianKDE, Localizations, Renderer, frc_curve, make_microtubules
from smlmkit.drawing import render_histogram
from smlmkit.errors import InvalidInputError, InvalidTypeError, UnusedRowsWarning
from smlmkit.grid import PixelGrid
from smlmkit.images import to_image
from smlmkit.metrics.frc import frc_area
from smlmkit.resolution import frc_resolution

PIXEL = 10.0
GRID = PixelGrid((0, 0), PIXEL, (100, 120))
SHORTER_SIDE = 1000.0


def filaments(seed, density=2000.0):
    """A dense field of view, every localization an emitter of its own."""
    blinks, _ = make_microtubules(
        field_size=(GRID.field_of_view.height, GRID.field_of_view.width),
        n_filaments=4,
        density=density,
        blinks_per_emitter=1,
        n_frames=500,
        random_state=seed,
    )
    return blinks


class Image(TransformerMixin, BaseEstimator):
    """Gives one image whatever it sees."""

    def __init__(self, values):
        self.values = values

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return to_image(self.values, GRID)


class Remembering(Renderer):
    """Renders, and remembers what it was fitted with."""

    def fit(self, X, y=None):
        self.fitted_with_ = y
        return super().fit(X)


def smooth():
    return make_pipeline(Renderer(PIXEL), GaussianKDE(15))


@pytest.fixture(scope="module")
def dense():
    return [filaments(seed) for seed in range(4)]


@pytest.fixture(scope="module")
def sparse(dense):
    return [table.thin(0.1, random_state=seed) for seed, table in enumerate(dense)]


@pytest.fixture(scope="module")
def images(dense):
    return [Renderer(PIXEL).fit_transform(table) for table in dense]


class TestParameters:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"cutoff": 0}, r"cutoff must be in \(0, 0.5\], got 0"),
            ({"cutoff": 0.7}, r"cutoff must be in \(0, 0.5\], got 0.7"),
            ({"cutoff": math.nan}, r"cutoff must be in \(0, 0.5\], got nan"),
            ({"cutoff": None}, r"cutoff must be in \(0, 0.5\], got None"),
            ({"cutoff": "a"}, r"cutoff must be in \(0, 0.5\], got 'a'"),
            ({"pixel_size": 0}, "pixel_size must be a positive number, got 0"),
            ({"reference": "y"}, "reference must be 'heldout' or 'target', got 'y'"),
            ({"measure": "nm"}, "measure must be 'area' or 'resolution', got 'nm'"),
        ],
    )
    def test_are_refused_out_of_range(self, options, message):
        with pytest.raises(InvalidInputError, match=message):
            FRCScorer(**options)

    def test_may_be_the_highest_cutoff(self):
        assert FRCScorer(cutoff=0.5).cutoff == 0.5

    @pytest.mark.parametrize("reference", ["heldout", "target"])
    @pytest.mark.parametrize("measure", ["area", "resolution"])
    def test_are_shown_and_pickled(self, reference, measure):
        scorer = FRCScorer(reference=reference, measure=measure, cutoff=0.3)
        assert pickle.loads(pickle.dumps(scorer)) == eval(repr(scorer)) == scorer
        assert (scorer == FRCScorer(cutoff=0.3)) == ((reference, measure) == ("heldout", "area"))


class TestResolution:
    SCORER = FRCScorer(measure="resolution")

    def test_is_that_of_the_curve_with_its_sign_turned(self, dense):
        first, second = dense[0].split(random_state=0)
        image, counts = smooth().fit_transform(first), render_histogram(second, PIXEL)
        expected = frc_curve(image, counts).resolution
        assert 2 * PIXEL < expected < SHORTER_SIDE
        assert self.SCORER(smooth(), dense[0]) == -expected

    def test_is_better_with_more_localizations(self, dense, sparse):
        assert self.SCORER(smooth(), sparse) < self.SCORER(smooth(), dense)

    @pytest.mark.parametrize("pixel_size", [10, 7])
    def test_of_a_curve_that_never_crosses_is_two_pixels(self, dense, pixel_size):
        scorer = FRCScorer(measure="resolution", reference="target")
        assert scorer(Renderer(pixel_size), dense[0], dense[0]) == -2 * pixel_size

    def test_of_coarse_pixels_is_at_best_two_of_them(self, dense):
        assert self.SCORER(Renderer(100), dense[0]) == -200

    @pytest.mark.parametrize("value", [0, 2.5])
    def test_of_a_constant_image_is_the_shorter_side(self, dense, value):
        assert self.SCORER(Image(np.full(GRID.shape, value)), dense[0]) == -SHORTER_SIDE

    def test_of_a_curve_that_starts_below_is_the_shorter_side(self, dense, images):
        assert self.SCORER(Image(-images[0].to_numpy()), dense[0]) == -SHORTER_SIDE

    def test_is_never_better_than_two_pixels_nor_worse_than_the_shorter_side(self, dense):
        rng = np.random.default_rng(0)
        for _ in range(50):
            score = self.SCORER(Image(rng.normal(size=GRID.shape)), dense[0])
            assert -SHORTER_SIDE <= score <= -2 * PIXEL

    def test_makes_every_candidate_of_a_search_comparable(self, dense, images):
        truth = np.mean([image.to_numpy() for image in images], axis=0)
        candidates = [np.zeros(GRID.shape), -truth, truth]
        search = GridSearchCV(
            Image(truth), {"values": candidates}, scoring=self.SCORER, cv=2, error_score="raise"
        ).fit(dense)
        scores = search.cv_results_["mean_test_score"]
        assert scores[:2].tolist() == [-SHORTER_SIDE] * 2
        assert scores[2] > -SHORTER_SIDE / 2
        assert search.best_index_ == 2

    def test_averages_repeats(self, dense):
        scorer = FRCScorer(measure="resolution", repeats=3)
        scores = scorer.score_fields(smooth(), dense[0])["score"]
        assert scores.nunique() == 3
        assert scorer(smooth(), dense[0]) == scores.mean()


class TestTarget:
    SCORER = FRCScorer(reference="target")

    def test_is_correlated_with_the_reconstruction_of_the_whole_field(self, sparse, dense, images):
        expected = [
            frc_area(smooth().fit_transform(table), image, cutoff=0.2)
            for table, image in zip(sparse, images, strict=True)
        ]
        for targets in (dense, images, [*dense[:2], *images[2:]], tuple(dense)):
            table = self.SCORER.score_fields(smooth(), sparse, targets)
            assert table["score"].tolist() == expected
            assert table["field"].tolist() == [0, 1, 2, 3]
            assert table["repeat"].tolist() == [0] * 4
        assert self.SCORER(smooth(), sparse, dense) == pytest.approx(np.mean(expected))

    @pytest.mark.parametrize("target", ["dense", "images"])
    def test_may_be_that_of_a_single_field(self, target, sparse, request):
        targets = request.getfixturevalue(target)
        scores = self.SCORER.score_fields(smooth(), sparse, targets)["score"]
        assert self.SCORER(smooth(), sparse[1], targets[1]) == scores[1]

    def test_may_be_compared_by_resolution(self, sparse, dense, images):
        scorer = FRCScorer(reference="target", measure="resolution")
        expected = -frc_resolution(smooth().fit_transform(sparse[0]), images[0])
        assert -200 < expected < -2 * PIXEL
        assert scorer(smooth(), sparse[0], dense[0]) == expected

    def test_is_counted_on_the_grid_of_the_reconstruction(self, sparse, dense):
        image, target = (render_histogram(table, 25) for table in (sparse[0], dense[0]))
        expected = frc_area(image, target, cutoff=0.5)
        assert self.SCORER(Renderer(25), sparse[0], dense[0]) == pytest.approx(expected)

    def test_ranks_reconstructions(self, dense):
        # Rendered whole, a tenth shows more of the structure than a hundredth.
        tenth, hundredth = ([t.thin(f, random_state=1) for t in dense] for f in (0.1, 0.01))
        rest = [table.thin(0.5, random_state=2) for table in dense]
        scores = [self.SCORER(Renderer(PIXEL), tables, rest) for tables in (hundredth, tenth, rest)]
        assert scores == sorted(scores)
        assert scores[-1] == pytest.approx(1)

    def test_is_split_along_with_the_fields_in_a_search(self, sparse, dense):
        search = GridSearchCV(
            Remembering(),
            {"pixel_size": [10.0, 20.0]},
            scoring=self.SCORER,
            cv=2,
            error_score="raise",
            refit=False,
        ).fit(sparse, dense)
        scores = self.SCORER.score_fields(Renderer(PIXEL), sparse, dense)["score"]
        assert search.cv_results_["split0_test_score"][0] == pytest.approx(scores[:2].mean())
        assert search.cv_results_["split1_test_score"][0] == pytest.approx(scores[2:].mean())

    def test_reaches_fit(self, sparse, dense):
        search = GridSearchCV(Remembering(), {"pixel_size": [10.0]}, scoring=self.SCORER, cv=2)
        search.fit(sparse, dense)
        assert all(
            seen is given
            for seen, given in zip(search.best_estimator_.fitted_with_, dense, strict=True)
        )

    @pytest.mark.parametrize(
        ("choose", "error", "message"),
        [
            (lambda y: None, InvalidTypeError, "one table or image a field of view, got NoneType"),
            (lambda y: y[0], InvalidTypeError, "a field of view, got Localizations"),
            (lambda y: y[:3], InvalidInputError, "X has 4 fields of view and y 3 targets"),
            (lambda y: y * 2, InvalidInputError, "X has 4 fields of view and y 8 targets"),
            (
                lambda y: [*y[:3], np.ones(GRID.shape)],
                InvalidTypeError,
                r"y\[3\] must be Localizations or an image, got ndarray",
            ),
            (
                lambda y: [y[0].to_frame(), *y[1:]],
                InvalidTypeError,
                r"y\[0\] must be Localizations or an image, got DataFrame",
            ),
        ],
        ids=["none", "one for all", "too few", "too many", "array", "DataFrame"],
    )
    def test_is_refused_when_it_does_not_fit(self, choose, error, message, sparse, dense):
        with pytest.raises(error, match=message):
            self.SCORER(smooth(), sparse, choose(dense))

    @pytest.mark.parametrize(
        ("spoil", "error", "message"),
        [
            (lambda image: image[1:], InvalidInputError, "the target lies on PixelGrid"),
            (
                lambda image: image.assign_coords(y=image.y + 5),
                InvalidInputError,
                "the target lies on PixelGrid",
            ),
            (lambda image: image.expand_dims(z=[0.0]), InvalidInputError, r"dims \(y, x\)"),
            (lambda image: image.where(image > 1), InvalidInputError, "nan or infinite"),
            (lambda image: image.astype(complex), InvalidTypeError, "real numbers"),
        ],
        ids=["smaller", "half a pixel beside", "stack", "nan", "complex"],
    )
    def test_names_the_field_where_it_does_not_fit(self, spoil, error, message, sparse, images):
        with pytest.raises(error, match=rf"X\[1\]: .*{message}"):
            self.SCORER(smooth(), sparse[:2], [images[0], spoil(images[1])])

    def test_without_localizations_is_no_target(self, sparse, dense):
        nothing = Localizations(np.empty((0, 2)), field_of_view=GRID.field_of_view)
        with pytest.raises(InvalidInputError, match=r"X\[1\]: the target has no localization on"):
            self.SCORER(smooth(), sparse[:2], [dense[0], nothing])
        elsewhere = Localizations(np.array([[5000.0, 5000.0]]))
        with (
            pytest.warns(UnusedRowsWarning),
            pytest.raises(InvalidInputError, match=r"X\[0\]: the target has no localization on"),
        ):
            self.SCORER(smooth(), sparse[:1], [elsewhere])
