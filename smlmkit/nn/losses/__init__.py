"""Losses for training: what a network's images are told from their targets by."""

from smlmkit.nn.losses.expression import LOSS_NAMES, WeightedSum, check_loss, parse_loss
from smlmkit.nn.losses.frc import AreaFRCLoss
from smlmkit.nn.losses.pixelwise import PoissonLoss
from smlmkit.nn.losses.similarity import MSSSIMLoss, SSIMLoss

__all__ = [
    "LOSS_NAMES",
    "AreaFRCLoss",
    "MSSSIMLoss",
    "PoissonLoss",
    "SSIMLoss",
    "WeightedSum",
    "check_loss",
    "parse_loss",
]
