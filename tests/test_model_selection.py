"""Model selection of scikit-learn over lists of fields of view, without ground truth."""

import os
from unittest.mock import patch

import joblib
import numpy as np
import pytest
from distributed import Client, LocalCluster
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import loguniform
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import FitFailedWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    KFold,
    LeaveOneOut,
    RandomizedSearchCV,
    ShuffleSplit,
    cross_val_score,
    cross_validate,
    train_test_split,
    validation_curve,
)
from sklearn.pipeline import Pipeline

from smlmkit import (
    AnisotropicKDE,
    FRCScorer,
    IsolatedFilter,
    LocalizationFilter,
    Localizations,
    PoissonScorer,
    Renderer,
    make_microtubules,
)
from smlmkit.errors import InvalidInputError, InvalidTypeError

SIDE = 640.0
GROUPS = [0, 1, 2, 0, 1, 2]
SCORERS = {"frc": FRCScorer(cutoff=0.5), "likelihood": PoissonScorer()}
SCALES = {"kde__scale": [0.3, 2.0, 40.0]}


def crossing_lines(seed, n):
    """A field of view with n blinks around two filaments that cross in its middle."""
    rng = np.random.default_rng(seed)
    angle = rng.choice([0.3, 1.9], n)
    along, across = rng.uniform(-250, 250, n), rng.normal(0, 10, n)
    columns = {
        "x": SIDE / 2 + along * np.cos(angle) - across * np.sin(angle),
        "y": SIDE / 2 + along * np.sin(angle) + across * np.cos(angle),
        "frame": rng.integers(500, size=n),
        "photons": rng.uniform(200, 2000, n),
    }
    return Localizations(columns, field_of_view=(0, 0, SIDE, SIDE))


@pytest.fixture(scope="module")
def fovs():
    return [crossing_lines(seed, 600 + 100 * seed) for seed in range(6)]


@pytest.fixture(scope="module", params=["equal", "ragged", "tiles"])
def samples(request, fovs):
    """Six fields of view: tables of one length, which numpy could stack, of several, and tiles."""
    if request.param == "equal":
        return [crossing_lines(seed, 800) for seed in range(6)]
    if request.param == "ragged":
        return fovs
    size = 3 * SIDE, 2.5 * SIDE
    large, _ = make_microtubules(field_size=size, density=1000, n_frames=500, random_state=0)
    return large.tiles(SIDE, min_localizations=50)


def pipeline():
    steps = [
        ("photons", LocalizationFilter()),
        ("isolated", IsolatedFilter(radius=100, min_neighbors=2)),
        ("render", Renderer(pixel_size=10)),
        ("kde", AnisotropicKDE()),
    ]
    return Pipeline(steps)


class Memory(BaseEstimator):
    """Remembers what it was fitted with; predicts the histogram."""

    def __init__(self, pixel_size=10):
        self.pixel_size = pixel_size

    def fit(self, X, y=None):
        self.seen_ = X
        return self

    def predict(self, X):
        return Renderer(pixel_size=self.pixel_size).fit_transform(X)


def scores_of_splits(estimator, fovs, scorer, splits):
    """Score every field on its own and average the test fields of each split by hand."""
    scores = np.array([scorer(estimator, fov) for fov in fovs])
    return [scores[test].mean() for _, test in splits]


def scores_of_candidates(search, name):
    """Give a search's scores, one row a candidate and one column a split."""
    splits = range(search.n_splits_)
    return np.stack([search.cv_results_[f"split{k}_test_{name}"] for k in splits], axis=1)


def assert_scores_are_those_of_the_fields(search, fovs, scorer, name="score"):
    splits = list(search.cv.split(fovs))
    expected = [
        scores_of_splits(clone(search.estimator).set_params(**params), fovs, scorer, splits)
        for params in search.cv_results_["params"]
    ]
    assert_allclose(scores_of_candidates(search, name), expected, rtol=1e-12)


class TestSplitters:
    @pytest.mark.parametrize("scorer", SCORERS.values(), ids=SCORERS)
    @pytest.mark.parametrize(
        "cv",
        [
            KFold(3),
            KFold(2, shuffle=True, random_state=0),
            GroupKFold(3),
            ShuffleSplit(3, test_size=2, random_state=0),
            LeaveOneOut(),
        ],
        ids=lambda cv: type(cv).__name__,
    )
    def test_a_split_scores_the_mean_of_its_fields(self, samples, cv, scorer):
        groups = GROUPS if isinstance(cv, GroupKFold) else None
        scores = cross_val_score(
            pipeline(), samples, groups=groups, scoring=scorer, cv=cv, error_score="raise"
        )
        splits = cv.split(samples, groups=groups)
        assert_allclose(scores, scores_of_splits(pipeline(), samples, scorer, splits), rtol=1e-12)
        assert len(set(scores)) == len(scores) > 1

    def test_the_fields_reach_fit_as_they_are(self, samples):
        folds = cross_validate(
            Memory(),
            samples,
            groups=GROUPS,
            scoring=SCORERS,
            cv=GroupKFold(3),
            error_score="raise",
            return_estimator=True,
            return_indices=True,
        )
        for estimator, train, test in zip(
            folds["estimator"], *folds["indices"].values(), strict=True
        ):
            assert all(seen is samples[k] for seen, k in zip(estimator.seen_, train, strict=True))
            assert not {GROUPS[k] for k in train} & {GROUPS[k] for k in test}
        for name, scorer in SCORERS.items():
            splits = zip(*folds["indices"].values(), strict=True)
            expected = scores_of_splits(Memory(), samples, scorer, splits)
            assert_allclose(folds[f"test_{name}"], expected, rtol=1e-12)

    def test_fields_may_be_held_out(self, fovs):
        train, test = train_test_split(fovs, test_size=2, random_state=0)
        assert sorted(map(len, [*train, *test])) == sorted(map(len, fovs))
        assert len(test) == 2


