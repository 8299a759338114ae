"""What stands for an estimator or a table: equal exactly if the results are."""

import dataclasses
import hashlib
import inspect
import json
import pickle
from collections.abc import Mapping
from contextlib import suppress
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import xxhash
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from smlmkit.errors import FileFormatError, InvalidTypeError
from smlmkit.localizations import Localizations

# Parameters that say where and how to compute or what to show, not what comes out.
_OF_THE_SESSION = frozenset(
    {"checkpoint_folder", "compile", "device", "n_jobs", "n_threads", "verbose", "warm_start"}
)
# Of a fitted estimator, the seed and the precision of a training that is over are of no account.
_OF_THE_TRAINING = _OF_THE_SESSION | {"precision", "random_state"}
_RECORDS_OF_FITTING = frozenset({"histories_", "cv_results_"})

_LONGEST_LIST = 64


def describe_estimator(estimator: Any) -> dict[str, Any]:
    """Describe an estimator by all that its results depend on.

    Parameters
    ----------
    estimator : estimator or Pipeline
        Any object with `get_params`, fitted or not.

    Returns
    -------
    dict
        What JSON can hold: ``class``; ``parameters``, with estimators among them described the same
        way; and, of a fitted one, ``fitted``, a digest of its state. Of a pipeline ``class`` and
        ``steps``, without those that pass everything through and without the steps' names.

    Raises
    ------
    InvalidTypeError
        If this is no estimator, or a parameter cannot be told from others like it: a lambda, say.

    Notes
    -----
    Left out is what does not change a result: threads, device, verbosity, checkpoints, histories
    and times of the training. So is the ``random_state`` of a fitted estimator, which its file does
    not keep, either. A function is known by its name: that its code has changed is not seen.

    The description is the same in every process, after pickling and for a clone with the same
    state. Arrays are told apart by type, shape and bytes; up to 64 values are spelt out.

    Examples
    --------
    >>> from smlmkit import Renderer
    >>> description = describe_estimator(Renderer(pixel_size=20, n_threads=2))
    >>> description["class"], description["parameters"]["pixel_size"]
    ('smlmkit.render.Renderer', 20)
    >>> "n_threads" in description["parameters"]
    False
    """
    if not _is_estimator(estimator):
        raise InvalidTypeError(f"an estimator has get_params, got {estimator!r}")
    description: dict[str, Any] = {"class": _name_of(type(estimator))}
    if isinstance(estimator, Pipeline):
        steps = [step for _, step in estimator.steps if step is not None and step != "passthrough"]
        return {**description, "steps": [describe_estimator(step) for step in steps]}
    fitted = _fitted_state(estimator)
    left_out = _OF_THE_SESSION | ({"random_state"} if fitted else set())
    # A column of a table that happens to be called like one of these is no such parameter.
    left_out &= inspect.signature(type(estimator)).parameters.keys()
    parameters = estimator.get_params(deep=False)
    description["parameters"] = {
        name: _describe(parameters[name], f"{type(estimator).__name__}'s {name}")
        for name in sorted(parameters.keys() - left_out)
    }
    if fitted:
        description["fitted"] = _digest_json(_describe(fitted, f"{type(estimator).__name__}"))
    return description


def digest_file(path: str | PathLike[str]) -> str:
    """Give a text that any change of a file's content changes.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    str
        32 hexadecimal digits; the file's name and times have no part in them.

    Raises
    ------
    FileFormatError
        If there is no such file or it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, _new_digest).hexdigest()
    except OSError as error:
        raise FileFormatError(f"{fspath(path)}: cannot read: {error.strerror}") from error


def file_state(file: Path) -> list[list[Any]]:
    """Say what tells that a table was not written to since: sizes and times, no content.

    Parameters
    ----------
    file : Path
        The table; the YAML file of a Picasso file counts too.

    Returns
    -------
    list of [name, size in bytes, time of the last change in ns]
        For each of its files, as JSON can hold it.
    """
    state = []
    for path in (file, file.with_suffix(".yaml")):
        with suppress(FileNotFoundError):
            facts = path.stat()
            state.append([path.name, facts.st_size, facts.st_mtime_ns])
    return state


def file_digests(file: Path) -> list[str]:
    """Say what tells the content of a table from any other.

    Parameters
    ----------
    file : Path
        The table; the YAML file of a Picasso file counts too.

    Returns
    -------
    list of str
        A digest of each of its files.
    """
    return [digest_file(path) for path in (file, file.with_suffix(".yaml")) if path.exists()]


def digest_table(table: Localizations) -> str:
    """Give a text that any change of a table's rows, columns or field of view changes.

    Parameters
    ----------
    table : Localizations
        The table.

    Returns
    -------
    str
        32 hexadecimal digits; the order of the columns and the metadata have no part in them.
    """
    digest = _new_digest()
    digest.update(json.dumps([float(edge) for edge in table.field_of_view]).encode())
    for name in sorted(table.columns):
        digest.update(json.dumps([name, _digest_array(table[name])]).encode())
    return digest.hexdigest()


def _is_estimator(value: Any) -> bool:
    return hasattr(value, "get_params") and not isinstance(value, type)


def _fitted_state(estimator: Any) -> dict[str, Any]:
    """Give what an estimator has learned, as it would be pickled: networks as arrays."""
    state = estimator.__getstate__()
    if not isinstance(state, dict):
        return {}
    learned = {
        name: value
        for name, value in state.items()
        if name.endswith("_") and not name.endswith("time_") and name not in _RECORDS_OF_FITTING
    }
    if isinstance(parameters := learned.get("fitted_parameters_"), Mapping):
        kept = parameters.keys() - _OF_THE_TRAINING
        learned["fitted_parameters_"] = {name: parameters[name] for name in kept}
    return learned


def _describe(value: Any, name: str) -> Any:
    """Turn a value into what JSON can hold; `name` is what an error calls it."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else value  # 10 and 10.0 give the same
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "biuf" and value.size <= _LONGEST_LIST:
            return _describe(value.tolist(), name)
        return _digest_array(value)
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, Mapping):
        return {
            str(key): _describe(value[key], f"{name}[{key!r}]") for key in sorted(value, key=str)
        }
    if isinstance(value, list | tuple):
        return [_describe(item, f"{name}[{position}]") for position, item in enumerate(value)]
    if _is_estimator(value):
        return describe_estimator(value)
    if isinstance(value, Localizations):
        return {"class": _name_of(type(value)), "digest": digest_table(value)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {"class": _name_of(type(value)), "fields": _describe(fields, name)}
    return {"class": _name_of(type(value)), "digest": _hash_object(value, name)}


def _hash_object(value: Any, name: str) -> str:
    try:
        digest: str = joblib.hash(value)
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        raise InvalidTypeError(
            f"{name}, {value!r}, cannot be told from others like it, for it cannot be pickled: "
            f"{error}"
        ) from error
    return digest


def _digest_array(values: NDArray[Any]) -> str:
    if values.dtype.hasobject:
        digest: str = joblib.hash(values)
        return digest
    header = f"{values.dtype.str} {values.shape} "
    return header + _new_digest(np.ascontiguousarray(values).reshape(-1).view(np.uint8)).hexdigest()


def _digest_json(value: Any) -> str:
    return _new_digest(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _new_digest(data: Any = b"") -> xxhash.xxh3_128:
    return xxhash.xxh3_128(data)


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
