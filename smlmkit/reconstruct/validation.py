"""The held-out score of a network on fields of view that it is not trained on."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from smlmkit.drawing import render_counts
from smlmkit.errors import InvalidInputError
from smlmkit.localizations import Localizations
from smlmkit.metrics.frc import area_up_to
from smlmkit.nn.base import Network
from smlmkit.nn.inference import predict_image

_CUTOFF = 0.2
_REFERENCE_PIXEL = 10.0
"""The cutoff is in cycles per pixel of so many nm, as that of `smlmkit.FRCScorer`."""


class _Halves(NamedTuple):
    """Counts of both halves of a field of view, shape (n_slices, height_px, width_px)."""

    shown: NDArray[np.float32]
    held_out: NDArray[np.float32]


class HeldOutFields:
    """Fields of view for validation, each split in two once.

    Parameters
    ----------
    fovs : sequence of Localizations
        The tables.
    pixel_size : float
        Edge of a pixel in nm.
    z_edges : ndarray of float64, shape (n_slices + 1,), or None
        The edges of the slices of depth in nm.
    device : torch.device
        Where to compute.
    precision : str
        As in `smlmkit.nn.inference.predict_image`.

    Raises
    ------
    InvalidInputError
        If a half is empty.

    Notes
    -----
    The score is the one of `smlmkit.FRCScorer`: the area of the FRC, up to 0.2 cycles per 10 nm,
    of the network's output for one half and the raw other half; the mean over fields and slices.
    Blocks of frames make the halves where there are frames. The output needs no scale for it.
    """

    def __init__(
        self,
        fovs: Sequence[Localizations],
        pixel_size: float,
        z_edges: NDArray[np.float64] | None,
        device: torch.device,
        precision: str,
    ) -> None:
        self._fields = []
        for fov in fovs:
            halves = fov.split(random_state=0)
            counts = _Halves(*(count_planes(half, pixel_size, z_edges) for half in halves))
            if not (counts.shown.any() and counts.held_out.any()):
                raise InvalidInputError(
                    f"a half is empty after splitting the {len(fov)} localizations of a field of "
                    "view for validation: leave it out, or set early_stopping=False"
                )
            self._fields.append(counts)
        self._cutoff = _CUTOFF * pixel_size / _REFERENCE_PIXEL
        self._device = device
        self._precision = precision

    def score(self, network: Network) -> float:
        """Score a network.

        Parameters
        ----------
        network : Network
            On the device, in the state for prediction.

        Returns
        -------
        float
            The score; higher is better.
        """
        scores = []
        for shown, held_out in self._fields:
            image, _ = predict_image([network], [shown], self._device, precision=self._precision)
            scores += [
                area_up_to(self._cutoff, *planes)
                for planes in zip(image, held_out, strict=True)
                if planes[1].any()
            ]
        return float(np.mean(scores))


def count_planes(
    fov: Localizations, pixel_size: float, z_edges: NDArray[np.float64] | None
) -> NDArray[np.float32]:
    """Count localizations per pixel as the networks take them.

    Parameters
    ----------
    fov : Localizations
        The table.
    pixel_size : float
        Edge of a pixel in nm.
    z_edges : ndarray of float64, shape (n_slices + 1,), or None
        The edges of the slices of depth in nm.

    Returns
    -------
    ndarray of float32, shape (n_slices, height_px, width_px)
        The counts; one slice where there are no edges.
    """
    counts: NDArray[np.float32] = render_counts(fov, pixel_size, z_edges).to_numpy()
    return counts.reshape(-1, *counts.shape[-2:])
