"""Dropout whose randomness is its own, not torch's global state."""

import numpy as np
import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Set features to 0 at random while training, and scale the others so that the mean stays.

    Parameters
    ----------
    probability : float, default=0.5
        Which share is set to 0.
    seed : int, default=0
        Seed of the masks.

    Attributes
    ----------
    seed : int
        Seed of the masks.
    n_draws : int
        How many masks were drawn: together with the seed all there is to remember.

    Notes
    -----
    `torch.nn.Dropout` draws from torch's global random state. Here mask number k is drawn by a new
    generator on the features' device, seeded by (seed, k); so the state is two integers, whatever
    the device, and copies of a network draw the same masks as the original.
    """

    def __init__(self, probability: float = 0.5, seed: int = 0) -> None:
        super().__init__()
        self.probability = probability
        self.seed = seed
        self.n_draws = 0

    def forward(self, features: Tensor) -> Tensor:
        """Drop features in training, give them back as they are otherwise.

        Parameters
        ----------
        features : Tensor of shape (n, channels, height, width)
            The input.

        Returns
        -------
        Tensor of shape (n, channels, height, width)
            The output.
        """
        if not self.training:
            return features
        mask: Tensor = self._draw_mask(features)
        return features * mask / (1 - self.probability)

    # Compiled code knows no generators.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _draw_mask(self, features: Tensor) -> Tensor:
        """Draw 0 or 1 for each feature, in the order of channels-last memory."""
        mixed = np.random.SeedSequence((self.seed, self.n_draws)).generate_state(1, np.uint64)
        self.n_draws += 1
        generator = torch.Generator(features.device).manual_seed(int(mixed[0] >> 1))
        n, channels, height, width = features.shape
        mask = features.new_empty((n, height, width, channels))
        return mask.bernoulli_(1 - self.probability, generator=generator).permute(0, 3, 1, 2)
