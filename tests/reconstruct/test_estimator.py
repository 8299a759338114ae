import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline

from smlmkit import (
    DynamicHalves,
    FixedHalves,
    FRCScorer,
    GaussianKDE,
    Localizations,
    N2NReconstructor,
    PoissonScorer,
    Renderer,
    load_model,
)
from smlmkit.errors import (
    EmptyPredictionWarning,
    FitInterruptedWarning,
    InvalidInputError,
    TrainingDivergedError,
    UnfamiliarTableWarning,
)
from smlmkit.nn.checkpoint import TrainingState
from smlmkit.nn.history import TrainingHistory, TrainingStep
from smlmkit.testing import example_fovs

QUICK = {
    "max_samples": 16,
    "batch_size": 4,
    "patch_size": 16,
    "depth": 2,
    "width": 4,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def fitted(fovs):
    return N2NReconstructor(**QUICK).fit(fovs)


@pytest.fixture(scope="module")
def fitted_to_fixed_pairs(fovs):
    return N2NReconstructor("fixed", **QUICK).fit(fovs)


def parallel_lines(seed, density_per_um):
    """Sparse blinks on parallel lines 400 nm apart, with 15 nm of localization error."""
    rng = np.random.default_rng(seed)
    lines_y = np.arange(200, 6000, 400.0)
    n = rng.poisson(density_per_um * 6 * len(lines_y))
    y = rng.choice(lines_y, n) + rng.normal(0, 15, n)
    x = rng.uniform(0, 6000, n)
    inside = (y >= 0) & (y < 6000)
    return Localizations({"x": x[inside], "y": y[inside]}, field_of_view=(0, 0, 6000, 6000))


@pytest.fixture(scope="module")
def trained_on_lines():
    model = N2NReconstructor(
        max_samples=3000,
        batch_size=8,
        patch_size=32,
        depth=2,
        width=12,
        residual=True,
        loss="mse",
        learning_rate=2e-3,
        schedule="linear",
        random_state=0,
    )
    return model.fit([parallel_lines(seed, density_per_um=40) for seed in range(3)])


def test_learns_structure_without_ground_truth(trained_on_lines):
    """Held out, it foretells the other half better than the input and than any Gaussian."""
    unseen = parallel_lines(seed=9, density_per_um=40)
    frc, poisson = FRCScorer(repeats=2), PoissonScorer(repeats=2)
    gaussians = [
        make_pipeline(Renderer(), GaussianKDE(sigma)).fit(unseen) for sigma in (10, 15, 20, 30, 40)
    ]
    assert frc(trained_on_lines, unseen) > max(frc(one, unseen) for one in gaussians)
    assert poisson(trained_on_lines, unseen) > max(poisson(one, unseen) for one in gaussians)


@pytest.mark.parametrize("density_per_um", [20, 40, 80])
def test_prediction_has_the_scale_of_its_input_at_every_density(trained_on_lines, density_per_um):
    """Not only the sum: where the density is known, on the lines, it comes out right."""
    table = parallel_lines(seed=7, density_per_um=density_per_um)
    image = trained_on_lines.predict(table)
    assert float(image.sum()) == pytest.approx(len(table), rel=1e-5)
    assert image.min() >= 0
    # Away from the border, half of a line's length lies between x = 1500 and x = 4500 nm.
    near_lines = np.abs(image.y.to_numpy() % 400 - 200) < 60
    on_lines = float(image.isel(y=near_lines).sel(x=slice(1500, 4500)).sum())
    n_lines = 15
    # A thin table is drawn a little wider; a scale off by the halving would be off by 2.
    assert on_lines == pytest.approx(density_per_um * 3 * n_lines, rel=0.25)


def test_same_seed_same_weights_and_other_seed_other_weights(fovs, fitted):
    again = N2NReconstructor(**QUICK).fit(fovs)
    other = N2NReconstructor(**{**QUICK, "random_state": 1}).fit(fovs)
    for name, weights in fitted.networks_[0].state_dict().items():
        assert torch.equal(weights, again.networks_[0].state_dict()[name])
    assert again.histories_[0].loss == fitted.histories_[0].loss
    assert not torch.equal(fitted.networks_[0].output.weight, other.networks_[0].output.weight)


def test_fixed_pairs_train_alike_every_time_and_not_like_dynamic_ones(
    fovs, fitted, fitted_to_fixed_pairs
):
    again = N2NReconstructor("fixed", **QUICK).fit(fovs)
    for name, weights in fitted_to_fixed_pairs.networks_[0].state_dict().items():
        assert torch.equal(weights, again.networks_[0].state_dict()[name])
    assert not torch.equal(again.networks_[0].output.weight, fitted.networks_[0].output.weight)
    image = again.predict(fovs[0])
    assert float(image.sum()) == pytest.approx(len(fovs[0]), rel=1e-5)


def test_only_dynamic_pairs_are_thinned(fovs, fitted, fitted_to_fixed_pairs):
    fixed = N2NReconstructor(FixedHalves(), **QUICK).fit(fovs)
    dynamic = N2NReconstructor(DynamicHalves(keep=0.2), **QUICK).fit(fovs)
    assert fixed.histories_[0].loss == fitted_to_fixed_pairs.histories_[0].loss
    assert dynamic.histories_[0].loss != fitted.histories_[0].loss


@pytest.mark.parametrize("strategy", ["fixed", "dynamic"])
def test_global_random_states_are_untouched(fovs, strategy):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    N2NReconstructor(strategy, **QUICK).fit_predict(fovs)
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


def test_an_empty_table_gives_an_empty_image(fitted):
    empty = Localizations(np.empty((0, 2)), field_of_view=(0, 0, 300, 500))
    image = fitted.predict(empty)
    assert image.shape == (30, 50)
    assert not image.any()


def test_one_localization_keeps_its_mass(fitted):
    single = Localizations(np.array([[150.0, 150.0]]), field_of_view=(0, 0, 300, 300))
    with pytest.warns(UnfamiliarTableWarning, match="below the least of the training tables"):
        image = fitted.predict(single)
    assert float(image.sum()) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strategy": "magic"}, "strategy must be one of 'fixed', 'dynamic', .* got 'magic'"),
        ({"schedule": "up"}, "schedule must be one of"),
        ({"pixel_size": 0}, "pixel_size must be a positive number"),
        ({"strategy": DynamicHalves(keep=1.5)}, r"keep must be a number in \(0, 1\]"),
        ({"width": 2.5}, "width must be a whole number"),
        ({"depth": 9}, "depth must be a whole number from 1 to 8"),
        ({"patch_size": 18}, r"multiple of 4 for this network"),
        ({"max_seconds": -1}, "max_seconds must be a positive number"),
        ({"learning_rate": np.nan}, r"learning_rate must be in \(0, 1\], got nan"),
        ({"learning_rate": 2}, r"learning_rate must be in \(0, 1\], got 2"),
        ({"loss": "l1 + magic"}, "at character 6: there is no loss 'magic'"),
        ({"z_bins": [0, 0]}, "z_bins must be at least two rising edges"),
        ({"network": "vgg"}, "network must be 'unet'"),
        ({"tta": 1}, "tta must be True or False"),
        ({"subset_share": 0}, r"subset_share must be in \(0, 1\]"),
        ({"validation_fraction": 1}, r"validation_fraction must be in \(0, 1\)"),
        ({"batch_size": 0}, "batch_size must be a whole number"),
        ({"width": True}, "width must be a whole number"),
        ({"random_state": -1}, "random_state must be an int from 0 on"),
        ({"device": "abacus"}, "device 'abacus' cannot be used"),
        ({"patch_size": 4096}, "field of view 0 is 2000 x 3000 nm"),
        ({"strategy": "fixed", "patch_size": 204}, "patch of 204 px of 10 nm needs 2040 nm"),
    ],
)
def test_bad_parameters_are_named_before_work_starts(fovs, change, message):
    with pytest.raises(InvalidInputError, match=message):
        N2NReconstructor(**{**QUICK, **change}).fit(fovs)


