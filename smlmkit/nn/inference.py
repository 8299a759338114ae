"""Prediction of images of any size in overlapping tiles."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from smlmkit.nn.unet import UNet, receptive_halo
from smlmkit.tiling import TilePlan

_TILE = 512


def predict_image(
    network: UNet, counts: NDArray[np.float32], device: torch.device, *, tile: int = _TILE
) -> NDArray[np.float32]:
    """Apply a U-Net to a whole image, tile by tile.

    The halo of a tile is the network's receptive field, so the tiles together equal the network
    applied to the whole image; memory does not grow with the image but for the image itself.

    Parameters
    ----------
    network : UNet
        The trained network, on `device`.
    counts : ndarray of float32, shape (height, width)
        Localizations per pixel.
    device : torch.device
        Where to compute.
    tile : int, default=512
        Side of a tile in pixels without its halo; rounded up to a multiple of 2^depth.

    Returns
    -------
    ndarray of float32, shape (height, width)
        The network's output.
    """
    multiple = 2**network.depth
    height, width = counts.shape
    padded = np.pad(counts, ((0, -height % multiple), (0, -width % multiple)))
    output = np.empty_like(padded)
    plan = TilePlan(
        (padded.shape[0], padded.shape[1]),
        tile=math.ceil(tile / multiple) * multiple,
        halo=receptive_halo(network.depth),
    )
    with torch.inference_mode():
        for read, crop, write in plan:
            batch = torch.from_numpy(padded[read]).to(device)[None, None]
            batch = batch.contiguous(memory_format=torch.channels_last)
            output[write] = network(batch)[0, 0].cpu().numpy()[crop]
    return output[:height, :width]
