"""How reconstructions were made: the run's command, and its estimator step by step."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sklearn.base import BaseEstimator

import smlmkit
from smlmkit.batch.identity import describe_estimator

_DEEPEST = 6
_NONE = "none"


class Line(NamedTuple):
    """A line of an outline.

    Parameters
    ----------
    depth : int
        How deep it lies.
    name, value : str
        What it says.
    """

    depth: int
    name: str
    value: str


@dataclass(frozen=True)
class Step:
    """A step of an estimator.

    Parameters
    ----------
    name, path : str
        Its class, alone and with the module.
    chosen : list of Line
        What it was given.
    defaults : list of Line
        The parameters that are as the class has them.
    """

    name: str
    path: str
    chosen: list[Line]
    defaults: list[Line]


def read_steps(estimator: Any) -> list[Step]:
    """Give the steps of an estimator, those of pipelines one by one.

    Parameters
    ----------
    estimator : Any
        What a run says about its estimator.

    Returns
    -------
    list of Step
        The steps; none if it says nothing.
    """
    if not isinstance(estimator, dict):
        return []
    if isinstance(steps := estimator.get("steps"), list):
        return [step for each in steps for step in read_steps(each)]
    path = str(estimator.get("class", ""))
    parameters = estimator.get("parameters")
    parameters = parameters if isinstance(parameters, dict) else {}
    own = _default_parameters(path)
    is_default = {name: name in own and own[name] == parameters[name] for name in parameters}
    others = {name: estimator[name] for name in estimator.keys() - {"class", "parameters"}}
    chosen = {name: parameters[name] for name in parameters if not is_default[name]} | others
    defaults = {name: parameters[name] for name in parameters if is_default[name]}
    return [Step(path.rpartition(".")[2], path, _lines(chosen), _lines(defaults))]


def outline(values: Any, name: str, depth: int = 0) -> Iterator[Line]:
    """Give nested values line by line.

    Parameters
    ----------
    values : Any
        What JSON can hold.
    name : str
        What they are.
    depth : int, default=0
        How deep they lie.

    Yields
    ------
    Line
        The values in words.

    Examples
    --------
    >>> for line in outline({"tile": None, "formats": ["png", "tif"]}, "parameters"):
    ...     print(*line)
    0 parameters
    1 tile none
    1 formats png, tif
    """
    if isinstance(values, list) and any(isinstance(value, dict | list) for value in values):
        values = {str(number): value for number, value in enumerate(values, start=1)}
    if isinstance(values, dict) and values and depth < _DEEPEST:
        yield Line(depth, name, str(values.get("class", "")))
        for inner, value in values.items():
            if inner != "class":
                yield from outline(value, str(inner), depth + 1)
    elif isinstance(values, list):
        yield Line(depth, name, ", ".join(map(str, values)) or _NONE)
    else:
        yield Line(depth, name, _NONE if values in (None, "", {}) else str(values))


def write_command(command: str) -> str:
    """Write a command of smlmkit as people type it, any other one as it is.

    Parameters
    ----------
    command : str
        The command.

    Returns
    -------
    str
        The same without the place of the program.

    Examples
    --------
    >>> write_command("/opt/venv/bin/smlmkit reconstruct 'my data' results")
    "smlmkit reconstruct 'my data' results"
    >>> write_command("python3 run.py")
    'python3 run.py'
    """
    try:
        program, *arguments = shlex.split(command)
    except ValueError:
        return command
    # A module that is run as a program gives the path of its file.
    is_ours = Path(program).stem == "smlmkit" or program.endswith("smlmkit/__main__.py")
    return shlex.join(["smlmkit", *arguments]) if is_ours else command


def _lines(parameters: Mapping[str, Any]) -> list[Line]:
    return [line for name, value in parameters.items() for line in outline(value, name, 1)]


def _default_parameters(path: str) -> dict[str, Any]:
    """Give the parameters that one of our own classes has by itself; no other code is imported."""
    name = path.rpartition(".")[2]
    if name not in smlmkit.__all__:
        return {}
    step = getattr(smlmkit, name)
    is_estimator = isinstance(step, type) and issubclass(step, BaseEstimator)
    if not is_estimator or f"{step.__module__}.{step.__qualname__}" != path:
        return {}
    parameters: dict[str, Any] = describe_estimator(step()).get("parameters", {})
    return parameters
