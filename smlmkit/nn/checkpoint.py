"""Training that survives the end of its process: its whole state in a file, now and then."""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from smlmkit import __version__
from smlmkit._atomic import check_output
from smlmkit.errors import InvalidInputError, ModelFileError
from smlmkit.nn.model_file import read_model, write_model


@dataclass(frozen=True)
class TrainingState:
    """All that training needs to go on as if it had never stopped.

    Parameters
    ----------
    tensors : dict of Tensor
        Weights, their moving average, the best ones, Adam's moments and the history; on the CPU.
    numbers : dict
        Random states, samples, seconds: what JSON can hold.
    """

    tensors: dict[str, Tensor]
    numbers: dict[str, Any]


@dataclass
class Checkpoint:
    """A file that holds the state of a training while it runs.

    Parameters
    ----------
    path : Path
        The file.
    fingerprint : str
        Stands for all that the training's outcome depends on: data, parameters, seed.
    every_seconds : float, default=60.0
        Time from one writing to the next; at 0 the file is written after every step.
    keep : bool, default=False
        Whether a training that has ended leaves its last state in the file, so that it is not run
        again, instead of removing the file.

    Notes
    -----
    The file is whole or not there, however the process ends. It is read strictly: a digest tells
    damage even where the file is still well-formed.
    """

    path: Path
    fingerprint: str
    every_seconds: float = 60.0
    keep: bool = False
    _last_written: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._last_written = time.monotonic()

    def read(self) -> TrainingState | None:
        """Read the state.

        Returns
        -------
        TrainingState or None
            None if there is no file.

        Raises
        ------
        ModelFileError
            If the file is damaged or no checkpoint.
        InvalidInputError
            If the file is the checkpoint of another training.
        OutputError
            If the file could not be written later.
        """
        check_output(self.path, overwrite=True)
        if not self.path.exists():
            return None
        try:
            tensors, header = read_model(self.path)
        except ModelFileError as error:
            if not self.path.exists():  # an equal training has just ended
                return None
            raise ModelFileError(f"{error}; remove it to train anew") from error
        if header.get("kind") != "checkpoint":
            raise ModelFileError(f"{self.path}: a model, not the checkpoint of a training")
        numbers = header.get("numbers")
        if not isinstance(numbers, dict) or header.get("digest") != _digest(tensors, numbers):
            raise ModelFileError(f"{self.path}: a damaged checkpoint; remove it to train anew")
        if header.get("fingerprint") != self.fingerprint:
            raise InvalidInputError(
                f"{self.path} is the checkpoint of another training (other data or parameters); "
                "remove it, or name another file"
            )
        return TrainingState(tensors, numbers)

    def is_due(self) -> bool:
        """Tell whether it is time to write.

        Returns
        -------
        bool
            Whether the last writing is `every_seconds` ago.
        """
        return time.monotonic() - self._last_written >= self.every_seconds

    def write(self, state: TrainingState) -> None:
        """Write the state; the file is whole or not there.

        Parameters
        ----------
        state : TrainingState
            The state.

        Raises
        ------
        OutputError
            If the file cannot be written.
        """
        header = {
            "kind": "checkpoint",
            "library_version": __version__,
            "fingerprint": self.fingerprint,
            "digest": _digest(state.tensors, state.numbers),
            "numbers": state.numbers,
        }
        write_model(self.path, state.tensors, header, overwrite=True)
        self._last_written = time.monotonic()

    def finish(self, state: TrainingState) -> None:
        """Remove the file of a training that has ended, or write its last state if `keep` is set.

        Parameters
        ----------
        state : TrainingState
            The state at the end.

        Raises
        ------
        OutputError
            If the file cannot be written.
        """
        if self.keep:
            self.write(state)
        else:
            self.remove()

    def remove(self) -> None:
        """Remove the file if it is there."""
        self.path.unlink(missing_ok=True)


def _digest(tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> str:
    """Give a text that any change of the state changes."""
    digest = hashlib.blake2b(json.dumps(numbers, sort_keys=True).encode(), digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
