"""PoissonScorer: the likelihood of held-out localizations."""

import math
from dataclasses import dataclass

from smlmkit._checks import check_between
from smlmkit.images import grid_of
from smlmkit.metrics.likelihood import poisson_log_likelihood
from smlmkit.scoring._halves import REFERENCE_PIXEL, HeldOut, HeldOutScorer


@dataclass(frozen=True, kw_only=True)
class PoissonScorer(HeldOutScorer):
    """Score an estimator by the Poisson log-likelihood of held-out localizations.

    Parameters
    ----------
    split : {"auto", "frames", "random"}, default="auto"
        How a field of view is split, see `Localizations.split`.
    n_blocks : int, default=10
        Number of blocks of frames.
    repeats : int, default=1
        How often every field of view is split anew.
    random_state : int, RandomState or None, default=0
        Source of randomness of the splits. An int starts anew at every field of view and in every
        call, so that estimators are compared on the same halves. None draws others each time; only
        a single split by frames then alternates the blocks, always alike. A RandomState moves on
        from field to field, so that the candidates of a search see other halves.
    background : float, default=0.01
        Share of the localizations, in (0, 1), that a uniform background explains, so that none has
        probability 0.

    Raises
    ------
    InvalidInputError
        If a parameter is unknown or out of range.

    See Also
    --------
    FRCScorer : Blind to scale and to isotropic linear filters.

    Notes
    -----
    With the reconstruction P of the n_A localizations of half A as expected localizations per
    pixel, half B's n_B localizations are expected at lambda = P n_B / n_A, mixed with the
    background; `smlmkit.metrics.likelihood.poisson_log_likelihood` has the formula. P is not
    normalised. The score is in nats per localization and refers to a pixel of 10 nm whatever the
    pixel size of P (log lambda is taken per 100 nm²), so that pixel sizes can be compared.

    Where emitters blink repeatedly, a random split puts blinks of one emitter into both halves. The
    likelihood then rewards densities that are concentrated on the emitters that blinked: on a
    simulation of filaments with ten blinks an emitter and an uncertainty of 10 nm, the best
    Gaussian was 10 nm wide by a random split and 60 nm, the widest tried, by frames. Split by
    frames where there are frames.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from smlmkit import GaussianKDE, Localizations, PoissonScorer, Renderer
    >>> rng = np.random.default_rng(0)
    >>> emitters = rng.uniform(0, 1000, size=(20, 2))
    >>> blinks = np.repeat(emitters, 50, axis=0) + rng.normal(scale=15, size=(1000, 2))
    >>> fov = Localizations(blinks, field_of_view=(-100, -100, 1100, 1100))
    >>> score = PoissonScorer()
    >>> sigmas = [2, 10, 50]
    >>> scores = [score(make_pipeline(Renderer(), GaussianKDE(s)).fit(fov), fov) for s in sigmas]
    >>> sigmas[np.argmax(scores)]
    10
    """

    background: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        check_between(0, 1, closed="neither", background=self.background)

    def _compare(self, held_out: HeldOut) -> dict[str, float]:
        score = poisson_log_likelihood(
            held_out.counts.to_numpy(),
            held_out.image.to_numpy(),
            exposure=held_out.exposure,
            background=self.background,
        )
        pixel_size = grid_of(held_out.image).pixel_size
        return {"score": score + 2 * math.log(REFERENCE_PIXEL / pixel_size)}
