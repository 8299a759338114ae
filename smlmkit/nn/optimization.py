"""Steps of training: a network's weights, Adam's moments and the weights' moving average."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from smlmkit.errors import InvalidInputError
from smlmkit.nn.base import Network
from smlmkit.nn.devices import autocast, move_network, resolve_precision
from smlmkit.nn.plan import TrainingPlan

Batch = tuple[NDArray[np.float32], NDArray[np.float32]]
Weights = dict[str, Tensor]

# A CPU's caches serve about so many pixels at once best: 16 to 32 patches of 64 x 64.
_PIXELS_AT_ONCE = 2**17


class Optimization:
    """A network that is being trained on a device.

    Parameters
    ----------
    network : Network
        Trained in place.
    loss : Module
        Maps predictions and targets to a mean over images.
    plan : TrainingPlan
        Precision, Adam's parameters, clipping and averaging.
    device : torch.device
        Where to compute.
    """

    def __init__(
        self, network: Network, loss: nn.Module, plan: TrainingPlan, device: torch.device
    ) -> None:
        self._precision = resolve_precision(plan.precision, device)
        self.network = move_network(network, device).train()
        self._compiled = torch.compile(network, dynamic=False) if plan.compile else network
        self._loss = loss.to(device)
        self._plan = plan
        self._device = device
        self._splits = device.type == "cpu" and not any(
            isinstance(layer, nn.BatchNorm2d) for layer in network.modules()
        )
        self._adam = torch.optim.Adam(
            network.parameters(), lr=plan.learning_rate, betas=(plan.beta_1, 0.999)
        )
        self._scaler = torch.amp.GradScaler(device.type, enabled=self._precision == "float16")
        self._n_steps = 0
        self._average = _copy(network.state_dict()) if plan.ema_decay is not None else None
        self._best: Weights | None = None

    def take_step(self, batch: Batch, learning_rate: float) -> Tensor:
        """Change the weights a little, so that the loss of a batch falls.

        Parameters
        ----------
        batch : tuple of ndarray of float32, shape (n, n_slices, side, side)
            Inputs and targets.
        learning_rate : float
            Adam's step size.

        Returns
        -------
        Tensor
            The mean loss before the step, on the device, which may still be at work on it.

        Raises
        ------
        InvalidInputError
            If the network cannot be compiled.
        """
        for group in self._adam.param_groups:
            group["lr"] = learning_rate
        self._adam.zero_grad(set_to_none=True)
        with _compiler_errors():
            loss = self._add_gradients(*(_to_device(images, self._device) for images in batch))
        self._scaler.unscale_(self._adam)
        if self._plan.max_gradient_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self._plan.max_gradient_norm)
        self._scaler.step(self._adam)
        self._scaler.update()
        self._update_average()
        self._n_steps += 1
        return loss

    def _add_gradients(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Add up the gradient of the mean loss, part by part where that is faster."""
        n_pixels = inputs[:, 0].numel()
        n_parts = min(len(inputs), math.ceil(n_pixels / _PIXELS_AT_ONCE)) if self._splits else 1
        # Compiled code is for one shape; a smaller last batch is not worth compiling again.
        is_full = len(inputs) == self._plan.batch_size
        forward = self._compiled if is_full else self.network
        total = torch.zeros((), device=self._device)
        for some_inputs, some_targets in zip(
            inputs.tensor_split(n_parts), targets.tensor_split(n_parts), strict=True
        ):
            with autocast(self._device, self._precision):
                outputs = forward(some_inputs)
            share = len(some_inputs) / len(inputs)
            loss = self._loss(outputs.float(), some_targets) * share
            self._scaler.scale(loss).backward()
            total += loss.detach()
        return total

    @torch.no_grad()
    def _update_average(self) -> None:
        if self._average is None or self._plan.ema_decay is None:
            return
        # At first the memory is short, so that the random weights are forgotten.
        decay = min(self._plan.ema_decay, (1 + self._n_steps) / (10 + self._n_steps))
        for name, weights in self.network.state_dict().items():
            if weights.is_floating_point():
                self._average[name].lerp_(weights, 1 - decay)
            else:
                self._average[name].copy_(weights)

    @contextmanager
    def ready_to_predict(self) -> Iterator[Network]:
        """Put the averaged weights into the network and turn it to prediction, for a while.

        Yields
        ------
        Network
            The network, on the device.
        """
        weights = _copy(self.network.state_dict())
        self.network.load_state_dict(self._average or weights)
        self.network.eval()
        try:
            with torch.no_grad():
                yield self.network
        finally:
            self.network.load_state_dict(weights)
            self.network.train()

    def remember_as_best(self) -> None:
        """Keep the present weights, averaged, as the best ones so far."""
        self._best = _copy(self._average or self.network.state_dict())

    def forget_best(self) -> None:
        """Let the next weights that are validated be the best ones so far."""
        self._best = None

    def finish(self) -> None:
        """Leave the network on the CPU, ready to predict.

        Its weights are the best ones if some were remembered, else the averaged ones.
        """
        self.network.load_state_dict(self._best or self._average or self.network.state_dict())
        self.network.to("cpu").eval()

    def get_state(self) -> tuple[Weights, dict[str, Any]]:
        """Give all that the next step depends on, apart from its batch.

        Returns
        -------
        tensors : dict of Tensor
            On the CPU.
        numbers : dict
            What JSON can hold.
        """
        groups = {"weights": self.network.state_dict()}
        if self._average is not None:
            groups["average"] = self._average
        if self._best is not None:
            groups["best"] = self._best
        for name, parameter in self.network.named_parameters():
            for moment, values in self._adam.state[parameter].items():
                groups.setdefault(f"adam_{moment}", {})[name] = values
        tensors = {
            f"{group}.{name}": values.detach().to("cpu", copy=True)
            for group, members in groups.items()
            for name, values in members.items()
        }
        numbers = {
            "n_steps": self._n_steps,
            "network": self.network.get_random_state(),
            "scaler": self._scaler.state_dict(),
        }
        return tensors, numbers

    def set_state(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Go on from where another optimisation was.

        Parameters
        ----------
        tensors, numbers : mapping
            From `get_state`, for a network built alike.

        Raises
        ------
        KeyError, RuntimeError, TypeError, ValueError
            If they are of another network or another plan.
        """
        weights = self.network.state_dict()
        self.network.load_state_dict(_take("weights", tensors, weights))
        self.network.set_random_state(numbers["network"])
        self._n_steps = int(numbers["n_steps"])
        if numbers["scaler"]:
            self._scaler.load_state_dict(numbers["scaler"])
        if self._average is not None:
            # A plan that averages may follow one that did not.
            source = "average" if _has("average", tensors) else "weights"
            self._average = _take(source, tensors, weights)
        if _has("best", tensors):
            self._best = _take("best", tensors, weights)
        if _has("adam_step", tensors):
            for name, parameter in self.network.named_parameters():
                self._adam.state[parameter] = {
                    moment: _copy_like(tensors[f"adam_{moment}.{name}"], reference)
                    for moment, reference in (
                        ("step", torch.tensor(0.0)),
                        ("exp_avg", parameter),
                        ("exp_avg_sq", parameter),
                    )
                }


def _to_device(images: NDArray[np.float32], device: torch.device) -> Tensor:
    tensor = torch.from_numpy(images)
    if device.type == "cuda":  # pinned memory is copied while the GPU is still at work
        tensor = tensor.pin_memory()
    tensor = tensor.to(device, non_blocking=device.type == "cuda")
    return tensor.contiguous(memory_format=torch.channels_last)


def _copy(weights: Mapping[str, Tensor]) -> Weights:
    return {name: values.detach().clone() for name, values in weights.items()}


def _copy_like(values: Tensor, reference: Tensor) -> Tensor:
    """Copy into the memory layout and onto the device of a tensor of the same shape."""
    if values.shape != reference.shape:
        raise ValueError(f"shape {tuple(values.shape)} instead of {tuple(reference.shape)}")
    return torch.empty_like(reference, requires_grad=False).copy_(values)


def _has(group: str, tensors: Mapping[str, Tensor]) -> bool:
    return any(name.startswith(f"{group}.") for name in tensors)


def _take(group: str, tensors: Mapping[str, Tensor], references: Mapping[str, Tensor]) -> Weights:
    return {
        name: _copy_like(tensors[f"{group}.{name}"], reference)
        for name, reference in references.items()
    }


@contextmanager
def _compiler_errors() -> Iterator[None]:
    """Say what to do where torch cannot compile: its own errors are pages long."""
    try:
        yield
    except RuntimeError as error:
        if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        reason = str(error).splitlines()[0]
        raise InvalidInputError(
            f"compile=True: torch cannot compile the network here ({reason}); is there a C++ "
            "compiler? compile=False needs none"
        ) from error
