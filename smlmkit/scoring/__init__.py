"""Scorers: callables (estimator, X, y=None) -> float for scikit-learn's searches, higher is better.

`held_out` and `frc` need no ground truth, `similarity` compares with y.
"""

from smlmkit.scoring.frc import FRCScorer
from smlmkit.scoring.held_out import PoissonScorer, compare_held_out, count_held_out
from smlmkit.scoring.similarity import MSSSIMScorer, PSNRScorer, SSIMScorer

__all__ = [
    "FRCScorer",
    "MSSSIMScorer",
    "PSNRScorer",
    "PoissonScorer",
    "SSIMScorer",
    "compare_held_out",
    "count_held_out",
]
