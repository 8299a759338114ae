"""Where and in which precision networks compute."""

from typing import TypeVar

import torch
from torch import nn

from smlmkit.errors import InvalidInputError

PRECISIONS = ("auto", "float32", "bfloat16", "float16")

NetworkT = TypeVar("NetworkT", bound=nn.Module)


def resolve_device(device: str) -> torch.device:
    """Find the device that a name asks for.

    Parameters
    ----------
    device : str
        ``"auto"`` (CUDA, else Apple's MPS, else the CPU) or any name that torch knows.

    Returns
    -------
    torch.device
        The device.

    Raises
    ------
    InvalidInputError
        If torch does not know the name or the device is not there.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInputError(f"device {device!r} cannot be used: {reason}") from None


def move_network(network: NetworkT, device: torch.device) -> NetworkT:
    """Move a network to a device, with its weights in the layout that convolves fastest.

    Parameters
    ----------
    network : Module
        The network; changed in place.
    device : torch.device
        Where it shall compute.

    Returns
    -------
    Module
        The same network.
    """
    network.to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def resolve_precision(precision: str, device: torch.device) -> str:
    """Find the precision that a name asks for.

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16", "float16"}
        ``"auto"`` is bfloat16 where the hardware computes with it, else float32.
    device : torch.device
        Where to compute.

    Returns
    -------
    {"float32", "bfloat16", "float16"}
        The numbers to compute with.

    Raises
    ------
    InvalidInputError
        If it is none of these, or float16 and the device is no GPU of CUDA.
    """
    if precision not in PRECISIONS:
        raise InvalidInputError(f"precision must be one of {PRECISIONS}, got {precision!r}")
    if precision == "float16" and device.type != "cuda":
        raise InvalidInputError(
            f"precision='float16' needs a CUDA device, not {device.type!r}; 'bfloat16' does not"
        )
    if precision != "auto":
        return precision
    return "bfloat16" if _computes_with_bfloat16(device) else "float32"


def _computes_with_bfloat16(device: torch.device) -> bool:
    """Tell whether bfloat16 is faster than float32: where it is emulated it is slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    # Older versions of torch cannot tell.
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Make the context in which a network computes with a precision.

    Parameters
    ----------
    device : torch.device
        Where to compute.
    precision : {"float32", "bfloat16", "float16"}
        The numbers to compute with.

    Returns
    -------
    torch.autocast
        The context.
    """
    lower = torch.float16 if precision == "float16" else torch.bfloat16
    return torch.autocast(device.type, lower, enabled=precision != "float32")
