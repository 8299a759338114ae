"""The U-Net of Lefebvre et al. (2020)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

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
    """

    def __init__(self, in_channels: int, width: int, first_kernel: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, width, first_kernel, padding=first_kernel // 2)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Apply both convolutions.

        Parameters
        ----------
        features : Tensor of shape (n, in_channels, height, width)
            The input.

        Returns
        -------
        Tensor of shape (n, filters, height, width)
            The output.
        """
        features = functional.leaky_relu(self.first(features), _NEGATIVE_SLOPE, inplace=True)
        return functional.leaky_relu(self.second(features), _NEGATIVE_SLOPE, inplace=True)


class UNet(nn.Module):
    """U-Net without normalisation, of equally many filters at every level.

    Parameters
    ----------
    depth : int, default=4
        Number of levels; each halves the resolution. Sides of the input are multiples of 2^depth.
    width : int, default=48
        Filters of every convolution.

    Notes
    -----
    Going down, each level is a `ConvolutionPair` and a 2 x 2 max pooling; the very first
    convolution is 7 x 7. Going up, each level doubles the resolution (nearest neighbour), appends
    the features of the same level and applies a `ConvolutionPair`. A 3 x 3 convolution without
    activation gives the single output channel. With the defaults these are the paper's 397,537
    weights.

    References
    ----------
    Lefebvre et al. (2020), Noise2Noise for single-molecule localization microscopy.
    """

    def __init__(self, depth: int = 4, width: int = 48) -> None:
        super().__init__()
        self.depth = depth
        self.down = nn.ModuleList(
            ConvolutionPair(1, width, 7) if level == 0 else ConvolutionPair(width, width)
            for level in range(depth)
        )
        self.up = nn.ModuleList(ConvolutionPair(2 * width, width) for _ in range(depth))
        self.output = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Reconstruct images.

        Parameters
        ----------
        image : Tensor of shape (n, 1, height, width)
            Counts; height and width are multiples of 2^depth.

        Returns
        -------
        Tensor of shape (n, 1, height, width)
            Densities on the scale of the training target.
        """
        features, skipped = image, []
        for convolutions in self.down:
            features = convolutions(features)
            skipped.append(features)
            features = functional.max_pool2d(features, 2)
        for convolutions in self.up:
            features = functional.interpolate(features, scale_factor=2, mode="nearest")
            features = convolutions(torch.cat([features, skipped.pop()], dim=1))
        output: Tensor = self.output(features)
        return output


def unet_without_weights(depth: int, width: int) -> UNet:
    """Make a U-Net that takes no memory: its weights have shapes but no values.

    Parameters
    ----------
    depth, width : int
        As in `UNet`.

    Returns
    -------
    UNet
        The network, on torch's meta device. Its making draws nothing from torch's random state.
    """
    with torch.device("meta"):
        return UNet(depth, width)


def build_unet(depth: int, width: int, seed: int) -> UNet:
    """Make a U-Net with random weights without touching torch's global random state.

    Weights are drawn as in He et al. (2015) for the leaky ReLU; biases are 0.

    Parameters
    ----------
    depth, width : int
        As in `UNet`.
    seed : int
        Seed of the weights.

    Returns
    -------
    UNet
        The network, on the CPU.
    """
    network = unet_without_weights(depth, width).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            fan_in = layer.in_channels * math.prod(layer.kernel_size)
            std = math.sqrt(2 / (1 + _NEGATIVE_SLOPE**2) / fan_in)
            with torch.no_grad():
                layer.weight.normal_(0, std, generator=generator)
                if layer.bias is not None:
                    layer.bias.zero_()
    return network


def receptive_halo(depth: int) -> int:
    """Count the pixels around a pixel that can change the U-Net's output there.

    Parameters
    ----------
    depth : int
        As in `UNet`.

    Returns
    -------
    int
        A bound on the distance in pixels, rounded up to a multiple of 2^depth, so that tiles read
        with this halo stay aligned with the poolings.

    Notes
    -----
    At level k a pixel stands for 2^k pixels: a pair of 3 x 3 convolutions reaches 2 * 2^k further,
    once going down and once going up. Pooling and its undoing together reach 2^k - 1 further, at
    most 2^depth - 1 in all. The 7 x 7 convolution adds 2 and the last one 1.
    """
    multiple = 1 << depth
    reach = sum(4 << level for level in range(depth)) + (multiple - 1) + 2 + 1
    return math.ceil(reach / multiple) * multiple
