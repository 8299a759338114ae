"""Simulated acquisitions with a known truth: structures, emitters on them, and their blinks."""

from smlmkit.simulate.acquisition import make_blinks
from smlmkit.simulate.datasets import (
    make_acquisitions,
    make_actin,
    make_microtubules,
    make_primitives,
    make_two_filaments,
)
from smlmkit.simulate.structures import Curves
from smlmkit.simulate.truth import Truth

__all__ = [
    "Curves",
    "Truth",
    "make_acquisitions",
    "make_actin",
    "make_blinks",
    "make_microtubules",
    "make_primitives",
    "make_two_filaments",
]
