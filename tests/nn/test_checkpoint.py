"""Training that is killed and started anew ends with the weights of one that never stopped.

Run as a program, this file trains with a checkpoint after every step until it kills itself.
"""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from smlmkit.errors import InvalidInputError, ModelFileError, OutputError, TrainingDivergedError
from smlmkit.nn.checkpoint import Checkpoint, TrainingState
from smlmkit.nn.history import count_since_best
from smlmkit.nn.model_file import write_model
from smlmkit.nn.networks import build_network, specify_network
from smlmkit.nn.pairs import Pairs
from smlmkit.nn.plan import TrainingPlan
from smlmkit.nn.training import train

# Thirteen steps, the last of two pairs; validations after steps 3, 5, 8, 10 and 13.
PLAN = {
    "max_samples": 50,
    "max_seconds": None,
    "batch_size": 4,
    "learning_rate": 1e-2,
    "schedule": "one_cycle",
    "ema_decay": 0.9,
    "max_gradient_norm": 1.0,
    "epoch_size": 10,
    "patience": 3,
}


class RandomPairs(Pairs):
    """Uniform inputs and twice as much as targets; calls `disaster` at draw number `fails_at`."""

    def __init__(self, fails_at=None, disaster=None):
        self.rng = np.random.default_rng(0)
        self.n_draws, self.fails_at, self.disaster = 0, fails_at, disaster

    def draw(self, n_pairs):
        self.n_draws += 1
        if self.n_draws == self.fails_at:
            self.disaster()
        inputs = self.rng.random((n_pairs, 1, 8, 8), dtype=np.float32)
        return inputs, 2 * inputs

    def get_state(self):
        return self.rng.bit_generator.state

    def set_state(self, state):
        self.rng.bit_generator.state = state


def interrupt():
    raise KeyboardInterrupt


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def learn(path=None, *, kind="unet", fails_at=None, disaster=None, fingerprint="same", **changes):
    """Train a small network, with a checkpoint after every step if there is a path."""
    network = build_network(specify_network(kind, depth=2, width=2), seed=0, intensity=1.0)
    plan = TrainingPlan(**{**PLAN, **changes})
    pairs = RandomPairs(fails_at, disaster)
    file = None if path is None else Checkpoint(Path(path), fingerprint, every_seconds=0)
    history, _ = train(
        network,
        pairs,
        plan,
        torch.device("cpu"),
        loss=nn.SmoothL1Loss(),
        show_progress=False,
        validate=score_by_weights,
        checkpoint=file,
    )
    return network, history, pairs.n_draws


def score_by_weights(network):
    """Give a score that depends on all weights, rises and falls, and may be no number."""
    total = sum(float(weights.double().abs().sum()) for weights in network.parameters())
    score = math.sin(100 * total)
    return math.nan if score > 0.9 else score


def assert_same_training(first, second):
    for name, weights in first[0].state_dict().items():
        assert torch.equal(weights, second[0].state_dict()[name]), name
    assert first[1].samples == second[1].samples
    assert first[1].loss == second[1].loss
    np.testing.assert_array_equal(first[1].validation, second[1].validation)
    assert first[1].stopped_by == second[1].stopped_by


