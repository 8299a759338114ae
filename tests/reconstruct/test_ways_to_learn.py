"""Every strategy, network and loss through the estimator, and in scikit-learn's company."""

import pickle

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from smlmkit import (
    AnisotropicKDE,
    DynamicHalves,
    FRCScorer,
    GaussianKDE,
    IsolatedFilter,
    N2NReconstructor,
    NoiseToClean,
    Renderer,
    SparseToDense,
)
from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.testing import example_fovs

QUICK = {
    "max_samples": 16,
    "batch_size": 4,
    "patch_size": 16,
    "depth": 2,
    "width": 4,
    "random_state": 0,
    "verbose": False,
}


@pytest.fixture(scope="module")
def fovs():
    return example_fovs(n_fovs=4)


@pytest.mark.parametrize(
    "strategy",
    [
        "fixed",
        "dynamic",
        "sparse2dense",
        DynamicHalves(keep=(0.05, 0.95)),
        DynamicHalves(halves="even_odd"),
        SparseToDense(target=AnisotropicKDE(scale=2)),
        SparseToDense(target=Pipeline([("render", Renderer()), ("kde", GaussianKDE(20))])),
    ],
    ids=repr,
)
def test_strategies_without_ground_truth(fovs, strategy):
    image = N2NReconstructor(strategy, **QUICK).fit(fovs).predict(fovs[0])
    assert float(image.sum()) == pytest.approx(len(fovs[0]), rel=1e-5)


def test_supervised_training_on_dense_tables_or_images(fovs):
    sparse = [fov.thin(0.2, random_state=0) for fov in fovs]
    by_table = N2NReconstructor("n2c", **QUICK).fit(sparse, fovs)
    by_image = N2NReconstructor(NoiseToClean(), **QUICK).fit(sparse, Renderer().fit_transform(fovs))
    assert by_table.histories_[0].loss != by_image.histories_[0].loss
    single = N2NReconstructor("n2c", **QUICK).fit(sparse[0], fovs[0])
    assert single.predict(sparse[0]).shape == (200, 300)


def test_supervised_training_needs_a_target_for_every_field(fovs):
    model = N2NReconstructor("n2c", **QUICK)
    with pytest.raises(InvalidTypeError, match="y must hold one table or image a field of view"):
        model.fit(fovs)
    with pytest.raises(InvalidInputError, match="X has 4 fields of view and y 1 targets"):
        model.fit(fovs, fovs[:1])


def test_the_experiment_of_the_paper_is_a_grid_search(fovs):
    sparse = [fov.thin(0.5, random_state=0) for fov in fovs]
    search = GridSearchCV(
        Pipeline([("isolated", IsolatedFilter(radius=200)), ("n2n", N2NReconstructor(**QUICK))]),
        {"n2n__strategy": ["fixed", "dynamic", "n2c", SparseToDense(share=(0.2, 0.5))]},
        scoring=FRCScorer(),
        cv=2,
        error_score="raise",
    ).fit(sparse, fovs)
    scores = search.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    assert len(set(scores)) == 4


def test_parameters_of_a_strategy_can_be_searched(fovs):
    search = GridSearchCV(
        N2NReconstructor(DynamicHalves(), **QUICK),
        {"strategy__keep": [0.2, (0.05, 0.95)]},
        scoring=FRCScorer(),
        cv=2,
        error_score="raise",
    ).fit(fovs)
    assert search.best_params_["strategy__keep"] in (0.2, (0.05, 0.95))


@pytest.mark.parametrize(
    ("parameters", "n_levels"),
    [
        ({"network": "pix2pix", "depth": 4, "width": 4}, 4),
        ({"network": "unet", "norm": "batch"}, 2),
        ({"network": "unet", "residual": True}, 2),
        ({"network": "light"}, 3),
    ],
)
def test_networks(fovs, parameters, n_levels):
    model = N2NReconstructor(**{**QUICK, **parameters}).fit(fovs)
    [network] = model.networks_
    assert network.multiple == 2**n_levels
    first = model.predict(fovs[0])
    assert float(first.sum()) == pytest.approx(len(fovs[0]), rel=1e-5)
    assert model.predict(fovs[0]).identical(first)


@pytest.mark.parametrize(
    "loss", ["l1", "mse", "poisson", "ssim", "ms_ssim(scales=1) + frc + 0.1*l1", "frc(cutoff=0.5)"]
)
def test_losses(fovs, loss):
    model = N2NReconstructor(**QUICK, loss=loss).fit(fovs)
    assert np.isfinite(model.histories_[0].loss).all()


@pytest.mark.parametrize(
    "parameters",
    [
        {"schedule": "cosine"},
        {"schedule": "one_cycle"},
        {"ema_decay": 0.9},
        {"max_gradient_norm": 1e-3},
        {"beta_1": 0.5},
        {"precision": "bfloat16"},
    ],
)
def test_every_choice_of_training_matters(fovs, parameters):
    plain = N2NReconstructor(**QUICK).fit(fovs)
    changed = N2NReconstructor(**QUICK, **parameters).fit(fovs)
    weights = [model.networks_[0].output.weight.detach().numpy() for model in (plain, changed)]
    assert not np.array_equal(*weights)


@pytest.fixture(scope="module")
def pipeline(fovs):
    n2n = N2NReconstructor(DynamicHalves(keep=0.9), **QUICK, n_estimators=2)
    return Pipeline([("isolated", IsolatedFilter(radius=200)), ("n2n", n2n)]).fit(fovs)


class TestPersistence:
    """Of whole pipelines, by every way that scikit-learn's users know."""

    def check(self, restored, pipeline, fovs):
        assert restored.predict(fovs[0]).identical(pipeline.predict(fovs[0]))
        assert repr(restored) == repr(pipeline)

    def test_pickle(self, pipeline, fovs):
        self.check(pickle.loads(pickle.dumps(pipeline)), pipeline, fovs)

    def test_joblib(self, pipeline, fovs, tmp_path):
        joblib.dump(pipeline, tmp_path / "pipeline.joblib", compress=True)
        self.check(joblib.load(tmp_path / "pipeline.joblib"), pipeline, fovs)

    def test_skops(self, pipeline, fovs, tmp_path):
        from skops import io as skops_io

        skops_io.dump(pipeline, tmp_path / "pipeline.skops")
        unknown = skops_io.get_untrusted_types(file=tmp_path / "pipeline.skops")
        assert all(name.startswith("smlmkit.") for name in unknown), unknown
        self.check(skops_io.load(tmp_path / "pipeline.skops", trusted=unknown), pipeline, fovs)

    def test_clone(self, pipeline):
        copied = clone(pipeline)
        assert repr(copied) == repr(pipeline)
        assert not hasattr(copied.named_steps["n2n"], "networks_")
