"""Training that goes on: warm starts, partial fits, and checkpoints of a killed process."""

import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from smlmkit import (
    DynamicHalves,
    FixedHalves,
    FRCScorer,
    Localizations,
    N2NReconstructor,
    Renderer,
    SparseToDense,
    concat,
    load_model,
)
from smlmkit.errors import FitInterruptedWarning, InvalidInputError, ModelFileError
from smlmkit.nn.pairs import CropPairs
from smlmkit.reconstruct.learning import Course, Lesson
from smlmkit.reconstruct.parameters import check_parameters, training_plan

QUICK = {
    "max_samples": 24,
    "batch_size": 4,
    "patch_size": 16,
    "depth": 2,
    "width": 4,
    "random_state": 0,
    "verbose": False,
}


class TestWarmStart:
    def test_goes_on_from_the_weights(self, fovs, weights_of):
        model = N2NReconstructor(**QUICK, warm_start=True, learning_rate=1e-12)
        before = weights_of(model.fit(fovs))
        # With hardly any step size the weights stay; a new start would draw others.
        after = weights_of(model.set_params(random_state=1).fit(fovs))
        torch.testing.assert_close(after, before, rtol=0, atol=1e-9)
        fresh = weights_of(model.set_params(warm_start=False).fit(fovs))
        assert (fresh - before).abs().max() > 0.01

    def test_adds_members_and_trains_the_old_ones_on(self, fovs):
        model = N2NReconstructor(**QUICK, warm_start=True, learning_rate=1e-12).fit(fovs)
        before = model.networks_[0].output.weight
        first, second = model.set_params(n_estimators=2).fit(fovs).networks_
        torch.testing.assert_close(first.output.weight, before, rtol=0, atol=1e-9)
        assert (second.output.weight - before).abs().max() > 0.01

    def test_what_was_learnt_before_is_remembered(self, fovs):
        thin = [fov.thin(0.5, random_state=0) for fov in fovs]
        model = N2NReconstructor(**QUICK, warm_start=True).fit(thin)
        least, _ = model.training_summary_["density"]
        summary = model.fit(fovs).training_summary_
        assert summary["density"][0] == least < 0.6 * summary["density"][1]
        assert summary["n_fields"] == 4


@pytest.fixture
def drawn(monkeypatch):
    """List a checksum of every batch that is drawn for training."""
    checksums = []
    draw = CropPairs.draw

    def draw_and_note(self, n_pairs):
        inputs, targets = draw(self, n_pairs)
        if n_pairs:  # the last draw of a training asks for none
            checksums.append(hash((inputs.tobytes(), targets.tobytes())))
        return inputs, targets

    monkeypatch.setattr(CropPairs, "draw", draw_and_note)
    return checksums


@pytest.mark.parametrize("goes_on", ["partial_fit", "fit"])
def test_no_pair_is_drawn_again(fovs, drawn, monkeypatch, goes_on):
    # The intensity has a draw of its own, from which training does not go on.
    monkeypatch.setattr("smlmkit.reconstruct.learning._bright_intensity", lambda *_: 1.0)
    model = N2NReconstructor(**QUICK, epoch_size=8, warm_start=True).fit(fovs)
    for _ in range(2):
        getattr(model, goes_on)(fovs)
    assert len(drawn) == len(set(drawn)) >= 6 + 2 * 2


def test_the_halves_of_fixed_pairs_and_the_subsets_of_members_stay(fovs, monkeypatch):
    calls = []
    make_pairs = FixedHalves.make_pairs

    def note(self, tables, targets, *, seed, **rest):
        calls.append((seed, [table.x.tobytes() for table in tables]))
        return make_pairs(self, tables, targets, seed=seed, **rest)

    monkeypatch.setattr(FixedHalves, "make_pairs", note)
    model = N2NReconstructor("fixed", **QUICK, epoch_size=8, n_estimators=2)
    for _ in range(3):
        model.partial_fit(fovs)
    assert calls[:2] == calls[2:4] == calls[4:]
    assert calls[0] != calls[1]

    def test_other_networks_are_refused(self, fovs):
        model = N2NReconstructor(**QUICK, warm_start=True).fit(fovs)
        with pytest.raises(InvalidInputError, match="the fitted networks have another network"):
            model.set_params(width=8).fit(fovs)
        model.set_params(width=4, n_estimators=2).fit(fovs)
        with pytest.raises(InvalidInputError, match="n_estimators=1 would drop some of the 2"):
            model.set_params(n_estimators=1).fit(fovs)

    def test_the_same_network_in_other_words_is_the_same(self, fovs):
        model = N2NReconstructor(**QUICK, warm_start=True).fit(fovs)
        model.set_params(residual=False, norm="none").fit(fovs)


