import json
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline

from smlmkit import (
    FRCScorer,
    GaussianKDE,
    Localizations,
    N2NReconstructor,
    PoissonScorer,
    Renderer,
    SmlmkitError,
    load_model,
)
from smlmkit.errors import (
    EmptyPredictionWarning,
    FitInterruptedWarning,
    InvalidInputError,
    ModelFileError,
    TrainingDivergedError,
)
from smlmkit.nn.training import TrainingHistory, TrainingStep
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
def fovs():
    return example_fovs()


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
        max_samples=10_000,
        batch_size=8,
        patch_size=32,
        depth=2,
        width=12,
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
    for name, weights in fitted.module_.state_dict().items():
        assert torch.equal(weights, again.module_.state_dict()[name])
    assert again.history_.loss == fitted.history_.loss
    assert not torch.equal(fitted.module_.output.weight, other.module_.output.weight)


def test_fixed_pairs_train_alike_every_time_and_not_like_dynamic_ones(
    fovs, fitted, fitted_to_fixed_pairs
):
    again = N2NReconstructor("fixed", **QUICK).fit(fovs)
    for name, weights in fitted_to_fixed_pairs.module_.state_dict().items():
        assert torch.equal(weights, again.module_.state_dict()[name])
    assert not torch.equal(again.module_.output.weight, fitted.module_.output.weight)
    image = again.predict(fovs[0])
    assert float(image.sum()) == pytest.approx(len(fovs[0]), rel=1e-5)


def test_only_dynamic_pairs_are_thinned(fovs, fitted, fitted_to_fixed_pairs):
    fixed = N2NReconstructor("fixed", keep=0.2, **QUICK).fit(fovs)
    dynamic = N2NReconstructor("dynamic", keep=0.2, **QUICK).fit(fovs)
    assert fixed.history_.loss == fitted_to_fixed_pairs.history_.loss
    assert dynamic.history_.loss != fitted.history_.loss


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
    assert float(fitted.predict(single).sum()) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strategy": "magic"}, r"strategy must be one of \('fixed', 'dynamic'\), got 'magic'"),
        ({"schedule": "up"}, "schedule must be one of"),
        ({"pixel_size": 0}, "pixel_size must be a positive number"),
        ({"keep": 1.5}, "keep must be at most 1"),
        ({"width": 2.5}, "width must be a whole number"),
        ({"depth": 9}, "depth must be a whole number from 1 to 8"),
        ({"patch_size": 18}, r"multiple of 2\^depth = 4"),
        ({"max_seconds": -1}, "max_seconds must be a positive number"),
        ({"learning_rate": np.nan}, "learning_rate must be a positive number"),
        ({"learning_rate": 2}, "learning_rate must be at most 1"),
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


