import copy
import io
import math
import sys

import numpy as np
import pytest
import torch
from torch import nn

from smlmkit.errors import InvalidInputError, TrainingDivergedError
from smlmkit.nn import optimization
from smlmkit.nn.base import Network
from smlmkit.nn.devices import resolve_device
from smlmkit.nn.history import count_since_best
from smlmkit.nn.networks import build_network, specify_network
from smlmkit.nn.pairs import Pairs
from smlmkit.nn.plan import TrainingPlan
from smlmkit.nn.schedule import SCHEDULES, learning_rate_at
from smlmkit.nn.training import train

CPU = torch.device("cpu")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA")


class RandomPairs(Pairs):
    """Uniform inputs and `factor` times as much as targets; raises `error` at a draw."""

    def __init__(self, seed=0, factor=2.0, fails_at=None, error=KeyboardInterrupt, side=4):
        self.rng = np.random.default_rng(seed)
        self.factor, self.fails_at, self.error, self.side = factor, fails_at, error, side
        self.n_draws = 0

    def draw(self, n_pairs):
        if self.n_draws == self.fails_at:
            raise self.error
        self.n_draws += 1
        inputs = self.rng.random((n_pairs, 1, self.side, self.side), dtype=np.float32)
        return inputs, self.factor * inputs

    def get_state(self):
        return self.rng.bit_generator.state

    def set_state(self, state):
        self.rng.bit_generator.state = state


class OneConvolution(Network):
    """The smallest network; batch normalisation makes it see its batch as a whole."""

    def __init__(self, norm="none"):
        super().__init__(depth=0, halo=1, n_slices=1)
        self.output = nn.Conv2d(1, 1, 3, padding=1)
        self.norm = nn.BatchNorm2d(1) if norm == "batch" else nn.Identity()
        self.batch_sizes = []
        self.draw_weights(torch.Generator().manual_seed(0))

    def draw_weights(self, generator):
        nn.init.normal_(self.output.weight, 0, 0.3, generator=generator)
        nn.init.zeros_(self.output.bias)

    def _transform(self, image, keep):
        self.batch_sizes.append(len(image))
        return self.norm(self.output(image))


def make_plan(**changes):
    plain = {
        "max_samples": 100,
        "max_seconds": None,
        "batch_size": 4,
        "learning_rate": 1e-2,
        "schedule": "constant",
    }
    return TrainingPlan(**{**plain, **changes})


def run(pairs=None, network=None, validate=None, state=None, **changes):
    network = OneConvolution() if network is None else network
    history, end = train(
        network,
        RandomPairs() if pairs is None else pairs,
        make_plan(**changes),
        CPU,
        loss=nn.SmoothL1Loss(),
        show_progress=False,
        validate=validate,
        state=state,
    )
    return network, history, end


def assert_same_weights(first, second):
    assert first.state_dict().keys() == second.state_dict().keys()
    for name, weights in first.state_dict().items():
        assert torch.equal(weights, second.state_dict()[name]), name


# The budget


def test_loss_falls_and_the_sample_budget_is_met_exactly():
    _, history, _ = run(max_samples=803)
    assert history.samples[0] == 4
    assert history.samples[-1] == 803
    assert history.stopped_by == "max_samples"
    assert history.loss[-1] < 0.1 * history.loss[0]
    assert history.seconds == sorted(history.seconds)


def test_the_time_limit_stops_after_the_running_step():
    _, history, _ = run(max_seconds=1e-9)
    assert history.stopped_by == "max_seconds"
    assert history.samples == [4]


