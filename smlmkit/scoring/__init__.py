"""Scorers: callables (estimator, X, y=None) -> float for scikit-learn's searches, higher is better.

`frc` and `likelihood` need no ground truth, `similarity` compares with y.
"""

from smlmkit.scoring.frc import FRCScorer
from smlmkit.scoring.held_out import compare_held_out, count_held_out
from smlmkit.scoring.likelihood import PoissonScorer
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
