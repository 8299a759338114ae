"""Pipelines from YAML files: a list of smlmkit's own estimators with their parameters.

A file is not trusted. It names classes that smlmkit exports and gives them plain values; tags,
anchors and aliases are refused, and no code of a file runs.
"""

import inspect
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import Pipeline, make_pipeline

import smlmkit
from smlmkit._transformers import StatelessTransformer
from smlmkit.errors import FileFormatError, SmlmkitError

if TYPE_CHECKING:
    import yaml

_MOST_BYTES = 2**16
_DEEPEST_NESTING = 8
_LEARNER = "N2NReconstructor"
_FREE_OF_TRAINING = ("device", "n_splits", "precision", "tta")

# The core schema of YAML 1.2, in which 1e-3 is a number and `no` a word; in PyYAML's, neither is.
_CONSTANTS = {
    **dict.fromkeys(["", "~", "null", "Null", "NULL"], None),
    **dict.fromkeys(["true", "True", "TRUE"], True),
    **dict.fromkeys(["false", "False", "FALSE"], False),
}
_WHOLE = re.compile(r"[-+]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def read_pipeline(path: str | os.PathLike[str]) -> Pipeline:
    """Read a pipeline from a YAML file.

    Parameters
    ----------
    path : path-like
        The file: a list of steps, each the name of one of smlmkit's transformers, or of
        `N2NReconstructor` as the last one, with a mapping of parameters. The parameter ``model`` of
        `N2NReconstructor` names a model file, relative to the YAML file; beside it stand ``tta``,
        ``n_splits``, ``device`` and ``precision`` only. Without it, the network is yet to be
        trained.

    Returns
    -------
    Pipeline
        The steps in their order, with parameters that their classes have checked.

    Raises
    ------
    FileFormatError
        If the file cannot be read, or a step or a parameter cannot be used: the message names the
        file, the line, the step and the parameter.
    ModelFileError
        If a model file is missing or damaged.

    Examples
    --------
    >>> import tempfile
    >>> text = '''
    ... - LocalizationFilter: {uncertainty_x: [0, 25]}
    ... - Renderer: {pixel_size: 10}
    ... - GaussianKDE: {sigma: 15}
    ... '''
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "smooth.yaml").write_text(text)
    ...     pipeline = read_pipeline(f"{folder}/smooth.yaml")
    >>> [type(step).__name__ for step in pipeline]
    ['LocalizationFilter', 'Renderer', 'GaussianKDE']
    >>> pipeline["gaussiankde"].sigma
    15
    """
    import yaml

    file = Path(path)
    root = _compose(file)
    if not isinstance(root, yaml.SequenceNode) or not root.value:
        raise FileFormatError(
            f"{file}: expected a list of steps such as '- Renderer: {{pixel_size: 10}}'"
        )
    steps = []
    for number, node in enumerate(root.value, start=1):
        is_last = number == len(root.value)
        place = f"{file}, {_line(node)}, step {number}"
        try:
            name, parameters = _step_of(node)
            place += f" ({name})"
            steps.append(_make_step(name, parameters, file.parent, is_last))
        except (SmlmkitError, ValueError, TypeError) as error:
            raise _with_place(error, place) from error
    return make_pipeline(*steps)


def _compose(file: Path) -> "yaml.Node | None":
    """Give the tree of the one document in a file, of plain values only."""
    import yaml

    try:
        with file.open("rb") as handle:
            text = handle.read(_MOST_BYTES + 1)
    except OSError as error:
        raise FileFormatError(f"{file}: cannot be read: {error.strerror}") from error
    if len(text) > _MOST_BYTES:
        raise FileFormatError(f"{file}: larger than {_MOST_BYTES:,} bytes: no pipeline")
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.BaseLoader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST_NESTING:
                raise ValueError(f"nested more than {_DEEPEST_NESTING} levels deep")
            if getattr(event, "anchor", None) or getattr(event, "tag", None):
                place = _line(event)
                raise ValueError(f"{place}: a tag, an anchor or an alias, expected plain values")
        root: yaml.Node | None = yaml.compose(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError) as error:
        raise FileFormatError(f"{file}: not readable as a pipeline: {error}") from error
    return root


def _line(place: "yaml.Node | yaml.Event") -> str:
    mark = place.start_mark
    return "somewhere" if mark is None else f"line {mark.line + 1}"


def _step_of(node: "yaml.Node") -> tuple[str, dict[str, Any]]:
    """Give the name and the parameters of a step: ``- Name`` or ``- Name: {parameter: value}``."""
    step = _plain(node)
    if isinstance(step, str):
        return step, {}
    if not isinstance(step, dict) or len(step) != 1:
        raise ValueError("expected one name of a class and its parameters")
    ((name, parameters),) = step.items()
    if not isinstance(parameters, dict | None):
        raise ValueError(f"the parameters of {name} must be a mapping, got {parameters!r}")
    return name, parameters or {}


def _plain(node: "yaml.Node") -> Any:
    """Turn a tree into dictionaries, lists and plain values."""
    import yaml

    if isinstance(node, yaml.ScalarNode):
        return node.value if node.style else _scalar(node.value)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item) for item in node.value]
    keys = [key.value for key, _ in node.value]
    if not all(isinstance(key, str) for key in keys):
        raise ValueError("a name must be a word, got a list or a mapping")
    if twice := {key for key in keys if keys.count(key) > 1}:
        raise ValueError(f"given twice: {', '.join(sorted(twice))}")
    return {key.value: _plain(value) for key, value in node.value}


