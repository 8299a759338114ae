"""How well an image resolves: Fourier correlations of halves, over a field, depth or density.

`filament_profile` cuts across filaments of a known distance instead.
"""

from smlmkit.resolution.curve import FRCCurve
from smlmkit.resolution.filaments import filament_profile
from smlmkit.resolution.fractions import frc_by_fraction
from smlmkit.resolution.frc import frc_curve, frc_resolution
from smlmkit.resolution.halves import Split, repeated_splits
from smlmkit.resolution.local import frc_map
from smlmkit.resolution.single_image import decorrelation_resolution
from smlmkit.resolution.stacks import fourier_shell_correlation, frc_of_slices

__all__ = [
    "FRCCurve",
    "Split",
    "decorrelation_resolution",
    "filament_profile",
    "fourier_shell_correlation",
    "frc_by_fraction",
    "frc_curve",
    "frc_map",
    "frc_of_slices",
    "frc_resolution",
    "repeated_splits",
]
