"""Trained networks on disk: safetensors, with what else must be known as JSON in its header.

Nothing in such a file is ever executed.
"""

import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from smlmkit._atomic import whole_or_nothing
from smlmkit.errors import ModelFileError

_FORMAT_VERSION = 2
_HEADER_KEY = "smlmkit_model"


def write_model(
    path: str | PathLike[str],
    tensors: Mapping[str, torch.Tensor],
    header: Mapping[str, Any],
    *,
    overwrite: bool,
) -> None:
    """Write tensors and a header; the file is whole or not there.

    Parameters
    ----------
    path : path-like
        The file.
    tensors : mapping of Tensor
        The network's state, and whatever else is too long for the header.
    header : mapping
        Anything that JSON can hold.
    overwrite : bool
        Whether an existing file is replaced.

    Raises
    ------
    OutputError
        If the file exists or cannot be written.
    """
    text = json.dumps({"format_version": _FORMAT_VERSION, **header})
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with whole_or_nothing(path, overwrite=overwrite) as partial:
        partial.write_bytes(save(contiguous, metadata={_HEADER_KEY: text}))


def read_model(path: str | PathLike[str]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read tensors and header.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    tensors : dict of Tensor
        What was given to `write_model`.
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
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelFileError(
            f"{path}: not a whole smlmkit model file, it may be truncated ({error})"
        ) from error
    return tensors, header


def _parse_header(path: str | PathLike[str], text: str | None) -> dict[str, Any]:
    try:
        header = json.loads(text or "")
        version = header.pop("format_version")
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        raise ModelFileError(f"{path}: a safetensors file, but no smlmkit model") from None
    if version != _FORMAT_VERSION:
        raise ModelFileError(
            f"{path}: model format {version}, written by smlmkit "
            f"{header.get('library_version', 'of unknown version')}; "
            f"this smlmkit reads format {_FORMAT_VERSION}"
        )
    return dict(header)
