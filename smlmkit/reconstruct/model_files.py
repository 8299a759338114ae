"""What of an estimator goes into a model file, and how it comes back.

A strategy's target is an object of any class. It is written by the name of its class and its
parameters, and made again only if smlmkit itself exports that class: no code of a file runs.
"""

import json
from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin

import smlmkit
from smlmkit._checks import check_positive, check_whole
from smlmkit.errors import InvalidInputError, ModelFileError, SmlmkitError
from smlmkit.nn.history import TrainingHistory
from smlmkit.nn.model_file import read_model, write_model
from smlmkit.nn.networks import network_without_weights
from smlmkit.reconstruct.learning import Member
from smlmkit.reconstruct.parameters import check_parameters, network_spec
from smlmkit.strategies import STRATEGIES, Strategy

# What belongs to the machine or the session rather than to the model stays out of model files.
_NOT_SAVED = (
    "checkpoint_folder", "compile", "device", "precision", "random_state", "verbose", "warm_start",
)  # fmt: skip


def write_members(
    path: str | PathLike[str],
    members: list[Member],
    parameters: Mapping[str, Any],
    summary: Mapping[str, Any],
    *,
    overwrite: bool,
) -> None:
    """Write trained networks to one file.

    Parameters
    ----------
    path : path-like
        The file.
    members : list of Member
        The networks and their histories.
    parameters : mapping
        The parameters they were trained with.
    summary : mapping
        What is known of the training tables, see `smlmkit.reconstruct.familiarity`.
    overwrite : bool
        Whether an existing file is replaced.

    Raises
    ------
    InvalidInputError
        If the strategy is not one of this library.
    OutputError
        If the file exists or cannot be written.
    """
    saved = {name: value for name, value in parameters.items() if name not in _NOT_SAVED}
    tensors, stopped_by = {}, []
    for number, member in enumerate(members):
        for name, tensor in member.network.state_dict().items():
            tensors[f"{number}.network.{name}"] = tensor
        for name, tensor in member.history.to_tensors().items():
            tensors[f"{number}.{name}"] = tensor
        stopped_by.append(member.history.stopped_by)
    header = {
        "library_version": smlmkit.__version__,
        "estimator": "N2NReconstructor",
        "parameters": {**saved, "strategy": _strategy_to_json(parameters["strategy"])},
        "summary": dict(summary),
        "stopped_by": stopped_by,
    }
    write_model(path, tensors, header, overwrite=overwrite)


def read_members(
    path: str | PathLike[str], defaults: Mapping[str, Any]
) -> tuple[list[Member], dict[str, Any], dict[str, Any]]:
    """Read what `write_members` wrote.

    Parameters
    ----------
    path : path-like
        The file.
    defaults : mapping
        The estimator's parameters, for those that are not in the file.

    Returns
    -------
    members : list of Member
        The networks, on the CPU, and their histories.
    parameters : dict
        The checked parameters.
    summary : dict
        What is known of the training tables.

    Raises
    ------
    ModelFileError
        If the file is missing, damaged, of another version, or no such model.
    """
    tensors, header = read_model(path)
    try:
        parameters, summary = dict(header["parameters"]), dict(header["summary"])
        unknown = parameters.keys() - (defaults.keys() - set(_NOT_SAVED))
        if unknown:
            raise ModelFileError(f"unknown parameters {', '.join(sorted(unknown))}")
        parameters["strategy"] = _strategy_from_json(parameters["strategy"])
        parameters = check_parameters({**defaults, **parameters})
        _check_summary(summary)
        members = [
            _read_member(number, tensors, parameters, str(stopped_by))
            for number, stopped_by in enumerate(header["stopped_by"])
        ]
        if tensors:
            raise ModelFileError(f"unexpected tensors {', '.join(sorted(tensors)[:3])}")
        if not 1 <= len(members) <= parameters["n_estimators"]:
            raise ModelFileError(f"{len(members)} of {parameters['n_estimators']} networks")
    except (
        AttributeError, KeyError, OverflowError, RuntimeError, TypeError, ValueError, SmlmkitError,
    ) as error:  # fmt: skip
        raise ModelFileError(f"{path}: not a model of this smlmkit: {error}") from error
    return members, parameters, summary


def _read_member(
    number: int,
    tensors: dict[str, torch.Tensor],
    parameters: Mapping[str, Any],
    stopped_by: str,
) -> Member:
    """Take one member's tensors out of all of them."""
    network = network_without_weights(network_spec(parameters))
    dtypes = {name: tensor.dtype for name, tensor in network.state_dict().items()}
    prefix = f"{number}.network."
    own = [name for name in tensors if name.startswith(prefix)]
    weights = {name.removeprefix(prefix): tensors.pop(name) for name in own}
    network.load_state_dict(weights, assign=True)
    for name, tensor in weights.items():
        is_finite = not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())
        if tensor.dtype != dtypes[name] or not is_finite:
            raise ModelFileError(f"damaged weights {name}")
    rows = {name: tensors.pop(f"{number}.{name}") for name in TrainingHistory().to_tensors()}
    return Member(network.eval(), TrainingHistory.from_tensors(rows, stopped_by))


def _check_summary(summary: Mapping[str, Any]) -> None:
    """Refuse what later comparisons with tables would stumble over."""
    for name in ("density", "uncertainty"):
        limits = summary[name]
        if name == "uncertainty" and limits is None:
            continue
        least, greatest = map(float, limits)
        if not 0 < least <= greatest < float("inf"):
            raise ModelFileError(f"damaged summary of the training tables: {name} {limits}")
    check_positive(intensity=summary["intensity"])
    for name in ("n_fields", "n_localizations"):
        check_whole(name, summary[name], 1)
    if summary["held_out_score"] is not None:
        float(summary["held_out_score"])


def _strategy_to_json(strategy: str | Strategy) -> Any:
    if isinstance(strategy, str):
        return strategy
    if STRATEGIES.get(strategy.name) is not type(strategy):
        raise InvalidInputError(
            f"a model file cannot hold your own strategy {type(strategy).__name__}: use pickle"
        )
    parameters = {
        name: _target_to_json(value)
        if isinstance(value, BaseEstimator)
        else np.asarray(value).tolist()  # plain numbers also of numpy's
        for name, value in strategy.get_params(deep=False).items()
    }
    return {"name": strategy.name, "parameters": parameters}


def _target_to_json(target: BaseEstimator) -> dict[str, Any] | None:
    """Describe one of smlmkit's own transformers; others come back as None."""
    name, parameters = type(target).__name__, target.get_params(deep=False)
    if getattr(smlmkit, name, None) is not type(target):
        return None
    try:
        json.dumps(parameters)
    except TypeError:
        return None
    return {"class": name, "parameters": parameters}


def _strategy_from_json(saved: Any) -> str | Strategy:
    if isinstance(saved, str):
        return saved
    # A range was a tuple before JSON made a list of it.
    parameters: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in saved["parameters"].items()
    }
    if (target := parameters.get("target")) is not None:
        if target["class"] not in smlmkit.__all__:
            raise ModelFileError(f"unknown target {target['class']!r}")
        target_class = getattr(smlmkit, target["class"])
        if not (isinstance(target_class, type) and issubclass(target_class, TransformerMixin)):
            raise ModelFileError(f"{target['class']} makes no targets")
        parameters["target"] = target_class(**target["parameters"])
    strategy: Strategy = STRATEGIES[saved["name"]](**parameters)
    return strategy
