"""The training loop: pairs in, a trained network and its history out."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import nn
from tqdm.auto import tqdm

from smlmkit.errors import ModelFileError, StoppedError, TrainingDivergedError
from smlmkit.nn.base import Network
from smlmkit.nn.checkpoint import Checkpoint, TrainingState
from smlmkit.nn.history import TrainingHistory, TrainingStep, ValidationScore, count_since_best
from smlmkit.nn.optimization import Batch, Optimization
from smlmkit.nn.pairs import Pairs
from smlmkit.nn.plan import TrainingPlan

Validate = Callable[[Network], float]

_stop: ContextVar[threading.Event | None] = ContextVar("stop", default=None)


@contextmanager
def stoppable(stop: threading.Event | None) -> Iterator[None]:
    """Let another thread stop the trainings that this one does in the block.

    Parameters
    ----------
    stop : Event or None
        Once it is set, a training writes its checkpoint, if it has one, and raises StoppedError.

    Yields
    ------
    None
    """
    token = _stop.set(stop)
    try:
        yield
    finally:
        _stop.reset(token)


def train(
    network: Network,
    pairs: Pairs,
    plan: TrainingPlan,
    device: torch.device,
    *,
    loss: nn.Module,
    show_progress: bool,
    description: str = "training",
    validate: Validate | None = None,
    state: TrainingState | None = None,
    checkpoint: Checkpoint | None = None,
) -> tuple[TrainingHistory, TrainingState]:
    """Train a network in place with Adam.

    Ctrl-C ends training early and keeps the weights reached so far; the history says so.

    Parameters
    ----------
    network : Network
        What to train, on `device`; left on the CPU, ready to predict. Its weights are then the
        averaged ones if the plan averages, and those of the best validation if it has patience and
        there was one.
    pairs : Pairs
        Where the pairs come from.
    plan : TrainingPlan
        How to train.
    device : torch.device
        Where to compute.
    loss : Module
        Maps predictions and targets of shape (n, n_slices, height, width) to a mean over the n.
    show_progress : bool
        Whether to show a progress bar in terminals and notebooks.
    description : str, default="training"
        What stands before the bar.
    validate : callable, optional
        Gives a score of the network, higher is better. Called after every epoch and at the end,
        with the network on `device`, ready to predict and with averaged weights if the plan
        averages; without gradients.
    state : TrainingState, optional
        The end of an earlier training, which goes on: weights, moments, average, random states and
        history. The budget, the schedule and the patience begin anew.
    checkpoint : Checkpoint, optional
        The file that holds the state while training runs. If it is there already, training goes on
        from it instead, with the rest of the budget, and on the CPU ends with the same weights as
        if it had never stopped. It is removed at the end, but stays after errors and Ctrl-C.

    Returns
    -------
    history : TrainingHistory
        Losses and scores, those of earlier trainings that went on included.
    state : TrainingState
        With which training can go on.

    Raises
    ------
    InvalidInputError
        If the device does not compute with the precision, the network cannot be compiled, or the
        checkpoint is that of another training.
    ModelFileError
        If the checkpoint is damaged.
    TrainingDivergedError
        If the loss or a weight is not finite.
    StoppedError
        If the event of `stoppable` is set.
    KeyboardInterrupt
        On Ctrl-C before the first step: there is nothing to keep.
    """
    optimization = Optimization(network, loss, plan, device)
    training = _Training(optimization, pairs, plan, validate)
    training.begin(state, checkpoint)
    with _progress_bar(plan.max_samples, training.n_samples, show_progress, description) as bar:
        try:
            training.run(bar, checkpoint)
        except KeyboardInterrupt:
            if not training.history.steps:
                raise
            training.history.stopped_by = "interrupt"
    final_state = training.get_state()
    optimization.finish()
    _check_weights(network, training.history, plan)
    if checkpoint is not None and training.history.stopped_by != "interrupt":
        checkpoint.finish(final_state)
    return training.history, final_state


class _Reached(NamedTuple):
    """How far training has come."""

    samples: int = 0
    seconds: float = 0.0
    validations: int = 0


class _Training:
    """A training under way; all that it depends on is in its state."""

    def __init__(
        self,
        optimization: Optimization,
        pairs: Pairs,
        plan: TrainingPlan,
        validate: Validate | None,
    ) -> None:
        self.history = TrainingHistory()
        self._optimization = optimization
        self._pairs = pairs
        self._pairs_state = pairs.get_state()  # before the draw of the batch that is next
        self._plan = plan
        self._validate = validate
        self._now = _Reached()
        self._start = _Reached()  # when the budget began
        self._clock_start = 0.0

    @property
    def n_samples(self) -> int:
        """Training pairs seen since the budget began."""
        return self._now.samples - self._start.samples

    @property
    def n_seconds(self) -> float:
        """Time since the budget began."""
        return self._now.seconds - self._start.seconds

    def begin(self, state: TrainingState | None, checkpoint: Checkpoint | None) -> None:
        """Go on from the checkpoint if there is one, else from the state if there is one."""
        saved = checkpoint.read() if checkpoint is not None else None
        if saved is not None and checkpoint is not None:
            try:
                self._set_state(saved)
            except (KeyError, RuntimeError, TypeError, ValueError) as error:
                raise ModelFileError(
                    f"{checkpoint.path}: not a checkpoint of this training: {error}"
                ) from error
        elif state is not None:
            self._set_state(state)
            self._start = self._now
            self._optimization.forget_best()

    def run(self, bar: "tqdm[Any]", checkpoint: Checkpoint | None) -> None:
        """Take steps until the budget is spent or patience is out."""
        batch = self._draw()
        # After the first draw, which compiles its kernel.
        self._clock_start = time.monotonic() - self._now.seconds
        while not (reason := self._reason_to_stop()):
            batch = self._take_step(batch)
            epoch_size = self._plan.epoch_size
            if self.n_samples // epoch_size > self._n_samples_scored() // epoch_size:
                self._score()
            self._show(bar)
            if checkpoint is not None and checkpoint.is_due():
                checkpoint.write(self.get_state())
            self._stop_if_told(checkpoint)
        if self.n_samples > self._n_samples_scored():
            self._score()
        self.history.stopped_by = reason

    def _stop_if_told(self, checkpoint: Checkpoint | None) -> None:
        stop = _stop.get()
        if stop is None or not stop.is_set():
            return
        if checkpoint is not None:
            checkpoint.write(self.get_state())
        raise StoppedError(f"training was stopped after {self._now.samples:,} samples")

    def get_state(self) -> TrainingState:
        """Give all that the rest of the training depends on."""
        tensors, numbers = self._optimization.get_state()
        numbers |= {
            "now": list(self._now),
            "start": list(self._start),
            "pairs": self._pairs_state,
        }
        return TrainingState(tensors | self.history.to_tensors(), numbers)

    def _set_state(self, state: TrainingState) -> None:
        self._optimization.set_state(state.tensors, state.numbers)
        self.history = TrainingHistory.from_tensors(state.tensors)
        self._now = _Reached(*state.numbers["now"])
        self._start = _Reached(*state.numbers["start"])
        self._pairs.set_state(state.numbers["pairs"])
        self._pairs_state = self._pairs.get_state()

    def _draw(self) -> Batch:
        """Draw the next batch, which is empty if there are no samples left."""
        self._pairs_state = self._pairs.get_state()
        n_left = self._plan.max_samples - self.n_samples
        return self._pairs.draw(min(self._plan.batch_size, n_left))

    def _take_step(self, batch: Batch) -> Batch:
        """Learn from one batch and give the next one."""
        share = self._plan.share_spent(self.n_samples, self.n_seconds)
        loss = self._optimization.take_step(batch, self._plan.learning_rate_at(share))
        self._now = self._now._replace(samples=self._now.samples + len(batch[0]))
        # A GPU works on its queue while the CPU draws the next pairs; reading the loss waits.
        try:
            return self._draw()
        finally:
            self._record(loss.item())

    def _record(self, loss: float) -> None:
        self._read_clock()
        if not math.isfinite(loss):
            raise TrainingDivergedError(
                f"the loss is {loss} after {self._now.samples:,} samples; lower the learning_rate "
                f"({self._plan.learning_rate:g})"
            )
        self.history.steps.append(TrainingStep(self._now.samples, loss, self._now.seconds))

    def _read_clock(self) -> None:
        self._now = self._now._replace(seconds=time.monotonic() - self._clock_start)

    def _reason_to_stop(self) -> str:
        """Say why training stops now; nothing if it goes on."""
        if self.n_samples >= self._plan.max_samples:
            return "max_samples"
        if self._plan.max_seconds is not None and self.n_seconds >= self._plan.max_seconds:
            return "max_seconds"
        patience, scores = self._plan.patience, self._scores()
        if patience is not None and scores and count_since_best(scores) >= patience:
            return "early_stopping"
        return ""

    def _scores(self) -> list[float]:
        """Give the scores since the budget began."""
        return [score for _, score in self.history.validation[self._start.validations :]]

    def _n_samples_scored(self) -> int:
        """Give the training pairs seen from the budget's beginning to the last validation."""
        return self.history.validation[-1].samples - self._start.samples if self._scores() else 0

    def _score(self) -> None:
        """Validate, and remember the weights if they are the best and may be asked for."""
        if self._validate is None:
            return
        with self._optimization.ready_to_predict() as network:
            score = float(self._validate(network))
        self.history.validation.append(ValidationScore(self._now.samples, score))
        if self._plan.patience is not None and count_since_best(self._scores()) == 0:
            self._optimization.remember_as_best()
        self._now = self._now._replace(validations=len(self.history.validation))
        self._read_clock()

    def _show(self, bar: "tqdm[Any]") -> None:
        """Bring the bar up to date; it ends where samples or time will run out."""
        share = self._plan.share_spent(self.n_samples, self.n_seconds)
        bar.total = max(self.n_samples, math.ceil(self.n_samples / share))
        bar.set_postfix(loss=f"{self.history.steps[-1].loss:.4g}", refresh=False)
        bar.update(self.n_samples - bar.n)


def _check_weights(network: Network, history: TrainingHistory, plan: TrainingPlan) -> None:
    if not all(torch.isfinite(weights).all() for weights in network.parameters()):
        raise TrainingDivergedError(
            f"a weight is not finite after {history.steps[-1].samples:,} samples; lower the "
            f"learning_rate ({plan.learning_rate:g})"
        )


def _progress_bar(n_samples: int, n_seen: int, show: bool, description: str) -> "tqdm[Any]":
    """Make a bar that shows loss, samples/s and time left; none where output is no terminal."""
    return tqdm(
        total=n_samples,
        initial=n_seen,
        unit=" samples",
        desc=description,
        disable=None if show else True,
        dynamic_ncols=True,
    )