class TestModelFile:
    def test_round_trip(self, fitted, fovs, tmp_path):
        path = tmp_path / "model.smlmkit"
        fitted.save(path)
        restored = load_model(path, device="cpu")
        assert restored.predict(fovs[0]).identical(fitted.predict(fovs[0]))
        assert restored.history_ == fitted.history_
        saved = {k: v for k, v in QUICK.items() if k != "random_state"}
        assert saved.items() <= restored.get_params().items()

    def test_round_trip_of_a_model_of_fixed_pairs(self, fitted_to_fixed_pairs, tmp_path):
        fitted_to_fixed_pairs.save(tmp_path / "model.smlmkit")
        restored = load_model(tmp_path / "model.smlmkit")
        assert restored.strategy == "fixed"
        weights = fitted_to_fixed_pairs.module_.output.weight
        assert torch.equal(restored.module_.output.weight, weights)

    def test_an_existing_file_is_kept_unless_told(self, fitted, tmp_path):
        path = tmp_path / "model.smlmkit"
        path.write_text("precious")
        with pytest.raises(SmlmkitError, match="exists already"):
            fitted.save(path)
        assert path.read_text() == "precious"
        fitted.save(path, overwrite=True)
        load_model(path)
        assert [p.name for p in tmp_path.iterdir()] == ["model.smlmkit"]

    def test_truncated_anywhere(self, fitted, tmp_path):
        whole = tmp_path / "model.smlmkit"
        fitted.save(whole)
        content = whole.read_bytes()
        cut = tmp_path / "cut.smlmkit"
        for length in {0, 1, 7, 8, 9, 100, *range(0, len(content), len(content) // 50)}:
            cut.write_bytes(content[:length])
            with pytest.raises(ModelFileError, match=r"cut\.smlmkit"):
                load_model(cut)

    def test_missing(self, tmp_path):
        with pytest.raises(ModelFileError, match="no such file"):
            load_model(tmp_path / "model.smlmkit")

    def test_another_version_is_refused_by_name(self, fitted, tmp_path):
        with pytest.raises(ModelFileError, match=r"format 99, written by smlmkit 7\.0"):
            load_model(rewrite(fitted, tmp_path, format_version=99, library_version="7.0"))

    def test_a_foreign_safetensors_file(self, tmp_path):
        path = tmp_path / "foreign.safetensors"
        save_file({"weight": torch.zeros(3)}, path)
        with pytest.raises(ModelFileError, match="no smlmkit model"):
            load_model(path)

    @pytest.mark.parametrize(
        "parameters",
        [{"width": 8}, {"width": 10**9}, {"nonsense": 1}, {"depth": "four"}, {"strategy": "magic"}],
    )
    def test_parameters_that_do_not_fit_the_weights(self, fitted, tmp_path, parameters):
        with pytest.raises(ModelFileError, match="not a model of this smlmkit"):
            load_model(rewrite(fitted, tmp_path, parameters=parameters))

    @pytest.mark.parametrize(
        "header", ["[" * 200_000, '{"format_version": 1e999}', "[1]", "null", '{"x": NaN']
    )
    def test_hostile_headers(self, tmp_path, header):
        path = tmp_path / "hostile.smlmkit"
        save_file({"weight": torch.zeros(3)}, path, metadata={"smlmkit_model": header})
        with pytest.raises(ModelFileError, match=r"hostile\.smlmkit"):
            load_model(path)

    @pytest.mark.parametrize("damage", ["nan", "half", "missing", "extra", "history"])
    def test_damaged_tensors(self, fitted, tmp_path, damage):
        path = tmp_path / "model.smlmkit"
        fitted.save(path)
        tensors = load_file(path)
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            metadata = json.loads(file.read(length))["__metadata__"]
        if damage == "nan":
            tensors["output.bias"][0] = np.nan
        elif damage == "half":
            tensors = {name: tensor.half() for name, tensor in tensors.items()}
        elif damage == "missing":
            del tensors["output.bias"]
        elif damage == "extra":
            tensors["stowaway"] = torch.zeros(1)
        else:
            tensors["history.steps"] = torch.full((2, 2), np.nan)
        save_file(tensors, path, metadata=metadata)
        with pytest.raises(ModelFileError, match="not a model of this smlmkit"):
            load_model(path)

    def test_claimed_size_allocates_nothing(self, fitted, tmp_path):
        # 1024 filters at 8 levels would be 1.5 GB of weights, which the file does not hold.
        path = rewrite(fitted, tmp_path, parameters={"width": 1024, "depth": 8, "patch_size": 256})
        with pytest.raises(ModelFileError, match="size mismatch"):
            load_model(path)

    def test_numpy_parameters_can_be_saved(self, fovs, tmp_path):
        numpy_numbers = {name: np.int64(QUICK[name]) for name in ("batch_size", "max_samples")}
        model = N2NReconstructor(**{**QUICK, **numpy_numbers, "depth": np.int8(2)}).fit(fovs)
        model.save(tmp_path / "model.smlmkit")
        assert load_model(tmp_path / "model.smlmkit").max_samples == 16

    def test_parameters_changed_after_fit_do_not_reach_the_model(self, fovs, fitted, tmp_path):
        model = pickle.loads(pickle.dumps(fitted)).set_params(width=8, pixel_size=20)
        assert model.predict(fovs[0]).identical(fitted.predict(fovs[0]))
        model.save(tmp_path / "model.smlmkit")
        assert load_model(tmp_path / "model.smlmkit").width == QUICK["width"]

    @pytest.mark.skipif(sys.platform == "win32", reason="a file size limit needs POSIX")
    def test_disk_full_leaves_nothing(self, fitted, tmp_path):
        whole = tmp_path / "whole.smlmkit"
        fitted.save(whole)
        script = f"""
import resource, signal
from smlmkit import SmlmkitError, load_model
model = load_model({str(whole)!r})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({whole.stat().st_size // 2},) * 2)
try:
    model.save({str(tmp_path / "full.smlmkit")!r})
except SmlmkitError as error:
    print(error)
"""
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "File too large" in done.stdout
        assert [path.name for path in tmp_path.iterdir()] == ["whole.smlmkit"]

    def test_unfitted_cannot_be_saved(self, tmp_path):
        with pytest.raises(NotFittedError):
            N2NReconstructor().save(tmp_path / "model.smlmkit")

    def test_pickle_and_clone(self, fitted, fovs):
        restored = pickle.loads(pickle.dumps(fitted))
        assert restored.predict(fovs[0]).identical(fitted.predict(fovs[0]))
        assert not hasattr(clone(fitted), "module_")


def rewrite(fitted, folder, **changes):
    """Save a model and change its header; changed parameters are merged."""
    path = folder / "model.smlmkit"
    fitted.save(path)
    weights = load_file(path)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(json.loads(file.read(length))["__metadata__"]["smlmkit_model"])
    changes["parameters"] = {**header["parameters"], **changes.get("parameters", {})}
    save_file(weights, path, metadata={"smlmkit_model": json.dumps({**header, **changes})})
    return path


def test_a_network_that_sees_nothing_says_so(fitted, fovs):
    model = pickle.loads(pickle.dumps(fitted))
    with torch.no_grad():
        model.module_.output.weight.zero_()
        model.module_.output.bias.fill_(-1.0)
    with pytest.warns(EmptyPredictionWarning, match="sees nothing in a table of 2,000"):
        assert not model.predict(fovs[0]).any()
    with torch.no_grad():
        model.module_.output.bias.fill_(np.nan)
    with pytest.raises(TrainingDivergedError, match="not finite"):
        model.predict(fovs[0])


def test_an_interrupted_fit_is_complete_even_where_warnings_are_errors(fovs, monkeypatch):
    def interrupted(network, *_, **__):
        return TrainingHistory([TrainingStep(4, 0.1, 0.2)], "interrupt")

    monkeypatch.setattr("smlmkit.reconstruct.train", interrupted)
    model = N2NReconstructor(**QUICK)
    with pytest.raises(FitInterruptedWarning, match="after at least 4 of 16 samples"):
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

record = training._record
def tell(*arguments):
    print("step", flush=True)
    return record(*arguments)
training._record = tell

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
    assert restored.history_.stopped_by == "interrupt"
    assert len(restored.history_.samples) >= 2  # the third step was being recorded