class TestSearches:
    def test_a_grid_over_every_step(self, samples):
        grid = [
            {"photons__photons": [(None, None), (400, 1600)], "kde__scale": [0.5, 5.0]},
            {"isolated__radius": [10, 50], "render__pixel_size": [8, 16]},
        ]
        search = GridSearchCV(
            pipeline(), grid, scoring=SCORERS, refit=False, cv=KFold(2), error_score="raise"
        ).fit(samples)
        for name, scorer in SCORERS.items():
            assert_scores_are_those_of_the_fields(search, samples, scorer, name)
            assert len(set(search.cv_results_[f"mean_test_{name}"])) == 8

    def test_the_likelihood_chooses_a_scale_that_neither_blurs_nor_overfits(self, fovs):
        search = GridSearchCV(
            pipeline(), SCALES, scoring=PoissonScorer(), cv=3, error_score="raise"
        ).fit(fovs)
        assert search.best_params_ == {"kde__scale": 2.0}

    def test_the_best_model_renders_new_fields(self, fovs):
        search = GridSearchCV(
            pipeline(), SCALES, scoring=PoissonScorer(), cv=2, error_score="raise"
        ).fit(fovs[:4])
        best = pipeline().set_params(**search.best_params_)
        images = search.transform(fovs[4:])
        assert isinstance(images, list)
        for image, fov in zip(images, fovs[4:], strict=True):
            assert image.identical(best.fit_transform(fov))
            assert image.identical(search.best_estimator_.transform(fov))

    def test_the_best_model_is_fitted_to_all_fields_and_predicts(self, fovs):
        search = GridSearchCV(
            Memory(), {"pixel_size": [10, 80]}, scoring=PoissonScorer(), cv=2, error_score="raise"
        ).fit(fovs)
        assert search.best_estimator_.seen_ is fovs
        best = Renderer(pixel_size=search.best_params_["pixel_size"])
        assert search.predict(fovs[0]).identical(best.fit_transform(fovs[0]))

    def test_one_of_several_scores_chooses(self, fovs):
        """The Fourier ring correlation forgives blur, the likelihood does not."""
        search = GridSearchCV(
            pipeline(),
            {"kde__scale": [0.3, 16.0]},
            scoring=SCORERS,
            refit="likelihood",
            cv=KFold(2),
            error_score="raise",
        ).fit(fovs)
        for name, scorer in SCORERS.items():
            assert_scores_are_those_of_the_fields(search, fovs, scorer, name)
        best = {name: np.argmax(search.cv_results_[f"mean_test_{name}"]) for name in SCORERS}
        assert search.best_index_ == best["likelihood"] != best["frc"]
        expected = SCORERS["likelihood"](search.best_estimator_, fovs)
        assert search.score(fovs) == pytest.approx(expected)

    def test_a_random_search(self, fovs):
        search = RandomizedSearchCV(
            pipeline(),
            {"kde__scale": loguniform(0.1, 50), "render__pixel_size": [8, 10]},
            n_iter=4,
            scoring=PoissonScorer(),
            cv=KFold(3),
            error_score="raise",
            random_state=0,
        ).fit(fovs)
        assert len({params["kde__scale"] for params in search.cv_results_["params"]}) == 4
        assert_scores_are_those_of_the_fields(search, fovs, PoissonScorer())

    def test_a_halving_search_takes_fields_as_its_resource(self, fovs):
        scorer = PoissonScorer()
        search = HalvingGridSearchCV(
            pipeline(),
            {"kde__scale": [0.3, 2.0, 8.0, 40.0]},
            factor=2,
            min_resources=3,
            scoring=scorer,
            cv=KFold(3),
            error_score="raise",
            random_state=0,
        ).fit(fovs)
        assert search.n_resources_ == [3, 6]
        assert search.n_candidates_ == [4, 2]
        assert search.best_params_["kde__scale"] in (2.0, 8.0)
        # The last round sees all fields: three folds of two each.
        last = search.cv_results_["iter"] == 1
        means = [
            np.mean([scorer(clone(search.estimator).set_params(**params), fov) for fov in fovs])
            for params in np.array(search.cv_results_["params"])[last]
        ]
        assert_allclose(search.cv_results_["mean_test_score"][last], means, rtol=1e-12)

    def test_a_search_may_be_cross_validated(self, fovs):
        search = GridSearchCV(
            pipeline(), SCALES, scoring=PoissonScorer(), cv=2, error_score="raise"
        )
        scores = cross_val_score(
            search, fovs, scoring=PoissonScorer(), cv=KFold(3), error_score="raise"
        )
        best = pipeline().set_params(kde__scale=2.0)
        expected = scores_of_splits(best, fovs, PoissonScorer(), KFold(3).split(fovs))
        assert_allclose(scores, expected, rtol=1e-12)


