"""What happened during training."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor


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


class ValidationScore(NamedTuple):
    """One validation.

    Parameters
    ----------
    samples : int
        Training pairs seen before it.
    score : float
        What the validation gave: higher is better, NaN is worst.
    """

    samples: int
    score: float


@dataclass
class TrainingHistory:
    """What happened during training.

    Parameters
    ----------
    steps : list of TrainingStep
        One entry a step.
    validation : list of ValidationScore
        One entry a validation.
    stopped_by : {"", "max_samples", "max_seconds", "early_stopping", "interrupt"}
        Why training ended.
    """

    steps: list[TrainingStep] = field(default_factory=list)
    validation: list[ValidationScore] = field(default_factory=list)
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

    def to_tensors(self) -> dict[str, Tensor]:
        """Give steps and validations as tensors of float64, for a file.

        Returns
        -------
        dict of Tensor
            ``"history.steps"`` of shape (n_steps, 3), ``"history.validation"`` of shape
            (n_validations, 2).
        """
        return {
            "history.steps": torch.tensor(self.steps, dtype=torch.float64).reshape(-1, 3),
            "history.validation": torch.tensor(self.validation, dtype=torch.float64).reshape(-1, 2),
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], stopped_by: str = "") -> "TrainingHistory":
        """Undo `to_tensors`.

        Parameters
        ----------
        tensors : dict of Tensor
            What `to_tensors` gave, among other tensors.
        stopped_by : str, default=""
            Why training ended.

        Returns
        -------
        TrainingHistory
            The history.

        Raises
        ------
        KeyError, TypeError, ValueError
            If the tensors are not there or of another shape.
        """
        steps = tensors["history.steps"].tolist()
        validation = tensors["history.validation"].tolist()
        return cls(
            [TrainingStep(int(samples), loss, seconds) for samples, loss, seconds in steps],
            [ValidationScore(int(samples), score) for samples, score in validation],
            stopped_by,
        )


def count_since_best(scores: list[float]) -> int:
    """Count the scores after the best one.

    Parameters
    ----------
    scores : list of float
        At least one; NaN is worst.

    Returns
    -------
    int
        0 if the last score is the best. Of equal ones the first is the best.
    """
    ranks = [-math.inf if math.isnan(score) else score for score in scores]
    return len(ranks) - 1 - ranks.index(max(ranks))
