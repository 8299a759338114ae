"""The estimator on a GPU; skipped where there is none."""

import numpy as np
import pytest
import torch

from smlmkit import N2NReconstructor, load_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

QUICK = {
    "max_samples": 24,
    "batch_size": 4,
    "patch_size": 32,
    "depth": 2,
    "width": 4,
    "random_state": 0,
    "device": "cuda",
}


@pytest.mark.parametrize(
    "parameters",
    [
        {"early_stopping": True, "epoch_size": 8},
        {"loss": "ms_ssim(scales=1) + frc + 0.1*l1"},
        {"loss": "poisson"},
        {"network": "pix2pix"},
        {"network": "light", "ema_decay": 0.9, "max_gradient_norm": 0.1},
        {"precision": "bfloat16"},
        {"precision": "float16"},
        {"precision": "auto", "n_estimators": 2},
        {"compile": True},
    ],
    ids=str,
)
def test_fits_and_predicts_as_on_the_cpu(fovs, tmp_path, parameters):
    model = N2NReconstructor(
        **QUICK, **parameters, checkpoint_folder=tmp_path / "checkpoints", tta=True
    ).fit(fovs)
    assert all(next(one.parameters()).device.type == "cpu" for one in model.networks_)
    image, deviation = model.predict(fovs[0], return_deviation=True)
    model.save(tmp_path / "model.smlmkit")
    expected, _ = load_model(tmp_path / "model.smlmkit", device="cpu").predict(
        fovs[0], return_deviation=True
    )
    scale = float(expected.max())
    rough = 0.05 if "precision" in parameters else 1e-3
    np.testing.assert_allclose(image, expected, rtol=0, atol=rough * scale)
    assert np.isfinite(deviation).all()
