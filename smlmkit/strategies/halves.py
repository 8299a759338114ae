"""Noise2Noise: input and target are halves of one table."""

from functools import partial
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from smlmkit.errors import InvalidInputError
from smlmkit.localizations import Localizations
from smlmkit.nn.pairs import Draw
from smlmkit.strategies._intervals import Share, adjacent_halves, check_share, either_half
from smlmkit.strategies._sources import frames_of
from smlmkit.strategies.base import Strategy


class FixedHalves(Strategy):
    """Split every field of view once into two halves, and crop both.

    See Also
    --------
    DynamicHalves : Splits anew for every pair.

    Notes
    -----
    Noise2Noise [2]_ between two exposures, as in the *fixed* strategy of [1]_. Each localization
    goes to one of two halves by a fair coin before training. A pair is the same crop of both halves
    at a random place in whole pixels, in one of the eight orientations that flips and quarter turns
    give, with either half as the input. The pixels are those of a rendering of the field of view.
    The network sees the same noise again and again.

    References
    ----------
    .. [1] Lefebvre et al. (2020), Noise2Noise for single-molecule localization microscopy.
    .. [2] Lehtinen et al. (2018), Noise2Noise: learning image restoration without clean data.

    Examples
    --------
    >>> from smlmkit import make_microtubules
    >>> blinks, _ = make_microtubules(field_size=2000, density=500, random_state=0)
    >>> pairs = FixedHalves().make_pairs([blinks], patch_size=32, pixel_size=20, seed=0)
    >>> inputs, targets = pairs.draw(4)
    >>> inputs.shape, targets.shape
    ((4, 1, 32, 32), (4, 1, 32, 32))
    """

    name: ClassVar[str] = "fixed"

    def check_parameters(self) -> None:
        """Do nothing: there are no parameters."""

    def _draw(self) -> Draw:
        return Draw(partial(either_half, keep=(1.0, 1.0)), lot=0.0, aligned=True)

    def _tickets(
        self,
        fov: Localizations,
        rng: np.random.Generator,
        label: str,  # noqa: ARG002
    ) -> NDArray[np.float64]:
        return rng.random(len(fov))


class DynamicHalves(Strategy):
    """Split every crop anew into two halves.

    Parameters
    ----------
    keep : float or (low, high), default=0.95
        The share of the localizations that take part in a pair, in (0, 1], or the range from which
        each pair's share is drawn uniformly, so that one network learns many densities.
    halves : {"random", "even_odd"}, default="random"
        ``"random"``: each localization goes to input or target by a fair coin; ``"even_odd"``:
        those of even frames go to one of them and those of odd frames to the other.

    Raises
    ------
    InvalidInputError
        When pairs are made, if a parameter is out of range, or a table has no column ``frame`` with
        ``halves="even_odd"``.

    See Also
    --------
    FixedHalves : Splits once, before training.

    Notes
    -----
    The *dynamic* strategy of [1]_: a field of view is drawn in proportion to its area and in it a
    crop at any place and angle, mirrored or not. Each localization is dropped with probability
    1 - keep, and input and target are disjoint halves of the others. Given the structure they are
    independent, so the best prediction is the expected density [2]_. No pair is seen twice.

    An emitter that blinks in several frames in a row is in both halves, with either kind of halves.

    References
    ----------
    .. [1] Lefebvre et al. (2020), Noise2Noise for single-molecule localization microscopy.
    .. [2] Lehtinen et al. (2018), Noise2Noise: learning image restoration without clean data.

    Examples
    --------
    >>> from smlmkit import make_microtubules
    >>> blinks, _ = make_microtubules(field_size=2000, density=500, random_state=0)
    >>> strategy = DynamicHalves(keep=(0.2, 0.95))
    >>> pairs = strategy.make_pairs([blinks], patch_size=32, pixel_size=20, seed=0)
    >>> inputs, targets = pairs.draw(4)
    >>> inputs.shape, targets.shape
    ((4, 1, 32, 32), (4, 1, 32, 32))
    """

    name: ClassVar[str] = "dynamic"

    def __init__(
        self, keep: Share = 0.95, halves: Literal["random", "even_odd"] = "random"
    ) -> None:
        self.keep = keep
        self.halves = halves

    def check_parameters(self) -> None:
        """Refuse parameters that cannot be used.

        Raises
        ------
        InvalidInputError
            If one of them is out of range; the message names it.
        """
        check_share("keep", self.keep)
        if self.halves not in ("random", "even_odd"):
            raise InvalidInputError(f"halves must be 'random' or 'even_odd', got {self.halves!r}")

    def _draw(self) -> Draw:
        keep = check_share("keep", self.keep)
        if self.halves == "random":
            return Draw(partial(adjacent_halves, keep=keep))
        # Even frames hold tickets from [0, 0.5), odd ones from [0.5, 1).
        return Draw(partial(either_half, keep=keep), lot=0.5)

    def _tickets(
        self,
        fov: Localizations,
        rng: np.random.Generator,  # noqa: ARG002
        label: str,
    ) -> NDArray[np.float64] | None:
        if self.halves == "random":
            return None
        is_odd = frames_of(fov, label, "halves='even_odd'") % 2 == 1
        return np.where(is_odd, 0.5, 0.0)
