"""What all networks have in common."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from smlmkit.errors import InvalidInputError
from smlmkit.nn.dropout import Dropout
from smlmkit.tiling import Slices, grow, within


class Network(nn.Module, ABC):
    """A network from images of counts to images of densities, as large as they were.

    Parameters
    ----------
    depth : int
        How often the network halves the resolution.
    halo : int
        Pixels around a tile on which the output in it may depend; a multiple of 2^depth. The tile's
        borders are such multiples, too.
    n_slices : int
        Channels of the input and of the output: the slices in z.

    Attributes
    ----------
    multiple : int
        Sides of the input are multiples of this, 2^depth. Tiles that start at multiples of it meet
        the network's coarse pixels alike.
    halo : int
        As above.
    n_slices : int
        As above.
    """

    def __init__(self, depth: int, halo: int, n_slices: int) -> None:
        super().__init__()
        self.multiple = 1 << depth
        self.halo = halo
        self.n_slices = n_slices

    @abstractmethod
    def draw_weights(self, generator: torch.Generator) -> None:
        """Set all weights as they are before training; running statistics become those of no data.

        Parameters
        ----------
        generator : torch.Generator
            Source of all randomness, also of the seeds of later randomness in training.
        """

    @abstractmethod
    def _transform(self, image: Tensor, keep: Slices) -> Tensor:
        """Apply the network as `forward` does, to an image whose shape was checked."""

    def forward(self, image: Tensor, keep: Slices | None = None) -> Tensor:
        """Reconstruct images.

        Parameters
        ----------
        image : Tensor of shape (n, n_slices, height, width)
            Counts; height and width are multiples of `multiple`.
        keep : tuple of slice or None, default=None
            The rows and columns of the output that are wanted; None is all. What only the others
            need is not computed.

        Returns
        -------
        Tensor of shape (n, n_slices, rows, columns)
            Densities on the scale of the training target.

        Raises
        ------
        InvalidInputError
            If the image has another number of slices or a side is not a multiple.
        """
        _, n_slices, height, width = image.shape
        if n_slices != self.n_slices or height % self.multiple or width % self.multiple:
            raise InvalidInputError(
                f"this network takes images (patches, too) of {self.n_slices} slices whose sides "
                f"are multiples of {self.multiple} pixels, "
                f"got {n_slices} slices of {height} x {width} pixels"
            )
        return self._transform(image, keep or (slice(0, height), slice(0, width)))

    def get_random_state(self) -> dict[str, list[int]]:
        """Tell where the network's own randomness in training stands.

        Returns
        -------
        dict of list of int
            Seed and number of draws of each `Dropout` by its name; JSON can hold it. Empty where
            nothing is random.
        """
        return {name: [layer.seed, layer.n_draws] for name, layer in self._dropouts().items()}

    def set_random_state(self, state: Mapping[str, list[int]]) -> None:
        """Continue with the randomness where another network, built alike, stood.

        Parameters
        ----------
        state : mapping of list of int
            From `get_random_state`.

        Raises
        ------
        InvalidInputError
            If the state is that of a network built otherwise.
        """
        layers = self._dropouts()
        if state.keys() != layers.keys():
            raise InvalidInputError(
                f"a random state of the layers {sorted(state)} does not fit a network whose "
                f"random layers are {sorted(layers)}"
            )
        for name, (seed, n_draws) in state.items():
            layers[name].seed, layers[name].n_draws = seed, n_draws

    def _dropouts(self) -> dict[str, Dropout]:
        return {name: part for name, part in self.named_modules() if isinstance(part, Dropout)}


def windows_going_up(keep: Slices, image: Tensor, reaches: Sequence[int]) -> list[Slices]:
    """Tell which part of each level is needed, where each halves the resolution of the one before.

    Parameters
    ----------
    keep : tuple of slice
        What is wanted in the end, at full resolution.
    image : Tensor of shape (..., height, width)
        The whole, at full resolution.
    reaches : sequence of int
        How many pixels further the layers at each level see, the finest level first.

    Returns
    -------
    list of tuple of slice
        Rows and columns at each level, the finest first; all are even, so that the next coarser
        level has a whole number of pixels for them.
    """
    windows, (height, width) = [], image.shape[-2:]
    for reach in reaches:
        coarse = [
            slice(part.start // 2, -(-part.stop // 2))
            for part in grow(keep, reach, (height, width))
        ]
        keep = (coarse[0], coarse[1])
        windows.append(doubled(keep))
        height, width = height // 2, width // 2
    return windows


def doubled(box: Slices) -> Slices:
    """Tell where a part of a level lies at twice the resolution.

    Parameters
    ----------
    box : tuple of slice
        Rows and columns.

    Returns
    -------
    tuple of slice
        Rows and columns of the same part.
    """
    rows, columns = (slice(2 * part.start, 2 * part.stop) for part in box)
    return rows, columns


def crop(features: Tensor, box: Slices, held: Slices) -> Tensor:
    """Cut a part out of features that are themselves a part of a level.

    Parameters
    ----------
    features : Tensor of shape (..., height, width)
        What to cut.
    box, held : tuple of slice
        Rows and columns that are wanted, and those that `features` are.

    Returns
    -------
    Tensor of shape (..., rows, columns)
        A view.
    """
    return features[(..., *within(box, held))]


def make_norm(norm: str, channels: int) -> nn.Module:
    """Make the layer that normalises features.

    Parameters
    ----------
    norm : {"none", "batch"}
        Nothing, or batch normalisation.
    channels : int
        Channels of the features.

    Returns
    -------
    Module
        The layer.
    """
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.Identity()