class TestFailures:
    def test_a_fit_that_fails_raises(self, fovs):
        search = GridSearchCV(
            pipeline(),
            {"render__pixel_size": [10, -10]},
            scoring=FRCScorer(),
            cv=2,
            error_score="raise",
        )
        with pytest.raises(InvalidInputError, match="pixel_size must be a positive number"):
            search.fit(fovs)

    def test_a_fit_that_fails_warns_where_it_does_not_raise(self, fovs):
        search = GridSearchCV(
            pipeline(), {"render__pixel_size": [10, -10]}, scoring=FRCScorer(), cv=2, refit=False
        )
        with (
            pytest.warns(FitFailedWarning, match="pixel_size must be a positive number"),
            pytest.warns(UserWarning, match="test scores are non-finite"),
        ):
            search.fit(fovs)

    def test_a_tile_that_cannot_be_scored_is_named(self, fovs):
        large = Localizations(fovs[0].to_frame(), field_of_view=(0, 0, SIDE, 2 * SIDE))
        with pytest.raises(InvalidInputError, match=r"X\[0\]: a half is empty"):
            cross_val_score(
                pipeline(), large.tiles(SIDE), scoring=FRCScorer(), cv=2, error_score="raise"
            )


class TestSingleTable:
    """To scikit-learn it has as many samples as rows."""

    @pytest.mark.parametrize("error_score", ["raise", np.nan])
    @pytest.mark.parametrize(
        "select",
        [
            lambda table, **options: GridSearchCV(pipeline(), SCALES, **options).fit(table),
            lambda table, **options: HalvingGridSearchCV(pipeline(), SCALES, **options).fit(table),
            lambda table, **options: cross_val_score(pipeline(), table, **options),
            lambda table, **options: validation_curve(
                pipeline(), table, None, param_name="kde__scale", param_range=[1], **options
            ),
        ],
        ids=["grid", "halving", "cross_val_score", "validation_curve"],
    )
    def test_is_refused_with_what_to_do(self, select, error_score, fovs):
        with pytest.raises(InvalidTypeError, match=r"is one sample: pass a list .*table\.tiles"):
            select(fovs[0], scoring=FRCScorer(), error_score=error_score)

    def test_is_not_split_into_rows(self, fovs):
        with pytest.raises(InvalidTypeError, match="is one sample"):
            train_test_split(fovs[0])


@pytest.fixture(scope="module")
def client():
    """Connect to two processes of Dask, which changes this one's environment on the way."""
    with (
        patch.dict(os.environ),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


class TestDask:
    def search(self, fovs, **scorers):
        return GridSearchCV(
            pipeline(),
            {"kde__scale": [0.3, 2.0], "render__pixel_size": [10, 12]},
            scoring=SCORERS | scorers,
            refit="likelihood",
            cv=KFold(2),
            error_score="raise",
        ).fit(fovs)

    def test_processes_give_the_scores_of_a_serial_search(self, samples, client):
        def process(estimator, X, y=None):
            return os.getpid()

        serial = self.search(samples)
        with joblib.parallel_config(backend="dask"):
            search = self.search(samples, process=process)
        for name in SCORERS:
            assert_array_equal(
                scores_of_candidates(search, name), scores_of_candidates(serial, name)
            )
        workers = {*client.run(os.getpid).values()}
        assert {*scores_of_candidates(search, "process").ravel()} <= workers
        assert os.getpid() not in workers
        image = serial.transform(samples[0])
        assert search.best_estimator_.transform(samples[0]).identical(image)

    def test_fields_may_be_sent_once(self, fovs, client):
        with joblib.parallel_config(backend="dask", scatter=[fovs]):
            search = self.search(fovs)
        assert_array_equal(
            search.cv_results_["mean_test_frc"], self.search(fovs).cv_results_["mean_test_frc"]
        )

    def test_errors_reach_the_caller(self, fovs, client):
        with joblib.parallel_config(backend="dask"):
            with pytest.raises(InvalidInputError, match="pixel_size must be a positive number"):
                cross_val_score(
                    pipeline().set_params(render__pixel_size=-1),
                    fovs,
                    scoring=FRCScorer(),
                    error_score="raise",
                )
            with pytest.raises(InvalidTypeError, match="is one sample"):
                cross_val_score(pipeline(), fovs[0], scoring=FRCScorer())
