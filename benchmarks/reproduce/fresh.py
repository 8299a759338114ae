"""Noise2Noise pairs from fields that are simulated while a network is trained."""

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.reproduce.simulated import simulate
from smlmkit import DynamicHalves, Localizations
from smlmkit.nn.pairs import Images, Pairs

FIELDS_AT_A_TIME = 16
PAIRS_OF_A_SET = 4096
_FIELD_SIZE = 5120.0


class FreshHalves(DynamicHalves):
    """Dynamic halves of simulated fields; every 4096 pairs come from 16 new ones.

    The tables given to `fit` say how large the structures' intensities are, and nothing else.

    Parameters
    ----------
    first_seed : int, default=1_000_000
        The seed of the first field; the others follow.
    """

    def __init__(self, first_seed: int = 1_000_000) -> None:
        super().__init__()
        self.first_seed = first_seed

    def make_pairs(
        self,
        fovs: Sequence[Localizations],  # noqa: ARG002
        targets: Any = None,  # noqa: ARG002
        *,
        patch_size: int,
        pixel_size: float,
        z_edges: Any = None,  # noqa: ARG002
        seed: int,
    ) -> Pairs:
        """Make the source of pairs."""

        def pairs_of(number: int) -> Pairs:
            first_seed = self.first_seed + number * FIELDS_AT_A_TIME
            seeds = range(first_seed, first_seed + FIELDS_AT_A_TIME)
            tables = [simulate(field_seed, field_size=_FIELD_SIZE).table for field_seed in seeds]
            return DynamicHalves().make_pairs(
                tables, patch_size=patch_size, pixel_size=pixel_size, seed=seed + number
            )

        return _FreshPairs(pairs_of)


class _FreshPairs(Pairs):
    """Pairs of one set of fields after another."""

    def __init__(self, pairs_of: Callable[[int], Pairs]) -> None:
        self._pairs_of = pairs_of
        self._begin(0)

    def draw(self, n_pairs: int) -> tuple[Images, Images]:
        """Draw the next pairs; a batch comes from one set."""
        if self._n_drawn >= PAIRS_OF_A_SET:
            self._begin(self._set + 1)
        self._n_drawn += n_pairs
        return self._pairs.draw(n_pairs)

    def get_state(self) -> dict[str, Any]:
        """Tell where the draws are."""
        return {"set": self._set, "drawn": self._n_drawn, "pairs": self._pairs.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        if state["set"] != self._set:
            self._begin(state["set"])
        self._n_drawn = state["drawn"]
        self._pairs.set_state(state["pairs"])

    def _begin(self, number: int) -> None:
        self._set, self._n_drawn = number, 0
        self._pairs = self._pairs_of(number)