class TestPartialFit:
    def test_every_call_is_an_epoch_of_new_pairs(self, fovs):
        model = N2NReconstructor(**QUICK, epoch_size=8)
        losses = []
        for n_calls in (1, 2, 3):
            model.partial_fit(fovs)
            assert model.histories_[0].samples[-1] == 8 * n_calls
            losses = model.histories_[0].loss
        assert len(losses) == len(set(losses)) == 6
        assert model.training_summary_["n_fields"] == 6

    def test_the_moments_of_adam_go_on(self, fovs, weights_of):
        """Without them, the first step of every call would be as long as the step size."""
        model = N2NReconstructor(**QUICK, epoch_size=40, learning_rate=1e-3).partial_fit(fovs)
        before = weights_of(model)
        model.set_params(epoch_size=4).partial_fit(fovs)
        step = (weights_of(model) - before).abs()
        assert 0 < step.median() < 0.8e-3
        cold = clone(model).set_params(epoch_size=40).fit(fovs)
        before = weights_of(cold)
        cold.set_params(epoch_size=4).partial_fit(fovs)
        assert (weights_of(cold) - before).abs().median() == pytest.approx(1e-3, rel=0.01)

    def test_survives_a_pickle(self, fovs, weights_of):
        model = N2NReconstructor(**QUICK, epoch_size=8).partial_fit(fovs)
        restored = pickle.loads(pickle.dumps(model))
        assert torch.equal(
            weights_of(restored.partial_fit(fovs)), weights_of(model.partial_fit(fovs))
        )

    def test_the_intensity_is_one_number_for_all_training(self, fovs):
        model = N2NReconstructor(
            **QUICK, network="light", loss="ssim", epoch_size=8, strategy="fixed"
        ).partial_fit(fovs)
        intensity = model.training_summary_["intensity"]
        dense = [concat([fov] * 20) for fov in fovs]
        assert model.partial_fit(dense).training_summary_["intensity"] == intensity

    def test_a_held_out_score_is_not_that_of_later_weights(self, fovs):
        model = N2NReconstructor(**QUICK, early_stopping=True, epoch_size=8).fit(fovs)
        assert model.training_summary_["held_out_score"] is not None
        model.set_params(early_stopping=False).partial_fit(fovs)
        assert model.training_summary_["held_out_score"] is None

    def test_needs_no_early_stopping(self, fovs):
        with pytest.raises(InvalidInputError, match="partial_fit needs early_stopping=False"):
            N2NReconstructor(**QUICK, early_stopping=True, epoch_size=8).partial_fit(fovs)


class TestEarlyStopping:
    def test_keeps_the_best_weights_of_held_out_fields(self, fovs):
        # The step size is so large that the network gets worse.
        model = N2NReconstructor(
            **{**QUICK, "max_samples": 4000, "learning_rate": 0.3},
            early_stopping=True,
            epoch_size=8,
            patience=3,
            strategy=DynamicHalves(keep=0.9),
        ).fit(fovs)
        [history] = model.histories_
        assert history.stopped_by == "early_stopping"
        scores = [score for _, score in history.validation]
        assert model.training_summary_["held_out_score"] == max(scores)
        assert max(scores) == scores[-4]
        assert model.training_summary_["n_fields"] == 1

    def test_needs_two_fields(self, fovs):
        with pytest.raises(InvalidInputError, match="at least two"):
            N2NReconstructor(**QUICK, early_stopping=True, epoch_size=8).fit(fovs[0])

    def test_needs_epochs_within_the_budget(self, fovs):
        with pytest.raises(InvalidInputError, match="could stop nothing with max_samples=24"):
            N2NReconstructor(**QUICK, early_stopping=True).fit(fovs)


@pytest.mark.parametrize("fails_at", ["the pairs of the second", "the first step of the second"])
def test_ctrl_c_between_members_keeps_those_that_are_done(fovs, monkeypatch, fails_at):
    if fails_at.startswith("the pairs"):
        make_pairs, calls = DynamicHalves.make_pairs, []

        def make_or_stop(self, *arguments, **options):
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return make_pairs(self, *arguments, **options)

        monkeypatch.setattr(DynamicHalves, "make_pairs", make_or_stop)
    else:
        draw, batches = CropPairs.draw, []

        def draw_or_stop(self, n_pairs):
            batches.append(1)
            if len(batches) == 1 + 6 + 1:  # of the intensity, of the first member, and this one
                raise KeyboardInterrupt
            return draw(self, n_pairs)

        monkeypatch.setattr(CropPairs, "draw", draw_or_stop)
    model = N2NReconstructor(**QUICK, n_estimators=3)
    with pytest.warns(FitInterruptedWarning, match="after 24 samples of network 1 of 3"):
        model.fit(fovs)
    assert len(model.networks_) == 1
    assert model.predict(fovs[0]).shape == (200, 300)


