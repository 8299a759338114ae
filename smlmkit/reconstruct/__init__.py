"""Reconstruction of dense images from sparse localizations by trained networks.

`estimator` is what users see. `parameters` checks what they ask for, `learning` trains,
`validation` scores while training, `prediction` reconstructs, `familiarity` compares tables with
those of the training, `model_files` and `pickling` write and read.
"""

from smlmkit.reconstruct.estimator import N2NReconstructor, load_model

__all__ = ["N2NReconstructor", "load_model"]
