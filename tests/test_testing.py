import numpy as np
import pytest
import xarray as xr
from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline

from smlmkit import AdaptiveKDE, AnisotropicKDE, GaussianKDE, N2NReconstructor, Renderer
from smlmkit.testing import check_fov_estimator, example_fovs

N_CHECKS = 8


@pytest.mark.parametrize(
    "estimator",
    [
        Renderer(pixel_size=20),
        Renderer(pixel_size=20, mode="gaussian", sigma=15),
        Renderer(pixel_size=20, mode="average_shifted"),
        make_pipeline(Renderer(pixel_size=20), GaussianKDE()),
        make_pipeline(Renderer(pixel_size=20), AdaptiveKDE()),
        make_pipeline(Renderer(pixel_size=20), AnisotropicKDE(scale=4)),
        make_pipeline(Renderer(pixel_size=20), AnisotropicKDE(mode="berberich")),
        AnisotropicKDE(support="neighbors", pixel_size=20),
        N2NReconstructor(
            max_samples=8, batch_size=4, patch_size=16, depth=2, width=2, random_state=0
        ),
    ],
)
def test_our_estimators_pass_every_check(estimator):
    assert len(check_fov_estimator(estimator)) == N_CHECKS


class Stacking(BaseEstimator):
    """Wrong in a way that only lists of equal length show: one image for all."""

    def fit(self, X, y=None):
        return self

    def predict(self, X):
        fovs = X if isinstance(X, list) else [X]
        images = Renderer(pixel_size=20).transform(fovs)
        return images[0] if len(images) == 1 else [images[0]]


class Forgetful(Stacking):
    def fit(self, X, y=None):
        return None


class Moody(Stacking):
    n_calls = 0

    def predict(self, X):
        images = Renderer(pixel_size=20).transform(X)
        type(self).n_calls += 1
        shift = np.float32(self.n_calls)
        if isinstance(images, xr.DataArray):
            return images + shift
        return [image + shift for image in images]


@pytest.mark.parametrize(
    ("estimator", "complaint"),
    [
        (Stacking(), "one image for each table"),
        (Forgetful(), "return self"),
        (Moody(), "differ|close"),
    ],
)
def test_wrong_estimators_are_caught(estimator, complaint):
    with pytest.raises(AssertionError, match=complaint):
        check_fov_estimator(estimator, example_fovs())