def test_validations_spend_the_time_limit(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("smlmkit.nn.training.time.monotonic", lambda: now[0])

    def validate(_network):
        now[0] += 3.0
        return 0.0

    _, history, _ = run(max_seconds=10.0, epoch_size=8, validate=validate)
    assert history.stopped_by == "max_seconds"
    assert [samples for samples, _ in history.validation] == [8, 16, 24, 32]
    assert history.seconds == [0, 0, 3, 3, 6, 6, 9, 9]


def test_the_share_spent_is_by_samples_or_by_time():
    plan = make_plan(schedule="linear", max_seconds=10.0, learning_rate=0.5)
    assert plan.share_spent(n_samples=30, seconds=1.0) == pytest.approx(0.3)
    assert plan.share_spent(n_samples=30, seconds=8.0) == pytest.approx(0.8)
    assert plan.learning_rate_at(0.8) == pytest.approx(0.1)


# The step size


@pytest.mark.parametrize(
    ("schedule", "make_oracle"),
    [
        ("constant", lambda adam, n: torch.optim.lr_scheduler.ConstantLR(adam, 1.0)),
        ("linear", lambda adam, n: torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.0, n)),
        ("cosine", lambda adam, n: torch.optim.lr_scheduler.CosineAnnealingLR(adam, n)),
        # torch's largest step size is at step 0.3 * total - 1 and its smallest at total - 1.
        ("one_cycle", lambda adam, n: torch.optim.lr_scheduler.OneCycleLR(adam, 0.5, n + 1)),
    ],
)
def test_schedules_are_those_of_torch(schedule, make_oracle):
    n_steps = 2000
    adam = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=0.5)
    oracle = make_oracle(adam, n_steps)
    expected = [oracle.get_last_lr()[0]]
    for _ in range(n_steps):
        adam.step()
        oracle.step()
        expected.append(oracle.get_last_lr()[0])
    steps = range(n_steps + 1)
    rates = [learning_rate_at(schedule, 0.5, step / n_steps) for step in steps]
    np.testing.assert_allclose(rates, expected, atol=1e-3 if schedule == "one_cycle" else 1e-12)
    assert rates[-1] == pytest.approx(expected[-1], rel=1e-9, abs=1e-15)
    assert max(rates) == 0.5


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_beyond_its_end_a_schedule_stays(schedule):
    assert learning_rate_at(schedule, 0.5, 1.7) == learning_rate_at(schedule, 0.5, 1.0) >= 0


def test_a_step_is_adams_on_the_clipped_gradient_and_the_average_follows_slowly():
    trained, history, _ = run(
        max_samples=80,
        schedule="linear",
        beta_1=0.5,
        max_gradient_norm=0.05,
        ema_decay=0.8,
    )
    network, pairs = OneConvolution(), RandomPairs()
    average = copy.deepcopy(network.state_dict())
    adam = torch.optim.Adam(network.parameters(), betas=(0.5, 0.999))
    for step in range(20):
        inputs, targets = map(torch.from_numpy, pairs.draw(4))
        adam.param_groups[0]["lr"] = 1e-2 * (1 - step / 20)
        adam.zero_grad()
        loss = nn.functional.smooth_l1_loss(network(inputs), targets)
        loss.backward()
        assert loss.item() == pytest.approx(history.loss[step], rel=1e-4)
        gradients = [weights.grad for weights in network.parameters()]
        norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))
        for gradient in gradients:
            gradient *= min(1, 0.05 / norm)
        adam.step()
        decay = min(0.8, (1 + step) / (10 + step))
        for name, weights in network.state_dict().items():
            average[name] = decay * average[name] + (1 - decay) * weights
    for name, weights in trained.state_dict().items():
        torch.testing.assert_close(weights, average[name], rtol=1e-4, atol=1e-6)


# Parts of a batch, precision, compilation


@pytest.mark.parametrize(
    ("pixels_at_once", "parts"), [(3 * 4 * 4, [3, 2, 2]), (1, [1, 1, 1, 1, 1, 1, 1])]
)
def test_a_batch_in_parts_gives_the_same_step(monkeypatch, pixels_at_once, parts):
    whole, history, _ = run(batch_size=7)
    assert set(whole.batch_sizes) == {7, 2}
    monkeypatch.setattr(optimization, "_PIXELS_AT_ONCE", pixels_at_once)
    in_parts, history_of_parts, _ = run(batch_size=7)
    assert in_parts.batch_sizes[: 2 * len(parts)] == 2 * parts
    np.testing.assert_allclose(history_of_parts.loss, history.loss, rtol=1e-5)
    for name, weights in whole.state_dict().items():
        torch.testing.assert_close(weights, in_parts.state_dict()[name], rtol=1e-4, atol=1e-6)


def test_batch_normalisation_keeps_a_batch_in_one_part(monkeypatch):
    monkeypatch.setattr(optimization, "_PIXELS_AT_ONCE", 1)
    network, _, _ = run(network=OneConvolution("batch"), max_samples=8)
    assert network.batch_sizes == [4, 4]


def test_the_average_holds_running_statistics_too():
    network, _, end = run(network=OneConvolution("batch"), max_samples=8, ema_decay=0.999)
    # Two steps, of decays 1/10 and 2/11, from a mean of 0.
    state = end.tensors
    assert network.norm.num_batches_tracked == 2
    assert 0 < abs(network.norm.running_mean) < abs(state["weights.norm.running_mean"])
    assert torch.equal(state["average.norm.running_mean"], network.norm.running_mean)


class SeesPrecision(nn.SmoothL1Loss):
    def forward(self, predictions, targets):
        self.dtypes = {predictions.dtype, targets.dtype}
        return super().forward(predictions, targets)


