"""Training of a network on acquisitions, as a job that a crash does not set back far."""

import hashlib
import json
import threading
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sklearn.base import clone
from sklearn.pipeline import Pipeline

from smlmkit import __version__
from smlmkit._atomic import all_or_nothing
from smlmkit.batch._collecting import collect_warnings
from smlmkit.batch.identity import describe_estimator
from smlmkit.batch.ledger import checksum, verify
from smlmkit.batch.points import TiledPoints
from smlmkit.errors import InvalidInputError, InvalidTypeError

if TYPE_CHECKING:
    from smlmkit.reconstruct import N2NReconstructor


class Training(NamedTuple):
    """What to train on, and where the model goes.

    Parameters
    ----------
    tables : tuple of str
        Digests of the tables.
    files : tuple of Path
        The sorted localizations of each.
    model : Path
        The model file to write.
    checkpoints : Path
        Folder of the state of trainings that are not done.
    stop : Event, optional
        Set it, from another thread of the process that trains, to end the training early.
    """

    tables: tuple[str, ...]
    files: tuple[Path, ...]
    model: Path
    checkpoints: Path
    stop: threading.Event | None = None


def as_trainable(estimator: Any, seed: int) -> Any:
    """Give an estimator that can be trained by `train_model`.

    Parameters
    ----------
    estimator : N2NReconstructor or Pipeline
        What is to be trained; it stays as it is.
    seed : int
        Source of randomness where the estimator has none of its own.

    Returns
    -------
    N2NReconstructor or Pipeline
        A clone that shows no bars, and whose training can be repeated.

    Raises
    ------
    InvalidTypeError
        If there is no network to train.
    InvalidInputError
        If its source of randomness is no whole number: its training could not be repeated.
    """
    from smlmkit.reconstruct import N2NReconstructor

    trainable = clone(estimator)
    learner = _learner_of(trainable)
    if not isinstance(learner, N2NReconstructor):
        raise InvalidTypeError(
            "only an N2NReconstructor, or a Pipeline that ends with one, can be trained, got "
            f"{estimator!r}"
        )
    state = seed if learner.random_state is None else learner.random_state
    if not isinstance(state, Integral):
        raise InvalidInputError(
            f"random_state must be a whole number or None for training here, got {state!r}"
        )
    learner.set_params(verbose=False, random_state=int(state))
    return trainable


def without_weights(estimator: Any) -> Any:
    """Give an estimator that says what it needs as it will when it is trained.

    Parameters
    ----------
    estimator : N2NReconstructor or Pipeline
        What `as_trainable` gave; it stays as it is.

    Returns
    -------
    N2NReconstructor or Pipeline
        A clone whose networks hold no weights: it can be asked, and cannot predict.

    Raises
    ------
    InvalidInputError, InvalidTypeError
        If a parameter is out of range.
    """
    from smlmkit.nn.networks import network_without_weights
    from smlmkit.reconstruct.parameters import check_parameters, network_spec

    hollow = clone(estimator)
    learner = _learner_of(hollow)
    learner.fitted_parameters_ = check_parameters(learner.get_params(deep=False))
    network: Any = network_without_weights(network_spec(learner.fitted_parameters_))
    learner.networks_ = [network] * learner.n_estimators
    return hollow


def train_model(estimator: Any, training: Training) -> list[str]:
    """Train a network and write its model file, unless that is there already.

    Parameters
    ----------
    estimator : N2NReconstructor or Pipeline
        What `as_trainable` gave; it stays as it is.
    training : Training
        The tables and the file. Beside it, a ``.json`` proves of what training the model is.

    Returns
    -------
    list of str
        What was warned of.

    Raises
    ------
    InvalidInputError, TrainingDivergedError
        As `N2NReconstructor.fit` does.
    StoppedError
        If the training was told to stop; it goes on from its checkpoint.
    OutputError
        If the model cannot be written.
    """
    from smlmkit.nn.training import stoppable

    before = warnings_of_training(estimator, training.tables, training.model)
    if before is not None:
        return before
    trained = clone(estimator)
    learner = _learner_of(trained)
    learner.set_params(checkpoint_folder=training.checkpoints)
    with collect_warnings() as warned, stoppable(training.stop):
        trained.fit([TiledPoints.open(path).load() for path in training.files])
    outputs = [training.model, _proof_of(training.model)]
    with all_or_nothing(outputs, overwrite=True) as (model, proof):
        learner.save(model, overwrite=True)
        [fingerprint] = checksum(model.parent, [model]).values()
        facts = {
            "training": _digest(estimator, training.tables),
            "files": {training.model.name: fingerprint},
            "warnings": warned,
        }
        proof.write_text(json.dumps(facts, indent=1), "utf-8")
    return warned


def warnings_of_training(estimator: Any, tables: Sequence[str], model: Path) -> list[str] | None:
    """Give what a training warned of if a model file is what came of it.

    Parameters
    ----------
    estimator : N2NReconstructor or Pipeline
        What `as_trainable` gave.
    tables : sequence of str
        Digests of the tables of the training.
    model : Path
        The model file.

    Returns
    -------
    list of str or None
        None if there is no such file, or one of another training, or a damaged one.
    """
    try:
        proof = json.loads(_proof_of(model).read_text("utf-8"))
        is_of_training = proof["training"] == _digest(estimator, tables)
        warned: list[str] = proof["warnings"]
        return warned if is_of_training and verify(model.parent, proof["files"]) else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def with_model(estimator: Any, model: Path) -> Any:
    """Give an estimator with the networks of a model file.

    Parameters
    ----------
    estimator : N2NReconstructor or Pipeline
        What was trained; it stays as it is.
    model : Path
        What `train_model` wrote.

    Returns
    -------
    N2NReconstructor or Pipeline
        The fitted estimator.

    Raises
    ------
    ModelFileError
        If the file is damaged.
    """
    from smlmkit.reconstruct import load_model

    fitted = load_model(model).set_params(**_learner_of(estimator).get_params(deep=False))
    if not isinstance(estimator, Pipeline):
        return fitted
    *steps, (name, _) = clone(estimator).steps
    return Pipeline([*steps, (name, fitted)])


def _learner_of(estimator: Any) -> "N2NReconstructor":
    learner: N2NReconstructor = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    return learner


def _proof_of(model: Path) -> Path:
    return model.with_suffix(".json")


def _digest(estimator: Any, tables: Sequence[str]) -> str:
    """Stand for all that a training's outcome depends on."""
    facts = [__version__, describe_estimator(estimator), list(tables)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