def test_nothing_to_learn_from():
    empty = Localizations(np.empty((0, 2)), field_of_view=(0, 0, 3000, 3000))
    with pytest.raises(InvalidInputError, match="no localizations to learn from"):
        N2NReconstructor(**QUICK).fit(empty)


def test_predict_before_fit(fovs):
    with pytest.raises(NotFittedError):
        N2NReconstructor().predict(fovs)


def test_grid_search_over_lists_of_equally_long_tables(fovs):
    search = GridSearchCV(
        N2NReconstructor(**QUICK, verbose=False),
        {"width": [2, 4]},
        scoring=FRCScorer(),
        cv=2,
        error_score="raise",
    )
    search.fit(fovs)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict(fovs[0]).shape == (200, 300)


def test_grid_search_over_both_strategies():
    search = GridSearchCV(
        Pipeline([("n2n", N2NReconstructor(**QUICK, verbose=False))]),
        {"n2n__strategy": ["fixed", "dynamic"]},
        scoring=FRCScorer(),
        cv=3,
        error_score="raise",
    )
    search.fit(example_fovs(n_fovs=3))
    scores = search.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    assert scores[0] != scores[1]


def test_a_network_that_sees_nothing_says_so(fitted, fovs):
    model = pickle.loads(pickle.dumps(fitted))
    with torch.no_grad():
        model.networks_[0].output.weight.zero_()
        model.networks_[0].output.bias.fill_(-1.0)
    with pytest.warns(EmptyPredictionWarning, match="sees nothing in a table of 2,000"):
        assert not model.predict(fovs[0]).any()
    with torch.no_grad():
        model.networks_[0].output.bias.fill_(np.nan)
    with pytest.raises(TrainingDivergedError, match="not finite"):
        model.predict(fovs[0])


def test_an_interrupted_fit_is_complete_even_where_warnings_are_errors(fovs, monkeypatch):
    def interrupted(network, *_, **__):
        history = TrainingHistory([TrainingStep(4, 0.1, 0.2)], stopped_by="interrupt")
        return history, TrainingState({}, {"pairs": {}})

    monkeypatch.setattr("smlmkit.reconstruct.learning.train", interrupted)
    model = N2NReconstructor(**QUICK, n_estimators=3)
    with pytest.raises(FitInterruptedWarning, match="after 4 samples of network 1 of 3"):
        model.fit(fovs)
    assert model.predict(fovs[0]).shape == (200, 300)


def test_a_real_ctrl_c_keeps_and_saves_the_weights(tmp_path):
    """SIGINT to a real process in the middle of training; its first step is the signal's cue."""
    script = f"""
import signal, warnings
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell ignores it
from smlmkit import N2NReconstructor, load_model
from smlmkit.testing import example_fovs
import smlmkit.nn.training as training

record = training._Training._record
def tell(*arguments):
    print("step", flush=True)
    return record(*arguments)
training._Training._record = tell

model = N2NReconstructor(**{ {**QUICK, "max_samples": 10**9} }, verbose=False)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    model.fit(example_fovs())
model.save({str(tmp_path / "model.smlmkit")!r})
print("said:", caught[-1].message)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        for _ in range(3):
            assert process.stdout.readline() == "step\n"
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert "said: training was interrupted after" in output
    restored = load_model(tmp_path / "model.smlmkit")
    assert restored.histories_[0].stopped_by == "interrupt"
    assert len(restored.histories_[0].samples) >= 2  # the third step was being recorded
