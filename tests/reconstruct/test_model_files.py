import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from smlmkit import (
    AnisotropicKDE,
    DynamicHalves,
    Localizations,
    N2NReconstructor,
    Renderer,
    SmlmkitError,
    SparseToDense,
    load_model,
)
from smlmkit.errors import InvalidInputError, ModelFileError

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


def test_round_trip(fitted, fovs, tmp_path):
    path = tmp_path / "model.smlmkit"
    fitted.save(path)
    restored = load_model(path, device="cpu")
    assert restored.predict(fovs[0]).identical(fitted.predict(fovs[0]))
    assert restored.histories_ == fitted.histories_
    saved = {k: v for k, v in QUICK.items() if k != "random_state"}
    assert saved.items() <= restored.get_params().items()


def test_round_trip_of_a_model_of_fixed_pairs(fitted_to_fixed_pairs, tmp_path):
    fitted_to_fixed_pairs.save(tmp_path / "model.smlmkit")
    restored = load_model(tmp_path / "model.smlmkit")
    assert restored.strategy == "fixed"
    weights = fitted_to_fixed_pairs.networks_[0].output.weight
    assert torch.equal(restored.networks_[0].output.weight, weights)


def test_an_existing_file_is_kept_unless_told(fitted, tmp_path):
    path = tmp_path / "model.smlmkit"
    path.write_text("precious")
    with pytest.raises(SmlmkitError, match="exists already"):
        fitted.save(path)
    assert path.read_text() == "precious"
    fitted.save(path, overwrite=True)
    load_model(path)
    assert [p.name for p in tmp_path.iterdir()] == ["model.smlmkit"]


