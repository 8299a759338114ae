"""Losses that compare images pixel by pixel."""

from torch import Tensor, nn

from smlmkit._checks import check_positive
from smlmkit.nn.losses._base import ImageLoss


class PoissonLoss(ImageLoss):
    """Poisson deviance of counts from predicted rates that may be negative.

    Parameters
    ----------
    least_rate : float, default=0.1
        Rate in counts per pixel below which the variance of the counts is taken for constant. A
        count c pulls on a rate near 0 as hard as c / `least_rate`; a small value is closer to the
        likelihood, a large one makes steadier steps.

    Raises
    ------
    InvalidInputError
        If `least_rate` is not a positive number; for images if their shapes differ.
    InvalidTypeError
        If an input is no tensor of floating-point numbers.

    Notes
    -----
    With rates r (the predictions), counts c (the targets) and e = `least_rate`, the mean over all
    pixels of

        r - c log(r)                                      where r >= e,
        r^2 / (2 e) + e / 2 - c (r / e - 1 + log(e))      elsewhere.

    The first is the negative log-likelihood without the term log(c!), the second goes on with the
    same value and slope. The slope is everywhere (r - c) / max(r, e): where expected counts are
    low, the loss is a square around the count, divided by a variance of e in place of the rate.

    So the loss is convex, bounded below for every count, 0 included, and has no logarithm or root
    that a linear output could leave. A negative rate is pulled back to 0 as by a squared error.
    Over many draws the mean slope vanishes where r is the expected count, exactly, whatever the
    rate, also below e: it is the Bregman divergence of a convex function, and those are all made
    least by the mean (Banerjee et al. 2005). A positive link such as softplus would instead bias
    low rates, or make the output of dark pixels run away.

    References
    ----------
    Banerjee et al. (2005), Clustering with Bregman divergences.

    Examples
    --------
    >>> import torch
    >>> counts = torch.tensor([[0.0, 0.0, 1.0, 3.0]])  # 1 in the mean
    >>> loss = PoissonLoss()
    >>> rates = [-0.5, 0.05, 0.5, 1.0, 2.0]
    >>> [round(loss(torch.full_like(counts, rate), counts).item(), 2) for rate in rates]
    [9.6, 2.87, 1.19, 1.0, 1.31]
    """

    def __init__(self, least_rate: float = 0.1) -> None:
        super().__init__()
        check_positive(least_rate=least_rate)
        self.least_rate = float(least_rate)

    def extra_repr(self) -> str:
        """Give the parameters for the module's repr.

        Returns
        -------
        str
            Names and values.
        """
        return f"least_rate={self.least_rate}"

    def _compare(self, first: Tensor, second: Tensor) -> Tensor:
        least = self.least_rate
        rates = first.clamp(min=least)
        below = first - rates
        expected = rates + below + below.square() / (2 * least)
        log_rates = rates.log() + below / least
        return (expected - second * log_rates).mean()


class SmoothL1Loss(nn.SmoothL1Loss):
    """Torch's smooth L1 loss with its parameter checked when it is made, and shown.

    Parameters
    ----------
    beta : float, default=1.0
        Difference at which the square goes over into the modulus.

    Raises
    ------
    InvalidInputError
        If `beta` is not a positive number.
    """

    def __init__(self, beta: float = 1.0) -> None:
        check_positive(beta=beta)
        super().__init__(beta=float(beta))

    def extra_repr(self) -> str:
        """Give the parameters for the module's repr.

        Returns
        -------
        str
            Names and values.
        """
        return f"beta={self.beta}"