def test_bfloat16_convolves_in_bfloat16_and_compares_in_float32():
    network, loss, convolved = OneConvolution(), SeesPrecision(), []
    network.output.register_forward_hook(lambda _m, _i, output: convolved.append(output.dtype))
    plan = make_plan(precision="bfloat16", max_samples=400)
    history, _ = train(network, RandomPairs(), plan, CPU, loss=loss, show_progress=False)
    assert set(convolved) == {torch.bfloat16}
    assert loss.dtypes == {torch.float32}
    assert network.output.weight.dtype == torch.float32
    assert history.loss[-1] < 0.3 * history.loss[0]


def test_float16_needs_cuda():
    with pytest.raises(InvalidInputError, match="precision='float16' needs a CUDA device, not 'cp"):
        run(precision="float16")


# torch's own compiler warns about itself.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_network_trains_alike_and_keeps_its_names():
    compiled, history, _ = run(compile=True, max_samples=10)
    eager, _, _ = run(max_samples=10)
    assert history.samples == [4, 8, 10]
    assert compiled.state_dict().keys() == eager.state_dict().keys()
    for name, weights in eager.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], weights, rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_without_a_compiler_the_error_says_so():
    from torch._inductor import config

    torch._dynamo.reset()
    with (
        config.patch({"cpp.cxx": (None, "no-such-compiler"), "fx_graph_cache": False}),
        pytest.raises(InvalidInputError, match=r"compile=True: .*; is there a C\+\+ compiler\?"),
    ):
        run(compile=True, network=OneConvolution("batch"))


# Validation


def test_validation_sees_the_averaged_network_ready_to_predict_and_changes_nothing():
    seen = []

    def validate(network):
        seen.append(copy.deepcopy(network.state_dict()))
        assert not network.training
        assert not torch.is_grad_enabled()
        return -len(seen)

    network, history, end = run(validate=validate, ema_decay=0.9, epoch_size=30, max_samples=70)
    # The first steps at or beyond 30 and 60 samples, and the end.
    assert history.validation == [(32, -1.0), (60, -2.0), (70, -3.0)]
    assert torch.equal(seen[-1]["output.weight"], network.output.weight)
    assert not torch.equal(seen[-1]["output.weight"], end.tensors["weights.output.weight"])
    unseen, _, _ = run(ema_decay=0.9, max_samples=70)
    assert_same_weights(network, unseen)
    assert not network.training


def test_patience_stops_and_gives_the_best_weights():
    scores, seen = iter([1.0, 3.0, 3.0, math.nan, 9.0]), []

    def validate(network):
        seen.append(copy.deepcopy(network))
        return next(scores)

    network, history, _ = run(validate=validate, epoch_size=8, patience=2)
    assert history.stopped_by == "early_stopping"
    assert history.samples[-1] == 32
    np.testing.assert_array_equal(history.validation, [(8, 1), (16, 3), (24, 3), (32, math.nan)])
    assert_same_weights(network, seen[1])


def test_without_patience_the_last_weights_stay():
    scores = iter([3.0, 2.0, 1.0])
    network, history, _ = run(validate=lambda _: next(scores), epoch_size=8, max_samples=24)
    assert history.stopped_by == "max_samples"
    assert_same_weights(network, run(max_samples=24)[0])


def test_count_since_best():
    assert count_since_best([1.0]) == 0
    assert count_since_best([1.0, 2.0, 2.0, -math.inf]) == 2
    assert count_since_best([math.nan, -5.0]) == 0
    assert count_since_best([math.nan, math.nan]) == 1


# Ends before the end


def test_ctrl_c_keeps_the_weights_reached_so_far():
    # The eleventh step is done when the draw of the twelfth batch is interrupted.
    network, history, _ = run(RandomPairs(fails_at=11))
    assert history.stopped_by == "interrupt"
    assert history.samples == list(range(4, 48, 4))
    assert_same_weights(network, run(max_samples=44)[0])


def test_ctrl_c_before_the_first_step_is_passed_on():
    with pytest.raises(KeyboardInterrupt):
        run(RandomPairs(fails_at=0))


def test_a_loss_that_is_not_finite_stops_with_the_reason():
    with pytest.raises(
        TrainingDivergedError, match=r"loss is nan after .* lower the learning_rate"
    ):
        run(RandomPairs(factor=np.nan))


def test_weights_that_are_not_finite_stop_with_the_reason():
    # The loss of the only step is taken before its update, whose gradient overflows.
    network = OneConvolution()
    network.output.weight.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(TrainingDivergedError, match="a weight is not finite after 4 samples"):
        run(network=network, max_samples=4)


# Going on


