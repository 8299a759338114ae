"""Every public docstring follows numpydoc."""

import importlib
import inspect
import pkgutil
import types

import pytest
from numpydoc.validate import validate

import smlmkit

# Extended summaries, notes and "See Also" stand where they help; properties have no Returns.
OPTIONAL = {"ES01", "EX01", "SA01", "SA04", "YD01", "GL08"}
FUNCTION_KINDS = (types.FunctionType, property, classmethod)


def public_modules():
    for module in pkgutil.walk_packages(smlmkit.__path__, "smlmkit."):
        if not any(part.startswith("_") for part in module.name.split(".")):
            yield importlib.import_module(module.name)


def public_objects():
    for module in public_modules():
        if module.__name__.startswith("smlmkit.cli"):
            continue  # its docstrings are the help texts
        for name, member in vars(module).items():
            if name.startswith("_") or getattr(member, "__module__", "") != module.__name__:
                continue
            if inspect.isfunction(member):
                yield f"{module.__name__}.{name}"
            elif inspect.isclass(member):
                yield f"{module.__name__}.{name}"
                yield from public_methods(f"{module.__name__}.{name}", member)


def public_methods(path, owner):
    for name, member in vars(owner).items():
        if not name.startswith("_") and isinstance(member, FUNCTION_KINDS):
            yield f"{path}.{name}"


PATHS = sorted(public_objects())


def test_there_is_something_to_check():
    assert len(PATHS) > 90
    assert "smlmkit.localizations.Localizations.split" in PATHS


@pytest.mark.parametrize("path", PATHS)
def test_docstring(path):
    report = validate(path)
    assert report["docstring"], "no docstring"
    problems = [(code, text) for code, text in report["errors"] if code not in OPTIONAL]
    assert not problems
