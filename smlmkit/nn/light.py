"""A U-Net on blocks of 2 x 2 pixels beside a linear filter: more image for the same work."""

import torch
from torch import Tensor
from torch.nn import functional

from smlmkit.nn.base import Network, crop, doubled
from smlmkit.nn.blur import LearnedBlur
from smlmkit.nn.unet import FIRST_SCALE, UNet
from smlmkit.tiling import Slices

_BLOCK = 2


class LightUNet(Network):
    """The paper's U-Net at half the resolution, whose output is added to a blur of the input.

    Parameters
    ----------
    depth : int, default=4
        Levels of the U-Net. Sides of the input are multiples of 2^(depth + 1).
    width : int, default=32
        Filters of every convolution.
    norm : {"none", "batch"}, default="none"
        As in `UNet`.
    residual : bool, default=True
        Whether the output is added to that of a `LearnedBlur` of the input.
    n_slices : int, default=1
        Channels of input and output: the slices in z, which are reconstructed together.

    Notes
    -----
    Blocks of 2 x 2 pixels become four channels and, at the end, pixels again, so nothing is lost.
    Most of the U-Net's work is at full resolution, where pixels of 10 nm hold structures of 25 nm
    and more: on blocks, a quarter of the work sees twice as far. The last convolution starts with a
    tenth of the usual weights, so that training starts from the blur.
    """

    def __init__(
        self,
        depth: int = 4,
        width: int = 32,
        *,
        norm: str = "none",
        residual: bool = True,
        n_slices: int = 1,
    ) -> None:
        unet = UNet(depth, width, norm=norm, n_slices=_BLOCK**2 * n_slices)
        super().__init__(depth + 1, _BLOCK * unet.halo, n_slices)
        self.unet = unet
        self.blur = LearnedBlur(n_slices) if residual else None

    def draw_weights(self, generator: torch.Generator) -> None:
        """Draw weights as in `UNet`, those of the last convolution a tenth as large.

        Parameters
        ----------
        generator : torch.Generator
            Source of all randomness.
        """
        self.unet.draw_weights(generator)
        with torch.no_grad():
            self.unet.output.weight *= FIRST_SCALE
        if self.blur is not None:
            self.blur.reset_to_blur()

    def _transform(self, image: Tensor, keep: Slices) -> Tensor:
        rows, columns = (slice(part.start // 2, -(-part.stop // 2)) for part in keep)
        blocks = self.unet(functional.pixel_unshuffle(image, _BLOCK), (rows, columns))
        output = crop(functional.pixel_shuffle(blocks, _BLOCK), keep, doubled((rows, columns)))
        return output if self.blur is None else self.blur(image)[(..., *keep)] + output
