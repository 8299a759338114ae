"""The U-Net of Lefebvre et al. (2020)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from smlmkit.nn.base import Network, crop, doubled, make_norm, windows_going_up
from smlmkit.nn.blur import LearnedBlur
from smlmkit.tiling import Slices

FIRST_SCALE = 0.1
"""Factor of the last weights of a network that starts from a blur."""

_NEGATIVE_SLOPE = 0.1


class ConvolutionPair(nn.Module):
    """Two convolutions of `width` filters, each followed by a leaky ReLU.

    Parameters
    ----------
    in_channels : int
        Channels of the input.
    width : int
        Filters of both convolutions.
    first_kernel : int, default=3
        Side of the first convolution in pixels; the second is 3 x 3.
    norm : {"none", "batch"}, default="none"
        Whether batch normalisation follows each convolution; its offset replaces the bias.
    """

    def __init__(
        self, in_channels: int, width: int, first_kernel: int = 3, norm: str = "none"
    ) -> None:
        super().__init__()
        bias = norm == "none"
        self.first = nn.Conv2d(
            in_channels, width, first_kernel, padding=first_kernel // 2, bias=bias
        )
        self.first_norm = make_norm(norm, width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=bias)
        self.second_norm = make_norm(norm, width)

    def forward(self, features: Tensor) -> Tensor:
        """Apply both convolutions.

        Parameters
        ----------
        features : Tensor of shape (n, in_channels, height, width)
            The input.

        Returns
        -------
        Tensor of shape (n, width, height, width)
            The output.
        """
        features = self.first_norm(self.first(features))
        features = functional.leaky_relu(features, _NEGATIVE_SLOPE, inplace=True)
        features = self.second_norm(self.second(features))
        return functional.leaky_relu(features, _NEGATIVE_SLOPE, inplace=True)


class UNet(Network):
    """U-Net of equally many filters at every level, as in the paper without normalisation.

    Parameters
    ----------
    depth : int, default=4
        Number of levels; each halves the resolution. Sides of the input are multiples of 2^depth.
    width : int, default=48
        Filters of every convolution.
    norm : {"none", "batch"}, default="none"
        Whether batch normalisation follows each convolution but the last.
    residual : bool, default=False
        Whether the output is added to that of a `LearnedBlur` of the input, from which training
        then starts.
    n_slices : int, default=1
        Channels of input and output: the slices in z, which are reconstructed together.

    Notes
    -----
    Going down, each level is a `ConvolutionPair` and a 2 x 2 max pooling; the very first
    convolution is 7 x 7. Going up, each level doubles the resolution (nearest neighbour), appends
    the features of the same level and applies a `ConvolutionPair`. A 3 x 3 convolution without
    activation gives the output. With the defaults these are the paper's 397,537 weights.

    References
    ----------
    Lefebvre et al. (2020), Noise2Noise for single-molecule localization microscopy.
    """

    def __init__(
        self,
        depth: int = 4,
        width: int = 48,
        *,
        norm: str = "none",
        residual: bool = False,
        n_slices: int = 1,
    ) -> None:
        super().__init__(depth, unet_halo(depth), n_slices)
        self.blur = LearnedBlur(n_slices) if residual else None
        self.down = nn.ModuleList(
            ConvolutionPair(n_slices, width, 7, norm=norm)
            if level == 0
            else ConvolutionPair(width, width, norm=norm)
            for level in range(depth)
        )
        self.up = nn.ModuleList(ConvolutionPair(2 * width, width, norm=norm) for _ in range(depth))
        self.output = nn.Conv2d(width, n_slices, 3, padding=1)

    def draw_weights(self, generator: torch.Generator) -> None:
        """Draw weights as in He et al. (2015) for the leaky ReLU; biases are 0.

        With `residual`, those of the last convolution are a tenth as large.

        Parameters
        ----------
        generator : torch.Generator
            Source of all randomness.
        """
        for layer in self.modules():
            if isinstance(layer, LearnedBlur):
                layer.reset_to_blur()
            elif isinstance(layer, nn.Conv2d):
                fan_in = layer.in_channels * math.prod(layer.kernel_size)
                std = math.sqrt(2 / (1 + _NEGATIVE_SLOPE**2) / fan_in)
                nn.init.normal_(layer.weight, 0, std, generator=generator)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
            elif isinstance(layer, nn.BatchNorm2d):
                layer.reset_parameters()
        if self.blur is not None:
            with torch.no_grad():
                self.output.weight *= FIRST_SCALE

    def _transform(self, image: Tensor, keep: Slices) -> Tensor:
        features, skipped = image, []
        for convolutions in self.down:
            features = convolutions(features)
            skipped.append(features)
            features = functional.max_pool2d(features, 2)
        held = (slice(0, features.shape[-2]), slice(0, features.shape[-1]))
        # A pair of convolutions sees 2 pixels further, the last convolution of all 1 more.
        windows = windows_going_up(keep, image, [3] + [2] * (len(self.up) - 1))
        for convolutions in self.up:
            window = windows.pop()
            features = functional.interpolate(features, scale_factor=2, mode="nearest")
            features = crop(features, window, doubled(held))
            features = convolutions(torch.cat([features, skipped.pop()[(..., *window)]], dim=1))
            held = window
        output: Tensor = crop(self.output(features), keep, held)
        return output if self.blur is None else self.blur(image)[(..., *keep)] + output


def unet_halo(depth: int) -> int:
    """Count the pixels around a tile that can change the U-Net's output in it.

    Parameters
    ----------
    depth : int
        As in `UNet`.

    Returns
    -------
    int
        For tiles whose borders are multiples of 2^depth; itself one.

    Notes
    -----
    At level k a pixel stands for 2^k pixels. On the way back from a border, the last convolution
    and the pair of level 0 reach 3 pixels, rounded up to 4 by the pooling; each further pair going
    up doubles that, up to 2^(depth + 1) at the coarsest level. Going down, its pair reaches 2^depth
    further, the next one half of that, and so on; the pair of level 0, which has the 7 x 7
    convolution, reaches 4. That makes 4 * 2^depth in all.
    """
    return 4 << depth
