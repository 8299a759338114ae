"""What a user asks for, checked before any work starts."""

from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from smlmkit._checks import check_between, check_whole
from smlmkit.drawing import check_slice_edges
from smlmkit.errors import InvalidInputError
from smlmkit.grid import check_pixel_size
from smlmkit.nn.losses import parse_loss
from smlmkit.nn.networks import NetworkSpec, network_without_weights, specify_network
from smlmkit.nn.plan import TrainingPlan
from smlmkit.strategies import Strategy, resolve_strategy

_SWITCHES = ("early_stopping", "tta", "warm_start")


def check_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Check every parameter of `N2NReconstructor` and give all of them as plain Python objects.

    Parameters
    ----------
    parameters : mapping
        Names and values as the user gave them.

    Returns
    -------
    dict
        The same; but for the strategy, JSON can hold the values.

    Raises
    ------
    InvalidInputError, InvalidTypeError
        If a parameter is unknown or out of range.
    """
    checked = {name: _plain(value) for name, value in parameters.items()}
    resolve_strategy(checked["strategy"])
    if (edges := slice_edges(checked)) is not None:
        checked["z_bins"] = edges.tolist()
    parse_loss(checked["loss"], data_range=1.0)
    spec = network_spec(checked)
    check_pixel_size(checked["pixel_size"])
    check_whole("patch_size", checked["patch_size"], 1, 4096)
    check_whole("patience", checked["patience"], 1)
    training_plan(checked)
    check_whole("n_estimators", checked["n_estimators"], 1, 1000)
    check_whole("n_splits", checked["n_splits"], 0, 1000)
    check_between(0, 1, closed="right", subset_share=checked["subset_share"])
    check_between(0, 1, closed="neither", validation_fraction=checked["validation_fraction"])
    for name in _SWITCHES:
        if not isinstance(checked[name], bool):
            raise InvalidInputError(f"{name} must be True or False, got {checked[name]!r}")
    if checked["early_stopping"] and checked["epoch_size"] >= checked["max_samples"]:
        raise InvalidInputError(
            f"early_stopping validates after every epoch_size={checked['epoch_size']:,} pairs and "
            f"could stop nothing with max_samples={checked['max_samples']:,}: lower epoch_size"
        )
    _check_patches(checked["patch_size"], spec)
    _check_checkpoints(checked)
    return checked


def network_spec(parameters: Mapping[str, Any]) -> NetworkSpec:
    """Give the network that parameters ask for.

    Parameters
    ----------
    parameters : mapping
        The estimator's parameters.

    Returns
    -------
    NetworkSpec
        Its kind and size.

    Raises
    ------
    InvalidInputError
        If one of its parameters is unknown or out of range.
    """
    edges = slice_edges(parameters)
    return specify_network(
        parameters["network"],
        depth=parameters["depth"],
        width=parameters["width"],
        norm=parameters["norm"],
        residual=parameters["residual"],
        n_slices=1 if edges is None else len(edges) - 1,
    )


def training_plan(parameters: Mapping[str, Any], **changes: Any) -> TrainingPlan:
    """Give how long and how fast to train.

    Parameters
    ----------
    parameters : mapping
        The estimator's checked parameters.
    **changes : Any
        What is otherwise.

    Returns
    -------
    TrainingPlan
        What `smlmkit.nn.training.train` takes.
    """
    names = (
        "max_samples", "max_seconds", "batch_size", "learning_rate", "schedule", "beta_1",
        "ema_decay", "max_gradient_norm", "precision", "compile", "epoch_size",
    )  # fmt: skip
    patience = parameters["patience"] if parameters["early_stopping"] else None
    asked = {name: parameters[name] for name in names} | {"patience": patience}
    return TrainingPlan(**(asked | changes))


def slice_edges(parameters: Mapping[str, Any]) -> NDArray[np.float64] | None:
    """Give the edges of the slices of depth.

    Parameters
    ----------
    parameters : mapping
        The estimator's parameters.

    Returns
    -------
    ndarray of float64, shape (n_slices + 1,), or None
        Rising edges in nm; None for flat images.

    Raises
    ------
    InvalidInputError
        If `z_bins` are no rising edges.
    """
    return check_slice_edges("z_bins", parameters["z_bins"])


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, PathLike):
        return str(value)
    # An object of the user's may change later.
    return clone(value) if isinstance(value, Strategy) else value


def _check_patches(patch_size: int, spec: NetworkSpec) -> None:
    multiple = network_without_weights(spec).multiple
    if patch_size % multiple:
        raise InvalidInputError(
            f"patch_size must be a multiple of {multiple} for this network, got {patch_size}"
        )


def _check_checkpoints(checked: Mapping[str, Any]) -> None:
    if checked["checkpoint_folder"] is None:
        return
    seed = checked["random_state"]
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise InvalidInputError(
            "checkpoint_folder needs an int as random_state, for only then a training can be "
            f"repeated; got {seed!r}"
        )
