import numpy as np
import pytest
import torch

from smlmkit.errors import InvalidInputError, TrainingDivergedError
from smlmkit.nn.training import TrainingBudget, resolve_device, train
from smlmkit.nn.unet import build_unet

CPU = torch.device("cpu")


class ConstantPairs:
    """Inputs of 1, targets of `target`; raises `error` at draw number `fails_at`."""

    def __init__(self, target=2.0, fails_at=None, error=KeyboardInterrupt):
        self.target, self.fails_at, self.error, self.n_draws = target, fails_at, error, 0

    def draw(self, n_pairs):
        if self.n_draws == self.fails_at:
            raise self.error
        self.n_draws += 1
        inputs = np.ones((n_pairs, 1, 4, 4), np.float32)
        return inputs, self.target * inputs


def budget(**changes):
    plain = {
        "max_samples": 100,
        "max_seconds": None,
        "batch_size": 4,
        "learning_rate": 1e-2,
        "schedule": "constant",
    }
    return TrainingBudget(**{**plain, **changes})


def run(pairs, show_progress=False, **changes):
    network = build_unet(1, 2, seed=0)
    history = train(network, pairs, budget(**changes), CPU, show_progress=show_progress)
    return network, history


def test_loss_falls_and_the_sample_budget_is_met_exactly():
    _, history = run(ConstantPairs(), max_samples=203)
    assert history.samples[0] == 4
    assert history.samples[-1] == 203
    assert history.stopped_by == "max_samples"
    assert history.loss[-1] < 0.1 * history.loss[0]
    assert history.seconds == sorted(history.seconds)


def test_a_linear_schedule_falls_to_zero_by_samples_or_by_time():
    linear = budget(schedule="linear", max_samples=100, max_seconds=10.0, learning_rate=0.5)
    assert linear.share_spent(n_samples=30, seconds=1.0) == pytest.approx(0.3)
    assert linear.share_spent(n_samples=30, seconds=8.0) == pytest.approx(0.8)
    assert linear.learning_rate_at(0.8) == pytest.approx(0.1)
    assert budget(learning_rate=0.5).learning_rate_at(0.8) == 0.5


def test_the_schedule_reaches_the_optimizer():
    falling, _ = run(ConstantPairs(), schedule="linear")
    constant, _ = run(ConstantPairs(), schedule="constant")
    assert not torch.equal(falling.output.weight, constant.output.weight)


def test_the_time_limit_stops_after_the_running_step():
    _, history = run(ConstantPairs(), max_seconds=1e-9)
    assert history.stopped_by == "max_seconds"
    assert history.samples == [4]


def test_ctrl_c_keeps_the_weights_reached_so_far():
    # The eleventh step is done when the draw of the twelfth batch is interrupted.
    network, history = run(ConstantPairs(fails_at=11))
    assert history.stopped_by == "interrupt"
    assert history.samples == list(range(4, 44, 4))
    reference, _ = run(ConstantPairs(), max_samples=44)
    for name, weights in reference.state_dict().items():
        assert torch.equal(weights, network.state_dict()[name])


def test_ctrl_c_before_the_first_step_is_passed_on():
    with pytest.raises(KeyboardInterrupt):
        run(ConstantPairs(fails_at=0))


def test_a_loss_that_is_not_finite_stops_with_the_reason():
    with pytest.raises(
        TrainingDivergedError, match=r"loss is nan after .* lower the learning_rate"
    ):
        run(ConstantPairs(target=np.nan))


def test_weights_that_are_not_finite_stop_with_the_reason():
    # The loss of the only step is taken before its update, whose gradient overflows.
    network = build_unet(1, 2, seed=0)
    network.output.weight.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(TrainingDivergedError, match="a weight is not finite after 4 samples"):
        train(network, ConstantPairs(), budget(max_samples=4), CPU, show_progress=False)


def test_devices():
    assert resolve_device("cpu") == CPU
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(InvalidInputError, match="device 'abacus' cannot be used"):
        resolve_device("abacus")
