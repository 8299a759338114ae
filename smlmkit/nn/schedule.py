"""How the step size of training changes from its start to its end."""

import math

SCHEDULES = ("constant", "linear", "cosine", "one_cycle")

# The one-cycle schedule: it warms up over a share of the training and begins and ends far below.
_WARM_UP = 0.3
_START = 1 / 25
_END = _START / 1e4


def learning_rate_at(schedule: str, learning_rate: float, share: float) -> float:
    """Give the step size when a share of the training is done.

    Parameters
    ----------
    schedule : {"constant", "linear", "cosine", "one_cycle"}
        The step size stays; falls linearly to 0; falls to 0 along half a cosine; or rises from a
        25th over the first 30 % and falls to a 250,000th over the rest, along half a cosine each.
    learning_rate : float
        The largest step size.
    share : float
        From 0 to 1; beyond 1 it counts as 1.

    Returns
    -------
    float
        The step size.

    Notes
    -----
    ``"one_cycle"`` is the schedule of Smith & Topin (2019) in the form of torch's ``OneCycleLR``,
    by the share done instead of by steps, whose number is not known when time is the limit. Adam's
    betas stay as they are.

    References
    ----------
    Smith & Topin (2019), Super-convergence: very fast training of neural networks using large
    learning rates.

    Examples
    --------
    >>> learning_rate_at("linear", 0.5, 0.75)
    0.125
    >>> learning_rate_at("one_cycle", 0.5, 0.3)
    0.5
    """
    share = min(share, 1.0)
    if schedule == "constant":
        factor = 1.0
    elif schedule == "linear":
        factor = 1 - share
    elif schedule == "cosine":
        factor = _along_cosine(1.0, 0.0, share)
    elif share < _WARM_UP:
        factor = _along_cosine(_START, 1.0, share / _WARM_UP)
    else:
        factor = _along_cosine(1.0, _END, (share - _WARM_UP) / (1 - _WARM_UP))
    return learning_rate * factor


def _along_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
