"""The training loop: pairs in, a trained network and its history out."""

import math
import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

from smlmkit.errors import InvalidInputError, TrainingDivergedError
from smlmkit.nn.pairs import Pairs

NetworkT = TypeVar("NetworkT", bound=nn.Module)


@dataclass(frozen=True)
class TrainingBudget:
    """How long and how fast to train.

    Parameters
    ----------
    max_samples : int
        Number of training pairs.
    max_seconds : float or None
        Time limit in seconds; None for none.
    batch_size : int
        Pairs a step.
    learning_rate : float
        Adam's step size at the start.
    schedule : {"constant", "linear"}
        Whether the step size stays or falls linearly to 0 over the budget.
    """

    max_samples: int
    max_seconds: float | None
    batch_size: int
    learning_rate: float
    schedule: str

    def share_spent(self, n_samples: int, seconds: float) -> float:
        """Give the share of the budget that is used up, by pairs or by time.

        Parameters
        ----------
        n_samples : int
            Training pairs seen so far.
        seconds : float
            Time since the start.

        Returns
        -------
        float
            From 0 to 1 and, where the last step took longer than the time left, beyond.
        """
        by_samples = n_samples / self.max_samples
        return (
            by_samples if self.max_seconds is None else max(by_samples, seconds / self.max_seconds)
        )

    def learning_rate_at(self, share_spent: float) -> float:
        """Give the step size when a share of the budget is used up.

        Parameters
        ----------
        share_spent : float
            From 0 to 1.

        Returns
        -------
        float
            Adam's step size.
        """
        return self.learning_rate * (1 - share_spent if self.schedule == "linear" else 1)


class TrainingStep(NamedTuple):
    """One step of training.

    Parameters
    ----------
    samples : int
        Training pairs seen up to and including this step.
    loss : float
        Mean loss of the step's batch.
    seconds : float
        Time since the start at the end of the step.
    """

    samples: int
    loss: float
    seconds: float


@dataclass
class TrainingHistory:
    """What happened during training.

    Parameters
    ----------
    steps : list of TrainingStep
        One entry a step.
    stopped_by : {"", "max_samples", "max_seconds", "interrupt"}
        Why training ended.
    """

    steps: list[TrainingStep] = field(default_factory=list)
    stopped_by: str = ""

    @property
    def samples(self) -> list[int]:
        """Training pairs seen up to and including each step."""
        return [step.samples for step in self.steps]

    @property
    def loss(self) -> list[float]:
        """The mean loss of each step's batch."""
        return [step.loss for step in self.steps]

    @property
    def seconds(self) -> list[float]:
        """Time since the start at the end of each step."""
        return [step.seconds for step in self.steps]


def resolve_device(device: str) -> torch.device:
    """Find the device that a name asks for.

    Parameters
    ----------
    device : str
        ``"auto"`` (CUDA, else Apple's MPS, else the CPU) or any name that torch knows.

    Returns
    -------
    torch.device
        The device.

    Raises
    ------
    InvalidInputError
        If torch does not know the name or the device is not there.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInputError(f"device {device!r} cannot be used: {reason}") from None


def move_network(network: NetworkT, device: torch.device) -> NetworkT:
    """Move a network to a device, with its weights in the layout that convolves fastest.

    Parameters
    ----------
    network : Module
        The network; changed in place.
    device : torch.device
        Where it shall compute.

    Returns
    -------
    Module
        The same network.
    """
    network.to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def train(
    network: nn.Module,
    pairs: Pairs,
    budget: TrainingBudget,
    device: torch.device,
    *,
    show_progress: bool,
) -> TrainingHistory:
    """Train a network in place with smooth L1 loss and Adam.

    Ctrl-C ends training early and keeps the weights reached so far; the history says so.

    Parameters
    ----------
    network : Module
        Maps (n, 1, side, side) to the same shape; trained on `device`, left on the CPU.
    pairs : Pairs
        Where the pairs come from.
    budget : TrainingBudget
        How long to train.
    device : torch.device
        Where to compute.
    show_progress : bool
        Whether to show a progress bar in terminals and notebooks.

    Returns
    -------
    TrainingHistory
        The losses.

    Raises
    ------
    TrainingDivergedError
        If the loss or a weight is not finite.
    KeyboardInterrupt
        On Ctrl-C before the first step: there is nothing to keep.
    """
    move_network(network, device).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=budget.learning_rate)
    history = TrainingHistory()
    with _progress_bar(budget.max_samples, show_progress) as bar:
        try:
            _run_steps(network, optimizer, pairs, budget, device, history, bar)
        except KeyboardInterrupt:
            if not history.steps:
                raise
            history.stopped_by = "interrupt"
    network.to("cpu").eval()
    if not all(torch.isfinite(weights).all() for weights in network.parameters()):
        raise TrainingDivergedError(
            f"a weight is not finite after {history.steps[-1].samples:,} samples; lower the "
            f"learning_rate ({budget.learning_rate:g})"
        )
    return history


def _run_steps(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    pairs: Pairs,
    budget: TrainingBudget,
    device: torch.device,
    history: TrainingHistory,
    bar: "tqdm[Any]",
) -> None:
    n_seen, share_spent = 0, 0.0
    n_pairs = min(budget.batch_size, budget.max_samples)
    batch = pairs.draw(n_pairs)
    start = time.monotonic()  # after the first draw, which compiles its kernel
    while share_spent < 1:
        for group in optimizer.param_groups:
            group["lr"] = budget.learning_rate_at(share_spent)
        loss = _take_step(network, optimizer, batch, device)
        n_seen += n_pairs
        bar.update(n_pairs)
        # A GPU works on its queue while the CPU draws the next pairs; reading the loss waits.
        n_pairs = min(budget.batch_size, budget.max_samples - n_seen)
        batch = pairs.draw(n_pairs)
        step = TrainingStep(n_seen, loss.item(), time.monotonic() - start)
        _record(history, step, budget)
        share_spent = budget.share_spent(n_seen, step.seconds)
        # As many as the time limit, too, will leave room for.
        bar.total = max(n_seen, math.ceil(n_seen / share_spent))
        bar.set_postfix(loss=f"{step.loss:.4g}", refresh=False)
    history.stopped_by = "max_seconds" if n_pairs else "max_samples"


def _record(history: TrainingHistory, step: TrainingStep, budget: TrainingBudget) -> None:
    if not math.isfinite(step.loss):
        raise TrainingDivergedError(
            f"the loss is {step.loss} after {step.samples:,} samples; lower the learning_rate "
            f"({budget.learning_rate:g})"
        )
    history.steps.append(step)


def _take_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: tuple[NDArray[np.float32], NDArray[np.float32]],
    device: torch.device,
) -> Tensor:
    inputs, targets = (torch.from_numpy(half).to(device) for half in batch)
    optimizer.zero_grad(set_to_none=True)
    outputs = network(inputs.contiguous(memory_format=torch.channels_last))
    loss = functional.smooth_l1_loss(outputs, targets)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach()


def _progress_bar(n_samples: int, show: bool) -> "tqdm[Any]":
    """Make a bar that shows loss, samples/s and time left; none where output is no terminal."""
    return tqdm(
        total=n_samples,
        unit=" samples",
        desc="training",
        disable=None if show else True,
        dynamic_ncols=True,
    )