def test_training_that_goes_on_is_as_if_it_had_not_stopped():
    whole, history, _ = run(max_samples=100, ema_decay=0.9, batch_size=5)
    _, _, middle = run(max_samples=40, ema_decay=0.9, batch_size=5)
    other = RandomPairs(seed=7)  # goes on where the first pairs were
    gone_on, history_of_both, _ = run(
        other, max_samples=60, ema_decay=0.9, batch_size=5, state=middle
    )
    assert_same_weights(whole, gone_on)
    assert history_of_both.samples == history.samples
    assert history_of_both.loss == history.loss
    assert history_of_both.seconds == sorted(history_of_both.seconds)


def test_going_on_begins_schedule_and_patience_anew(monkeypatch):
    rates = []
    take_step = optimization.Optimization.take_step

    def spy(self, batch, learning_rate):
        rates.append(learning_rate)
        return take_step(self, batch, learning_rate)

    monkeypatch.setattr(optimization.Optimization, "take_step", spy)
    plan = {"max_samples": 16, "schedule": "linear", "epoch_size": 8, "patience": 2}
    _, _, middle = run(validate=lambda _: 9.0, **plan)
    seen = []

    def validate(network):
        seen.append(copy.deepcopy(network))
        return -len(seen)

    network, history, _ = run(validate=validate, state=middle, **plan)
    assert rates == pytest.approx([1e-2, 7.5e-3, 5e-3, 2.5e-3] * 2)
    assert history.validation == [(8, 9), (16, 9), (24, -1), (32, -2)]
    assert_same_weights(network, seen[0])


def test_going_on_without_patience_forgets_the_best_weights():
    scores = iter([2.0, 1.0])
    _, _, middle = run(validate=lambda _: next(scores), max_samples=40, epoch_size=20, patience=5)
    network, _, end = run(max_samples=40, state=middle)
    assert torch.equal(end.tensors["weights.output.weight"], network.output.weight)


def test_an_average_may_begin_when_training_goes_on():
    _, _, middle = run(max_samples=40)
    network, _, end = run(max_samples=40, ema_decay=0.5, state=middle)
    assert torch.equal(end.tensors["average.output.weight"], network.output.weight)
    assert not torch.equal(end.tensors["weights.output.weight"], network.output.weight)


# Randomness and the world around


@pytest.mark.parametrize("kind", ["unet", "pix2pix"])
def test_the_same_seeds_give_the_same_weights_and_no_global_state_changes(kind):
    def learn(seed):
        network = build_network(specify_network(kind, depth=2, width=2), seed, intensity=1.0)
        return run(RandomPairs(side=8), network, max_samples=24)[0]

    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, second, other = learn(3), learn(3), learn(4)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert_same_weights(first, second)
    assert not torch.equal(*(next(network.parameters()) for network in (first, other)))


def test_the_bar_says_what_is_trained(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    options = {"loss": nn.L1Loss(), "show_progress": True, "description": "fold 2"}
    train(OneConvolution(), RandomPairs(), make_plan(), CPU, **options)
    assert "fold 2: 100%" in terminal.getvalue()
    assert "100/100" in terminal.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_samples": 0}, "max_samples must be a whole number"),
        ({"max_seconds": -1}, "max_seconds must be a positive number"),
        ({"batch_size": 2.5}, "batch_size must be a whole number"),
        ({"learning_rate": 2}, r"learning_rate must be in \(0, 1\]"),
        ({"schedule": "step"}, "schedule must be one of .*'one_cycle'.*, got 'step'"),
        ({"beta_1": 1}, r"beta_1 must be in \[0, 1\)"),
        ({"ema_decay": 1.0}, r"ema_decay must be in \(0, 1\)"),
        ({"max_gradient_norm": 0}, "max_gradient_norm must be a positive number"),
        ({"precision": "float8"}, "precision must be one of .*, got 'float8'"),
        ({"compile": "yes"}, "compile must be one of .*, got 'yes'"),
        ({"epoch_size": 0}, "epoch_size must be a whole number"),
        ({"patience": 0}, "patience must be a whole number"),
    ],
)
def test_plans_are_checked(change, message):
    with pytest.raises(InvalidInputError, match=message):
        make_plan(**change)


def test_devices():
    assert resolve_device("cpu") == CPU
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(InvalidInputError, match="device 'abacus' cannot be used"):
        resolve_device("abacus")


@needs_cuda
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_learning_on_a_gpu_and_going_on(precision):
    network, plan = OneConvolution(), make_plan(precision=precision, max_samples=400)
    options = {"loss": nn.SmoothL1Loss(), "show_progress": False}
    device = torch.device("cuda")
    history, end = train(network, RandomPairs(), plan, device, **options)
    assert history.loss[-1] < 0.3 * history.loss[0]
    assert network.output.weight.device == CPU
    assert bool(end.numbers["scaler"]) == (precision == "float16")
    history, _ = train(network, RandomPairs(), plan, device, state=end, **options)
    assert history.samples[-1] == 800
    assert history.loss[-1] < history.loss[100]
