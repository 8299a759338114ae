"""How a network is trained: budget, optimiser, precision and when to stop."""

from dataclasses import dataclass

from smlmkit._checks import check_between, check_positive, check_whole
from smlmkit.errors import InvalidInputError
from smlmkit.nn.devices import PRECISIONS
from smlmkit.nn.schedule import SCHEDULES, learning_rate_at


@dataclass(frozen=True)
class TrainingPlan:
    """How long, how fast and how precisely to train.

    Parameters
    ----------
    max_samples : int
        Number of training pairs.
    max_seconds : float or None
        Time limit in seconds, validations included; None for none.
    batch_size : int
        Pairs a step.
    learning_rate : float
        Adam's largest step size, at most 1.
    schedule : {"constant", "linear", "cosine", "one_cycle"}
        How the step size changes over the budget; see `smlmkit.nn.schedule`.
    beta_1 : float, default=0.9
        Adam's memory of past gradients, in [0, 1).
    ema_decay : float, optional
        Memory of the moving average of the weights, in (0, 1), such as 0.999. The average is what
        is validated and what training gives. None: the weights themselves.
    max_gradient_norm : float, optional
        Longer gradients are shortened to this length. None: none are.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="float32"
        Numbers that convolutions compute with; weights and losses are float32 in any case.
        ``"float16"`` needs CUDA. ``"float32"`` leaves it to torch's settings, which this library
        never changes, whether a GPU rounds the factors of a product to TF32.
    compile : bool, default=False
        Whether the network is compiled by torch, which takes a minute and a C++ compiler.
    epoch_size : int, default=100_000
        Pairs from one validation to the next.
    patience : int, optional
        Training stops after as many validations in a row without a new best score, and gives the
        weights of the best one. None: it does neither.

    Raises
    ------
    InvalidInputError
        If a parameter is out of range.
    """

    max_samples: int
    max_seconds: float | None
    batch_size: int
    learning_rate: float
    schedule: str
    beta_1: float = 0.9
    ema_decay: float | None = None
    max_gradient_norm: float | None = None
    precision: str = "float32"
    compile: bool = False
    epoch_size: int = 100_000
    patience: int | None = None

    def __post_init__(self) -> None:
        check_whole("max_samples", self.max_samples, 1, 10**15)
        check_whole("batch_size", self.batch_size, 1, 1_000_000)
        check_whole("epoch_size", self.epoch_size, 1, 10**15)
        check_between(0, 1, closed="right", learning_rate=self.learning_rate)
        check_between(0, 1, closed="left", beta_1=self.beta_1)
        if self.max_seconds is not None:
            check_positive(max_seconds=self.max_seconds)
        if self.ema_decay is not None:
            check_between(0, 1, closed="neither", ema_decay=self.ema_decay)
        if self.max_gradient_norm is not None:
            check_positive(max_gradient_norm=self.max_gradient_norm)
        if self.patience is not None:
            check_whole("patience", self.patience, 1)
        for name, value, allowed in (
            ("schedule", self.schedule, SCHEDULES),
            ("precision", self.precision, PRECISIONS),
            ("compile", self.compile, (False, True)),
        ):
            if value not in allowed:
                raise InvalidInputError(f"{name} must be one of {allowed}, got {value!r}")

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
        return learning_rate_at(self.schedule, self.learning_rate, share_spent)