def test_truncated_anywhere(fitted, tmp_path):
    whole = tmp_path / "model.smlmkit"
    fitted.save(whole)
    content = whole.read_bytes()
    cut = tmp_path / "cut.smlmkit"
    for length in {0, 1, 7, 8, 9, 100, *range(0, len(content), len(content) // 50)}:
        cut.write_bytes(content[:length])
        with pytest.raises(ModelFileError, match=r"cut\.smlmkit"):
            load_model(cut)


def test_missing(tmp_path):
    with pytest.raises(ModelFileError, match="no such file"):
        load_model(tmp_path / "model.smlmkit")


def test_another_version_is_refused_by_name(fitted, tmp_path):
    with pytest.raises(ModelFileError, match=r"format 99, written by smlmkit 7\.0"):
        load_model(rewrite(fitted, tmp_path, format_version=99, library_version="7.0"))


def test_a_foreign_safetensors_file(tmp_path):
    path = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(ModelFileError, match="no smlmkit model"):
        load_model(path)


@pytest.mark.parametrize(
    "parameters",
    [{"width": 8}, {"width": 10**9}, {"nonsense": 1}, {"depth": "four"}, {"strategy": "magic"}],
)
def test_parameters_that_do_not_fit_the_weights(fitted, tmp_path, parameters):
    with pytest.raises(ModelFileError, match="not a model of this smlmkit"):
        load_model(rewrite(fitted, tmp_path, parameters=parameters))


@pytest.mark.parametrize(
    "header", ["[" * 200_000, '{"format_version": 1e999}', "[1]", "null", '{"x": NaN']
)
def test_hostile_headers(tmp_path, header):
    path = tmp_path / "hostile.smlmkit"
    save_file({"weight": torch.zeros(3)}, path, metadata={"smlmkit_model": header})
    with pytest.raises(ModelFileError, match=r"hostile\.smlmkit"):
        load_model(path)


@pytest.mark.parametrize("damage", ["nan", "half", "missing", "extra", "history"])
def test_damaged_tensors(fitted, tmp_path, damage):
    path = tmp_path / "model.smlmkit"
    fitted.save(path)
    tensors = load_file(path)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        metadata = json.loads(file.read(length))["__metadata__"]
    if damage == "nan":
        tensors["0.network.output.bias"][0] = np.nan
    elif damage == "half":
        tensors = {name: tensor.half() for name, tensor in tensors.items()}
    elif damage == "missing":
        del tensors["0.network.output.bias"]
    elif damage == "extra":
        tensors["stowaway"] = torch.zeros(1)
    else:
        tensors["0.history.steps"] = torch.full((2, 2), np.nan)
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(ModelFileError, match="not a model of this smlmkit"):
        load_model(path)


def test_claimed_size_allocates_nothing(fitted, tmp_path):
    # 1024 filters at 8 levels would be 1.5 GB of weights, which the file does not hold.
    path = rewrite(fitted, tmp_path, parameters={"width": 1024, "depth": 8, "patch_size": 256})
    with pytest.raises(ModelFileError, match="size mismatch"):
        load_model(path)


def test_numpy_parameters_can_be_saved(fovs, tmp_path):
    numpy_numbers = {name: np.int64(QUICK[name]) for name in ("batch_size", "max_samples")}
    model = N2NReconstructor(**{**QUICK, **numpy_numbers, "depth": np.int8(2)}).fit(fovs)
    model.save(tmp_path / "model.smlmkit")
    assert load_model(tmp_path / "model.smlmkit").max_samples == 16


def test_parameters_changed_after_fit_do_not_reach_the_model(fovs, fitted, tmp_path):
    model = pickle.loads(pickle.dumps(fitted)).set_params(width=8, loss="mse")
    assert model.predict(fovs[0]).identical(fitted.predict(fovs[0]))
    model.save(tmp_path / "model.smlmkit")
    assert load_model(tmp_path / "model.smlmkit").width == QUICK["width"]


@pytest.mark.skipif(sys.platform == "win32", reason="a file size limit needs POSIX")
def test_disk_full_leaves_nothing(fitted, tmp_path):
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


def test_unfitted_cannot_be_saved(tmp_path):
    with pytest.raises(NotFittedError):
        N2NReconstructor().save(tmp_path / "model.smlmkit")


def test_pickle_and_clone(fitted, fovs):
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


def test_an_ensemble_comes_back_whole(fovs, tmp_path):
    model = N2NReconstructor(
        **QUICK, n_estimators=2, early_stopping=True, epoch_size=8, tta=True
    ).fit(fovs)
    model.save(tmp_path / "model.smlmkit")
    restored = load_model(tmp_path / "model.smlmkit")
    assert restored.training_summary_ == model.training_summary_
    assert restored.histories_ == model.histories_
    assert restored.training_summary_["held_out_score"] == max(
        score for history in model.histories_ for _, score in history.validation
    )
    both = (one.predict(fovs[0], return_deviation=True) for one in (model, restored))
    for image, other in zip(*both, strict=True):
        assert image.identical(other)


def test_batch_statistics_come_back(fovs, tmp_path):
    model = N2NReconstructor(**{**QUICK, "patch_size": 32}, norm="batch").fit(fovs)
    model.save(tmp_path / "model.smlmkit")
    restored = load_model(tmp_path / "model.smlmkit")
    assert restored.predict(fovs[0]).identical(model.predict(fovs[0]))


@pytest.mark.parametrize(
    "strategy",
    [
        DynamicHalves(keep=(0.1, 0.9)),
        SparseToDense(target=AnisotropicKDE(scale=2), share=(0.2, 0.4)),
    ],
)
def test_strategies_come_back(fovs, tmp_path, strategy):
    N2NReconstructor(strategy, **QUICK).fit(fovs).save(tmp_path / "model.smlmkit")
    restored = load_model(tmp_path / "model.smlmkit").strategy
    assert repr(restored) == repr(strategy)


def test_a_target_that_is_not_plain_stays_behind(fovs, tmp_path):
    target = Renderer(mode="gaussian", sigma=np.float32(20.0))
    N2NReconstructor(SparseToDense(target=target), **QUICK).fit(fovs).save(tmp_path / "m.smlmkit")
    assert load_model(tmp_path / "m.smlmkit").strategy.target is None


@pytest.mark.parametrize(
    "target",
    [
        {"class": "os.system", "parameters": {}},
        {"class": "read_localizations", "parameters": {"path": "/etc/passwd"}},
        {"class": "AnisotropicKDE", "parameters": {"nonsense": 1}},
        {"class": "N2NReconstructor", "parameters": {}},
        "AnisotropicKDE",
    ],
)
def test_a_file_names_no_code_to_run(fitted, tmp_path, target):
    strategy = {"name": "sparse2dense", "parameters": {"target": target}}
    with pytest.raises(ModelFileError, match="not a model of this smlmkit"):
        load_model(rewrite(fitted, tmp_path, parameters={"strategy": strategy}))


@pytest.mark.parametrize(
    "summary",
    [{}, {"density": [0, 1], "uncertainty": None}, {"density": ["x", 1], "uncertainty": None}],
)
def test_a_damaged_summary(fitted, tmp_path, summary):
    with pytest.raises(ModelFileError, match="not a model of this smlmkit"):
        load_model(rewrite(fitted, tmp_path, summary=summary))


@pytest.mark.parametrize(
    "stowaway",
    [
        {"checkpoint_folder": "/tmp/anywhere"},
        {"device": "cuda:7"},
        {"random_state": 0},
        {"precision": "float16"},
    ],
)
def test_a_file_does_not_decide_what_belongs_to_the_session(fitted, tmp_path, stowaway):
    with pytest.raises(ModelFileError, match="unknown parameters"):
        load_model(rewrite(fitted, tmp_path, parameters=stowaway))


@pytest.mark.parametrize("n_estimators", [0, 2])
def test_the_number_of_networks(fovs, tmp_path, n_estimators):
    model = N2NReconstructor(**QUICK, n_estimators=2).fit(fovs)
    path = rewrite(model, tmp_path, stopped_by=[""] * 3, parameters={"n_estimators": n_estimators})
    with pytest.raises(ModelFileError, match="not a model of this smlmkit"):
        load_model(path)


def test_precision_belongs_to_the_machine(fovs, tmp_path):
    model = N2NReconstructor(**QUICK, precision="bfloat16").fit(fovs)
    model.save(tmp_path / "model.smlmkit")
    assert load_model(tmp_path / "model.smlmkit").precision == "float32"


def test_numbers_of_numpy_and_ranges_can_be_saved(tmp_path):
    rng = np.random.default_rng(0)
    columns = {name: rng.uniform(0, 600, 500) for name in ("x", "y", "z")}
    table = Localizations(columns, field_of_view=(0, 0, 600, 600))
    strategy = DynamicHalves(keep=(np.float32(0.5), np.float64(0.75)))
    model = N2NReconstructor(strategy, **QUICK, z_bins=range(0, 900, 300)).fit(table)
    model.save(tmp_path / "model.smlmkit")
    restored = load_model(tmp_path / "model.smlmkit")
    assert (restored.strategy.keep, restored.z_bins) == ((0.5, 0.75), [0.0, 300.0, 600.0])


class MyHalves(DynamicHalves):
    """A strategy that no model file can hold."""


def test_a_strategy_of_ones_own_is_refused(fovs, tmp_path):
    model = N2NReconstructor(MyHalves(), **QUICK).fit(fovs)
    with pytest.raises(InvalidInputError, match="cannot hold your own strategy MyHalves: use pick"):
        model.save(tmp_path / "model.smlmkit")


def test_a_strategy_changed_after_fit_does_not_reach_the_model(fovs):
    model = N2NReconstructor(DynamicHalves(keep=0.5), **QUICK).fit(fovs)
    model.set_params(strategy__keep=0.9)
    assert model.fitted_parameters_["strategy"].keep == 0.5
