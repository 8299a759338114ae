"""A fitted estimator's state as plain values and numpy arrays.

So a pickle loads without a GPU, and skops, which runs no code of a file, can hold an estimator.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from smlmkit.nn.checkpoint import TrainingState
from smlmkit.nn.history import TrainingHistory
from smlmkit.nn.networks import network_without_weights
from smlmkit.reconstruct.parameters import network_spec


def members_to_plain(state: Mapping[str, Any]) -> dict[str, Any]:
    """Turn networks, histories and training states into dictionaries of arrays.

    Parameters
    ----------
    state : mapping
        An estimator's attributes.

    Returns
    -------
    dict
        The attributes without objects of torch or of this library but for parameters.
    """
    plain = dict(state)
    if "networks_" not in plain:
        return plain
    plain["networks_"] = [_to_arrays(network.state_dict()) for network in state["networks_"]]
    plain["histories_"] = [
        {"tensors": _to_arrays(history.to_tensors()), "stopped_by": history.stopped_by}
        for history in state["histories_"]
    ]
    plain["_progress"] = [
        (pairs_state, None if one is None else (_to_arrays(one.tensors), one.numbers))
        for pairs_state, one in state["_progress"]
    ]
    return plain


def members_from_plain(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Undo `members_to_plain`.

    Parameters
    ----------
    plain : mapping
        What it gave.

    Returns
    -------
    dict
        An estimator's attributes.
    """
    state = dict(plain)
    if "networks_" not in state:
        return state
    spec = network_spec(plain["fitted_parameters_"])
    state["networks_"] = []
    for weights in plain["networks_"]:
        network = network_without_weights(spec)
        network.load_state_dict(_to_tensors(weights), assign=True)
        state["networks_"].append(network.eval())
    state["histories_"] = [
        TrainingHistory.from_tensors(_to_tensors(history["tensors"]), history["stopped_by"])
        for history in plain["histories_"]
    ]
    state["_progress"] = [
        (pairs_state, None if one is None else TrainingState(_to_tensors(one[0]), one[1]))
        for pairs_state, one in plain["_progress"]
    ]
    return state


def _to_arrays(tensors: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}


def _to_tensors(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    # Memory of its own: what comes out of a pickle may be read-only.
    return {name: torch.tensor(np.asarray(array)) for name, array in arrays.items()}
