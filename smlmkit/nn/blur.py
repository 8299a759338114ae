"""A linear filter that is learnt: the start that a residual network improves on."""

import torch
from torch import Tensor, nn

_SIDE = 15
_SIGMAS_AND_SHARES = ((1.0, 0.4), (3.0, 0.6))


class LearnedBlur(nn.Conv2d):
    """Convolve every slice with a kernel of its own, which is a blur before training.

    Parameters
    ----------
    n_slices : int
        Channels of the images.

    Notes
    -----
    The first kernel is the mean of two Gaussians, of standard deviation 1 pixel with weight 0.4 and
    of 3 pixels with weight 0.6, on 15 x 15 pixels and of sum 1. A network whose output is added to
    this starts from a density estimate, where another one must first learn to be dark.
    """

    reach = _SIDE // 2
    """Pixels around a pixel on which the result there depends."""

    def __init__(self, n_slices: int) -> None:
        super().__init__(n_slices, n_slices, _SIDE, padding=self.reach, groups=n_slices, bias=False)

    def reset_to_blur(self) -> None:
        """Set the kernels as they are before training."""
        nn.init.zeros_(self.weight)
        offset = torch.arange(-self.reach, self.reach + 1)
        squares = offset[:, None] ** 2 + offset**2
        with torch.no_grad():
            for sigma, share in _SIGMAS_AND_SHARES:
                gaussian = torch.exp(-squares / (2 * sigma**2))
                self.weight += share * gaussian / gaussian.sum()

    def forward(self, image: Tensor) -> Tensor:
        """Filter images.

        Parameters
        ----------
        image : Tensor of shape (n, n_slices, height, width)
            Counts.

        Returns
        -------
        Tensor of shape (n, n_slices, height, width)
            The filtered images.
        """
        return super().forward(image)