@pytest.mark.parametrize(
    ("kind", "precision", "fails_at"), [("unet", "float32", 8), ("pix2pix", "bfloat16", 11)]
)
def test_a_killed_training_that_is_started_anew_ends_alike(tmp_path, kind, precision, fails_at):
    path = tmp_path / "training.ckpt"
    options = {"kind": kind, "precision": precision}
    program = [sys.executable, __file__, str(path), json.dumps({**options, "fails_at": fails_at})]
    killed = subprocess.run(program, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert path.exists()
    *resumed, n_draws = learn(path, **options)
    *whole, n_draws_of_all = learn(**options)
    # The killed draw was that of the batch after the one of the last step, which was not recorded.
    assert n_draws == n_draws_of_all - fails_at + 2
    assert_same_training(resumed, whole)
    assert not path.exists()


def test_it_does_not_matter_when_training_stops(tmp_path):
    *whole, n_draws = learn(kind="pix2pix")
    assert n_draws == 14
    scores = [score for _, score in whole[1].validation]
    assert len(scores) == 5
    assert 0 < count_since_best(scores) < 4  # so the best weights are those of an earlier step
    for fails_at in (3, 4, 6, 11, 14):
        path = tmp_path / f"{fails_at}.ckpt"
        _, history, _ = learn(path, kind="pix2pix", fails_at=fails_at, disaster=interrupt)
        assert history.stopped_by == "interrupt"
        assert_same_training(learn(path, kind="pix2pix"), whole)
    assert not list(tmp_path.iterdir())


def test_it_may_stop_more_than_once(tmp_path):
    path = tmp_path / "training.ckpt"
    for _ in range(3):
        learn(path, fails_at=5, disaster=interrupt)
    assert_same_training(learn(path), learn())


def test_time_spent_before_counts(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("smlmkit.nn.training.time.monotonic", lambda: now[0])

    def work():
        now[0] += 4.0

    class SlowPairs(RandomPairs):
        def draw(self, n_pairs):
            work()
            return super().draw(n_pairs)

    monkeypatch.setitem(globals(), "RandomPairs", SlowPairs)
    path = tmp_path / "training.ckpt"
    learn(path, max_seconds=20.0, fails_at=4, disaster=interrupt)
    now[0] += 1000.0
    _, history, _ = learn(path, max_seconds=20.0)
    # Two steps were in the checkpoint, the third was repeated.
    assert history.seconds == [4, 8, 12, 16, 20]
    assert history.stopped_by == "max_seconds"


def test_the_checkpoint_stays_after_an_error(tmp_path):
    def diverge():
        raise TrainingDivergedError("for a test")

    path = tmp_path / "training.ckpt"
    with pytest.raises(TrainingDivergedError):
        learn(path, fails_at=5, disaster=diverge)
    assert_same_training(learn(path), learn())


def test_a_training_that_has_ended_may_keep_its_checkpoint(tmp_path):
    file = Checkpoint(tmp_path / "training.ckpt", "same", keep=True)

    def learn_and_keep():
        network = build_network(specify_network("unet", depth=2, width=2), 0, intensity=1.0)
        pairs, steps_seen = RandomPairs(), []
        network.register_forward_hook(lambda module, _i, _o: steps_seen.append(module.training))
        options = {"loss": nn.L1Loss(), "show_progress": False, "checkpoint": file}
        history, _ = train(network, pairs, TrainingPlan(**PLAN), torch.device("cpu"), **options)
        return (network, history), len(steps_seen)

    first, n_steps = learn_and_keep()
    second, n_steps_again = learn_and_keep()
    assert (n_steps, n_steps_again) == (13, 0)
    assert_same_training(first, second)
    file.remove()
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_is_due_after_its_time(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("smlmkit.nn.checkpoint.time.monotonic", lambda: now[0])
    file = Checkpoint(tmp_path / "training.ckpt", "same", every_seconds=60)
    now[0] += 59
    assert not file.is_due()
    now[0] += 1
    assert file.is_due()
    file.write(TrainingState({}, {}))
    assert not file.is_due()


# Files that are not what they should be


@pytest.fixture
def path(tmp_path):
    """Give the checkpoint of an interrupted training."""
    path = tmp_path / "training.ckpt"
    learn(path, fails_at=8, disaster=interrupt)
    return path


def test_the_checkpoint_of_another_training_is_refused(path):
    with pytest.raises(InvalidInputError, match=r"training\.ckpt is the checkpoint of another tr"):
        learn(path, fingerprint="other")
    assert path.exists()


def test_a_network_that_does_not_fit_is_refused(path):
    with pytest.raises(ModelFileError, match=r"training\.ckpt: not a checkpoint of this training"):
        learn(path, kind="pix2pix")


def test_a_model_is_no_checkpoint(tmp_path):
    path = tmp_path / "a.smlmkit"
    write_model(path, {"weights": torch.zeros(2)}, {"parameters": {}}, overwrite=False)
    with pytest.raises(ModelFileError, match=r"a\.smlmkit: a model, not the checkpoint"):
        learn(path)


def test_truncated_checkpoints_are_refused(path):
    whole = path.read_bytes()
    for n_bytes in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:n_bytes])
        with pytest.raises(ModelFileError, match=r"training\.ckpt"):
            Checkpoint(path, "same").read()


def test_a_changed_byte_is_found_or_changes_nothing(path):
    whole = path.read_bytes()
    start_of_data = 8 + int.from_bytes(whole[:8], "little")
    expected = Checkpoint(path, "same").read()
    rng = np.random.default_rng(0)
    for position in [*rng.integers(len(whole), size=100), *rng.integers(start_of_data, size=200)]:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            read = Checkpoint(path, "same").read()
        except (ModelFileError, InvalidInputError) as error:
            assert "training.ckpt" in str(error)  # noqa: PT017
        else:  # what the library was that wrote it, say
            assert position < start_of_data
            assert read.numbers == expected.numbers
            assert read.tensors.keys() == expected.tensors.keys()


def test_what_cannot_be_written_is_refused_before_training(tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        learn(tmp_path / "missing" / "training.ckpt", fails_at=1, disaster=interrupt)


if __name__ == "__main__":
    learn(sys.argv[1], **json.loads(sys.argv[2]), disaster=kill)
