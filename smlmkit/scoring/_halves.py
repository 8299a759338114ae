"""What the scorers share that split every field of view in two."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import xarray as xr

from smlmkit._checks import check_whole, random_source
from smlmkit.errors import InvalidInputError
from smlmkit.localizations import Localizations, RandomState
from smlmkit.resolution import Split, repeated_splits
from smlmkit.samples import Target
from smlmkit.scoring._fields import FieldScorer, reconstruct
from smlmkit.scoring.held_out import count_held_out

REFERENCE_PIXEL = 10.0
"""Edge in nm of the pixel to which scores of every pixel size refer."""


class HeldOut(NamedTuple):
    """A reconstruction of half A, what it was made from, and the held-out half B."""

    image: xr.DataArray
    half_a: Localizations
    counts: xr.DataArray
    exposure: float


@dataclass(frozen=True, kw_only=True)
class HeldOutScorer(FieldScorer):
    """What the held-out scorers share: a subclass says how to `_compare` image and counts."""

    split: Split = "auto"
    n_blocks: int = 10
    repeats: int = 1
    random_state: RandomState = 0

    def __post_init__(self) -> None:
        if self.split not in get_args(Split):
            raise InvalidInputError(
                f"split must be 'auto', 'frames' or 'random', got {self.split!r}"
            )
        check_whole("n_blocks", self.n_blocks, low=2)
        check_whole("repeats", self.repeats, low=1)
        random_source(self.random_state)

    def _targets(
        self,
        fovs: Sequence[Localizations],
        y: object,  # noqa: ARG002
        single: bool,  # noqa: ARG002
    ) -> Sequence[Target | None]:
        return [None] * len(fovs)

    def _score_field(
        self,
        estimator: Any,
        fov: Localizations,
        target: Any,  # noqa: ARG002
    ) -> list[dict[str, float]]:
        return [self._compare(held_out) for held_out in self.hold_out(estimator, fov)]

    def hold_out(self, estimator: Any, fov: Localizations) -> Iterator[HeldOut]:
        """Reconstruct half A of a field of view and count half B, once a repeat.

        Parameters
        ----------
        estimator : estimator or Pipeline
            Fitted, with a `predict` or else a `transform` that makes an image of a table.
        fov : Localizations
            The field of view.

        Yields
        ------
        HeldOut
            The reconstruction and what it is compared with.

        Raises
        ------
        InvalidInputError
            If a half is empty or has no localization on the reconstruction's grid.
        """
        for halves in repeated_splits(
            fov, self.split, self.n_blocks, self.repeats, self.random_state
        ):
            if 0 in map(len, halves):
                raise InvalidInputError(
                    f"a half is empty after splitting {len(fov)} localizations in two"
                )
            image = reconstruct(estimator, halves[0])
            yield HeldOut(image, halves[0], *count_held_out(image, *halves))

    @abstractmethod
    def _compare(self, held_out: HeldOut) -> dict[str, float]:
        """Score a reconstruction of half A against the counts of half B."""
