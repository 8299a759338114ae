"""What every loss of two images has in common."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from smlmkit.errors import InvalidInputError, InvalidTypeError


class ImageLoss(nn.Module, ABC):
    """The mean over images of a loss that compares two of them; it has no weights.

    Numbers are float32, or float64 where an input is: half precision is converted, and autocast is
    off, since differences of squares leave nothing of eight bits. (The backward pass belongs
    outside of autocast, as torch asks for.) As the mean over images, the loss of a batch is the
    mean of the losses of its parts where these are equally large.
    """

    _min_side_px: ClassVar[int] = 1

    def forward(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Compare images.

        Parameters
        ----------
        predictions, targets : Tensor of shape (..., height, width)
            Images of the same shape, with any leading dimensions.

        Returns
        -------
        Tensor of shape ()
            The mean loss of all images, as float32, or float64 where an input is.

        Raises
        ------
        InvalidTypeError
            If an input is no tensor of floating-point numbers.
        InvalidInputError
            If the shapes differ or are too small for the loss.
        """
        self._check(predictions, targets)
        is_double = torch.float64 in (predictions.dtype, targets.dtype)
        dtype = torch.float64 if is_double else torch.float32
        with _without_autocast(predictions.device.type):
            return self._compare(predictions.to(dtype), targets.to(dtype))

    @abstractmethod
    def _compare(self, first: Tensor, second: Tensor) -> Tensor:
        """Give the mean loss of predictions and targets that are checked and of one type."""

    def _check(self, predictions: Any, targets: Any) -> None:
        for name, images in (("predictions", predictions), ("targets", targets)):
            if not (isinstance(images, Tensor) and images.is_floating_point()):
                got = images.dtype if isinstance(images, Tensor) else type(images).__name__
                raise InvalidTypeError(
                    f"{name} must be a tensor of floating-point numbers, got {got}"
                )
        shape = tuple(predictions.shape)
        if targets.shape != shape:
            raise InvalidInputError(
                "predictions and targets must have the same shape, got "
                f"{shape} and {tuple(targets.shape)}"
            )
        if len(shape) < 2 or min(shape[-2:]) < self._min_side_px or 0 in shape:
            raise InvalidInputError(
                f"predictions must hold images of at least {self._min_side_px} pixels a side, "
                f"got shape {shape}"
            )


def _without_autocast(device_type: str) -> AbstractContextManager[object]:
    if not torch.amp.is_autocast_available(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)