KILLED = """
import os, signal, sys
from smlmkit import N2NReconstructor
from smlmkit.nn import checkpoint, pairs
from smlmkit.testing import example_fovs

kill_at, n_draws = int(sys.argv[2]), 0
draw = pairs.CropPairs.draw
def draw_or_die(self, n_pairs):
    global n_draws
    n_draws += 1
    if n_draws == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    return draw(self, n_pairs)
pairs.CropPairs.draw = draw_or_die
checkpoint.Checkpoint.is_due = lambda self: True

parameters = {parameters}
model = N2NReconstructor(**parameters, checkpoint_folder=sys.argv[1]).fit(example_fovs())
model.save(sys.argv[3])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_a_killed_training_ends_as_if_nothing_had_happened(fovs, tmp_path, weights_of):
    parameters = {
        **QUICK,
        "n_estimators": 2,
        "ema_decay": 0.9,
        "schedule": "one_cycle",
        "early_stopping": True,
        "epoch_size": 8,
    }
    script = tmp_path / "train.py"
    script.write_text(KILLED.replace("{parameters}", repr(parameters)))
    folder, model_path = tmp_path / "checkpoints", tmp_path / "model.smlmkit"

    def run(kill_at):
        command = [sys.executable, script, folder, str(kill_at), model_path]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    # In the first member, then, after it, in the second one, then not at all.
    for kill_at in (5, 9):
        killed = run(kill_at)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert list(folder.iterdir())
        assert not model_path.exists()
    done = run(10**9)
    assert done.returncode == 0, done.stderr
    assert not list(folder.iterdir())
    undisturbed = N2NReconstructor(**parameters).fit(fovs)
    assert torch.equal(weights_of(load_model(model_path)), weights_of(undisturbed))


def test_checkpoints_of_other_data_or_parameters_have_other_names(fovs, tmp_path):
    def path_of(fovs, targets=None, **changes):
        model = N2NReconstructor(**{**QUICK, **changes}, checkpoint_folder=tmp_path)
        parameters = check_parameters(model.get_params(deep=False))
        plan, cpu = training_plan(parameters), torch.device("cpu")
        course = Course(Lesson(fovs, targets, []), parameters, plan, cpu, keep_states=False)
        network = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(network.weight)
        return course._make_checkpoint(network, [0, 0, 0]).path

    def with_uncertainty(value):
        columns = {"x": fovs[0].x, "y": fovs[0].y, "uncertainty_x": np.full(len(fovs[0]), value)}
        return [Localizations(columns, field_of_view=fovs[0].field_of_view)]

    def target(mark):
        return SparseToDense(target=Renderer(channels=[*range(40), mark]))

    image = Renderer().transform(fovs[0])
    paths = [
        path_of(fovs),
        path_of(fovs[:1]),
        path_of(fovs, max_samples=25),
        path_of(fovs, loss="mse"),
        path_of(fovs, strategy=DynamicHalves(keep=0.5)),
        path_of(fovs, strategy=target(50)),
        path_of(fovs, strategy=target(51)),
        path_of(with_uncertainty(10.0)),
        path_of(with_uncertainty(40.0)),
        path_of(fovs[:1], [fovs[1]]),
        path_of(fovs[:1], [image]),
        path_of(fovs[:1], [image.copy(data=2 * image)]),
    ]
    assert len(set(paths)) == len(paths)
    assert path_of(fovs, verbose=True) == paths[0]
    assert path_of(pickle.loads(pickle.dumps(fovs)), strategy=target(50)) == paths[5]


@pytest.mark.usefixtures("joblib_workers")
def test_fits_of_a_search_share_a_folder(fovs, tmp_path):
    model = N2NReconstructor(**QUICK, checkpoint_folder=tmp_path / "checkpoints")
    search = GridSearchCV(
        model, {"width": [2, 4]}, scoring=FRCScorer(), cv=2, n_jobs=2, error_score="raise"
    ).fit(fovs)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert not list((tmp_path / "checkpoints").iterdir())


def test_checkpoints_need_a_seed(fovs, tmp_path):
    for random_state in (None, np.random.RandomState(0)):
        model = N2NReconstructor(
            **{**QUICK, "random_state": random_state}, checkpoint_folder=tmp_path
        )
        with pytest.raises(InvalidInputError, match="checkpoint_folder needs an int"):
            model.fit(fovs)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_a_damaged_checkpoint_is_named(fovs, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(KILLED.replace("{parameters}", repr(QUICK)))
    folder = tmp_path / "checkpoints"
    command = [sys.executable, script, folder, "5", tmp_path / "model.smlmkit"]
    subprocess.run(command, capture_output=True, check=False)
    [path] = folder.iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelFileError, match=path.name):
        N2NReconstructor(**QUICK, checkpoint_folder=folder).fit(fovs)