def _scalar(text: str) -> Any:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _DECIMAL.fullmatch(text) else text


def _make_step(
    name: str, parameters: Mapping[str, Any], folder: Path, is_last: bool
) -> BaseEstimator:
    if name not in smlmkit.__all__ or not _is_step(step_class := getattr(smlmkit, name)):
        raise ValueError(
            f"smlmkit has no transformer of this name; there are {', '.join(_names_of_steps())}"
        )
    if name == _LEARNER and not is_last:
        raise ValueError("makes the image from the table: it must be the last step")
    if name == _LEARNER and "model" in parameters:
        return _load_learner(dict(parameters), folder)
    try:
        inspect.signature(step_class).bind(**parameters)
    except TypeError as error:
        known = ", ".join(step_class().get_params(deep=False))
        raise ValueError(f"{error}; the parameters are {known}") from error
    step: BaseEstimator = step_class(**parameters)
    _check(step)
    return step


def _names_of_steps() -> list[str]:
    return [name for name in smlmkit.__all__ if _is_step(getattr(smlmkit, name))]


def _is_step(value: Any) -> bool:
    is_transformer = isinstance(value, type) and issubclass(value, TransformerMixin)
    return is_transformer or getattr(value, "__name__", "") == _LEARNER


def _load_learner(parameters: dict[str, Any], folder: Path) -> BaseEstimator:
    model = parameters.pop("model")
    if not isinstance(model, str):
        raise ValueError(f"model must be the name of a file, got {model!r}")
    if own := parameters.keys() - set(_FREE_OF_TRAINING):
        raise ValueError(
            f"{', '.join(sorted(own))}: a trained model has its own; beside model there may be "
            f"{', '.join(_FREE_OF_TRAINING)}"
        )
    learner: BaseEstimator = smlmkit.load_model(folder / model).set_params(**parameters)
    _check(learner)
    return learner


def _check(step: BaseEstimator) -> None:
    """Let a step's class refuse its parameters now rather than at the first table."""
    if isinstance(step, StatelessTransformer):
        step._transformation()
    else:
        from smlmkit.reconstruct.parameters import check_parameters

        check_parameters(step.get_params(deep=False))


def _with_place(error: Exception, place: str) -> FileFormatError:
    kind = type(error) if isinstance(error, FileFormatError) else FileFormatError
    return kind(f"{place}: {error}")
