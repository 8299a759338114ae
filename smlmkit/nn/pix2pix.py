"""The generator of pix2pix by Isola et al. (2017), as Berberich et al. (2021) use it."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from smlmkit.nn.base import Network, crop, doubled, make_norm, windows_going_up
from smlmkit.nn.blur import LearnedBlur
from smlmkit.nn.dropout import Dropout
from smlmkit.tiling import Slices

_NEGATIVE_SLOPE = 0.2
_WEIGHT_SD = 0.02
_MAX_GROWTH = 8
_N_DROPOUTS = 3
_FIRST_OUTPUT = -math.log(3)


class Pix2Pix(Network):
    """U-Net that halves the resolution by strided convolutions, down to a pixel of 2^depth.

    Parameters
    ----------
    depth : int, default=8
        Number of levels; each halves the resolution. Sides of the input are multiples of 2^depth.
    width : int, default=64
        Filters of the first level; they double from level to level up to 8 * width.
    norm : {"none", "batch"}, default="batch"
        Whether batch normalisation follows the convolutions but the first, the innermost and the
        last.
    residual : bool, default=False
        Whether the network gives what is to be added to a `LearnedBlur` of the input.
    n_slices : int, default=1
        Channels of input and output: the slices in z, which are reconstructed together.

    Attributes
    ----------
    intensity : Tensor of shape ()
        The count at which an image is bright, 1 until it is set. It is a buffer, so it is kept
        with the weights.

    Notes
    -----
    Going down, each level is a 4 x 4 convolution of stride 2 after a leaky ReLU of slope 0.2; going
    up, a transposed one after a ReLU. Before each but the innermost level goes up, the features of
    the same level going down are appended. In training a half of the features that the three
    innermost levels give upwards are dropped. With the defaults these are the 54.4 million weights
    of the paper's network, but for its three colours.

    The network sees counts / intensity, so that an empty pixel is 0 like the zeros around the
    image, and its last features f give intensity * (1 + tanh f), in [0, 2 intensity]. The same
    number is used for every image: a prediction can be read as a density, and two of them
    compared, which normalising each image by its own extremes makes impossible. Densities above
    twice the intensity cannot be reached. 1 + tanh f is computed as 2 / (1 + exp(-2 f)), which
    loses no digits near 0, where most pixels of these images are.

    With `residual` the output is the blur + intensity * tanh f.

    The innermost features are not normalised, so that one image of 2^depth pixels a side is
    enough to train on.

    References
    ----------
    Isola et al. (2017), Image-to-image translation with conditional adversarial networks.
    Berberich et al. (2021), Fourier ring correlation and anisotropic kernel density estimation
    improve deep learning based SMLM reconstruction of microtubules.
    """

    intensity: Tensor

    def __init__(
        self,
        depth: int = 8,
        width: int = 64,
        *,
        norm: str = "batch",
        residual: bool = False,
        n_slices: int = 1,
    ) -> None:
        super().__init__(depth, pix2pix_halo(depth), n_slices)
        self.blur = LearnedBlur(n_slices) if residual else None
        self.register_buffer("intensity", torch.ones(()))
        widths = [width * min(2**level, _MAX_GROWTH) for level in range(depth)]
        innermost, bias = depth - 1, norm == "none"
        self.first = _halve(n_slices, width, bias)
        self.down = nn.ModuleList(
            nn.Sequential(
                nn.LeakyReLU(_NEGATIVE_SLOPE),
                _halve(widths[level - 1], widths[level], bias),
                make_norm("none" if level == innermost else norm, widths[level]),
            )
            for level in range(1, depth)
        )
        self.up = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(inplace=True),
                _double(
                    widths[level] if level == innermost else 2 * widths[level],
                    widths[level - 1],
                    bias,
                ),
                make_norm(norm, widths[level - 1]),
                Dropout(seed=level) if level > innermost - _N_DROPOUTS else nn.Identity(),
            )
            for level in range(innermost, 0, -1)
        )
        self.output = _double(width if depth == 1 else 2 * width, n_slices, bias=True)

    def draw_weights(self, generator: torch.Generator) -> None:
        """Draw weights as the paper does: N(0, 0.02), gains N(1, 0.02), biases and offsets 0.

        But the last bias is such that, without `residual`, training starts from about a fifth of
        the intensity. These images are mostly dark: started at the intensity itself, as a bias of 0
        does, networks without normalisation overshoot to f << 0, where nothing is left to learn
        from.

        Parameters
        ----------
        generator : torch.Generator
            Source of all randomness.
        """
        nn.init.ones_(self.intensity)
        for layer in self.modules():
            if isinstance(layer, LearnedBlur):
                layer.reset_to_blur()
            elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, 0, _WEIGHT_SD, generator=generator)
                if layer.bias is not None:
                    is_scale = layer is self.output and self.blur is None
                    nn.init.constant_(layer.bias, _FIRST_OUTPUT if is_scale else 0)
            elif isinstance(layer, nn.BatchNorm2d):
                layer.reset_parameters()
                nn.init.normal_(layer.weight, 1, _WEIGHT_SD, generator=generator)
            elif isinstance(layer, Dropout):
                layer.seed = int(torch.randint(2**63 - 1, (), generator=generator))
                layer.n_draws = 0

    def _transform(self, image: Tensor, keep: Slices) -> Tensor:
        skipped = [self.first(image / self.intensity)]
        for level in self.down:
            skipped.append(level(skipped[-1]))
        features = skipped.pop()
        held = (slice(0, features.shape[-2]), slice(0, features.shape[-1]))
        # A transposed convolution sees 1 pixel further at the coarser of its levels.
        windows = windows_going_up(keep, image, [0] + [1] * len(self.up))
        for level in self.up:
            window = windows.pop()
            features = crop(level(features), window, doubled(held))
            features = torch.cat([features, skipped.pop()[(..., *window)]], dim=1)
            held = window
        # In full precision also under autocast.
        output = crop(self.output(functional.relu(features)), keep, doubled(held))
        output = output.to(self.intensity.dtype)
        if self.blur is not None:
            blurred: Tensor = self.blur(image)[(..., *keep)]
            return blurred + self.intensity * torch.tanh(output)
        return 2 * self.intensity * torch.sigmoid(2 * output)


def pix2pix_halo(depth: int) -> int:
    """Count the pixels around a tile that can change pix2pix's output in it.

    Parameters
    ----------
    depth : int
        As in `Pix2Pix`.

    Returns
    -------
    int
        For tiles whose borders are multiples of 2^depth; itself one. At least the reach of a
        `LearnedBlur`.

    Notes
    -----
    A transposed convolution computes pixels 2m and 2m + 1 from pixels m - 1 to m + 1 of the next
    coarser level, the former without m + 1, the latter without m - 1. A convolution computes a
    pixel m from pixels 2m - 1 to 2m + 2. So a tile that begins at pixel 0 reaches pixel -1 of the
    innermost level, which saw pixels from 1 - 2^(depth + 1) on.
    """
    return max(2 << depth, 8)


def _halve(in_channels: int, out_channels: int, bias: bool) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1, bias=bias)


def _double(in_channels: int, out_channels: int, bias: bool) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1, bias=bias)
