"""From the name of a network and its numbers to the network."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from smlmkit._checks import check_positive, check_whole
from smlmkit.errors import InvalidInputError
from smlmkit.nn.base import Network
from smlmkit.nn.light import LightUNet
from smlmkit.nn.pix2pix import Pix2Pix
from smlmkit.nn.unet import UNet

_MAX_DEPTH = 8
_MAX_WIDTH = 1024
_MAX_SLICES = 256


@dataclass(frozen=True)
class NetworkSpec:
    """All that decides on a network's layers; plain values, which JSON can hold.

    Parameters
    ----------
    kind : {"unet", "pix2pix", "light"}
        Which network.
    depth : int
        Its levels.
    width : int
        Filters of the first level.
    norm : {"none", "batch"}
        How features are normalised.
    residual : bool
        Whether the network adds to a blur of its input.
    n_slices : int
        Channels of input and output.

    See Also
    --------
    specify_network : Checks the values and knows the papers'.
    """

    kind: str
    depth: int
    width: int
    norm: str
    residual: bool
    n_slices: int


_CLASSES: dict[str, type[UNet] | type[Pix2Pix] | type[LightUNet]] = {
    "unet": UNet,
    "pix2pix": Pix2Pix,
    "light": LightUNet,
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "unet": {"depth": 4, "width": 48, "norm": "none", "residual": False},
    "pix2pix": {"depth": 8, "width": 64, "norm": "batch", "residual": False},
    "light": {"depth": 4, "width": 32, "norm": "none", "residual": True},
}


def specify_network(
    kind: str,
    *,
    depth: int | None = None,
    width: int | None = None,
    norm: str | None = None,
    residual: bool | None = None,
    n_slices: int = 1,
) -> NetworkSpec:
    """Check what a user asks for and fill in what the papers chose.

    Parameters
    ----------
    kind : {"unet", "pix2pix", "light"}
        Which network: that of Lefebvre et al., that of Berberich et al., or `LightUNet`.
    depth : int, optional
        Its levels, from 1 to 8; by default the paper's, 4 for the U-Net and 8 for pix2pix, and 4
        for the light one.
    width : int, optional
        Filters of the first level, from 1 to 1024; by default the paper's, 48 and 64, and 32 for
        the light one.
    norm : {"none", "batch"}, optional
        How features are normalised; by default the paper's, batch for pix2pix, none otherwise.
    residual : bool, optional
        Whether the network adds to a blur of its input, which is learnt, too; by default the light
        one does.
    n_slices : int, default=1
        Channels of input and output, from 1 to 256.

    Returns
    -------
    NetworkSpec
        What to build.

    Raises
    ------
    InvalidInputError
        If a value is none of these.

    Examples
    --------
    >>> specify_network("unet", depth=3)
    NetworkSpec(kind='unet', depth=3, width=48, norm='none', residual=False, n_slices=1)
    """
    if not (isinstance(kind, str) and kind in _DEFAULTS):
        raise InvalidInputError(f"network must be 'unet', 'pix2pix' or 'light', got {kind!r}")
    given = {"depth": depth, "width": width, "norm": norm, "residual": residual}
    chosen: dict[str, Any] = {
        name: _DEFAULTS[kind][name] if value is None else value for name, value in given.items()
    }
    check_whole("depth", chosen["depth"], 1, _MAX_DEPTH)
    check_whole("width", chosen["width"], 1, _MAX_WIDTH)
    check_whole("n_slices", n_slices, 1, _MAX_SLICES)
    if chosen["norm"] not in ("none", "batch"):
        raise InvalidInputError(f"norm must be 'none' or 'batch', got {norm!r}")
    if not isinstance(chosen["residual"], bool | np.bool_):
        raise InvalidInputError(f"residual must be True or False, got {residual!r}")
    return NetworkSpec(
        kind=kind,
        depth=int(chosen["depth"]),
        width=int(chosen["width"]),
        norm=str(chosen["norm"]),
        residual=bool(chosen["residual"]),
        n_slices=int(n_slices),
    )


def build_network(spec: NetworkSpec, seed: int, intensity: float) -> Network:
    """Make a network with random weights without touching torch's global random state.

    Parameters
    ----------
    spec : NetworkSpec
        From `specify_network`.
    seed : int
        Seed of the weights and of the randomness in training.
    intensity : float
        The count at which an image is bright, which scales the output of pix2pix. The U-Net's is
        not bounded and needs none.

    Returns
    -------
    Network
        The network, on the CPU, ready to predict (``eval``).

    Raises
    ------
    InvalidInputError
        If the intensity is not a positive number.

    Examples
    --------
    >>> spec = specify_network("pix2pix", depth=2, width=4)
    >>> network = build_network(spec, seed=0, intensity=5.0)
    >>> network.multiple, network.halo
    (4, 8)
    >>> network(torch.zeros(1, 1, 8, 12)).shape
    torch.Size([1, 1, 8, 12])
    """
    check_positive(intensity=intensity)
    network = network_without_weights(spec).to_empty(device="cpu")
    network.draw_weights(torch.Generator().manual_seed(seed))
    if isinstance(network, Pix2Pix):
        network.intensity.fill_(intensity)
    return network


def network_without_weights(spec: NetworkSpec) -> Network:
    """Make a network that takes no memory: its weights have shapes but no values.

    Parameters
    ----------
    spec : NetworkSpec
        From `specify_network`.

    Returns
    -------
    Network
        The network, on torch's meta device, ready to predict (``eval``) once
        ``load_state_dict(weights, assign=True)`` has given it all its weights. Its making draws
        nothing from torch's random state.
    """
    with torch.device("meta"):
        network = _CLASSES[spec.kind](
            spec.depth,
            spec.width,
            norm=spec.norm,
            residual=spec.residual,
            n_slices=spec.n_slices,
        )
    return network.eval()
