"""Simulated acquisitions with a known truth: structures, emitters on them, and their blinks."""

from smlmkit.simulate.datasets import Truth, make_acquisitions, make_filaments

__all__ = ["Truth", "make_acquisitions", "make_filaments"]
