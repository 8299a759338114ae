"""Trained networks on disk: safetensors, with what else must be known as JSON in its header.

Nothing in such a file is ever executed.
"""

import json
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from smlmkit._atomic import whole_or_nothing
from smlmkit.errors import ModelFileError

_FORMAT_VERSION = 1
_HEADER_KEY = "smlmkit_model"


def write_model(
    path: str | PathLike[str],
    weights: dict[str, torch.Tensor],
    header: dict[str, Any],
    *,
    overwrite: bool,
) -> None:
    """Write weights and a header; the file is whole or not there.

    Parameters
    ----------
    path : path-like
        The file.
    weights : dict of Tensor
        The network's state.
    header : dict
        Anything that JSON can hold.
    overwrite : bool
        Whether an existing file is replaced.

    Raises
    ------
    OutputError
        If the file exists or cannot be written.
    """
    text = json.dumps({"format_version": _FORMAT_VERSION, **header})
    contiguous = {name: tensor.contiguous() for name, tensor in weights.items()}
    with whole_or_nothing(path, overwrite=overwrite) as partial:
        partial.write_bytes(save(contiguous, metadata={_HEADER_KEY: text}))


def read_model(path: str | PathLike[str]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read weights and header.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    weights : dict of Tensor
        The network's state.
    header : dict
        What was given to `write_model`.

    Raises
    ------
    ModelFileError
        If the file is missing, damaged, no smlmkit model, or of a newer format.
    """
    if not Path(path).is_file():
        raise ModelFileError(f"{path}: there is no such file")
    try:
        with safe_open(path, framework="pt") as file:
            header = _parse_header(path, (file.metadata() or {}).get(_HEADER_KEY))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelFileError(
            f"{path}: not a whole smlmkit model file, it may be truncated ({error})"
        ) from error
    return weights, header


def _parse_header(path: str | PathLike[str], text: str | None) -> dict[str, Any]:
    try:
        header = json.loads(text or "")
        version = int(header.pop("format_version"))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ModelFileError(f"{path}: a safetensors file, but no smlmkit model") from None
    if version != _FORMAT_VERSION:
        raise ModelFileError(
            f"{path}: model format {version}, written by smlmkit "
            f"{header.get('library_version', 'of unknown version')}; "
            f"this smlmkit reads format {_FORMAT_VERSION}"
        )
    return dict(header)
