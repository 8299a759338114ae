"""Strategies: how training pairs are made from tables of localizations.

All of them draw through the same kernels. A localization holds a ticket in [0, 1), its own or one
drawn anew in every sample; the input takes the tickets of one interval, the target those of another
one, unless it shows a second table or an image of the same crop.
"""

from collections.abc import Mapping
from types import MappingProxyType

from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.strategies.base import Strategy
from smlmkit.strategies.dense import NoiseToClean, SparseToDense
from smlmkit.strategies.halves import DynamicHalves, FixedHalves

__all__ = [
    "STRATEGIES",
    "DynamicHalves",
    "FixedHalves",
    "NoiseToClean",
    "SparseToDense",
    "Strategy",
    "resolve_strategy",
]

STRATEGIES: Mapping[str, type[Strategy]] = MappingProxyType(
    {
        strategy.name: strategy
        for strategy in (FixedHalves, DynamicHalves, NoiseToClean, SparseToDense)
    }
)
"""The strategies by their names."""


def resolve_strategy(strategy: str | Strategy) -> Strategy:
    """Turn a name into a strategy, and check its parameters.

    Parameters
    ----------
    strategy : {"fixed", "dynamic", "n2c", "sparse2dense"} or Strategy
        A name stands for the strategy with its default parameters.

    Returns
    -------
    Strategy
        The strategy; a given one itself.

    Raises
    ------
    InvalidInputError
        If there is no strategy of this name, or a parameter is out of range.
    InvalidTypeError
        If it is neither a name nor a strategy.

    Examples
    --------
    >>> resolve_strategy("dynamic")
    DynamicHalves()
    """
    if isinstance(strategy, str):
        if strategy not in STRATEGIES:
            names = ", ".join(map(repr, STRATEGIES))
            raise InvalidInputError(
                f"strategy must be one of {names} or a Strategy, got {strategy!r}"
            )
        return STRATEGIES[strategy]()
    if not isinstance(strategy, Strategy):
        raise InvalidTypeError(f"strategy must be a name or a Strategy, got {strategy!r}")
    strategy.check_parameters()
    return strategy
